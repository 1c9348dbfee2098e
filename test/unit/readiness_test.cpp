// The reference engine's verified tables, with its defects mended: failed steps that may not be retried are
// visible, a cancelled step wedges nothing, and the first attempt is always allowed.
#include "core/readiness.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>
#include <string>

#include "core/error.hpp"

namespace tasker::core {
namespace {

using Lists = std::vector<std::vector<int>>;
using S = StepState;

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kNow = 1'000'000 * kSecond;

StepFacts step(S state, int attempts = 0, int max_attempts = 3, std::optional<std::int64_t> next_in_seconds = {}) {
  StepFacts facts;
  facts.state = state;
  facts.attempts = attempts;
  facts.max_attempts = max_attempts;
  if (next_in_seconds) facts.next_attempt_at = kNow + *next_in_seconds * kSecond;
  return facts;
}

StepFacts not_retryable(StepFacts facts) {
  facts.retryable = false;
  return facts;
}

StepFacts permanent(StepFacts facts) {
  facts.failed_permanently = true;
  return facts;
}

TaskFacts running() {
  TaskFacts task;
  task.state = TaskState::kInProgress;
  return task;
}

// --- one step alone: the reference's truth table ---

struct OneStep {
  const char *name;
  StepFacts facts;
  bool ready, eligible;
  Blocking reason;
  std::optional<int> ready_in;
  const char *status, *health;
};

class TruthTable : public testing::TestWithParam<OneStep> {};

TEST_P(TruthTable, Holds) {
  const OneStep &expected = GetParam();
  const Graph graph(Lists{{}});
  const std::vector<StepFacts> facts{expected.facts};
  const std::vector<Readiness> got = assess(graph, running(), facts, kNow);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_TRUE(got[0].dependencies_satisfied);
  EXPECT_EQ(got[0].ready, expected.ready);
  EXPECT_EQ(got[0].retry_eligible, expected.eligible);
  EXPECT_STREQ(to_string(got[0].reason), to_string(expected.reason));
  EXPECT_EQ(got[0].ready_at, expected.ready_in ? std::optional(kNow + *expected.ready_in * kSecond) : std::nullopt);
  const ExecutionContext context = execution_context(graph, facts, got);
  EXPECT_STREQ(context.execution_status, expected.status);
  EXPECT_STREQ(context.health_status, expected.health);
}

constexpr const char *kReady = "has_ready_steps";
constexpr const char *kWaiting = "waiting_for_dependencies";
constexpr const char *kStopped = "blocked_by_failures";

INSTANTIATE_TEST_SUITE_P(
    Readiness, TruthTable,
    testing::Values(
        OneStep{"new", step(S::kPending), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"in_progress", step(S::kInProgress, 1), false, true, Blocking::kNone, {}, "processing", "healthy"},
        OneStep{"in_progress_last_attempt", step(S::kInProgress, 3), false, false, Blocking::kNone, {}, "processing", "healthy"},
        OneStep{"complete", step(S::kComplete, 1), false, true, Blocking::kNone, {}, "all_complete", "healthy"},
        OneStep{"resolved_manually", step(S::kResolvedManually, 1), false, true, Blocking::kNone, {}, "all_complete", "healthy"},
        OneStep{"skipped", step(S::kSkipped), false, true, Blocking::kNone, {}, "all_complete", "healthy"},
        OneStep{"failed_now", step(S::kError, 1, 3, 2), false, true, Blocking::kBackoff, 2, kWaiting, "recovering"},
        OneStep{"failed_a_second_ago", step(S::kError, 1, 3, 1), false, true, Blocking::kBackoff, 1, kWaiting, "recovering"},
        OneStep{"backoff_over", step(S::kError, 1, 3, -1), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"backoff_over_this_instant", step(S::kError, 1, 3, 0), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"second_failure_backoff_over", step(S::kError, 2, 3, -1), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"sixth_of_ten_backoff_over", step(S::kError, 6, 10, -1), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"second_failure_in_backoff", step(S::kError, 2, 3, 1), false, true, Blocking::kBackoff, 1, kWaiting, "recovering"},
        OneStep{"sixth_of_ten_in_backoff", step(S::kError, 6, 10, 1), false, true, Blocking::kBackoff, 1, kWaiting, "recovering"},
        OneStep{"no_backoff_known", step(S::kError, 1), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"exhausted", step(S::kError, 3, 3, -5), false, false, Blocking::kAttemptsExhausted, {}, kStopped, "blocked"},
        OneStep{"exhausted_with_a_time", step(S::kError, 3, 3, 5), false, false, Blocking::kAttemptsExhausted, {}, kStopped, "blocked"},
        OneStep{"beyond_the_limit", step(S::kError, 4, 3), false, false, Blocking::kAttemptsExhausted, {}, kStopped, "blocked"},
        OneStep{"defect_4_failed_not_retryable", not_retryable(step(S::kError, 1)), false, false, Blocking::kNotRetryable, {}, kStopped, "blocked"},
        OneStep{"defect_3_failed_permanently", permanent(step(S::kError, 1)), false, false, Blocking::kNotRetryable, {}, kStopped, "blocked"},
        OneStep{"permanent_tells_more_than_exhausted", permanent(step(S::kError, 3)), false, false, Blocking::kNotRetryable, {}, kStopped, "blocked"},
        OneStep{"permanent_without_an_attempt", permanent(step(S::kError, 0)), false, false, Blocking::kNotRetryable, {}, kStopped, "blocked"},
        OneStep{"error_without_an_attempt", not_retryable(step(S::kError, 0, 0)), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"defect_6_first_attempt_not_retryable", not_retryable(step(S::kPending)), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"defect_6_first_attempt_limit_0", step(S::kPending, 0, 0), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"first_attempt_negative_limit", step(S::kPending, 0, -1), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"put_back_although_exhausted", step(S::kPending, 3, 3), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"put_back_although_not_retryable", not_retryable(permanent(step(S::kPending, 1))), true, true, Blocking::kNone, {}, kReady, "healthy"},
        OneStep{"requested_delay", step(S::kError, 1, 3, 50), false, true, Blocking::kBackoff, 50, kWaiting, "recovering"},
        OneStep{"requested_delay_over", step(S::kError, 1, 3, -1), true, true, Blocking::kNone, {}, kReady, "recovering"},
        OneStep{"pending_with_delay", step(S::kPending, 0, 3, 20), false, true, Blocking::kBackoff, 20, kWaiting, "healthy"},
        OneStep{"defect_5_cancelled", step(S::kCancelled), false, true, Blocking::kNone, {}, kStopped, "blocked"}),
    [](const testing::TestParamInfo<OneStep> &row) { return std::string(row.param.name); });

// --- the task around a step ---

Readiness alone(const TaskFacts &task, const StepFacts &facts) {
  return assess(Graph(Lists{{}}), task, std::vector<StepFacts>{facts}, kNow).front();
}

TEST(Readiness, TaskFactsBlockInOrder) {
  TaskFacts task = running();
  const StepFacts waiting = step(S::kError, 1, 3, 7);
  EXPECT_EQ(alone(task, waiting).reason, Blocking::kBackoff);
  task.run_at = kNow + 5 * kSecond;
  EXPECT_EQ(alone(task, waiting).reason, Blocking::kRunAt);
  task.paused = true;
  EXPECT_EQ(alone(task, waiting).reason, Blocking::kPaused);
  task.owner_can_connect = false;
  EXPECT_EQ(alone(task, waiting).reason, Blocking::kOwnerCannotConnect);
  task.held = true;
  EXPECT_EQ(alone(task, waiting).reason, Blocking::kHeld);
  EXPECT_EQ(alone(task, waiting).ready_at, std::nullopt);
  EXPECT_FALSE(alone(task, waiting).ready);
  EXPECT_EQ(alone(task, step(S::kError, 3)).reason, Blocking::kAttemptsExhausted) << "the step's own end comes first";
}

TEST(Readiness, ReadyAtIsTheLaterOfRunAtAndBackoff) {
  TaskFacts task = running();
  task.run_at = kNow + 5 * kSecond;
  EXPECT_EQ(alone(task, step(S::kPending)).ready_at, kNow + 5 * kSecond);
  EXPECT_EQ(alone(task, step(S::kError, 1, 3, 7)).ready_at, kNow + 7 * kSecond);
  EXPECT_EQ(alone(task, step(S::kError, 1, 3, 2)).ready_at, kNow + 5 * kSecond);
  task.run_at = kNow;
  EXPECT_TRUE(alone(task, step(S::kPending)).ready) << "run_at itself is not late";
}

TEST(Readiness, AnOpenBreakerKeepsAReadyStepBack) {
  StepFacts facts = step(S::kPending);
  facts.circuit_open = true;
  facts.circuit_until = kNow + 9 * kSecond;
  Readiness readiness = alone(running(), facts);
  EXPECT_FALSE(readiness.ready);
  EXPECT_TRUE(readiness.retry_eligible);
  EXPECT_EQ(readiness.reason, Blocking::kCircuitOpen);
  EXPECT_EQ(readiness.ready_at, kNow + 9 * kSecond);
  facts.circuit_until.reset();
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kCircuitOpen) << "half-open, and another step is the probe";
  EXPECT_EQ(alone(running(), facts).ready_at, std::nullopt);
  facts.circuit_until = kUntilReset;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kCircuitOpen);
  EXPECT_EQ(alone(running(), facts).ready_at, std::nullopt) << "nobody knows when it is reset";
  TaskFacts task = running();
  task.paused = true;
  EXPECT_EQ(alone(task, facts).reason, Blocking::kPaused) << "what people said of the task comes first";
  facts = step(S::kError, 3);
  facts.circuit_open = true;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kAttemptsExhausted);
  facts = step(S::kInProgress);
  facts.circuit_open = true;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kNone) << "it runs, perhaps as the probe";
}

