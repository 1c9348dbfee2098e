#include "core/cache_table.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace tasker::core {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr auto kReport = CachedFunction::kPerformanceReport;

class Cache : public ::testing::Test {
 protected:
  void make(int entries, int blocks) {
    memory = std::make_unique<std::max_align_t[]>(CacheTable::size(entries, blocks) / sizeof(std::max_align_t) + 1);
    table = CacheTable::make(memory.get(), entries, blocks);
  }
  void SetUp() override { make(8, 40); }

  static CacheQuestion question(std::string_view arguments, std::int64_t epoch = 1) { return {5, 7, 9, kReport, arguments, epoch}; }
  CacheReply ask(const CacheQuestion &q, std::int64_t now, int worker = 1, bool again = false) { return table->ask(q, now, worker, again, out); }
  std::string text(const CacheReply &reply) const { return {out, reply.length}; }
  // Asks, works it out and publishes.
  Published fill(const CacheQuestion &q, const std::string &answer, std::int64_t now = 0, double seconds = 0.5) {
    const CacheReply reply = ask(q, now);
    EXPECT_EQ(reply.step, CacheStep::kTurn);
    return table->publish(q, reply.turn, answer, now, seconds);
  }
  const CacheEntry *entry_of(std::string_view arguments) const {
    for (int i = 0; i < table->entry_count(); i++)
      if (table->entry(i).database != 0 && table->entry(i).asked() == arguments) return &table->entry(i);
    return nullptr;
  }

  std::unique_ptr<std::max_align_t[]> memory;
  CacheTable *table = nullptr;
  char out[kLongestAnswer];
};

TEST_F(Cache, GivesWhatWasPublishedUntilItExpires) {
  const Published published = fill(question("a"), "answer");
  EXPECT_TRUE(published.kept);
  EXPECT_EQ(published.expires_at, 90 * kSecond);
  const CacheReply reply = ask(question("a"), 89 * kSecond);
  EXPECT_EQ(reply.step, CacheStep::kAnswer);
  EXPECT_EQ(text(reply), "answer");
  EXPECT_EQ(reply.generated_at, 0);
  EXPECT_EQ(reply.expires_at, 90 * kSecond);
  EXPECT_EQ(ask(question("a"), 90 * kSecond).step, CacheStep::kTurn);
}

TEST_F(Cache, TellsQuestionsApart) {
  fill(question("a"), "answer");
  CacheQuestion other = question("a");
  other.database = 6;
  EXPECT_EQ(ask(other, 1).step, CacheStep::kTurn);
  other = question("a");
  other.extension = 8;  // dropped and created again
  EXPECT_EQ(ask(other, 1).step, CacheStep::kTurn);
  other = question("a");
  other.role = 10;
  EXPECT_EQ(ask(other, 1).step, CacheStep::kTurn);
  other = question("a");
  other.function = CachedFunction::kSlowestSteps;
  EXPECT_EQ(ask(other, 1).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question("b"), 1).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question(""), 1).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question("a"), 1).step, CacheStep::kAnswer);
}

TEST_F(Cache, AnswersOfAnotherHourAreNotGivenAndWhatWasLearntStays) {
  fill(question("a", 1), "of one");
  EXPECT_EQ(ask(question("a", 1), 1).step, CacheStep::kAnswer);
  const CacheReply reply = ask(question("a", 2), 2);
  EXPECT_EQ(reply.step, CacheStep::kTurn);
  EXPECT_TRUE(table->publish(question("a", 2), reply.turn, "of two", 2, 0.5).kept);
  EXPECT_EQ(entry_of("a")->use.hits, 1);
  EXPECT_EQ(entry_of("a")->use.misses, 2);
  EXPECT_EQ(text(ask(question("a", 2), 3)), "of two");
}

TEST_F(Cache, OneWorksItOutAndTheOthersWait) {
  const CacheReply first = ask(question("a"), 0, 1);
  EXPECT_EQ(first.step, CacheStep::kTurn);
  for (int worker = 2; worker < 22; worker++) {
    const CacheReply reply = ask(question("a"), 1, worker);
    EXPECT_EQ(reply.step, CacheStep::kWait);
    EXPECT_EQ(reply.worker, 1);
    EXPECT_EQ(reply.turn, first.turn);
    EXPECT_EQ(ask(question("a"), 2, worker, true).step, CacheStep::kWait);
  }
  EXPECT_TRUE(table->publish(question("a"), first.turn, "answer", 0, 0.5).kept);
  for (int worker = 2; worker < 22; worker++) EXPECT_EQ(text(ask(question("a"), 3, worker, true)), "answer");
  EXPECT_EQ(entry_of("a")->use.misses, 1);
  EXPECT_EQ(entry_of("a")->use.hits, 20);
  EXPECT_EQ(entry_of("a")->waited, 20);
}

