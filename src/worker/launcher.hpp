// The launcher: one per server, connected to no database. Visits each database once after a start, keeps a
// dispatcher running where there is live work, and starts it again, with growing delays, when it ends by fault.
#pragma once

namespace tasker::worker {

void register_launcher();  // from _PG_init, while preloading

}  // namespace tasker::worker
