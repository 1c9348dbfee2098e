#include "insight/diagnose.hpp"

#include <algorithm>

#include "pg/security.hpp"
#include "pg/spi.hpp"
#include "store/definitions.hpp"
#include "store/moves.hpp"
#include "store/pauses.hpp"
#include "store/step_stats.hpp"

namespace tasker::insight {

namespace {

using core::StepCase;
using core::TaskCase;

inline constexpr int kMovesLooked = 15;                                 // the last of a failed step: five attempts with their ways there
inline constexpr int kHistoryRows = 20000;                              // of all steps together
inline constexpr int kFewestHistoryRows = 24, kMostHistoryRows = 1000;  // of one
inline constexpr TimestampTz kDay = 86400 * USECS_PER_SEC;
inline constexpr int kTextLimit = 300;  // characters of a message

constinit pg::Query select_task{
    "SELECT t.created_at, t.finished_at, t.deadline_at, pg_catalog.left(t.error, $2), n.retired_at IS NOT NULL FROM tasker.tasks t"
    " JOIN tasker.named_tasks n ON n.named_task_id = t.named_task_id WHERE t.task_id = $1",
    2,
    {INT8OID, INT4OID}};
constinit pg::Query select_task_moves{
    "SELECT w.to_state::text, w.metadata ->> 'actor', pg_catalog.left(w.metadata ->> 'reason', $2), coalesce(w.metadata ->> 'cause', ''), w.created_at"
    " FROM " TASKER_TASK_MOVES " w WHERE w.task_id = $1 ORDER BY w.sort_key DESC LIMIT 20",
    2,
    {INT8OID, INT4OID}};
constinit pg::Query select_steps{
    "SELECT s.step_no, s.crashes, s.moves, s.finished_at FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.element = -1", 1, {INT8OID}};

// The last move of each of these steps.
constinit pg::Query select_last_moves{
    "SELECT u.step_no, w.metadata ->> 'actor', pg_catalog.left(w.metadata ->> 'reason', $3), w.created_at FROM unnest($2) AS u(step_no)"
    " CROSS JOIN LATERAL (SELECT * FROM " TASKER_STEP_MOVES " x WHERE x.task_id = $1 AND x.step_no = u.step_no AND x.element = -1"
    "   ORDER BY x.sort_key DESC LIMIT 1) w",
    3,
    {INT8OID, INT4ARRAYOID, INT4OID}};
constinit pg::Query select_failures{
    "SELECT u.step_no, (w.metadata #>> '{error,attempt}')::integer, w.metadata #>> '{error,sqlstate}', pg_catalog.left(w.metadata #>> '{error,message}', $4),"
    " w.metadata #>> '{error,category}', w.created_at, coalesce(w.metadata ->> 'cause' = 'deadline', false) FROM unnest($2) AS u(step_no)"
    " CROSS JOIN LATERAL (SELECT * FROM " TASKER_STEP_MOVES " x WHERE x.task_id = $1 AND x.step_no = u.step_no AND x.element = -1"
    "   ORDER BY x.sort_key DESC LIMIT $3) w"
    " WHERE w.to_state = 'error' AND pg_catalog.jsonb_typeof(w.metadata #> '{error,attempt}') = 'number' ORDER BY u.step_no, w.sort_key DESC",
    4,
    {INT8OID, INT4ARRAYOID, INT8OID, INT4OID}};
// Counts as floating point: their sums are much quicker than those of bigint, and as exact.
constinit pg::Query select_history{
    "SELECT u.step_no, pg_catalog.sum(h.attempts::float8) FILTER (WHERE h.hour >= $4), pg_catalog.sum(h.successes::float8) FILTER (WHERE h.hour >= $4),"
    " pg_catalog.sum(h.attempts::float8), pg_catalog.sum(h.successes::float8), pg_catalog.sum(h.attempts::float8) FILTER (WHERE h.attempt > 1),"
    " pg_catalog.sum(h.successes::float8) FILTER (WHERE h.attempt > 1), pg_catalog.max(h.max_ms)"
    " FROM unnest($2) AS u(step_no) CROSS JOIN LATERAL (SELECT * FROM tasker.step_history x WHERE x.named_task_id = $1 AND x.step_no = u.step_no"
    "   AND x.hour >= $5 ORDER BY x.hour DESC, x.attempt DESC LIMIT $3) h GROUP BY u.step_no",
    5,
    {INT4OID, INT4ARRAYOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
// A writer that has not ended yet stands in the row's xmax. Our own workers hold it for moments only.
constinit pg::Query select_lock{
    "SELECT coalesce(l.pid, 0), coalesce(a.xact_start, q.prepared, pg_catalog.clock_timestamp()), coalesce(l.pid = pg_catalog.pg_backend_pid(), false), q.gid"
    " FROM tasker.tasks t CROSS JOIN LATERAL (SELECT x.pid FROM pg_catalog.pg_locks x WHERE x.locktype = 'transactionid' AND x.transactionid = t.xmax"
    "   AND x.granted AND x.mode = 'ExclusiveLock' LIMIT 1) l"
    " LEFT JOIN LATERAL (SELECT g.xact_start, g.backend_type FROM pg_catalog.pg_stat_get_activity(coalesce(l.pid, 0)) g) a ON true"
    " LEFT JOIN LATERAL (SELECT p.gid, p.prepared FROM pg_catalog.pg_prepared_xact() p WHERE p.transaction = t.xmax) q ON l.pid IS NULL"
    " WHERE t.task_id = $1 AND coalesce(a.backend_type NOT LIKE 'tasker%', true)",
    1,
    {INT8OID}};
constinit pg::Query select_waits{
    "SELECT a.pid, a.wait_event_type, a.wait_event, pg_catalog.pg_blocking_pids(a.pid) FROM unnest($1) AS u(pid) CROSS JOIN LATERAL "
    "pg_catalog.pg_stat_get_activity(u.pid) a",
    1,
    {INT4ARRAYOID}};

// The order that readiness names: the widest.
constinit pg::Query select_pause{
    "SELECT p.paused_by::oid, pg_catalog.left(p.reason, $2), p.paused_at FROM tasker.named_tasks n CROSS JOIN tasker.scope_pauses p"
    " WHERE n.named_task_id = $1 AND " TASKER_SCOPE_HOLDS " ORDER BY p.task_namespace_id IS NOT NULL, p.name IS NOT NULL LIMIT 1",
    2,
    {INT4OID, INT4OID}};
constinit pg::Query select_breakers{
    "SELECT b.dependent_system_id, d.name, b.state, b.failures, b.by_hand, b.actor, pg_catalog.left(b.reason, $2), b.opened_at,"
    " CASE WHEN pg_catalog.isfinite(b.open_until) THEN b.open_until END FROM unnest($1) AS u(id)"
    " JOIN tasker.breakers b ON b.dependent_system_id = u.id JOIN tasker.dependent_systems d ON d.dependent_system_id = u.id",
    2,
    {INT4ARRAYOID, INT4OID}};

bool wanted(const Subject &subject, int step_no) { return subject.only_step == 0 || subject.only_step == step_no; }
bool failed(const StepCase &step) { return step.facts.state == core::StepState::kError; }
bool moved_by_hand(const StepCase &step) {
  return step.facts.state == core::StepState::kCancelled || step.facts.state == core::StepState::kSkipped ||
         step.facts.state == core::StepState::kResolvedManually;
}

// The numbers of the wanted steps that `pick` picks.
template <typename Predicate>
std::vector<int> pick_steps(const TaskCase &task, const Subject &subject, Predicate pick) {
  std::vector<int> out;
  for (int step_no = 1; step_no <= static_cast<int>(task.steps.size()); step_no++)
    if (wanted(subject, step_no) && pick(task.steps[static_cast<std::size_t>(step_no - 1)])) out.push_back(step_no);
  return out;
}

Datum array_of(const std::vector<int> &numbers) {
  pg::ArrayBuilder array(INT4OID);
  for (const int number : numbers) array.int4(number);
  return array.datum();
}

StepCase &step_of(TaskCase &task, int step_no) { return task.steps.at(static_cast<std::size_t>(step_no - 1)); }

core::SuccessHistory history_of(const pg::Rows &r, std::uint64_t i, int column) {
  const auto number = [&](int n) { return r.is_null(i, n) ? 0 : static_cast<std::int64_t>(r.float8(i, n)); };
  return {number(column), number(column + 1)};
}

void read_task(TaskCase &task, const Subject &subject) {
  const pg::Result row = pg::execute(select_task, pg::Params().int8(subject.task_id).int4(kTextLimit), pg::Access::kRead);
  if (row.rows.empty()) return;  // gone since the steps were read
  task.created_at = row.rows.timestamp_or_null(0, 1);
  task.finished_at = row.rows.timestamp_or_null(0, 2);
  task.deadline_at = row.rows.timestamp_or_null(0, 3);
  task.error = row.rows.text(0, 4);
  task.retired = row.rows.boolean(0, 5);
}

// Who paused it, who ended it; gives the time of the last move.
core::Moment read_task_moves(TaskCase &task, const Subject &subject) {
  const pg::Result moves = pg::execute(select_task_moves, pg::Params().int8(subject.task_id).int4(kTextLimit), pg::Access::kRead);
  const pg::Rows &r = moves.rows;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    const core::Mover mover{r.text(i, 2), r.text(i, 3), r.timestamp(i, 5)};
    if (i == 0) task.ended_by = mover;
    if (!task.paused_by && r.text(i, 4).starts_with("paused")) task.paused_by = mover;
  }
  return r.empty() ? task.facts.run_at : r.timestamp(0, 5);
}

void read_last_moves(TaskCase &task, const Subject &subject, const std::vector<int> &steps) {
  if (steps.empty()) return;
  const pg::Result moves = pg::execute(select_last_moves, pg::Params().int8(subject.task_id).datum(array_of(steps)).int4(kTextLimit), pg::Access::kRead);
  for (std::uint64_t i = 0; i < moves.rows.size(); i++) {
    StepCase &step = step_of(task, moves.rows.int4(i, 1));
    if (moved_by_hand(step))
      step.mover = core::Mover{moves.rows.text(i, 2), moves.rows.text(i, 3), moves.rows.timestamp(i, 4)};
    else
      step.ready_since = std::max(step.ready_since.value_or(moves.rows.timestamp(i, 4)), moves.rows.timestamp(i, 4));
  }
}

// A ready step is so since the last of: its parents' ends, its own and its task's last moves, the times it waited for.
void read_steps(TaskCase &task, const Subject &subject, core::Moment task_moved) {
  const pg::Result rows = pg::execute(select_steps, pg::Params().int8(subject.task_id), pg::Access::kRead);
  std::vector<std::optional<TimestampTz>> ended(task.steps.size());
  std::vector<int> look;
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    const int step_no = rows.rows.int4(i, 1);
    if (step_no < 1 || step_no > static_cast<int>(task.steps.size())) continue;
    StepCase &step = step_of(task, step_no);
    step.crashes = rows.rows.int4(i, 2);
    ended[static_cast<std::size_t>(step_no - 1)] = rows.rows.timestamp_or_null(i, 4);
    if (wanted(subject, step_no) && rows.rows.int4(i, 3) > 0 && (step.readiness.ready || moved_by_hand(step))) look.push_back(step_no);
  }
  for (const int step_no : pick_steps(task, subject, [](const StepCase &step) { return step.readiness.ready; })) {
    StepCase &step = step_of(task, step_no);
    core::Moment since = std::max(task_moved, task.facts.run_at);
    if (step.facts.next_attempt_at) since = std::max(since, *step.facts.next_attempt_at);
    for (const int parent : task.graph->parents(step_no - 1)) since = std::max(since, ended[static_cast<std::size_t>(parent)].value_or(since));
    step.ready_since = since;
  }
  // All steps of a cancelled task were cancelled with it: one has been told of the task.
  if (subject.only_step == 0 && (task.facts.state == core::TaskState::kCancelled || task.facts.state == core::TaskState::kResolvedManually)) return;
  std::sort(look.begin(), look.end());
  read_last_moves(task, subject, look);
}

void read_failures(TaskCase &task, const Subject &subject, const std::vector<int> &steps) {
  const pg::Result rows =
      pg::execute(select_failures, pg::Params().int8(subject.task_id).datum(array_of(steps)).int8(kMovesLooked).int4(kTextLimit), pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    StepCase &step = step_of(task, rows.rows.int4(i, 1));
    // Numbers go down by one from the attempts made; what is beyond belongs to an earlier generation, or to the time before a reset.
    if (rows.rows.int4(i, 2) != step.facts.attempts - static_cast<int>(step.failures.size())) continue;
    step.failures.push_back(
        {rows.rows.int4(i, 2), rows.rows.text(i, 3), rows.rows.text(i, 4), rows.rows.text(i, 5), rows.rows.timestamp(i, 6), rows.rows.boolean(i, 7)});
  }
}

void read_history(TaskCase &task, const Subject &subject, const std::vector<int> &steps) {
  const int limit = std::clamp(kHistoryRows / static_cast<int>(steps.size()), kFewestHistoryRows, kMostHistoryRows);
  pg::Params params = pg::Params().int4(subject.named_task_id).datum(array_of(steps)).int8(limit).timestamp(task.now - kDay).timestamp(task.now - 7 * kDay);
  const pg::Result rows = pg::execute(select_history, params, pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    core::StepOutcomes &outcomes = step_of(task, rows.rows.int4(i, 1)).outcomes;
    outcomes.day = history_of(rows.rows, i, 2);
    outcomes.week = history_of(rows.rows, i, 4);
    outcomes.later = history_of(rows.rows, i, 6);
    outcomes.max_ms = rows.rows.is_null(i, 8) ? 0 : rows.rows.float8(i, 8);
  }
}

// Successes are not told from failures in memory; what took as long as the timeout was none.
void read_memory(TaskCase &task, const Subject &subject, const std::vector<int> &steps) {
  const store::DefinitionPtr definition = store::definition(subject.named_task_id);
  for (const int step_no : steps) {
    StepCase &step = step_of(task, step_no);
    const core::Learner &learner = definition->step(step_no).learner;
    step.outcomes.recent = store::recent_first_attempts(subject.named_task_id, learner);
    const store::StepDurations measured = store::step_durations(subject.named_task_id, learner, step.timeout_ms);
    step.durations = {measured.runs, measured.p95_ms, measured.max_ms};
  }
}

void read_waits(TaskCase &task, const std::vector<int> &steps) {
  std::vector<int> pids;
  for (const int step_no : steps) pids.push_back(step_of(task, step_no).running->pid);
  const pg::Result rows = pg::execute(select_waits, pg::Params().datum(array_of(pids)), pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    const auto at = std::find(pids.begin(), pids.end(), rows.rows.int4(i, 1));
    if (at == pids.end()) continue;
    core::RunningCase &running = *step_of(task, steps[static_cast<std::size_t>(at - pids.begin())]).running;
    if (!rows.rows.is_null(i, 2)) running.waits_for = rows.rows.text(i, 2) + ": " + rows.rows.text(i, 3);
    running.blocked_by = rows.rows.int4s(i, 4);
  }
}

void read_pause(TaskCase &task, const Subject &subject) {
  const pg::Result row = pg::execute(select_pause, pg::Params().int4(subject.named_task_id).int4(kTextLimit), pg::Access::kRead);
  if (!row.rows.empty()) task.paused_by = core::Mover{pg::role_name(row.rows.oid(0, 1)), row.rows.text(0, 2), row.rows.timestamp(0, 3)};
}

void read_breakers(TaskCase &task, const std::vector<int> &steps) {
  std::vector<int> systems;
  for (const int step_no : steps) systems.push_back(step_of(task, step_no).dependent_system_id);
  std::sort(systems.begin(), systems.end());
  systems.erase(std::unique(systems.begin(), systems.end()), systems.end());
  const pg::Result rows = pg::execute(select_breakers, pg::Params().datum(array_of(systems)).int4(kTextLimit), pg::Access::kRead);
  const pg::Rows &r = rows.rows;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    const core::BreakerCase breaker{
        r.text(i, 2), r.text(i, 3), r.int4(i, 4), r.boolean(i, 5), r.text(i, 6), r.text(i, 7), r.timestamp_or_null(i, 8), r.timestamp_or_null(i, 9)};
    for (const int step_no : steps)
      if (step_of(task, step_no).dependent_system_id == r.int4(i, 1)) step_of(task, step_no).breaker = breaker;
  }
}

void read_lock(TaskCase &task, const Subject &subject) {
  const pg::Result rows = pg::execute(select_lock, pg::Params().int8(subject.task_id), pg::Access::kRead);
  if (!rows.rows.empty()) task.lock = core::LockCase{rows.rows.int4(0, 1), rows.rows.text(0, 4), rows.rows.timestamp(0, 2), rows.rows.boolean(0, 3)};
}

}  // namespace

