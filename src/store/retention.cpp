#include "store/retention.hpp"

#include <algorithm>

#include "pg/fault.hpp"
#include "store/dead_letters.hpp"
#include "store/key_arrays.hpp"
#include "store/settings.hpp"

namespace tasker::store {

namespace {

inline constexpr int kPage = 500;
inline constexpr std::int64_t kIdRange = 5000;
// Removed by one run of the statements below; between two the budget is looked at.
inline constexpr std::size_t kTasksAtOnce = 25;
inline constexpr int kStepsAtOnce = 500;
inline constexpr int kRecordsAtOnce = 200;

constinit pg::Query select_rules{
    "SELECT r.task_namespace_id, (extract(epoch FROM r.keep) * 1000000)::bigint FROM tasker.retention_rules r", 0, {}};
constinit pg::Query upsert_rule{
    "INSERT INTO tasker.retention_rules AS r (task_namespace_id, keep, changed_by) VALUES ($1, make_interval(secs => $2), $3::oid::regrole)"
    " ON CONFLICT (task_namespace_id) DO UPDATE SET keep = excluded.keep, changed_by = excluded.changed_by, changed_at = clock_timestamp()"
    " WHERE r.keep IS DISTINCT FROM excluded.keep",
    3, {INT4OID, FLOAT8OID, OIDOID}};
constinit pg::Query delete_rule{"DELETE FROM tasker.retention_rules r WHERE r.task_namespace_id = $1", 1, {INT4OID}};

constinit pg::Query select_last_id{"SELECT last_value FROM tasker.task_id_seq", 0, {}};
constinit pg::Query select_page{
    "SELECT t.task_id, t.created_at, CASE WHEN NOT t.live THEN t.finished_at END, n.task_namespace_id, n.step_count FROM tasker.tasks t"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.named_tasks x WHERE x.named_task_id = t.named_task_id OFFSET 0) n"
    " WHERE t.task_id > $1 AND t.task_id <= $2 ORDER BY t.task_id LIMIT $3",
    3, {INT8OID, INT8OID, INT4OID}};

constinit pg::Query lock_finished{
    "SELECT t.task_id, t.finished_at FROM tasker.tasks t WHERE t.task_id = ANY ($1) AND NOT t.live ORDER BY t.task_id FOR UPDATE SKIP LOCKED", 1, {INT8ARRAYOID}};
constinit pg::Query lock_shared{"SELECT 1 FROM tasker.tasks t WHERE t.task_id = $1 FOR KEY SHARE", 1, {INT8OID}};

// The definition's key orders the rows, so that two who remove at once wait for each other in one order.
constinit pg::Query summarize{
    "INSERT INTO tasker.task_summaries AS z (named_task_id, day, state, tasks, steps, attempts, total_seconds, max_seconds)"
    " SELECT t.named_task_id, (t.finished_at AT TIME ZONE 'UTC')::date, t.state, count(*), sum(s.steps), sum(s.attempts), sum(e.seconds), max(e.seconds)"
    " FROM tasker.tasks t"
    " CROSS JOIN LATERAL (SELECT count(*) AS steps, coalesce(sum(x.attempts), 0) AS attempts FROM tasker.workflow_steps x WHERE x.task_id = t.task_id OFFSET 0) s"
    " CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM t.finished_at - coalesce(t.started_at, t.finished_at)))::float8 AS seconds) e"
    " WHERE t.task_id = ANY ($1) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    " ON CONFLICT (named_task_id, day, state) DO UPDATE SET tasks = z.tasks + excluded.tasks, steps = z.steps + excluded.steps, attempts = z.attempts + excluded.attempts,"
    " total_seconds = z.total_seconds + excluded.total_seconds, max_seconds = greatest(z.max_seconds, excluded.max_seconds)",
    1, {INT8ARRAYOID}};

// The tallies count finished tasks that are there: the same numbers as when they ended, taken off.
#define STEPS_THAT(condition) "count(*) FILTER (WHERE " condition ")"
#define TRIED_AGAIN "NOT x.permanent AND x.attempts < coalesce(x.max_attempts, d.max_attempts) AND d.retryable"
constinit pg::Query take_off_tallies{
    "INSERT INTO tasker.tallies (named_task_id, tasks_complete, tasks_error, tasks_cancelled, tasks_resolved_manually, steps_pending, steps_complete,"
    " steps_error, steps_cancelled, steps_resolved_manually, steps_skipped, error_steps_retryable, error_steps_exhausted)"
    " SELECT t.named_task_id, - count(*) FILTER (WHERE t.state = 'complete'), - count(*) FILTER (WHERE t.state = 'error'),"
    " - count(*) FILTER (WHERE t.state = 'cancelled'), - count(*) FILTER (WHERE t.state = 'resolved_manually'),"
    " - sum(s.pending), - sum(s.complete), - sum(s.error), - sum(s.cancelled), - sum(s.resolved), - sum(s.skipped), - sum(s.retryable), - sum(s.error - s.retryable)"
    " FROM tasker.tasks t CROSS JOIN LATERAL (SELECT " STEPS_THAT("x.state IN ('pending', 'in_progress')") " AS pending, " STEPS_THAT("x.state = 'complete'") " AS complete, "
    STEPS_THAT("x.state = 'error'") " AS error, " STEPS_THAT("x.state = 'cancelled'") " AS cancelled, " STEPS_THAT("x.state = 'resolved_manually'") " AS resolved, "
    STEPS_THAT("x.state = 'skipped'") " AS skipped, " STEPS_THAT("x.state = 'error' AND " TRIED_AGAIN) " AS retryable"
    "   FROM tasker.workflow_steps x CROSS JOIN LATERAL (SELECT * FROM tasker.named_steps y WHERE y.named_task_id = t.named_task_id AND y.step_no = x.step_no OFFSET 0) d"
    "   WHERE x.task_id = t.task_id OFFSET 0) s"
    " WHERE t.task_id = ANY ($1) GROUP BY t.named_task_id",
    1, {INT8ARRAYOID}};

// Their keys do not begin with the task.
constinit pg::Query delete_labels{
    "DELETE FROM tasker.task_labels l USING (SELECT t.task_id, x.kind, x.label FROM tasker.tasks t"
    "   CROSS JOIN LATERAL (SELECT 'tag' AS kind, unnest(t.tags) AS label UNION ALL SELECT 'correlation_id', t.correlation_id) x WHERE t.task_id = ANY ($1) OFFSET 0) u"
    " WHERE l.label = u.label AND l.kind = u.kind AND l.task_id = u.task_id",
    1, {INT8ARRAYOID}};
constinit pg::Query delete_keys{
    "DELETE FROM tasker.idempotency_keys k USING (SELECT t.task_id, t.owner, n.task_namespace_id, n.name, t.idempotency_key FROM tasker.tasks t"
    "   CROSS JOIN LATERAL (SELECT * FROM tasker.named_tasks x WHERE x.named_task_id = t.named_task_id OFFSET 0) n"
    "   WHERE t.task_id = ANY ($1) AND t.idempotency_key IS NOT NULL OFFSET 0) u"
    " WHERE k.owner = u.owner AND k.task_namespace_id = u.task_namespace_id AND k.name = u.name AND k.idempotency_key = u.idempotency_key AND k.task_id = u.task_id",
    1, {INT8ARRAYOID}};

#define ROWS_OF(table) {"DELETE FROM tasker." table " x WHERE x.task_id = ANY ($1)", 1, {INT8ARRAYOID}}
constinit pg::Query delete_rows[] = {
    ROWS_OF("workflow_steps"), ROWS_OF("step_moves"), ROWS_OF("task_moves"), ROWS_OF("timers"), ROWS_OF("queue_items"), ROWS_OF("leases"),
    ROWS_OF("transfers"),      ROWS_OF("signals"),                   ROWS_OF("task_annotations"), ROWS_OF("dead_letter_notes"), ROWS_OF("event_outbox")};
constinit pg::Query delete_tasks ROWS_OF("tasks");

constinit pg::Query upsert_mark{
    "INSERT INTO tasker.retention_marks AS m (task_namespace_id, held_back, oldest_finished_at, passed_at)"
    " SELECT n.task_namespace_id, coalesce(u.held, 0), u.oldest, $4 FROM tasker.task_namespaces n"
    " LEFT JOIN LATERAL (SELECT x.held, x.oldest FROM unnest($1, $2, $3) AS x(id, held, oldest) WHERE x.id = n.task_namespace_id OFFSET 0) u ON true"
    " ORDER BY n.task_namespace_id ON CONFLICT (task_namespace_id) DO UPDATE"
    " SET held_back = excluded.held_back, oldest_finished_at = excluded.oldest_finished_at, passed_at = excluded.passed_at",
    4, {INT4ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID}};

constinit pg::Query trim_fires{
    "DELETE FROM tasker.schedule_fires f USING (SELECT s.schedule_id, x.fire_time FROM tasker.schedule_rows s"
    "   CROSS JOIN LATERAL (SELECT * FROM tasker.task_namespaces y WHERE y.name = s.namespace OFFSET 0) n"
    "   CROSS JOIN LATERAL (SELECT max(y.fire_time) AS fire_time FROM tasker.schedule_fires y WHERE y.schedule_id = s.schedule_id OFFSET 0) l"
    "   CROSS JOIN LATERAL (SELECT y.fire_time FROM tasker.schedule_fires y WHERE y.schedule_id = s.schedule_id AND y.fire_time < $1 AND y.fire_time < l.fire_time AND NOT y.open"
    "     AND NOT EXISTS (SELECT FROM tasker.tasks t WHERE t.task_id = y.task_id) ORDER BY y.fire_time LIMIT $2 OFFSET 0) x"
    "   WHERE n.task_namespace_id = ANY ($3) = $4 LIMIT $2 OFFSET 0) u"
    " WHERE f.schedule_id = u.schedule_id AND f.fire_time = u.fire_time",
    4, {TIMESTAMPTZOID, INT4OID, INT4ARRAYOID, BOOLOID}};
constinit pg::Query trim_breakers{
    "DELETE FROM tasker.breaker_transitions w USING (SELECT b.dependent_system_id, x.sort_key FROM tasker.breakers b"
    "   CROSS JOIN LATERAL (SELECT y.sort_key FROM tasker.breaker_transitions y WHERE y.dependent_system_id = b.dependent_system_id AND y.sort_key < b.moves"
    "     AND y.created_at < $1 ORDER BY y.sort_key LIMIT $2 OFFSET 0) x LIMIT $2 OFFSET 0) u"
    " WHERE w.dependent_system_id = u.dependent_system_id AND w.sort_key = u.sort_key",
    2, {TIMESTAMPTZOID, INT4OID}};

// Removes those of them that nobody holds locked, that are as they were, and that nobody has to decide about; gives these, ascending.
std::vector<std::int64_t> remove_tasks(const std::vector<core::WalkedTask> &tasks) {
  std::vector<std::int64_t> ids;
  for (const core::WalkedTask &task : tasks) ids.push_back(task.task_id);
  const pg::Result locked = pg::execute(lock_finished, pg::Params().datum(id_array(ids)));
  ids.clear();
  for (std::uint64_t i = 0; i < locked.rows.size(); i++) {
    const std::int64_t id = locked.rows.int8(i, 1);
    const auto task = std::find_if(tasks.begin(), tasks.end(), [=](const core::WalkedTask &t) { return t.task_id == id; });
    if (locked.rows.timestamp(i, 2) == *task->finished_at) ids.push_back(id);
  }
  if (ids.empty()) return ids;
  const std::vector<std::int64_t> open = with_open_dead_letter(ids);
  std::erase_if(ids, [&](std::int64_t id) { return std::binary_search(open.begin(), open.end(), id); });
  if (ids.empty()) return ids;
  const Datum array = id_array(ids);
  for (pg::Query *statement : {&summarize, &take_off_tallies, &delete_labels, &delete_keys}) pg::execute(*statement, pg::Params().datum(array));
  for (pg::Query &statement : delete_rows) pg::execute(statement, pg::Params().datum(array));
  TASKER_FAULT("retention.rows_removed");
  pg::execute(delete_tasks, pg::Params().datum(array));
  return ids;
}

std::vector<core::WalkedTask> read_page(std::int64_t after, std::int64_t up_to) {
  const pg::Result found = pg::execute(select_page, pg::Params().int8(after).int8(up_to).int4(kPage));
  const pg::Rows &r = found.rows;
  std::vector<core::WalkedTask> page;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    core::WalkedTask task{r.int8(i, 1), r.timestamp(i, 2), std::nullopt, r.int4(i, 4), r.int4(i, 5)};
    if (const auto at = r.timestamp_or_null(i, 3)) task.finished_at = *at;
    page.push_back(task);
  }
  return page;
}

}  // namespace

