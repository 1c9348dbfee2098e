#include "core/durations.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace tasker::core {
namespace {

TEST(Durations, BucketsAreInOrderAndHoldWhatTheyTell) {
  EXPECT_EQ(duration_bucket(0), 0);
  EXPECT_EQ(duration_bucket(-5), 0);
  EXPECT_EQ(duration_bucket(std::numeric_limits<double>::quiet_NaN()), 0);
  EXPECT_EQ(duration_bucket(0.0999), 0);
  EXPECT_EQ(duration_bucket(0.1), 1);
  EXPECT_EQ(duration_bucket(0.2), 9);
  EXPECT_EQ(duration_bucket(1e300), kDurationBuckets - 1);
  EXPECT_EQ(duration_bucket(std::numeric_limits<double>::infinity()), kDurationBuckets - 1);
  for (int bucket = 0; bucket < kDurationBuckets - 1; bucket++) EXPECT_EQ(duration_bucket(duration_of_bucket(bucket)), bucket);
}

TEST(Durations, WhatIsToldIsWithinItsBound) {
  const double bound = std::exp2(1.0 / 16) - 1;  // 4.5 %
  for (double ms = 0.1; ms < 8e7; ms *= 1.0137) EXPECT_NEAR(duration_of_bucket(duration_bucket(ms)) / ms, 1, bound + 1e-9) << ms;
}

TEST(Durations, PercentilesAreThoseOfTheValues) {
  std::vector<double> values;
  Durations durations;
  for (int i = 0; i < 5000; i++) {
    values.push_back(0.1 * std::pow(1.003, i * 7919 % 5000));
    durations.add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.0, 0.01, 0.25, 0.5, 0.95, 0.99, 1.0}) {
    const auto rank = std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(share * 5000)));
    EXPECT_NEAR(durations.percentile_ms(share) / values[rank - 1], 1, 0.045) << share;
  }
  EXPECT_DOUBLE_EQ(durations.max_ms, values.back());
}

TEST(Durations, FewAndNone) {
  Durations durations;
  EXPECT_EQ(durations.percentile_ms(0.5), 0);
  EXPECT_EQ(durations.mean_ms(), 0);
  durations.add(100);
  EXPECT_LE(durations.percentile_ms(0.99), 100);  // never more than the longest
  EXPECT_GE(durations.percentile_ms(0.01), 95);
  durations.add(300e6);  // in the last bucket, which has no middle
  EXPECT_EQ(durations.percentile_ms(1), 300e6);
}

TEST(Durations, AddUp) {
  Durations a, b, both;
  for (int i = 1; i <= 50; i++) {
    a.add(i);
    b.add(i * 10);
    both.add(i);
    both.add(i * 10);
  }
  a.add(b);
  EXPECT_EQ(a.counts, both.counts);
  EXPECT_EQ(a.count, 100);
  EXPECT_DOUBLE_EQ(a.total_ms, both.total_ms);
  EXPECT_DOUBLE_EQ(a.max_ms, 500);
  a.add(-1, 5);
  a.add(kDurationBuckets, 5);
  EXPECT_EQ(a.counts, both.counts);
}

}  // namespace
}  // namespace tasker::core
