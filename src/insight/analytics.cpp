#include "insight/analytics.hpp"

#include <algorithm>
#include <utility>

#include "core/state.hpp"
#include "store/step_history.hpp"

namespace tasker::insight {

namespace {

constinit pg::Query select_definitions{
    "SELECT n.named_task_id, s.name, n.name, n.version FROM tasker.named_tasks n"
    " CROSS JOIN LATERAL (SELECT x.name FROM tasker.task_namespaces x WHERE x.task_namespace_id = n.task_namespace_id OFFSET 0) s"
    " WHERE ($1 IS NULL OR s.name = $1) AND ($2 IS NULL OR n.name = $2) AND ($3 IS NULL OR n.version = $3)",
    3, {TEXTOID, TEXTOID, TEXTOID}};

constinit pg::Query select_task_hours{
    "SELECT h.hour, h.state::text, h.tasks, h.started, h.total_ms, h.max_ms, h.buckets, h.counts FROM tasker.task_outcomes h"
    " WHERE h.hour >= $1 AND h.hour < $2 AND h.named_task_id = ANY ($3)",
    3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4ARRAYOID}};

constinit pg::Query select_step_hours{
    "SELECT h.hour, h.named_task_id, h.step_no, h.attempt, h.attempts, h.successes, h.total_ms, h.max_ms, h.buckets, h.counts FROM tasker.step_history h"
    " WHERE h.hour >= $1 AND h.hour < $2 AND h.named_task_id = ANY ($3)",
    3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4ARRAYOID}};

constinit pg::Query select_step_names{"SELECT d.named_task_id, d.step_no, d.name FROM tasker.named_steps d WHERE d.named_task_id = ANY ($1)", 1, {INT4ARRAYOID}};

constinit pg::Query count_active{"SELECT count(*) FROM tasker.tasks t WHERE t.live AND t.named_task_id = ANY ($1)", 1, {INT4ARRAYOID}};

constinit pg::Query select_extent{
    "SELECT count(DISTINCT n.task_namespace_id), count(*) FROM ("
    "   SELECT y.named_task_id FROM tasker.tallies y GROUP BY y.named_task_id"
    "     HAVING sum(y.tasks_complete + y.tasks_error + y.tasks_cancelled + y.tasks_resolved_manually) > 0"
    "   UNION SELECT t.named_task_id FROM tasker.tasks t WHERE t.live) u"
    " CROSS JOIN LATERAL (SELECT x.task_namespace_id FROM tasker.named_tasks x WHERE x.named_task_id = u.named_task_id OFFSET 0) n",
    0, {}};

// The lists name candidates in the order of what was measured; the moves say what it was.
constinit pg::Query select_slow_steps{
    "SELECT c.task_id, c.named_task_id, d.name, d.retryable, s.state::text, s.attempts, r.attempt, r.started_at, r.completed_at"
    " FROM (SELECT x.task_id, x.ms, h.named_task_id, h.step_no FROM tasker.step_history h CROSS JOIN LATERAL unnest(h.slow_tasks, h.slow_ms) x(task_id, ms)"
    "   WHERE h.hour >= $1 AND h.named_task_id = ANY ($2) ORDER BY x.ms DESC, x.task_id OFFSET 0) c"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.named_steps y WHERE y.named_task_id = c.named_task_id AND y.step_no = c.step_no OFFSET 0) d"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.workflow_steps y WHERE y.task_id = c.task_id AND y.step_no = c.step_no AND y.element = -1 OFFSET 0) s"
    " CROSS JOIN LATERAL (SELECT b.attempt, b.begun_at AS started_at, w.created_at AS completed_at"
    "   FROM " TASKER_STEP_MOVES " w CROSS JOIN LATERAL (" TASKER_BEGINNING_OF("w") ") b"
    "   WHERE w.task_id = c.task_id AND w.step_no = c.step_no AND w.element = -1 AND w.to_state = 'complete'"
    "   ORDER BY abs(extract(epoch FROM w.created_at - b.begun_at)::float8 * 1000 - c.ms) LIMIT 1) r"
    " ORDER BY c.ms DESC, c.task_id LIMIT $3",
    3, {TIMESTAMPTZOID, INT4ARRAYOID, INT4OID}};

