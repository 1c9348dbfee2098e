// Watches utility commands: stops our workers for commands that need the database to themselves (after checking the
// caller's right to run them), and notices SET CONSTRAINTS and COMMIT PREPARED.
#pragma once

namespace tasker::worker {

void install_utility_hook();  // once per process, from _PG_init

}  // namespace tasker::worker
