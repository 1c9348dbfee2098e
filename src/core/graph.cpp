// Kahn's algorithm and a depth-first search, both with explicit queues: a chain of 100 000 steps must not
// become 100 000 stack frames inside a server process.
#include "core/graph.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/error.hpp"

namespace tasker::core {
namespace {

std::size_t at(int node) { return static_cast<std::size_t>(node); }

// Levels, or nothing when a cycle keeps some node from ever losing its last parent.
std::vector<int> levels_or_empty(const Graph &graph) {
  const int count = graph.size();
  std::vector<int> level(at(count), 0), parents_left(at(count)), queue;
  queue.reserve(at(count));
  for (int node = 0; node < count; ++node) {
    parents_left[at(node)] = static_cast<int>(graph.parents(node).size());
    if (graph.is_root(node)) queue.push_back(node);
  }
  for (std::size_t head = 0; head < queue.size(); ++head) {
    const int node = queue[head];
    for (const int child : graph.children(node)) {
      level[at(child)] = std::max(level[at(child)], level[at(node)] + 1);
      if (--parents_left[at(child)] == 0) queue.push_back(child);
    }
  }
  if (queue.size() != at(count)) level.clear();
  return level;
}

}  // namespace

// Children are collected first, each edge once, and parents derived from them: both lists come out ascending
// without sorting.
Graph::Graph(std::vector<std::vector<int>> parents) : parents_(std::move(parents)), children_(parents_.size()) {
  std::vector<int> last_child(parents_.size(), -1);
  for (int child = 0; child < size(); ++child) {
    for (const int parent : parents_[at(child)]) {
      if (parent < 0 || parent >= size()) {
        throw Error(sqlstate::kInvalidParameter, "parent " + std::to_string(parent) + " of node " + std::to_string(child) +
                                                     " is out of range: there are " + std::to_string(size()) + " nodes");
      }
      if (last_child[at(parent)] == child) continue;
      last_child[at(parent)] = child;
      children_[at(parent)].push_back(child);
    }
  }
  for (std::vector<int> &list : parents_) list.clear();
  for (int parent = 0; parent < size(); ++parent) {
    for (const int child : children_[at(parent)]) parents_[at(child)].push_back(parent);
  }
}

std::vector<int> find_cycle(const Graph &graph) {
  enum class Mark : std::uint8_t { kNew, kOnPath, kDone };
  std::vector<Mark> mark(at(graph.size()), Mark::kNew);
  std::vector<std::size_t> next_child(at(graph.size()), 0);
  std::vector<int> path;
  for (int start = 0; start < graph.size(); ++start) {
    if (mark[at(start)] != Mark::kNew) continue;
    path.push_back(start);
    mark[at(start)] = Mark::kOnPath;
    while (!path.empty()) {
      const int node = path.back();
      if (next_child[at(node)] == graph.children(node).size()) {
        mark[at(node)] = Mark::kDone;
        path.pop_back();
        continue;
      }
      const int child = graph.children(node)[next_child[at(node)]++];
      if (mark[at(child)] == Mark::kOnPath) {
        path.erase(path.begin(), std::find(path.begin(), path.end(), child));
        // The lowest number first, so that one cycle has one spelling.
        std::rotate(path.begin(), std::min_element(path.begin(), path.end()), path.end());
        return path;
      }
      if (mark[at(child)] == Mark::kNew) {
        mark[at(child)] = Mark::kOnPath;
        path.push_back(child);
      }
    }
  }
  return {};
}

// A caller that breaks the precondition gets an error, not an endless loop in a background worker.
std::vector<int> levels(const Graph &graph) {
  std::vector<int> level = levels_or_empty(graph);
  if (level.size() != at(graph.size())) throw Error(sqlstate::kInternal, "levels of a graph with a cycle were asked for");
  return level;
}

// A parent's level is always below its child's, so sorting by level is a topological order; counting sort
// keeps it linear and leaves equal levels in the order of their numbers.
std::vector<int> topological_order(const Graph &graph) {
  const std::vector<int> level = levels(graph);
  std::vector<std::size_t> place(level.size() + 1, 0);
  for (const int one : level) ++place[at(one) + 1];
  for (std::size_t i = 1; i < place.size(); ++i) place[i] += place[i - 1];
  std::vector<int> order(level.size());
  for (int node = 0; node < graph.size(); ++node) order[place[at(level[at(node)])]++] = node;
  return order;
}

std::vector<int> descendants(const Graph &graph, int node) {
  if (node < 0 || node >= graph.size()) throw Error(sqlstate::kInvalidParameter, "node " + std::to_string(node) + " is out of range");
  std::vector<bool> reached(at(graph.size()), false);
  std::vector<int> found = graph.children(node);
  for (const int child : found) reached[at(child)] = true;
  for (std::size_t head = 0; head < found.size(); ++head) {
    for (const int child : graph.children(found[head])) {
      if (reached[at(child)]) continue;
      reached[at(child)] = true;
      found.push_back(child);
    }
  }
  found.clear();
  for (int other = 0; other < graph.size(); ++other) {
    if (reached[at(other)] && other != node) found.push_back(other);
  }
  return found;
}

}  // namespace tasker::core
