// run_task: the steps of one task run in the session of its owner, without background workers.
#pragma once

#include <cstdint>

namespace tasker::engine {

// Runs until nothing is ready. may_commit: each step commits by itself (CALL outside of a transaction block);
// otherwise everything happens in the caller's transaction. Raises 42501 unless session_user = current_user = owner,
// 02000 for an unknown task, 55000 when the database is held or inside a step.
void run_in_session(std::int64_t task_id, bool skip_waits, bool may_commit);

}  // namespace tasker::engine
