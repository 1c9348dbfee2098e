// A circuit breaker: may the steps that depend on a system run now?
//
//   closed ── N counted failures in a row ──▶ open ── its time is over ──▶ half_open ── the probe succeeds ──▶ closed
//                                              ▲                             │
//                                              └────── the probe fails ──────┘   (twice as long each time)
//
// While closed everything runs; while open nothing starts; while half_open one step, the probe, does. Which
// failures count is decided in core/failure; others are neutral: the breaker learns nothing from them. The
// caller keeps who the probe is and says of each outcome whether it is the probe's; what else ends while the
// breaker is not closed began before it opened, and changes nothing.
//
// A plain value: it is kept in shared memory. Times are microseconds of any one epoch.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace tasker::core {

enum class BreakerState : std::uint8_t { kClosed, kOpen, kHalfOpen };
const char *to_string(BreakerState state) noexcept;  // "closed", "open", "half_open"
std::optional<BreakerState> parse_breaker_state(std::string_view text) noexcept;

// Why a breaker moved.
enum class BreakerCause : std::uint8_t { kFailures, kProbeFailed, kTimeOver, kProbeSucceeded, kSwitchedOff, kTripped, kReset };
const char *to_string(BreakerCause cause) noexcept;  // "failures", "probe_failed" …

inline constexpr int kMaxBreakerThreshold = 1000;
inline constexpr std::int64_t kUntilReset = std::numeric_limits<std::int64_t>::max();  // open_until: it does not end by itself

struct BreakerSettings {
  int failure_threshold = 5;  // 0: never opens by itself
  // A row of failures counts from its first: one that comes later than this begins a new row.
  std::int64_t window = 60'000'000;
  std::int64_t open_time = 30'000'000;       // the first time; then doubled with each failed probe
  std::int64_t max_open_time = 600'000'000;  // up to this, but never less than open_time
};

struct Breaker {
  BreakerState state = BreakerState::kClosed;
  bool by_hand = false;   // of an open one: trip() opened it
  bool probing = false;   // of a half-open one: the probe is under way
  int failures = 0;       // in a row: those that count towards opening, or that opened it
  int opens = 0;          // how often it opened since it was last closed
  std::int64_t row_started_at = 0;  // the first of the failures
  std::int64_t last_failure_at = 0;
  std::int64_t opened_at = 0;       // when it left closed
  std::int64_t open_until = 0;      // of an open one

  // Closed and without a failure to remember: nothing is lost by forgetting it.
  bool quiet() const noexcept { return state == BreakerState::kClosed && failures == 0; }

  // What happened, and what time it is. Each tells why the state moved, or nothing when it did not.
  std::optional<BreakerCause> on_success(bool of_probe) noexcept;
  std::optional<BreakerCause> on_failure(const BreakerSettings &settings, std::int64_t now, bool of_probe) noexcept;
  std::optional<BreakerCause> poll(const BreakerSettings &settings, std::int64_t now) noexcept;

  // One probe at a time: begin_probe() says whether this may be the one. end_probe() when it ended without a word
  // on the system (a neutral failure, a cancel, a process that died): the next step may probe.
  bool begin_probe() noexcept;
  void end_probe() noexcept { probing = false; }

  // By hand, from any state. False: it was there, and stays as it is.
  bool trip(std::int64_t now, std::int64_t until) noexcept;
  bool reset() noexcept;

 private:
  void open(std::int64_t now, std::int64_t until) noexcept;
  void close() noexcept;
};

}  // namespace tasker::core
