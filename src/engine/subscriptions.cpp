#include "engine/subscriptions.hpp"

#include <algorithm>

#include "core/definition.hpp"
#include "core/events.hpp"
#include "engine/create.hpp"
#include "engine/define.hpp"
#include "engine/schedule_round.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "store/events.hpp"
#include "store/facts.hpp"
#include "store/settings.hpp"
#include "store/subscriptions.hpp"
#include "store/trace_rooms.hpp"
#include "store/traces.hpp"

extern "C" {
#include "commands/async.h"
}

namespace tasker::engine {

namespace {

inline constexpr int kEventsPerDelivery = 100;
inline constexpr int kBytesPerDelivery = 256 * 1024;
inline constexpr int kMaxTaken = 10000;
inline constexpr std::size_t kMaxPatterns = 64;

constinit pg::Query may_subscribe{
    "SELECT pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE') FROM pg_catalog.pg_proc p"
    " WHERE p.pronamespace = 'tasker'::regnamespace AND p.proname = 'subscribe'",
    1, {OIDOID}};

[[noreturn]] void unknown_subscription(const std::string &name) {
  throw tasker::Error(sqlstate::kNoData, "subscription \"" + name + "\" does not exist", {}, "The view tasker.event_subscribers shows yours.");
}

store::SubscriptionRow lock_own(Oid caller, const std::string &name) {
  const auto row = store::lock_subscription(name);
  if (!row || !may_control(caller, row->owner, row->created_by)) unknown_subscription(name);
  return *row;
}

void check_request(const NewSubscription &request) {
  const auto refuse = [](const std::string &message, const char *hint = "") { throw tasker::Error(sqlstate::kInvalidParameter, message, {}, hint); };
  if (const std::string problem = core::name_problem(request.name, core::kMaxTaskName); !problem.empty()) refuse("subscription_name " + problem);
  if (request.events.empty()) refuse("a subscription needs events", "'*' stands for all; tasker.event_catalog shows those there are.");
  if (request.events.size() > kMaxPatterns) refuse("a subscription has at most " + std::to_string(kMaxPatterns) + " patterns");
  for (const std::string &pattern : request.events)
    if (const std::string problem = core::event_pattern_problem(pattern); !problem.empty())
      refuse("event \"" + pattern + "\" " + problem, "Give the name of an event of tasker.event_catalog, or its beginning and a *.");
  if (request.kind != "notify" && request.kind != "function" && request.kind != "webhook" && request.kind != "traces")
    refuse("kind \"" + request.kind + "\" is not known", "It is notify, function, webhook or traces.");
  if (request.kind == "traces" && !std::all_of(request.events.begin(), request.events.end(), core::ends_a_task))
    refuse("traces are sent when a task has ended", "Subscribe to task.completed, task.failed, task.cancelled and task.resolved_manually, or to some of them.");
  if (request.kind == "notify" && (request.target.empty() || request.target.size() >= NAMEDATALEN))
    refuse("a channel has from 1 to " + std::to_string(NAMEDATALEN - 1) + " bytes");
  if (request.path && request.kind != "webhook" && request.kind != "traces") refuse("path is for subscriptions of kind webhook and traces");
  if (request.task_name && !request.ns) refuse("a name needs a namespace", "Pass namespace => 'default' for definitions that name none.");
}

core::json delivery_definition(const NewSubscription &request, const std::string &version) {
  core::json handler = {{"type", "sql"}, {"function", request.target}};
  if (request.kind == "webhook" || request.kind == "traces")
    handler = {{"type", "http"}, {"server", request.target}, {"method", "POST"}, {"path", request.path.value_or(request.kind == "traces" ? "/v1/traces" : "/")},
               {"body", "${/context}"}, {"idempotency", "key"}};
  return {{"namespace", store::kDeliveryNamespace}, {"name", request.name}, {"version", version}, {"description", "Delivers events to a subscriber"},
          {"steps", core::json::array({{{"name", "deliver"}, {"handler", handler}, {"max_attempts", request.max_attempts}}})}};
}

// As the caller. Says now what would keep the first delivery from its way.
int define_delivery(const NewSubscription &request, const std::string &version) {
  const core::json document = delivery_definition(request, version);
  const int id = define_task(document, pg::jsonb_datum(document.dump()), false);
  NewTasks first;
  first.ns = store::kDeliveryNamespace;
  first.name = request.name;
  first.version = version;
  first.contexts = {pg::jsonb_datum("{}")};
  first.run_at = GetCurrentTimestamp();
  check_tasks(first);
  return id;
}

// The owner's rights may have gone since he subscribed.
void check_rights(const store::SubscriptionRow &row) {
  if (role_is_gone(row.owner))
    throw tasker::Error("42704", "role with OID " + std::to_string(row.owner) + ", the owner of the subscription, does not exist", {},
                        "Unsubscribe it, and subscribe as another role.");
  if (!pg::execute(may_subscribe, pg::Params().oid(row.owner)).rows.boolean(0, 1))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "role \"" + pg::role_name(row.owner) + "\" is not permitted to subscribe any more", {},
                        "tasker.grant_access() gives the level author.");
}

// false: nothing waits.
bool begin_delivery(const store::SubscriptionRow &row) {
  check_rights(row);
  const int limit = std::min(kBytesPerDelivery, store::settings.max_context_size_kb * 512);
  const store::Delivery delivery = row.kind == "traces" ? store::next_traces(row, store::load_home(false).nonce, limit) : store::next_delivery(row, kEventsPerDelivery, limit);
  if (delivery.count == 0) return false;
  NewTasks request;
  request.ns = store::kDeliveryNamespace;
  request.name = row.name;
  request.version = row.version;
  request.creator = {row.owner, row.created_by};
  request.contexts = {delivery.context};
  request.run_at = GetCurrentTimestamp();
  request.initiator = "events";
  const std::int64_t task_id = create_tasks(request).front();
  TASKER_FAULT("events.created");
  store::hand_over(row.subscription_id, delivery, task_id);
  return true;
}

// false: its delivery is still under way, or has failed. Adds to `gone` what has left the outbox.
bool settle(store::SubscriptionRow &row, std::int64_t &gone) {
  if (!row.delivery_task_id) return !row.dead;
  std::string error;
  switch (store::delivery_state(*row.delivery_task_id, &error)) {
    case store::DeliveryState::kLive:
      return false;
    case store::DeliveryState::kDone:
      if (row.kind == "traces") store::note_refused_spans(row.subscription_id, *row.delivery_task_id);
      gone += store::settle_delivered(row);
      row.dead = false;
      return true;
    case store::DeliveryState::kGone:
      store::take_back(row.subscription_id);
      return !row.dead;
    case store::DeliveryState::kFailed:
      if (row.kind == "traces") {
        gone += store::drop_delivery(row.subscription_id, error);
        return true;
      }
      if (!row.dead) store::set_dead(row.subscription_id, error);
      return false;
  }
  return false;
}

void tend(std::int64_t id, bool traces, DeliveryRound &round) {
  std::optional<store::SubscriptionRow> row;
  std::int64_t gone = 0, dropped = 0;
  const auto failure = pg::in_savepoint([&] {
    row = store::lock_subscription(id, true);
    if (!row) {
      round.again = true;
      return;
    }
    const bool is_traces = row->kind == "traces";
    if (is_traces) dropped = store::tend_trace_room(id);
    if (!settle(*row, gone) || row->paused || row->kind == "notify") return;
    if (is_traces && !traces) {
      round.traces_wait = true;
      return;
    }
    if (begin_delivery(*row) && is_traces) round.traces_began = true;
  });
  if (!failure) {
    store::settle_trace_room(id, row && row->kind == "traces" ? gone : 0, dropped);
    return;
  }
  if (failure->sqlstate.starts_with("57")) throw tasker::Error(failure->sqlstate.c_str(), failure->message, failure->detail, failure->hint);
  if (passes_by_itself(*failure)) {
    round.again = true;
    return;
  }
  pg::report(pg::Level::kWarning, "tasker: events of subscription " + (row ? row->name : std::to_string(id)) + " could not be delivered: " + failure->message, failure->detail,
             failure->hint);
  store::set_dead(id, failure->sqlstate + ": " + failure->message);
}

}  // namespace

