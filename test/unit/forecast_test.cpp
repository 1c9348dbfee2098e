#include "core/forecast.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

using namespace tasker::core;

namespace {

Graph chain(int nodes) {
  std::vector<std::vector<int>> parents(static_cast<std::size_t>(nodes));
  for (int i = 1; i < nodes; ++i) parents[static_cast<std::size_t>(i)].push_back(i - 1);
  return Graph(parents);
}

PastRun run_of(const std::vector<Micros> &spans) {
  PastRun run;
  for (const Micros span : spans) run.push_back({0, span});
  return run;
}

// A world of workflows of twelve steps, whose spans are drawn from lognormal distributions of their own, some with a retry
// that costs a backoff, and with a factor that all steps of a run share.
class World {
 public:
  explicit World(unsigned seed) : random_(seed), graph_({{}, {0}, {0}, {0}, {1, 2}, {3}, {4}, {4, 5}, {6}, {7}, {8, 9}, {10}}) {
    for (int i = 0; i < graph_.size(); ++i) scale_.push_back(std::uniform_real_distribution<double>(1, 20)(random_));
  }
  const Graph &graph() const { return graph_; }
  PastRun draw(double shared) {
    std::lognormal_distribution<double> common(0, shared), own(0, 0.7);
    const double factor = shared > 0 ? common(random_) : 1;
    std::vector<Micros> spans;
    for (const double scale : scale_) {
      double seconds = scale * factor * own(random_);
      if (std::bernoulli_distribution(0.1)(random_)) seconds += 30;
      spans.push_back(static_cast<Micros>(seconds * 1e6));
    }
    return run_of(spans);
  }
  // As it stands at `now`, having begun at 0; and when it will really end.
  std::vector<StepOutlook> at(const PastRun &run, Micros now, Micros &end) const {
    std::vector<Micros> finish(run.size());
    std::vector<StepOutlook> out(run.size());
    end = 0;
    for (const int node : topological_order(graph_)) {
      const auto i = static_cast<std::size_t>(node);
      Micros ready = 0;
      bool parents_done = true;
      for (const int parent : graph_.parents(node)) {
        ready = std::max(ready, finish[static_cast<std::size_t>(parent)]);
        parents_done = parents_done && finish[static_cast<std::size_t>(parent)] <= now;
      }
      finish[i] = ready + run[i].total();
      end = std::max(end, finish[i]);
      out[i].done = finish[i] <= now;
      out[i].finished_at = finish[i];
      if (!out[i].done && parents_done) {
        out[i].ready_since = ready;
        out[i].not_before = now;
      }
    }
    return out;
  }
  double uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }

 private:
  std::mt19937 random_;
  Graph graph_;
  std::vector<double> scale_;
};

struct Shares {
  double p50 = 0, p95 = 0;
};

// The share of real ends up to each forecast, of tasks that begin or, midway, of those still running at some moment.
Shares calibrate(int runs, double shared, bool midway) {
  int below50 = 0, below95 = 0, total = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    World world(seed);
    std::vector<PastRun> history;
    for (int i = 0; i < runs; ++i) history.push_back(world.draw(shared));
    for (int i = 0; i < 20; ++i) {
      const PastRun real = world.draw(shared);
      Micros end = 0, usual = 0;
      // The moment of looking must not know this run's end: a share of its own length would favour short ones.
      world.at(world.draw(shared), 0, usual);
      const Micros now = midway ? static_cast<Micros>(world.uniform() * static_cast<double>(usual)) : 0;
      world.at(real, now, end);
      if (end <= now) continue;
      const std::vector<Micros> ends = possible_ends(world.graph(), world.at(real, now, end), history);
      below50 += end <= quantile(ends, 0.5) ? 1 : 0;
      below95 += end <= quantile(ends, 0.95) ? 1 : 0;
      ++total;
    }
  }
  return {static_cast<double>(below50) / total, static_cast<double>(below95) / total};
}

}  // namespace

