#include "core/retry.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tasker::core {
namespace {

constexpr double kShortestSeconds = 1, kLongestSeconds = kRequestedDelayCapSeconds;

// A timeout needs time to pass and a lost connection a restart; what is wrong with data or code, time does not mend.
double error_factor(std::string_view category) noexcept {
  if (category == "timeout") return 1.5;
  if (category == "connection") return 2.0;
  if (category == "server_error") return 1.3;
  if (category == "validation") return 0.5;
  if (category == "code") return 0.1;
  return 1;
}

double pressure_factor(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::kLow: return 0.8;
    case Pressure::kModerate: return 1;
    case Pressure::kHigh: return 1.5;
    case Pressure::kCritical: return 2.5;
  }
  return 1;
}

}  // namespace

Pressure pressure_of(double utilisation) noexcept {
  if (std::isnan(utilisation)) return Pressure::kModerate;
  if (utilisation <= 0.5) return Pressure::kLow;
  if (utilisation <= 0.7) return Pressure::kModerate;
  return utilisation <= 0.85 ? Pressure::kHigh : Pressure::kCritical;
}

const char *to_string(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::kLow: return "low";
    case Pressure::kModerate: return "moderate";
    case Pressure::kHigh: return "high";
    case Pressure::kCritical: return "critical";
  }
  return "unknown";
}

double SuccessHistory::rate() const noexcept {
  if (attempts <= 0) return 0;
  return std::clamp(static_cast<double>(successes) / static_cast<double>(attempts), 0.0, 1.0);
}

Recommendation recommend(const SuccessHistory &history) noexcept {
  const char *confidence = history.attempts < 10 ? "low" : history.attempts < 50 ? "medium" : "high";
  if (history.attempts <= 0) return {confidence, "insufficient_data", 1};
  const double rate = history.rate();
  if (rate >= 0.8) return {confidence, "retry_sooner", 0.8};
  if (rate >= 0.5) return {confidence, "standard_backoff", 1};
  if (rate >= 0.2) return {confidence, "longer_backoff", 1.3};
  return {confidence, "much_longer_backoff", 1.8};
}

void RecentOutcomes::record(std::int64_t at, bool success) noexcept {
  if (at - newest_at > kSilenceMicroseconds) count = 0;
  count = static_cast<std::uint8_t>(std::min(count + 1, kKept));
  successes = static_cast<std::uint8_t>(successes << 1 | (success ? 1 : 0));
  newest_at = at;
}

SuccessHistory RecentOutcomes::known(std::int64_t now) const noexcept {
  if (now - newest_at > kSilenceMicroseconds) return {};
  const int used = std::min<int>(count, kKept);  // whatever shared memory holds
  return {used, std::popcount(successes & ((1U << used) - 1))};
}

bool works_for_others(const SuccessHistory &recent) noexcept { return recent.attempts >= 4 && recent.rate() >= 0.5; }

RetryPlan plan_retry(const RetryInputs &inputs) noexcept {
  RetryPlan plan;
  Backoff unspread = inputs.backoff;
  unspread.jitter = 0;
  plan.base_seconds = backoff_seconds(unspread, inputs.attempts, 0);
  if (inputs.requested_seconds && !std::isnan(*inputs.requested_seconds)) {
    plan.requested = true;
    plan.delay_seconds = retry_delay_seconds(inputs.backoff, inputs.attempts, inputs.requested_seconds, inputs.unit_random);
    return plan;
  }
  plan.jitter_factor = jitter_factor(inputs.backoff, inputs.unit_random);
  if (!inputs.predictive) {
    plan.delay_seconds = backoff_seconds(inputs.backoff, inputs.attempts, inputs.unit_random);
    return plan;
  }
  plan.predicted = true;
  plan.error_factor = error_factor(inputs.category);
  plan.pressure_factor = pressure_factor(inputs.pressure);
  plan.history_factor = recommend(inputs.history).factor;
  if (inputs.hour.attempts >= kMinHourAttempts) plan.hour_factor = recommend(inputs.hour).factor;
  plan.recent_spoke = works_for_others(inputs.recent);
  if (plan.recent_spoke) {
    plan.history_factor = std::min(plan.history_factor, recommend(inputs.recent).factor);
    plan.hour_factor = std::min(plan.hour_factor, 1.0);
  }
  // Jitter first: it may be zero, and nothing times infinity is not a number.
  const double bent = plan.base_seconds * plan.jitter_factor * plan.error_factor * plan.pressure_factor * plan.history_factor * plan.hour_factor;
  plan.delay_seconds = std::clamp(bent, std::min(kShortestSeconds, plan.base_seconds), std::max(kLongestSeconds, plan.base_seconds));
  return plan;
}

}  // namespace tasker::core
