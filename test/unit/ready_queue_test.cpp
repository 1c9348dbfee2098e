#include "core/ready_queue.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>
#include <vector>

namespace tasker::core {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kNow = 850'000'000 * kSecond;  // some moment after 2000-01-01

struct Step {
  int group, number;
  std::int64_t since = 0;
  int priority = 0;
};
using Queue = ReadyQueue<Step>;

void push(Queue &queue, const Step &step, std::int64_t ageing = 0) {
  queue.push(step.group, ready_rank(step.priority, step.since, ageing, static_cast<std::uint64_t>(step.number)), step);
}
int take(Queue &queue, double cost = 0) {
  const int number = queue.top().number;
  queue.pop(cost);
  return number;
}

TEST(ReadyRank, PriorityFirstThenFirstCome) {
  for (const std::int64_t ageing : {std::int64_t{0}, 30 * kSecond}) {
    EXPECT_LT(ready_rank(1, kNow, ageing, 9), ready_rank(0, kNow, ageing, 1));
    EXPECT_LT(ready_rank(0, kNow, ageing, 1), ready_rank(-1, kNow, ageing, 0));
    EXPECT_LT(ready_rank(5, kNow, ageing, 1), ready_rank(5, kNow, ageing, 2));
  }
}

TEST(ReadyRank, OneLevelIsWorthSoMuchWaiting) {
  const std::int64_t ageing = 30 * kSecond;
  EXPECT_LT(ready_rank(3, kNow + 3 * ageing - 1, ageing, 9), ready_rank(0, kNow, ageing, 1));
  EXPECT_LT(ready_rank(0, kNow, ageing, 1), ready_rank(3, kNow + 3 * ageing, ageing, 9)) << "level: first come";
  EXPECT_LT(ready_rank(0, kNow, ageing, 9), ready_rank(3, kNow + 3 * ageing + 1, ageing, 1));
  EXPECT_LT(ready_rank(1, kNow + 10000 * ageing, 0, 9), ready_rank(0, kNow, 0, 1)) << "without ageing, for ever";
}

TEST(ReadyRank, NothingOverflows) {
  constexpr int kLeast = std::numeric_limits<int>::min(), kMost = std::numeric_limits<int>::max();
  for (const std::int64_t ageing : {std::int64_t{0}, std::int64_t{1}, kMaxAgeing, std::numeric_limits<std::int64_t>::max(), std::int64_t{-5}}) {
    EXPECT_LT(ready_rank(kMost, kNow, ageing, 2), ready_rank(0, kNow, ageing, 1)) << ageing;
    EXPECT_LT(ready_rank(0, kNow, ageing, 2), ready_rank(kLeast, kNow, ageing, 1)) << ageing;
  }
}

TEST(ReadyQueue, OneGroupIsAQueueByRank) {
  Queue queue;
  std::mt19937 random(7);
  std::map<ReadyRank, int> model;
  for (int i = 0; i < 5000; i++) {
    if (model.empty() || random() % 5 < 3) {
      const Step step{4, i, kNow + i * kSecond, static_cast<int>(random() % 9) - 4};
      push(queue, step, 30 * kSecond);
      model.emplace(ready_rank(step.priority, step.since, 30 * kSecond, static_cast<std::uint64_t>(i)), i);
    } else {
      ASSERT_EQ(take(queue, 1.0 + random() % 3), model.begin()->second);
      model.erase(model.begin());
    }
    ASSERT_EQ(queue.size(), model.size());
    ASSERT_FALSE(queue.contended());
  }
}

// One step a second is taken; meanwhile one of priority 10 arrives a second: for ever more than there is time for.
TEST(ReadyQueue, NothingStarves) {
  constexpr std::int64_t kAgeing = 30 * kSecond;
  for (const std::int64_t ageing : {kAgeing, std::int64_t{0}}) {
    Queue queue;
    push(queue, {1, 0, kNow, 0}, ageing);
    int taken_at = -1;
    for (int i = 1; i <= 1000 && taken_at < 0; i++) {
      push(queue, {1, i, kNow + i * kSecond, 10}, ageing);
      if (take(queue) == 0) taken_at = i;
    }
    EXPECT_EQ(taken_at, ageing == 0 ? -1 : 300) << ageing;
  }
}

// However much one group has and whatever its priorities are, each has the same share of the time while it has something.
TEST(ReadyQueue, GroupsShareTime) {
  Queue queue;
  const std::map<int, double> costs{{1, 1}, {2, 7}, {3, 0.5}};
  int number = 0;
  for (const auto &[group, cost] : costs)
    for (int i = 0; i < 20000; i++) push(queue, {group, number++, kNow, group == 1 ? 1000 : 0}, 30 * kSecond);
  std::map<int, double> used;
  for (double all = 0; all < 6000;) {
    const int group = queue.top().group;
    queue.pop(costs.at(group));
    used[group] += costs.at(group);
    all += costs.at(group);
    for (const auto &[other, _] : costs) ASSERT_NEAR(used[group], used[other], 7.0 + 1e-6) << "at no moment more than one step apart";
  }
}

TEST(ReadyQueue, ANewcomerIsNextAndNoMore) {
  Queue queue;
  for (int i = 0; i < 100; i++) push(queue, {1, i});
  for (int i = 0; i < 50; i++) (void)take(queue, 10);
  push(queue, {2, 100});
  push(queue, {2, 101});
  std::vector<int> order;
  for (int i = 0; i < 4; i++) order.push_back(take(queue, 10));
  // Level with the other when it came: no debt of that one from the time when nobody else was there, no credit of its own.
  EXPECT_EQ(order, (std::vector<int>{50, 100, 51, 101}));
}

TEST(ReadyQueue, ANewcomerHasNoClaimOnThePast) {
  Queue queue;
  int number = 0;
  for (int i = 0; i < 2000; i++) push(queue, {1 + i % 2, number++});
  for (int i = 0; i < 200; i++) (void)take(queue, 10);
  for (int i = 0; i < 100; i++) push(queue, {3, number++});
  int of_newcomer = 0;
  for (int i = 0; i < 60; i++) {
    of_newcomer += queue.top().group == 3;
    queue.pop(10);
  }
  EXPECT_NEAR(of_newcomer, 20, 1);
}

// A group of long steps that never has more than one of them waiting is not next each time it comes.
TEST(ReadyQueue, ADebtOutlivesAnEmptyQueue) {
  Queue queue;
  int number = 0, long_ones = 0, short_ones = 0;
  for (int i = 0; i < 4000; i++) push(queue, {1, number++});
  push(queue, {2, number++});
  while (long_ones < 10) {
    const int group = queue.top().group;
    queue.pop(group == 2 ? 100 : 1);
    (group == 2 ? long_ones : short_ones)++;
    if (group == 2) push(queue, {2, number++});
  }
  EXPECT_NEAR(short_ones, 900, 2);
}

// Whatever is pushed and taken, nothing is lost, and no group waits longer than the others' debts.
TEST(ReadyQueue, EverythingComesOutOnce) {
  Queue queue;
  std::mt19937 random(11);
  std::map<int, bool> inside;
  int number = 0;
  for (int round = 0; round < 40000; round++) {
    if (random() % 2 == 0) {
      push(queue, {static_cast<int>(random() % 300), number, kNow + round, static_cast<int>(random() % 3)}, kSecond);
      inside[number++] = true;
    } else if (!queue.empty()) {
      ASSERT_EQ(inside.erase(take(queue, (random() % 4) * 0.7)), 1u);
    }
    ASSERT_EQ(queue.size(), inside.size());
    ASSERT_EQ(queue.empty(), inside.empty());
  }
  while (!queue.empty()) ASSERT_EQ(inside.erase(take(queue, 1)), 1u);
  EXPECT_TRUE(inside.empty());
}

TEST(ReadyQueue, ReworkDropsAndOrdersAnew) {
  Queue queue;
  push(queue, {1, 0, kNow, 0}, 0);
  push(queue, {1, 1, kNow + 100 * kSecond, 2}, 0);
  push(queue, {2, 2, kNow, 0}, 0);
  push(queue, {3, 3, kNow, 0}, 0);
  EXPECT_EQ(queue.top().number, 1) << "priority alone";
  queue.rework([](const Step &step) -> std::optional<ReadyRank> {
    if (step.group == 3) return {};
    return ready_rank(step.priority, step.since, 30 * kSecond, static_cast<std::uint64_t>(step.number));
  });
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(take(queue, 1), 0) << "it has waited for more than two levels";
  EXPECT_EQ(take(queue, 1), 2);
  EXPECT_EQ(take(queue, 1), 1);
  push(queue, {4, 4});
  queue.rework([](const Step &) -> std::optional<ReadyRank> { return {}; });
  EXPECT_TRUE(queue.empty());
  push(queue, {4, 5});
  EXPECT_EQ(take(queue), 5);
}

}  // namespace
}  // namespace tasker::core
