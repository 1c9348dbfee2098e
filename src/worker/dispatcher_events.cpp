// Delivery of events: what waits is handed over, one delivery of a subscription at a time. Where nobody subscribes nothing is
// read but at the start and at each sweep.
#include <algorithm>

#include "engine/subscriptions.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/definitions.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

inline constexpr int kSubscriptionsPerPass = 50;
// Many steps that end at once are one look, and one delivery.
inline constexpr TimestampTz kCoalesce = 20 * 1000;
inline constexpr TimestampTz kTryAgain = USECS_PER_SEC;

}  // namespace

void Dispatcher::tend_events() {
  const TimestampTz now = GetCurrentTimestamp();
  if (now < events_due()) return;
  const bool notify = events_recorded_;
  events_recorded_ = events_again_ = false;
  events_resume_at_ = now + kCoalesce;
  try {
    pg::Transaction transaction;
    engine::DeliveryRound round;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      round = engine::deliver_events(notify, kSubscriptionsPerPass);
    }
    TASKER_FAULT("events.commit");
    transaction.commit();
    events_again_ = round.more || round.again;
    if (round.again) events_resume_at_ = now + kTryAgain;
  } catch (const std::exception &) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    events_recorded_ = events_recorded_ || notify;
    events_again_ = true;
    events_resume_at_ = now + kTryAgain;
    pg::report(pg::Level::kWarning, "tasker: events could not be delivered: " + why.message, why.detail, why.hint);
  }
}

TimestampTz Dispatcher::events_due() const { return events_recorded_ || events_again_ ? events_resume_at_ : PG_INT64_MAX; }

}  // namespace tasker::worker
