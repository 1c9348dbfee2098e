#include "core/backoff.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tasker::core {
namespace {

constexpr double kMiddle = 0.5;  // no spread
constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Backoff, DoublesUpToTheCap) {
  const double expected[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300};
  for (int attempts = 1; attempts <= 11; ++attempts) EXPECT_DOUBLE_EQ(backoff_seconds({}, attempts, kMiddle), expected[attempts - 1]) << attempts;
}

TEST(Backoff, FollowsItsSettings) {
  EXPECT_DOUBLE_EQ(backoff_seconds({5, 3, 1000, 0}, 3, 0), 45);
  EXPECT_DOUBLE_EQ(backoff_seconds({5, 1, 1000, 0}, 50, 0), 5);
  EXPECT_DOUBLE_EQ(backoff_seconds({0.25, 2, 300, 0}, 2, 0), 0.5);
  EXPECT_DOUBLE_EQ(backoff_seconds({60, 2, 10, 0}, 1, 0), 10) << "a base above the cap";
  EXPECT_DOUBLE_EQ(backoff_seconds({0, 2, 300, 0.1}, 7, 0.9), 0);
  EXPECT_DOUBLE_EQ(backoff_seconds({1, 2, 0, 0.1}, 7, 0.9), 0);
}

TEST(Backoff, SpreadsAfterTheCap) {
  const Backoff backoff{10, 2, 100, 0.2};
  EXPECT_DOUBLE_EQ(backoff_seconds(backoff, 1, 0), 8);
  EXPECT_DOUBLE_EQ(backoff_seconds(backoff, 1, 0.75), 11);
  EXPECT_DOUBLE_EQ(backoff_seconds(backoff, 9, 0), 80);
  EXPECT_NEAR(backoff_seconds(backoff, 9, 0.999999), 120, 0.001);
  EXPECT_DOUBLE_EQ(backoff_seconds({10, 2, 100, 1}, 1, 0), 0) << "a full spread reaches zero, never less";
}

TEST(Backoff, AttemptsBelowOneCountAsOne) {
  for (const int attempts : {1, 0, -5, std::numeric_limits<int>::min()}) EXPECT_DOUBLE_EQ(backoff_seconds({}, attempts, kMiddle), 1);
}

TEST(Backoff, NeverOverflows) {
  for (const double base : {0.0, 1e-300, 1.0, 86400.0, 1e300}) {
    for (const double multiplier : {0.0, 0.5, 1.0, 2.0, 100.0, 1e300}) {
      for (const int attempts : {1, 2, 1000, 1'000'000, std::numeric_limits<int>::max()}) {
        const double delay = backoff_seconds({base, multiplier, 2'592'000, 1}, attempts, 0.999);
        EXPECT_TRUE(std::isfinite(delay) && delay >= 0 && delay <= 2 * 2'592'000.0) << base << " " << multiplier << " " << attempts;
      }
    }
  }
  EXPECT_DOUBLE_EQ(backoff_seconds({}, 1'000'000, kMiddle), 300);
  EXPECT_DOUBLE_EQ(backoff_seconds({0, 100, 300, 0}, 1'000'000, kMiddle), 0) << "nothing times infinity";
}

TEST(Backoff, BrokenSettingsStillGiveADelay) {
  for (const double bad : {-1.0, kNan, kInfinity, -kInfinity}) {
    for (int field = 0; field < 5; ++field) {
      Backoff backoff;
      (field == 0 ? backoff.base_seconds : field == 1 ? backoff.multiplier : field == 2 ? backoff.max_seconds : backoff.jitter) = bad;
      const double delay = backoff_seconds(backoff, 3, field == 4 ? bad : kMiddle);
      EXPECT_TRUE(std::isfinite(delay) && delay >= 0) << bad << " in field " << field;
    }
  }
  EXPECT_DOUBLE_EQ(backoff_seconds({kInfinity, 2, kInfinity, 0}, 3, kMiddle), kRequestedDelayCapSeconds);
}

TEST(Backoff, ARequestedDelayIsTakenAsItIs) {
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, 7.5, 0.9), 7.5);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, 0.0, 0.9), 0);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, 300.0, 0.9), 300);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, 300.5, 0.9), 300);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, kInfinity, 0.9), 300);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 5, -3.0, 0.9), 0);
}

TEST(Backoff, WithoutARequestTheBackoffHolds) {
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 3, std::nullopt, kMiddle), 4);
  EXPECT_DOUBLE_EQ(retry_delay_seconds({}, 3, kNan, kMiddle), 4);
}

}  // namespace
}  // namespace tasker::core
