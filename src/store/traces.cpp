#include "store/traces.hpp"

#include <algorithm>
#include <map>

#include "core/state.hpp"
#include "core/trace.hpp"
#include "pg/security.hpp"
#include "store/key_arrays.hpp"
#include "store/moves.hpp"

extern "C" {
#include "commands/dbcommands.h"
}

namespace tasker::store {

namespace {

// What is read at once: a delivery takes so many after so many, until it is full.
inline constexpr int kTracesAtOnce = 25;
inline constexpr int kTracesPerDelivery = 100;
inline constexpr int kMovesPerTask = 5000;
inline constexpr std::size_t kSpansPerTask = 1000;

constinit pg::Query select_waiting{
    "SELECT y.event_id, y.occurred_at, y.task_id FROM tasker.event_outbox y WHERE y.subscription_id = $1 ORDER BY y.subscription_id, y.occurred_at, y.event_id LIMIT $2", 2,
    {INT8OID, INT4OID}};
constinit pg::Query select_tasks{
    "SELECT t.task_id, ns.name::text, n.name::text, n.version::text, t.state::text, t.correlation_id, t.created_at, coalesce(t.finished_at, clock_timestamp()), t.error"
    " FROM unnest($1) AS u(task_id) CROSS JOIN LATERAL (SELECT * FROM tasker.tasks y WHERE y.task_id = u.task_id OFFSET 0) t"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.named_tasks y WHERE y.named_task_id = t.named_task_id OFFSET 0) n"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.task_namespaces y WHERE y.task_namespace_id = n.task_namespace_id OFFSET 0) ns",
    1, {INT8ARRAYOID}};
constinit pg::Query select_moves{
    "SELECT w.task_id, w.step_no, w.element, d.name::text, d.handler_type = 'http', d.parents, w.sort_key, w.to_state::text, w.created_at, w.begun_at,"
    " coalesce(w.metadata #>> '{error,sqlstate}', ''), coalesce(w.metadata #>> '{error,category}', ''), pg_catalog.left(coalesce(w.metadata #>> '{error,message}', ''), 500)"
    " FROM unnest($1) AS u(task_id) CROSS JOIN LATERAL (SELECT y.named_task_id FROM tasker.tasks y WHERE y.task_id = u.task_id OFFSET 0) t"
    " CROSS JOIN LATERAL (SELECT * FROM " TASKER_STEP_MOVES " y WHERE y.task_id = u.task_id ORDER BY y.step_no, y.element, y.sort_key LIMIT $2) w"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.named_steps y WHERE y.named_task_id = t.named_task_id AND y.step_no = w.step_no OFFSET 0) d"
    " ORDER BY w.task_id, w.step_no, w.element, w.sort_key",
    2, {INT8ARRAYOID, INT4OID}};
constinit pg::Query delete_handed{
    "DELETE FROM tasker.event_outbox o WHERE o.subscription_id = $1"
    " AND o.occurred_at <= (SELECT s.delivery_until FROM tasker.event_subscription_rows s WHERE s.subscription_id = $1) AND o.handed_to IS NOT NULL",
    1, {INT8OID}};
constinit pg::Query end_failed{
    "UPDATE tasker.event_subscription_rows s SET dropped = s.dropped + s.in_flight, in_flight = 0, delivery_task_id = NULL, failures = s.failures + 1,"
    " last_error = $2, last_failed_at = clock_timestamp(), dead_at = NULL WHERE s.subscription_id = $1",
    2, {INT8OID, TEXTOID}};
// partialSuccess of an answer: https://opentelemetry.io/docs/specs/otlp, "Partial Success".
constinit pg::Query note_refused{
    "UPDATE tasker.event_subscription_rows s SET last_failed_at = clock_timestamp(),"
    " last_error = 'the collector rejected ' || (w.answer ->> 'rejectedSpans') || ' spans' || coalesce(': ' || pg_catalog.left(nullif(w.answer ->> 'errorMessage', ''), 500), '')"
    " FROM (SELECT y.result -> 'partialSuccess' AS answer FROM tasker.workflow_steps y WHERE y.task_id = $2) w"
    " WHERE s.subscription_id = $1 AND w.answer ->> 'rejectedSpans' <> '0'",
    2, {INT8OID, INT8OID}};

// Microseconds since 1970.
std::int64_t unix_microseconds(TimestampTz at) { return at + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY; }

