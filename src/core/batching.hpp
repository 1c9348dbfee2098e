// How many steps of one kind may share a transaction, learnt from how they went.
//
// A batch saves commits and makes steps wait for each other. What is saved shrinks with each further step, what is
// waited for grows by the mean of their durations: so a batch is as large as the time for it holds, and no larger.
// Steps that fail leave a savepoint rolled back and a batch that took longer for less; a server short of connections
// is better off with short transactions. Both make batches smaller, never larger.
#pragma once

#include <string>

#include "core/retry.hpp"

namespace tasker::core {

inline constexpr int kBatchSamples = 10;   // fewer say nothing: such steps run alone
inline constexpr int kBatchWindow = 100;   // runs that are remembered
inline constexpr int kBatchLimit = 60;     // savepoints of one transaction that PostgreSQL keeps in memory, and a few to spare
inline constexpr int kPlainBatch = 32;     // of every step that may share, where nothing is learnt

// The last runs of a step, as far as they are remembered.
struct BatchSamples {
  int samples = 0, failures = 0;
  double mean_ms = 0, p95_ms = 0;
  bool troubled = false;  // a commit failed of late, rows were contended, temporary objects used
};

struct BatchRules {
  double max_duration_ms = 10;  // 0: every step alone
  bool adaptive = true;
  Pressure pressure = Pressure::kModerate;
};

enum class BatchReason : std::uint8_t { kSwitchedOff, kTooFewSamples, kTroubled, kTooSlow, kPlain, kLearnt };

struct BatchPlan {
  int size = 1;              // steps of one batch
  int by_time = 1;           // what the duration alone would allow
  double failure_factor = 1, pressure_factor = 1;
  BatchReason reason = BatchReason::kTooFewSamples;
};

// The factor for batches of this size: 1 as long as they are small anyhow.
double batch_pressure_factor(Pressure pressure, int size) noexcept;

// What the samples say, before pressure: it is kept with them and asked for often.
BatchPlan learn_batch(const BatchSamples &samples, double max_duration_ms) noexcept;
// A size bent by pressure, at least 1; never below the size that the pressure leaves alone.
int under_pressure(int size, Pressure pressure) noexcept;

BatchPlan plan_batch(const BatchSamples &samples, const BatchRules &rules) noexcept;
// One sentence.
std::string explain_batch(const BatchPlan &plan, const BatchSamples &samples, const BatchRules &rules);

}  // namespace tasker::core
