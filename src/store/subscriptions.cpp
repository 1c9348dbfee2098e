#include "store/subscriptions.hpp"

#include "store/events.hpp"
#include "store/key_arrays.hpp"
#include "store/trace_rooms.hpp"

namespace tasker::store {

namespace {

#define SUBSCRIPTION_COLUMNS                                                                                                             \
  "s.subscription_id, s.subscription_name, s.kind, coalesce(s.version, ''), s.owner::oid, s.created_by::oid, s.revision, s.paused_at IS NOT NULL," \
  " s.dead_at IS NOT NULL, s.delivery_task_id"

constinit pg::Query lock_by_name{
    "SELECT " SUBSCRIPTION_COLUMNS " FROM tasker.event_subscription_rows s WHERE s.subscription_name = $1 FOR NO KEY UPDATE", 1, {TEXTOID}};
constinit pg::Query lock_by_id{"SELECT " SUBSCRIPTION_COLUMNS " FROM tasker.event_subscription_rows s WHERE s.subscription_id = $1 FOR NO KEY UPDATE", 1, {INT8OID}};
constinit pg::Query lock_free{
    "SELECT " SUBSCRIPTION_COLUMNS " FROM tasker.event_subscription_rows s WHERE s.subscription_id = $1 FOR NO KEY UPDATE SKIP LOCKED", 1, {INT8OID}};
constinit pg::Query insert_row{
    "INSERT INTO tasker.event_subscription_rows (subscription_name, kind, target, events, namespace, name, path, max_attempts, owner, created_by)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING subscription_id",
    10, {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, OIDOID, OIDOID}};
constinit pg::Query update_row{
    "UPDATE tasker.event_subscription_rows s SET kind = $2, target = $3, events = $4, namespace = $5, name = $6, path = $7, max_attempts = $8,"
    " changed_at = clock_timestamp() WHERE s.subscription_id = $1"
    " AND (s.kind, s.target, s.events, s.namespace, s.name, s.path, s.max_attempts) IS DISTINCT FROM ($2, $3, $4, $5, $6, $7, $8)",
    8, {INT8OID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, INT4OID}};
constinit pg::Query retire_definition{
    "UPDATE tasker.named_tasks n SET retired_at = clock_timestamp() FROM tasker.event_subscription_rows s"
    " WHERE s.subscription_id = $1 AND n.named_task_id = s.named_task_id AND n.retired_at IS NULL AND s.named_task_id IS DISTINCT FROM $2",
    2, {INT8OID, INT4OID}};
constinit pg::Query set_definition{
    "UPDATE tasker.event_subscription_rows s SET named_task_id = nullif($2, 0), revision = $3, version = nullif($4, '') WHERE s.subscription_id = $1", 4,
    {INT8OID, INT4OID, INT4OID, TEXTOID}};
constinit pg::Query delete_waiting{"DELETE FROM tasker.event_outbox o WHERE o.subscription_id = $1", 1, {INT8OID}};
constinit pg::Query delete_row{"DELETE FROM tasker.event_subscription_rows s WHERE s.subscription_id = $1", 1, {INT8OID}};
constinit pg::Query pause_row{
    "UPDATE tasker.event_subscription_rows s SET paused_at = CASE WHEN $2 THEN clock_timestamp() END, paused_by = CASE WHEN $2 THEN $3::oid::regrole END,"
    " pause_reason = $4 WHERE s.subscription_id = $1",
    4, {INT8OID, BOOLOID, OIDOID, TEXTOID}};

#define HAS_WAITING "EXISTS (SELECT FROM tasker.event_outbox o WHERE o.subscription_id = s.subscription_id)"
constinit pg::Query select_busy{
    // A delivery under way, or failed and told of, has nothing to be done for it; one that somebody has retried has.
    "SELECT s.subscription_id FROM tasker.event_subscription_rows s WHERE s.delivery_task_id IS NOT NULL AND NOT EXISTS (SELECT FROM tasker.tasks t"
    "   WHERE t.task_id = s.delivery_task_id AND CASE WHEN s.dead_at IS NULL THEN t.live ELSE t.state IN ('error', 'cancelled') END)"
    " OR s.kind <> 'notify' AND s.paused_at IS NULL AND s.dead_at IS NULL AND " HAS_WAITING
    " OR s.kind = 'traces' AND s.subscription_id = ANY ($1) ORDER BY s.subscription_id",
    1, {INT8ARRAYOID}};
constinit pg::Query count_traces{"SELECT count(*)::integer FROM tasker.event_subscription_rows s WHERE s.kind = 'traces'", 0, {}};
constinit pg::Query select_channels{
    "SELECT DISTINCT s.target FROM tasker.event_subscription_rows s WHERE s.kind = 'notify' AND s.paused_at IS NULL AND " HAS_WAITING, 0, {}};

// What a subscriber gets of event o, as far as the owner of its subscription x may see it.
#define EVENT_FACTS                                                                                                                          \
  " CROSS JOIN LATERAL (SELECT y.named_task_id, y.correlation_id, y.owner::oid, y.created_by::oid FROM tasker.tasks y WHERE y.task_id = o.task_id OFFSET 0) t" \
  " CROSS JOIN LATERAL (SELECT y.task_namespace_id, y.name, y.version FROM tasker.named_tasks y WHERE y.named_task_id = t.named_task_id OFFSET 0) n" \
  " CROSS JOIN LATERAL (SELECT y.name FROM tasker.task_namespaces y WHERE y.task_namespace_id = n.task_namespace_id OFFSET 0) ns"            \
  " LEFT JOIN LATERAL (SELECT CASE o.element WHEN -1 THEN y.name ELSE y.name || '[' || o.element || ']' END AS name FROM tasker.named_steps y" \
  "   WHERE y.named_task_id = t.named_task_id AND y.step_no = o.step_no OFFSET 0) d ON true"                                                   \
  " CROSS JOIN LATERAL (SELECT y.from_state::text, y.to_state::text, y.metadata FROM tasker.task_transitions y"                              \
  "     WHERE o.step_no = 0 AND y.task_id = o.task_id AND y.sort_key = o.sort_key UNION ALL"                                                 \
  "   SELECT y.from_state::text, y.to_state::text, y.metadata FROM tasker.workflow_step_transitions y"                                       \
  "     WHERE o.step_no > 0 AND y.task_id = o.task_id AND y.step_no = o.step_no AND y.element = o.element AND y.sort_key = o.sort_key OFFSET 0) w" \
  " CROSS JOIN LATERAL (SELECT pg_has_role($2, t.owner, 'USAGE') OR pg_has_role($2, t.created_by, 'USAGE')"                                  \
  "   OR EXISTS (SELECT FROM tasker.access_grants g WHERE g.level IN ('operator', 'admin') AND pg_has_role($2, g.role::oid, 'USAGE')) AS sees OFFSET 0) p" \
  " CROSS JOIN LATERAL (SELECT jsonb_build_object('event', o.event, 'event_id', o.event_id, 'task_id', o.task_id, 'namespace', ns.name, 'name', n.name," \
  "   'version', n.version, 'from_state', w.from_state, 'to_state', w.to_state, 'sort_key', o.sort_key, 'occurred_at', o.occurred_at,"       \
  "   'correlation_id', t.correlation_id, 'metadata', CASE WHEN p.sees AND octet_length(w.metadata::text) <= 65536 THEN w.metadata END)"     \
  "   || CASE WHEN o.step_no = 0 THEN '{}' ELSE jsonb_build_object('step_name', d.name) END"                                                 \
  "   || CASE WHEN starts_with(o.event, 'task.') OR starts_with(o.event, 'step.') THEN '{}'"                                                 \
  "     ELSE jsonb_build_object('result', CASE WHEN p.sees THEN o.result END) END AS payload OFFSET 0) e"
#define FIRST_WAITING                                                                                                                        \
  "(SELECT * FROM tasker.event_outbox y WHERE y.subscription_id = $1 ORDER BY y.subscription_id, y.occurred_at, y.event_id LIMIT $3 OFFSET 0) o"

constinit pg::Query select_delivery{
    "SELECT jsonb_build_object('subscription', $4, 'events', jsonb_agg(z.payload ORDER BY z.occurred_at, z.event_id)), array_agg(z.event_id),"
    " array_agg(z.occurred_at), count(*)::integer"
    " FROM (SELECT o.event_id, o.occurred_at, e.payload, row_number() OVER q AS number, sum(octet_length(e.payload::text)) OVER q AS bytes"
    "   FROM " FIRST_WAITING EVENT_FACTS " WINDOW q AS (ORDER BY o.occurred_at, o.event_id)) z WHERE z.number = 1 OR z.bytes <= $5",
    5, {INT8OID, OIDOID, INT4OID, TEXTOID, INT8OID}};
constinit pg::Query mark_handed{
    "UPDATE tasker.event_outbox o SET handed_to = $4 FROM unnest($2, $3) AS u(event_id, at)"
    " WHERE o.subscription_id = $1 AND o.occurred_at = u.at AND o.event_id = u.event_id",
    4, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8OID}};
constinit pg::Query begin_delivery{
    "UPDATE tasker.event_subscription_rows s SET delivery_task_id = $2, in_flight = $3, delivery_until = (SELECT max(u.at) FROM unnest($4) AS u(at))"
    " WHERE s.subscription_id = $1",
    4, {INT8OID, INT8OID, INT4OID, TIMESTAMPTZARRAYOID}};
// What was handed over lies at the front of what waits.
#define IN_FLIGHT                                                                                                                            \
  "o.subscription_id = $1 AND o.occurred_at <= (SELECT s.delivery_until FROM tasker.event_subscription_rows s WHERE s.subscription_id = $1)" \
  " AND o.handed_to IS NOT NULL"
constinit pg::Query select_state{"SELECT t.state::text, t.live, coalesce(t.error, 'it was cancelled') FROM tasker.tasks t WHERE t.task_id = $1", 1, {INT8OID}};
constinit pg::Query delete_delivered{"DELETE FROM tasker.event_outbox o WHERE " IN_FLIGHT, 1, {INT8OID}};
constinit pg::Query end_delivery{
    "UPDATE tasker.event_subscription_rows s SET delivered = s.delivered + s.in_flight, in_flight = 0, delivery_task_id = NULL,"
    " last_delivered_at = clock_timestamp(), dead_at = NULL WHERE s.subscription_id = $1",
    1, {INT8OID}};
constinit pg::Query unmark_handed{"UPDATE tasker.event_outbox o SET handed_to = NULL WHERE " IN_FLIGHT, 1, {INT8OID}};
constinit pg::Query forget_delivery{
    "UPDATE tasker.event_subscription_rows s SET in_flight = 0, delivery_task_id = NULL WHERE s.subscription_id = $1", 1, {INT8OID}};
constinit pg::Query mark_dead{
    "UPDATE tasker.event_subscription_rows s SET dead_at = clock_timestamp(), failures = s.failures + 1, last_error = $2, last_failed_at = clock_timestamp()"
    " WHERE s.subscription_id = $1",
    2, {INT8OID, TEXTOID}};
constinit pg::Query mark_alive{"UPDATE tasker.event_subscription_rows s SET dead_at = NULL WHERE s.subscription_id = $1", 1, {INT8OID}};

constinit pg::Query take_rows{
    "WITH gone AS (DELETE FROM tasker.event_outbox x USING (SELECT y.ctid AS place FROM tasker.event_outbox y WHERE y.subscription_id = $1"
    "     ORDER BY y.subscription_id, y.occurred_at, y.event_id LIMIT $3 OFFSET 0) u WHERE x.ctid = u.place RETURNING x.*),"
    " counted AS (UPDATE tasker.event_subscription_rows s SET delivered = s.delivered + (SELECT count(*) FROM gone), last_delivered_at = clock_timestamp()"
    "   WHERE s.subscription_id = $1 AND EXISTS (SELECT FROM gone))"
    " SELECT o.event_id, o.event, o.task_id, d.name, o.occurred_at, e.payload FROM gone o" EVENT_FACTS " ORDER BY o.occurred_at, o.event_id",
    3, {INT8OID, OIDOID, INT4OID}};

std::optional<SubscriptionRow> first_row(const pg::Result &found) {
  if (found.rows.empty()) return std::nullopt;
  const pg::Rows &r = found.rows;
  SubscriptionRow row;
  row.subscription_id = r.int8(0, 1);
  row.name = r.text(0, 2);
  row.kind = r.text(0, 3);
  row.version = r.text(0, 4);
  row.owner = r.oid(0, 5);
  row.created_by = r.oid(0, 6);
  row.revision = r.int4(0, 7);
  row.paused = r.boolean(0, 8);
  row.dead = r.boolean(0, 9);
  if (!r.is_null(0, 10)) row.delivery_task_id = r.int8(0, 10);
  return row;
}

}  // namespace

