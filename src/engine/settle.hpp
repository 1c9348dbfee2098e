// Decides whether a task is over by looking at all of its steps: for tasks with failed, cancelled, skipped or
// manually resolved steps, and for those whose deadline has passed. (The clean way to completion is the count of
// sinks in Batch::record.)
#pragma once

#include <cstdint>

namespace tasker::engine {

enum class Settled { kGone, kStillRunning, kComplete, kError };
// Takes the task's row lock; moves the task when it is over. kGone: unknown or finished before.
// Past the deadline every step that runs or could have run fails with category timeout (running ones are interrupted at
// commit), what is beneath them stays pending, and the task ends in error.
// Precondition: inside pg::OwnerScope and pg::Spi.
Settled settle_task(std::int64_t task_id);

}  // namespace tasker::engine
