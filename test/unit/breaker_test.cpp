#include "core/breaker.hpp"

#include <gtest/gtest.h>

#include <string>

namespace tasker::core {
namespace {

using S = BreakerState;
using C = BreakerCause;
constexpr std::int64_t kSecond = 1'000'000;
// Three failures within 10 s open it; 30 s, doubled up to 100 s.
constexpr BreakerSettings kSettings{3, 10 * kSecond, 30 * kSecond, 100 * kSecond};
constexpr std::int64_t kStart = 1000 * kSecond;

// A breaker that failures have opened at kStart.
Breaker opened() {
  Breaker breaker;
  for (int i = 0; i < 3; i++) (void)breaker.on_failure(kSettings, kStart, false);
  return breaker;
}
Breaker half_open() {
  Breaker breaker = opened();
  (void)breaker.poll(kSettings, breaker.open_until);
  return breaker;
}

TEST(Breaker, OpensWithTheLastOfEnoughFailuresInARow) {
  Breaker breaker;
  EXPECT_TRUE(breaker.quiet());
  EXPECT_EQ(breaker.on_failure(kSettings, kStart, false), std::nullopt);
  EXPECT_FALSE(breaker.quiet());
  EXPECT_EQ(breaker.on_failure(kSettings, kStart + kSecond, false), std::nullopt);
  EXPECT_EQ(breaker.state, S::kClosed);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart + 2 * kSecond, false), C::kFailures);
  EXPECT_EQ(breaker.state, S::kOpen);
  EXPECT_EQ(breaker.failures, 3);
  EXPECT_EQ(breaker.opens, 1);
  EXPECT_FALSE(breaker.by_hand);
  EXPECT_EQ(breaker.opened_at, kStart + 2 * kSecond);
  EXPECT_EQ(breaker.last_failure_at, kStart + 2 * kSecond);
  EXPECT_EQ(breaker.open_until, kStart + 32 * kSecond);
}

TEST(Breaker, ASuccessInBetweenBeginsTheRowAnew) {
  Breaker breaker;
  for (int round = 0; round < 5; round++) {
    EXPECT_EQ(breaker.on_failure(kSettings, kStart, false), std::nullopt);
    EXPECT_EQ(breaker.on_failure(kSettings, kStart, false), std::nullopt);
    EXPECT_EQ(breaker.on_success(false), std::nullopt);
    EXPECT_TRUE(breaker.quiet());
  }
}

TEST(Breaker, FailuresLongerApartThanTheWindowAreNoRow) {
  Breaker breaker;
  for (int i = 0; i < 10; i++) EXPECT_EQ(breaker.on_failure(kSettings, kStart + i * 6 * kSecond, false), std::nullopt) << i;
  Breaker exact;
  (void)exact.on_failure(kSettings, kStart, false);
  (void)exact.on_failure(kSettings, kStart, false);
  EXPECT_EQ(exact.on_failure(kSettings, kStart + 10 * kSecond, false), C::kFailures) << "the window's last moment belongs to it";
  Breaker late;
  (void)late.on_failure(kSettings, kStart, false);
  (void)late.on_failure(kSettings, kStart, false);
  EXPECT_EQ(late.on_failure(kSettings, kStart + 10 * kSecond + 1, false), std::nullopt);
  EXPECT_EQ(late.failures, 1) << "and the next one begins a new row";
}

TEST(Breaker, AClockSetBackBeginsANewRow) {
  Breaker breaker;
  (void)breaker.on_failure(kSettings, kStart, false);
  (void)breaker.on_failure(kSettings, kStart, false);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart - kSecond, false), std::nullopt);
  EXPECT_EQ(breaker.failures, 1);
}

TEST(Breaker, OneFailureIsEnoughWhereTheThresholdIsOne) {
  Breaker breaker;
  EXPECT_EQ(breaker.on_failure({1, 0, kSecond, kSecond}, kStart, false), C::kFailures);
}

TEST(Breaker, WhatEndsWhileItIsOpenBeganBefore) {
  Breaker breaker = opened();
  const std::int64_t until = breaker.open_until;
  EXPECT_EQ(breaker.on_success(false), std::nullopt);
  EXPECT_EQ(breaker.on_success(true), std::nullopt);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart + kSecond, false), std::nullopt);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart + kSecond, true), std::nullopt);
  EXPECT_EQ(breaker.state, S::kOpen);
  EXPECT_EQ(breaker.opens, 1);
  EXPECT_EQ(breaker.open_until, until);
  EXPECT_EQ(breaker.last_failure_at, kStart + kSecond);
}

