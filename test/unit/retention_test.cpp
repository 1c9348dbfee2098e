#include "core/retention.hpp"

#include <gtest/gtest.h>

namespace tasker::core {
namespace {

constexpr std::int64_t kSecond = 1'000'000, kHour = 3600 * kSecond, kDay = 24 * kHour;
constexpr std::int64_t kStart = 10'000 * kDay;

RetentionRules rules(std::int64_t fallback, std::unordered_map<int, std::int64_t> more = {}) { return {fallback, std::move(more)}; }
WalkedTask task(std::int64_t id, std::int64_t created_at, std::optional<std::int64_t> finished_at, int ns = 1) { return {id, created_at, finished_at, ns, 1, false}; }
WalkStep at_end(std::int64_t last_seen, std::vector<WalkedTask> left = {}) {
  WalkStep step;
  step.position = 1000;
  step.last_seen = last_seen;
  step.left = std::move(left);
  step.at_end = true;
  return step;
}

TEST(RetentionRules, OfANamespaceAndTheShortest) {
  const RetentionRules r = rules(90 * kDay, {{1, kDay}, {2, kKeepForever}});
  EXPECT_EQ(r.of(1), kDay);
  EXPECT_EQ(r.of(2), kKeepForever);
  EXPECT_EQ(r.of(3), 90 * kDay);
  EXPECT_EQ(r.shortest(), kDay);
  EXPECT_EQ(rules(kKeepForever).shortest(), kKeepForever);
  EXPECT_EQ(rules(kKeepForever, {{1, kKeepForever}}).shortest(), kKeepForever);
  EXPECT_EQ(rules(kKeepForever, {{1, 0}}).shortest(), 0);
  EXPECT_NE(r, rules(90 * kDay, {{1, kDay}}));
  EXPECT_EQ(r, rules(90 * kDay, {{2, kKeepForever}, {1, kDay}}));
}

TEST(RetentionPlan, TakesWhatIsDueByItsOwnNamespace) {
  const RetentionRules r = rules(10 * kDay, {{2, kKeepForever}, {3, kDay}});
  const std::vector<WalkedTask> page{task(1, kStart, kStart + kHour),           task(2, kStart, std::nullopt), task(3, kStart, kStart + kHour, 2),
                                     task(4, kStart, kStart + 9 * kDay + kHour + 1, 3), task(5, kStart, kStart + 5 * kDay)};
  const PagePlan plan = plan_page(page, r, kStart + 10 * kDay + kHour);
  EXPECT_EQ(plan.due, (std::vector<std::size_t>{0}));
  EXPECT_EQ(plan.passed, 5u);
  EXPECT_EQ(plan_page(page, r, kStart + 10 * kDay + kHour - 1).due, (std::vector<std::size_t>{}));
  EXPECT_EQ(plan_page(page, r, kStart + 10 * kDay + kHour + 1).due, (std::vector<std::size_t>{0, 3}));
}

TEST(RetentionPlan, EndsBeforeTheFirstOfTheYoungOnes) {
  const RetentionRules r = rules(kDay);
  // Ids are nearly in the order of creation: the third is old and stands behind a young one.
  const std::vector<WalkedTask> page{task(1, kStart, kStart), task(2, kStart + kHour, kStart + kHour), task(3, kStart, kStart), task(4, kStart + kHour, kStart + kHour)};
  const PagePlan plan = plan_page(page, r, kStart + kDay);
  EXPECT_EQ(plan.passed, 3u);
  EXPECT_EQ(plan.due, (std::vector<std::size_t>{0, 2}));
  EXPECT_EQ(plan_page(page, r, kStart + kDay - 1).passed, 0u);
  EXPECT_EQ(plan_page(page, rules(kKeepForever), kStart + 1000 * kDay).passed, 0u);
}

TEST(RetentionWalk, RestsUntilThereIsWorkWhenNothingIsThere) {
  RetentionWalk walk;
  EXPECT_FALSE(walk.proceed(kStart));
  EXPECT_EQ(walk.next_at(), kNever);
  walk.restart(rules(kDay / 2), kStart);
  EXPECT_TRUE(walk.under_way());
  EXPECT_EQ(walk.next_at(), 0);
  walk.record(at_end(0), kStart, 1000);
  EXPECT_FALSE(walk.under_way());
  EXPECT_EQ(walk.next_at(), kNever);
  EXPECT_EQ(walk.next_removal_at(), kNever);
  walk.note_work(kStart + kHour);
  EXPECT_EQ(walk.next_at(), kStart + kHour + kDay / 2);
  walk.note_work(kStart + 2 * kHour);
  EXPECT_EQ(walk.next_at(), kStart + kHour + kDay / 2);
  EXPECT_FALSE(walk.proceed(kStart + kHour + kDay / 2 - 1));
  EXPECT_TRUE(walk.proceed(kStart + kHour + kDay / 2));
}

TEST(RetentionWalk, NeverBeginsWhenEverythingIsKept) {
  RetentionWalk walk;
  walk.restart(rules(kKeepForever), kStart);
  EXPECT_FALSE(walk.under_way());
  walk.note_work(kStart);
  EXPECT_EQ(walk.next_at(), kNever);
}

TEST(RetentionWalk, GoesOnWhereItWasWhenTheFirstYoungTaskMayBeDue) {
  RetentionWalk walk;
  walk.restart(rules(kDay), kStart);
  WalkStep step;
  step.position = 40;
  step.last_seen = 40;
  step.removed = 40;
  walk.record(step, kStart, 1000);
  EXPECT_TRUE(walk.under_way());
  EXPECT_EQ(walk.position(), 40);
  step.position = 50;
  step.young = {task(51, kStart - kHour, kStart - kHour), task(52, kStart - kHour + 1, std::nullopt)};
  walk.record(step, kStart, 1000);
  EXPECT_FALSE(walk.under_way());
  EXPECT_EQ(walk.next_at(), kStart - kHour + kDay);
  EXPECT_EQ(walk.next_removal_at(), kStart - kHour + kDay);
  EXPECT_TRUE(walk.proceed(kStart - kHour + kDay));
  EXPECT_EQ(walk.position(), 50);
  // Not for each one alone.
  step.young = {task(53, kStart - kHour + 1, kStart)};
  walk.record(step, kStart - kHour + kDay, 1000);
  EXPECT_EQ(walk.next_at(), kStart - kHour + kDay + 60 * kSecond);
}

TEST(RetentionWalk, AtTheEndItGoesBackToTheLastTaskItSaw) {
  RetentionWalk walk;
  walk.restart(rules(kDay), kStart);
  walk.record(at_end(970), kStart, 1000);
  EXPECT_EQ(walk.position(), 970);
}

TEST(RetentionWalk, StartsOverForWhatItLeft) {
  RetentionWalk walk;
  // Finished, not due yet: when it is due.
  walk.restart(rules(kDay), kStart);
  walk.record(at_end(9, {task(3, kStart - 2 * kDay, kStart - kHour)}), kStart, 1000);
  EXPECT_EQ(walk.next_at(), kStart - kHour + kDay);
  EXPECT_EQ(walk.next_removal_at(), kStart - kHour + kDay);
  // Live: after a share of the retention, and nobody stays for it.
  walk.restart(rules(12 * kHour), kStart);
  walk.record(at_end(9, {task(3, kStart - 2 * kDay, std::nullopt)}), kStart, 1000);
  EXPECT_EQ(walk.next_at(), kStart + kHour / 2);
  EXPECT_EQ(walk.next_removal_at(), kNever);
  EXPECT_TRUE(walk.proceed(kStart + kHour / 2));
  EXPECT_EQ(walk.position(), 0);
  // A walk that took long is followed by a long rest.
  walk.restart(rules(12 * kHour), kStart);
  walk.record(at_end(9, {task(3, kStart - 2 * kDay, std::nullopt)}), kStart + kHour, 60 * kSecond);
  EXPECT_EQ(walk.next_at(), kStart + 6000 * kSecond);
  // Not if it was long because it removed something.
  walk.restart(rules(12 * kHour), kStart);
  WalkStep some = at_end(9, {task(3, kStart - 2 * kDay, std::nullopt)});
  some.removed = 1;
  walk.record(some, kStart, 60 * kSecond);
  EXPECT_EQ(walk.next_at(), kStart + kHour / 2);
  // Kept for ever: nothing to come back for.
  walk.restart(rules(12 * kHour, {{2, kKeepForever}}), kStart);
  walk.record(at_end(9, {task(3, kStart - 2 * kDay, kStart - kDay, 2)}), kStart, 1000);
  EXPECT_EQ(walk.next_at(), kNever);
}

TEST(RetentionWalk, StartsOverOnceADayWhileThereIsWork) {
  RetentionWalk walk;
  walk.restart(rules(90 * kDay), kStart);
  WalkStep step;
  step.young = {task(1, kStart, kStart)};
  walk.record(step, kStart, 1000);
  EXPECT_EQ(walk.next_at(), kStart + kDay);
}

TEST(RetentionWalk, TellsWhatItLeftByNamespace) {
  RetentionWalk walk;
  walk.restart(rules(kDay), kStart);
  WalkedTask held = task(1, kStart - 9 * kDay, kStart - 8 * kDay);
  held.held = true;
  WalkStep step;
  step.left = {held, task(2, kStart - 9 * kDay, kStart - kHour), task(3, kStart - 9 * kDay, std::nullopt, 2)};
  step.young = {task(4, kStart - 2 * kHour, kStart - kHour, 3)};
  walk.record(step, kStart, 1000);
  const std::map<int, WalkMark> marks = walk.marks();
  ASSERT_EQ(marks.size(), 3u);
  EXPECT_EQ(marks.at(1).held, 1);
  EXPECT_EQ(marks.at(1).oldest_finished_at, kStart - 8 * kDay);
  EXPECT_EQ(marks.at(2).held, 0);
  EXPECT_EQ(marks.at(2).oldest_finished_at, std::nullopt);
  EXPECT_EQ(marks.at(3).oldest_finished_at, kStart - kHour);
  // What was young is gone by the next end.
  ASSERT_TRUE(walk.proceed(walk.next_at()));
  walk.record(at_end(9), kStart + kDay, 1000);
  EXPECT_FALSE(walk.marks().contains(3));
}

}  // namespace
}  // namespace tasker::core