TEST(Forecast, SpansOfAPastRun) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  // The second had to wait, the third was skipped, the last began as soon as both had ended.
  const std::vector<PastStep> steps{{110, 120, false}, {150, 160, false}, {std::nullopt, 500, true}, {160, 175, false}};
  const PastRun run = past_run(graph, 100, steps);
  EXPECT_EQ(run[0].waiting, 10);
  EXPECT_EQ(run[0].working, 10);
  EXPECT_EQ(run[1].waiting, 30);
  EXPECT_EQ(run[1].working, 10);
  EXPECT_EQ(run[2].total(), 0);
  EXPECT_EQ(run[3].waiting, 0);
  EXPECT_EQ(run[3].working, 15);
}

TEST(Forecast, TimesThatRunBackwardsAreNoNegativeSpans) {
  const PastRun run = past_run(chain(2), 100, std::vector<PastStep>{{90, 120, false}, {110, 115, false}});
  EXPECT_EQ(run[0].total(), 20);
  EXPECT_EQ(run[1].total(), 0);
}

TEST(Forecast, QuantilesLeaveRoomForTheNextRun) {
  std::vector<Micros> values(19);
  std::iota(values.begin(), values.end(), 1);
  EXPECT_EQ(quantile(values, 0.5), 10);
  EXPECT_EQ(quantile(values, 0.95), 19);
  values.resize(4);
  EXPECT_EQ(quantile(values, 0.95), 4);
  EXPECT_EQ(quantile(std::vector<Micros>{7}, 0.5), 7);
}

TEST(Forecast, LongestBranchDecides) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  std::vector<StepOutlook> steps(4);
  steps[0].ready_since = steps[0].not_before = 1000;
  const std::vector<PastRun> runs{run_of({1, 5, 2, 1}), run_of({1, 2, 9, 1})};
  EXPECT_EQ(possible_ends(graph, steps, runs), (std::vector<Micros>{1007, 1011}));
}

TEST(Forecast, AStepUnderWayIsComparedWithLongerOnesOnly) {
  std::vector<StepOutlook> steps(1);
  steps[0].ready_since = 100;
  steps[0].not_before = 150;
  EXPECT_EQ(possible_ends(chain(1), steps, std::vector<PastRun>{run_of({10}), run_of({60}), run_of({80})}), (std::vector<Micros>{160, 160, 180}));
  // Longer than ever: as if it began now.
  EXPECT_EQ(possible_ends(chain(1), steps, std::vector<PastRun>{run_of({10}), run_of({50})}), (std::vector<Micros>{160, 200}));
}

TEST(Forecast, KnownEndsAndSkippedSteps) {
  std::vector<StepOutlook> steps(3);
  steps[0].done = true;
  steps[0].finished_at = 50;
  steps[1].ready_since = 50;
  steps[1].not_before = 60;
  steps[1].ends_at = 500;
  EXPECT_EQ(possible_ends(chain(3), steps, std::vector<PastRun>{run_of({1, 7, 4})}), (std::vector<Micros>{504}));
  // One that took nothing takes nothing again.
  std::vector<StepOutlook> fresh(1);
  fresh[0].ready_since = fresh[0].not_before = 100;
  EXPECT_EQ(possible_ends(chain(1), fresh, std::vector<PastRun>{run_of({0}), run_of({9})}), (std::vector<Micros>{100, 109}));
}

TEST(Forecast, CalibratedForTasksThatBegin) {
  for (const double shared : {0.0, 0.8}) {
    const Shares shares = calibrate(100, shared, false);
    EXPECT_NEAR(shares.p50, 0.5, 0.1) << shared;
    EXPECT_NEAR(shares.p95, 0.95, 0.04) << shared;
  }
}

TEST(Forecast, CalibratedOnTheWay) {
  const Shares shares = calibrate(100, 0, true);
  EXPECT_NEAR(shares.p50, 0.5, 0.1);
  EXPECT_NEAR(shares.p95, 0.95, 0.04);
}

TEST(Forecast, CalibratedWithFewRuns) {
  const Shares shares = calibrate(20, 0.8, false);
  EXPECT_NEAR(shares.p50, 0.5, 0.1);
  EXPECT_NEAR(shares.p95, 0.95, 0.04);
}

TEST(Forecast, TenThousandSteps) {
  const Graph graph = chain(10'000);
  std::vector<StepOutlook> steps(10'000);
  steps[0].ready_since = 0;
  const std::vector<PastRun> runs(5, run_of(std::vector<Micros>(10'000, 3)));
  EXPECT_EQ(possible_ends(graph, steps, runs).back(), 30'000);
}