TEST(Readiness, OfDelaysTheLongestIsNamed) {
  StepFacts facts = step(S::kError, 1, 3, 7);
  facts.circuit_open = true;
  facts.circuit_until = kNow + 6 * kSecond;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kBackoff);
  EXPECT_EQ(alone(running(), facts).ready_at, kNow + 7 * kSecond);
  facts.circuit_until = kNow + 7 * kSecond;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kCircuitOpen);
  facts.circuit_until = kUntilReset;
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kCircuitOpen);
  facts.circuit_until.reset();
  EXPECT_EQ(alone(running(), facts).reason, Blocking::kBackoff) << "a probe may end any moment";
  TaskFacts task = running();
  task.run_at = kNow + 8 * kSecond;
  facts.circuit_until = kNow + 7 * kSecond;
  EXPECT_EQ(alone(task, facts).reason, Blocking::kRunAt);
  EXPECT_EQ(alone(task, facts).ready_at, kNow + 8 * kSecond);
}

TEST(Readiness, ATaskBeforeAnyEpochIsReady) {
  TaskFacts task;
  task.run_at = -5 * kSecond;
  EXPECT_TRUE(assess(Graph(Lists{{}}), task, std::vector<StepFacts>(1), -kSecond).front().ready);
}

TEST(Readiness, AFinishedTaskHasNoReadyStep) {
  for (const TaskState state : {TaskState::kComplete, TaskState::kError, TaskState::kCancelled, TaskState::kResolvedManually}) {
    TaskFacts task;
    task.state = state;
    task.paused = true;
    const Readiness got = alone(task, step(S::kPending));
    EXPECT_FALSE(got.ready) << to_string(state);
    EXPECT_EQ(got.reason, Blocking::kNone) << to_string(state);
    EXPECT_EQ(alone(task, step(S::kError, 1, 3, 5)).ready_at, std::nullopt);
    EXPECT_EQ(alone(task, step(S::kError, 3)).reason, Blocking::kAttemptsExhausted) << "why it ended is still told";
  }
  EXPECT_TRUE(alone(TaskFacts{}, step(S::kPending)).ready) << "a pending task starts with its first ready step";
}

