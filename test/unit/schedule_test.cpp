// What is due, late or missed; what a fire time does while an earlier task runs; how far a task is put off.
#include "core/schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace tasker::core {
namespace {

struct Utc final : ZoneRules {
  ZoneOffset offset_at(std::int64_t) const override { return {}; }
};

constexpr std::int64_t kMinute = 60, kHour = 3600, kNoon = 19'800 * 86'400 + 12 * kHour;
using Times = std::vector<std::int64_t>;

DueTimes due(const char *cron, std::int64_t after, std::int64_t now, std::int64_t catch_up = 0, std::size_t limit = 1000) {
  return due_times(parse_cron(cron), Utc(), after, now, catch_up, limit);
}

TEST(DueTimes, NothingBeforeItsTime) {
  const DueTimes early = due("0 * * * *", kNoon - kHour, kNoon - 1);
  EXPECT_TRUE(early.fires.empty());
  EXPECT_EQ(early.missed, std::nullopt);
  EXPECT_EQ(early.settled, kNoon - kHour);
  EXPECT_EQ(early.next, kNoon);
  const DueTimes punctual = due("0 * * * *", kNoon - kHour, kNoon);
  EXPECT_EQ(punctual.fires, Times{kNoon});
  EXPECT_EQ(punctual.settled, kNoon);
  EXPECT_EQ(punctual.next, kNoon + kHour);
}

TEST(DueTimes, WhatHasFiredIsOver) {
  EXPECT_TRUE(due("0 * * * *", kNoon, kNoon).fires.empty());
  EXPECT_TRUE(due("0 * * * *", kNoon, kNoon + 90).fires.empty());
}

TEST(DueTimes, AClockThatWasSetBackFiresNothingAgain) {
  const DueTimes back = due("* * * * *", kNoon, kNoon - 10 * kMinute, kHour);
  EXPECT_TRUE(back.fires.empty());
  EXPECT_EQ(back.settled, kNoon);
  EXPECT_EQ(back.next, kNoon + kMinute);
}

TEST(DueTimes, OneTickMayFallOut) {
  EXPECT_EQ(due("0 * * * *", kNoon - kHour, kNoon + kGraceSeconds).fires, Times{kNoon});
  EXPECT_EQ(due("0 * * * *", kNoon - kHour, kNoon + kGraceSeconds).missed, std::nullopt);
  EXPECT_EQ(due("* * * * *", kNoon - kMinute, kNoon + kMinute + 30).fires, (Times{kNoon, kNoon + kMinute}));
}

TEST(DueTimes, WhatIsTooOldIsMissed) {
  const DueTimes late = due("0 * * * *", kNoon - kHour, kNoon + kGraceSeconds + 1);
  EXPECT_TRUE(late.fires.empty());
  EXPECT_EQ(late.missed, kNoon);
  EXPECT_EQ(late.settled, kNoon);
  EXPECT_EQ(late.next, kNoon + kHour);
}

TEST(DueTimes, CatchUpTakesWhatIsNotOlder) {
  const DueTimes all = due("0 * * * *", kNoon - 5 * kHour, kNoon + 1, 5 * kHour);
  EXPECT_EQ(all.fires, (Times{kNoon - 4 * kHour, kNoon - 3 * kHour, kNoon - 2 * kHour, kNoon - kHour, kNoon}));
  EXPECT_EQ(all.missed, std::nullopt);
  const DueTimes some = due("0 * * * *", kNoon - 5 * kHour, kNoon, 2 * kHour);
  EXPECT_EQ(some.fires, (Times{kNoon - 2 * kHour, kNoon - kHour, kNoon}));
  EXPECT_EQ(some.missed, kNoon - 4 * kHour);
  EXPECT_EQ(some.settled, kNoon);
}

TEST(DueTimes, TheRestOfManyIsLeftForTheNextTick) {
  const DueTimes first = due("* * * * *", kNoon - kHour, kNoon, kHour, 40);
  ASSERT_EQ(first.fires.size(), 40U);
  EXPECT_EQ(first.settled, first.fires.back());
  EXPECT_EQ(first.next, first.settled + kMinute);
  const DueTimes rest = due("* * * * *", first.settled, kNoon, kHour, 40);
  EXPECT_EQ(rest.fires.size(), 20U);
  EXPECT_EQ(rest.fires.front(), first.settled + kMinute);
  EXPECT_EQ(rest.fires.back(), kNoon);
}

TEST(OnFire, EachRule) {
  for (const Overlap overlap : {Overlap::kSkip, Overlap::kQueue, Overlap::kCancelRunning, Overlap::kAllow}) EXPECT_EQ(on_fire(overlap, 0, 0), OnFire::kCreate);
  EXPECT_EQ(on_fire(Overlap::kSkip, 1, 0), OnFire::kSkip);
  EXPECT_EQ(on_fire(Overlap::kSkip, 0, 1), OnFire::kSkip);
  EXPECT_EQ(on_fire(Overlap::kQueue, 1, 0), OnFire::kQueue);
  EXPECT_EQ(on_fire(Overlap::kQueue, 0, 1), OnFire::kQueue);  // those that wait are first
  EXPECT_EQ(on_fire(Overlap::kQueue, 1, kMaxQueuedFires - 1), OnFire::kQueue);
  EXPECT_EQ(on_fire(Overlap::kQueue, 1, kMaxQueuedFires), OnFire::kQueueIsFull);
  EXPECT_EQ(on_fire(Overlap::kCancelRunning, 1, 0), OnFire::kCancelAndCreate);
  EXPECT_EQ(on_fire(Overlap::kAllow, 5, 5), OnFire::kCreate);
}

TEST(Overlap, ByName) {
  EXPECT_EQ(parse_overlap("skip"), Overlap::kSkip);
  EXPECT_EQ(parse_overlap("queue"), Overlap::kQueue);
  EXPECT_EQ(parse_overlap("cancel_running"), Overlap::kCancelRunning);
  EXPECT_EQ(parse_overlap("allow"), Overlap::kAllow);
  for (const char *other : {"", "Skip", "allow ", "all"}) EXPECT_EQ(parse_overlap(other), std::nullopt) << other;
}

TEST(PutOff, WithinTheLimitAndTheSameForEverybody) {
  EXPECT_EQ(put_off(1, kNoon, 0), 0);
  EXPECT_EQ(put_off(1, kNoon, -5), 0);
  std::set<std::int64_t> seen;
  std::int64_t least = 1'000'000, most = 0;
  for (std::int64_t i = 0; i < 1000; i++) {
    const std::int64_t by = put_off(7, kNoon + i * kMinute, 1'000'000);
    EXPECT_EQ(by, put_off(7, kNoon + i * kMinute, 1'000'000));
    least = std::min(least, by);
    most = std::max(most, by);
    seen.insert(by);
  }
  EXPECT_GE(least, 0);
  EXPECT_LE(most, 1'000'000);
  // Spread over the whole range.
  EXPECT_LT(least, 20'000);
  EXPECT_GT(most, 980'000);
  EXPECT_GT(seen.size(), 990U);
  EXPECT_NE(put_off(7, kNoon, 1'000'000), put_off(8, kNoon, 1'000'000));
}

}  // namespace
}  // namespace tasker::core
