// When will a task end? Told from whole past runs of the same definition.
//
// A span is the time from the moment a step could have begun (its last parent's end, or the task's start) to its end:
// queueing, failed attempts, backoff, waits and work are all in it. The forecast replays what is left of the task once
// with the spans of each past run, and reads p50 and p95 off the ends that come out. Runs are taken whole, not step by
// step at random: what makes all steps of one run slow together (a large order, a busy night) stays together, no random
// numbers are needed, and if the next run is like the past ones, it ends before the k-th of n ends in k of n + 1 cases
// exactly, whatever the distribution. A step that may run already is compared only with runs in which it took longer than
// it has taken so far; where there is none, it is taken to begin anew.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/graph_analysis.hpp"

namespace tasker::core {

// A step of a run that is over.
struct PastStep {
  std::optional<Micros> started_at, finished_at;
  bool skipped = false;
};
// What its parts took: waiting from being ready to the last attempt's start, working from there to its end.
struct PastSpan {
  Micros waiting = 0, working = 0;
  Micros total() const { return waiting + working; }
};
using PastRun = std::vector<PastSpan>;
// Precondition: steps.size() == graph.size(). A skipped step, and one without times, took nothing.
PastRun past_run(const Graph &graph, Micros begun_at, std::span<const PastStep> steps);

// Where a step of the task stands.
struct StepOutlook {
  bool done = false;
  Micros finished_at = 0;             // of one that is done
  std::optional<Micros> ready_since;  // all its parents are done: since when it could have begun
  Micros not_before = 0;              // it has not ended yet at this time: now, or its next attempt
  std::optional<Micros> ends_at;      // known: a timer
};

// The ends of the task, one for each past run, ascending. Preconditions: at least one run, all of graph.size() steps.
std::vector<Micros> possible_ends(const Graph &graph, std::span<const StepOutlook> steps, std::span<const PastRun> runs);
// The k-th of n sorted values with k = ⌈share · (n + 1)⌉, at most n. Precondition: not empty.
Micros quantile(std::span<const Micros> sorted, double share);

}  // namespace tasker::core
