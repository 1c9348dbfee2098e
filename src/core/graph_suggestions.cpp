// What follows from the figures: each rule looks at measurements, and says which.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/graph_report_rules.hpp"

namespace tasker::core::graph_report {

namespace {

inline constexpr std::size_t kMostOfAKind = 5;
inline constexpr double kLongShare = 0.5;         // of the critical path
inline constexpr double kUnreliableShare = 0.2;   // of attempts failed
inline constexpr std::int64_t kEnoughAttempts = 10, kEnoughRuns = 5;
inline constexpr Micros kWorthSaying = 1'000'000;  // shorter waits and delays aren't
inline constexpr double kSlowerBy = 3;
inline constexpr int kChainOf = 4;                // steps
inline constexpr double kSerial = 1.1;            // work ÷ critical path

struct Suggestion {
  std::string code, step_name, text;
  json evidence;
  double weight = 0;  // which of a kind are told
};

std::string percent(double share) { return std::to_string(static_cast<int>(std::lround(share * 100))) + " %"; }

void append(json &out, std::vector<Suggestion> found) {
  std::stable_sort(found.begin(), found.end(), [](const Suggestion &a, const Suggestion &b) { return a.weight > b.weight; });
  if (found.size() > kMostOfAKind) found.resize(kMostOfAKind);
  for (Suggestion &one : found)
    out.push_back({{"suggestion", one.code}, {"step_name", one.step_name.empty() ? json() : json(one.step_name)}, {"text", one.text}, {"evidence", std::move(one.evidence)}});
}

std::vector<Suggestion> long_steps(const GraphCase &subject, const Weights &weights, const CriticalPath &path) {
  std::vector<Suggestion> out;
  if (!weights.measured || path.length < kWorthSaying || path.nodes.size() < 2) return out;
  for (const int node : path.nodes) {
    const double share = static_cast<double>(weights.durations[at(node)]) / static_cast<double>(path.length);
    if (share < kLongShare) continue;
    out.push_back({"long_step", subject.steps[at(node)].name,
                   "takes " + span_text(weights.durations[at(node)]) + " of the critical path's " + span_text(path.length) + " (" + percent(share) +
                       "): the whole ends sooner only when this step is split or made faster",
                   {{"seconds", seconds(weights.durations[at(node)])}, {"critical_path_share", rounded(share)}}, share});
  }
  return out;
}

std::vector<Suggestion> serial(const Weights &weights, const CriticalPath &path, int steps) {
  if (!weights.measured || steps < kChainOf || path.length < kWorthSaying) return {};
  const double parallelism = static_cast<double>(path.work) / static_cast<double>(path.length);
  if (parallelism >= kSerial) return {};
  return {{"serial", "", "almost nothing runs at the same time: steps that don't need each other's results could depend on the same parent instead of on one another",
           {{"average_parallelism", rounded(parallelism)}}, 0}};
}

std::string remedy(const std::string &handler_type) {
  if (handler_type == "external") return "more workers on its queue would shorten it";
  if (handler_type == "http") return "the server's max_concurrency and rate may hold it back";
  return "more executors (tasker.max_executors) or fewer failed attempts would shorten it";
}

std::vector<Suggestion> waits(const GraphCase &subject) {
  std::vector<Suggestion> out;
  for (const StepProfile &step : subject.steps) {
    const StepMeasure &m = step.measure;
    if (m.source != Source::kRuns || m.samples < kEnoughRuns || m.waiting < kWorthSaying || m.waiting < m.working) continue;
    out.push_back({"waits", step.name, "waits " + span_text(m.waiting) + " before it works " + span_text(m.working) + ": " + remedy(step.handler_type),
                   {{"waiting_seconds", seconds(m.waiting)}, {"duration_seconds", seconds(m.working)}, {"runs", m.samples}}, seconds(m.waiting)});
  }
  return out;
}

std::vector<Suggestion> unreliable(const GraphCase &subject) {
  std::vector<Suggestion> out;
  for (const StepProfile &step : subject.steps) {
    const StepMeasure &m = step.measure;
    if (m.attempts < kEnoughAttempts) continue;
    const double share = static_cast<double>(m.attempts - m.successes) / static_cast<double>(m.attempts);
    if (share < kUnreliableShare) continue;
    out.push_back({"unreliable", step.name, percent(share) + " of its attempts fail: each costs a backoff, and a run fails when they are used up",
                   {{"attempts", m.attempts}, {"failed_attempts", m.attempts - m.successes}}, share});
  }
  return out;
}

std::vector<Suggestion> unmeasured(const GraphCase &subject) {
  const auto unknown = std::count_if(subject.steps.begin(), subject.steps.end(), [](const StepProfile &step) { return step.measure.source == Source::kNone; });
  if (unknown == 0) return {};
  return {{"unmeasured", "", "some steps have never been measured and count as taking no time: figures are complete after the first finished run",
           {{"unmeasured_steps", unknown}, {"total_steps", subject.steps.size()}}, 0}};
}

}  // namespace

std::string span_text(Micros time) {
  char out[40];
  if (time >= 120'000'000) std::snprintf(out, sizeof out, "%.0f min", seconds(time) / 60);
  else if (time >= 1'000'000) std::snprintf(out, sizeof out, "%.3g s", seconds(time));
  else std::snprintf(out, sizeof out, "%.3g ms", seconds(time) * 1000);
  return out;
}

json suggestions(const GraphCase &subject, const Weights &weights, const CriticalPath &path) {
  json out = json::array();
  append(out, long_steps(subject, weights, path));
  append(out, serial(weights, path, subject.graph->size()));
  append(out, waits(subject));
  append(out, unreliable(subject));
  append(out, unmeasured(subject));
  return out;
}

void add_live_suggestions(const TaskGraphCase &task, json &out) {
  std::vector<Suggestion> slow, retried;
  for (std::size_t i = 0; i < task.steps.size(); ++i) {
    const StepProfile &profile = task.profile.steps[i];
    const LiveStep &step = task.steps[i];
    const Micros usual = profile.measure.working, worked = step.worked.value_or(0);
    if (profile.measure.samples >= kEnoughAttempts && worked - usual >= kWorthSaying && static_cast<double>(worked) >= kSlowerBy * static_cast<double>(usual))
      slow.push_back({"slower_than_usual", profile.name, "its last attempt took " + span_text(worked) + ", usually " + span_text(usual),
                      {{"seconds", seconds(worked)}, {"usual_seconds", seconds(usual)}, {"samples", profile.measure.samples}}, seconds(worked - usual)});
    if (step.facts.attempts > 1)
      retried.push_back({"retried", profile.name, "needed " + std::to_string(step.facts.attempts) + " attempts so far: task_history shows what failed",
                         {{"attempts", step.facts.attempts}}, static_cast<double>(step.facts.attempts)});
  }
  append(out, std::move(slow));
  append(out, std::move(retried));
}

}  // namespace tasker::core::graph_report
