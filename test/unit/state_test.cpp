// Every pair of states under every cause, against the published tables written out a second time.
#include "core/state.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tasker::core {
namespace {

const std::vector<std::string> kCauses = {"engine", "control", "deadline", "lease", "rerun"};

struct Expected {
  const char *from, *to, *causes;  // causes separated by spaces, "any" for all
};

bool expects(const std::vector<Expected> &table, const std::string &from, const std::string &to, const std::string &cause) {
  for (const Expected &row : table) {
    if (from != row.from || to != row.to) continue;
    return std::string(row.causes) == "any" || (" " + std::string(row.causes) + " ").find(" " + cause + " ") != std::string::npos;
  }
  return false;
}

template <typename State>
int check_all(const std::vector<Expected> &table, State last) {
  int allowed = 0;
  for (int from = 0; from <= static_cast<int>(last); ++from) {
    for (int to = 0; to <= static_cast<int>(last); ++to) {
      for (std::size_t cause = 0; cause < kCauses.size(); ++cause) {
        const auto a = static_cast<State>(from);
        const auto b = static_cast<State>(to);
        const bool got = move_allowed(a, b, static_cast<MoveCause>(cause));
        EXPECT_EQ(got, expects(table, to_string(a), to_string(b), kCauses[cause])) << to_string(a) << " to " << to_string(b) << " by " << kCauses[cause];
        allowed += got ? 1 : 0;
      }
    }
  }
  return allowed;
}

TEST(State, StepMovesAreExactlyTheTable) {
  const int allowed = check_all({{"pending", "in_progress", "any"},
                                 {"pending", "cancelled", "any"},
                                 {"pending", "skipped", "any"},
                                 {"pending", "resolved_manually", "any"},
                                 {"pending", "error", "deadline"},
                                 {"in_progress", "complete", "any"},
                                 {"in_progress", "error", "any"},
                                 {"in_progress", "cancelled", "any"},
                                 {"in_progress", "pending", "lease"},
                                 {"error", "pending", "any"},
                                 {"error", "resolved_manually", "any"},
                                 {"error", "skipped", "any"},
                                 {"error", "cancelled", "any"},
                                 {"complete", "pending", "rerun"},
                                 {"skipped", "pending", "rerun"},
                                 {"resolved_manually", "pending", "rerun"},
                                 {"cancelled", "pending", "rerun"}},
                                StepState::kSkipped);
  EXPECT_EQ(allowed, 11 * 5 + 6);
}

TEST(State, TaskMovesAreExactlyTheTable) {
  const int allowed = check_all({{"pending", "in_progress", "any"},
                                 {"pending", "cancelled", "any"},
                                 {"pending", "error", "any"},
                                 {"pending", "resolved_manually", "control"},
                                 {"in_progress", "complete", "any"},
                                 {"in_progress", "error", "any"},
                                 {"in_progress", "cancelled", "any"},
                                 {"in_progress", "pending", "any"},
                                 {"in_progress", "resolved_manually", "control"},
                                 {"error", "pending", "any"},
                                 {"error", "cancelled", "any"},
                                 {"error", "resolved_manually", "control"},
                                 {"error", "in_progress", "control rerun"},
                                 {"complete", "in_progress", "control rerun"},
                                 {"complete", "cancelled", "control"},
                                 {"resolved_manually", "in_progress", "control rerun"},
                                 {"resolved_manually", "cancelled", "control"},
                                 {"cancelled", "in_progress", "control rerun"}},
                                TaskState::kResolvedManually);
  EXPECT_EQ(allowed, 9 * 5 + 5 + 4 * 2);
}

// The reference's own specification asserts these refusals.
TEST(State, ShortCutsAreRefused) {
  for (int cause = 0; cause < 5; ++cause) {
    const auto by = static_cast<MoveCause>(cause);
    EXPECT_FALSE(move_allowed(StepState::kPending, StepState::kComplete, by));
    EXPECT_FALSE(move_allowed(StepState::kError, StepState::kComplete, by));
    EXPECT_FALSE(move_allowed(StepState::kError, StepState::kInProgress, by));
    EXPECT_FALSE(move_allowed(TaskState::kPending, TaskState::kComplete, by));
    EXPECT_FALSE(move_allowed(TaskState::kError, TaskState::kComplete, by));
  }
}

TEST(State, NamesGoBothWays) {
  for (int i = 0; i <= static_cast<int>(StepState::kSkipped); ++i) {
    const auto state = static_cast<StepState>(i);
    EXPECT_EQ(parse_step_state(to_string(state)), state);
  }
  for (int i = 0; i <= static_cast<int>(TaskState::kResolvedManually); ++i) {
    const auto state = static_cast<TaskState>(i);
    EXPECT_EQ(parse_task_state(to_string(state)), state);
  }
  EXPECT_STREQ(to_string(StepState::kSkipped), "skipped");
  for (const char *bad : {"", "Pending", "pending ", "done", "failed"}) {
    EXPECT_EQ(parse_step_state(bad), std::nullopt) << bad;
    EXPECT_EQ(parse_task_state(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_task_state("skipped"), std::nullopt);
}

TEST(State, WhatChildrenBuildOn) {
  for (const StepState state : {StepState::kComplete, StepState::kResolvedManually, StepState::kSkipped}) EXPECT_TRUE(satisfies_children(state));
  for (const StepState state : {StepState::kPending, StepState::kInProgress, StepState::kError, StepState::kCancelled}) {
    EXPECT_FALSE(satisfies_children(state));
  }
}

TEST(State, FinishedTasks) {
  EXPECT_FALSE(finished(TaskState::kPending));
  EXPECT_FALSE(finished(TaskState::kInProgress));
  for (const TaskState state : {TaskState::kComplete, TaskState::kError, TaskState::kCancelled, TaskState::kResolvedManually}) EXPECT_TRUE(finished(state));
}

}  // namespace
}  // namespace tasker::core
