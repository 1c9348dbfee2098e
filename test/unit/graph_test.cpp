#include "core/graph.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "core/error.hpp"

namespace tasker::core {
namespace {

using Lists = std::vector<std::vector<int>>;

Lists chain(int length) {
  Lists parents(static_cast<std::size_t>(length));
  for (int i = 1; i < length; ++i) parents[static_cast<std::size_t>(i)] = {i - 1};
  return parents;
}

// 1 → width → 1
Lists fan(int width) {
  Lists parents(static_cast<std::size_t>(width) + 2);
  for (int i = 1; i <= width; ++i) {
    parents[static_cast<std::size_t>(i)] = {0};
    parents.back().push_back(i);
  }
  return parents;
}

// Edges only from lower to higher numbers, then the numbers shuffled: no cycle, and no order to lean on.
Lists random_dag(std::mt19937 &random, int size, int percent) {
  std::vector<int> number(static_cast<std::size_t>(size));
  std::iota(number.begin(), number.end(), 0);
  std::shuffle(number.begin(), number.end(), random);
  Lists parents(number.size());
  for (std::size_t child = 0; child < number.size(); ++child) {
    for (std::size_t parent = 0; parent < child; ++parent) {
      if (static_cast<int>(random() % 100) < percent) parents[static_cast<std::size_t>(number[child])].push_back(number[parent]);
    }
  }
  return parents;
}

// Reachability by repeated relaxation: slow and plain.
std::vector<std::vector<bool>> naive_reach(const Lists &parents) {
  const std::size_t size = parents.size();
  std::vector<std::vector<bool>> reach(size, std::vector<bool>(size, false));
  for (std::size_t child = 0; child < size; ++child) {
    for (const int parent : parents[child]) reach[static_cast<std::size_t>(parent)][child] = true;
  }
  for (std::size_t middle = 0; middle < size; ++middle) {
    for (std::size_t from = 0; from < size; ++from) {
      for (std::size_t to = 0; to < size; ++to) {
        if (reach[from][middle] && reach[middle][to]) reach[from][to] = true;
      }
    }
  }
  return reach;
}

std::vector<int> naive_levels(const Lists &parents) {
  std::vector<int> level(parents.size(), 0);
  for (std::size_t round = 0; round < parents.size(); ++round) {
    for (std::size_t child = 0; child < parents.size(); ++child) {
      for (const int parent : parents[child]) level[child] = std::max(level[child], level[static_cast<std::size_t>(parent)] + 1);
    }
  }
  return level;
}

void expect_cycle(const Graph &graph, const std::vector<int> &cycle) {
  ASSERT_FALSE(cycle.empty());
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    const std::vector<int> &children = graph.children(cycle[i]);
    EXPECT_TRUE(std::binary_search(children.begin(), children.end(), cycle[(i + 1) % cycle.size()])) << "edge " << i;
  }
  std::vector<int> sorted = cycle;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end()) << "no node twice";
  EXPECT_EQ(cycle.front(), sorted.front()) << "the lowest first";
}

