// A failed attempt turned into what is written about it: retry or not, when, and the error as JSON.
#pragma once

#include <optional>
#include <string>

#include "pg/bridge.hpp"
#include "store/facts.hpp"

namespace tasker::engine {

struct FailureDecision {
  bool retry = false;
  bool permanent = false;           // forbids every later attempt by itself
  bool contention = false;          // not counted when the step shared its transaction
  std::optional<int> max_attempts;  // asked for by the step
  TimestampTz next_attempt_at = 0;  // when retry
  std::string error;                // JSON for workflow_steps.error and the transition
  std::string message;              // for tasks.error
};

// `attempts` counts the failed one. `category` overrides the table's (timeout, cancelled, crashed).
FailureDecision decide_failure(const pg::Caught &error, const store::StepRow &row, const store::CompiledStep &step, int attempts,
                               TimestampTz now, const char *category = nullptr, bool may_retry = true);

}  // namespace tasker::engine
