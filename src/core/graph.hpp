// Directed acyclic graphs of steps: cycles, levels, reach. All algorithms are iterative and linear in
// nodes + edges (10 000 steps in milliseconds, a chain of 100 000 without recursion).
//
// Nodes are numbered 0 … n-1; edges run from parent to child. Parallel edges are counted once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tasker::core {

class Graph {
 public:
  // parents[i] lists the parents of node i. Raises 22023 when a parent is out of range.
  explicit Graph(std::vector<std::vector<int>> parents);

  int size() const noexcept { return static_cast<int>(parents_.size()); }
  const std::vector<int> &parents(int node) const { return parents_[static_cast<std::size_t>(node)]; }
  const std::vector<int> &children(int node) const { return children_[static_cast<std::size_t>(node)]; }
  bool is_root(int node) const { return parents(node).empty(); }
  bool is_sink(int node) const { return children(node).empty(); }

 private:
  std::vector<std::vector<int>> parents_, children_;
};

// One cycle as the list of its nodes in edge order, the first not repeated (a → b → a is {a, b}); empty when there is none.
std::vector<int> find_cycle(const Graph &graph);
// Longest distance from a root (roots are 0). Precondition: no cycle.
std::vector<int> levels(const Graph &graph);
// Parents before children: by level, and on one level the lower number first. Precondition: no cycle.
std::vector<int> topological_order(const Graph &graph);
// All nodes reachable from `node` through children, without `node`, ascending.
std::vector<int> descendants(const Graph &graph, int node);

}  // namespace tasker::core