// --- ancestors ---

std::vector<Readiness> look(const Lists &parents, const std::vector<StepFacts> &facts) { return assess(Graph(parents), running(), facts, kNow); }

TEST(Readiness, CountsParents) {
  const auto got = look({{}, {}, {}, {}, {0, 1, 2, 3, 0}}, {step(S::kComplete), step(S::kSkipped), step(S::kResolvedManually), step(S::kInProgress), step(S::kPending)});
  EXPECT_EQ(got[4].total_parents, 4);
  EXPECT_EQ(got[4].completed_parents, 3);
  EXPECT_FALSE(got[4].dependencies_satisfied);
  EXPECT_EQ(got[4].reason, Blocking::kDependencies);
  EXPECT_EQ(got[0].total_parents, 0);
}

TEST(Readiness, SkippedParentsSatisfy) {
  const auto got = look({{}, {0}}, {step(S::kSkipped), step(S::kPending)});
  EXPECT_TRUE(got[1].ready);
}

TEST(Readiness, BlamesTheNearestFailedAncestor) {
  // 0 → 2 → 3 → 4, 1 → 3; both roots have failed for good.
  const auto got = look({{}, {}, {0}, {1, 2}, {3}}, {step(S::kError, 3), permanent(step(S::kError, 1)), step(S::kPending), step(S::kPending), step(S::kPending)});
  EXPECT_EQ(got[2].reason, Blocking::kParentFailed);
  EXPECT_EQ(got[2].blocking_step, 0);
  EXPECT_EQ(got[3].blocking_step, 1);
  EXPECT_EQ(got[4].blocking_step, 1);
  EXPECT_EQ(got[0].blocking_step, -1);
}