std::optional<SubscriptionRow> lock_subscription(const std::string &name) { return first_row(pg::execute(lock_by_name, pg::Params().text(name))); }

std::optional<SubscriptionRow> lock_subscription(std::int64_t subscription_id, bool skip_locked) {
  return first_row(pg::execute(skip_locked ? lock_free : lock_by_id, pg::Params().int8(subscription_id)));
}

std::int64_t insert_subscription(const std::string &name, const SubscriptionValues &v, Oid owner, Oid created_by) {
  const pg::Result made = pg::execute(insert_row, pg::Params().text(name).text(v.kind).text(v.target).datum(v.events).text_or_null(v.ns).text_or_null(v.name)
                                                      .text_or_null(v.path).int4(v.max_attempts).oid(owner).oid(created_by));
  return made.rows.empty() ? 0 : made.rows.int8(0, 1);
}

bool update_subscription(std::int64_t subscription_id, const SubscriptionValues &v) {
  return pg::execute(update_row, pg::Params().int8(subscription_id).text(v.kind).text(v.target).datum(v.events).text_or_null(v.ns).text_or_null(v.name)
                                     .text_or_null(v.path).int4(v.max_attempts)).processed > 0;
}

void set_delivery_definition(const SubscriptionRow &row, int named_task_id, int revision, const std::string &version) {
  pg::execute(retire_definition, pg::Params().int8(row.subscription_id).int4(named_task_id));
  pg::execute(set_definition, pg::Params().int8(row.subscription_id).int4(named_task_id).int4(revision).text(version));
}

