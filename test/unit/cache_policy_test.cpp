#include "core/cache_policy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tasker::core {
namespace {

constexpr std::int64_t kSecond = 1'000'000;

CacheUse used(double hit_rate, double generation_seconds, double frequency) {
  CacheUse use;
  use.hits = use.misses = 50;
  use.hit_rate = hit_rate;
  use.generation_seconds = generation_seconds;
  use.frequency = frequency;
  use.asked_at = kSecond;
  return use;
}

TEST(CachePolicy, FollowsTheTableOfFactors) {
  const struct {
    double hit_rate, seconds, frequency, hit, cost, often;
  } cases[] = {
      {0.81, 0.5, 50, 1.5, 1, 1},  {0.8, 0.5, 50, 1, 1, 1},    {0.3, 0.5, 50, 1, 1, 1},     {0.29, 0.5, 50, 0.7, 1, 1},
      {0.5, 1.01, 50, 1, 1.3, 1},  {0.5, 1, 50, 1, 1, 1},      {0.5, 0.1, 50, 1, 1, 1},     {0.5, 0.099, 50, 1, 0.8, 1},
      {0.5, 0.5, 101, 1, 1, 1.2},  {0.5, 0.5, 100, 1, 1, 1},   {0.5, 0.5, 5, 1, 1, 1},      {0.5, 0.5, 4.9, 1, 1, 0.9},
      {0.9, 2, 200, 1.5, 1.3, 1.2}, {0.1, 0.01, 1, 0.7, 0.8, 0.9},
  };
  for (const auto &c : cases) {
    const TtlPlan plan = plan_ttl(100, used(c.hit_rate, c.seconds, c.frequency), kSecond);
    EXPECT_DOUBLE_EQ(plan.hit_factor, c.hit) << c.hit_rate;
    EXPECT_DOUBLE_EQ(plan.cost_factor, c.cost) << c.seconds;
    EXPECT_DOUBLE_EQ(plan.frequency_factor, c.often) << c.frequency;
    EXPECT_DOUBLE_EQ(plan.ttl_seconds, 100 * c.hit * c.cost * c.often);
  }
}

TEST(CachePolicy, StaysWithinTheBounds) {
  EXPECT_DOUBLE_EQ(plan_ttl(40, used(0.1, 0.01, 1), kSecond).ttl_seconds, 30);
  EXPECT_DOUBLE_EQ(plan_ttl(3000, used(0.9, 2, 200), kSecond).ttl_seconds, 3600);
  EXPECT_DOUBLE_EQ(plan_ttl(30, CacheUse{}, 0).ttl_seconds, 30);
  EXPECT_DOUBLE_EQ(plan_ttl(1, CacheUse{}, 0).ttl_seconds, 30);
}

TEST(CachePolicy, SaysNothingOfWhatItDoesNotKnow) {
  CacheUse use;
  EXPECT_DOUBLE_EQ(plan_ttl(90, use, 0).ttl_seconds, 90);
  use.record_question(0, false);
  use.record_question(kSecond, false);
  EXPECT_FALSE(use.judged());
  TtlPlan plan = plan_ttl(90, use, kSecond);
  EXPECT_DOUBLE_EQ(plan.hit_factor * plan.cost_factor * plan.frequency_factor, 1);
  use.record_question(2 * kSecond, false);
  plan = plan_ttl(90, use, 2 * kSecond);
  EXPECT_DOUBLE_EQ(plan.frequency_factor, 0.9);
  // Cost is known as soon as it was measured.
  use = {};
  use.record_generation(2);
  EXPECT_DOUBLE_EQ(plan_ttl(100, use, 0).cost_factor, 1.3);
}

TEST(CachePolicy, LearnsTheRateOfHits) {
  CacheUse use;
  use.record_question(0, false);
  EXPECT_DOUBLE_EQ(use.hit_rate, 0.9 * 0.55);
  use.record_question(0, true);
  EXPECT_DOUBLE_EQ(use.hit_rate, 0.9 * 0.9 * 0.55 + 0.1);
  for (int i = 0; i < 100; i++) use.record_question(0, true);
  EXPECT_NEAR(use.hit_rate, 1, 1e-4);
  EXPECT_EQ(use.hits, 101);
  EXPECT_EQ(use.misses, 1);
  for (int i = 0; i < 100; i++) use.record_question(0, false);
  EXPECT_NEAR(use.hit_rate, 0, 1e-4);
}

TEST(CachePolicy, FrequencyFades) {
  CacheUse use;
  for (int i = 0; i < 10; i++) use.record_question(0, true);
  EXPECT_DOUBLE_EQ(use.frequency, 10);
  EXPECT_DOUBLE_EQ(use.frequency_at(30 * kSecond), 9.5);
  EXPECT_NEAR(use.frequency_at(60 * kSecond), 9.025, 1e-9);
  EXPECT_DOUBLE_EQ(use.frequency_at(-kSecond), 10);  // a clock set back
  use.record_question(-kSecond, true);
  EXPECT_EQ(use.asked_at, 0);
  // Ten questions a minute settle above 100, one in two minutes below 5.
  CacheUse often, seldom;
  for (int i = 0; i < 1000; i++) {
    often.record_question(i * 5 * kSecond, true);
    seldom.record_question(i * 180 * kSecond, true);
  }
  EXPECT_GT(often.frequency, 100);
  EXPECT_LT(seldom.frequency, 5);
}

TEST(CachePolicy, MeasuresOfNothingAreNotTaken) {
  CacheUse use;
  use.record_generation(std::numeric_limits<double>::quiet_NaN());
  use.record_generation(-1);
  EXPECT_EQ(use.generation_seconds, 0);
  use.record_generation(0);
  EXPECT_GT(use.generation_seconds, 0);
  use.record_generation(10);
  EXPECT_NEAR(use.generation_seconds, 1, 1e-5);
}

TEST(CachePolicy, WorthIsAccessesTimesCost) {
  const CacheUse cheap = used(0.9, 0.01, 100), dear = used(0.9, 10, 1), seldom = used(0.9, 0.01, 1);
  EXPECT_GT(dear.worth(kSecond), cheap.worth(kSecond));
  EXPECT_GT(cheap.worth(kSecond), seldom.worth(kSecond));
}

TEST(CachePolicy, ExplainsWhatBends) {
  const auto why = [](double base, const CacheUse &use) { return explain_ttl(plan_ttl(base, use, kSecond), use); };
  EXPECT_EQ(why(90, used(0.5, 0.5, 50)), "90 s");
  EXPECT_EQ(why(90, used(0.93, 0.012, 120)), "90 s × 1.5 (hit rate 0.93, above 0.8) × 0.8 (takes 12.0 ms, below 100 ms) × 1.2 (frequency 120, above 100)");
  EXPECT_EQ(why(40, used(0.1, 0.5, 1)), "40 s × 0.7 (hit rate 0.10, below 0.3) × 0.9 (frequency 1.0, below 5), at least 30 s");
  EXPECT_EQ(why(3000, used(0.93, 2, 50)), "3000 s × 1.5 (hit rate 0.93, above 0.8) × 1.3 (takes 2.0 s, above 1 s), at most 1 h");
  EXPECT_EQ(why(90, CacheUse{}), "90 s, fewer than 3 questions yet");
}

}  // namespace
}  // namespace tasker::core
