#include "core/performance.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/utc.hpp"

namespace tasker::core {

namespace {

double share(std::int64_t part, std::int64_t whole) noexcept { return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0; }

double rounded(double value, double digits) noexcept {
  const double factor = std::pow(10, digits);
  return std::round(value * factor) / factor;
}
double percent(double value) noexcept { return rounded(value * 100, 2); }
double seconds(double milliseconds) noexcept { return rounded(milliseconds / 1000, 6); }
std::string percent_text(double value) { return std::to_string(static_cast<int>(std::lround(value * 100))) + " %"; }

json durations_json(const Durations &durations) {
  if (durations.count == 0) return {{"count", 0}, {"mean", nullptr}, {"p50", nullptr}, {"p95", nullptr}, {"p99", nullptr}, {"max", nullptr}};
  return {{"count", durations.count},
          {"mean", seconds(durations.mean_ms())},
          {"p50", seconds(durations.percentile_ms(0.5))},
          {"p95", seconds(durations.percentile_ms(0.95))},
          {"p99", seconds(durations.percentile_ms(0.99))},
          {"max", seconds(durations.max_ms)}};
}

json tasks_json(const TaskCounts &tasks) {
  return {{"created", tasks.created},     {"ended", tasks.ended()},         {"complete", tasks.complete},
          {"error", tasks.error},         {"cancelled", tasks.cancelled},   {"resolved_manually", tasks.resolved}};
}

json period_json(const PeriodProfile &period) {
  json tasks = tasks_json(period.tasks);
  const StepCounts &steps = period.steps;
  return {{"tasks", tasks},
          {"completion_rate", percent(period.tasks.completion_rate())},
          {"error_rate", percent(period.tasks.error_rate())},
          {"task_seconds", durations_json(period.tasks.complete_durations)},
          {"steps", {{"attempts", steps.attempts}, {"successes", steps.successes}, {"failures", steps.failures()}, {"late_successes", steps.late_successes}}},
          {"step_error_rate", percent(steps.error_rate())},
          {"step_seconds", durations_json(steps.durations)},
          {"throughput_per_hour",
           {{"tasks", rounded(static_cast<double>(period.tasks.complete) / period.length_hours(), 2)},
            {"steps", rounded(static_cast<double>(steps.successes) / period.length_hours(), 2)}}},
          {"efficiency", percent(steps.efficiency())}};
}

json subject_json(const StepPerformance &step) { return {{"namespace", step.ns}, {"task", step.task}, {"version", step.version}, {"step", step.step}}; }
std::string name_of(const StepPerformance &step) { return "step \"" + step.step + "\" of " + step.ns + "." + step.task + " " + step.version; }

// A step with what it takes of everything.
struct Weighed {
  const StepPerformance *step;
  double time_share;
  bool enough() const noexcept { return step->counts.attempts >= kEnoughRuns; }
  bool fails(double limit) const noexcept { return enough() && step->counts.error_rate() >= limit; }
  bool retried() const noexcept { return step->counts.successes >= kEnoughRuns && share(step->counts.late_successes, step->counts.successes) >= kRetriesNotable; }
  bool has_tail() const noexcept {
    const Durations &d = step->counts.durations;
    return d.count >= kManyRuns && d.percentile_ms(0.99) >= kLongTail * d.percentile_ms(0.5);
  }
  int severity() const noexcept {
    if (fails(kErrorsHigh) || (enough() && time_share >= kTimeHigh)) return 2;
    return fails(kErrorsNotable) || retried() || has_tail() || (enough() && time_share >= kTimeNotable) ? 1 : 0;
  }
};
constexpr const char *kSeverities[] = {"low", "medium", "high"};

std::vector<Weighed> weigh(const PerformanceCase &facts) {
  std::vector<Weighed> out;
  const double all = facts.now.steps.durations.total_ms;
  for (const StepPerformance &step : facts.steps) out.push_back({&step, all > 0 ? step.counts.durations.total_ms / all : 0});
  std::sort(out.begin(), out.end(), [](const Weighed &a, const Weighed &b) {
    const auto key = [](const Weighed &w) { return std::tie(w.step->ns, w.step->task, w.step->version, w.step->step); };
    if (a.severity() != b.severity()) return a.severity() > b.severity();
    return a.time_share != b.time_share ? a.time_share > b.time_share : key(a) < key(b);
  });
  return out;
}

json bottlenecks_json(const std::vector<Weighed> &steps) {
  json out = json::array();
  for (const Weighed &weighed : steps) {
    if (out.size() == kMostBottlenecks) break;
    const StepCounts &counts = weighed.step->counts;
    json line = subject_json(*weighed.step);
    json reasons = json::array();
    if (weighed.enough() && weighed.time_share >= kTimeNotable) reasons.push_back("takes " + percent_text(weighed.time_share) + " of the time that steps worked");
    if (weighed.fails(kErrorsNotable)) reasons.push_back(percent_text(counts.error_rate()) + " of its attempts fail");
    if (weighed.retried()) reasons.push_back(percent_text(share(counts.late_successes, counts.successes)) + " of its successes needed more than one attempt");
    if (weighed.has_tail()) reasons.push_back("one in a hundred takes more than " + std::to_string(static_cast<int>(kLongTail)) + " times the median");
    line.update({{"severity", kSeverities[weighed.severity()]},
                 {"attempts", counts.attempts},
                 {"failures", counts.failures()},
                 {"error_rate", percent(counts.error_rate())},
                 {"late_successes", counts.late_successes},
                 {"total_seconds", seconds(counts.durations.total_ms)},
                 {"time_share", percent(weighed.time_share)},
                 {"seconds", durations_json(counts.durations)},
                 {"reasons", reasons}});
    out.push_back(std::move(line));
  }
  return out;
}

json change(double before, double now) {
  if (before <= 0) return {{"before", before}, {"now", now}, {"percent", nullptr}};
  return {{"before", before}, {"now", now}, {"percent", percent((now - before) / before)}};
}

json trends_json(const PerformanceCase &facts) {
  json hours = json::array();
  for (const HourProfile &hour : facts.now.hours) {
    const Durations &tasks = hour.tasks.complete_durations;
    hours.push_back({{"hour", utc(hour.hour)},
                     {"tasks", tasks_json(hour.tasks)},
                     {"steps", {{"attempts", hour.steps.attempts}, {"failures", hour.steps.failures()}}},
                     {"task_p95", tasks.count > 0 ? json(seconds(tasks.percentile_ms(0.95))) : json()},
                     {"step_p95", hour.steps.durations.count > 0 ? json(seconds(hour.steps.durations.percentile_ms(0.95))) : json()}});
  }
  const PeriodProfile &now = facts.now, &before = facts.before;
  const auto p95 = [](const Durations &durations) { return seconds(durations.percentile_ms(0.95)); };
  return {{"hours", hours},
          {"period_before", {{"from", utc(before.from)}, {"to", utc(before.to)}}},
          {"changes",
           {{"created", change(static_cast<double>(before.tasks.created), static_cast<double>(now.tasks.created))},
            {"complete", change(static_cast<double>(before.tasks.complete), static_cast<double>(now.tasks.complete))},
            {"error_rate", change(percent(before.tasks.error_rate()), percent(now.tasks.error_rate()))},
            {"step_error_rate", change(percent(before.steps.error_rate()), percent(now.steps.error_rate()))},
            {"task_p95", change(p95(before.tasks.complete_durations), p95(now.tasks.complete_durations))},
            {"step_p95", change(p95(before.steps.durations), p95(now.steps.durations))}}}};
}

json health_json(const PerformanceCase &facts) {
  const double tasks = facts.now.tasks.error_rate(), steps = facts.now.steps.error_rate();
  json reasons = json::array();
  if (tasks >= kErrorsNotable) reasons.push_back(percent_text(tasks) + " of the tasks that ended did so in error");
  if (steps >= kErrorsNotable) reasons.push_back(percent_text(steps) + " of the attempts failed");
  const double worst = std::max(tasks, steps);
  return {{"status", worst >= kErrorsHigh ? "unhealthy" : worst >= kErrorsNotable ? "degraded" : "healthy"},
          {"score", rounded(facts.now.tasks.health_score(), 3)},
          {"active_tasks", facts.active_tasks},
          {"reasons", reasons}};
}


json advice_of(int severity, const std::string &finding, json evidence, const std::string &advice) {
  return {{"severity", kSeverities[severity]}, {"finding", finding}, {"evidence", std::move(evidence)}, {"advice", advice}};
}

void advise_on_step(json &out, const Weighed &weighed) {
  const StepPerformance &step = *weighed.step;
  const StepCounts &counts = step.counts;
  const auto add = [&](int severity, const std::string &finding, const json &numbers, const std::string &advice) {
    json evidence = subject_json(step);
    evidence.update(numbers);
    out.push_back(advice_of(severity, name_of(step) + " " + finding, std::move(evidence), advice));
  };
  if (weighed.fails(kErrorsNotable))
    add(weighed.fails(kErrorsHigh) ? 2 : 1, "fails in " + percent_text(counts.error_rate()) + " of its attempts", {{"attempts", counts.attempts}, {"failures", counts.failures()}},
        "tasker.dead_letters and tasker.diagnose_task show the errors; retry_on and fail_on of the definition say which of them deserve another attempt.");
  else if (weighed.retried())
    add(1, "mostly succeeds, but often not at once", {{"successes", counts.successes}, {"late_successes", counts.late_successes}},
        "tasker.analyze_step_historical_success_patterns shows at which attempt and hour it works; a dependent_system gives it a circuit breaker.");
  if (weighed.enough() && weighed.time_share >= kTimeHigh)
    add(2, "takes " + percent_text(weighed.time_share) + " of the time that all steps worked",
        {{"total_seconds", seconds(counts.durations.total_ms)}, {"runs", counts.successes}, {"mean_seconds", seconds(counts.durations.mean_ms())}},
        "What is gained there is gained overall: tasker.analyze_template shows whether it lies on the critical path, tasker.get_slowest_steps its longest runs.");
  if (weighed.has_tail())
    add(1, "mostly is quick, and now and then is not",
        {{"p50_seconds", seconds(counts.durations.percentile_ms(0.5))}, {"p99_seconds", seconds(counts.durations.percentile_ms(0.99))}, {"runs", counts.successes}},
        "Locks or a slow system behind it are likely: tasker.get_slowest_steps names the runs; a timeout in the definition bounds them.");
}

json recommendations_json(const PerformanceCase &facts, const std::vector<Weighed> &steps) {
  json out = json::array();
  for (const Weighed &weighed : steps)
    if (out.size() < kMostBottlenecks) advise_on_step(out, weighed);
  const TaskCounts &now = facts.now.tasks, &before = facts.before.tasks;
  const double p95 = now.complete_durations.percentile_ms(0.95), p95_before = before.complete_durations.percentile_ms(0.95);
  if (now.complete >= kEnoughRuns && before.complete >= kEnoughRuns && p95 >= kSlower * p95_before && p95_before > 0)
    out.push_back(advice_of(1, "tasks take longer than in the period before",
                            {{"p95_seconds", seconds(p95)}, {"p95_seconds_before", seconds(p95_before)}, {"complete", now.complete}, {"complete_before", before.complete}},
                            "Compare the bottlenecks of both periods; tasker.recommended_concurrency shows whether steps waited for executors."));
  if (now.created >= kManyRuns && static_cast<double>(now.created) > kInflow * static_cast<double>(now.ended()) && facts.active_tasks > 0)
    out.push_back(advice_of(1, "more tasks are created than end", {{"created", now.created}, {"ended", now.ended()}, {"active", facts.active_tasks}},
                            "tasker.blocked_steps and tasker.ready_steps show what they wait for; with many ready steps raise tasker.max_executors."));
  std::stable_sort(out.begin(), out.end(), [](const json &a, const json &b) {
    const auto rank = [](const json &line) { return line["severity"] == "high" ? 0 : line["severity"] == "medium" ? 1 : 2; };
    return rank(a) < rank(b);
  });
  return out;
}

}  // namespace

double TaskCounts::completion_rate() const noexcept { return share(complete, ended()); }
double TaskCounts::error_rate() const noexcept { return share(error, ended()); }
double TaskCounts::health_score() const noexcept { return complete + error > 0 ? share(complete, complete + error) : 1; }

void TaskCounts::add(const TaskCounts &other) noexcept {
  created += other.created;
  complete += other.complete;
  error += other.error;
  cancelled += other.cancelled;
  resolved += other.resolved;
  complete_durations.add(other.complete_durations);
}

double StepCounts::error_rate() const noexcept { return share(failures(), attempts); }
double StepCounts::efficiency() const noexcept { return attempts > 0 ? share(successes, attempts) : 1; }

void StepCounts::add(const StepCounts &other) noexcept {
  attempts += other.attempts;
  successes += other.successes;
  late_successes += other.late_successes;
  durations.add(other.durations);
}

json performance_report(const PerformanceCase &facts) {
  const std::vector<Weighed> steps = weigh(facts);
  json summary = period_json(facts.now);
  summary["active_tasks"] = facts.active_tasks;
  return {{"summary", summary},
          {"bottlenecks", bottlenecks_json(steps)},
          {"trends", trends_json(facts)},
          {"health", health_json(facts)},
          {"recommendations", recommendations_json(facts, steps)}};
}

}  // namespace tasker::core