core::RetentionRules load_retention_rules() {
  core::RetentionRules rules;
  rules.fallback = settings.retention_s < 0 ? core::kKeepForever : static_cast<std::int64_t>(settings.retention_s) * USECS_PER_SEC;
  const pg::Result found = pg::execute(select_rules, {}, pg::Access::kRead);
  for (std::uint64_t i = 0; i < found.rows.size(); i++)
    rules.by_namespace[found.rows.int4(i, 1)] = found.rows.is_null(i, 2) ? core::kKeepForever : found.rows.int8(i, 2);
  return rules;
}

bool set_retention_rule(int namespace_id, std::optional<std::int64_t> keep, Oid actor) {
  if (!keep) return pg::execute(delete_rule, pg::Params().int4(namespace_id)).processed > 0;
  pg::Params params;
  params.int4(namespace_id);
  if (*keep < 0) params.null();
  else params.float8(static_cast<double>(*keep) / 1e6);
  return pg::execute(upsert_rule, params.oid(actor)).processed > 0;
}

core::WalkStep walk_tasks(std::int64_t position, const core::RetentionRules &rules, TimestampTz now, std::int64_t max_tasks, std::int64_t budget) {
  const TimestampTz begun = GetCurrentTimestamp();
  const std::int64_t last_id = pg::execute(select_last_id).rows.int8(0, 1);
  core::WalkStep step;
  step.position = position;
  std::vector<core::WalkedTask> page;
  std::int64_t page_end = position;
  while (page.empty() && page_end < last_id && (page_end == position || GetCurrentTimestamp() - begun < budget)) {
    step.position = page_end;
    page_end = std::min(page_end + kIdRange, last_id);
    page = read_page(step.position, page_end);
  }
  if (page.empty()) {
    step.position = page_end;
    step.at_end = page_end >= last_id;
    return step;
  }
  const core::PagePlan plan = core::plan_page(page, rules, now);
  if (plan.passed > 0) step.last_seen = page[plan.passed - 1].task_id;
  const bool whole = page.size() < kPage;
  std::size_t next = 0, done = 0;
  bool stopped = false;
  for (auto due = plan.due.begin(); due != plan.due.end();) {
    std::vector<core::WalkedTask> some;
    int steps = 0;
    for (; due != plan.due.end() && some.size() < kTasksAtOnce && steps < kStepsAtOnce && step.removed + static_cast<std::int64_t>(some.size()) < max_tasks; ++due) {
      some.push_back(page[*due]);
      steps += page[*due].steps;
      done = *due + 1;
    }
    const std::vector<std::int64_t> removed = some.empty() ? std::vector<std::int64_t>() : remove_tasks(some);
    step.removed += static_cast<std::int64_t>(removed.size());
    for (; next < done; next++) {
      core::WalkedTask &task = page[next];
      if (std::binary_search(removed.begin(), removed.end(), task.task_id)) continue;
      task.held = std::any_of(some.begin(), some.end(), [&](const core::WalkedTask &t) { return t.task_id == task.task_id; });
      step.left.push_back(task);
    }
    stopped = due != plan.due.end() && (step.removed >= max_tasks || GetCurrentTimestamp() - begun >= budget);
    if (stopped) break;
  }
  if (stopped) {
    step.position = step.last_seen = page[done - 1].task_id;
    return step;
  }
  step.left.insert(step.left.end(), page.begin() + static_cast<std::ptrdiff_t>(next), page.begin() + static_cast<std::ptrdiff_t>(plan.passed));
  step.young.assign(page.begin() + static_cast<std::ptrdiff_t>(plan.passed), page.end());
  if (!step.young.empty()) step.position = std::max(step.position, plan.passed > 0 ? page[plan.passed - 1].task_id : step.position);
  else step.position = whole ? page_end : page.back().task_id;
  step.at_end = step.young.empty() && whole && page_end >= last_id;
  return step;
}