void expect_topological(const Graph &graph) {
  const std::vector<int> order = topological_order(graph);
  std::vector<int> place(order.size(), -1);
  for (std::size_t i = 0; i < order.size(); ++i) place[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
  EXPECT_EQ(std::count(place.begin(), place.end(), -1), 0) << "each node once";
  for (int node = 0; node < graph.size(); ++node) {
    for (const int parent : graph.parents(node)) EXPECT_LT(place[static_cast<std::size_t>(parent)], place[static_cast<std::size_t>(node)]);
  }
}

TEST(Graph, Empty) {
  const Graph graph({});
  EXPECT_EQ(graph.size(), 0);
  EXPECT_TRUE(find_cycle(graph).empty());
  EXPECT_TRUE(levels(graph).empty());
  EXPECT_TRUE(topological_order(graph).empty());
}

TEST(Graph, CountsParallelEdgesOnceAndSorts) {
  const Graph graph({{}, {0, 0}, {1, 0, 1, 0}});
  EXPECT_EQ(graph.parents(1), (std::vector<int>{0}));
  EXPECT_EQ(graph.parents(2), (std::vector<int>{0, 1}));
  EXPECT_EQ(graph.children(0), (std::vector<int>{1, 2}));
  EXPECT_TRUE(graph.is_root(0));
  EXPECT_FALSE(graph.is_root(2));
  EXPECT_TRUE(graph.is_sink(2));
  EXPECT_FALSE(graph.is_sink(1));
}

TEST(Graph, RefusesParentsOutOfRange) {
  for (const int bad : {-1, 2, 1'000'000}) {
    try {
      const Graph graph({{}, {bad}});
      FAIL() << bad;
    } catch (const Error &error) {
      EXPECT_EQ(error.sqlstate(), "22023");
      EXPECT_NE(error.message().find(std::to_string(bad)), std::string::npos);
    }
  }
}

struct Shape {
  const char *name;
  Lists parents;
  std::vector<int> levels;
};

class ReferenceShapes : public testing::TestWithParam<Shape> {};

TEST_P(ReferenceShapes, HaveTheReferencesLevels) {
  const Graph graph(GetParam().parents);
  EXPECT_EQ(levels(graph), GetParam().levels);
  EXPECT_TRUE(find_cycle(graph).empty());
  expect_topological(graph);
}

INSTANTIATE_TEST_SUITE_P(
    Graph, ReferenceShapes,
    testing::Values(Shape{"linear", chain(6), {0, 1, 2, 3, 4, 5}}, Shape{"diamond", {{}, {0}, {0}, {1}, {2}, {3, 4}, {5}}, {0, 1, 1, 2, 2, 3, 4}},
                    Shape{"parallel_merge", {{}, {}, {}, {}, {0}, {1}, {4, 5, 2, 3}}, {0, 0, 0, 0, 1, 1, 2}},
                    Shape{"tree", {{}, {0}, {0}, {1}, {1}, {2}, {2}, {3, 4, 5, 6}}, {0, 1, 1, 2, 2, 2, 2, 3}},
                    Shape{"mixed", {{}, {}, {0}, {1}, {2, 3}, {4}, {4}, {3}, {5, 7}}, {0, 0, 1, 1, 2, 3, 3, 2, 4}},
                    Shape{"failure", chain(4), {0, 1, 2, 3}}, Shape{"dummy", {{}, {}, {1}, {2}}, {0, 0, 1, 2}},
                    Shape{"two_paths_of_unequal_length", {{}, {0}, {1}, {0, 2}}, {0, 1, 2, 3}}),
    [](const testing::TestParamInfo<Shape> &shape) { return std::string(shape.param.name); });

TEST(Graph, OrderIsByLevelThenNumber) {
  EXPECT_EQ(topological_order(Graph({{}, {}, {}, {}, {0}, {1}, {4, 5, 2, 3}})), (std::vector<int>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(topological_order(Graph({{3}, {}, {0}, {}})), (std::vector<int>{1, 3, 0, 2}));
}

TEST(Graph, Descendants) {
  const Graph graph({{}, {0}, {0}, {1}, {2}, {3, 4}, {5}, {}});
  EXPECT_EQ(descendants(graph, 0), (std::vector<int>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(descendants(graph, 2), (std::vector<int>{4, 5, 6}));
  EXPECT_TRUE(descendants(graph, 6).empty());
  EXPECT_TRUE(descendants(graph, 7).empty());
  EXPECT_THROW(descendants(graph, 8), Error);
  EXPECT_THROW(descendants(graph, -1), Error);
}

TEST(Graph, DescendantsOfANodeOnACycleLeaveItOut) { EXPECT_EQ(descendants(Graph({{2}, {0}, {1}}), 1), (std::vector<int>{0, 2})); }

TEST(Graph, FindsCycles) {
  EXPECT_EQ(find_cycle(Graph(Lists{{0}})), (std::vector<int>{0}));
  EXPECT_EQ(find_cycle(Graph({{1}, {0}})), (std::vector<int>{0, 1}));
  // 1 → 3 → 2 → 1, reached through 0
  EXPECT_EQ(find_cycle(Graph({{}, {0, 2}, {3}, {1}})), (std::vector<int>{1, 3, 2}));
  // The cycle is entered in its middle and still starts with its lowest number.
  EXPECT_EQ(find_cycle(Graph({{}, {3}, {1}, {2, 0}})), (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(find_cycle(Graph({{}, {0}, {0}, {1, 2}})).empty()) << "two ways to one node are no cycle";
}

TEST(Graph, LevelsOfACycleAreRefused) {
  EXPECT_THROW(levels(Graph({{}, {0, 2}, {1}})), Error);
  EXPECT_THROW(topological_order(Graph(Lists{{0}})), Error);
}

TEST(Graph, ChainOf100000) {
  const Graph graph(chain(100'000));
  EXPECT_EQ(levels(graph).back(), 99'999);
  EXPECT_TRUE(find_cycle(graph).empty());
  EXPECT_EQ(descendants(graph, 0).size(), 99'999U);
  EXPECT_EQ(topological_order(graph).front(), 0);

  Lists closed = chain(100'000);
  closed[0] = {99'999};
  EXPECT_EQ(find_cycle(Graph(closed)).size(), 100'000U);
}

TEST(Graph, FanOf9999) {
  const Graph graph(fan(9'999));
  const std::vector<int> level = levels(graph);
  EXPECT_EQ(level[0], 0);
  EXPECT_EQ(std::count(level.begin(), level.end(), 1), 9'999);
  EXPECT_EQ(level.back(), 2);
  EXPECT_EQ(graph.parents(10'000).size(), 9'999U);
  EXPECT_EQ(descendants(graph, 1), (std::vector<int>{10'000}));
}

// The reference enumerates paths and takes seconds for 7 such layers; there are 8^40 of them here.
TEST(Graph, FullyConnectedLayersAreLinear) {
  Lists parents(8);
  for (int layer = 1; layer < 40; ++layer) {
    for (int i = 0; i < 8; ++i) {
      parents.emplace_back();
      for (int j = 0; j < 8; ++j) parents.back().push_back((layer - 1) * 8 + j);
    }
  }
  const auto start = std::chrono::steady_clock::now();
  const Graph graph(parents);
  EXPECT_EQ(levels(graph).back(), 39);
  EXPECT_TRUE(find_cycle(graph).empty());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(Graph, RandomDagsAgreeWithTheNaiveAlgorithm) {
  std::mt19937 random(20240601);
  for (int round = 0; round < 200; ++round) {
    const Lists parents = random_dag(random, 1 + round % 30, 3 + round % 40);
    const Graph graph(parents);
    ASSERT_TRUE(find_cycle(graph).empty());
    ASSERT_EQ(levels(graph), naive_levels(parents));
    expect_topological(graph);
    const auto reach = naive_reach(parents);
    for (int node = 0; node < graph.size(); ++node) {
      std::vector<int> expected;
      for (int other = 0; other < graph.size(); ++other) {
        if (reach[static_cast<std::size_t>(node)][static_cast<std::size_t>(other)]) expected.push_back(other);
      }
      ASSERT_EQ(descendants(graph, node), expected);
    }
  }
}

TEST(Graph, RandomGraphsHaveACycleExactlyWhenTheNaiveAlgorithmSaysSo) {
  std::mt19937 random(7);
  int cyclic = 0;
  for (int round = 0; round < 300; ++round) {
    const int size = 2 + round % 20;
    Lists parents = random_dag(random, size, 10);
    for (int extra = 0; extra < 2; ++extra) {
      parents[random() % parents.size()].push_back(static_cast<int>(random() % parents.size()));
    }
    const auto reach = naive_reach(parents);
    bool expected = false;
    for (std::size_t node = 0; node < parents.size(); ++node) expected = expected || reach[node][node];
    const Graph graph(parents);
    const std::vector<int> cycle = find_cycle(graph);
    ASSERT_EQ(!cycle.empty(), expected);
    if (expected) expect_cycle(graph, cycle);
    cyclic += expected ? 1 : 0;
  }
  EXPECT_GT(cyclic, 30);
  EXPECT_LT(cyclic, 270);
}

}  // namespace
}  // namespace tasker::core
