#include "core/performance.hpp"

#include <gtest/gtest.h>

namespace tasker::core {
namespace {

constexpr std::int64_t kHour = 3'600'000'000;

StepPerformance step(const std::string &name, std::int64_t attempts, std::int64_t successes, double ms, std::int64_t late = 0) {
  StepPerformance out{"ns", "task", "1.0.0", name, {}};
  out.counts.attempts = attempts;
  out.counts.successes = successes;
  out.counts.late_successes = late;
  for (std::int64_t i = 0; i < successes; i++) out.counts.durations.add(ms);
  return out;
}

PerformanceCase with(std::vector<StepPerformance> steps) {
  PerformanceCase out;
  out.now.from = 0;
  out.now.to = 2 * kHour;
  out.before.from = -2 * kHour;
  out.before.to = 0;
  out.steps = std::move(steps);
  for (const StepPerformance &profile : out.steps) out.now.steps.add(profile.counts);
  return out;
}

std::vector<std::string> findings(const json &report) {
  std::vector<std::string> out;
  for (const json &line : report["recommendations"]) out.push_back(line["severity"].get<std::string>() + ": " + line["finding"].get<std::string>());
  return out;
}

TEST(Performance, NothingHappened) {
  const json report = performance_report(with({}));
  EXPECT_EQ(report["summary"]["tasks"]["ended"], 0);
  EXPECT_EQ(report["summary"]["error_rate"], 0.0);
  EXPECT_EQ(report["summary"]["efficiency"], 100.0);
  EXPECT_TRUE(report["summary"]["task_seconds"]["p95"].is_null());
  EXPECT_EQ(report["health"]["status"], "healthy");
  EXPECT_EQ(report["health"]["score"], 1.0);
  EXPECT_TRUE(report["bottlenecks"].empty());
  EXPECT_TRUE(report["recommendations"].empty());
  EXPECT_TRUE(report["trends"]["changes"]["created"]["percent"].is_null());
}

TEST(Performance, Summary) {
  PerformanceCase facts = with({step("a", 40, 30, 20, 6)});
  facts.now.tasks.created = 12;
  facts.now.tasks.complete = 6;
  facts.now.tasks.error = 2;
  facts.now.tasks.cancelled = 1;
  facts.now.tasks.resolved = 1;
  for (int i = 0; i < 6; i++) facts.now.tasks.complete_durations.add(1000);
  facts.active_tasks = 3;
  const json summary = performance_report(facts)["summary"];
  EXPECT_EQ(summary["tasks"], json::parse(R"({"created": 12, "ended": 10, "complete": 6, "error": 2, "cancelled": 1, "resolved_manually": 1})"));
  EXPECT_EQ(summary["completion_rate"], 60.0);
  EXPECT_EQ(summary["error_rate"], 20.0);
  EXPECT_EQ(summary["steps"], json::parse(R"({"attempts": 40, "successes": 30, "failures": 10, "late_successes": 6})"));
  EXPECT_EQ(summary["step_error_rate"], 25.0);
  EXPECT_EQ(summary["efficiency"], 75.0);
  EXPECT_EQ(summary["throughput_per_hour"], json::parse(R"({"tasks": 3.0, "steps": 15.0})"));
  EXPECT_EQ(summary["step_seconds"]["mean"], 0.02);
  EXPECT_EQ(summary["step_seconds"]["max"], 0.02);
  EXPECT_NEAR(summary["task_seconds"]["p99"].get<double>(), 1, 0.045);
  EXPECT_EQ(summary["active_tasks"], 3);
  EXPECT_EQ(performance_report(facts)["health"]["status"], "degraded");
  EXPECT_EQ(performance_report(facts)["health"]["score"], 0.75);
}

TEST(Performance, BottlenecksAreRankedAndSayWhy) {
  std::vector<StepPerformance> steps{step("quick", 100, 100, 1), step("slow", 100, 100, 30), step("failing", 20, 8, 1), step("rare", 3, 0, 1), step("again", 50, 40, 1, 20)};
  StepPerformance tail = step("tail", 98, 98, 1);
  for (int i = 0; i < 4; i++) tail.counts.durations.add(50), tail.counts.attempts++, tail.counts.successes++;
  steps.push_back(tail);
  const json report = performance_report(with(steps));
  std::vector<std::string> order;
  for (const json &line : report["bottlenecks"]) order.push_back(line["step"].get<std::string>() + " " + line["severity"].get<std::string>());
  EXPECT_EQ(order, (std::vector<std::string>{"slow high", "failing high", "tail medium", "again medium", "quick low", "rare low"}));
  EXPECT_EQ(report["bottlenecks"][0]["reasons"].size(), 1u);
  EXPECT_EQ(report["bottlenecks"][1]["reasons"][0], "60 % of its attempts fail");
  EXPECT_EQ(report["bottlenecks"][3]["reasons"][0], "20 % of its attempts fail");
  EXPECT_TRUE(report["bottlenecks"][4]["reasons"].empty());
  const std::vector<std::string> said = findings(report);
  ASSERT_EQ(said.size(), 4u);
  EXPECT_TRUE(said[0].starts_with("high: step \"slow\" of ns.task 1.0.0 takes 8")) << said[0];
  EXPECT_EQ(said[1], "high: step \"failing\" of ns.task 1.0.0 fails in 60 % of its attempts");
  EXPECT_EQ(said[2], "medium: step \"tail\" of ns.task 1.0.0 mostly is quick, and now and then is not");
  EXPECT_EQ(said[3], "medium: step \"again\" of ns.task 1.0.0 fails in 20 % of its attempts");
  for (const json &line : report["recommendations"]) {
    EXPECT_EQ(line["evidence"]["namespace"], "ns");
    EXPECT_GE(line["evidence"].size(), 6u);
    EXPECT_FALSE(line["advice"].get<std::string>().empty());
  }
}

TEST(Performance, LateSuccessesWithFewFailures) {
  const json report = performance_report(with({step("a", 1000, 950, 1, 300), step("b", 1000, 1000, 1)}));
  EXPECT_TRUE(std::ranges::any_of(findings(report), [](const std::string &s) { return s.ends_with("mostly succeeds, but often not at once"); }));
}

TEST(Performance, TrendsAgainstThePeriodBefore) {
  PerformanceCase facts = with({});
  HourProfile hour;
  hour.hour = kHour;
  hour.tasks.created = 30;
  hour.tasks.complete = 20;
  for (int i = 0; i < 20; i++) hour.tasks.complete_durations.add(4000);
  facts.now.hours.push_back(hour);
  facts.now.tasks = hour.tasks;
  facts.before.tasks = hour.tasks;
  facts.before.tasks.created = 20;
  facts.before.tasks.complete_durations = {};
  for (int i = 0; i < 20; i++) facts.before.tasks.complete_durations.add(1000);
  const json report = performance_report(facts);
  EXPECT_EQ(report["trends"]["hours"].size(), 1u);
  EXPECT_EQ(report["trends"]["hours"][0]["hour"], "2000-01-01T01:00:00Z");
  EXPECT_EQ(report["trends"]["hours"][0]["tasks"]["complete"], 20);
  EXPECT_TRUE(report["trends"]["hours"][0]["step_p95"].is_null());
  EXPECT_EQ(report["trends"]["period_before"]["from"], "1999-12-31T22:00:00Z");
  EXPECT_EQ(report["trends"]["changes"]["created"], json::parse(R"({"before": 20.0, "now": 30.0, "percent": 50.0})"));
  EXPECT_EQ(findings(report), std::vector<std::string>{"medium: tasks take longer than in the period before"});
  facts.now.tasks.created = 200;
  facts.active_tasks = 5;
  EXPECT_EQ(findings(performance_report(facts)).size(), 2u);
}

}  // namespace
}  // namespace tasker::core
