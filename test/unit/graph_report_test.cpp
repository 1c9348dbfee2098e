#include "core/graph_report.hpp"

#include <gtest/gtest.h>

using namespace tasker::core;

namespace {

constexpr Micros kSecond = 1'000'000;

// a → b, c → d, of 1, 3, 6 and 2 seconds in twelve runs.
GraphCase diamond(const Graph &graph) {
  GraphCase out{"shop", "order", "1.0.0", &graph, {}, 12};
  const Micros seconds[] = {1, 3, 6, 2};
  for (int i = 0; i < 4; ++i) out.steps.push_back({std::string(1, static_cast<char>('a' + i)), "", "sql", {Source::kRuns, 12, seconds[i] * kSecond, 0, 0, 0}});
  return out;
}

LiveStep live(StepState state, Blocking reason = Blocking::kNone) {
  LiveStep out;
  out.facts.state = state;
  out.readiness.reason = reason;
  out.readiness.retry_eligible = true;
  return out;
}

const json *suggestion(const json &document, const std::string &code) {
  for (const json &one : document["suggestions"])
    if (one["suggestion"] == code) return &one;
  return nullptr;
}

}  // namespace

TEST(GraphReport, FiguresOfATemplate) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  const json out = analyze_template(diamond(graph));
  EXPECT_EQ(out["critical_path"], json({{"steps", {"a", "c", "d"}}, {"seconds", 9.0}, {"by", "measured durations"}}));
  EXPECT_EQ(out["summary"]["work_seconds"], 12.0);
  EXPECT_EQ(out["summary"]["average_parallelism"], 1.33);
  EXPECT_EQ(out["nodes"][1]["slack_seconds"], 3.0);
  EXPECT_EQ(out["nodes"][1]["critical"], false);
  EXPECT_EQ(out["edges"][2], json({{"from", "b"}, {"to", "d"}, {"type", "multiple"}}));
  EXPECT_EQ(out["levels"][1]["longest_seconds"], 6.0);
  EXPECT_EQ(out["roots"], json({"a"}));
  EXPECT_EQ(out["leaves"], json({"d"}));
}

// a: 5 · 3 · 2 + 20 · 1/9 = 32; c: 5 · 1 · 2 + 20 · 6/9 = 23; b has a slack of a third: 5 · 1; d: 20 · 2/9 = 4.
TEST(GraphReport, BottlenecksOfATemplateByHand) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  const json list = analyze_template(diamond(graph))["bottlenecks"];
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0]["step_name"], "a");
  EXPECT_EQ(list[0]["score"], 32);
  EXPECT_EQ(list[0]["severity"], "medium");
  EXPECT_EQ(list[0]["factors"]["downstream"], 3);
  EXPECT_EQ(list[1]["step_name"], "c");
  EXPECT_EQ(list[1]["score"], 23);
  EXPECT_EQ(list[2]["step_name"], "b");
  EXPECT_EQ(list[2]["score"], 5);
  EXPECT_EQ(list[3]["score"], 4);
}

TEST(GraphReport, ANearlyCriticalStepAndFailedAttempts) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  GraphCase subject = diamond(graph);
  subject.steps[1].measure.working = 6 * kSecond - kSecond / 2;
  subject.steps[1].measure.attempts = 10;
  subject.steps[1].measure.successes = 5;
  const json list = analyze_template(subject)["bottlenecks"];
  // b: 5 · 1.2 + 10 · 0.5
  for (const json &one : list) {
    if (one["step_name"] != "b") continue;
    EXPECT_EQ(one["score"], 11);
    EXPECT_EQ(one["factors"]["failed_attempts_share"], 0.5);
  }
  EXPECT_NE(suggestion(analyze_template(subject), "unreliable"), nullptr);
}

TEST(GraphReport, WithoutMeasurementsTheNumberOfStepsDecides) {
  const Graph graph({{}, {0}, {1}, {0}});
  GraphCase subject = diamond(graph);
  for (StepProfile &step : subject.steps) step.measure = {};
  const json out = analyze_template(subject);
  EXPECT_EQ(out["critical_path"], json({{"steps", {"a", "b", "c"}}, {"seconds", nullptr}, {"by", "number of steps"}}));
  EXPECT_TRUE(out["nodes"][0]["duration_seconds"].is_null());
  EXPECT_TRUE(out["nodes"][0]["slack_seconds"].is_null());
  EXPECT_TRUE(out["summary"]["work_seconds"].is_null());
  EXPECT_NE(suggestion(out, "unmeasured"), nullptr);
}

