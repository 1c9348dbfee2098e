// What the graph of a workflow costs: the longest way through it, slack, what runs side by side, and which steps hold up
// most of the others. Every function is linear in nodes + edges.
//
// Times are microseconds in integers: a sum along a path is exact, and slack is 0 exactly where it should be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/graph.hpp"

namespace tasker::core {

using Micros = std::int64_t;

// A step between its neighbours, were every step to begin as soon as its parents have ended.
struct Timing {
  Micros earliest_start = 0, earliest_finish = 0;
  Micros slack = 0;  // how much later it may end without the whole ending later
};

struct CriticalPath {
  std::vector<int> nodes;  // the longest way from a root to a sink; of several the one with the lowest numbers, from its end
  Micros length = 0;
  Micros work = 0;  // of all nodes together
  std::vector<Timing> timing;
};
// Preconditions: durations.size() == graph.size(), none negative, no cycle.
CriticalPath critical_path(const Graph &graph, std::span<const Micros> durations);

// Nodes by level, ascending within one.
std::vector<std::vector<int>> nodes_by_level(const Graph &graph);

// How much hangs on a node: its descendants, and those of them that are still open.
struct Reach {
  int downstream = 0, open_downstream = 0;
};

// The reference engine's weights: 5 for each descendant, 15 more for one that waits.
inline constexpr int kDownstreamWeight = 5, kOpenWeight = 15;
inline constexpr double weight_of(const Reach &reach) noexcept { return kDownstreamWeight * reach.downstream + kOpenWeight * reach.open_downstream; }

struct Ranked {
  int node = 0;
  Reach reach;
  double score = 0;
};
struct Ranking {
  std::vector<Ranked> best;    // the highest score first; of equal ones the lower number
  bool exact = true;           // false: some candidate was left out by an estimate, see rank()
  std::size_t edges_seen = 0;  // the cost: how often an edge was followed
};

// The `wanted` candidates of the highest score. `score(node, weight)` must not fall when the weight rises.
//
// Counting the descendants of every node is quadratic, so candidates are taken in the order of an upper bound of their
// weight (children's bounds added up, but not more than all deeper levels hold) and counted exactly until the next
// bound cannot beat what is there; at most kMaxExamined are. What is reported is counted, never estimated; only which
// steps are reported may rest on the bound, and `exact` says so.
inline constexpr int kMaxExamined = 100;
using Score = std::function<double(int node, double weight)>;
Ranking rank(const Graph &graph, std::span<const int> candidates, const std::vector<bool> &open, const Score &score, std::size_t wanted);

}  // namespace tasker::core
