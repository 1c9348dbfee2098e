// Events on their way to subscribers: rows of the outbox, written with the moves they tell of.
//
// The one mover calls this for every move. Where nobody subscribes it is one load from shared memory: the list of
// subscriptions is read again only after the commit of a change to them has raised the generation that store/pauses.hpp
// speaks of. A row is written in the transaction of the move, so there is one for each move and subscription that it
// concerns, or, after a rollback, none; its key says so too.
#pragma once

#include <vector>

#include "store/moves.hpp"

namespace tasker::store {

// Definitions of this namespace deliver events. What happens to their tasks is told to nobody, or it would never end.
inline constexpr const char *kDeliveryNamespace = "event_subscriptions";
// named_task_id of a hint kSchedules that tells of events, and not of schedules.
inline constexpr int kEventsHint = 1;

// What decides who is told of a task. definition: named_task_id; 0: to be looked up.
struct Audience {
  int definition = 0;
  Oid owner = InvalidOid, created_by = InvalidOid;
  friend auto operator<=>(const Audience &, const Audience &) = default;
};

struct Occurrence {
  StepKey key;                  // step_no 0: of the task
  int sort_key = 0;
  const char *event = nullptr;  // of core/events.hpp
  TimestampTz at = 0;
  Audience audience = {};
};

// All: inside pg::OwnerScope and pg::Spi. Does anybody subscribe to anything? Asked before the others.
bool events_wanted();
void record_events(const std::vector<Occurrence> &happened);
void record_step_events(const std::vector<StepMove> &moves);
// The dispatcher looks at deliveries again when this transaction commits, if the definition makes any.
void note_delivery_end(int named_task_id);

// At the commit of this transaction every process reads the subscriptions again, and the dispatcher looks at what waits.
void note_subscriptions_changed();

}  // namespace tasker::store
