// The documents of analyze_template and analyze_task: the figures of core/graph_analysis with names, what stands out, and
// what follows from it.
//
// Bottleneck scores are the reference engine's: score = round((5 · descendants + 15 · descendants that are still open) · m + p).
// Of a task, with its m and p: m is 2.0 for a step in error (2.5 when its attempts are exhausted or it may not be repeated)
// and 1.2 for one that something else keeps back, else 1; p is 3 for each attempt made, 10 when no further attempt is
// allowed, 20 when attempts are exhausted. Candidates are the steps on which others wait: failed and cancelled ones, and
// those whose parents are done; a step that merely waits for its parents isn't one, its parents are.
// Of a definition no step is open and none has failed, so m and p are measured: m is 2.0 on the critical path, 1.2 with a
// slack of less than a tenth of it, else 1; p is 20 times the step's share of the critical path's length, and 10 times the
// share of its attempts that failed. From 100 points a score is critical, from 50 high, from 20 medium, else low.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/graph_analysis.hpp"
#include "core/json.hpp"
#include "core/readiness.hpp"

namespace tasker::core {

// Where a duration comes from: finished runs, attempts counted by hour, the last runs in memory, the definition (a wait of
// so many seconds), nowhere.
enum class Source : std::uint8_t { kNone, kRuns, kHistory, kMemory, kDefinition };
const char *to_string(Source source) noexcept;

// What is known of a step beforehand.
struct StepMeasure {
  Source source = Source::kNone;
  std::int64_t samples = 0;
  Micros working = 0;  // the median of runs and memory, the mean of counted attempts
  Micros waiting = 0;  // the median from being ready to the last attempt's start; of runs alone
  std::int64_t attempts = 0, successes = 0;  // of late
};
struct StepProfile {
  std::string name, description, handler_type;
  StepMeasure measure;
};
struct GraphCase {
  std::string ns, name, version;
  const Graph *graph = nullptr;
  std::vector<StepProfile> steps;
  std::size_t past_runs = 0;  // finished runs that were looked at
};
json analyze_template(const GraphCase &subject);

// A step of a task beside its profile.
struct LiveStep {
  StepFacts facts;
  Readiness readiness;
  std::string reason;  // readiness in words, with the object
  std::optional<Micros> worked;  // its last attempt, so far or at all
};
struct TaskGraphCase {
  std::int64_t task_id = 0;
  TaskState state = TaskState::kPending;
  GraphCase profile;
  std::vector<LiveStep> steps;
};
json analyze_task(const TaskGraphCase &task);

}  // namespace tasker::core
