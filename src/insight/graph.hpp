// What finished runs and counted attempts tell of a definition's steps.
//
// There is no index from a definition to its tasks, and there shall be none: it would cost every create and every
// completion. Runs are found by walking tasks from the newest backwards, over a bounded number of them; a definition too rare
// to be among these is known from tasker.step_history, which is keyed by it. So the cost never grows with history.
#pragma once

#include <string>
#include <vector>

#include "core/forecast.hpp"
#include "core/graph_report.hpp"
#include "store/definitions.hpp"

namespace tasker::insight {

inline constexpr int kTasksWalked = 20'000;  // tasks of any definition that are looked at
inline constexpr int kMostRuns = 200;
inline constexpr int kMostStepRows = 50'000;  // of all these runs together; one run is always read whole
inline constexpr int kMostHistoryRows = 20'000, kMostHistoryRowsOfStep = 1000;

struct GraphHistory {
  std::vector<core::PastRun> runs;           // complete ones that nothing was rerun in, the newest first
  std::vector<core::StepMeasure> measures;   // [step_no - 1]
  std::vector<core::Micros> longest;         // [step_no - 1]: the longest attempt known, where there are no runs
};
// Precondition of all: inside pg::OwnerScope and pg::Spi.
GraphHistory read_graph_history(const store::CompiledDefinition &definition);
// [step_no - 1]; "" for none.
std::vector<std::string> step_descriptions(const store::CompiledDefinition &definition);

// When the steps of a task began and ended, and until when those that wait for a time do.
struct StepTimes {
  std::optional<TimestampTz> started_at, finished_at, wait_until;
};
struct TaskTimes {
  TimestampTz begun_at = 0;  // its run_at, or its creation
  std::optional<TimestampTz> finished_at;
  std::vector<StepTimes> steps;  // [step_no - 1]
};
TaskTimes read_task_times(std::int64_t task_id, const store::CompiledDefinition &definition);

}  // namespace tasker::insight
