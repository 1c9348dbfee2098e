// Tasks as the readiness functions see them: rows, what runs now, and the verdict of core/readiness.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/visibility.hpp"
#include "core/readiness.hpp"
#include "store/facts.hpp"

namespace tasker::api {

struct AssessedStep {
  store::StepRow row;
  core::StepFacts facts;  // in_progress when a worker runs it now
  core::Readiness readiness;
  std::optional<TimestampTz> last_failure_at;
  std::string awaited;                           // of one under way outside of executors: who has it, until when; of one that a limit keeps back: how it stands
  std::optional<std::string> requested_seconds;  // the delay its last failure asked for
};

struct AssessedTask {
  store::TaskRow row;
  store::DefinitionPtr definition;
  std::string held, connect_problem;  // why it may not run here, why its owner cannot log in; "" when all is well
  std::string paused_scope;           // the widest that pause_tasks holds and that it is in; "" when there is none
  TimestampTz now = 0;
  std::vector<AssessedStep> steps;  // steps[step_no - 1]

  std::string blocking_reason(const AssessedStep &step) const;  // "" when nothing blocks it
};

// Those of the tasks that `viewer` may see, ascending; ids must be ascending and unique. All rows are of the running
// statement's snapshot. A task whose steps are not those of its definition is left out: tasker.check() tells of it.
// Precondition: inside pg::OwnerScope and pg::Spi.
std::vector<AssessedTask> assess_tasks(Viewer &viewer, const std::vector<std::int64_t> &ids);

}  // namespace tasker::api
