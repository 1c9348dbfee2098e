// How long a failed step waits before its next attempt.
//
// Formula (SPEC of the definition key `backoff`): before attempt n+1 the delay is base · multiplier^(n-1),
// capped at max, then spread by ± jitter (a fraction). A delay that was asked for (retry_after) is taken as
// it is, capped at 300 s and never negative.
#pragma once

#include <optional>

namespace tasker::core {

struct Backoff {
  double base_seconds = 1;
  double multiplier = 2;
  double max_seconds = 300;
  double jitter = 0.1;
};

inline constexpr double kRequestedDelayCapSeconds = 300;

// attempts: how many attempts have been made (≥ 1). unit_random: in [0, 1), from the caller. Result in seconds, ≥ 0.
double backoff_seconds(const Backoff &backoff, int attempts, double unit_random) noexcept;
// What jitter makes of a delay: in [1 - jitter, 1 + jitter].
double jitter_factor(const Backoff &backoff, double unit_random) noexcept;
// The delay to use: the requested one (capped) when there is one, else the backoff.
double retry_delay_seconds(const Backoff &backoff, int attempts, std::optional<double> requested_seconds, double unit_random) noexcept;

}  // namespace tasker::core
