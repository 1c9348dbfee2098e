#include "core/retry.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace tasker::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr SuccessHistory kGood{100, 90}, kMiddling{100, 60}, kPoor{100, 30}, kBad{100, 10};

// A failure about which nothing is known: 8 s without jitter.
RetryInputs plain() {
  RetryInputs inputs;
  inputs.backoff = {8, 2, 300, 0};
  inputs.category = "unknown";
  return inputs;
}

double delay(const RetryInputs &inputs) { return plan_retry(inputs).delay_seconds; }

TEST(Retry, PressureIsInclusiveAbove) {
  const std::pair<double, const char *> table[] = {
      {-1, "low"},      {0, "low"},       {0.5, "low"},         {0.5001, "moderate"}, {0.7, "moderate"},       {0.7001, "high"},
      {0.85, "high"},   {0.8501, "critical"}, {1, "critical"},  {kInfinity, "critical"}, {-kInfinity, "low"}, {kNan, "moderate"}};
  for (const auto &[utilisation, expected] : table) EXPECT_STREQ(to_string(pressure_of(utilisation)), expected) << utilisation;
  EXPECT_STREQ(to_string(static_cast<Pressure>(9)), "unknown");
}

TEST(Retry, TheRate) {
  EXPECT_EQ(SuccessHistory().rate(), 0);
  EXPECT_EQ((SuccessHistory{4, 1}).rate(), 0.25);
  EXPECT_EQ((SuccessHistory{-4, 1}).rate(), 0);
  EXPECT_EQ((SuccessHistory{4, -1}).rate(), 0);
  EXPECT_EQ((SuccessHistory{4, 5}).rate(), 1) << "counts read while they change";
}

TEST(Retry, Recommendations) {
  struct Case {
    SuccessHistory history;
    const char *confidence, *recommendation;
    double factor;
  };
  const Case cases[] = {
      {{0, 0}, "low", "insufficient_data", 1},       {{-3, 1}, "low", "insufficient_data", 1},     {{1, 1}, "low", "retry_sooner", 0.8},
      {{9, 0}, "low", "much_longer_backoff", 1.8},   {{10, 8}, "medium", "retry_sooner", 0.8},     {{49, 25}, "medium", "standard_backoff", 1},
      {{50, 40}, "high", "retry_sooner", 0.8},       {{1000, 799}, "high", "standard_backoff", 1}, {{1000, 500}, "high", "standard_backoff", 1},
      {{1000, 499}, "high", "longer_backoff", 1.3},  {{1000, 200}, "high", "longer_backoff", 1.3}, {{1000, 199}, "high", "much_longer_backoff", 1.8},
      {{1000, 0}, "high", "much_longer_backoff", 1.8},
  };
  for (const Case &c : cases) {
    const Recommendation said = recommend(c.history);
    EXPECT_STREQ(said.confidence, c.confidence) << c.history.attempts << " " << c.history.successes;
    EXPECT_STREQ(said.recommendation, c.recommendation) << c.history.attempts << " " << c.history.successes;
    EXPECT_EQ(said.factor, c.factor) << c.history.attempts << " " << c.history.successes;
  }
}

TEST(Retry, ErrorFactors) {
  const std::pair<const char *, double> table[] = {{"timeout", 1.5},    {"connection", 2},    {"server_error", 1.3}, {"validation", 0.5}, {"code", 0.1},
                                                   {"conflict", 1},     {"resource", 1},      {"privilege", 1},      {"client_error", 1}, {"rate_limit", 1},
                                                   {"outcome_unknown", 1}, {"crashed", 1},    {"cancelled", 1},      {"unknown", 1},      {"", 1}};
  for (const auto &[category, factor] : table) {
    RetryInputs inputs = plain();
    inputs.backoff.base_seconds = 20;
    inputs.category = category;
    EXPECT_EQ(plan_retry(inputs).error_factor, factor) << category;
    EXPECT_DOUBLE_EQ(delay(inputs), 20 * factor) << category;
  }
}

TEST(Retry, PressureFactors) {
  const std::pair<Pressure, double> table[] = {
      {Pressure::kLow, 0.8}, {Pressure::kModerate, 1}, {Pressure::kHigh, 1.5}, {Pressure::kCritical, 2.5}, {static_cast<Pressure>(9), 1}};
  for (const auto &[pressure, factor] : table) {
    RetryInputs inputs = plain();
    inputs.pressure = pressure;
    EXPECT_EQ(plan_retry(inputs).pressure_factor, factor);
    EXPECT_DOUBLE_EQ(delay(inputs), 8 * factor);
  }
}