constinit pg::Query select_slow_tasks{
    "SELECT c.task_id, c.named_task_id, r.state::text, t.created_at, r.started_at, r.ended_at, s.steps, s.complete, s.error, t.initiator, t.source_system"
    " FROM (SELECT x.task_id, x.ms, h.named_task_id, h.state FROM tasker.task_outcomes h CROSS JOIN LATERAL unnest(h.slow_tasks, h.slow_ms) x(task_id, ms)"
    "   WHERE h.hour >= $1 AND h.named_task_id = ANY ($2) ORDER BY x.ms DESC, x.task_id OFFSET 0) c"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.tasks y WHERE y.task_id = c.task_id OFFSET 0) t"
    " CROSS JOIN LATERAL (SELECT w.to_state AS state, p.started_at, w.created_at AS ended_at"
    "   FROM " TASKER_TASK_MOVES " w CROSS JOIN LATERAL (SELECT " TASKER_FIRST_START("y") " AS started_at FROM " TASKER_TASK_MOVES " y WHERE y.task_id = c.task_id OFFSET 0) p"
    "   WHERE w.task_id = c.task_id AND w.to_state = c.state ORDER BY abs(extract(epoch FROM w.created_at - p.started_at)::float8 * 1000 - c.ms) LIMIT 1) r"
    " CROSS JOIN LATERAL (SELECT count(*) AS steps, count(*) FILTER (WHERE y.state = 'complete') AS complete, count(*) FILTER (WHERE y.state = 'error') AS error"
    "   FROM tasker.workflow_steps y WHERE y.task_id = c.task_id OFFSET 0) s"
    " ORDER BY c.ms DESC, c.task_id LIMIT $3",
    3, {TIMESTAMPTZOID, INT4ARRAYOID, INT4OID}};

Datum ids_of(const Definitions &definitions) {
  pg::ArrayBuilder ids(INT4OID);
  for (const auto &[id, _] : definitions) ids.int4(id);
  return ids.datum();
}

// total_ms, max_ms, buckets, counts, from this column on.
void add_durations(core::Durations &to, std::int64_t count, const pg::Rows &r, std::uint64_t row, int column) {
  to.count += count;
  to.total_ms += r.float8(row, column);
  to.max_ms = std::max(to.max_ms, r.float8(row, column + 1));
  const std::vector<std::int32_t> buckets = r.int4s(row, column + 2), counts = r.int4s(row, column + 3);
  for (std::size_t i = 0; i < std::min(buckets.size(), counts.size()); i++) to.add(buckets[i], counts[i]);
}

void add_tasks(core::TaskCounts &to, const pg::Rows &r, std::uint64_t row) {
  const std::int64_t tasks = r.int8(row, 3);
  switch (core::parse_task_state(r.text(row, 2)).value_or(core::TaskState::kInProgress)) {
    case core::TaskState::kPending: to.created += tasks; break;
    case core::TaskState::kInProgress: break;
    case core::TaskState::kComplete:
      to.complete += tasks;
      add_durations(to.complete_durations, r.int8(row, 4), r, row, 5);
      break;
    case core::TaskState::kError: to.error += tasks; break;
    case core::TaskState::kCancelled: to.cancelled += tasks; break;
    case core::TaskState::kResolvedManually: to.resolved += tasks; break;
  }
}

void add_steps(core::StepCounts &to, const pg::Rows &r, std::uint64_t row) {
  to.attempts += r.int8(row, 5);
  to.successes += r.int8(row, 6);
  if (r.int4(row, 4) > 1) to.late_successes += r.int8(row, 6);
  add_durations(to.durations, r.int8(row, 6), r, row, 7);
}

pg::Result read(pg::Query &query, const Definitions &definitions, TimestampTz from, TimestampTz to) {
  return pg::execute(query, pg::Params().timestamp(hour_of(from)).timestamp(end_of_hour(to)).datum(ids_of(definitions)), pg::Access::kRead);
}

}  // namespace

TimestampTz hour_of(TimestampTz moment) {
  const TimestampTz rest = moment % store::kHistoryHour;
  return moment - (rest < 0 ? rest + store::kHistoryHour : rest);
}

TimestampTz end_of_hour(TimestampTz moment) { return hour_of(moment) == moment ? moment : hour_of(moment) + store::kHistoryHour; }

Definitions find_definitions(const DefinitionFilter &filter) {
  const pg::Result found = pg::execute(select_definitions, pg::Params().text_or_null(filter.ns).text_or_null(filter.name).text_or_null(filter.version), pg::Access::kRead);
  Definitions out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out[found.rows.int4(i, 1)] = {found.rows.text(i, 2), found.rows.text(i, 3), found.rows.text(i, 4)};
  return out;
}

