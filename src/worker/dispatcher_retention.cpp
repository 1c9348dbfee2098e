// Removal of finished tasks: in small transactions of its own, with pauses that are longer the more there is to run. What
// becomes due when is kept in memory: between two such moments nothing is read.
#include <algorithm>

#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/retention.hpp"
#include "store/settings.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

inline constexpr std::int64_t kTasksPerPass = 500;
// How long one transaction may work, and how many times as long the dispatcher then does other things: while steps run or
// wait, and when none does.
inline constexpr std::int64_t kBusyBudget = 3'000, kBusyPause = 5;
inline constexpr std::int64_t kQuietBudget = 20'000, kQuietPause = 1;
inline constexpr TimestampTz kLocked = 5 * USECS_PER_SEC, kTryAgain = 60 * USECS_PER_SEC;
inline constexpr TimestampTz kTrimEvery = 3600 * USECS_PER_SEC;
// A dispatcher without live work stays for what becomes due within this time.
inline constexpr TimestampTz kWorthStaying = 60 * USECS_PER_SEC;

// What is removed once more after a crash of the server is the same.
void commit_later() {
  pg::call([] { (void)set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false); });
}

}  // namespace

void Dispatcher::tend_retention() {
  const TimestampTz begun = GetCurrentTimestamp();
  if (begun < retention_resume_at_) return;
  const bool changed = retention_changed_ || retention_setting_ != store::settings.retention_s;
  if (!changed && !retention_.proceed(begun)) return;
  const bool busy = !queued_.empty() || !in_flight_.empty();
  try {
    pg::Transaction transaction;
    commit_later();
    core::WalkStep step;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      pg::Spi spi;
      if (changed) {
        const core::RetentionRules rules = store::load_retention_rules();
        retention_setting_ = store::settings.retention_s;
        retention_changed_ = false;
        if (rules != retention_rules_) retention_.restart(rules, begun);
        retention_rules_ = rules;
      }
      if (!retention_.proceed(begun)) return;
      step = store::walk_tasks(retention_.position(), retention_rules_, begun, kTasksPerPass, busy ? kBusyBudget : kQuietBudget);
      if (begun - trimmed_at_ >= kTrimEvery && !store::trim_records(retention_rules_, begun)) trimmed_at_ = begun;
    }
    TASKER_FAULT("retention.commit");
    transaction.commit();
    const TimestampTz now = GetCurrentTimestamp();
    retention_.record(step, now, now - begun);
    retention_resume_at_ = now + (now - begun) * (busy ? kBusyPause : kQuietPause);
    if (!retention_.under_way()) tell_retention(now);
  } catch (const pg::Error &error) {
    if (error.sqlstate() == "57P01") throw;
    // Somebody removes by hand, or records another task's end there: he is first.
    const bool locked = error.sqlstate() == "55P03" || error.sqlstate() == "40P01";
    retention_resume_at_ = begun + (locked ? kLocked : kTryAgain);
    if (!locked) pg::report(pg::Level::kWarning, "tasker: finished tasks could not be removed: " + error.message());
  }
}

// The end of a walk, for the view.
void Dispatcher::tell_retention(TimestampTz now) {
  pg::Transaction transaction;
  commit_later();
  {
    pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
    pg::Spi spi;
    store::write_retention_marks(retention_.marks(), now);
  }
  transaction.commit();
}

TimestampTz Dispatcher::retention_due() const {
  if (retention_changed_ || retention_setting_ != store::settings.retention_s) return retention_resume_at_;
  return std::max(retention_resume_at_, retention_.next_at());
}

bool Dispatcher::retention_stays() const {
  return !home_.held && retention_.next_removal_at() < GetCurrentTimestamp() + kWorthStaying;
}

}  // namespace tasker::worker
