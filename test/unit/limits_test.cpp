#include "core/limits.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace tasker::core {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kNow = 850'000'000 * kSecond;

using Book = LimitBook<int, std::hash<int>, int>;

LimitRule at_once(int n) { return {.max_running = n}; }
LimitRule rate(double per_second, int burst = 1) { return {.max_running = {}, .per_second = per_second, .burst = burst}; }
ReadyRank rank(int number, int priority = 0) { return ready_rank(priority, kNow, 0, static_cast<std::uint64_t>(number)); }

Book book_of(std::unordered_map<int, LimitRule> rules) {
  Book book;
  EXPECT_TRUE(book.restart(std::move(rules), kNow).empty());
  return book;
}
// Begins, or waits.
bool offer(Book &book, int step, const GroupIds &groups, std::int64_t now = kNow, int owner = 1, int priority = 0) {
  if (book.admits(step, groups, now)) {
    book.begin(step, groups, now);
    return true;
  }
  book.park(step, owner, rank(step, priority), groups, step, now);
  return false;
}
// Lets out and begins all that may: which.
std::vector<int> proceed(Book &book, const GroupIds &groups, std::int64_t now = kNow) {
  std::vector<int> out;
  while (const auto next = book.let_out(now)) {
    EXPECT_TRUE(book.admits(next->second, groups, now)) << "its place is reserved";
    book.begin(next->second, groups, now);
    out.push_back(next->second);
  }
  return out;
}
using Steps = std::vector<int>;
GroupFigures figures(Book &book, const GroupId &id, std::int64_t now = kNow) {
  GroupFigures last{id};
  for (const GroupFigures &each : book.take_changes(now))
    if (each.id == id) last = each;
  return last;
}