struct Attempt {
  int step_no, element, begin;
  std::vector<int> parents;
  core::Span span;
};

struct TracedTask {
  std::int64_t id = 0;
  core::TraceContext context;
  core::Span root;
  std::vector<Attempt> attempts;
  std::optional<std::pair<int, TimestampTz>> open;  // what began, while its moves are read

  std::vector<core::Span> spans() const;
};

// The last attempt of each step that went well: what the steps after it waited for.
std::vector<core::Span> TracedTask::spans() const {
  std::map<int, std::string> done;
  for (const Attempt &attempt : attempts)
    if (attempt.element == -1 && attempt.span.succeeded.value_or(false)) done[attempt.step_no] = attempt.span.span_id;
  std::vector<core::Span> out{root};
  for (const Attempt &attempt : attempts) {
    if (out.size() > kSpansPerTask) break;
    out.push_back(attempt.span);
    for (const int parent : attempt.parents)
      if (const auto found = done.find(parent); found != done.end()) out.back().links.push_back(found->second);
  }
  if (out.size() <= attempts.size()) out.front().attributes.emplace_back("tasker.spans_left_out", static_cast<std::int64_t>(attempts.size() + 1 - out.size()));
  return out;
}

TracedTask read_task(const pg::Rows &r, std::uint64_t i, std::int64_t nonce) {
  TracedTask out;
  out.id = r.int8(i, 1);
  std::optional<std::string> correlation_id;
  if (!r.is_null(i, 6)) correlation_id = r.text(i, 6);
  out.context = core::trace_of(nonce, out.id, correlation_id);
  const std::string state = r.text(i, 5);
  core::Span &root = out.root;
  root.trace_id = out.context.trace_id;
  root.parent_id = out.context.parent_id;
  root.span_id = core::span_id(nonce, out.id, 0, -1, 0);
  root.name = r.text(i, 2) + "." + r.text(i, 3);
  root.begun = unix_microseconds(r.timestamp(i, 7));
  root.ended = unix_microseconds(r.timestamp(i, 8));
  root.attributes = {{"tasker.task_id", out.id}, {"tasker.namespace", r.text(i, 2)}, {"tasker.name", r.text(i, 3)}, {"tasker.version", r.text(i, 4)}, {"tasker.state", state}};
  if (correlation_id) root.attributes.emplace_back("tasker.correlation_id", *correlation_id);
  if (state == "complete" || state == "resolved_manually") root.succeeded = true;
  if (state == "error") root.succeeded = false;
  if (!r.is_null(i, 9)) root.message = core::masked(r.text(i, 9));
  return out;
}

// One move of a step, in order: an attempt begins, ends, or both.
void read_move(const pg::Rows &r, std::uint64_t i, std::int64_t nonce, TracedTask &task) {
  const int step_no = r.int4(i, 2), element = r.int4(i, 3), number = r.int4(i, 7) / 10;
  const std::string state = r.text(i, 8);
  const TimestampTz at = r.timestamp(i, 9);
  if (state == "in_progress") {
    task.open = {number, at};
    return;
  }
  if (!r.is_null(i, 10)) task.open = {number - 1, r.timestamp(i, 10)};
  if (!task.open) return;
  Attempt out{step_no, element, task.open->first, r.int4s(i, 6), {}};
  const std::int64_t attempt = 1 + std::count_if(task.attempts.begin(), task.attempts.end(), [&](const Attempt &a) { return a.step_no == step_no && a.element == element; });
  core::Span &span = out.span;
  span.trace_id = task.context.trace_id;
  span.parent_id = task.root.span_id;
  span.span_id = core::span_id(nonce, task.id, step_no, element, out.begin);
  span.name = r.text(i, 4);
  span.calls_out = r.boolean(i, 5);
  span.begun = unix_microseconds(task.open->second);
  span.ended = unix_microseconds(at);
  span.attributes = {{"tasker.task_id", task.id}, {"tasker.step", span.name}, {"tasker.attempt", attempt}, {"tasker.state", state}};
  if (state == "complete") span.succeeded = true;
  if (state == "error") {
    span.succeeded = false;
    span.message = core::masked(r.text(i, 13));
    span.attributes.emplace_back("error.type", r.text(i, 11));
    span.attributes.emplace_back("tasker.error_category", r.text(i, 12));
  }
  task.attempts.push_back(std::move(out));
  task.open.reset();
}