void delete_subscription(const SubscriptionRow &row) {
  pg::execute(retire_definition, pg::Params().int8(row.subscription_id).int4(0));
  pg::execute(delete_waiting, pg::Params().int8(row.subscription_id));
  pg::execute(delete_row, pg::Params().int8(row.subscription_id));
}

void set_subscription_paused(std::int64_t subscription_id, bool paused, Oid actor, const std::optional<std::string> &reason) {
  pg::execute(pause_row, pg::Params().int8(subscription_id).boolean(paused).oid(actor).text_or_null(reason));
}

std::vector<std::int64_t> busy_subscriptions() {
  const pg::Result found = pg::execute(select_busy, pg::Params().datum(id_array(subscriptions_with_drops())));
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.int8(i, 1));
  return out;
}

int count_trace_subscriptions() { return pg::execute(count_traces).rows.int4(0, 1); }

std::vector<std::string> channels_to_notify() {
  const pg::Result found = pg::execute(select_channels);
  std::vector<std::string> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.text(i, 1));
  return out;
}

Delivery next_delivery(const SubscriptionRow &row, int max_events, int max_bytes) {
  const pg::Result found = pg::execute(select_delivery, pg::Params().int8(row.subscription_id).oid(row.owner).int4(max_events).text(row.name).int8(max_bytes));
  Delivery out;
  out.count = found.rows.int4(0, 4);
  if (out.count == 0) return out;
  const Datum context = found.rows.datum(0, 1);
  out.context = pg::call([=] { return PointerGetDatum(DatumGetJsonbP(context)); });
  out.event_ids = found.rows.datum(0, 2);
  out.times = found.rows.datum(0, 3);
  return out;
}

