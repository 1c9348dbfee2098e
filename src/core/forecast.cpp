#include "core/forecast.hpp"

#include <algorithm>
#include <cmath>

namespace tasker::core {
namespace {

std::size_t at(int node) { return static_cast<std::size_t>(node); }

// The spans in which a step took longer than it has taken so far; empty when none did.
std::vector<Micros> longer_spans(std::span<const PastRun> runs, int node, Micros so_far) {
  std::vector<Micros> out;
  for (const PastRun &run : runs)
    if (run[at(node)].total() > so_far) out.push_back(run[at(node)].total());
  return out;
}

}  // namespace

PastRun past_run(const Graph &graph, Micros begun_at, std::span<const PastStep> steps) {
  PastRun run(steps.size());
  std::vector<Micros> ended(steps.size(), begun_at);
  for (const int node : topological_order(graph)) {
    const PastStep &step = steps[at(node)];
    Micros ready = begun_at;
    for (const int parent : graph.parents(node)) ready = std::max(ready, ended[at(parent)]);
    ended[at(node)] = ready;
    if (step.skipped || !step.started_at || !step.finished_at) continue;
    // A step may carry a time a little before its parent's end: they are taken in different processes.
    const Micros started = std::max(ready, *step.started_at);
    ended[at(node)] = std::max(started, *step.finished_at);
    run[at(node)] = {started - ready, ended[at(node)] - started};
  }
  return run;
}

std::vector<Micros> possible_ends(const Graph &graph, std::span<const StepOutlook> steps, std::span<const PastRun> runs) {
  const std::vector<int> order = topological_order(graph);
  std::vector<std::vector<Micros>> longer(steps.size());
  for (const int node : order) {
    const StepOutlook &step = steps[at(node)];
    if (!step.done && step.ready_since && !step.ends_at) longer[at(node)] = longer_spans(runs, node, step.not_before - *step.ready_since);
  }
  std::vector<Micros> out, end(steps.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Micros last = 0;
    for (const int node : order) {
      const StepOutlook &step = steps[at(node)];
      const Micros span = runs[i][at(node)].total();
      if (step.done) {
        end[at(node)] = step.finished_at;
      } else if (step.ends_at) {
        end[at(node)] = *step.ends_at;
      } else if (step.ready_since) {
        const Micros so_far = step.not_before - *step.ready_since;
        // This run's own span where it fits; else one of those that do, another for each run.
        const std::vector<Micros> &fitting = longer[at(node)];
        if (so_far <= 0 || span > so_far) end[at(node)] = *step.ready_since + span;
        else if (!fitting.empty()) end[at(node)] = *step.ready_since + fitting[i % fitting.size()];
        else end[at(node)] = step.not_before + span;
      } else {
        Micros ready = 0;
        for (const int parent : graph.parents(node)) ready = std::max(ready, end[at(parent)]);
        end[at(node)] = ready + span;
      }
      last = std::max(last, end[at(node)]);
    }
    out.push_back(last);
  }
  std::sort(out.begin(), out.end());
  return out;
}

Micros quantile(std::span<const Micros> sorted, double share) {
  const double k = std::ceil(share * static_cast<double>(sorted.size() + 1) - 1e-9);
  return sorted[static_cast<std::size_t>(std::clamp(k, 1.0, static_cast<double>(sorted.size()))) - 1];
}

}  // namespace tasker::core