std::map<std::int64_t, TracedTask> read_tasks(const std::vector<std::int64_t> &ids, std::int64_t nonce) {
  std::map<std::int64_t, TracedTask> out;
  const Datum array = id_array(ids);
  const pg::Result tasks = pg::execute(select_tasks, pg::Params().datum(array), pg::Access::kRead);
  for (std::uint64_t i = 0; i < tasks.rows.size(); i++) out.emplace(tasks.rows.int8(i, 1), read_task(tasks.rows, i, nonce));
  const pg::Result moves = pg::execute(select_moves, pg::Params().datum(array).int4(kMovesPerTask), pg::Access::kRead);
  std::pair<int, int> step{0, 0};
  std::int64_t task_id = 0;
  for (std::uint64_t i = 0; i < moves.rows.size(); i++) {
    const pg::Rows &r = moves.rows;
    const auto found = out.find(r.int8(i, 1));
    if (found == out.end()) continue;
    if (const std::pair next{r.int4(i, 2), r.int4(i, 3)}; next != step || found->first != task_id) found->second.open.reset(), step = next, task_id = found->first;
    read_move(r, i, nonce, found->second);
  }
  return out;
}

std::string joined(const std::vector<core::Span> &spans) {
  std::string out;
  for (const core::Span &span : spans) {
    if (!out.empty()) out += ',';
    out += core::otlp_span(span);
  }
  return out;
}

// As JSON, so many of the first as fit.
std::string fitting(std::vector<core::Span> spans, std::size_t max_bytes) {
  const std::size_t all = spans.size();
  std::string out = joined(spans);
  while (spans.size() > 1 && out.size() > max_bytes) {
    spans.resize(std::max<std::size_t>(1, spans.size() / 2));
    out = joined(spans);
  }
  if (spans.size() == all) return out;
  spans.front().attributes.emplace_back("tasker.spans_cut", static_cast<std::int64_t>(all - spans.size()));
  return joined(spans);
}

}  // namespace

std::int64_t drop_delivery(std::int64_t subscription_id, const std::string &why) {
  const auto count = pg::execute(delete_handed, pg::Params().int8(subscription_id)).processed;
  pg::execute(end_failed, pg::Params().int8(subscription_id).text(why));
  return static_cast<std::int64_t>(count);
}

void note_refused_spans(std::int64_t subscription_id, std::int64_t delivery_task_id) {
  pg::execute(note_refused, pg::Params().int8(subscription_id).int8(delivery_task_id));
}

Delivery next_traces(const SubscriptionRow &row, std::int64_t nonce, int max_bytes) {
  const pg::Result waiting = pg::execute(select_waiting, pg::Params().int8(row.subscription_id).int4(kTracesPerDelivery));
  const std::uint64_t count = waiting.rows.size();
  Delivery out;
  std::string all;
  pg::ArrayBuilder event_ids(INT8OID), times(TIMESTAMPTZOID);
  std::map<std::int64_t, TracedTask> tasks;
  for (std::uint64_t i = 0; i < count; i++) {
    if (i % kTracesAtOnce == 0) {
      std::vector<std::int64_t> ids;
      for (std::uint64_t j = i; j < std::min(count, i + kTracesAtOnce); j++) ids.push_back(waiting.rows.int8(j, 3));
      std::sort(ids.begin(), ids.end());
      ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
      tasks = read_tasks(ids, nonce);
    }
    std::string spans;
    if (const auto found = tasks.find(waiting.rows.int8(i, 3)); found != tasks.end()) spans = fitting(found->second.spans(), static_cast<std::size_t>(max_bytes));
    if (out.count > 0 && all.size() + spans.size() > static_cast<std::size_t>(max_bytes)) break;
    if (!all.empty() && !spans.empty()) all += ',';
    all += spans;
    event_ids.int8(waiting.rows.int8(i, 1));
    times.timestamp(waiting.rows.timestamp(i, 2));
    out.count++;
  }
  if (out.count == 0) return out;
  const char *database = pg::call([] { return get_database_name(MyDatabaseId); });
  out.context = pg::jsonb_datum(core::otlp_request(database == nullptr ? "" : database, all));
  out.event_ids = event_ids.datum();
  out.times = times.datum();
  return out;
}

}  // namespace tasker::store
