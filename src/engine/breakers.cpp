#include "engine/breakers.hpp"

#include "pg/security.hpp"
#include "store/breaker_rows.hpp"
#include "store/hints.hpp"

namespace tasker::engine {

namespace {

inline constexpr std::int64_t kShortest = 1000;                        // a millisecond
inline constexpr std::int64_t kDay = 86'400ll * USECS_PER_SEC;
inline constexpr std::int64_t kLongestTrip = 3650 * kDay;

// The caller's right, the identity, the row under lock; and at the commit the dispatcher takes the row over.
class BreakerCall {
 public:
  BreakerCall(const std::string &system, const char *action) : caller_(GetUserId()) {
    if (!has_level(caller_, "operator"))
      throw tasker::Error(sqlstate::kInsufficientPrivilege, std::string("permission denied to ") + action + " a circuit breaker", {},
                          "An operator or admin may: see tasker.grant_access.");
    std::optional<store::BreakerRow> found = store::lock_breaker(system);
    if (!found)
      throw tasker::Error(sqlstate::kNoData, "dependent system \"" + system + "\" does not exist", {},
                          "A definition names it in the key dependent_system of a step; tasker.circuit_breakers lists those there are.");
    row_ = *found;
  }
  store::BreakerRow &row() { return row_; }
  static void announce() {
    store::Hint hint{};
    hint.kind = store::HintKind::kBreakers;
    hint.named_task_id = 1;
    store::add_hint(hint);
  }

 private:
  Oid caller_;
  pg::Spi spi_;
  pg::OwnerScope as_owner_{store::cached_extension_owner()};
  store::BreakerRow row_;
};

[[noreturn]] void refuse(const std::string &what) { throw tasker::Error(sqlstate::kInvalidParameter, what); }

void check_time(const char *name, std::int64_t microseconds, std::int64_t longest) {
  if (microseconds < kShortest || microseconds > longest)
    refuse(std::string(name) + " must be from 1 millisecond to " + std::to_string(longest / kDay) + (longest == kDay ? " day" : " days"));
}

// -1 for what is not given.
store::BreakerOverrides checked(const BreakerChoice &choice) {
  const int threshold = choice.failure_threshold.value_or(0);
  if (threshold < 0 || threshold > core::kMaxBreakerThreshold)
    refuse("failure_threshold must be from 0 to " + std::to_string(core::kMaxBreakerThreshold));
  if (choice.failure_window) check_time("failure_window", *choice.failure_window, kDay);
  if (choice.open_time) check_time("open_time", *choice.open_time, kDay);
  if (choice.max_open_time) check_time("max_open_time", *choice.max_open_time, kDay);
  if (choice.open_time && choice.max_open_time && *choice.max_open_time < *choice.open_time) refuse("max_open_time must not be less than open_time");
  return {choice.failure_threshold.value_or(-1), choice.failure_window.value_or(-1), choice.open_time.value_or(-1), choice.max_open_time.value_or(-1)};
}

}  // namespace

bool trip_breaker(const std::string &system, const Reason &reason, std::optional<std::int64_t> open_for) {
  if (open_for) check_time("open_for", *open_for, kLongestTrip);
  BreakerCall call(system, "trip");
  store::BreakerRow &row = call.row();
  const core::BreakerState from = row.breaker.state;
  const TimestampTz now = GetCurrentTimestamp();
  if (!row.breaker.trip(now, open_for ? now + *open_for : core::kUntilReset)) return false;
  store::write_breaker(row, from, core::BreakerCause::kTripped, reason);
  BreakerCall::announce();
  return true;
}

bool reset_breaker(const std::string &system, const Reason &reason) {
  BreakerCall call(system, "reset");
  store::BreakerRow &row = call.row();
  const core::BreakerState from = row.breaker.state;
  if (!row.breaker.reset()) return false;
  store::write_breaker(row, from, core::BreakerCause::kReset, reason);
  BreakerCall::announce();
  return true;
}

bool configure_breaker(const std::string &system, const BreakerChoice &choice) {
  const store::BreakerOverrides overrides = checked(choice);
  BreakerCall call(system, "configure");
  if (!store::write_overrides(call.row(), overrides)) return false;
  BreakerCall::announce();
  return true;
}

}  // namespace tasker::engine
