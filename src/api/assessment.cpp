#include "api/assessment.hpp"

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "api/running.hpp"
#include "engine/create.hpp"
#include "pg/security.hpp"

namespace tasker::api {

namespace {

using core::Blocking;

// Sorted here, not in SQL: an ORDER BY makes an ordered walk through a whole index look cheap to the planner. home has
// one row, read by its key: under OwnerScope a sequential scan has so high a cost that all plans look alike.
constinit pg::Query select_tasks{
    "SELECT t.task_id, t.home, t.named_task_id, t.owner::oid, t.created_by::oid, t.state::text, t.paused, t.run_at,"
    " h.nonce, h.held_reason, h.database_oid"
    " FROM unnest($1) AS u(task_id) JOIN tasker.tasks t ON t.task_id = u.task_id JOIN tasker.named_tasks n ON n.named_task_id = t.named_task_id"
    " LEFT JOIN tasker.home h ON h.singleton",
    1, {INT8ARRAYOID}};
constinit pg::Query select_steps{
    "SELECT s.task_id, s.step_no, s.state::text, s.moves, s.attempts, s.max_attempts, s.permanent, s.started_at, s.next_attempt_at,"
    " CASE WHEN s.state = 'error' THEN (SELECT w.created_at FROM tasker.workflow_step_transitions w WHERE w.task_id = s.task_id AND w.step_no = s.step_no"
    "   AND w.element = s.element AND w.to_state = 'error' ORDER BY w.sort_key DESC LIMIT 1) END,"
    " CASE WHEN s.state = 'error' AND jsonb_typeof(s.error #> '{retry,requested_seconds}') = 'number' THEN s.error #>> '{retry,requested_seconds}' END"
    " FROM unnest($1) AS u(task_id) JOIN tasker.workflow_steps s ON s.task_id = u.task_id WHERE s.element = -1",
    1, {INT8ARRAYOID}};

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

void assess(AssessedTask &task, const std::string &connect_problem, const std::vector<RunningStep> &running) {
  task.now = GetCurrentTimestamp();
  core::TaskFacts facts;
  facts.state = task.row.state;
  facts.paused = task.row.paused;
  facts.run_at = task.row.run_at;
  facts.held = !task.held.empty();
  facts.owner_can_connect = connect_problem.empty();
  task.connect_problem = connect_problem;

  std::vector<core::StepFacts> steps;
  for (AssessedStep &step : task.steps) {
    step.facts = store::step_facts(step.row, task.definition->step(step.row.key.step_no));
    if (runs_now(running, step.row)) step.facts.state = core::StepState::kInProgress;
    steps.push_back(step.facts);
  }
  const std::vector<core::Readiness> verdicts = core::assess(task.definition->graph, facts, steps, task.now);
  for (std::size_t i = 0; i < verdicts.size(); i++) task.steps[i].readiness = verdicts[i];
}

// 2026-03-12T09:30:00Z
std::string utc(TimestampTz at) {
  using namespace std::chrono;
  constexpr std::int64_t epoch = 946'684'800;  // 2000-01-01, in seconds since 1970
  const sys_seconds whole{seconds(at / USECS_PER_SEC + epoch)};
  const sys_days day = floor<days>(whole);
  const year_month_day date{day};
  const hh_mm_ss time{whole - day};
  char text[40];
  snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
           static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
           static_cast<int>(time.seconds().count()));
  return text;
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
    case Blocking::kBackoff: return name + ": until " + utc(readiness.ready_at.value());
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
  std::unordered_map<Oid, std::string> problems;
  for (AssessedTask &task : tasks) {
    const auto [problem, fresh] = problems.try_emplace(task.row.owner);
    if (fresh) problem->second = engine::connect_problem(task.row.owner);
    assess(task, problem->second, running);
  }
  return tasks;
}

}  // namespace tasker::api
