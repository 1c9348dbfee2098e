#include "core/batching.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tasker::core {
namespace {

BatchSamples runs(int samples, double mean, int failures = 0) { return {samples, failures, mean, mean, false}; }
const double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Batching, AsManyAsTheTimeHolds) {
  const struct {
    double mean;
    int size;
  } cases[] = {{0, 60}, {0.01, 60}, {0.1, 60}, {0.17, 58}, {0.5, 20}, {1, 10}, {3, 3}, {6, 1}, {10, 1}};
  for (const auto &c : cases) {
    const BatchPlan plan = plan_batch(runs(100, c.mean), {10, true, Pressure::kLow});
    EXPECT_EQ(plan.reason, BatchReason::kLearnt) << c.mean;
    EXPECT_EQ(plan.size, c.size) << c.mean;
  }
}

TEST(Batching, AloneWithAReason) {
  const BatchRules rules{10, true, Pressure::kLow};
  EXPECT_EQ(plan_batch(runs(9, 0.1), rules).reason, BatchReason::kTooFewSamples);
  EXPECT_EQ(plan_batch(runs(10, 0.1), rules).reason, BatchReason::kLearnt);
  EXPECT_EQ(plan_batch(runs(50, 11), rules).reason, BatchReason::kTooSlow);
  EXPECT_EQ(plan_batch({50, 0, 1, 11, false}, rules).reason, BatchReason::kTooSlow) << "one in twenty is slow";
  EXPECT_EQ(plan_batch({50, 0, 1, 1, true}, rules).reason, BatchReason::kTroubled);
  EXPECT_EQ(plan_batch(runs(50, 0), {0, true, Pressure::kLow}).reason, BatchReason::kSwitchedOff);
  EXPECT_EQ(plan_batch({50, 0, kNan, kNan, false}, rules).reason, BatchReason::kTooSlow);
  for (const BatchSamples &s : {runs(9, 0.1), runs(50, 11), BatchSamples{50, 0, 1, 1, true}, BatchSamples{50, 0, kNan, kNan, false}})
    for (const bool adaptive : {true, false}) EXPECT_EQ(plan_batch(s, {10, adaptive, Pressure::kLow}).size, 1);
}

TEST(Batching, FailuresMakeItSmaller) {
  const struct {
    int failures, size;
  } cases[] = {{0, 20}, {10, 18}, {50, 10}, {99, 1}, {100, 1}};
  for (const auto &c : cases) EXPECT_EQ(plan_batch(runs(100, 0.5, c.failures), {10, true, Pressure::kLow}).size, c.size) << c.failures;
}

TEST(Batching, PressureMakesItSmaller) {
  const struct {
    Pressure pressure;
    int size, result;
    double factor;
  } cases[] = {
      {Pressure::kLow, 60, 60, 1},        {Pressure::kModerate, 6, 6, 1},    {Pressure::kModerate, 7, 6, 0.8}, {Pressure::kModerate, 10, 8, 0.8},
      {Pressure::kModerate, 60, 48, 0.8}, {Pressure::kHigh, 4, 4, 1},        {Pressure::kHigh, 5, 4, 0.6},     {Pressure::kHigh, 10, 6, 0.6},
      {Pressure::kHigh, 60, 36, 0.6},     {Pressure::kCritical, 2, 2, 1},    {Pressure::kCritical, 3, 2, 0.3}, {Pressure::kCritical, 10, 3, 0.3},
      {Pressure::kCritical, 60, 18, 0.3}, {Pressure::kCritical, 0, 1, 1},
  };
  for (const auto &c : cases) {
    EXPECT_EQ(under_pressure(c.size, c.pressure), c.result) << to_string(c.pressure) << " " << c.size;
    EXPECT_DOUBLE_EQ(batch_pressure_factor(c.pressure, c.size), c.factor) << to_string(c.pressure) << " " << c.size;
  }
  EXPECT_EQ(plan_batch(runs(100, 1), {10, true, Pressure::kCritical}).size, 3);
}

TEST(Batching, SwitchedOffItIsTheFixedRule) {
  for (const Pressure pressure : {Pressure::kLow, Pressure::kCritical})
    for (const double mean : {0.01, 1.0, 9.9}) {
      const BatchPlan plan = plan_batch(runs(100, mean, 90), {10, false, pressure});
      EXPECT_EQ(plan.size, kPlainBatch);
      EXPECT_EQ(plan.reason, BatchReason::kPlain);
    }
}

TEST(Batching, Explains) {
  const auto why = [](const BatchSamples &samples, const BatchRules &rules) { return explain_batch(plan_batch(samples, rules), samples, rules); };
  const BatchRules rules{10, true, Pressure::kLow};
  EXPECT_EQ(why(runs(3, 1), rules), "alone: 3 of 10 measured runs");
  EXPECT_EQ(why(runs(100, 20), rules), "alone: one run in twenty takes 20 ms or more, beyond tasker.max_batch_duration");
  EXPECT_EQ(why({100, 0, 1, 1, true}, rules), "alone for its next runs: of late it failed at a commit, met locked rows or used temporary objects");
  EXPECT_EQ(why(runs(100, 0), {0, true, Pressure::kLow}), "alone: tasker.max_batch_duration is 0");
  EXPECT_EQ(why(runs(100, 1), {10, false, Pressure::kLow}), "at most 32: tasker.adaptive_batching is off");
  EXPECT_EQ(why(runs(100, 0.01), rules), "60 savepoints are the most");
  EXPECT_EQ(why(runs(100, 0.5, 10), {10, true, Pressure::kHigh}),
            "20 of 0.5 ms fit 10 ms; fewer, because 10 of 100 runs failed; fewer, because the pressure on connections is high");
}

}  // namespace
}  // namespace tasker::core
