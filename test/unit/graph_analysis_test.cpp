#include "core/graph_analysis.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

using namespace tasker::core;

namespace {

Graph diamond() { return Graph({{}, {0}, {0}, {1, 2}}); }

// Edges from lower to higher numbers.
Graph random_graph(int nodes, double density, std::mt19937 &random) {
  std::bernoulli_distribution edge(density);
  std::vector<std::vector<int>> parents(static_cast<std::size_t>(nodes));
  for (int child = 1; child < nodes; ++child)
    for (int parent = 0; parent < child; ++parent)
      if (edge(random)) parents[static_cast<std::size_t>(child)].push_back(parent);
  return Graph(std::move(parents));
}

// `width` nodes a level, each with three parents: what made the reference engine's enumeration of paths explode.
Graph layered(int nodes, int width) {
  std::vector<std::vector<int>> parents(static_cast<std::size_t>(nodes));
  for (int node = width; node < nodes; ++node)
    for (int i = 0; i < 3; ++i) parents[static_cast<std::size_t>(node)].push_back((node / width - 1) * width + (node + i * 7) % width);
  return Graph(std::move(parents));
}

// Every path, one by one.
Micros longest_by_enumeration(const Graph &graph, const std::vector<Micros> &durations, int node) {
  Micros longest = 0;
  for (const int child : graph.children(node)) longest = std::max(longest, longest_by_enumeration(graph, durations, child));
  return longest + durations[static_cast<std::size_t>(node)];
}

double by_weight(int, double weight) { return weight; }

}  // namespace

TEST(GraphAnalysis, DiamondByHand) {
  const CriticalPath path = critical_path(diamond(), std::vector<Micros>{10, 30, 50, 5});
  EXPECT_EQ(path.nodes, (std::vector<int>{0, 2, 3}));
  EXPECT_EQ(path.length, 65);
  EXPECT_EQ(path.work, 95);
  EXPECT_EQ(path.timing[1].slack, 20);
  EXPECT_EQ(path.timing[2].slack, 0);
  EXPECT_EQ(path.timing[3].earliest_start, 60);
  EXPECT_EQ(path.timing[3].earliest_finish, 65);
}

TEST(GraphAnalysis, SlackReachesTheEndOfAShortBranch) {
  const CriticalPath path = critical_path(Graph({{}, {0}, {0}}), std::vector<Micros>{1, 10, 4});
  EXPECT_EQ(path.timing[2].slack, 6);
  EXPECT_EQ(path.nodes, (std::vector<int>{0, 1}));
}

TEST(GraphAnalysis, OfEqualWaysTheLowestNumbers) {
  EXPECT_EQ(critical_path(diamond(), std::vector<Micros>{1, 2, 2, 1}).nodes, (std::vector<int>{0, 1, 3}));
  EXPECT_EQ(critical_path(diamond(), std::vector<Micros>{0, 0, 0, 0}).nodes, (std::vector<int>{0, 1, 3}));
}

TEST(GraphAnalysis, EmptyGraph) {
  const CriticalPath path = critical_path(Graph({}), {});
  EXPECT_TRUE(path.nodes.empty());
  EXPECT_EQ(path.length, 0);
  EXPECT_TRUE(nodes_by_level(Graph({})).empty());
  EXPECT_TRUE(rank(Graph({}), {}, {}, by_weight, 3).best.empty());
}

TEST(GraphAnalysis, AgreesWithEnumerationOnRandomGraphs) {
  std::mt19937 random(1);
  std::uniform_int_distribution<Micros> draw(0, 1000);
  for (int round = 0; round < 200; ++round) {
    const Graph graph = random_graph(14, 0.25, random);
    std::vector<Micros> durations;
    for (int i = 0; i < graph.size(); ++i) durations.push_back(draw(random));
    const CriticalPath path = critical_path(graph, durations);
    Micros longest = 0, along = 0;
    for (int node = 0; node < graph.size(); ++node) longest = std::max(longest, longest_by_enumeration(graph, durations, node));
    EXPECT_EQ(path.length, longest);
    for (const int node : path.nodes) {
      along += durations[static_cast<std::size_t>(node)];
      EXPECT_EQ(path.timing[static_cast<std::size_t>(node)].slack, 0);
    }
    EXPECT_EQ(along, longest);
    // Slack is what a step may be late by: all of it is free, one more is not.
    for (int node = 0; node < graph.size(); ++node) {
      std::vector<Micros> later = durations;
      later[static_cast<std::size_t>(node)] += path.timing[static_cast<std::size_t>(node)].slack;
      EXPECT_EQ(critical_path(graph, later).length, longest);
      later[static_cast<std::size_t>(node)]++;
      EXPECT_EQ(critical_path(graph, later).length, longest + 1);
    }
  }
}

