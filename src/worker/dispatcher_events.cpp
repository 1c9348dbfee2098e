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
// While steps wait for this process, one part in so many of its time goes to traces, which come by thousands where tasks do. They are
// not for anybody's next action; other events are.
inline constexpr int kTimesLonger = 10;

}  // namespace

void Dispatcher::tend_events() {
  const TimestampTz now = GetCurrentTimestamp();
  if (now < events_due()) return;
  const bool notify = events_recorded_, traces = now >= traces_at_;
  events_recorded_ = events_again_ = traces_wait_ = false;
  events_resume_at_ = now + kCoalesce;
  try {
    pg::Transaction transaction;
    engine::DeliveryRound round;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      round = engine::deliver_events(notify, traces, kSubscriptionsPerPass);
    }
    TASKER_FAULT("events.commit");
    transaction.commit();
    events_again_ = round.more || round.again;
    traces_wait_ = round.traces_wait;
    if (round.traces_began && !queued_.empty()) {
      const TimestampTz end = GetCurrentTimestamp();
      traces_at_ = end + (end - now) * (kTimesLonger - 1);
    }
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

TimestampTz Dispatcher::events_due() const {
  const TimestampTz events = events_recorded_ || events_again_ ? events_resume_at_ : PG_INT64_MAX;
  return traces_wait_ ? std::min(events, std::max(traces_at_, events_resume_at_)) : events;
}

}  // namespace tasker::worker