TEST_F(Cache, TheNextOneTakesOverFromOneWhoGaveUp) {
  const CacheReply first = ask(question("a"), 0, 1);
  EXPECT_TRUE(table->give_up(question("a"), first.turn));
  EXPECT_FALSE(table->give_up(question("a"), first.turn));
  const CacheReply second = ask(question("a"), 1, 2);
  EXPECT_EQ(second.step, CacheStep::kTurn);
  EXPECT_NE(second.turn, first.turn);
  // One who comes back after his turn was taken away.
  EXPECT_FALSE(table->publish(question("a"), first.turn, "late", 0, 0.5).kept);
  EXPECT_TRUE(table->publish(question("a"), second.turn, "right", 1, 0.5).kept);
  EXPECT_EQ(text(ask(question("a"), 2, 3)), "right");
}

TEST_F(Cache, OneWhoLeavesGivesUpAllHisTurns) {
  ask(question("a"), 0, 1);
  ask(question("b"), 0, 1);
  ask(question("c"), 0, 2);
  EXPECT_TRUE(table->give_up_all(1));
  EXPECT_FALSE(table->give_up_all(1));
  EXPECT_EQ(ask(question("a"), 1, 3).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question("b"), 1, 3).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question("c"), 1, 3).step, CacheStep::kWait);
}

TEST_F(Cache, WhoAsksWithinHisOwnAnswerDoesNotWaitForHimself) {
  const CacheReply reply = ask(question("a"), 0, 1);
  EXPECT_EQ(ask(question("a"), 1, 1).step, CacheStep::kPass);
  EXPECT_TRUE(table->publish(question("a"), reply.turn, "answer", 0, 0.5).kept);
}

TEST_F(Cache, AHandThatClearsAlsoStopsWhatIsUnderWay) {
  fill(question("a"), "old");
  CacheQuestion steps = question("a");
  steps.function = CachedFunction::kSlowestSteps;
  fill(steps, "steps");
  const CacheReply under_way = ask(question("b"), 0);
  EXPECT_EQ(table->clear(6, nullptr), 0);
  EXPECT_EQ(table->clear(0, nullptr), 0);
  const CachedFunction function = kReport;
  EXPECT_EQ(table->clear(5, &function), 1);
  EXPECT_FALSE(table->publish(question("b"), under_way.turn, "from before", 0, 0.5).kept);
  EXPECT_EQ(ask(question("b"), 1).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question("a"), 1).step, CacheStep::kTurn);
  EXPECT_EQ(ask(steps, 1).step, CacheStep::kAnswer);
  EXPECT_EQ(entry_of("a")->use.misses, 2);  // learnt, and kept
  EXPECT_EQ(table->clear(5, nullptr), 1);
  EXPECT_EQ(table->free_blocks(), 40);
}

TEST_F(Cache, OfADroppedDatabaseNothingIsKnown) {
  fill(question("a"), std::string(2 * kCacheBlock, 'x'));
  const CacheReply under_way = ask(question("b"), 0);
  CacheQuestion other = question("a");
  other.database = 6;
  fill(other, "of another");
  table->forget(5);
  EXPECT_EQ(entry_of("b"), nullptr);
  EXPECT_FALSE(table->publish(question("b"), under_way.turn, "late", 0, 0.5).kept);
  EXPECT_EQ(table->free_blocks(), 39);
  EXPECT_EQ(text(ask(other, 1)), "of another");
  EXPECT_EQ(ask(question("a"), 1).step, CacheStep::kTurn);
}

TEST_F(Cache, AnswersOfAllLengths) {
  make(8, kLongestAnswer / kCacheBlock);
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, kCacheBlock - 1, kCacheBlock, kCacheBlock + 1, 5 * kCacheBlock, kLongestAnswer}) {
    std::string answer(length, 'x');
    for (std::size_t i = 0; i < length; i++) answer[i] = static_cast<char>(i * 31 + i / 4096);
    EXPECT_TRUE(fill(question("a"), answer).kept) << length;
    const CacheReply reply = ask(question("a"), 1);
    EXPECT_EQ(reply.step, CacheStep::kAnswer) << length;
    EXPECT_EQ(text(reply), answer) << length;
    table->clear(5, nullptr);
    EXPECT_EQ(table->free_blocks(), kLongestAnswer / kCacheBlock) << length;
  }
}

TEST_F(Cache, OneThatIsTooLargeIsNotWaitedFor) {
  EXPECT_FALSE(fill(question("a"), std::string(kLongestAnswer + 1, 'x')).kept);
  EXPECT_EQ(table->free_blocks(), 40);
  for (int worker = 1; worker < 5; worker++) EXPECT_EQ(ask(question("a"), kSecond, worker).step, CacheStep::kPass);
  EXPECT_EQ(ask(question("a", 2), kSecond).step, CacheStep::kTurn);  // another hour, another answer
  table->clear(5, nullptr);
  fill(question("b"), std::string(kLongestAnswer + 1, 'x'));
  const CacheReply reply = ask(question("b"), 91 * kSecond);
  EXPECT_EQ(reply.step, CacheStep::kTurn);
  EXPECT_TRUE(table->publish(question("b"), reply.turn, "small again", 91 * kSecond, 0.5).kept);
  EXPECT_EQ(ask(question("b"), 92 * kSecond).step, CacheStep::kAnswer);
}

