// Predictive retry: the backoff of the definition, bent by what is known about this failure.
//
// delay = backoff × error × pressure × history × hour × jitter, clamped to 1 s … 300 s. The clamp gives way to
// the definition: one whose own backoff is below a second keeps it as the lower bound (tests, fast queues), one
// that asks for more than 300 s as the upper. A delay that was asked for (retry_after) is taken as it is, capped
// at 300 s; switched off, the plain backoff of core/backoff holds.
//
// History is looked up for the attempt to come, not over all attempts: most steps succeed at once, and a rate over
// everything would call for haste in every outage. While first attempts of other tasks succeed, the failure is this
// task's own and a past outage says nothing: then they speak, and of the past only what calls for haste is heard.
// bench/retry measures these choices.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/backoff.hpp"

namespace tasker::core {

// How many of the server's connections are used: low ≤ 0.5, moderate ≤ 0.7, high ≤ 0.85, critical above.
enum class Pressure : std::uint8_t { kLow, kModerate, kHigh, kCritical };

// Not a number counts as moderate, which bends nothing.
Pressure pressure_of(double utilisation) noexcept;
const char *to_string(Pressure pressure) noexcept;

// Finished attempts, and how many of them succeeded.
struct SuccessHistory {
  std::int64_t attempts = 0, successes = 0;
  double rate() const noexcept;  // in [0, 1]; 0 without attempts
};

struct Recommendation {
  const char *confidence;      // low below 10 attempts, medium below 50, high
  const char *recommendation;  // insufficient_data, retry_sooner, standard_backoff, longer_backoff, much_longer_backoff
  double factor;               // 1, 0.8, 1, 1.3, 1.8
};

Recommendation recommend(const SuccessHistory &history) noexcept;

// Below so many attempts in one hour of the day, the hour bends nothing.
inline constexpr std::int64_t kMinHourAttempts = 50;
// History is kept by attempt number; from this one on they are counted together.
inline constexpr int kMaxHistoryAttempt = 10;

// The newest outcomes of first attempts of a step, in a row without two minutes of silence: retries say more about
// the tasks that fail than about the system. Plain data and empty when all zero, so that it may lie in shared memory.
struct RecentOutcomes {
  static constexpr int kKept = 8;
  static constexpr std::int64_t kSilenceMicroseconds = 120'000'000;

  std::int64_t newest_at = 0;  // microseconds since any epoch
  std::uint8_t count = 0;      // ≤ kKept
  std::uint8_t successes = 0;  // one bit each, the newest lowest

  void record(std::int64_t at, bool success) noexcept;
  SuccessHistory known(std::int64_t now) const noexcept;
};

// At least four recent first attempts, half of which succeeded: the system the step depends on works.
bool works_for_others(const SuccessHistory &recent) noexcept;

struct RetryInputs {
  Backoff backoff;
  int attempts = 1;                         // made so far, the failed one included
  std::optional<double> requested_seconds;  // by raise_retryable or Retry-After
  std::string_view category;                // of FailureClass
  Pressure pressure = Pressure::kModerate;
  SuccessHistory history;                   // of the step over 7 days, at attempt number min(attempts + 1, kMaxHistoryAttempt)
  SuccessHistory hour;                      // the same, at this hour of the day only
  SuccessHistory recent;                    // RecentOutcomes of the step; a first attempt is recorded before its retry is planned
  bool predictive = true;
  double unit_random = 0.5;                 // in [0, 1)
};

struct RetryPlan {
  double base_seconds = 0;  // the backoff before any factor
  double error_factor = 1, pressure_factor = 1, history_factor = 1, hour_factor = 1, jitter_factor = 1;
  double delay_seconds = 0;
  bool requested = false;   // the delay was asked for: no factor spoke
  bool predicted = false;   // the factors spoke; but for the clamp their product is delay / base
  bool recent_spoke = false;  // it works for others: no factor of the past above 1 was heard
};

RetryPlan plan_retry(const RetryInputs &inputs) noexcept;

}  // namespace tasker::core
