#include "api/assessment.hpp"

#include <algorithm>
#include <unordered_map>

#include "api/limited.hpp"
#include "api/running.hpp"
#include "core/utc.hpp"
#include "engine/create.hpp"
#include "pg/security.hpp"
#include "store/breaker_rows.hpp"
#include "store/pauses.hpp"

namespace tasker::api {

namespace {

using core::Blocking;

// Sorted here, not in SQL: an ORDER BY makes an ordered walk through a whole index look cheap to the planner. home has
// one row, read by its key: under OwnerScope a sequential scan has so high a cost that all plans look alike.
constinit pg::Query select_tasks{
    "SELECT t.task_id, t.home, t.named_task_id, t.owner::oid, t.created_by::oid, t.state::text, t.paused, t.run_at,"
    " h.nonce, h.held_reason, h.database_oid, (SELECT " TASKER_SCOPE_NAME " FROM tasker.scope_pauses p"
    "   LEFT JOIN tasker.task_namespaces ps ON ps.task_namespace_id = p.task_namespace_id WHERE " TASKER_SCOPE_HOLDS
    "   ORDER BY p.task_namespace_id IS NOT NULL, p.name IS NOT NULL LIMIT 1)"
    " FROM unnest($1) AS u(task_id) JOIN tasker.tasks t ON t.task_id = u.task_id JOIN tasker.named_tasks n ON n.named_task_id = t.named_task_id"
    " LEFT JOIN tasker.home h ON h.singleton",
    1, {INT8ARRAYOID}};
constinit pg::Query select_steps{
    "SELECT s.task_id, s.step_no, s.state::text, s.moves, s.attempts, s.max_attempts, s.permanent, s.started_at, s.next_attempt_at,"
    " CASE WHEN s.state = 'error' THEN (SELECT w.created_at FROM tasker.step_moves w WHERE w.task_id = s.task_id AND w.step_no = s.step_no"
    "   AND w.element = s.element AND w.to_state = 'error' ORDER BY w.sort_key DESC LIMIT 1) END,"
    " CASE WHEN s.state = 'error' AND jsonb_typeof(s.error #> '{retry,requested_seconds}') = 'number' THEN s.error #>> '{retry,requested_seconds}' END"
    " FROM unnest($1) AS u(task_id) JOIN tasker.workflow_steps s ON s.task_id = u.task_id WHERE s.element = -1",
    1, {INT8ARRAYOID}};

// Who has a step, and until when: a lease, or a timer of a kind.
constinit pg::Query select_awaited{
    "SELECT x.worker, x.until FROM (SELECT l.worker, l.lease_until AS until FROM tasker.leases l"
    "   WHERE $4 = 'lease' AND l.task_id = $1 AND l.step_no = $2 AND l.element = $3"
    " UNION ALL SELECT NULL, m.due_at FROM tasker.timers m WHERE m.task_id = $1 AND m.step_no = $2 AND m.element = $3 AND m.kind = $4 AND $4 <> 'lease') x",
    4, {INT8OID, INT4OID, INT4OID, TEXTOID}};

Datum id_array(const std::vector<std::int64_t> &ids) {
  pg::ArrayBuilder array(INT8OID);
  for (const std::int64_t id : ids) array.int8(id);
  return array.datum();
}

bool dispatcher_holds() {
  if (store::shared == nullptr) return false;
  const store::LockGuard guard(store::shared->registry, LW_SHARED);
  const int index = store::find_database(MyDatabaseId, false);
  return index >= 0 && store::database_slot(index).held;
}

// Why a task may not run in this database; "" when it may. store::load_home's question, but of this very task, and
// under the statement's snapshot. A hold that other tasks cause is known from the dispatcher.
std::string hold_reason(const pg::Rows &r, std::uint64_t i, std::int64_t home_of_task, bool held_by_dispatcher) {
  if (r.is_null(i, 9)) return "the home row is missing: this database was copied without it";
  if (!r.is_null(i, 10)) return r.text(i, 10);
  if (r.oid(i, 11) != MyDatabaseId) return "this database is a copy of another one";
  if (r.int8(i, 9) != home_of_task) return "the task was created in another database";
  return held_by_dispatcher ? "the dispatcher holds this database: see tasker.health_ready()" : "";
}

std::vector<AssessedTask> load_tasks(Viewer &viewer, Datum ids) {
  std::vector<AssessedTask> tasks;
  const pg::Result found = pg::execute(select_tasks, pg::Params().datum(ids), pg::Access::kRead);
  const pg::Rows &r = found.rows;
  const bool held_by_dispatcher = dispatcher_holds();
  for (std::uint64_t i = 0; i < r.size(); i++) {
    store::TaskRow row;
    row.owner = r.oid(i, 4);
    row.created_by = r.oid(i, 5);
    if (!viewer.sees(row.owner, row.created_by)) continue;
    row.task_id = r.int8(i, 1);
    row.home = r.int8(i, 2);
    row.named_task_id = r.int4(i, 3);
    row.state = core::parse_task_state(r.text(i, 6)).value();
    row.paused = r.boolean(i, 7);
    row.run_at = r.timestamp(i, 8);
    AssessedTask &task = tasks.emplace_back();
    task.row = row;
    task.paused_scope = r.text(i, 12);
    task.held = hold_reason(r, i, row.home, held_by_dispatcher);
  }
  std::sort(tasks.begin(), tasks.end(), [](const AssessedTask &a, const AssessedTask &b) { return a.row.task_id < b.row.task_id; });
  return tasks;
}

AssessedStep read_step(const pg::Rows &r, std::uint64_t i) {
  AssessedStep step;
  store::StepRow &row = step.row;
  row.key = {r.int8(i, 1), r.int4(i, 2), -1};
  row.state = core::parse_step_state(r.text(i, 3)).value();
  row.moves = r.int4(i, 4);
  row.attempts = r.int4(i, 5);
  if (!r.is_null(i, 6)) row.max_attempts = r.int4(i, 6);
  row.permanent = r.boolean(i, 7);
  row.started_at = r.timestamp_or_null(i, 8);
  row.next_attempt_at = r.timestamp_or_null(i, 9);
  step.last_failure_at = r.timestamp_or_null(i, 10);
  step.requested_seconds = r.text_or_null(i, 11);
  return step;
}

void load_steps(std::vector<AssessedTask> &tasks) {
  std::vector<std::int64_t> ids;
  for (const AssessedTask &task : tasks) ids.push_back(task.row.task_id);
  const pg::Result found = pg::execute(select_steps, pg::Params().datum(id_array(ids)), pg::Access::kRead);
  std::vector<AssessedStep> steps;
  steps.reserve(found.rows.size());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) steps.push_back(read_step(found.rows, i));
  std::sort(steps.begin(), steps.end(), [](const AssessedStep &a, const AssessedStep &b) { return a.row.key < b.row.key; });
  auto task = tasks.begin();
  for (AssessedStep &step : steps) {
    while (task->row.task_id != step.row.key.task_id) ++task;
    task->steps.push_back(std::move(step));
  }
  for (AssessedTask &each : tasks) each.definition = store::definition(each.row.named_task_id);
  std::erase_if(tasks, [](const AssessedTask &each) {
    if (each.steps.size() != each.definition->steps.size()) return true;
    for (std::size_t i = 0; i < each.steps.size(); i++)
      if (each.steps[i].row.key.step_no != static_cast<int>(i) + 1) return true;
    return false;
  });
}

// The table wins unless memory's run began from this very row.
bool runs_now(const std::vector<RunningStep> &running, const store::StepRow &row) {
  if (row.state != core::StepState::kPending && row.state != core::StepState::kError) return false;
  return std::any_of(running.begin(), running.end(), [&](const RunningStep &r) { return r.key == row.key && r.moves == row.moves; });
}

// Breakers that are not closed, by system: only of systems that these definitions name.
using Breakers = std::unordered_map<int, core::Breaker>;

Breakers load_breakers(const std::vector<AssessedTask> &tasks) {
  std::vector<int> systems;
  for (const AssessedTask &task : tasks)
    for (const store::CompiledStep &step : task.definition->steps)
      if (step.dependent_system_id != 0) systems.push_back(step.dependent_system_id);
  std::sort(systems.begin(), systems.end());
  systems.erase(std::unique(systems.begin(), systems.end()), systems.end());
  Breakers out;
  for (const store::BreakerRow &row : store::troubled_breakers(systems)) out.emplace(row.system, row.breaker);
  return out;
}

// The row says whether the breaker is closed; who the probe of a half-open one is, memory knows.
void apply_breaker(const Breakers &breakers, int system, const store::StepKey &key, TimestampTz now, core::StepFacts &facts) {
  const auto found = system == 0 ? breakers.end() : breakers.find(system);
  if (found == breakers.end()) return;
  if (found->second.state == core::BreakerState::kOpen && found->second.open_until > now) {
    facts.circuit_open = true;
    facts.circuit_until = found->second.open_until;
    return;
  }
  const std::optional<store::BreakerMemory> memory = store::breaker_memory(system);
  facts.circuit_open = memory && memory->breaker.state != core::BreakerState::kClosed && memory->probe.task_id != 0 && !(memory->probe == key);
}

// "worker-3 until 2026-01-31 09:00:00Z", as far as it is known: the rows are the statement's own.
std::string awaited(const store::StepKey &key, const char *kind) {
  const pg::Result found = pg::execute(select_awaited, pg::Params().int8(key.task_id).int4(key.step_no).int4(key.element).text(kind), pg::Access::kRead);
  if (found.rows.empty()) return {};
  const std::string worker = found.rows.text(0, 1);
  const auto until = found.rows.timestamp_or_null(0, 2);
  return worker + (worker.empty() || !until ? "" : " ") + (until ? "until " + core::utc(*until) : "");
}

// A step that is under way, or ready, and whose next move is not the engine's.
void say_what_is_awaited(const store::CompiledStep &step, AssessedStep &assessed) {
  core::Readiness &readiness = assessed.readiness;
  const bool under_way = assessed.row.state == core::StepState::kInProgress;
  if (readiness.ready && step.type == store::HandlerType::kExternal) readiness.reason = Blocking::kUnclaimed;
  if (!under_way) return;
  const auto awaits = [&](Blocking reason, const char *kind) {
    readiness.reason = reason;
    assessed.awaited = awaited(assessed.row.key, kind);
  };
  if (step.type == store::HandlerType::kExternal) awaits(Blocking::kLeased, "lease");
  if (step.type == store::HandlerType::kWait) awaits(Blocking::kTimer, "wait");
  if (step.type == store::HandlerType::kSignal) awaits(Blocking::kSignal, "timeout");
}

void assess(AssessedTask &task, const std::string &connect_problem, const std::vector<RunningStep> &running, const Breakers &breakers) {
  task.now = GetCurrentTimestamp();
  core::TaskFacts facts;
  facts.state = task.row.state;
  facts.paused = task.row.paused || !task.paused_scope.empty();
  facts.run_at = task.row.run_at;
  facts.held = !task.held.empty();
  facts.owner_can_connect = connect_problem.empty();
  task.connect_problem = connect_problem;

  std::vector<core::StepFacts> steps;
  for (AssessedStep &step : task.steps) {
    step.facts = store::step_facts(step.row, task.definition->step(step.row.key.step_no));
    if (runs_now(running, step.row)) step.facts.state = core::StepState::kInProgress;
    apply_breaker(breakers, task.definition->step(step.row.key.step_no).dependent_system_id, step.row.key, task.now, step.facts);
    steps.push_back(step.facts);
  }
  const std::vector<core::Readiness> verdicts = core::assess(task.definition->graph, facts, steps, task.now);
  for (std::size_t i = 0; i < verdicts.size(); i++) {
    task.steps[i].readiness = verdicts[i];
    say_what_is_awaited(task.definition->step(static_cast<int>(i) + 1), task.steps[i]);
  }
}

// "a, b, c and 2 more"
std::string missing_parents(const AssessedTask &task, const AssessedStep &step) {
  constexpr int kListed = 3;
  std::string out;
  int missing = 0;
  for (const int parent : task.definition->step(step.row.key.step_no).parents) {
    if (core::satisfies_children(task.steps[static_cast<std::size_t>(parent - 1)].facts.state)) continue;
    if (++missing <= kListed) out += (missing > 1 ? ", " : "") + task.definition->step(parent).name;
  }
  if (missing > kListed) out += " and " + std::to_string(missing - kListed) + " more";
  return out;
}

}  // namespace

