// Delays are doubles, and a definition may ask for 100^999: infinities and NaNs end here, not in a timestamp.
#include "core/backoff.hpp"

#include <algorithm>
#include <cmath>

namespace tasker::core {
namespace {

// Settings come checked from a definition; what could still arrive broken counts as zero.
double zero_unless_positive(double value) noexcept { return value > 0 ? value : 0; }

}  // namespace

double jitter_factor(const Backoff &backoff, double unit_random) noexcept {
  const double jitter = std::min(zero_unless_positive(backoff.jitter), 1.0);
  const double unit = std::min(zero_unless_positive(unit_random), 1.0);
  return 1 + jitter * (2 * unit - 1);
}

double backoff_seconds(const Backoff &backoff, int attempts, double unit_random) noexcept {
  const double base = zero_unless_positive(backoff.base_seconds);
  const double cap = zero_unless_positive(backoff.max_seconds);
  // Zero must be dealt with before the power: 0 · ∞ is not a number.
  if (base == 0 || cap == 0) return 0;
  const double growth = std::pow(zero_unless_positive(backoff.multiplier), std::max(attempts, 1) - 1);
  const double delay = std::min(base * growth, cap);
  const double spread = delay * jitter_factor(backoff, unit_random);
  // Only an endless maximum leads here.
  return std::isfinite(spread) ? spread : kRequestedDelayCapSeconds;
}

double retry_delay_seconds(const Backoff &backoff, int attempts, std::optional<double> requested_seconds, double unit_random) noexcept {
  if (requested_seconds && !std::isnan(*requested_seconds)) return std::clamp(*requested_seconds, 0.0, kRequestedDelayCapSeconds);
  return backoff_seconds(backoff, attempts, unit_random);
}

}  // namespace tasker::core
