// What becomes due by itself: the start of a delayed task, its deadline, a step's next attempt, and what a step that is
// under way outside of executors waits for (kWait), must end by (kTimeout), or is leased until (kLease). Rows are inserted
// and deleted, never updated; the dispatcher reads them by watermark. Precondition of all: inside pg::OwnerScope
// and pg::Spi.
#pragma once

#include <utility>
#include <vector>

#include "store/shared_state.hpp"

namespace tasker::store {

// step_no in hints about the deadline of a task; in the table it is a timer of step 0.
inline constexpr int kDeadlineStep = -2;

// Step 0: run_at of the task; else the backoff of the step.
void add_timers(const std::vector<std::pair<StepKey, TimestampTz>> &timers);
enum class TimerKind : std::uint8_t { kWait, kTimeout, kLease };
struct StepTimer {
  StepKey key;
  TimerKind kind;
  TimestampTz due;
};
// Of outside steps under way; one that is there is replaced. The dispatcher is told at commit.
void set_step_timers(const std::vector<StepTimer> &timers);
void drop_step_timers(const std::vector<StepKey> &keys, TimerKind kind);
// Which of them are due: of these steps, at this time.
std::vector<StepTimer> due_step_timers(const std::vector<StepKey> &keys, TimestampTz now);
// Whatever is due for these steps, the deadline excepted.
void drop_timers(const std::vector<StepKey> &keys);

// Of those tasks that have a deadline; the dispatcher is told at commit.
void add_deadlines(const std::vector<std::int64_t> &task_ids);
void drop_deadlines(const std::vector<std::int64_t> &task_ids);

// Where a reader of timers stands.
struct TimerMark {
  TimestampTz due = DT_NOBEGIN;
  StepKey key{0, 0, -1};
};
// The next timers due before `until`, in the order of time, as kTimer hints; moves the mark.
std::vector<Hint> timer_page(TimerMark &mark, TimestampTz until, int limit);

}  // namespace tasker::store