void hand_over(std::int64_t subscription_id, const Delivery &delivery, std::int64_t task_id) {
  pg::execute(mark_handed, pg::Params().int8(subscription_id).datum(delivery.event_ids).datum(delivery.times).int8(task_id));
  pg::execute(begin_delivery, pg::Params().int8(subscription_id).int8(task_id).int4(delivery.count).datum(delivery.times));
}

DeliveryState delivery_state(std::int64_t task_id, std::string *error) {
  const pg::Result found = pg::execute(select_state, pg::Params().int8(task_id));
  if (found.rows.empty()) return DeliveryState::kGone;
  if (found.rows.boolean(0, 2)) return DeliveryState::kLive;
  const std::string state = found.rows.text(0, 1);
  if (state == "complete" || state == "resolved_manually") return DeliveryState::kDone;
  *error = "delivery task " + std::to_string(task_id) + ": " + found.rows.text(0, 3);
  return DeliveryState::kFailed;
}

std::int64_t settle_delivered(const SubscriptionRow &row) {
  const auto count = pg::execute(delete_delivered, pg::Params().int8(row.subscription_id)).processed;
  pg::execute(end_delivery, pg::Params().int8(row.subscription_id));
  return static_cast<std::int64_t>(count);
}

void take_back(std::int64_t subscription_id) {
  pg::execute(unmark_handed, pg::Params().int8(subscription_id));
  pg::execute(forget_delivery, pg::Params().int8(subscription_id));
}

void set_dead(std::int64_t subscription_id, const std::string &why) { pg::execute(mark_dead, pg::Params().int8(subscription_id).text(why)); }
void set_alive(std::int64_t subscription_id) { pg::execute(mark_alive, pg::Params().int8(subscription_id)); }

pg::Result take_events(const SubscriptionRow &row, int max_events) {
  return pg::execute(take_rows, pg::Params().int8(row.subscription_id).oid(row.owner).int4(max_events));
}

}  // namespace tasker::store