TEST(Retry, HistoryFactors) {
  const std::pair<SuccessHistory, double> table[] = {{{}, 1}, {kGood, 0.8}, {kMiddling, 1}, {kPoor, 1.3}, {kBad, 1.8}, {{1, 0}, 1.8}, {{1, 1}, 0.8}};
  for (const auto &[history, factor] : table) {
    RetryInputs inputs = plain();
    inputs.history = history;
    EXPECT_EQ(plan_retry(inputs).history_factor, factor);
    EXPECT_DOUBLE_EQ(delay(inputs), 8 * factor);
  }
}

TEST(Retry, TheHourSpeaksFromFiftyAttempts) {
  const std::pair<SuccessHistory, double> table[] = {{{}, 1}, {{49, 0}, 1}, {{50, 0}, 1.8}, {{50, 10}, 1.3}, {{50, 25}, 1}, {{50, 40}, 0.8}};
  for (const auto &[hour, factor] : table) {
    RetryInputs inputs = plain();
    inputs.hour = hour;
    EXPECT_EQ(plan_retry(inputs).hour_factor, factor) << hour.attempts << " " << hour.successes;
    EXPECT_DOUBLE_EQ(delay(inputs), 8 * factor);
  }
}

TEST(Retry, WhileItWorksForOthersThePastMayOnlyCallForHaste) {
  RetryInputs inputs = plain();
  inputs.history = inputs.hour = kBad;
  const std::pair<SuccessHistory, double> table[] = {{{8, 7}, 0.8}, {{8, 6}, 1}, {{8, 4}, 1}, {{4, 2}, 1}, {{4, 4}, 0.8}};
  for (const auto &[recent, factor] : table) {
    inputs.recent = recent;
    const RetryPlan plan = plan_retry(inputs);
    EXPECT_TRUE(plan.recent_spoke) << recent.attempts << " " << recent.successes;
    EXPECT_EQ(plan.history_factor, factor) << recent.attempts << " " << recent.successes;
    EXPECT_EQ(plan.hour_factor, 1);
    EXPECT_DOUBLE_EQ(plan.delay_seconds, 8 * factor);
  }
  for (const SuccessHistory past : {SuccessHistory{}, kMiddling, kPoor}) {
    inputs.recent = {8, 5};
    inputs.history = inputs.hour = past;
    EXPECT_DOUBLE_EQ(delay(inputs), 8) << past.successes;
  }
  inputs.history = kGood;
  EXPECT_DOUBLE_EQ(delay(inputs), 8 * 0.8) << "the week";
  inputs.hour = kGood;
  EXPECT_DOUBLE_EQ(delay(inputs), 8 * 0.8 * 0.8) << "the week and the hour";
  inputs.history = kBad;
  EXPECT_DOUBLE_EQ(delay(inputs), 8 * 0.8) << "the hour";
  inputs.hour = kBad;
  for (const SuccessHistory recent : {SuccessHistory{}, SuccessHistory{3, 3}, SuccessHistory{8, 3}, SuccessHistory{8, 0}}) {
    inputs.recent = recent;
    const RetryPlan plan = plan_retry(inputs);
    EXPECT_FALSE(plan.recent_spoke) << recent.attempts << " " << recent.successes;
    EXPECT_DOUBLE_EQ(plan.delay_seconds, 8 * 1.8 * 1.8) << "an outage, or nothing known: the week and the hour speak";
  }
}

TEST(Retry, FactorsMultiply) {
  RetryInputs inputs = plain();
  inputs.category = "timeout";
  inputs.pressure = Pressure::kHigh;
  inputs.history = kPoor;
  inputs.hour = kGood;
  inputs.backoff.jitter = 0.2;
  inputs.unit_random = 0.75;
  const RetryPlan plan = plan_retry(inputs);
  EXPECT_DOUBLE_EQ(plan.base_seconds, 8);
  EXPECT_DOUBLE_EQ(plan.jitter_factor, 1.1);
  EXPECT_DOUBLE_EQ(plan.delay_seconds, 8 * 1.5 * 1.5 * 1.3 * 0.8 * 1.1);
  EXPECT_TRUE(plan.predicted);
  EXPECT_FALSE(plan.requested);
  inputs.attempts = 3;
  EXPECT_DOUBLE_EQ(plan_retry(inputs).base_seconds, 32);
}