std::string AssessedTask::blocking_reason(const AssessedStep &step) const {
  const core::Readiness &readiness = step.readiness;
  const std::string name = core::to_string(readiness.reason);
  switch (readiness.reason) {
    case Blocking::kParentFailed:
    case Blocking::kParentCancelled: return name + ": " + definition->step(readiness.blocking_step + 1).name;
    case Blocking::kDependencies: return name + ": " + missing_parents(*this, step);
    case Blocking::kRunAt:
    case Blocking::kBackoff: return name + ": until " + core::utc(readiness.ready_at.value());
    case Blocking::kCircuitOpen: {
      const std::string text = name + ": " + definition->step(step.row.key.step_no).dependent_system;
      return readiness.ready_at ? text + " until " + core::utc(*readiness.ready_at) : text;
    }
    case Blocking::kUnclaimed: return name + ": queue " + definition->step(step.row.key.step_no).queue;
    case Blocking::kLeased:
    case Blocking::kTimer:
    case Blocking::kSignal: {
      std::string text = readiness.reason == Blocking::kSignal ? definition->step(step.row.key.step_no).signal_name : "";
      text += (text.empty() || step.awaited.empty() ? "" : " ") + step.awaited;
      return text.empty() ? name : name + ": " + text;
    }
    case Blocking::kConcurrencyLimit:
    case Blocking::kRateLimit: return name + ": " + step.awaited;
    case Blocking::kPaused: return row.paused ? name : name + ": " + paused_scope;
    case Blocking::kHeld: return name + ": " + held;
    case Blocking::kOwnerCannotConnect: return name + ": " + connect_problem;
    default: return name;
  }
}

std::vector<AssessedTask> assess_tasks(Viewer &viewer, const std::vector<std::int64_t> &ids) {
  if (ids.empty()) return {};
  std::vector<AssessedTask> tasks = load_tasks(viewer, id_array(ids));
  if (tasks.empty()) return tasks;
  load_steps(tasks);
  const std::vector<RunningStep> running = running_steps();
  const Breakers breakers = load_breakers(tasks);
  std::unordered_map<Oid, std::string> problems;
  for (AssessedTask &task : tasks) {
    const auto [problem, fresh] = problems.try_emplace(task.row.owner);
    if (fresh) problem->second = engine::connect_problem(task.row.owner);
    assess(task, problem->second, running, breakers);
  }
  say_what_is_limited(tasks);
  return tasks;
}

}  // namespace tasker::api
