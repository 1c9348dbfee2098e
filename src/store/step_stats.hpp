// Measured runs of named steps, in shared memory: who may share a transaction with others, and with how many.
//
// Learnt from every committed run, kept over a restart in tasker.batch_learnings. A decision is a look into memory:
// the size of a batch is worked out with every kLearnEvery-th run. A step with fewer runs of its own than kMinimumRuns is
// judged by those of its kin, if it has any (core/kin.hpp).
#pragma once

#include <vector>

#include "core/kin.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

inline constexpr int kMinimumRuns = core::kBatchSamples;
inline constexpr int kSoloAfterTrouble = 100;
inline constexpr int kLearnEvery = 10;

// Fast (p95 within the limit over the last runs, at least kMinimumRuns of them) and without recent trouble.
bool is_batchable(int named_task_id, const core::Learner &step, double limit_ms);
// Steps of one batch that begins with such a step: learnt and bent by pressure, or the plain rule while
// tasker.adaptive_batching is off or nothing is known.
int batch_size(int named_task_id, const core::Learner &step);
void record_duration(int named_task_id, const core::Learner &step, double milliseconds, bool failed);
// A commit failure, contention, temp objects: alone for its next runs.
void record_trouble(int named_task_id, const core::Learner &step);

// The last measured runs in milliseconds, of the step or else of its kin, those below the limit when one is given; all 0 when none is known.
struct StepDurations {
  int runs = 0;
  double p50_ms = 0, p95_ms = 0, max_ms = 0;
};
StepDurations step_durations(int named_task_id, const core::Learner &step, double below_ms = 0);

// The newest outcomes of first attempts of a step.
void note_first_attempt(int named_task_id, const core::Learner &step, bool success);
core::SuccessHistory recent_first_attempts(int named_task_id, const core::Learner &step);

// What is remembered of one step, oldest run first.
struct Learning {
  int named_task_id = 0;
  int step_no = 0;  // as in core::Learner: negative of the kin of that step
  std::vector<double> durations_ms;
  std::vector<bool> failed;
  int solo_runs = 0;

  core::BatchSamples samples() const;
  double p50_ms() const;
};

// Of this database, ordered by step: those in memory, and those in the table that memory doesn't know.
// Precondition of all three: inside pg::OwnerScope and pg::Spi.
std::vector<Learning> learnings();
// The dispatcher's: writes what was learnt since it wrote last; forgets steps that are no more.
void write_learnings();
void trim_learnings();
// The dispatcher's, at its start: what memory doesn't know, after a restart of the server.
void restore_learnings();

}  // namespace tasker::store