TEST(Retry, TheDelayStaysBetweenASecondAndFiveMinutes) {
  RetryInputs inputs = plain();
  inputs.category = "code";
  EXPECT_DOUBLE_EQ(delay(inputs), 1) << "0.8 s";
  inputs = plain();
  inputs.backoff.base_seconds = 200;
  inputs.category = "connection";
  EXPECT_DOUBLE_EQ(delay(inputs), 300);
  inputs.backoff = {1, 2, 300, 0.1};
  inputs.category = "unknown";
  inputs.pressure = Pressure::kLow;
  inputs.unit_random = 0;
  EXPECT_DOUBLE_EQ(delay(inputs), 1) << "1 s less tenth and fifth";
}

TEST(Retry, TheClampGivesWayToTheDefinition) {
  RetryInputs inputs = plain();
  inputs.pressure = Pressure::kLow;
  inputs.history = kGood;
  inputs.backoff = {0.05, 2, 300, 0};
  EXPECT_DOUBLE_EQ(delay(inputs), 0.05) << "not a second, and not less than it asks for";
  inputs.category = "connection";
  EXPECT_DOUBLE_EQ(delay(inputs), 0.05 * 2 * 0.8 * 0.8);
  inputs.backoff.base_seconds = 0;
  EXPECT_EQ(delay(inputs), 0);
  inputs = plain();
  inputs.backoff = {3600, 2, 7200, 0};
  EXPECT_DOUBLE_EQ(delay(inputs), 3600) << "not five minutes";
  inputs.history = kBad;
  EXPECT_DOUBLE_EQ(delay(inputs), 3600) << "nor more";
  inputs.history = kGood;
  EXPECT_DOUBLE_EQ(delay(inputs), 3600 * 0.8);
}

TEST(Retry, ARequestedDelayIsTakenAsItIs) {
  RetryInputs inputs = plain();
  inputs.category = "connection";
  inputs.pressure = Pressure::kCritical;
  inputs.history = inputs.hour = kBad;
  inputs.backoff.jitter = 1;
  for (const bool predictive : {true, false}) {
    inputs.predictive = predictive;
    const std::pair<double, double> table[] = {{7.5, 7.5}, {0, 0}, {0.01, 0.01}, {300, 300}, {301, 300}, {kInfinity, 300}, {-3, 0}, {-kInfinity, 0}};
    for (const auto &[requested, expected] : table) {
      inputs.requested_seconds = requested;
      const RetryPlan plan = plan_retry(inputs);
      EXPECT_DOUBLE_EQ(plan.delay_seconds, expected) << requested;
      EXPECT_TRUE(plan.requested && !plan.predicted);
      EXPECT_EQ(plan.base_seconds, 8);
      EXPECT_EQ(plan.error_factor * plan.pressure_factor * plan.history_factor * plan.hour_factor * plan.jitter_factor, 1);
    }
  }
  inputs.requested_seconds = kNan;
  EXPECT_FALSE(plan_retry(inputs).requested) << "not a number was not asked for";
}

TEST(Retry, SwitchedOffThePlainBackoffHolds) {
  RetryInputs inputs = plain();
  inputs.predictive = false;
  inputs.category = "connection";
  inputs.pressure = Pressure::kCritical;
  inputs.history = inputs.hour = kBad;
  inputs.recent = kGood;
  inputs.backoff = {0.5, 3, 40, 0.4};
  for (int attempts = 1; attempts <= 8; ++attempts) {
    for (const double unit : {0.0, 0.25, 0.9}) {
      inputs.attempts = attempts;
      inputs.unit_random = unit;
      const RetryPlan plan = plan_retry(inputs);
      EXPECT_DOUBLE_EQ(plan.delay_seconds, backoff_seconds(inputs.backoff, attempts, unit));
      EXPECT_DOUBLE_EQ(plan.base_seconds * plan.jitter_factor, plan.delay_seconds);
      EXPECT_FALSE(plan.predicted || plan.requested || plan.recent_spoke);
      EXPECT_EQ(plan.error_factor * plan.pressure_factor * plan.history_factor * plan.hour_factor, 1);
    }
  }
}

TEST(Retry, WithNothingToSayItIsThePlainBackoff) {
  RetryInputs inputs = plain();
  inputs.backoff = {2, 2, 300, 0};
  const double expected[] = {2, 4, 8, 16, 32, 64, 128, 256, 300, 300};
  for (int attempts = 1; attempts <= 10; ++attempts) {
    inputs.attempts = attempts;
    EXPECT_DOUBLE_EQ(delay(inputs), expected[attempts - 1]) << attempts;
  }
}

