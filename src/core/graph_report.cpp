#include "core/graph_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/graph_report_rules.hpp"

namespace tasker::core {

using namespace graph_report;

namespace {

inline constexpr std::size_t kBottlenecks = 10;
inline constexpr double kCriticalScore = 100, kHighScore = 50, kMediumScore = 20;

bool done(const LiveStep &step) { return satisfies_children(step.facts.state); }
bool failed(const LiveStep &step) { return step.facts.state == StepState::kError; }
bool running(const LiveStep &step) { return step.facts.state == StepState::kInProgress; }
// Neither done nor running nor about to.
bool blocked(const LiveStep &step) { return !done(step) && !running(step) && !step.readiness.ready; }

Weights weights_of(std::vector<Micros> durations, bool measured) {
  if (!measured) std::fill(durations.begin(), durations.end(), 1'000'000);
  return {measured, std::move(durations)};
}

bool any_measured(const GraphCase &subject) {
  return std::any_of(subject.steps.begin(), subject.steps.end(), [](const StepProfile &step) { return step.measure.source != Source::kNone; });
}

std::vector<Micros> expected(const GraphCase &subject) {
  std::vector<Micros> out;
  for (const StepProfile &step : subject.steps) out.push_back(step.measure.working);
  return out;
}

json path_document(const GraphCase &subject, const CriticalPath &path, bool measured) {
  json out{{"steps", names_of(subject, path.nodes)}, {"by", measured ? "measured durations" : "number of steps"}, {"seconds", nullptr}};
  if (measured) out["seconds"] = seconds(path.length);
  return out;
}

json node_document(const GraphCase &subject, int node, const Weights &weights, const Timing &timing, int level) {
  const StepProfile &step = subject.steps[at(node)];
  json out{{"name", step.name},
           {"description", step.description.empty() ? json() : json(step.description)},
           {"handler_type", step.handler_type},
           {"dependencies", names_of(subject, subject.graph->parents(node))},
           {"dependency_count", subject.graph->parents(node).size()},
           {"level", level},
           {"source", to_string(step.measure.source)},
           {"samples", step.measure.samples},
           {"duration_seconds", nullptr},
           {"waiting_seconds", nullptr},
           {"slack_seconds", nullptr},
           {"critical", timing.slack == 0}};
  if (step.measure.source != Source::kNone) out["duration_seconds"] = seconds(step.measure.working);
  if (step.measure.source == Source::kRuns) out["waiting_seconds"] = seconds(step.measure.waiting);
  if (weights.measured) out["slack_seconds"] = seconds(timing.slack);
  return out;
}

json level_document(const GraphCase &subject, const std::vector<int> &nodes, int level) {
  Micros work = 0, longest = 0;
  for (const int node : nodes) {
    work += subject.steps[at(node)].measure.working;
    longest = std::max(longest, subject.steps[at(node)].measure.working);
  }
  return {{"level", level}, {"steps", names_of(subject, nodes)}, {"width", nodes.size()}, {"work_seconds", seconds(work)}, {"longest_seconds", seconds(longest)}};
}

// Everything but bottlenecks and suggestions.
json frame(const GraphCase &subject, const Weights &weights, const CriticalPath &path) {
  const Graph &graph = *subject.graph;
  json nodes = json::array(), edges = json::array(), level_list = json::array();
  std::vector<int> roots, leaves;
  const std::vector<int> level = levels(graph);
  std::size_t measured = 0, widest = 0;
  for (int node = 0; node < graph.size(); ++node) {
    nodes.push_back(node_document(subject, node, weights, path.timing[at(node)], level[at(node)]));
    measured += subject.steps[at(node)].measure.source != Source::kNone ? 1 : 0;
    if (graph.is_root(node)) roots.push_back(node);
    if (graph.is_sink(node)) leaves.push_back(node);
    const char *type = graph.parents(node).size() > 1 ? "multiple" : "single";
    for (const int parent : graph.parents(node)) edges.push_back({{"from", subject.steps[at(parent)].name}, {"to", subject.steps[at(node)].name}, {"type", type}});
  }
  for (const std::vector<int> &nodes_there : nodes_by_level(graph)) {
    level_list.push_back(level_document(subject, nodes_there, static_cast<int>(level_list.size())));
    widest = std::max(widest, nodes_there.size());
  }
  json summary{{"total_steps", graph.size()}, {"total_dependencies", edges.size()}, {"max_depth", level_list.empty() ? 0 : level_list.size() - 1},
               {"parallel_branches", widest}, {"measured_steps", measured},  {"past_runs", subject.past_runs},
               {"work_seconds", nullptr},     {"critical_path_seconds", nullptr}, {"average_parallelism", nullptr}};
  if (weights.measured) {
    summary["work_seconds"] = seconds(path.work);
    summary["critical_path_seconds"] = seconds(path.length);
    if (path.length > 0) summary["average_parallelism"] = rounded(static_cast<double>(path.work) / static_cast<double>(path.length));
  }
  return {{"namespace", subject.ns},  {"name", subject.name},
          {"version", subject.version}, {"summary", std::move(summary)},
          {"nodes", std::move(nodes)},  {"edges", std::move(edges)},
          {"levels", std::move(level_list)}, {"roots", names_of(subject, roots)},
          {"leaves", names_of(subject, leaves)}, {"critical_path", path_document(subject, path, weights.measured)}};
}

// m and p of a step.
struct Terms {
  double multiplier = 1, penalty = 0;
};

double score_of(const Terms &terms, double weight) { return std::round(weight * terms.multiplier + terms.penalty); }

// Of the critical path's length; 0 for a step beside it.
double critical_share(const CriticalPath &path, int node) {
  const Timing &timing = path.timing[at(node)];
  if (timing.slack != 0 || path.length == 0) return 0;
  return static_cast<double>(timing.earliest_finish - timing.earliest_start) / static_cast<double>(path.length);
}

double failed_share(const StepMeasure &measure) {
  return measure.attempts > 0 ? static_cast<double>(measure.attempts - measure.successes) / static_cast<double>(measure.attempts) : 0;
}

Terms template_terms(const GraphCase &subject, const CriticalPath &path, int node) {
  const Micros slack = path.timing[at(node)].slack;
  return {slack == 0 ? 2.0 : slack * 10 < path.length ? 1.2 : 1.0, 20 * critical_share(path, node) + 10 * failed_share(subject.steps[at(node)].measure)};
}

json template_factors(const GraphCase &subject, const CriticalPath &path, int node) {
  const StepMeasure &measure = subject.steps[at(node)].measure;
  return {{"critical", path.timing[at(node)].slack == 0},
          {"critical_path_share", rounded(critical_share(path, node))},
          {"failed_attempts_share", rounded(failed_share(measure))},
          {"attempts", measure.attempts}};
}

// What keeps a step of a task that others wait for, in the reference engine's words, and what ends it.
struct Kind {
  const char *type, *resolution;
};
Kind kind_of(const LiveStep &step) {
  if (step.facts.state == StepState::kCancelled) return {"Cancelled", "rerun_task_from, or resolve_task_manually"};
  if (step.readiness.reason == Blocking::kNotRetryable && !step.facts.retryable)
    return {"Non-Retryable", "mend the cause, then retry_step; or resolve_step_manually"};
  if (step.readiness.reason == Blocking::kNotRetryable) return {"Permanent Failure", "mend the cause, then retry_step; or resolve_step_manually"};
  if (step.readiness.reason == Blocking::kAttemptsExhausted) return {"Retry Exhaustion", "mend the cause, then retry_step; or resolve_step_manually"};
  if (failed(step)) return {"Active Error", "none: it is tried again by itself; diagnose_step shows the failures"};
  if (running(step)) return {"Running", "none: it is under way"};
  if (step.readiness.ready) return {"Ready", "none: it starts when a worker is free"};
  return {"Blocked", "diagnose_step names what keeps it back"};
}

bool barred(const LiveStep &step) { return step.readiness.reason == Blocking::kNotRetryable; }
bool exhausted(const LiveStep &step) { return step.readiness.reason == Blocking::kAttemptsExhausted; }

Terms live_terms(const LiveStep &step) {
  Terms out;
  if (failed(step)) out.multiplier = barred(step) || exhausted(step) ? 2.5 : 2.0;
  else if (step.readiness.reason != Blocking::kNone || step.facts.state == StepState::kCancelled) out.multiplier = 1.2;
  out.penalty = 3 * step.facts.attempts + (failed(step) && !step.readiness.retry_eligible ? 10 : 0) + (exhausted(step) ? 20 : 0);
  return out;
}

json live_factors(const LiveStep &step) {
  return {{"attempts", step.facts.attempts}, {"retry_eligible", step.readiness.retry_eligible}, {"exhausted", exhausted(step)}};
}

// What a kind of document says of a step beside its score.
struct Describe {
  std::function<Terms(int)> terms;
  std::function<json(int)> factors;
  std::function<json(int)> more;  // an object to add
};

// The ten with the highest scores; a leaf without a penalty holds up nothing.
void add_bottlenecks(json &out, const GraphCase &subject, std::span<const int> candidates, const std::vector<bool> &open, const Describe &describe) {
  const auto score = [&](int node, double weight) { return score_of(describe.terms(node), weight); };
  const Ranking ranking = rank(*subject.graph, candidates, open, score, kBottlenecks);
  json list = json::array();
  for (const Ranked &ranked : ranking.best) {
    if (ranked.score <= 0) continue;
    const Terms terms = describe.terms(ranked.node);
    json factors = describe.factors(ranked.node);
    factors["downstream"] = ranked.reach.downstream;
    factors["open_downstream"] = ranked.reach.open_downstream;
    factors["multiplier"] = terms.multiplier;
    factors["penalty"] = rounded(terms.penalty);
    list.push_back({{"step_name", subject.steps[at(ranked.node)].name}, {"score", ranked.score}, {"severity", severity_of(ranked.score)}, {"factors", std::move(factors)}});
    list.back().update(describe.more(ranked.node));
  }
  out["bottlenecks"] = std::move(list);
  out["bottlenecks_exact"] = ranking.exact;
}

// A step on which others wait: failed or cancelled, or its parents are done and it isn't.
bool holds_up(const LiveStep &step) {
  return failed(step) || step.facts.state == StepState::kCancelled || (!done(step) && step.readiness.dependencies_satisfied);
}

const char *overall_impact(const json &bottlenecks, const std::vector<LiveStep> &steps) {
  const auto count = [&](const char *severity) {
    return std::count_if(bottlenecks.begin(), bottlenecks.end(), [&](const json &one) { return one["severity"] == severity; });
  };
  const auto failures = static_cast<std::size_t>(std::count_if(steps.begin(), steps.end(), failed));
  if (count("critical") >= 3 || failures * 2 > steps.size()) return "Severe";
  if (count("critical") > 0) return "High";
  if (count("high") > 0) return "Medium";
  return bottlenecks.empty() ? "None" : "Low";
}

// What its own steps took, and what those to come are expected to take.
std::vector<Micros> durations_of(const TaskGraphCase &task, bool remaining) {
  std::vector<Micros> out;
  for (std::size_t i = 0; i < task.steps.size(); ++i) {
    const LiveStep &step = task.steps[i];
    const Micros usual = task.profile.steps[i].measure.working, worked = step.worked.value_or(0);
    const bool over = done(step) || step.facts.state == StepState::kCancelled;
    if (over) out.push_back(remaining || !done(step) || step.facts.state == StepState::kSkipped ? 0 : worked);
    else if (running(step)) out.push_back(remaining ? std::max<Micros>(0, usual - worked) : std::max(usual, worked));
    else out.push_back(usual);
  }
  return out;
}

void add_level_counts(const TaskGraphCase &task, json &levels_list) {
  const std::vector<std::vector<int>> by_level = nodes_by_level(*task.profile.graph);
  for (std::size_t l = 0; l < by_level.size(); ++l) {
    std::size_t ready = 0, in_progress = 0, held_up = 0, errors = 0, completed = 0;
    for (const int node : by_level[l]) {
      const LiveStep &step = task.steps[at(node)];
      ready += step.readiness.ready ? 1 : 0;
      in_progress += running(step) ? 1 : 0;
      held_up += blocked(step) ? 1 : 0;
      errors += failed(step) ? 1 : 0;
      completed += done(step) ? 1 : 0;
    }
    json &level = levels_list[l];
    level["ready"] = ready;
    level["in_progress"] = in_progress;
    level["blocked"] = held_up;
    level["error"] = errors;
    level["completed"] = completed;
    level["potential"] = ready > 1 ? "High" : ready == 1 ? "Medium" : "Low";
    level["bottleneck_risk"] = held_up * 2 > by_level[l].size() ? "High" : "Low";
  }
}

// The way from the first step that isn't done to the end.
json remaining_document(const TaskGraphCase &task, bool measured) {
  std::vector<Micros> left = durations_of(task, true);
  if (!measured)
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = done(task.steps[i]) || task.steps[i].facts.state == StepState::kCancelled ? 0 : 1'000'000;
  CriticalPath path = critical_path(*task.profile.graph, left);
  std::erase_if(path.nodes, [&](int node) { return done(task.steps[at(node)]) || task.steps[at(node)].facts.state == StepState::kCancelled; });
  return path_document(task.profile, path, measured);
}

}  // namespace

const char *to_string(Source source) noexcept {
  constexpr std::array kNames{"none", "runs", "history", "memory", "definition"};
  return kNames[static_cast<std::size_t>(source)];
}

namespace graph_report {

double rounded(double value) { return std::round(value * 100) / 100; }

const char *severity_of(double score) noexcept {
  return score >= kCriticalScore ? "critical" : score >= kHighScore ? "high" : score >= kMediumScore ? "medium" : "low";
}

json names_of(const GraphCase &subject, const std::vector<int> &nodes) {
  json out = json::array();
  for (const int node : nodes) out.push_back(subject.steps[at(node)].name);
  return out;
}

}  // namespace graph_report

json analyze_template(const GraphCase &subject) {
  const Weights weights = weights_of(expected(subject), any_measured(subject));
  const CriticalPath path = critical_path(*subject.graph, weights.durations);
  json out = frame(subject, weights, path);
  std::vector<int> all(subject.steps.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
  add_bottlenecks(out, subject, all, std::vector<bool>(all.size(), false),
                  {[&](int node) { return template_terms(subject, path, node); }, [&](int node) { return template_factors(subject, path, node); },
                   [](int) { return json::object(); }});
  out["suggestions"] = suggestions(subject, weights, path);
  return out;
}

json analyze_task(const TaskGraphCase &task) {
  const GraphCase &subject = task.profile;
  const bool measured = any_measured(subject) || std::any_of(task.steps.begin(), task.steps.end(), [](const LiveStep &step) { return step.worked.has_value(); });
  const Weights weights = weights_of(durations_of(task, false), measured);
  const CriticalPath path = critical_path(*subject.graph, weights.durations);
  json out = frame(subject, weights, path);
  out["task_id"] = task.task_id;
  out["state"] = to_string(task.state);
  std::vector<int> candidates;
  std::vector<bool> open(task.steps.size());
  for (std::size_t i = 0; i < task.steps.size(); ++i) {
    const LiveStep &step = task.steps[i];
    json &node = out["nodes"][i];
    node["state"] = to_string(step.facts.state);
    node["attempts"] = step.facts.attempts;
    node["worked_seconds"] = step.worked ? json(seconds(*step.worked)) : json();
    node["blocking_reason"] = step.reason.empty() ? json() : json(step.reason);
    open[i] = !done(step);
    if (holds_up(step)) candidates.push_back(static_cast<int>(i));
  }
  add_level_counts(task, out["levels"]);
  out["remaining_path"] = remaining_document(task, measured);
  add_bottlenecks(out, subject, candidates, open,
                  {[&](int node) { return live_terms(task.steps[at(node)]); }, [&](int node) { return live_factors(task.steps[at(node)]); },
                   [&](int node) {
                     const Kind kind = kind_of(task.steps[at(node)]);
                     return json{{"type", kind.type}, {"resolution", kind.resolution}};
                   }});
  out["impact"] = overall_impact(out["bottlenecks"], task.steps);
  json advice = suggestions(subject, weights, path);
  add_live_suggestions(task, advice);
  out["suggestions"] = std::move(advice);
  return out;
}

}  // namespace tasker::core