TEST(GraphReport, SuggestionsNeedTheirReason) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  GraphCase subject = diamond(graph);
  const json plain = analyze_template(subject);
  ASSERT_NE(suggestion(plain, "long_step"), nullptr);
  EXPECT_EQ((*suggestion(plain, "long_step"))["step_name"], "c");
  EXPECT_EQ((*suggestion(plain, "long_step"))["text"], "takes 6 s of the critical path's 9 s (67 %): the whole ends sooner only when this step is split or made faster");
  for (const char *code : {"serial", "waits", "unreliable", "unmeasured"}) EXPECT_EQ(suggestion(plain, code), nullptr) << code;
  subject.steps[1].measure.waiting = 4 * kSecond;
  EXPECT_NE(suggestion(analyze_template(subject), "waits"), nullptr);
  const Graph line({{}, {0}, {1}, {2}});
  subject.graph = &line;
  EXPECT_NE(suggestion(analyze_template(subject), "serial"), nullptr);
}

// b has failed for good after three attempts: (5 · 1 + 15 · 1) · 2.5 + 3 · 3 + 10 + 20 = 89; c runs: 20 · 1 + 3.
TEST(GraphReport, BottlenecksOfATaskByHand) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  TaskGraphCase task{7, TaskState::kInProgress, diamond(graph), {}};
  task.steps = {live(StepState::kComplete), live(StepState::kError, Blocking::kAttemptsExhausted), live(StepState::kInProgress), live(StepState::kPending, Blocking::kParentFailed)};
  task.steps[0].worked = 2 * kSecond;
  task.steps[1].facts.attempts = 3;
  task.steps[1].readiness.retry_eligible = false;
  task.steps[1].readiness.dependencies_satisfied = true;
  task.steps[2].facts.attempts = 1;
  task.steps[2].readiness.dependencies_satisfied = true;
  task.steps[2].worked = 4 * kSecond;
  const json out = analyze_task(task);
  ASSERT_EQ(out["bottlenecks"].size(), 2u);
  EXPECT_EQ(out["bottlenecks"][0]["step_name"], "b");
  EXPECT_EQ(out["bottlenecks"][0]["score"], 89);
  EXPECT_EQ(out["bottlenecks"][0]["severity"], "high");
  EXPECT_EQ(out["bottlenecks"][0]["type"], "Retry Exhaustion");
  EXPECT_EQ(out["bottlenecks"][1]["step_name"], "c");
  EXPECT_EQ(out["bottlenecks"][1]["score"], 23);
  EXPECT_EQ(out["bottlenecks"][1]["type"], "Running");
  EXPECT_EQ(out["impact"], "Medium");
  // What was done took 2 s, c takes its usual 6, of which 4 are over.
  EXPECT_EQ(out["critical_path"]["seconds"], 10.0);
  EXPECT_EQ(out["remaining_path"], json({{"steps", {"b", "d"}}, {"seconds", 5.0}, {"by", "measured durations"}}));
  EXPECT_EQ(out["levels"][1]["blocked"], 1);
  EXPECT_EQ(out["levels"][1]["in_progress"], 1);
  EXPECT_EQ(out["levels"][2]["bottleneck_risk"], "High");
  EXPECT_EQ((*suggestion(out, "retried"))["step_name"], "b");
}

TEST(GraphReport, SeverityThresholds) {
  // One failing root of n open descendants: 20 · n · 2.
  for (const auto &[descendants, severity] : {std::pair{3, "critical"}, std::pair{2, "high"}, std::pair{1, "medium"}}) {
    std::vector<std::vector<int>> parents(static_cast<std::size_t>(descendants) + 1);
    for (int i = 1; i <= descendants; ++i) parents[static_cast<std::size_t>(i)].push_back(0);
    const Graph graph(parents);
    TaskGraphCase task{1, TaskState::kInProgress, {"n", "t", "1.0.0", &graph, {}, 0}, {}};
    for (int i = 0; i <= descendants; ++i) {
      task.profile.steps.push_back({"s" + std::to_string(i), "", "sql", {}});
      task.steps.push_back(live(i == 0 ? StepState::kError : StepState::kPending, i == 0 ? Blocking::kBackoff : Blocking::kDependencies));
    }
    const json out = analyze_task(task);
    EXPECT_EQ(out["bottlenecks"][0]["severity"], severity);
    EXPECT_EQ(out["bottlenecks"][0]["score"], 40 * descendants);
  }
}

TEST(GraphReport, TenThousandSteps) {
  std::vector<std::vector<int>> parents(10'000);
  for (int node = 100; node < 10'000; ++node)
    for (int i = 0; i < 3; ++i) parents[static_cast<std::size_t>(node)].push_back((node / 100 - 1) * 100 + (node + i * 7) % 100);
  const Graph graph(parents);
  GraphCase subject{"n", "t", "1.0.0", &graph, {}, 1};
  for (int i = 0; i < 10'000; ++i) subject.steps.push_back({"s" + std::to_string(i), "", "sql", {Source::kRuns, 1, kSecond, 0, 0, 0}});
  const json out = analyze_template(subject);
  EXPECT_EQ(out["critical_path"]["seconds"], 100.0);
  EXPECT_EQ(out["nodes"].size(), 10'000u);
  EXPECT_EQ(out["levels"].size(), 100u);
}
