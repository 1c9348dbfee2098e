// analyze_template, analyze_task, forecast_task, task_diagram, template_diagram. Nothing in them is a payload.
#include <algorithm>

#include "api/assessment.hpp"
#include "api/running.hpp"
#include "core/diagram.hpp"
#include "insight/cached.hpp"
#include "insight/graph.hpp"
#include "pg/args.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"

using namespace tasker;
using api::AssessedStep;
using api::AssessedTask;

namespace {

inline constexpr int kFewRuns = 10, kManyRuns = 50;  // confidence: low below, high from
inline constexpr int kRunsForP95 = 19;               // with fewer the 95th of 100 lies beyond the longest of them

// Precondition of all that read: inside pg::OwnerScope and pg::Spi.
store::DefinitionPtr find(const std::string &ns, const std::string &name, const std::optional<std::string> &version) {
  const auto found = store::find_definition(ns, name, version);
  if (!found) throw tasker::Error(sqlstate::kNoData, "definition " + ns + "." + name + (version ? " version " + *version : "") + " does not exist");
  return store::definition(found->named_task_id);
}

AssessedTask assess(std::int64_t task_id, Oid caller) {
  api::Viewer viewer(caller);
  std::vector<AssessedTask> found = api::assess_tasks(viewer, {task_id});
  if (!found.empty()) return std::move(found.front());
  const auto row = store::load_task(task_id, store::RowLock::kNone);
  if (!row || !viewer.sees(row->owner, row->created_by)) throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
  throw tasker::Error(sqlstate::kObjectNotReady, "the steps of task " + std::to_string(task_id) + " are not those of its definition", {},
                      "tasker.check() lists what is missing.");
}

core::GraphCase case_of(const store::CompiledDefinition &definition, const insight::GraphHistory &history) {
  core::GraphCase out;
  out.ns = definition.ns;
  out.name = definition.name;
  out.version = definition.version;
  out.graph = &definition.graph;
  out.past_runs = history.runs.size();
  const std::vector<std::string> descriptions = insight::step_descriptions(definition);
  for (std::size_t i = 0; i < definition.steps.size(); i++)
    out.steps.push_back({definition.steps[i].name, descriptions[i], definition.steps[i].type_name, history.measures[i]});
  return out;
}

// Of a step that runs now: since when.
std::optional<TimestampTz> running_since(const AssessedStep &step, const std::vector<api::RunningStep> &running) {
  if (step.facts.state != core::StepState::kInProgress) return std::nullopt;
  const auto run = std::find_if(running.begin(), running.end(), [&](const api::RunningStep &r) { return r.key == step.row.key && r.moves == step.row.moves; });
  return run != running.end() ? run->started_at : step.row.started_at;
}

core::TaskGraphCase case_of(const AssessedTask &task) {
  core::TaskGraphCase out;
  const store::CompiledDefinition &definition = *task.definition;
  out.task_id = task.row.task_id;
  out.state = task.row.state;
  out.profile = case_of(definition, insight::read_graph_history(definition));
  const insight::TaskTimes times = insight::read_task_times(task.row.task_id, definition);
  const std::vector<api::RunningStep> running = api::running_steps();
  for (std::size_t i = 0; i < task.steps.size(); i++) {
    const AssessedStep &step = task.steps[i];
    core::LiveStep live{step.facts, step.readiness, task.blocking_reason(step), std::nullopt};
    if (const auto since = running_since(step, running)) live.worked = std::max<std::int64_t>(0, task.now - *since);
    else if (step.facts.state != core::StepState::kPending && times.steps[i].started_at && times.steps[i].finished_at)
      live.worked = std::max<std::int64_t>(0, *times.steps[i].finished_at - *times.steps[i].started_at);
    out.steps.push_back(std::move(live));
  }
  return out;
}

struct Forecast {
  int remaining = 0;
  std::optional<TimestampTz> p50, p95;
  int samples = 0;
  std::string basis = "none", confidence = "none", why;
};

// External workers and signals come as they came in past runs; these don't come by themselves. Beneath a failed or cancelled
// step it is that step that is told of.
bool waits_for_somebody(const core::Readiness &readiness) {
  switch (readiness.reason) {
    case core::Blocking::kAttemptsExhausted:
    case core::Blocking::kNotRetryable:
    case core::Blocking::kPaused:
    case core::Blocking::kHeld:
    case core::Blocking::kOwnerCannotConnect:
      return true;
    case core::Blocking::kCircuitOpen:
      return !readiness.ready_at;
    default:
      return false;
  }
}

// Why nobody can tell the end: somebody must act first; "" when it goes on by itself.
std::string obstacle(const AssessedTask &task) {
  if (task.row.state == core::TaskState::kError) return "the task has failed: nothing more happens by itself; diagnose_task says what to do";
  for (const AssessedStep &step : task.steps) {
    if (core::satisfies_children(step.facts.state)) continue;
    const std::string name = "step \"" + task.definition->step(step.row.key.step_no).name + "\"";
    if (step.facts.state == core::StepState::kCancelled) return name + " is cancelled: the task cannot complete by itself";
    if (!waits_for_somebody(step.readiness)) continue;
    return name + " does not go on by itself: " + task.blocking_reason(step);
  }
  return {};
}

std::vector<core::StepOutlook> outlooks(const AssessedTask &task, const insight::TaskTimes &times) {
  std::vector<core::StepOutlook> out;
  for (std::size_t i = 0; i < task.steps.size(); i++) {
    const AssessedStep &step = task.steps[i];
    core::StepOutlook one;
    one.done = core::satisfies_children(step.facts.state);
    one.finished_at = times.steps[i].finished_at.value_or(times.begun_at);
    if (!one.done && step.readiness.dependencies_satisfied) {
      one.ready_since = times.begun_at;
      for (const int parent : task.definition->graph.parents(static_cast<int>(i)))
        one.ready_since = std::max(*one.ready_since, times.steps[static_cast<std::size_t>(parent)].finished_at.value_or(times.begun_at));
      one.not_before = std::max({task.now, *one.ready_since, step.readiness.ready_at.value_or(task.now)});
      if (step.facts.state == core::StepState::kInProgress && times.steps[i].wait_until) one.ends_at = std::max(task.now, *times.steps[i].wait_until);
    }
    out.push_back(one);
  }
  return out;
}

void forecast_from_runs(Forecast &out, const AssessedTask &task, const std::vector<core::StepOutlook> &steps, const insight::GraphHistory &history) {
  const std::vector<core::Micros> ends = core::possible_ends(task.definition->graph, steps, history.runs);
  out.p50 = core::quantile(ends, 0.5);
  out.p95 = core::quantile(ends, 0.95);
  out.samples = static_cast<int>(ends.size());
  out.basis = "runs";
  out.confidence = out.samples < kFewRuns ? "low" : out.samples < kManyRuns ? "medium" : "high";
  out.why = "what is left took this long in " + std::to_string(out.samples) + (out.samples == 1 ? " finished run" : " finished runs");
  if (out.samples < kRunsForP95) out.why += "; with fewer than " + std::to_string(kRunsForP95) + ", p95 is the longest of them";
}

// No whole run is known: as if each step took its mean, and for p95 the longest ever counted.
void forecast_from_attempts(Forecast &out, const AssessedTask &task, const std::vector<core::StepOutlook> &steps, const insight::GraphHistory &history) {
  core::PastRun usual, longest;
  std::int64_t samples = INT_MAX;
  for (std::size_t i = 0; i < steps.size(); i++) {
    const core::StepMeasure &measure = history.measures[i];
    usual.push_back({0, measure.working});
    longest.push_back({0, std::max(measure.working, history.longest[i])});
    if (steps[i].done || steps[i].ends_at || measure.source == core::Source::kDefinition) continue;
    if (measure.source == core::Source::kNone) {
      out.why = "neither a finished run of this version nor an attempt of step \"" + task.definition->steps[i].name + "\" has been measured";
      return;
    }
    samples = std::min(samples, measure.samples);
  }
  const core::Graph &graph = task.definition->graph;
  out.p50 = core::possible_ends(graph, steps, std::vector<core::PastRun>{usual}).front();
  out.p95 = std::max(*out.p50, core::possible_ends(graph, steps, std::vector<core::PastRun>{longest}).front());
  out.samples = samples == INT_MAX ? 0 : static_cast<int>(std::min<std::int64_t>(samples, INT_MAX));
  out.basis = "attempts";
  out.confidence = "low";
  out.why = "no finished run of this version is known: from the mean and the longest attempt of each step, without queueing and retries";
}

Forecast forecast(const AssessedTask &task) {
  Forecast out;
  const insight::TaskTimes times = insight::read_task_times(task.row.task_id, *task.definition);
  for (const AssessedStep &step : task.steps) out.remaining += core::satisfies_children(step.facts.state) ? 0 : 1;
  if (core::finished(task.row.state) && task.row.state != core::TaskState::kError) {
    out.p50 = out.p95 = times.finished_at;
    out.basis = "finished";
    out.confidence = "certain";
    out.why = std::string("the task is over: ") + core::to_string(task.row.state);
    return out;
  }
  out.why = obstacle(task);
  if (!out.why.empty()) return out;
  const insight::GraphHistory history = insight::read_graph_history(*task.definition);
  const std::vector<core::StepOutlook> steps = outlooks(task, times);
  if (history.runs.empty()) forecast_from_attempts(out, task, steps, history);
  else forecast_from_runs(out, task, steps, history);
  return out;
}

core::DiagramFormat format_of(const pg::Args &args, int n) {
  const std::string name = args.text(n, "format");
  const auto format = core::parse_diagram_format(name);
  if (!format) throw tasker::Error(sqlstate::kInvalidParameter, "format \"" + name + "\" of a diagram is unknown", {}, "Known are mermaid and dot.");
  return *format;
}

std::string title_of(const store::CompiledDefinition &definition) { return definition.ns + "." + definition.name + " " + definition.version; }

std::string draw_task(const AssessedTask &task, core::DiagramFormat format) {
  core::Diagram diagram;
  diagram.title = title_of(*task.definition) + ", task " + std::to_string(task.row.task_id) + " " + core::to_string(task.row.state);
  diagram.graph = &task.definition->graph;
  for (const AssessedStep &step : task.steps) {
    std::string note = core::to_string(step.facts.state);
    if (step.facts.attempts > 1) note += ", " + std::to_string(step.facts.attempts) + " attempts";
    diagram.steps.push_back({task.definition->step(step.row.key.step_no).name, std::move(note), step.facts.state});
  }
  return core::draw(diagram, format);
}

std::string draw_template(const store::CompiledDefinition &definition, core::DiagramFormat format) {
  core::Diagram diagram;
  diagram.title = title_of(definition);
  diagram.graph = &definition.graph;
  for (const store::CompiledStep &step : definition.steps) diagram.steps.push_back({step.name, step.type_name, std::nullopt});
  return core::draw(diagram, format);
}

// Calls `read` as the extension's owner; what it gives is a string, which outlives the connection.
template <class Read>
std::string read_as_owner(Read read) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  return read(caller);
}

