// The dispatcher's own timer of schedules: fires what is due, whoever else ticks. Between two fire times nothing is read.
#include <algorithm>

#include "engine/schedules.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/definitions.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

inline constexpr int kSchedulesPerPass = 100;
inline constexpr TimestampTz kTryAgain = 5 * USECS_PER_SEC;
// The wall clock may be set while we sleep.
inline constexpr TimestampTz kLongestSleep = 60 * USECS_PER_SEC;

}  // namespace

void Dispatcher::tend_schedules() {
  const TimestampTz now = GetCurrentTimestamp();
  if (!schedules_changed_ && now < schedules_due_) return;
  schedules_changed_ = false;
  // First: of an end that this tick does not see yet, we are told.
  slot_.awaits_ends = true;
  pg_memory_barrier();
  try {
    pg::Transaction transaction;
    engine::Tick tick;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      tick = engine::tick_schedules(now, "dispatcher", kSchedulesPerPass);
    }
    TASKER_FAULT("schedule.commit");
    transaction.commit();
    slot_.awaits_ends = tick.waiting;
    schedules_active_ = tick.active;
    schedules_due_ = tick.next;
  } catch (const pg::Error &error) {
    if (error.sqlstate() == "57P01") throw;
    schedules_due_ = now + kTryAgain;
    pg::report(pg::Level::kWarning, "tasker: schedules could not fire: " + error.message());
  } catch (const tasker::Error &error) {
    schedules_due_ = now + kTryAgain;
    if (error.sqlstate() == sqlstate::kObjectNotReady) {  // held: rows of another database have come here since the start
      pg::Transaction transaction;
      refresh_home();
      transaction.commit();
      if (home_.held) return;
    }
    pg::report(pg::Level::kWarning, "tasker: schedules could not fire: " + error.message(), error.detail(), error.hint());
  }
}

TimestampTz Dispatcher::schedules_due(TimestampTz now) const {
  if (schedules_changed_) return now;
  return schedules_active_ ? std::min(schedules_due_, now + kLongestSleep) : schedules_due_;
}

}  // namespace tasker::worker