TEST(Breaker, ItsTimeOverItLetsOneProbeOut) {
  Breaker breaker = opened();
  EXPECT_FALSE(breaker.begin_probe());
  EXPECT_EQ(breaker.poll(kSettings, breaker.open_until - 1), std::nullopt);
  EXPECT_EQ(breaker.state, S::kOpen);
  EXPECT_EQ(breaker.poll(kSettings, breaker.open_until), C::kTimeOver);
  EXPECT_EQ(breaker.state, S::kHalfOpen);
  EXPECT_EQ(breaker.poll(kSettings, kStart + 1000 * kSecond), std::nullopt) << "half-open for as long as it takes";
  EXPECT_TRUE(breaker.begin_probe());
  EXPECT_FALSE(breaker.begin_probe()) << "one at a time";
  breaker.end_probe();
  EXPECT_EQ(breaker.state, S::kHalfOpen);
  EXPECT_TRUE(breaker.begin_probe()) << "a probe without a word is followed by another";
}

TEST(Breaker, TheProbeAloneDecides) {
  Breaker breaker = half_open();
  ASSERT_TRUE(breaker.begin_probe());
  EXPECT_EQ(breaker.on_success(false), std::nullopt);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart, false), std::nullopt);
  EXPECT_EQ(breaker.state, S::kHalfOpen);
  EXPECT_TRUE(breaker.probing);
  EXPECT_EQ(breaker.on_success(true), C::kProbeSucceeded);
  EXPECT_TRUE(breaker.quiet());
  EXPECT_FALSE(breaker.probing);
  EXPECT_EQ(breaker.opens, 0);
  EXPECT_EQ(breaker.opened_at, 0);
  EXPECT_EQ(breaker.last_failure_at, kStart) << "what was learnt is kept";
}

TEST(Breaker, EachFailedProbeDoublesTheTimeUpToTheMost) {
  Breaker breaker = opened();
  const std::int64_t expected[] = {60, 100, 100, 100};
  std::int64_t now = kStart;
  for (int i = 0; i < 4; i++) {
    now = breaker.open_until;
    ASSERT_EQ(breaker.poll(kSettings, now), C::kTimeOver);
    ASSERT_TRUE(breaker.begin_probe());
    EXPECT_EQ(breaker.on_failure(kSettings, now, true), C::kProbeFailed);
    EXPECT_EQ(breaker.state, S::kOpen);
    EXPECT_FALSE(breaker.probing);
    EXPECT_EQ(breaker.opens, i + 2);
    EXPECT_EQ(breaker.open_until, now + expected[i] * kSecond) << i;
    EXPECT_EQ(breaker.opened_at, kStart) << "since when it is not closed";
  }
  (void)breaker.poll(kSettings, breaker.open_until);
  (void)breaker.begin_probe();
  EXPECT_EQ(breaker.on_success(true), C::kProbeSucceeded);
  for (int i = 0; i < 3; i++) (void)breaker.on_failure(kSettings, now, false);
  EXPECT_EQ(breaker.open_until, now + 30 * kSecond) << "after a success it begins at the bottom";
}

TEST(Breaker, TheMostIsNeverLessThanTheFirst) {
  Breaker breaker;
  const BreakerSettings settings{1, 0, 50, 10};
  (void)breaker.on_failure(settings, 0, false);
  EXPECT_EQ(breaker.open_until, 50);
  (void)breaker.poll(settings, 50);
  (void)breaker.begin_probe();
  (void)breaker.on_failure(settings, 50, true);
  EXPECT_EQ(breaker.open_until, 100);
}

TEST(Breaker, TimesDoNotOverflow) {
  const BreakerSettings settings{1, 0, kUntilReset / 3, kUntilReset};
  Breaker breaker;
  breaker.opens = 1'000'000;  // a hundred failed probes would do
  (void)breaker.on_failure(settings, 0, false);
  breaker.state = S::kHalfOpen;
  (void)breaker.begin_probe();
  EXPECT_EQ(breaker.on_failure(settings, kStart, true), C::kProbeFailed);
  EXPECT_EQ(breaker.open_until, kUntilReset);
}

