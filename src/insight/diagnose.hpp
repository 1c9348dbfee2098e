// What core/diagnosis asks about a task, read from rows, shared memory and what the server says of itself.
#pragma once

#include "core/diagnosis.hpp"
#include "pg/bridge.hpp"

namespace tasker::insight {

struct Subject {
  std::int64_t task_id = 0;
  int named_task_id = 0;
  int only_step = 0;  // 0: all steps
};

// Completes a case whose steps have facts, readiness and the processes that run them. Reads by key: the task's own rows,
// the last moves of steps that failed, were moved by hand or are ready, and the history of the failed ones.
// Precondition: inside pg::OwnerScope and pg::Spi.
void observe(core::TaskCase &task, const Subject &subject);

// Which ready steps an executor has in its queue.
void look_at_queues(core::TaskCase &task);
// The workers, and how full the server is; connections are counted when the task is live.
core::ServerCase look_at_server(std::int64_t task_id, bool live);

}  // namespace tasker::insight
