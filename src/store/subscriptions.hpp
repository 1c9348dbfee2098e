// Rows of event subscriptions, and of what waits for them. Precondition of all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"

namespace tasker::store {

struct SubscriptionRow {
  std::int64_t subscription_id = 0;
  std::string name, kind, version;
  Oid owner = InvalidOid, created_by = InvalidOid;
  int revision = 0;
  bool paused = false, dead = false;
  std::optional<std::int64_t> delivery_task_id;
};

struct SubscriptionValues {
  std::string kind, target;
  Datum events = 0;  // text[]
  std::optional<std::string> ns, name, path;
  int max_attempts = 0;
};

// Locked against everybody who changes it or delivers for it. skip_locked: nothing when somebody does so at this moment.
std::optional<SubscriptionRow> lock_subscription(const std::string &name);
std::optional<SubscriptionRow> lock_subscription(std::int64_t subscription_id, bool skip_locked);
// 0: the name is taken.
std::int64_t insert_subscription(const std::string &name, const SubscriptionValues &values, Oid owner, Oid created_by);
// false: nothing of it is new.
bool update_subscription(std::int64_t subscription_id, const SubscriptionValues &values);
// The definition that delivers from now on; the one before takes no new tasks.
void set_delivery_definition(const SubscriptionRow &row, int named_task_id, int revision, const std::string &version);
// With what waits for it.
void delete_subscription(const SubscriptionRow &row);
void set_subscription_paused(std::int64_t subscription_id, bool paused, Oid actor, const std::optional<std::string> &reason);

// Those that have something to deliver, or whose delivery is under way.
std::vector<std::int64_t> busy_subscriptions();
// Channels of those that are told of what waits.
int count_trace_subscriptions();
std::vector<std::string> channels_to_notify();

struct Delivery {
  Datum context = 0;  // jsonb: {"subscription": …, "events": […]}
  Datum event_ids = 0, times = 0;  // arrays
  int count = 0;
};
// The first that wait, at most so many and so many bytes, but one at least.
Delivery next_delivery(const SubscriptionRow &row, int max_events, int max_bytes);
void hand_over(std::int64_t subscription_id, const Delivery &delivery, std::int64_t task_id);

enum class DeliveryState { kLive, kDone, kFailed, kGone };
DeliveryState delivery_state(std::int64_t task_id, std::string *error);
// Returns how many events are gone from the outbox.
std::int64_t settle_delivered(const SubscriptionRow &row);
// The events of its delivery wait again.
void take_back(std::int64_t subscription_id);
void set_dead(std::int64_t subscription_id, const std::string &why);
void set_alive(std::int64_t subscription_id);

// Removes the first that wait, and gives them: rows of (event_id, event, task_id, step_name, occurred_at, payload).
pg::Result take_events(const SubscriptionRow &row, int max_events);

}  // namespace tasker::store