TEST_F(Cache, NorOneThatCannotBeKept) {
  const CacheReply first = ask(question("a"), 0);
  EXPECT_FALSE(table->publish(question("a"), first.turn, std::nullopt, 0, 0.5).kept);
  EXPECT_EQ(ask(question("a"), 1, 2).step, CacheStep::kPass);
  EXPECT_EQ(ask(question("a"), 91 * kSecond, 2).step, CacheStep::kTurn);
}

TEST_F(Cache, LongArgumentsAreNotRemembered) {
  EXPECT_EQ(ask(question(std::string(kLongestArguments, 'a')), 0).step, CacheStep::kTurn);
  EXPECT_EQ(ask(question(std::string(kLongestArguments + 1, 'a')), 0).step, CacheStep::kPass);
}

TEST_F(Cache, TheLeastWorthGoesWhenThereAreTooManyQuestions) {
  const std::string names[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
  for (const std::string &name : names) fill(question(name), "x", 0, name == "3" ? 0.001 : 1);
  fill(question("new"), "x");
  EXPECT_EQ(entry_of("3"), nullptr);
  EXPECT_NE(entry_of("new"), nullptr);
  for (const std::string &name : names) EXPECT_EQ(entry_of(name) != nullptr, name != "3") << name;
  // What is asked often is worth more than what took longer and was asked once.
  for (int i = 0; i < 200; i++) EXPECT_EQ(ask(question("new"), 80 * kSecond).step, CacheStep::kAnswer);
  fill(question("newer"), "x", 80 * kSecond);
  EXPECT_NE(entry_of("new"), nullptr);
}

TEST_F(Cache, WhatIsWorkedOutIsNotPushedOut) {
  std::vector<CacheReply> turns;
  const std::string names[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
  for (const std::string &name : names) turns.push_back(ask(question(name), 0, 1));
  EXPECT_EQ(ask(question("new"), 0, 2).step, CacheStep::kPass);
  for (std::size_t i = 0; i < turns.size(); i++) EXPECT_TRUE(table->publish(question(names[i]), turns[i].turn, "x", 0, 0.5).kept);
}

TEST_F(Cache, AnswersMakeRoomByWorthAndKeepWhatWasLearnt) {
  fill(question("cheap"), std::string(16 * kCacheBlock, 'a'), 0, 0.01);
  fill(question("dear"), std::string(16 * kCacheBlock, 'b'), 0, 10);
  EXPECT_TRUE(fill(question("large"), std::string(20 * kCacheBlock, 'c'), 0, 1).kept);
  EXPECT_EQ(ask(question("dear"), 1).step, CacheStep::kAnswer);
  EXPECT_EQ(ask(question("large"), 1).step, CacheStep::kAnswer);
  const CacheEntry *cheap = entry_of("cheap");
  ASSERT_NE(cheap, nullptr);
  EXPECT_EQ(cheap->block, -1);
  EXPECT_DOUBLE_EQ(cheap->use.generation_seconds, 0.01);
  // Those that are over go first, dear or not: 10 s × 1.3 of 90 s.
  EXPECT_TRUE(fill(question("next"), std::string(20 * kCacheBlock, 'd'), 100 * kSecond, 0.5).kept);
  EXPECT_EQ(ask(question("dear"), 100 * kSecond).step, CacheStep::kAnswer);
  make(8, 3);
  EXPECT_FALSE(fill(question("never"), std::string(4 * kCacheBlock, 'x')).kept);
  EXPECT_TRUE(fill(question("fits"), std::string(3 * kCacheBlock, 'x')).kept);
}

TEST_F(Cache, TheTimeFollowsTheUse) {
  std::int64_t now = 0;
  fill(question("a"), "x", now, 2);
  EXPECT_EQ(entry_of("a")->expires_at, 117 * kSecond);  // 90 × 1.3
  for (int round = 0; round < 4; round++) {
    while (ask(question("a"), now).step == CacheStep::kAnswer) now += kSecond;
    // The ask that ended the loop has the turn.
    EXPECT_TRUE(table->publish(question("a"), entry_of("a")->turn, "x", now, 2).kept);
  }
  EXPECT_NEAR(static_cast<double>(entry_of("a")->expires_at - now) / kSecond, 90 * 1.5 * 1.3 * 1.2, 1e-3);
}

TEST_F(Cache, AClockThatIsSetBackDoesNotMakeAnswersLast) {
  fill(question("a"), "x", 86400 * kSecond);
  EXPECT_EQ(ask(question("a"), 86400 * kSecond - 1000).step, CacheStep::kAnswer);  // looked at the clock just before
  EXPECT_EQ(ask(question("a"), 0).step, CacheStep::kTurn);
}

TEST(CachedFunctions, HaveNamesAndTimes) {
  for (int i = 0; i < kCachedFunctions; i++) {
    const auto function = static_cast<CachedFunction>(i);
    EXPECT_STRNE(to_string(function), "unknown");
    EXPECT_GE(base_ttl_seconds(function), 90);
  }
}

}  // namespace
}  // namespace tasker::core
