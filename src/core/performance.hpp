// What counts of tasks and attempts over a period say: rates, shares, bottlenecks, what changed, what to do about it.
// Thresholds are constants here, and every judgement names the numbers that it was made of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/durations.hpp"
#include "core/json.hpp"

namespace tasker::core {

inline constexpr double kErrorsHigh = 0.5, kErrorsNotable = 0.1;    // of attempts, or of tasks that ended
inline constexpr double kTimeHigh = 0.5, kTimeNotable = 0.25;       // of the time that all steps worked
inline constexpr double kRetriesNotable = 0.2;                      // of successes, those that were not the first attempt
inline constexpr double kLongTail = 10;                             // p99 in medians
inline constexpr double kSlower = 1.5;                              // p95 in that of the period before
inline constexpr double kInflow = 1.2;                              // tasks created for each that ended
inline constexpr std::int64_t kEnoughRuns = 10, kManyRuns = 100;    // fewer say nothing about rates; about tails
inline constexpr std::size_t kMostBottlenecks = 10;

// Tasks of a period by what happened to them in it. ended = complete + error + cancelled + resolved.
struct TaskCounts {
  std::int64_t created = 0, complete = 0, error = 0, cancelled = 0, resolved = 0;
  Durations complete_durations;  // from the first start of a step to the end, of the complete ones

  std::int64_t ended() const noexcept { return complete + error + cancelled + resolved; }
  double completion_rate() const noexcept;  // of those that ended; 0 without any
  double error_rate() const noexcept;
  // complete of complete and error; 1 without any
  double health_score() const noexcept;
  void add(const TaskCounts &other) noexcept;
};

// Attempts of a period. Steps of type noop are not counted: they do nothing.
struct StepCounts {
  std::int64_t attempts = 0, successes = 0, late_successes = 0;  // late: not at the first attempt
  Durations durations;                                           // of the successes

  std::int64_t failures() const noexcept { return attempts - successes; }
  double error_rate() const noexcept;
  double efficiency() const noexcept;  // successes of attempts: work that was not for nothing; 1 without any
  void add(const StepCounts &other) noexcept;
};

struct StepPerformance {
  std::string ns, task, version, step;
  StepCounts counts;
};

struct HourProfile {
  std::int64_t hour = 0;  // microseconds since 2000-01-01 00:00 UTC
  TaskCounts tasks;
  StepCounts steps;
};

struct PeriodProfile {
  std::int64_t from = 0, to = 0;    // microseconds, as above; to > from
  std::vector<HourProfile> hours;   // ascending; hours without anything left out
  TaskCounts tasks;
  StepCounts steps;
  double length_hours() const noexcept { return static_cast<double>(to - from) / 3.6e9; }
};

struct PerformanceCase {
  PeriodProfile now, before;
  std::vector<StepPerformance> steps;  // of now, in no order
  std::int64_t active_tasks = 0;
};

// The members summary, bottlenecks, trends, health, recommendations.
json performance_report(const PerformanceCase &facts);

}  // namespace tasker::core
