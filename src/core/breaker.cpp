#include "core/breaker.hpp"

#include <algorithm>
#include <iterator>

namespace tasker::core {
namespace {

constexpr const char *kStateNames[] = {"closed", "open", "half_open"};
constexpr const char *kCauseNames[] = {"failures", "probe_failed", "time_over", "probe_succeeded", "switched_off", "trip_breaker", "reset_breaker"};
static_assert(std::size(kStateNames) == static_cast<std::size_t>(BreakerState::kHalfOpen) + 1);
static_assert(std::size(kCauseNames) == static_cast<std::size_t>(BreakerCause::kReset) + 1);

// now + delay without an overflow: as late as times go is for good.
std::int64_t later(std::int64_t now, std::int64_t delay) noexcept { return now > kUntilReset - delay ? kUntilReset : now + delay; }

// For the n-th opening in a row, n ≥ 1.
std::int64_t open_time(const BreakerSettings &settings, int opens) noexcept {
  const std::int64_t most = std::max(settings.open_time, settings.max_open_time);
  std::int64_t time = settings.open_time;
  for (int n = 1; n < opens && time < most; n++) time = time > most / 2 ? most : time * 2;
  return time;
}

}  // namespace

const char *to_string(BreakerState state) noexcept { return kStateNames[static_cast<std::size_t>(state)]; }
const char *to_string(BreakerCause cause) noexcept { return kCauseNames[static_cast<std::size_t>(cause)]; }

std::optional<BreakerState> parse_breaker_state(std::string_view text) noexcept {
  for (std::size_t i = 0; i < std::size(kStateNames); ++i)
    if (text == kStateNames[i]) return static_cast<BreakerState>(i);
  return std::nullopt;
}

void Breaker::open(std::int64_t now, std::int64_t until) noexcept {
  if (state == BreakerState::kClosed) opened_at = now;
  state = BreakerState::kOpen;
  by_hand = probing = false;
  opens++;
  open_until = until;
}

void Breaker::close() noexcept {
  const std::int64_t last = last_failure_at;
  *this = Breaker();
  last_failure_at = last;
}

std::optional<BreakerCause> Breaker::on_success(bool of_probe) noexcept {
  if (state == BreakerState::kClosed) failures = 0;
  if (state != BreakerState::kHalfOpen || !of_probe) return std::nullopt;
  close();
  return BreakerCause::kProbeSucceeded;
}

std::optional<BreakerCause> Breaker::on_failure(const BreakerSettings &settings, std::int64_t now, bool of_probe) noexcept {
  last_failure_at = now;
  if (state == BreakerState::kHalfOpen && of_probe) {
    open(now, later(now, open_time(settings, opens + 1)));
    return BreakerCause::kProbeFailed;
  }
  if (state != BreakerState::kClosed || settings.failure_threshold <= 0) return std::nullopt;
  // A clock that was set back begins a new row too.
  if (failures == 0 || now < row_started_at || now - row_started_at > settings.window) {
    failures = 0;
    row_started_at = now;
  }
  if (++failures < settings.failure_threshold) return std::nullopt;
  open(now, later(now, open_time(settings, 1)));
  return BreakerCause::kFailures;
}

std::optional<BreakerCause> Breaker::poll(const BreakerSettings &settings, std::int64_t now) noexcept {
  if (state == BreakerState::kClosed) return std::nullopt;
  // What was opened by hand stays open; what failures opened has no meaning any more.
  if (settings.failure_threshold <= 0 && !(state == BreakerState::kOpen && by_hand && open_until > now)) {
    close();
    return BreakerCause::kSwitchedOff;
  }
  if (state != BreakerState::kOpen || open_until > now) return std::nullopt;
  state = BreakerState::kHalfOpen;
  by_hand = probing = false;
  open_until = 0;
  return BreakerCause::kTimeOver;
}

bool Breaker::begin_probe() noexcept {
  if (state != BreakerState::kHalfOpen || probing) return false;
  probing = true;
  return true;
}

bool Breaker::trip(std::int64_t now, std::int64_t until) noexcept {
  if (state == BreakerState::kOpen && by_hand && open_until == until) return false;
  // A hand that changes the time of an open breaker does not open it once more.
  if (state == BreakerState::kOpen) opens--;
  open(now, until);
  by_hand = true;
  return true;
}

bool Breaker::reset() noexcept {
  if (state == BreakerState::kClosed) return false;
  close();
  return true;
}

}  // namespace tasker::core
