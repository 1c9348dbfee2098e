// Is a step ready, and if not, which rule blocks it? And what does a task as a whole wait for?
//
// The rules exist here once; the dispatcher, run_task, the readiness functions and the views all ask these
// functions. Times are microseconds of any one epoch (PostgreSQL's TimestampTz in the callers).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/breaker.hpp"
#include "core/graph.hpp"
#include "core/state.hpp"

namespace tasker::core {

enum class Blocking : std::uint8_t {
  kNone,  // ready, running or done
  kDependencies, kBackoff, kAttemptsExhausted, kNotRetryable, kPaused, kParentFailed, kParentCancelled,
  kConcurrencyLimit, kRateLimit, kCircuitOpen, kLeased, kUnclaimed, kTimer, kSignal, kRunAt, kHeld,
  kOwnerCannotConnect, kLocked,
};
const char *to_string(Blocking reason) noexcept;  // "dependencies", "run_at" …; kNone gives ""

// What the engine knows of a task. `database_held`, `owner_can_connect` come from outside the task's rows.
struct TaskFacts {
  TaskState state = TaskState::kPending;
  bool paused = false;
  bool held = false;
  bool owner_can_connect = true;
  std::int64_t run_at = 0;
};

struct StepFacts {
  StepState state = StepState::kPending;
  int attempts = 0;
  int max_attempts = 3;
  bool retryable = true;          // of the definition: false means one attempt only
  bool failed_permanently = false;  // the last failure said: do not retry
  std::optional<std::int64_t> next_attempt_at;
  // The breaker of the system it depends on keeps it back: until then (kUntilReset among it), or until its probe ends.
  bool circuit_open = false;
  std::optional<std::int64_t> circuit_until;
};

struct Readiness {
  bool dependencies_satisfied = false;
  bool retry_eligible = false;      // another attempt is allowed by attempts, retryable and the last failure; the first always is
  bool ready = false;               // the dispatcher would run it now
  Blocking reason = Blocking::kNone;
  int total_parents = 0;
  int completed_parents = 0;        // parents that satisfy their children
  std::optional<std::int64_t> ready_at;  // the moment it becomes ready by itself, when that is known (backoff, run_at, circuit_open)
  int blocking_step = -1;           // for kParentFailed / kParentCancelled: the nearest ancestor to blame; else -1
};

// One row per step, in step order. Precondition: steps.size() == graph.size().
// Order of reasons for a step that is neither running nor done: its own exhausted attempts or permanent failure,
// then ancestors that can never finish by themselves, then unmet dependencies, then held, owner, paused, and of run_at,
// backoff and circuit_open the one that lasts longest.
// A finished task has no ready step.
std::vector<Readiness> assess(const Graph &graph, const TaskFacts &task, std::span<const StepFacts> steps, std::int64_t now);

// The verdict on a task that may be over. kRunning: something is running, ready, or will become ready by itself.
enum class Verdict : std::uint8_t { kRunning, kComplete, kStuck };
// Looks at states and attempts alone (pause, run_at and holds delay a task, they do not end it).
// kComplete: every step satisfies its children. kStuck: not complete and nothing more can happen by itself.
Verdict verdict(const Graph &graph, std::span<const StepFacts> steps);

// get_task_execution_context: counts, and what to do next (reference engine's table, cancelled and non-retryable steps mended).
struct ExecutionContext {
  int total_steps = 0, pending_steps = 0, in_progress_steps = 0, completed_steps = 0, failed_steps = 0, cancelled_steps = 0, ready_steps = 0;
  const char *execution_status = "waiting_for_dependencies";  // has_ready_steps, processing, blocked_by_failures, all_complete, waiting_for_dependencies
  const char *recommended_action = "wait_for_dependencies";   // execute_ready_steps, wait_for_completion, handle_failures, finalize_task, wait_for_dependencies
  double completion_percentage = 0;                            // 0 … 100, 2 decimals
  const char *health_status = "healthy";                       // healthy, recovering, blocked
};
ExecutionContext execution_context(const Graph &graph, std::span<const StepFacts> steps, std::span<const Readiness> readiness);

}  // namespace tasker::core
