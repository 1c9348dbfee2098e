// What executors run at this moment, read from shared memory: their rows are written at their commit only.
#pragma once

#include <vector>

#include "store/shared_state.hpp"

namespace tasker::api {

struct RunningStep {
  store::StepKey key;
  int moves = 0;  // of the row the run began with: another number in the table means that the table is newer
  int pid = 0;
  Oid owner = InvalidOid;
  TimestampTz started_at = 0;
};
// Of this database; none without the preload.
std::vector<RunningStep> running_steps();

}  // namespace tasker::api