TEST(Retry, WhateverComesInADelayComesOut) {
  const double numbers[] = {kNan, kInfinity, -kInfinity, -1, 0, 1e-300, 0.5, 1, 1e300, 1.7e308};
  for (const double number : numbers) {
    for (int field = 0; field < 5; ++field) {
      for (const int attempts : {std::numeric_limits<int>::min(), 0, 1, 1000, std::numeric_limits<int>::max()}) {
        for (const std::int64_t count : {std::numeric_limits<std::int64_t>::min(), std::int64_t{0}, std::numeric_limits<std::int64_t>::max()}) {
          RetryInputs inputs;
          inputs.backoff.jitter = 1;
          (field == 0   ? inputs.backoff.base_seconds
           : field == 1 ? inputs.backoff.multiplier
           : field == 2 ? inputs.backoff.max_seconds
           : field == 3 ? inputs.backoff.jitter
                        : inputs.unit_random) = number;
          if (field == 0) inputs.backoff.max_seconds = number;
          inputs.attempts = attempts;
          inputs.category = "connection";
          inputs.pressure = Pressure::kCritical;
          inputs.history = inputs.hour = {std::numeric_limits<std::int64_t>::max(), count};
          inputs.recent = {count, count};
          for (const double unit : {0.0, 1.0}) {
            if (field != 4) inputs.unit_random = unit;
            const RetryPlan plan = plan_retry(inputs);
            EXPECT_TRUE(std::isfinite(plan.delay_seconds) && plan.delay_seconds >= 0) << number << " in field " << field << ", attempts " << attempts;
            EXPECT_LE(plan.delay_seconds, std::max(300.0, plan.base_seconds)) << number << " in field " << field;
          }
        }
      }
    }
  }
}

TEST(Retry, RecentOutcomesKeepTheNewestEight) {
  RecentOutcomes outcomes;
  std::int64_t now = 1'000'000'000;
  EXPECT_EQ(outcomes.known(now).attempts, 0);
  const std::pair<bool, int> table[] = {{true, 1}, {false, 1}, {true, 2}, {true, 3},  {false, 3}, {true, 4},
                                        {true, 5}, {true, 6},  {false, 5}, {false, 5}, {false, 4}};
  int recorded = 0;
  for (const auto &[success, successes] : table) {
    outcomes.record(now += 1'000'000, success);
    const SuccessHistory known = outcomes.known(now);
    EXPECT_EQ(known.attempts, std::min(++recorded, 8));
    EXPECT_EQ(known.successes, successes) << recorded;
  }
}

TEST(Retry, TwoMinutesOfSilenceEndTheRow) {
  constexpr std::int64_t kSilence = RecentOutcomes::kSilenceMicroseconds;
  RecentOutcomes outcomes;
  for (int i = 0; i < 8; ++i) outcomes.record(5'000'000'000 + i, true);
  const std::int64_t last = 5'000'000'007;
  EXPECT_EQ(outcomes.known(last + kSilence).attempts, 8);
  EXPECT_EQ(outcomes.known(last + kSilence + 1).attempts, 0);
  EXPECT_EQ(outcomes.known(last - kSilence * 9).attempts, 8) << "a clock that was set back";
  RecentOutcomes still = outcomes;
  still.record(last + kSilence, false);
  EXPECT_EQ(still.known(last + kSilence).attempts, 8);
  EXPECT_EQ(still.known(last + kSilence).successes, 7);
  outcomes.record(last + kSilence + 1, false);
  EXPECT_EQ(outcomes.known(last + kSilence + 1).attempts, 1);
  EXPECT_EQ(outcomes.known(last + kSilence + 1).successes, 0) << "the old successes are forgotten";
}

TEST(Retry, RecentOutcomesStandDamage) {
  RecentOutcomes outcomes;
  outcomes.count = 255;
  outcomes.successes = 255;
  EXPECT_EQ(outcomes.known(0).attempts, 8);
  EXPECT_EQ(outcomes.known(0).successes, 8);
  outcomes.record(1, false);
  EXPECT_EQ(outcomes.known(1).attempts, 8);
  EXPECT_EQ(outcomes.known(1).successes, 7);
}

}  // namespace
}  // namespace tasker::core