TEST(Readiness, BlamesTheLowestNumberAmongEquallyNear) {
  const auto got = look({{}, {}, {1, 0}, {2}}, {step(S::kError, 3), step(S::kError, 3), step(S::kPending), step(S::kPending)});
  EXPECT_EQ(got[2].blocking_step, 0);
  EXPECT_EQ(got[3].blocking_step, 0);
}

TEST(Readiness, BlamesCancelledAncestorsWhenNoneFailed) {
  const auto got = look({{}, {0}, {1}}, {step(S::kCancelled), step(S::kPending), step(S::kPending)});
  EXPECT_EQ(got[0].reason, Blocking::kNone);
  EXPECT_EQ(got[1].reason, Blocking::kParentCancelled);
  EXPECT_EQ(got[2].reason, Blocking::kParentCancelled);
  EXPECT_EQ(got[2].blocking_step, 0);
}

TEST(Readiness, AFailedAncestorWinsOverANearerCancelledOne) {
  const auto got = look({{}, {0}, {1}, {2}}, {step(S::kError, 3), step(S::kPending), step(S::kCancelled), step(S::kPending)});
  EXPECT_EQ(got[3].reason, Blocking::kParentFailed);
  EXPECT_EQ(got[3].blocking_step, 0);
}

TEST(Readiness, BlameStopsAtASatisfiedStep) {
  const auto got = look({{}, {0}, {1}}, {step(S::kError, 3), step(S::kResolvedManually), step(S::kPending)});
  EXPECT_TRUE(got[2].ready) << "its only parent was resolved by hand";
}

TEST(Readiness, BlameStopsAtARunningStep) {
  const auto got = look({{}, {0}, {1}}, {step(S::kError, 3), step(S::kInProgress), step(S::kPending)});
  EXPECT_EQ(got[2].reason, Blocking::kDependencies);
}

TEST(Readiness, ARetryableParentIsADependencyNotABlame) {
  const auto got = look({{}, {0}}, {step(S::kError, 1, 3, 9), step(S::kPending)});
  EXPECT_EQ(got[1].reason, Blocking::kDependencies);
  EXPECT_EQ(got[1].blocking_step, -1);
}

TEST(Readiness, AnErrorStepBeneathAFailureIsBlamedOnIt) {
  const auto got = look({{}, {0}}, {step(S::kError, 3), step(S::kError, 1)});
  EXPECT_EQ(got[1].reason, Blocking::kParentFailed);
  EXPECT_TRUE(got[1].retry_eligible);
  EXPECT_FALSE(got[1].ready);
}

