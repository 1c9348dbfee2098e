// The catalogue of events covers every allowed move; patterns name what they say.
#include "core/events.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/json.hpp"
#include "core/state.hpp"

namespace tasker::core {
namespace {

constexpr MoveCause kCauses[] = {MoveCause::kEngine, MoveCause::kLease, MoveCause::kDeadline, MoveCause::kControl, MoveCause::kRerun};

template <class State>
void collect(int states, bool of_step, std::set<std::string> &seen) {
  for (int from = 0; from < states; ++from) {
    for (int to = 0; to < states; ++to) {
      bool allowed = false;
      for (const MoveCause cause : kCauses) allowed = allowed || move_allowed(static_cast<State>(from), static_cast<State>(to), cause);
      if (!allowed) continue;
      const std::string event = event_of(static_cast<State>(from), static_cast<State>(to));
      bool known = false;
      for (const EventKind &kind : event_kinds()) known = known || (event == kind.name && kind.of_step == of_step);
      EXPECT_TRUE(known) << event << " is not in the catalogue";
      seen.insert(event);
    }
  }
}

TEST(Events, EveryMoveIsInTheCatalogueAndNothingElse) {
  std::set<std::string> seen{event_of(TaskState::kPending, TaskState::kPending)};
  collect<StepState>(static_cast<int>(StepState::kSkipped) + 1, true, seen);
  collect<TaskState>(static_cast<int>(TaskState::kResolvedManually) + 1, false, seen);
  EXPECT_EQ(seen.size(), event_kinds().size());
}

TEST(Events, NamesOfTheReference) {
  EXPECT_STREQ(event_of(TaskState::kPending, TaskState::kInProgress), "task.start_requested");
  EXPECT_STREQ(event_of(TaskState::kError, TaskState::kPending), "task.retry_requested");
  EXPECT_STREQ(event_of(StepState::kPending, StepState::kInProgress), "step.execution_requested");
  EXPECT_STREQ(event_of(StepState::kError, StepState::kPending), "step.retry_requested");
  EXPECT_STREQ(event_of(StepState::kComplete, StepState::kPending), "step.rerun_requested");
  EXPECT_STREQ(event_of(StepState::kInProgress, StepState::kPending), "step.released");
}

TEST(Events, Patterns) {
  EXPECT_TRUE(event_matches("*", "task.failed"));
  EXPECT_TRUE(event_matches("task.*", "task.failed"));
  EXPECT_FALSE(event_matches("task.*", "step.failed"));
  EXPECT_FALSE(event_matches("task.fail", "task.failed"));
  EXPECT_TRUE(names_custom_events("*"));
  EXPECT_TRUE(names_custom_events("t*"));
  EXPECT_FALSE(names_custom_events("task.*"));
  EXPECT_EQ(event_pattern_problem("task.re*"), "");
  EXPECT_EQ(event_pattern_problem("order.paid"), "");
  EXPECT_NE(event_pattern_problem("task.done"), "");
  EXPECT_NE(event_pattern_problem("step.x*"), "");
  EXPECT_NE(event_pattern_problem(""), "");
  EXPECT_NE(event_pattern_problem("a*b"), "");
}

TEST(Events, SchemasAreJson) {
  for (const bool step : {false, true}) EXPECT_TRUE(parse_json(event_payload_schema(step, false)).contains("required"));
  EXPECT_TRUE(parse_json(event_payload_schema(true, true))["properties"].contains("result"));
}

}  // namespace
}  // namespace tasker::core