TEST(Breaker, ThresholdZeroSwitchesItOff) {
  const BreakerSettings off{0, kSettings.window, kSettings.open_time, kSettings.max_open_time};
  Breaker breaker;
  for (int i = 0; i < 100; i++) EXPECT_EQ(breaker.on_failure(off, kStart, false), std::nullopt);
  EXPECT_TRUE(breaker.quiet());
  breaker = opened();
  EXPECT_EQ(breaker.poll(off, kStart), C::kSwitchedOff) << "what failures opened is let go";
  EXPECT_EQ(breaker.state, S::kClosed);
  breaker = half_open();
  EXPECT_EQ(breaker.poll(off, kStart), C::kSwitchedOff);
  breaker = Breaker();
  ASSERT_TRUE(breaker.trip(kStart, kStart + kSecond));
  EXPECT_EQ(breaker.poll(off, kStart), std::nullopt) << "a hand's word holds until its time is over";
  EXPECT_EQ(breaker.poll(off, kStart + kSecond), C::kSwitchedOff);
}

TEST(Breaker, TrippedByHand) {
  Breaker breaker;
  EXPECT_TRUE(breaker.trip(kStart, kUntilReset));
  EXPECT_EQ(breaker.state, S::kOpen);
  EXPECT_TRUE(breaker.by_hand);
  EXPECT_EQ(breaker.opens, 1);
  EXPECT_FALSE(breaker.trip(kStart + 1, kUntilReset)) << "it was there";
  EXPECT_EQ(breaker.opened_at, kStart);
  EXPECT_EQ(breaker.poll(kSettings, kUntilReset - 1), std::nullopt) << "until it is reset";
  EXPECT_TRUE(breaker.trip(kStart + 2, kStart + kSecond)) << "another end is a change";
  EXPECT_EQ(breaker.opens, 1);
  EXPECT_EQ(breaker.opened_at, kStart);
  EXPECT_EQ(breaker.poll(kSettings, kStart + kSecond), C::kTimeOver);
  EXPECT_FALSE(breaker.by_hand);
  ASSERT_TRUE(breaker.begin_probe());
  EXPECT_EQ(breaker.on_failure(kSettings, kStart + kSecond, true), C::kProbeFailed);
  EXPECT_FALSE(breaker.by_hand);
  EXPECT_EQ(breaker.open_until, kStart + 61 * kSecond);
  EXPECT_TRUE(breaker.trip(kStart, breaker.open_until)) << "by hand from now on";
  EXPECT_TRUE(breaker.by_hand);
}

TEST(Breaker, AHandTakesTheProbeItsMeaning) {
  Breaker breaker = half_open();
  ASSERT_TRUE(breaker.begin_probe());
  EXPECT_TRUE(breaker.trip(kStart, kUntilReset));
  EXPECT_FALSE(breaker.probing);
  EXPECT_EQ(breaker.on_success(true), std::nullopt);
  EXPECT_EQ(breaker.state, S::kOpen);
}

TEST(Breaker, ResetClosesAndForgets) {
  Breaker breaker;
  EXPECT_FALSE(breaker.reset());
  breaker = opened();
  EXPECT_TRUE(breaker.reset());
  EXPECT_TRUE(breaker.quiet());
  EXPECT_EQ(breaker.opens, 0);
  breaker = half_open();
  (void)breaker.begin_probe();
  EXPECT_TRUE(breaker.reset());
  EXPECT_FALSE(breaker.probing);
  EXPECT_EQ(breaker.on_failure(kSettings, kStart, true), std::nullopt) << "the probe is a step like any other now";
  EXPECT_EQ(breaker.failures, 1);
}

TEST(Breaker, NamesOfStatesAndCauses) {
  for (const S state : {S::kClosed, S::kOpen, S::kHalfOpen}) EXPECT_EQ(parse_breaker_state(to_string(state)), state);
  EXPECT_EQ(parse_breaker_state("ajar"), std::nullopt);
  EXPECT_STREQ(to_string(S::kHalfOpen), "half_open");
  EXPECT_STREQ(to_string(C::kFailures), "failures");
  EXPECT_STREQ(to_string(C::kReset), "reset_breaker");
}

}  // namespace
}  // namespace tasker::core