TEST(Readiness, FactsMustMatchTheGraph) {
  const Graph graph(Lists{{}, {0}});
  const std::vector<StepFacts> one(1);
  EXPECT_THROW(assess(graph, running(), one, kNow), Error);
  EXPECT_THROW(verdict(graph, one), Error);
  EXPECT_THROW(execution_context(graph, one, std::vector<Readiness>(2)), Error);
  EXPECT_THROW(execution_context(graph, std::vector<StepFacts>(2), std::vector<Readiness>(1)), Error);
}

TEST(Readiness, NamesOfReasons) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(Blocking::kLocked); ++i) names.insert(to_string(static_cast<Blocking>(i)));
  const std::set<std::string> expected{"",          "dependencies",     "backoff",           "attempts_exhausted", "not_retryable",        "paused", "parent_failed",
                                       "leased",    "parent_cancelled", "concurrency_limit", "rate_limit",         "circuit_open",         "timer",  "unclaimed",
                                       "signal",    "run_at",           "held",              "locked",             "owner_cannot_connect"};
  EXPECT_EQ(names, expected);
  EXPECT_STREQ(to_string(Blocking::kOwnerCannotConnect), "owner_cannot_connect");
  EXPECT_STREQ(to_string(Blocking::kUnclaimed), "unclaimed");
}

// --- the context of a whole task ---

ExecutionContext context_of(const Lists &parents, const std::vector<StepFacts> &facts, const TaskFacts &task = running()) {
  const Graph graph(parents);
  return execution_context(graph, facts, assess(graph, task, facts, kNow));
}

struct Look {
  const char *status;
  const char *action;
  const char *health;
  double percentage;
  int ready;
};

void expect_look(const ExecutionContext &got, const Look &expected) {
  EXPECT_STREQ(got.execution_status, expected.status);
  EXPECT_STREQ(got.recommended_action, expected.action);
  EXPECT_STREQ(got.health_status, expected.health);
  EXPECT_DOUBLE_EQ(got.completion_percentage, expected.percentage);
  EXPECT_EQ(got.ready_steps, expected.ready);
  EXPECT_EQ(got.pending_steps + got.in_progress_steps + got.completed_steps + got.failed_steps + got.cancelled_steps, got.total_steps);
}

// a, b roots; c ← a; d ← b, c
TEST(ExecutionContext, VerifiedWalk) {
  const Lists shape{{}, {}, {0}, {1, 2}};
  std::vector<StepFacts> steps(4);
  expect_look(context_of(shape, steps), {"has_ready_steps", "execute_ready_steps", "healthy", 0, 2});
  steps[0] = step(S::kInProgress);
  expect_look(context_of(shape, steps), {"has_ready_steps", "execute_ready_steps", "healthy", 0, 1});
  steps[0] = step(S::kComplete, 1);
  expect_look(context_of(shape, steps), {"has_ready_steps", "execute_ready_steps", "healthy", 25, 2});
  steps[1] = step(S::kError, 3);
  expect_look(context_of(shape, steps), {"has_ready_steps", "execute_ready_steps", "recovering", 25, 1});
  steps[2] = step(S::kInProgress);
  expect_look(context_of(shape, steps), {"processing", "wait_for_completion", "blocked", 25, 0});
  steps[2] = step(S::kComplete, 1);
  expect_look(context_of(shape, steps), {"blocked_by_failures", "handle_failures", "blocked", 50, 0});
  steps[1] = step(S::kResolvedManually, 3);
  expect_look(context_of(shape, steps), {"has_ready_steps", "execute_ready_steps", "healthy", 75, 1});
  steps[3] = step(S::kComplete, 1);
  expect_look(context_of(shape, steps), {"all_complete", "finalize_task", "healthy", 100, 0});
}

TEST(ExecutionContext, MixturesOfTheReference) {
  expect_look(context_of({}, {}), {"waiting_for_dependencies", "wait_for_dependencies", "healthy", 0, 0});
  const Lists two{{}, {}};
  expect_look(context_of(two, {step(S::kError, 1, 3, 5), step(S::kError, 3)}), {"blocked_by_failures", "handle_failures", "blocked", 0, 0});
  expect_look(context_of(two, {step(S::kError, 1, 3, 5), step(S::kInProgress)}), {"processing", "wait_for_completion", "recovering", 0, 0});
  expect_look(context_of(two, {step(S::kError, 1, 3, 5), step(S::kComplete)}), {"waiting_for_dependencies", "wait_for_dependencies", "recovering", 50, 0});
}