TEST(TokenBucket, ComesEvenlyUpToTheBurst) {
  const LimitRule rule = rate(20, 5);
  TokenBucket bucket(rule, kNow);
  EXPECT_EQ(whole_tokens(bucket.tokens(rule, kNow)), 5);
  bucket.take(rule, kNow, 5);
  EXPECT_EQ(whole_tokens(bucket.tokens(rule, kNow)), 0);
  EXPECT_EQ(bucket.when(rule, kNow, 1), kNow + 50'000);
  EXPECT_EQ(bucket.when(rule, kNow, 3), kNow + 150'000);
  EXPECT_EQ(whole_tokens(bucket.tokens(rule, kNow + 49'999)), 0);
  EXPECT_EQ(whole_tokens(bucket.tokens(rule, kNow + 50'000)), 1);
  EXPECT_EQ(whole_tokens(bucket.tokens(rule, kNow + 3600 * kSecond)), 5) << "no more than the burst";
  bucket.take(rule, kNow, -9);
  EXPECT_DOUBLE_EQ(bucket.tokens(rule, kNow), 5);
  EXPECT_EQ(bucket.when(rule, kNow + 7, 1), kNow + 7);
}

TEST(TokenBucket, TheMomentItNamesHasTheToken) {
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; i++) {
    const LimitRule rule = rate(std::uniform_real_distribution(0.001, 5000.0)(random), 1 + i % 7);
    TokenBucket bucket(rule, kNow);
    std::int64_t now = kNow;
    for (int n = 0; n < 12; n++) {
      now = bucket.when(rule, now, 1);
      EXPECT_GE(whole_tokens(bucket.tokens(rule, now)), 1);
      bucket.take(rule, now);
    }
  }
}

TEST(LimitBook, WithoutRulesNobodyWaits) {
  Book book;
  EXPECT_TRUE(book.idle());
  EXPECT_TRUE(book.admits(1, {{7, 0}}, kNow));
  book.begin(1, {{7, 0}}, kNow);
  book.finish(1);
  EXPECT_TRUE(book.take_changes(kNow).empty());
  EXPECT_FALSE(book.let_out(kNow));
  EXPECT_FALSE(book.next_at());
}

TEST(LimitBook, SoManyAtOnceThenByRank) {
  Book book = book_of({{1, at_once(2)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  EXPECT_TRUE(offer(book, 2, groups));
  for (int step = 3; step <= 6; step++) EXPECT_FALSE(offer(book, step, groups));
  EXPECT_FALSE(offer(book, 7, groups, kNow, 1, 5)) << "a higher priority is first in the line, not beyond the limit";
  EXPECT_TRUE(book.waits(7));
  EXPECT_FALSE(book.let_out(kNow));
  book.finish(2);
  EXPECT_TRUE(book.pending());
  EXPECT_EQ(proceed(book, groups), Steps{7});
  book.finish(1);
  book.finish(7);
  EXPECT_EQ(proceed(book, groups), (Steps{3, 4}));
  EXPECT_EQ(book.waiting(), 2u);
  const GroupFigures now = figures(book, {1, 0});
  EXPECT_EQ(now.running, 2);
  EXPECT_EQ(now.waiting, 2);
  EXPECT_EQ(now.let_out, 0);
}

TEST(LimitBook, AReservedPlaceIsTakenAndGivenBack) {
  Book book = book_of({{1, at_once(1)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  for (int step = 2; step <= 4; step++) EXPECT_FALSE(offer(book, step, groups));
  book.finish(1);
  EXPECT_EQ(book.let_out(kNow)->second, 2);
  EXPECT_FALSE(book.let_out(kNow));
  EXPECT_FALSE(book.admits(9, groups, kNow)) << "a newcomer does not take it";
  EXPECT_TRUE(book.admits(2, groups, kNow));
  book.forget(2);
  EXPECT_EQ(book.let_out(kNow)->second, 3);
  book.forget_owner(2);
  EXPECT_FALSE(book.let_out(kNow)) << "somebody else's";
  book.forget_owner(1);
  EXPECT_EQ(book.let_out(kNow)->second, 4);
}

TEST(LimitBook, OwnersHaveTurns) {
  Book book = book_of({{1, at_once(1)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 0, groups));
  for (int step = 1; step <= 6; step++) EXPECT_FALSE(offer(book, step, groups, kNow, 1, 100));
  for (int step = 11; step <= 13; step++) EXPECT_FALSE(offer(book, step, groups, kNow, 2));
  Steps order;
  for (int running = 0; order.size() < 9;) {
    book.finish(running);
    const auto next = book.let_out(kNow);
    ASSERT_TRUE(next);
    book.begin(next->second, groups, kNow);
    order.push_back(running = next->second);
  }
  EXPECT_EQ(order, (Steps{1, 11, 2, 12, 3, 13, 4, 5, 6}));
}

TEST(LimitBook, ARateSleepsUntilTheNextToken) {
  Book book = book_of({{1, rate(10, 2)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  EXPECT_TRUE(offer(book, 2, groups));
  for (int step = 3; step <= 6; step++) EXPECT_FALSE(offer(book, step, groups));
  book.finish(1);
  book.finish(2);
  EXPECT_EQ(proceed(book, groups), Steps{}) << "an end gives no token";
  std::int64_t now = kNow;
  for (int step = 3; step <= 6; step++) {
    ASSERT_EQ(book.next_at(), now + 100'000) << step;
    EXPECT_EQ(proceed(book, groups, now + 99'000), Steps{});
    now += 100'000;
    EXPECT_EQ(proceed(book, groups, now), Steps{step});
  }
  EXPECT_EQ(proceed(book, groups, now + 1), Steps{});
  EXPECT_FALSE(book.next_at()) << "nobody waits";
  EXPECT_FALSE(book.pending());
}

TEST(LimitBook, WhatDidNotBeginGetsItsTokenBack) {
  Book book = book_of({{1, {.max_running = 3, .per_second = 0.001, .burst = 1}}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  EXPECT_FALSE(offer(book, 2, groups));
  book.take_back(1, kNow);
  EXPECT_EQ(proceed(book, groups), Steps{2});
  book.finish(2);
  EXPECT_FALSE(offer(book, 3, groups));
}

// Many wait for the step's own limit and all of them for the namespace's: each place that becomes free is found, and costs a look or two.
TEST(LimitBook, SeveralLimits) {
  Book book = book_of({{1, at_once(2)}, {2, at_once(3)}});
  const GroupIds narrow{{1, 0}, {2, 0}}, wide{{2, 0}};
  EXPECT_TRUE(offer(book, 1, narrow));
  EXPECT_TRUE(offer(book, 2, narrow));
  EXPECT_FALSE(offer(book, 3, narrow));
  EXPECT_FALSE(offer(book, 4, narrow));
  EXPECT_TRUE(offer(book, 5, wide)) << "what waits for one limit does not stand in the way of others";
  EXPECT_FALSE(offer(book, 6, wide));
  book.finish(1);
  auto next = book.let_out(kNow);
  ASSERT_TRUE(next);
  EXPECT_EQ(book.let_out(kNow), std::nullopt) << "one place, one step";
  book.begin(next->second, next->second == 6 ? wide : narrow, kNow);
  book.finish(5);
  book.finish(2);
  Steps rest{next->second};
  while ((next = book.let_out(kNow))) {
    book.begin(next->second, next->second == 6 ? wide : narrow, kNow);
    rest.push_back(next->second);
  }
  std::sort(rest.begin(), rest.end());
  EXPECT_EQ(rest, (Steps{3, 4, 6}));
}

TEST(LimitBook, EachValueOfAKeyIsAGroup) {
  Book book = book_of({{1, at_once(1)}});
  const GroupId red{1, key_hash("\"red\"")}, blue{1, key_hash("\"blue\"")};
  EXPECT_TRUE(offer(book, 1, {red}));
  EXPECT_FALSE(offer(book, 2, {red}));
  EXPECT_TRUE(offer(book, 3, {blue}));
  book.finish(3);
  EXPECT_FALSE(book.let_out(kNow));
  book.finish(1);
  EXPECT_EQ(proceed(book, {red}), Steps{2});
}

TEST(LimitBook, NewRules) {
  Book book = book_of({{1, at_once(0)}, {2, rate(1, 3)}});
  const GroupIds both{{1, 0}, {2, 0}};
  EXPECT_FALSE(offer(book, 1, both)) << "closed";
  EXPECT_TRUE(offer(book, 2, {{2, 0}}));
  auto waited = book.restart({{1, at_once(4)}, {2, rate(2, 3)}}, kNow + kSecond / 2);
  ASSERT_EQ(waited.size(), 1u);
  EXPECT_EQ(waited.front(), (Book::Waiting{1, 1}));
  EXPECT_FALSE(book.waits(1));
  book.adopt(2, {{2, 0}}, kNow + kSecond / 2);
  EXPECT_TRUE(offer(book, 1, both, kNow + kSecond / 2));
  EXPECT_DOUBLE_EQ(figures(book, {2, 0}, kNow + kSecond / 2).tokens, 1.5) << "3, two of them taken, half a second at the old rate";
  waited = book.restart({{1, at_once(4)}}, kNow + kSecond);
  EXPECT_TRUE(waited.empty());
  waited = book.restart({{2, rate(1, 3)}}, kNow + kSecond);
  book.adopt(3, {{2, 0}}, kNow + kSecond);
  EXPECT_DOUBLE_EQ(figures(book, {2, 0}, kNow + kSecond).tokens, 3) << "a limit that is new begins full";
  book.seed({2, 5}, 0.25, kNow + kSecond);
  EXPECT_FALSE(offer(book, 4, {{2, 5}}, kNow + kSecond)) << "tokens of before";
}

TEST(LimitBook, MoreRunThanMay) {
  Book book = book_of({{1, at_once(2)}});
  const GroupIds groups{{1, 0}};
  for (int step = 1; step <= 5; step++) book.adopt(step, groups, kNow);
  EXPECT_FALSE(offer(book, 6, groups));
  for (int step = 1; step <= 3; step++) {
    book.finish(step);
    EXPECT_EQ(proceed(book, groups), Steps{}) << step;
  }
  book.finish(4);
  EXPECT_EQ(proceed(book, groups), Steps{6});
  book.finish(99);
}

TEST(LimitBook, ThoseThatWaitMayBeRemoved) {
  Book book = book_of({{1, at_once(1)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  for (int step = 2; step <= 9; step++) EXPECT_FALSE(offer(book, step, groups));
  book.remove_if([](int step) { return step != 6 && step != 8; });
  EXPECT_EQ(book.waiting(), 2u);
  EXPECT_FALSE(book.waits(2));
  EXPECT_EQ(figures(book, {1, 0}).waiting, 2);
  book.finish(1);
  EXPECT_EQ(proceed(book, groups), Steps{6});
  book.remove_if([](int) { return true; });
  book.finish(6);
  EXPECT_EQ(proceed(book, groups), Steps{});
  EXPECT_TRUE(offer(book, 10, groups));
}

TEST(LimitBook, AClockSetBack) {
  Book book = book_of({{1, rate(1, 1)}});
  const GroupIds groups{{1, 0}};
  EXPECT_TRUE(offer(book, 1, groups));
  EXPECT_FALSE(offer(book, 2, groups));
  const std::int64_t back = kNow - 3600 * kSecond;
  EXPECT_EQ(proceed(book, groups, back), Steps{});
  ASSERT_TRUE(book.next_at());
  EXPECT_LE(*book.next_at(), back + kSecond);
  EXPECT_EQ(proceed(book, groups, *book.next_at()), Steps{2});
}

// Whatever comes in whatever order: no limit is broken, nobody is left behind.
TEST(LimitBook, RandomStepsUnderRandomLimits) {
  for (unsigned seed = 0; seed < 30; seed++) {
    std::mt19937 random(seed);
    const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    std::unordered_map<int, LimitRule> rules{{1, at_once(1 + pick(4))}, {2, at_once(2 + pick(6))}, {3, rate(5 + pick(50), 1 + pick(5))}, {4, at_once(1)}};
    rules[2].per_second = pick(2) * (20 + pick(100));
    rules[2].burst = 1 + pick(10);
    Book book = book_of(rules);
    struct Step {
      GroupIds groups;
      bool begun = false, over = false;
    };
    std::map<int, Step> steps;
    std::map<int, int> running;
    std::map<GroupId, std::vector<std::int64_t>> begins;
    std::map<GroupId, int> at_present;
    std::int64_t now = kNow;
    const auto begin = [&](int id) {
      Step &step = steps.at(id);
      EXPECT_FALSE(step.begun);
      step.begun = true;
      book.begin(id, step.groups, now);
      running[id] = 1;
      for (const GroupId &group : step.groups) {
        const LimitRule &rule = rules.at(group.limit);
        begins[group].push_back(now);
        at_present[group]++;
        if (rule.max_running) {
          EXPECT_LE(at_present[group], *rule.max_running);
        }
        if (rule.per_second <= 0) continue;
        const auto &all = begins[group];
        for (std::size_t i = 0; i < all.size(); i++)
          EXPECT_LE(static_cast<double>(all.size() - i), rule.burst + rule.per_second * static_cast<double>(now - all[i]) / 1e6 + 0.001);
      }
    };
    int next_id = 0;
    const int total = 400;
    for (int turn = 0; turn < 200'000 && (next_id < total || !running.empty() || book.waiting() > 0); turn++) {
      if (next_id < total && pick(3) == 0) {
        Step step;
        if (pick(2)) step.groups.push_back({1, 0});
        if (pick(3) == 0) step.groups.push_back({4, static_cast<std::uint64_t>(1 + pick(5))});
        if (pick(2)) step.groups.push_back({3, 0});
        if (pick(2)) step.groups.push_back({2, 0});
        const int id = next_id++;
        steps[id] = step;
        if (book.admits(id, step.groups, now)) begin(id);
        else book.park(id, pick(3), rank(id, pick(3)), step.groups, id, now);
      }
      if (!running.empty() && pick(2)) {
        const int id = std::next(running.begin(), pick(static_cast<int>(running.size())))->first;
        for (const GroupId &group : steps.at(id).groups) at_present[group]--;
        running.erase(id);
        book.finish(id);
      }
      while (const auto out = book.let_out(now)) {
        if (pick(10) == 0) {  // not now
          book.forget(out->second);
          book.park(out->second, out->first, rank(out->second), steps.at(out->second).groups, out->second, now);
        } else {
          begin(out->second);
        }
      }
      const bool stuck = next_id == total && running.empty() && book.waiting() > 0;
      if (stuck) {
        ASSERT_TRUE(book.next_at()) << "seed " << seed << ": those that wait are woken";
        now = std::max(now, *book.next_at());
      } else {
        now += pick(20'000);
      }
    }
    EXPECT_EQ(book.waiting(), 0u) << seed;
    for (const auto &[id, step] : steps) EXPECT_TRUE(step.begun) << id;
    for (const auto &[group, n] : at_present) EXPECT_EQ(n, 0);
  }
}

// A place that becomes free costs the same, however many wait.
TEST(LimitBook, ManyWait) {
  Book book = book_of({{1, at_once(5)}, {2, at_once(10)}});
  const GroupIds narrow{{1, 0}, {2, 0}}, wide{{2, 0}};
  constexpr int kMany = 60'000;
  const auto groups_of = [&](int step) -> const GroupIds & { return step % 2 ? narrow : wide; };
  for (int step = 0; step < kMany; step++) (void)offer(book, step, groups_of(step));
  std::vector<int> running;
  for (int step = 0; step < kMany; step++)
    if (!book.waits(step)) running.push_back(step);
  int begun = static_cast<int>(running.size());
  EXPECT_EQ(begun, 10);
  for (std::size_t i = 0; i < running.size(); i++) {
    book.finish(running[i]);
    while (const auto next = book.let_out(kNow)) {
      book.begin(next->second, groups_of(next->second), kNow);
      running.push_back(next->second);
      begun++;
    }
  }
  EXPECT_EQ(begun, kMany);
}

TEST(LimitBook, GroupsThatNobodyUsesGo) {
  Book book = book_of({{1, {.max_running = 1, .per_second = 1000, .burst = 2}}});
  for (int step = 0; step < 100'000; step++) {
    const GroupIds groups{{1, static_cast<std::uint64_t>(step + 1)}};
    const std::int64_t now = kNow + step * 1000;
    ASSERT_TRUE(offer(book, step, groups, now));
    book.finish(step);
    EXPECT_LE(book.take_changes(now).size(), 1u);
  }
  EXPECT_LT(book.groups(), 2000u);
}

TEST(Pointer, Path) {
  EXPECT_EQ(pointer_path("/customer"), (std::vector<std::string>{"customer"}));
  EXPECT_EQ(pointer_path("/a/b~1c/~0d/"), (std::vector<std::string>{"a", "b/c", "~d", ""}));
  EXPECT_EQ(pointer_path("/~01"), (std::vector<std::string>{"~1"}));
  for (const char *bad : {"", "customer", "a/b", "/a~", "/a~2"}) EXPECT_FALSE(pointer_path(bad)) << bad;
}

TEST(Pointer, HashIsNeverZero) {
  EXPECT_NE(key_hash(""), 0u);
  EXPECT_NE(key_hash("1"), key_hash("\"1\""));
}

}  // namespace
}  // namespace tasker::core