std::int64_t subscribe(const NewSubscription &request) {
  check_request(request);
  const Oid caller = GetUserId(), session = GetSessionUserId();
  const store::SubscriptionValues values{request.kind, request.target, pg::text_array(request.events), request.ns, request.task_name, request.path, request.max_attempts};
  pg::Spi spi;
  std::optional<store::SubscriptionRow> row;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    bool fresh = false;
    // Whoever meets one that is being removed at this moment makes it anew.
    while (!(row = store::lock_subscription(request.name))) {
      fresh = store::insert_subscription(request.name, values, caller, session) != 0;
      if (!fresh && IsolationUsesXactSnapshot())
        throw tasker::Error("40001", "subscription \"" + request.name + "\" was made by somebody else at the same moment", {}, "Try again.");
    }
    if (row->owner != caller)
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "subscription \"" + request.name + "\" exists and is not yours", {},
                          "Take another name, or call this as the role that made it.");
    if (!fresh && !store::update_subscription(row->subscription_id, values)) return row->subscription_id;
    // What could not be delivered the old way is tried the new way.
    if (row->dead) {
      store::take_back(row->subscription_id);
      store::set_alive(row->subscription_id);
    }
    if (request.kind == "traces" && store::count_trace_subscriptions() > store::kTraceRooms)
      throw tasker::Error("54000", "a database has at most " + std::to_string(store::kTraceRooms) + " subscriptions of kind traces", {},
                          "Unsubscribe one of them, or let a collector pass its traces on.");
    store::note_subscriptions_changed();
  }
  const int revision = row->revision + 1;
  const std::string version = "1." + std::to_string(row->subscription_id) + "." + std::to_string(revision);
  const int definition = request.kind == "notify" ? 0 : define_delivery(request, version);
  pg::OwnerScope as_owner(store::cached_extension_owner());
  store::set_delivery_definition(*row, definition, revision, definition == 0 ? "" : version);
  return row->subscription_id;
}