TEST(ExecutionContext, CancelledStepsDoNotHideForEver) {
  const Lists two{{}, {}};
  expect_look(context_of(two, {step(S::kComplete), step(S::kCancelled)}), {"blocked_by_failures", "handle_failures", "blocked", 50, 0});
  expect_look(context_of(two, {step(S::kPending), step(S::kCancelled)}), {"has_ready_steps", "execute_ready_steps", "recovering", 0, 1});
  expect_look(context_of(two, {step(S::kInProgress), step(S::kCancelled)}), {"processing", "wait_for_completion", "blocked", 0, 0});
  expect_look(context_of(two, {step(S::kError, 1, 3, 5), step(S::kCancelled)}), {"blocked_by_failures", "handle_failures", "blocked", 0, 0});
}

TEST(ExecutionContext, SkippedCountsAsCompleted) {
  expect_look(context_of({{}, {}, {}}, {step(S::kSkipped), step(S::kComplete), step(S::kResolvedManually)}), {"all_complete", "finalize_task", "healthy", 100, 0});
}

TEST(ExecutionContext, APausedTaskHasNothingReady) {
  TaskFacts task = running();
  task.paused = true;
  expect_look(context_of({{}, {}}, {step(S::kPending), step(S::kComplete)}, task), {"waiting_for_dependencies", "wait_for_dependencies", "healthy", 50, 0});
}

TEST(ExecutionContext, PercentagesHaveTwoDecimals) {
  const std::map<std::pair<int, int>, double> golden{{{1, 7}, 14.29}, {{2, 7}, 28.57}, {{3, 7}, 42.86}, {{5, 7}, 71.43}, {{6, 7}, 85.71}, {{1, 3}, 33.33}, {{2, 3}, 66.67},
                                                     {{1, 8}, 12.5},  {{7, 8}, 87.5},  {{2, 9}, 22.22}, {{4, 9}, 44.44}, {{7, 9}, 77.78}, {{8, 9}, 88.89}, {{1, 800}, 0.13}};
  for (const auto &[part, expected] : golden) {
    std::vector<StepFacts> steps(static_cast<std::size_t>(part.second));
    for (int i = 0; i < part.first; ++i) steps[static_cast<std::size_t>(i)].state = S::kComplete;
    EXPECT_DOUBLE_EQ(context_of(Lists(steps.size()), steps).completion_percentage, expected) << part.first << " of " << part.second;
  }
}

// --- golden runs: every round runs each ready step once; a failed step is ready again in the next round ---

struct GoldenRun {
  const char *name;
  Lists parents;
  std::map<int, int> failures;  // step → how often it fails first
  std::vector<double> percentages;
  int runs, transitions;
  Verdict end;
};

class GoldenRuns : public testing::TestWithParam<GoldenRun> {};

TEST_P(GoldenRuns, RunAsTheReference) {
  const GoldenRun &golden = GetParam();
  const Graph graph(golden.parents);
  std::vector<StepFacts> steps(golden.parents.size());
  std::vector<double> percentages;
  int runs = 0, transitions = 0;
  while (verdict(graph, steps) == Verdict::kRunning && percentages.size() < 20) {
    const std::vector<Readiness> before = assess(graph, running(), steps, kNow);
    bool any_failed = false;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (!before[i].ready) continue;
      const auto failures = golden.failures.find(static_cast<int>(i));
      transitions += steps[i].state == S::kError ? 3 : 2;
      ++runs;
      ++steps[i].attempts;
      const bool fails = failures != golden.failures.end() && steps[i].attempts <= failures->second;
      steps[i].state = fails ? S::kError : S::kComplete;
    }
    for (const StepFacts &facts : steps) any_failed = any_failed || facts.state == S::kError;
    const ExecutionContext context = execution_context(graph, steps, assess(graph, running(), steps, kNow));
    percentages.push_back(context.completion_percentage);
    EXPECT_EQ(std::string(context.health_status) == "healthy", !any_failed) << "round " << percentages.size();
    EXPECT_EQ(std::string(context.execution_status) == "blocked_by_failures", verdict(graph, steps) == Verdict::kStuck);
    EXPECT_EQ(std::string(context.execution_status) == "all_complete", verdict(graph, steps) == Verdict::kComplete);
  }
  EXPECT_EQ(percentages, golden.percentages);
  EXPECT_EQ(runs, golden.runs);
  EXPECT_EQ(transitions, golden.transitions);
  EXPECT_EQ(verdict(graph, steps), golden.end);
}

