// Decides whether a task is over by looking at all of its steps: for tasks with failed, cancelled, skipped or
// manually resolved steps. (The clean way to completion is the count of sinks in Batch::record.)
#pragma once

#include <cstdint>

namespace tasker::engine {

enum class Settled { kGone, kStillRunning, kComplete, kError };
// Takes the task's row lock; moves the task when it is over. kGone: unknown or finished before.
// Precondition: inside pg::OwnerScope and pg::Spi.
Settled settle_task(std::int64_t task_id);

}  // namespace tasker::engine
