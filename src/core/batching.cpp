#include "core/batching.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tasker::core {

namespace {

struct Relief {
  int from;  // larger sizes
  double factor;
};

Relief relief_of(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::kLow:
      return {kBatchLimit, 1};
    case Pressure::kModerate:
      return {6, 0.8};
    case Pressure::kHigh:
      return {4, 0.6};
    case Pressure::kCritical:
      break;
  }
  return {2, 0.3};
}

std::string ms(double value) {
  char text[48];
  snprintf(text, sizeof text, "%.3g ms", value);
  return text;
}

}  // namespace

double batch_pressure_factor(Pressure pressure, int size) noexcept {
  const Relief relief = relief_of(pressure);
  return size <= relief.from ? 1 : relief.factor;
}

int under_pressure(int size, Pressure pressure) noexcept {
  const Relief relief = relief_of(pressure);
  if (size <= relief.from) return std::max(size, 1);
  return std::max(relief.from, static_cast<int>(size * relief.factor));
}

BatchPlan learn_batch(const BatchSamples &samples, double max_duration_ms) noexcept {
  BatchPlan plan;
  if (!(max_duration_ms > 0)) {
    plan.reason = BatchReason::kSwitchedOff;
  } else if (samples.samples < kBatchSamples) {
    plan.reason = BatchReason::kTooFewSamples;
  } else if (samples.troubled) {
    plan.reason = BatchReason::kTroubled;
  } else if (!(samples.p95_ms <= max_duration_ms) || std::isnan(samples.mean_ms)) {
    plan.reason = BatchReason::kTooSlow;
  } else {
    plan.reason = BatchReason::kLearnt;
    const double fit = max_duration_ms / std::max(samples.mean_ms, 0.001);
    plan.by_time = static_cast<int>(std::clamp(fit, 1.0, static_cast<double>(kBatchLimit)));
    plan.failure_factor = 1 - std::clamp(static_cast<double>(samples.failures) / samples.samples, 0.0, 1.0);
    plan.size = std::max(1, static_cast<int>(plan.by_time * plan.failure_factor));
  }
  return plan;
}

BatchPlan plan_batch(const BatchSamples &samples, const BatchRules &rules) noexcept {
  BatchPlan plan = learn_batch(samples, rules.max_duration_ms);
  if (plan.reason != BatchReason::kLearnt) return plan;
  if (!rules.adaptive) {
    plan = {};
    plan.size = plan.by_time = kPlainBatch;
    plan.reason = BatchReason::kPlain;
    return plan;
  }
  plan.pressure_factor = batch_pressure_factor(rules.pressure, plan.size);
  plan.size = under_pressure(plan.size, rules.pressure);
  return plan;
}

std::string explain_batch(const BatchPlan &plan, const BatchSamples &samples, const BatchRules &rules) {
  switch (plan.reason) {
    case BatchReason::kSwitchedOff:
      return "alone: tasker.max_batch_duration is 0";
    case BatchReason::kTooFewSamples:
      return "alone: " + std::to_string(samples.samples) + " of " + std::to_string(kBatchSamples) + " measured runs";
    case BatchReason::kTroubled:
      return "alone for its next runs: of late it failed at a commit, met locked rows or used temporary objects";
    case BatchReason::kTooSlow:
      return "alone: one run in twenty takes " + ms(samples.p95_ms) + " or more, beyond tasker.max_batch_duration";
    case BatchReason::kPlain:
      return "at most " + std::to_string(kPlainBatch) + ": tasker.adaptive_batching is off";
    case BatchReason::kLearnt:
      break;
  }
  std::string out = plan.by_time == kBatchLimit ? std::to_string(kBatchLimit) + " savepoints are the most" : std::to_string(plan.by_time) + " of " + ms(samples.mean_ms) + " fit " + ms(rules.max_duration_ms);
  if (samples.failures > 0) out += "; fewer, because " + std::to_string(samples.failures) + " of " + std::to_string(samples.samples) + " runs failed";
  if (plan.pressure_factor < 1) out += std::string("; fewer, because the pressure on connections is ") + to_string(rules.pressure);
  return out;
}

}  // namespace tasker::core
