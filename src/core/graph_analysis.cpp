#include "core/graph_analysis.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace tasker::core {
namespace {

std::size_t at(int node) { return static_cast<std::size_t>(node); }

void require_matching(const Graph &graph, std::size_t size) {
  if (size != at(graph.size())) throw Error(sqlstate::kInternal, "an analysis got " + std::to_string(size) + " steps for a graph of " + std::to_string(graph.size()));
}

// The latest finish that delays nothing, for each node.
std::vector<Micros> latest_finishes(const Graph &graph, const std::vector<int> &order, std::span<const Micros> durations, Micros length) {
  std::vector<Micros> latest(durations.size(), length);
  for (auto node = order.rbegin(); node != order.rend(); ++node)
    for (const int child : graph.children(*node)) latest[at(*node)] = std::min(latest[at(*node)], latest[at(child)] - durations[at(child)]);
  return latest;
}

// Upper bounds of the weights of what is below each node.
std::vector<double> weight_bounds(const Graph &graph, const std::vector<bool> &open) {
  const std::vector<int> level = levels(graph);
  const int depth = level.empty() ? 0 : *std::max_element(level.begin(), level.end()) + 1;
  const auto own = [&](int node) { return weight_of({1, open[at(node)] ? 1 : 0}); };
  std::vector<double> deeper(at(depth) + 1, 0);  // deeper[l]: of all nodes at level l and below
  for (int node = 0; node < graph.size(); ++node) deeper[at(level[at(node)])] += own(node);
  for (std::size_t l = deeper.size() - 1; l > 0; --l) deeper[l - 1] += deeper[l];
  std::vector<double> bound(at(graph.size()), 0);
  const std::vector<int> order = topological_order(graph);
  for (auto node = order.rbegin(); node != order.rend(); ++node) {
    double sum = 0;
    for (const int child : graph.children(*node)) sum += own(child) + bound[at(child)];
    bound[at(*node)] = std::min(sum, deeper[at(level[at(*node)]) + 1]);
  }
  return bound;
}

// Breadth first, with marks that are numbers: nothing is cleared between two searches.
class Reacher {
 public:
  Reacher(const Graph &graph, const std::vector<bool> &open) : graph_(graph), open_(open), mark_(at(graph.size()), -1) {}
  Reach of(int node) {
    Reach reach;
    queue_.assign(1, node);
    mark_[at(node)] = node;
    for (std::size_t head = 0; head < queue_.size(); ++head) {
      for (const int child : graph_.children(queue_[head])) {
        ++edges_seen_;
        if (mark_[at(child)] == node) continue;
        mark_[at(child)] = node;
        queue_.push_back(child);
        ++reach.downstream;
        reach.open_downstream += open_[at(child)] ? 1 : 0;
      }
    }
    return reach;
  }
  std::size_t edges_seen() const { return edges_seen_; }

 private:
  const Graph &graph_;
  const std::vector<bool> &open_;
  std::vector<int> mark_, queue_;
  std::size_t edges_seen_ = 0;
};

bool before(const Ranked &a, const Ranked &b) { return a.score != b.score ? a.score > b.score : a.node < b.node; }

}  // namespace

CriticalPath critical_path(const Graph &graph, std::span<const Micros> durations) {
  require_matching(graph, durations.size());
  CriticalPath out;
  out.timing.resize(durations.size());
  const std::vector<int> order = topological_order(graph);
  int end = -1;
  for (const int node : order) {
    Timing &timing = out.timing[at(node)];
    for (const int parent : graph.parents(node)) timing.earliest_start = std::max(timing.earliest_start, out.timing[at(parent)].earliest_finish);
    timing.earliest_finish = timing.earliest_start + durations[at(node)];
    out.work += durations[at(node)];
  }
  for (int node = 0; node < graph.size(); ++node)
    if (graph.is_sink(node) && (end < 0 || out.timing[at(node)].earliest_finish > out.timing[at(end)].earliest_finish)) end = node;
  if (end < 0) return out;
  out.length = out.timing[at(end)].earliest_finish;
  const std::vector<Micros> latest = latest_finishes(graph, order, durations, out.length);
  for (int node = 0; node < graph.size(); ++node) out.timing[at(node)].slack = latest[at(node)] - out.timing[at(node)].earliest_finish;
  while (end >= 0) {
    out.nodes.push_back(end);
    int before_it = -1;
    for (const int parent : graph.parents(end))
      if (before_it < 0 || out.timing[at(parent)].earliest_finish > out.timing[at(before_it)].earliest_finish) before_it = parent;
    end = before_it;
  }
  std::reverse(out.nodes.begin(), out.nodes.end());
  return out;
}

std::vector<std::vector<int>> nodes_by_level(const Graph &graph) {
  std::vector<std::vector<int>> out;
  const std::vector<int> level = levels(graph);
  for (int node = 0; node < graph.size(); ++node) {
    if (out.size() <= at(level[at(node)])) out.resize(at(level[at(node)]) + 1);
    out[at(level[at(node)])].push_back(node);
  }
  return out;
}

Ranking rank(const Graph &graph, std::span<const int> candidates, const std::vector<bool> &open, const Score &score, std::size_t wanted) {
  require_matching(graph, open.size());
  Ranking out;
  const std::vector<double> bound = weight_bounds(graph, open);
  std::vector<Ranked> queue;
  for (const int node : candidates) queue.push_back({node, {}, score(node, bound[at(node)])});
  std::sort(queue.begin(), queue.end(), before);
  Reacher reacher(graph, open);
  std::size_t examined = 0;
  for (const Ranked &next : queue) {
    // Equal bounds go on: a lower number may still come first.
    if (out.best.size() == wanted && next.score < out.best.back().score) break;
    if (examined == at(kMaxExamined)) {
      out.exact = false;
      break;
    }
    ++examined;
    Ranked counted{next.node, reacher.of(next.node), 0};
    counted.score = score(next.node, weight_of(counted.reach));
    out.best.insert(std::upper_bound(out.best.begin(), out.best.end(), counted, before), counted);
    if (out.best.size() > wanted) out.best.pop_back();
  }
  out.edges_seen = reacher.edges_seen();
  return out;
}

}  // namespace tasker::core
