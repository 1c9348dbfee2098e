#include "store/events.hpp"

#include <algorithm>
#include <string_view>

#include "core/events.hpp"
#include "store/hints.hpp"

namespace tasker::store {

namespace {

struct Known {
  std::uint64_t generation = 0;
  bool lasting = false;  // others see the same, and will until the generation is raised
  std::vector<std::int64_t> subscriptions;
  std::vector<std::string> patterns;
  std::vector<int> deliveries;  // definitions
};
constinit Known *known = nullptr;  // lives as long as the process

constinit pg::Query select_subscriptions{"SELECT s.subscription_id, s.events, s.named_task_id FROM tasker.event_subscription_rows s", 0, {}};

// A custom event has the result of the attempt that publishes it. A subscriber is told of tasks that its owner may see.
constinit pg::Query insert_events{
    "INSERT INTO tasker.event_outbox (task_id, subscription_id, step_no, element, sort_key, event, occurred_at, result)"
    " SELECT u.task_id, x.subscription_id, u.step_no, u.element, u.sort_key, e.event, u.at, e.result"
    " FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS u(task_id, step_no, element, sort_key, event, at, ord)"
    " CROSS JOIN LATERAL (SELECT y.named_task_id, y.owner::oid, y.created_by::oid FROM tasker.tasks y WHERE y.task_id = u.task_id OFFSET 0) t"
    " CROSS JOIN LATERAL (SELECT y.task_namespace_id, y.name FROM tasker.named_tasks y WHERE y.named_task_id = t.named_task_id OFFSET 0) n"
    " CROSS JOIN LATERAL (SELECT y.name FROM tasker.task_namespaces y WHERE y.task_namespace_id = n.task_namespace_id OFFSET 0) ns"
    " CROSS JOIN LATERAL (SELECT u.event, NULL::jsonb AS result UNION ALL"
    "   SELECT c.name, s.result FROM (SELECT DISTINCT v.event ->> 'name' AS name FROM tasker.named_steps d CROSS JOIN LATERAL jsonb_array_elements(d.events) AS v(event)"
    "     WHERE u.event IN ('step.completed', 'step.failed') AND d.named_task_id = t.named_task_id AND d.step_no = u.step_no"
    "     AND v.event ->> 'condition' IN ('always', CASE u.event WHEN 'step.completed' THEN 'success' ELSE 'failure' END)"
    "     AND NOT starts_with(v.event ->> 'name', 'task.') AND NOT starts_with(v.event ->> 'name', 'step.') OFFSET 0) c"
    "   CROSS JOIN LATERAL (SELECT CASE WHEN u.event = 'step.completed' AND octet_length(y.result::text) <= 65536 THEN y.result END AS result"
    "     FROM tasker.workflow_steps y WHERE y.task_id = u.task_id AND y.step_no = u.step_no AND y.element = u.element OFFSET 0) s) e"
    " CROSS JOIN LATERAL (SELECT y.subscription_id, y.owner::oid, y.events, y.namespace, y.name FROM tasker.event_subscription_rows y"
    "   WHERE y.subscription_id = ANY ($7) OFFSET 0) x"
    " WHERE ns.name <> $8 AND (x.namespace IS NULL OR x.namespace = ns.name) AND (x.name IS NULL OR x.name = n.name)"
    " AND EXISTS (SELECT FROM unnest(x.events) AS f(pattern) WHERE f.pattern = e.event OR right(f.pattern, 1) = '*' AND starts_with(e.event, left(f.pattern, -1)))"
    " AND (pg_has_role(x.owner, t.owner, 'USAGE') OR pg_has_role(x.owner, t.created_by, 'USAGE')"
    "   OR EXISTS (SELECT FROM tasker.access_grants g WHERE g.level IN ('monitor', 'operator', 'admin') AND pg_has_role(x.owner, g.role::oid, 'USAGE')))"
    " ORDER BY u.at, u.ord, e.event <> u.event, e.event",
    8, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTOID}};

Known &list() {
  if (known == nullptr) known = new Known;
  return *known;
}

void refresh() {
  Known &k = list();
  // The generation first: what is committed with it is in the snapshot taken after it.
  const std::uint64_t generation = pause_generation();
  if (k.lasting && k.generation == generation && !pauses_changed_here()) return;
  k.lasting = false;
  k.subscriptions.clear();
  k.patterns.clear();
  k.deliveries.clear();
  const pg::Result found = pg::execute(select_subscriptions);
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    k.subscriptions.push_back(found.rows.int8(i, 1));
    for (std::string &pattern : found.rows.texts(i, 2)) k.patterns.push_back(std::move(pattern));
    if (!found.rows.is_null(i, 3)) k.deliveries.push_back(found.rows.int4(i, 3));
  }
  k.generation = generation;
  // An old snapshot, or changes of this very transaction, say nothing about the next one.
  k.lasting = generation != 0 && !IsolationUsesXactSnapshot() && !pauses_changed_here();
}

bool concerns_anybody(const char *event) {
  const std::string_view name = event;
  const bool ends_attempt = name == "step.completed" || name == "step.failed";
  return std::any_of(list().patterns.begin(), list().patterns.end(), [&](const std::string &pattern) {
    return core::event_matches(pattern, name) || (ends_attempt && core::names_custom_events(pattern));
  });
}

void wake_dispatcher() { add_hint({{0, 0, -1}, 0, kEventsHint, 0, InvalidOid, HintKind::kSchedules}); }

}  // namespace

bool events_wanted() {
  refresh();
  return !list().subscriptions.empty();
}

void record_events(const std::vector<Occurrence> &happened) {
  pg::ArrayBuilder tasks(INT8OID), steps(INT4OID), elements(INT4OID), keys(INT4OID), events(TEXTOID), times(TIMESTAMPTZOID), subscriptions(INT8OID);
  for (const Occurrence &one : happened) {
    if (!concerns_anybody(one.event)) continue;
    tasks.int8(one.key.task_id);
    steps.int4(one.key.step_no);
    elements.int4(one.key.element);
    keys.int4(one.sort_key);
    events.text(one.event);
    times.timestamp(one.at);
  }
  if (tasks.size() == 0) return;
  for (const std::int64_t id : list().subscriptions) subscriptions.int8(id);
  const pg::Result wrote = pg::execute(insert_events, pg::Params().datum(tasks.datum()).datum(steps.datum()).datum(elements.datum()).datum(keys.datum())
                                                          .datum(events.datum()).datum(times.datum()).datum(subscriptions.datum()).text(kDeliveryNamespace));
  if (wrote.processed > 0) wake_dispatcher();
}

void record_step_events(const std::vector<StepMove> &moves) {
  std::vector<Occurrence> happened;
  for (const StepMove &move : moves) {
    core::StepState state = move.from;
    int number = move.expected_moves;
    for (const auto &hop : move.hops) {
      happened.push_back({move.key, ++number * 10, core::event_of(state, hop.to), hop.at});
      state = hop.to;
    }
  }
  record_events(happened);
}

void note_delivery_end(int named_task_id) {
  const std::vector<int> &deliveries = list().deliveries;
  if (std::find(deliveries.begin(), deliveries.end(), named_task_id) != deliveries.end()) wake_dispatcher();
}

void note_subscriptions_changed() {
  note_pauses_changed();
  wake_dispatcher();
}

}  // namespace tasker::store