const Lists kLinear{{}, {0}, {1}, {2}, {3}, {4}};
const Lists kDiamond{{}, {0}, {0}, {1}, {2}, {3, 4}, {5}};

INSTANTIATE_TEST_SUITE_P(
    Readiness, GoldenRuns,
    testing::Values(
        GoldenRun{"linear", kLinear, {{2, 1}}, {16.67, 33.33, 33.33, 50, 66.67, 83.33, 100}, 7, 15, Verdict::kComplete},
        GoldenRun{"diamond", kDiamond, {{1, 1}, {2, 1}}, {14.29, 14.29, 42.86, 71.43, 85.71, 100}, 9, 20, Verdict::kComplete},
        GoldenRun{"parallel_merge", {{}, {}, {}, {}, {0}, {1}, {4, 5, 2, 3}}, {{1, 1}, {2, 1}, {6, 1}}, {28.57, 71.43, 85.71, 85.71, 100}, 10, 23, Verdict::kComplete},
        GoldenRun{"tree", {{}, {0}, {0}, {1}, {1}, {2}, {2}, {3, 4, 5, 6}}, {{2, 1}, {4, 1}, {6, 1}}, {12.5, 25, 50, 75, 87.5, 100}, 11, 25, Verdict::kComplete},
        GoldenRun{"mixed",
                  {{}, {}, {0}, {1}, {2, 3}, {4}, {4}, {3}, {5, 7}},
                  {{2, 1}, {3, 1}, {5, 2}},
                  {22.22, 22.22, 44.44, 66.67, 77.78, 77.78, 88.89, 100},
                  13,
                  30,
                  Verdict::kComplete},
        GoldenRun{"failure", {{}, {0}, {1}, {2}}, {{1, 2}, {2, 1}}, {25, 25, 25, 50, 50, 75, 100}, 7, 17, Verdict::kComplete},
        GoldenRun{"linear_always_fails", kLinear, {{2, 99}}, {16.67, 33.33, 33.33, 33.33, 33.33}, 5, 12, Verdict::kStuck},
        GoldenRun{"diamond_one_always_fails", kDiamond, {{1, 99}, {2, 1}}, {14.29, 14.29, 28.57, 42.86}, 7, 17, Verdict::kStuck}),
    [](const testing::TestParamInfo<GoldenRun> &run) { return std::string(run.param.name); });

TEST(Readiness, DummyTaskOfTheReference) {
  const Lists shape{{}, {}, {1}, {2}};
  std::vector<StepFacts> steps(4);
  const auto ready = [&] {
    std::vector<int> numbers;
    const auto got = look(shape, steps);
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (got[i].ready) numbers.push_back(static_cast<int>(i));
    }
    return numbers;
  };
  EXPECT_EQ(ready(), (std::vector<int>{0, 1}));
  steps[0].state = S::kInProgress;
  EXPECT_EQ(ready(), (std::vector<int>{1}));
  steps[1].state = S::kCancelled;
  EXPECT_TRUE(ready().empty());
  steps[0] = step(S::kError, 1, 3, 30);
  steps[1] = step(S::kPending);
  EXPECT_EQ(ready(), (std::vector<int>{1}));
}

// --- verdict ---

struct VerdictCase {
  const char *name;
  Lists parents;
  std::vector<StepFacts> steps;
  Verdict expected;
};

class Verdicts : public testing::TestWithParam<VerdictCase> {};

TEST_P(Verdicts, Hold) { EXPECT_EQ(verdict(Graph(GetParam().parents), GetParam().steps), GetParam().expected); }