void observe(TaskCase &task, const Subject &subject) {
  read_task(task, subject);
  read_steps(task, subject, read_task_moves(task, subject));
  if (const std::vector<int> steps = pick_steps(task, subject, failed); !steps.empty()) {
    read_failures(task, subject, steps);
    read_history(task, subject, steps);
    read_memory(task, subject, steps);
  }
  if (const std::vector<int> steps = pick_steps(task, subject, [](const StepCase &step) { return step.running.has_value(); }); !steps.empty()) {
    read_memory(task, subject, steps);
    read_waits(task, steps);
  }
  const auto waits_for = [&](core::Blocking reason) {
    return pick_steps(task, subject, [=](const StepCase &step) { return step.readiness.reason == reason; });
  };
  if (!task.facts.paused && !waits_for(core::Blocking::kPaused).empty()) read_pause(task, subject);
  if (const std::vector<int> steps = waits_for(core::Blocking::kCircuitOpen); !steps.empty()) read_breakers(task, steps);
  task.server = look_at_server(subject.task_id, !core::finished(task.facts.state));
  if (!pick_steps(task, subject, [](const StepCase &step) { return step.readiness.ready; }).empty()) look_at_queues(task);
  if (!core::finished(task.facts.state)) read_lock(task, subject);
}

}  // namespace tasker::insight
