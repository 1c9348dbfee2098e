// How attempts and tasks ended, by definition, step, hour and number of the attempt: what retries are predicted from, and
// what analytics are made of.
//
// Whoever has committed an outcome counts it in shared memory; the dispatcher writes the counts to tasker.step_history and
// tasker.task_outcomes, and adds them to the totals (store/metric_totals.hpp), every few seconds. A crash loses those seconds, never more, and no step pays a write for it;
// rebuild_analytics (insight/rebuild.hpp) counts past hours again from the transitions.
#pragma once

#include <map>

#include "core/kin.hpp"
#include "core/retry.hpp"
#include "core/state.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

inline constexpr int kHistoryDays = 7;
inline constexpr std::int64_t kHistoryHour = 3600 * USECS_PER_SEC;

// Called after the commit that made it true. Milliseconds of a failure are not kept.
void count_outcome(int named_task_id, const core::Learner &step, const StepKey &key, int attempt, bool success, double milliseconds);

// A task came to this state, or (kPending) tasks were created: counted if and when this transaction, and the subtransaction
// it was called in, commits. started_at nothing: it ended before any step of it began.
void note_task_end(int named_task_id, std::int64_t task_id, core::TaskState state, std::optional<TimestampTz> started_at, TimestampTz ended_at);
void note_tasks_created(int named_task_id, std::int64_t tasks);

// One more run that succeeded, or one task that had been started.
void add_run(HistoryEntry &entry, std::int64_t task_id, double milliseconds) noexcept;

// The dispatcher's: writes what was counted for this database. Precondition: inside pg::OwnerScope and pg::Spi.
void write_history();
// Adds counts to the rows. The same precondition.
void add_to_history(const std::map<HistoryKey, HistoryEntry> &counts);
// Forgets hours of more than ninety days ago. The same precondition.
void trim_history();

// What is known about the next attempt of a step, after `attempts` of them. Kept for a few seconds per process: in an
// outage thousands ask the same. Precondition as above.
struct StepHistory {
  core::SuccessHistory same_attempt;  // attempts of this number, over kHistoryDays
  core::SuccessHistory this_hour;     // of these, those at this hour of the day
  core::SuccessHistory recent;        // first attempts of late, from memory
};
StepHistory step_history(int named_task_id, int step_no, const core::Learner &step, int attempts);

}  // namespace tasker::store