void unsubscribe(const std::string &name) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  store::delete_subscription(lock_own(caller, name));
  store::note_subscriptions_changed();
}

bool pause_subscription(const std::string &name, const Reason &reason) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::SubscriptionRow row = lock_own(caller, name);
  if (row.paused) return false;
  store::set_subscription_paused(row.subscription_id, true, session, reason);
  return true;
}

bool resume_subscription(const std::string &name, const Reason &reason) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  store::SubscriptionRow row;
  bool retry = false;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    row = lock_own(caller, name);
    if (!row.paused && !row.dead) return false;
    if (row.paused) store::set_subscription_paused(row.subscription_id, false, session, reason);
    std::string error;
    const auto state = row.delivery_task_id ? store::delivery_state(*row.delivery_task_id, &error) : store::DeliveryState::kGone;
    retry = row.dead && state == store::DeliveryState::kFailed;
    if (row.dead && state == store::DeliveryState::kGone) store::take_back(row.subscription_id);
    if (row.dead) store::set_alive(row.subscription_id);
    store::note_subscriptions_changed();
  }
  // The same task once more: the endpoint sees the same idempotency key.
  const auto refusal = retry ? pg::in_savepoint([&] { retry_task(*row.delivery_task_id, reason ? reason : Reason("resume_subscription")); }) : std::nullopt;
  if (!refusal) return true;
  if (refusal->sqlstate != sqlstate::kIllegalMove) throw tasker::Error(refusal->sqlstate.c_str(), refusal->message, refusal->detail, refusal->hint);
  // It was cancelled: its events are delivered by another one.
  pg::OwnerScope as_owner(store::cached_extension_owner());
  store::take_back(row.subscription_id);
  return true;
}

pg::Result take_events(const std::string &name, int max_events) {
  if (max_events < 1 || max_events > kMaxTaken)
    throw tasker::Error(sqlstate::kInvalidParameter, "max_events must be between 1 and " + std::to_string(kMaxTaken));
  const Oid caller = GetUserId();
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::SubscriptionRow row = lock_own(caller, name);
  if (!pg::has_privileges_of(caller, row.owner))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "the events of subscription \"" + name + "\" are for \"" + pg::role_name(row.owner) + "\"");
  if (row.kind != "notify")
    throw tasker::Error(sqlstate::kInvalidParameter, "the events of subscription \"" + name + "\" are delivered to a " + row.kind, {},
                        "Only those of kind notify are taken by hand.");
  return store::take_events(row, max_events);
}

DeliveryRound deliver_events(bool notify, bool traces, int limit) {
  pg::Spi spi;
  DeliveryRound round;
  if (notify) {
    for (const std::string &channel : store::channels_to_notify()) {
      const char *name = channel.c_str();
      pg::call([=] { Async_Notify(name, ""); });
    }
  }
  int tended = 0;
  for (const std::int64_t id : store::busy_subscriptions()) {
    if (tended++ >= limit) {
      round.more = true;
      break;
    }
    pg::check_interrupts();
    tend(id, traces, round);
  }
  return round;
}

}  // namespace tasker::engine
