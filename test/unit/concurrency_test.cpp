#include "core/concurrency.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tasker::core {
namespace {

ConcurrencyInputs idle(int size, int busy) { return {size, busy, 1000, 1, 100, 1, 100, 3, 12}; }

TEST(Concurrency, FollowsTheTableOfConnections) {
  const struct {
    int size, busy;
    Pressure pressure;
    int result;
    const char *health;
  } cases[] = {
      {100, 0, Pressure::kLow, 12, "healthy"},       {20, 2, Pressure::kLow, 10, "healthy"},      // .8 × 18 = 14, 12 at most, 60 % of 18 are 10
      {10, 1, Pressure::kLow, 5, "healthy"},         {100, 50, Pressure::kLow, 12, "healthy"},
      {100, 51, Pressure::kModerate, 12, "healthy"}, {20, 12, Pressure::kModerate, 4, "healthy"}, // .6 × 8
      {20, 14, Pressure::kModerate, 3, "healthy"},   {100, 70, Pressure::kModerate, 12, "healthy"},
      {100, 71, Pressure::kHigh, 7, "degraded"},     {100, 85, Pressure::kHigh, 4, "degraded"},   // .7 × floor(.4 × 15)
      {40, 30, Pressure::kHigh, 3, "degraded"},      {100, 86, Pressure::kCritical, 3, "critical"},
      {1000, 900, Pressure::kCritical, 3, "critical"},
  };
  for (const auto &c : cases) {
    const ConcurrencyPlan plan = plan_concurrency(idle(c.size, c.busy));
    EXPECT_EQ(plan.pressure, c.pressure) << c.size << "/" << c.busy;
    EXPECT_EQ(plan.result, c.result) << c.size << "/" << c.busy;
    EXPECT_STREQ(connection_health(plan.pressure), c.health) << c.size << "/" << c.busy;
  }
}

TEST(Concurrency, FollowsTheLoad) {
  const struct {
    std::int64_t open_tasks, tasks, open_steps, steps;
    double load;
    int result;
  } cases[] = {
      {30, 100, 30, 100, 0.3, 12},  {31, 100, 30, 100, 0.303, 8}, {60, 100, 60, 100, 0.6, 8}, {61, 100, 61, 100, 0.61, 4},
      {100, 100, 0, 100, 0.307, 8}, {0, 0, 0, 0, 1, 4},           {0, 100, 0, 100, 0.01, 12}, {500, 100, 500, 100, 1, 4},
  };
  for (const auto &c : cases) {
    ConcurrencyInputs in = idle(1000, 0);
    in.open_tasks = c.open_tasks;
    in.tasks = c.tasks;
    in.open_steps = c.open_steps;
    in.steps = c.steps;
    const ConcurrencyPlan plan = plan_concurrency(in);
    EXPECT_NEAR(plan.load, c.load, 1e-9) << c.open_tasks << "/" << c.open_steps;
    EXPECT_EQ(plan.result, c.result) << c.open_tasks << "/" << c.open_steps;
  }
}

TEST(Concurrency, TheSmallestPartCounts) {
  ConcurrencyInputs in = idle(1000, 0);
  in.worker_slots = 5;
  EXPECT_EQ(plan_concurrency(in).result, 5);
  in.worker_slots = 0;
  EXPECT_EQ(plan_concurrency(in).result, 1) << "or nothing would ever end";
  in = idle(100, 71);
  in.open_tasks = in.open_steps = 100;
  EXPECT_EQ(plan_concurrency(in).result, 4) << "by load, not the 7 of the connections";
}

TEST(Concurrency, BoundsAreKept) {
  ConcurrencyInputs in = idle(1000, 0);
  in.min = 10;
  in.max = 50;
  EXPECT_EQ(plan_concurrency(in).result, 50);
  in.open_tasks = in.open_steps = 50;
  EXPECT_EQ(plan_concurrency(in).result, 34);
  in.open_tasks = in.open_steps = 100;
  EXPECT_EQ(plan_concurrency(in).result, 11);
  in.min = 60;
  EXPECT_EQ(plan_concurrency(in).result, 50) << "a least above the most counts as the most";
}

TEST(Concurrency, NeverOverSixtyPercentOfFreeConnections) {
  for (const int size : {0, 1, 3, 5, 10, 20, 100, 10000})
    for (int busy = 0; busy <= std::min(size + 2, 200); busy++)
      for (const int min : {1, 3, 100}) {
        ConcurrencyInputs in = idle(size, busy);
        in.min = min;
        in.max = 200;
        const int result = plan_concurrency(in).result;
        EXPECT_GE(result, 1);
        EXPECT_LE(result, std::max(1.0, 0.6 * (size - busy))) << size << "/" << busy << " min " << min;
      }
  EXPECT_EQ(plan_concurrency(idle(5, 4)).result, 1);
}

TEST(Concurrency, BrokenInputsGiveASafeNumber) {
  const int big = std::numeric_limits<int>::max();
  EXPECT_EQ(plan_concurrency({}).result, 1);
  EXPECT_EQ(plan_concurrency({-5, 5, -1, -1, -1, -1, -1, -3, -1}).result, 1);
  EXPECT_EQ(plan_concurrency({100, -5, 100, 1, 100, 1, 100, 3, 12}).result, 12);
  EXPECT_EQ(plan_concurrency({big, 0, big, 1, 100, 1, 100, big, big}).result, big / 10 * 6 + 4);
}

}  // namespace
}  // namespace tasker::core