INSTANTIATE_TEST_SUITE_P(
    Readiness, Verdicts,
    testing::Values(
        VerdictCase{"all_satisfied", {{}, {0}, {1}}, {step(S::kComplete), step(S::kSkipped), step(S::kResolvedManually)}, Verdict::kComplete},
        VerdictCase{"new", {{}, {0}}, {step(S::kPending), step(S::kPending)}, Verdict::kRunning},
        VerdictCase{"one_runs", {{}}, {step(S::kInProgress)}, Verdict::kRunning},
        VerdictCase{"in_backoff", {{}}, {step(S::kError, 1, 3, 60)}, Verdict::kRunning},
        VerdictCase{"exhausted", {{}}, {step(S::kError, 3)}, Verdict::kStuck},
        VerdictCase{"permanent", {{}}, {permanent(step(S::kError, 1))}, Verdict::kStuck},
        VerdictCase{"not_retryable", {{}}, {not_retryable(step(S::kError, 1))}, Verdict::kStuck},
        VerdictCase{"cancelled", {{}}, {step(S::kCancelled)}, Verdict::kStuck},
        VerdictCase{"pending_beneath_failure", {{}, {0}, {1}}, {step(S::kError, 3), step(S::kPending), step(S::kPending)}, Verdict::kStuck},
        VerdictCase{"pending_beneath_cancelled", {{}, {0}, {1}}, {step(S::kCancelled), step(S::kPending), step(S::kPending)}, Verdict::kStuck},
        VerdictCase{"error_beneath_failure", {{}, {0}}, {step(S::kError, 3), step(S::kError, 1)}, Verdict::kStuck},
        VerdictCase{"another_branch_is_ready", {{}, {0}, {}}, {step(S::kError, 3), step(S::kPending), step(S::kPending)}, Verdict::kRunning},
        VerdictCase{"another_branch_runs", {{}, {0}, {}}, {step(S::kError, 3), step(S::kPending), step(S::kInProgress)}, Verdict::kRunning},
        VerdictCase{"another_branch_in_backoff", {{}, {}}, {step(S::kError, 3), step(S::kError, 1, 3, 60)}, Verdict::kRunning},
        VerdictCase{"join_of_failed_and_running", {{}, {}, {0, 1}}, {step(S::kError, 3), step(S::kInProgress), step(S::kPending)}, Verdict::kRunning},
        VerdictCase{"join_of_failed_and_complete", {{}, {}, {0, 1}}, {step(S::kError, 3), step(S::kComplete), step(S::kPending)}, Verdict::kStuck},
        VerdictCase{"beneath_a_resolved_step", {{}, {0}, {1}}, {step(S::kError, 3), step(S::kResolvedManually), step(S::kPending)}, Verdict::kRunning},
        VerdictCase{"failure_beside_complete", {{}, {}}, {step(S::kError, 3), step(S::kComplete)}, Verdict::kStuck},
        VerdictCase{"put_back_after_exhaustion", {{}, {0}}, {step(S::kPending, 3), step(S::kPending)}, Verdict::kRunning}),
    [](const testing::TestParamInfo<VerdictCase> &one) { return std::string(one.param.name); });

TEST(Readiness, LongChainsAndWideFansAreLinear) {
  Lists chain(100'000);
  for (int i = 1; i < 100'000; ++i) chain[static_cast<std::size_t>(i)] = {i - 1};
  std::vector<StepFacts> steps(chain.size());
  steps[0] = step(S::kError, 3);
  const auto start = std::chrono::steady_clock::now();
  const auto got = look(chain, steps);
  EXPECT_EQ(got.back().reason, Blocking::kParentFailed);
  EXPECT_EQ(got.back().blocking_step, 0);
  EXPECT_EQ(verdict(Graph(chain), steps), Verdict::kStuck);

  Lists fan(10'001);
  for (int i = 1; i < 10'000; ++i) {
    fan[static_cast<std::size_t>(i)] = {0};
    fan.back().push_back(i);
  }
  steps.assign(fan.size(), step(S::kComplete));
  steps.back() = step(S::kPending);
  EXPECT_TRUE(look(fan, steps).back().ready);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

}  // namespace
}  // namespace tasker::core
