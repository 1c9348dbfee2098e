// Measured durations of named steps, in shared memory: who may share a transaction with others.
#pragma once

#include "store/shared_state.hpp"

namespace tasker::store {

inline constexpr int kMinimumRuns = 10;
inline constexpr int kSoloAfterTrouble = 100;

// Fast (p95 within the limit over the last runs, at least kMinimumRuns of them) and without recent trouble.
bool is_batchable(int named_task_id, int step_no, double limit_ms);
void record_duration(int named_task_id, int step_no, double milliseconds);
// A commit failure, contention, temp objects: alone for its next runs.
void record_trouble(int named_task_id, int step_no);

// The last measured runs in milliseconds, those below the limit when one is given; all 0 when none is known.
struct StepDurations {
  int runs = 0;
  double p50_ms = 0, p95_ms = 0, max_ms = 0;
};
StepDurations step_durations(int named_task_id, int step_no, double below_ms = 0);

// The newest outcomes of first attempts of a step.
void note_first_attempt(int named_task_id, int step_no, bool success);
core::SuccessHistory recent_first_attempts(int named_task_id, int step_no);

}  // namespace tasker::store