core::PeriodProfile read_period(const Definitions &definitions, TimestampTz from, TimestampTz to) {
  core::PeriodProfile out;
  out.from = hour_of(from);
  out.to = std::max(out.from + 1, std::min(end_of_hour(to), GetCurrentTimestamp()));
  std::map<TimestampTz, core::HourProfile> hours;
  const pg::Result tasks = read(select_task_hours, definitions, from, to);
  for (std::uint64_t i = 0; i < tasks.rows.size(); i++) add_tasks(hours[tasks.rows.timestamp(i, 1)].tasks, tasks.rows, i);
  const pg::Result steps = read(select_step_hours, definitions, from, to);
  for (std::uint64_t i = 0; i < steps.rows.size(); i++) add_steps(hours[steps.rows.timestamp(i, 1)].steps, steps.rows, i);
  for (auto &[hour, profile] : hours) {
    profile.hour = hour;
    out.tasks.add(profile.tasks);
    out.steps.add(profile.steps);
    out.hours.push_back(profile);
  }
  return out;
}

std::vector<core::StepPerformance> read_step_profiles(const Definitions &definitions, TimestampTz from, TimestampTz to) {
  std::map<std::pair<int, int>, core::StepCounts> counts;
  const pg::Result steps = read(select_step_hours, definitions, from, to);
  for (std::uint64_t i = 0; i < steps.rows.size(); i++) add_steps(counts[{steps.rows.int4(i, 2), steps.rows.int4(i, 3)}], steps.rows, i);
  pg::ArrayBuilder ids(INT4OID);
  int last = 0;
  for (const auto &[key, _] : counts)
    if (key.first != std::exchange(last, key.first)) ids.int4(key.first);
  const pg::Result names = pg::execute(select_step_names, pg::Params().datum(ids.datum()), pg::Access::kRead);
  std::vector<core::StepPerformance> out;
  for (std::uint64_t i = 0; i < names.rows.size(); i++) {
    const auto found = counts.find({names.rows.int4(i, 1), names.rows.int4(i, 2)});
    if (found == counts.end()) continue;
    const Definition &definition = definitions.at(found->first.first);
    out.push_back({definition.ns, definition.name, definition.version, names.rows.text(i, 3), found->second});
  }
  return out;
}

std::int64_t count_active_tasks(const Definitions &definitions) {
  return pg::execute(count_active, pg::Params().datum(ids_of(definitions)), pg::Access::kRead).rows.int8(0, 1);
}

Extent count_extent() {
  const pg::Result found = pg::execute(select_extent, {}, pg::Access::kRead);
  return {found.rows.int8(0, 1), found.rows.int8(0, 2)};
}

std::vector<SlowStep> slowest_steps(const Definitions &definitions, TimestampTz from, int limit) {
  const pg::Result found =
      pg::execute(select_slow_steps, pg::Params().timestamp(hour_of(from)).datum(ids_of(definitions)).int4(limit), pg::Access::kRead);
  const pg::Rows &r = found.rows;
  std::vector<SlowStep> out;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    const Definition &definition = definitions.at(r.int4(i, 2));
    out.push_back({r.int8(i, 1), r.text(i, 3), definition.ns, definition.name, definition.version, r.text(i, 5), r.timestamp(i, 8), r.timestamp(i, 9),
                   r.int4(i, 7), r.int4(i, 6), r.boolean(i, 4)});
  }
  return out;
}

std::vector<SlowTask> slowest_tasks(const Definitions &definitions, TimestampTz from, int limit) {
  const pg::Result found =
      pg::execute(select_slow_tasks, pg::Params().timestamp(hour_of(from)).datum(ids_of(definitions)).int4(limit), pg::Access::kRead);
  const pg::Rows &r = found.rows;
  std::vector<SlowTask> out;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    const Definition &definition = definitions.at(r.int4(i, 2));
    out.push_back({r.int8(i, 1), definition.ns, definition.name, definition.version, r.text(i, 3), r.timestamp(i, 4), r.timestamp(i, 5), r.timestamp(i, 6),
                   r.int8(i, 7), r.int8(i, 8), r.int8(i, 9), r.text_or_null(i, 10), r.text_or_null(i, 11)});
  }
  return out;
}

}  // namespace tasker::insight