std::string dump(const core::json &value) { return value.dump(-1, ' ', false, core::json::error_handler_t::replace); }

Datum jsonb(const std::string &document) {
  const char *data = document.c_str();
  return pg::call([=] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(data)); });
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_analyze_template) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace"), name = args.text(1, "name");
    // Which definition is looked up at every call: one that was replaced has another id.
    int id = 0;
    std::string version;
    (void)read_as_owner([&](Oid) {
      const store::DefinitionPtr definition = find(ns, name, args.text_or_null(2));
      id = definition->named_task_id;
      return version = definition->version;
    });
    const core::json asked = {{"named_task_id", id}, {"namespace", ns}, {"name", name}, {"version", version}};
    const insight::Cached found = insight::cached(core::CachedFunction::kTemplateAnalysis, asked, 0, [&] {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      const store::DefinitionPtr definition = store::definition(id);
      return core::analyze_template(case_of(*definition, insight::read_graph_history(*definition)));
    });
    return jsonb(found.document());
  });
}

TASKER_SQL_FUNCTION(tasker_analyze_task) {
  return pg::entry([&]() -> Datum {
    const std::int64_t task_id = pg::Args(fcinfo).int8(0, "task_id");
    return jsonb(read_as_owner([&](Oid caller) {
      const AssessedTask task = assess(task_id, caller);
      return dump(core::analyze_task(case_of(task)));
    }));
  });
}

TASKER_SQL_FUNCTION(tasker_forecast_task) {
  return pg::entry([&]() -> Datum {
    const std::int64_t task_id = pg::Args(fcinfo).int8(0, "task_id");
    pg::RowSet rows(fcinfo);
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const Forecast told = forecast(assess(task_id, caller));
    rows.int4(told.remaining).timestamp_or_null(told.p50).timestamp_or_null(told.p95).int4(told.samples).text(told.basis).text(told.confidence).text(told.why).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_task_diagram) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const core::DiagramFormat format = format_of(args, 1);
    return pg::text_datum(read_as_owner([&](Oid caller) { return draw_task(assess(task_id, caller), format); }));
  });
}

TASKER_SQL_FUNCTION(tasker_template_diagram) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace"), name = args.text(1, "name");
    const core::DiagramFormat format = format_of(args, 3);
    return pg::text_datum(read_as_owner([&](Oid) { return draw_template(*find(ns, name, args.text_or_null(2)), format); }));
  });
}