void write_retention_marks(const std::map<int, core::WalkMark> &marks, TimestampTz now) {
  pg::ArrayBuilder ids(INT4OID), held(INT8OID), oldest(TIMESTAMPTZOID);
  for (const auto &[id, mark] : marks) {
    ids.int4(id);
    held.int8(mark.held);
    if (mark.oldest_finished_at) oldest.timestamp(*mark.oldest_finished_at);
    else oldest.null();
  }
  pg::execute(upsert_mark, pg::Params().datum(ids.datum()).datum(held.datum()).datum(oldest.datum()).timestamp(now));
}

bool trim_records(const core::RetentionRules &rules, TimestampTz now) {
  bool more = false;
  const auto run = [&](pg::Query &statement, pg::Params params) { more = pg::execute(statement, params).processed >= kRecordsAtOnce || more; };
  pg::ArrayBuilder with_rule(INT4OID);
  for (const auto &[id, _] : rules.by_namespace) with_rule.int4(id);
  const Datum named = with_rule.datum();
  if (rules.fallback >= 0) {
    run(trim_fires, pg::Params().timestamp(now - rules.fallback).int4(kRecordsAtOnce).datum(named).boolean(false));
    run(trim_breakers, pg::Params().timestamp(now - rules.fallback).int4(kRecordsAtOnce));
  }
  for (const auto &[id, keep] : rules.by_namespace) {
    if (keep < 0) continue;
    pg::ArrayBuilder one(INT4OID);
    one.int4(id);
    run(trim_fires, pg::Params().timestamp(now - keep).int4(kRecordsAtOnce).datum(one.datum()).boolean(true));
  }
  return more;
}

bool keep_from_removal(std::int64_t task_id) { return !pg::execute(lock_shared, pg::Params().int8(task_id)).rows.empty(); }

}  // namespace tasker::store
