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

}  // namespace tasker::store