TEST(GraphAnalysis, RanksAsExhaustiveCountingDoes) {
  std::mt19937 random(2);
  std::bernoulli_distribution coin(0.5);
  for (int round = 0; round < 200; ++round) {
    const Graph graph = random_graph(30, 0.1, random);
    std::vector<bool> open;
    std::vector<int> all;
    for (int node = 0; node < graph.size(); ++node) {
      open.push_back(coin(random));
      all.push_back(node);
    }
    const Score score = [](int node, double weight) { return weight * (node % 3 == 0 ? 2.5 : 1) + node % 5; };
    std::vector<Ranked> expected;
    for (const int node : all) {
      Ranked one{node, {}, 0};
      for (const int below : descendants(graph, node)) {
        one.reach.downstream++;
        one.reach.open_downstream += open[static_cast<std::size_t>(below)] ? 1 : 0;
      }
      one.score = score(node, 5 * one.reach.downstream + 15 * one.reach.open_downstream);
      expected.push_back(one);
    }
    std::stable_sort(expected.begin(), expected.end(), [](const Ranked &a, const Ranked &b) { return a.score > b.score; });
    const Ranking ranking = rank(graph, all, open, score, 7);
    ASSERT_EQ(ranking.best.size(), 7u);
    EXPECT_TRUE(ranking.exact);
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(ranking.best[i].node, expected[i].node);
      EXPECT_EQ(ranking.best[i].reach.downstream, expected[i].reach.downstream);
      EXPECT_EQ(ranking.best[i].reach.open_downstream, expected[i].reach.open_downstream);
      EXPECT_EQ(ranking.best[i].score, expected[i].score);
    }
  }
}

TEST(GraphAnalysis, FullLayersAreRankedWithoutCountingThem) {
  std::vector<std::vector<int>> parents(1000);
  for (int node = 50; node < 1000; ++node)
    for (int i = 0; i < 50; ++i) parents[static_cast<std::size_t>(node)].push_back((node / 50 - 1) * 50 + i);
  const Graph graph(parents);
  std::vector<int> all(1000);
  for (int i = 0; i < 1000; ++i) all[static_cast<std::size_t>(i)] = i;
  const Ranking ranking = rank(graph, all, std::vector<bool>(1000, false), by_weight, 10);
  EXPECT_TRUE(ranking.exact);
  EXPECT_EQ(ranking.best[9].node, 9);
  EXPECT_EQ(ranking.best[9].reach.downstream, 950);
}

// The cost is counted, not timed: each further step costs its own edges as often as candidates are examined, and no more.
TEST(GraphAnalysis, CostIsLinearInTheGraph) {
  std::size_t seen[2];
  for (int i = 0; i < 2; ++i) {
    const int nodes = 10'000 << i;
    const Graph graph = layered(nodes, 100);
    std::vector<int> all(static_cast<std::size_t>(nodes));
    for (int node = 0; node < nodes; ++node) all[static_cast<std::size_t>(node)] = node;
    const Ranking ranking = rank(graph, all, std::vector<bool>(all.size(), true), by_weight, 10);
    seen[i] = ranking.edges_seen;
    EXPECT_LE(seen[i], static_cast<std::size_t>(kMaxExamined) * 3 * all.size());
    EXPECT_FALSE(ranking.exact);  // sparse layers are the case in which the bound doesn't tell
    EXPECT_EQ(critical_path(graph, std::vector<Micros>(all.size(), 7)).length, 7 * nodes / 100);
  }
  EXPECT_LE(seen[1] - seen[0], static_cast<std::size_t>(kMaxExamined) * 3 * 10'000);
}

TEST(GraphAnalysis, ALongChainIsNoRecursion) {
  std::vector<std::vector<int>> parents(100'000);
  for (std::size_t i = 1; i < parents.size(); ++i) parents[i].push_back(static_cast<int>(i) - 1);
  const Graph graph(parents);
  EXPECT_EQ(critical_path(graph, std::vector<Micros>(parents.size(), 1)).nodes.size(), parents.size());
  const std::vector<int> first{0};
  EXPECT_EQ(rank(graph, first, std::vector<bool>(parents.size(), false), by_weight, 1).best.front().reach.downstream, 99'999);
}
