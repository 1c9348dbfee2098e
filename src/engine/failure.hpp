// A failed attempt turned into what is written about it: retry or not, when, and the error as JSON.
//
// Decided in two steps. decide_failure looks at the error alone and runs while the batch still runs handlers; plan_attempt
// asks the history of the step, which means reading tables, and so waits until the batch is recorded.
#pragma once

#include <optional>
#include <string>

#include "core/retry.hpp"
#include "pg/bridge.hpp"
#include "store/facts.hpp"

namespace tasker::engine {

struct FailureDecision {
  bool retry = false;
  bool retryable = false;           // by its nature; without attempts left there is no retry
  bool permanent = false;           // forbids every later attempt by itself
  bool planned = false;             // plan_attempt has spoken
  bool contention = false;          // not counted when the step shared its transaction
  bool out_of_memory = false;       // memory was refused to its process
  bool against_system = false;      // counts for the circuit breaker of the system the step depends on
  const char *category = "unknown";
  int attempts = 0;                 // the failed one included
  std::optional<int> max_attempts;  // asked for by the step
  std::optional<double> requested_seconds;
  TimestampTz next_attempt_at = 0;  // when retry; set by plan_attempt
  std::string error;                // JSON for workflow_steps.error and the transition; key "retry" is added by plan_attempt
  std::string message;              // for tasks.error
};

inline constexpr std::string_view kOutOfMemory = "53200";

// `attempts` counts the failed one. `category` overrides the table's (timeout, cancelled, crashed).
FailureDecision decide_failure(const pg::Caught &error, const store::StepRow &row, const store::CompiledStep &step, int attempts,
                               const char *category = nullptr, bool may_retry = true);

// The failure of steps whose task has run out of time.
pg::Caught deadline_passed(TimestampTz deadline_at);

// What speaks for the delay of the next attempt. Precondition: inside pg::OwnerScope and pg::Spi.
core::RetryInputs retry_inputs(int named_task_id, const store::CompiledStep &step, int attempts, std::string_view category);

// Sets the time of the next attempt and completes the error. A failed first attempt is counted before that. The same
// precondition.
void plan_attempt(FailureDecision &failure, int named_task_id, const store::CompiledStep &step, TimestampTz now);

}  // namespace tasker::engine
