// How attempts ended, by step, hour and number of the attempt: what retries are predicted from.
//
// Whoever has committed an outcome counts it in shared memory; the dispatcher writes the counts to
// tasker.step_history every few seconds. A crash loses those seconds, never more, and no step pays a write for it.
#pragma once

#include "core/retry.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

inline constexpr int kHistoryDays = 7;

// Called after the commit that made it true. Milliseconds of a failure are not kept.
void count_outcome(int named_task_id, int step_no, int attempt, bool success, double milliseconds);

// The dispatcher's: writes what was counted for this database. Precondition: inside pg::OwnerScope and pg::Spi.
void write_history();
// Forgets hours of more than ninety days ago. The same precondition.
void trim_history();

// What is known about the next attempt of a step, after `attempts` of them. Kept for a few seconds per process: in an
// outage thousands ask the same. Precondition as above.
struct StepHistory {
  core::SuccessHistory same_attempt;  // attempts of this number, over kHistoryDays
  core::SuccessHistory this_hour;     // of these, those at this hour of the day
  core::SuccessHistory recent;        // first attempts of late, from memory
};
StepHistory step_history(int named_task_id, int step_no, int attempts);

}  // namespace tasker::store
