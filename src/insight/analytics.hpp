// What the hourly counts (tasker.step_history, tasker.task_outcomes) hold of a period, and the runs that took longest in it.
// The cost grows with hours and kinds of steps, never with tasks. Precondition of all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/performance.hpp"
#include "pg/spi.hpp"
#include "store/moves.hpp"

// Of a move `w` of a step that ended an attempt: when and as which attempt it began, in its own row or in the one before; no row when
// it ended none.
#define TASKER_BEGINNING_OF(w) \
  "SELECT " w ".begun_at, " w ".attempt WHERE " w ".begun_at IS NOT NULL UNION ALL" \
  " SELECT y.created_at, coalesce(y.attempt, (y.metadata ->> 'attempt')::integer) FROM " TASKER_STEP_MOVES " y WHERE " w ".begun_at IS NULL AND y.task_id = " w ".task_id" \
  " AND y.step_no = " w ".step_no AND y.element = " w ".element AND y.sort_key = " w ".sort_key - 10 AND y.to_state = 'in_progress'"
// Over the moves of a task: when a step of it began first.
#define TASKER_FIRST_START(m) "min(CASE WHEN " m ".begun_at IS NOT NULL THEN " m ".begun_at WHEN " m ".to_state = 'in_progress' THEN " m ".created_at END)"

namespace tasker::insight {

// Nothing: all of them.
struct DefinitionFilter {
  std::optional<std::string> ns, name, version;
};

struct Definition {
  std::string ns, name, version;
};
using Definitions = std::map<int, Definition>;  // by named_task_id
Definitions find_definitions(const DefinitionFilter &filter);

// Begins with the hour that `from` lies in. `to`: nothing later than that hour's end, and no later than now.
core::PeriodProfile read_period(const Definitions &definitions, TimestampTz from, TimestampTz to);
std::vector<core::StepPerformance> read_step_profiles(const Definitions &definitions, TimestampTz from, TimestampTz to);
std::int64_t count_active_tasks(const Definitions &definitions);
TimestampTz hour_of(TimestampTz moment);
TimestampTz end_of_hour(TimestampTz moment);  // the moment itself, where an hour begins

struct Extent {
  std::int64_t namespaces = 0, definitions = 0;  // that have tasks
};
Extent count_extent();

// Runs that took longest, longest first, of those whose tasks are there. The ten longest of each step, attempt number and hour are
// known, so up to ten are the longest of all.
struct SlowStep {
  std::int64_t task_id;
  std::string step_name, ns, name, version, state;
  TimestampTz started_at, completed_at;
  int attempt, attempts;
  bool retryable;
};
std::vector<SlowStep> slowest_steps(const Definitions &definitions, TimestampTz from, int limit);

struct SlowTask {
  std::int64_t task_id;
  std::string ns, name, version, state;
  TimestampTz created_at, started_at, ended_at;
  std::int64_t steps, complete_steps, error_steps;
  std::optional<std::string> initiator, source_system;
};
std::vector<SlowTask> slowest_tasks(const Definitions &definitions, TimestampTz from, int limit);

}  // namespace tasker::insight
