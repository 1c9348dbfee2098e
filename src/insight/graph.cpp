#include "insight/graph.hpp"

#include <algorithm>
#include <unordered_map>

#include "core/json.hpp"
#include "pg/spi.hpp"
#include "store/step_stats.hpp"

namespace tasker::insight {

namespace {

// Limits stand in the innermost query: the walk ends at the first of them, whatever the table holds.
constinit pg::Query select_runs{
    "SELECT t.task_id, greatest(t.run_at, t.created_at) FROM (SELECT x.task_id, x.named_task_id, x.state, x.run_at, x.created_at FROM tasker.tasks x"
    "   ORDER BY x.task_id DESC LIMIT $2) t WHERE t.named_task_id = $1 AND t.state = 'complete' LIMIT $3",
    3,
    {INT4OID, INT8OID, INT8OID}};
constinit pg::Query select_run_steps{
    "SELECT s.task_id, s.step_no, s.started_at, s.finished_at, s.state = 'skipped', s.generation > 0 FROM unnest($1) AS u(task_id) CROSS JOIN LATERAL"
    " (SELECT x.task_id, x.step_no, x.started_at, x.finished_at, x.state, x.generation FROM tasker.workflow_steps x"
    "   WHERE x.task_id = u.task_id AND x.element = -1 OFFSET 0) s",
    1,
    {INT8ARRAYOID}};
constinit pg::Query select_history{
    "SELECT u.step_no, pg_catalog.sum(h.attempts::float8), pg_catalog.sum(h.successes::float8), pg_catalog.sum(h.total_ms), pg_catalog.max(h.max_ms)"
    " FROM generate_series(1, $2) AS u(step_no) CROSS JOIN LATERAL (SELECT * FROM tasker.step_history x WHERE x.named_task_id = $1 AND x.step_no = u.step_no"
    "   ORDER BY x.hour DESC, x.attempt DESC LIMIT $3) h GROUP BY u.step_no",
    3,
    {INT4OID, INT4OID, INT8OID}};
constinit pg::Query select_descriptions{
    "SELECT s.step_no, s.description FROM tasker.named_steps s WHERE s.named_task_id = $1 AND s.description IS NOT NULL", 1, {INT4OID}};
constinit pg::Query select_task{"SELECT greatest(t.run_at, t.created_at), t.finished_at FROM tasker.tasks t WHERE t.task_id = $1", 1, {INT8OID}};
constinit pg::Query select_task_steps{
    "SELECT s.step_no, s.started_at, s.finished_at FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.element = -1", 1, {INT8OID}};
constinit pg::Query select_timers{"SELECT m.step_no, m.due_at FROM tasker.timers m WHERE m.task_id = $1 AND m.element = -1 AND m.kind = 'wait'", 1, {INT8OID}};

core::Micros micros(double milliseconds) { return static_cast<core::Micros>(milliseconds * 1000); }

bool known(const store::CompiledDefinition &definition, int step_no) { return step_no >= 1 && step_no <= static_cast<int>(definition.steps.size()); }

struct Run {
  core::Micros begun_at = 0;
  std::vector<core::PastStep> steps;
  std::size_t rows = 0;
  bool rerun = false;
};

std::vector<core::PastRun> read_runs(const store::CompiledDefinition &definition) {
  const int steps = static_cast<int>(definition.steps.size());
  const int most = std::clamp(kMostStepRows / std::max(steps, 1), 1, kMostRuns);
  const pg::Result tasks = pg::execute(select_runs, pg::Params().int4(definition.named_task_id).int8(kTasksWalked).int8(most), pg::Access::kRead);
  std::unordered_map<std::int64_t, std::size_t> place;
  std::vector<Run> runs;
  pg::ArrayBuilder ids(INT8OID);
  for (std::uint64_t i = 0; i < tasks.rows.size(); i++) {
    place.emplace(tasks.rows.int8(i, 1), runs.size());
    runs.push_back({tasks.rows.timestamp(i, 2), std::vector<core::PastStep>(definition.steps.size()), 0, false});
    ids.int8(tasks.rows.int8(i, 1));
  }
  std::vector<core::PastRun> out;
  if (runs.empty()) return out;
  const pg::Result rows = pg::execute(select_run_steps, pg::Params().datum(ids.datum()), pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    Run &run = runs[place.at(rows.rows.int8(i, 1))];
    const int step_no = rows.rows.int4(i, 2);
    if (!known(definition, step_no)) continue;
    run.steps[static_cast<std::size_t>(step_no - 1)] = {rows.rows.timestamp_or_null(i, 3), rows.rows.timestamp_or_null(i, 4), rows.rows.boolean(i, 5)};
    run.rows++;
    run.rerun = run.rerun || rows.rows.boolean(i, 6);
  }
  // The time between an end and a rerun is nobody's duration.
  for (const Run &run : runs)
    if (!run.rerun && run.rows == definition.steps.size()) out.push_back(core::past_run(definition.graph, run.begun_at, run.steps));
  return out;
}

// Of an even number the lower, as percentile_disc has it: a duration that was really seen. Precondition: not empty.
core::Micros median(std::vector<core::Micros> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void measure_by_runs(GraphHistory &history) {
  if (history.runs.empty()) return;
  for (std::size_t i = 0; i < history.measures.size(); i++) {
    std::vector<core::Micros> working, waiting;
    for (const core::PastRun &run : history.runs) {
      working.push_back(run[i].working);
      waiting.push_back(run[i].waiting);
    }
    core::StepMeasure &measure = history.measures[i];
    measure.source = core::Source::kRuns;
    measure.samples = static_cast<std::int64_t>(history.runs.size());
    measure.working = median(std::move(working));
    measure.waiting = median(std::move(waiting));
  }
}

void add_history(GraphHistory &history, const store::CompiledDefinition &definition) {
  const int steps = static_cast<int>(definition.steps.size());
  const int most = std::clamp(kMostHistoryRows / std::max(steps, 1), 2, kMostHistoryRowsOfStep);
  const pg::Result rows = pg::execute(select_history, pg::Params().int4(definition.named_task_id).int4(steps).int8(most), pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) {
    const auto index = static_cast<std::size_t>(rows.rows.int4(i, 1) - 1);
    core::StepMeasure &measure = history.measures[index];
    const double successes = rows.rows.float8(i, 3);
    measure.attempts = static_cast<std::int64_t>(rows.rows.float8(i, 2));
    measure.successes = static_cast<std::int64_t>(successes);
    if (measure.source != core::Source::kNone || successes < 1) continue;
    measure.source = core::Source::kHistory;
    measure.samples = measure.successes;
    measure.working = micros(rows.rows.float8(i, 4) / successes);
    history.longest[index] = micros(rows.rows.float8(i, 5));
  }
}

// What nothing has measured in the tables.
void add_rest(core::StepMeasure &measure, core::Micros &longest, const store::CompiledDefinition &definition, const store::CompiledStep &step) {
  if (measure.source != core::Source::kNone) return;
  if (step.type == store::HandlerType::kNoop) {
    measure.source = core::Source::kDefinition;
  } else if (step.type == store::HandlerType::kWait) {
    const core::json handler = core::parse_json(step.handler);
    if (const auto seconds = handler.find("seconds"); seconds != handler.end() && seconds->is_number()) {
      measure.source = core::Source::kDefinition;
      measure.working = longest = micros(seconds->get<double>() * 1000);
    }
  } else if (const store::StepDurations recent = store::step_durations(definition.named_task_id, step.learner); recent.runs > 0) {
    measure.source = core::Source::kMemory;
    measure.samples = recent.runs;
    measure.working = micros(recent.p50_ms);
    longest = micros(recent.max_ms);
  }
}

}  // namespace

GraphHistory read_graph_history(const store::CompiledDefinition &definition) {
  GraphHistory history;
  history.runs = read_runs(definition);
  history.measures.resize(definition.steps.size());
  history.longest.resize(definition.steps.size());
  measure_by_runs(history);
  add_history(history, definition);
  for (const store::CompiledStep &step : definition.steps) {
    const auto index = static_cast<std::size_t>(step.step_no - 1);
    add_rest(history.measures[index], history.longest[index], definition, step);
  }
  return history;
}

std::vector<std::string> step_descriptions(const store::CompiledDefinition &definition) {
  std::vector<std::string> out(definition.steps.size());
  const pg::Result rows = pg::execute(select_descriptions, pg::Params().int4(definition.named_task_id), pg::Access::kRead);
  for (std::uint64_t i = 0; i < rows.rows.size(); i++)
    if (known(definition, rows.rows.int4(i, 1))) out[static_cast<std::size_t>(rows.rows.int4(i, 1) - 1)] = rows.rows.text(i, 2);
  return out;
}

TaskTimes read_task_times(std::int64_t task_id, const store::CompiledDefinition &definition) {
  TaskTimes out;
  out.steps.resize(definition.steps.size());
  const pg::Result task = pg::execute(select_task, pg::Params().int8(task_id), pg::Access::kRead);
  if (!task.rows.empty()) {
    out.begun_at = task.rows.timestamp(0, 1);
    out.finished_at = task.rows.timestamp_or_null(0, 2);
  }
  const pg::Result steps = pg::execute(select_task_steps, pg::Params().int8(task_id), pg::Access::kRead);
  for (std::uint64_t i = 0; i < steps.rows.size(); i++) {
    if (!known(definition, steps.rows.int4(i, 1))) continue;
    StepTimes &times = out.steps[static_cast<std::size_t>(steps.rows.int4(i, 1) - 1)];
    times.started_at = steps.rows.timestamp_or_null(i, 2);
    times.finished_at = steps.rows.timestamp_or_null(i, 3);
  }
  const pg::Result timers = pg::execute(select_timers, pg::Params().int8(task_id), pg::Access::kRead);
  for (std::uint64_t i = 0; i < timers.rows.size(); i++)
    if (known(definition, timers.rows.int4(i, 1))) out.steps[static_cast<std::size_t>(timers.rows.int4(i, 1) - 1)].wait_until = timers.rows.timestamp(i, 2);
  return out;
}

}  // namespace tasker::insight
