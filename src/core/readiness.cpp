// The rules of readiness. Two passes over the graph, both linear: one spreads what can never finish by itself
// to the steps beneath it, one judges each step.
#include "core/readiness.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "core/error.hpp"

namespace tasker::core {
namespace {

constexpr const char *kBlockingNames[] = {
    "",           "dependencies", "backoff", "attempts_exhausted", "not_retryable", "paused", "parent_failed", "parent_cancelled", "concurrency_limit",
    "rate_limit", "circuit_open", "leased",  "unclaimed",          "timer",         "signal", "run_at",        "held",             "owner_cannot_connect",
    "locked"};
static_assert(std::size(kBlockingNames) == static_cast<std::size_t>(Blocking::kLocked) + 1);

std::size_t at(int step) { return static_cast<std::size_t>(step); }

void require_matching(const Graph &graph, std::size_t steps) {
  if (at(graph.size()) != steps) {
    throw Error(sqlstate::kInternal, "a graph of " + std::to_string(graph.size()) + " steps came with facts of " + std::to_string(steps));
  }
}

// A pending step was put there by create or by a control function: it may always run. Any other step has its
// first attempt for certain and further ones while attempts, retryable and the last failure allow.
bool may_try_again(const StepFacts &step) noexcept {
  if (step.state == StepState::kPending) return true;
  if (step.failed_permanently) return false;
  return step.attempts <= 0 || (step.retryable && step.attempts < step.max_attempts);
}

bool failed_for_good(const StepFacts &step) noexcept { return step.state == StepState::kError && !may_try_again(step); }
bool cancelled(const StepFacts &step) noexcept { return step.state == StepState::kCancelled; }
bool dead_end(const StepFacts &step) noexcept { return failed_for_good(step) || cancelled(step); }

// For each step the nearest ancestor that `is_source` picks, a source itself, or -1. Blame stops at a step
// that satisfies its children or runs: what is beneath it may still go on. Breadth first from the sources in
// ascending order: each step is reached first by its nearest source, and among equals by the lowest number.
template <typename Predicate>
std::vector<int> nearest_sources(const Graph &graph, std::span<const StepFacts> steps, Predicate is_source) {
  std::vector<int> source(steps.size(), -1), queue;
  for (int step = 0; step < graph.size(); ++step) {
    if (!is_source(steps[at(step)])) continue;
    source[at(step)] = step;
    queue.push_back(step);
  }
  for (std::size_t head = 0; head < queue.size(); ++head) {
    for (const int child : graph.children(queue[head])) {
      const StepState state = steps[at(child)].state;
      if (source[at(child)] >= 0 || satisfies_children(state) || state == StepState::kInProgress) continue;
      source[at(child)] = source[at(queue[head])];
      queue.push_back(child);
    }
  }
  return source;
}

// What is left when the graph lets the step run: the task, then the clock.
void judge_task_and_clock(const TaskFacts &task, const StepFacts &step, std::int64_t now, Readiness &readiness) {
  // In a finished task no delay is worth telling: nothing follows it.
  if (finished(task.state)) return;
  const std::int64_t next_attempt_at = step.next_attempt_at.value_or(task.run_at);
  const std::int64_t due = std::max(task.run_at, next_attempt_at);
  if (task.held) {
    readiness.reason = Blocking::kHeld;
  } else if (!task.owner_can_connect) {
    readiness.reason = Blocking::kOwnerCannotConnect;
  } else if (task.paused) {
    readiness.reason = Blocking::kPaused;
  } else if (step.circuit_open && step.circuit_until.value_or(now) >= due) {
    readiness.reason = Blocking::kCircuitOpen;
    if (step.circuit_until != kUntilReset) readiness.ready_at = step.circuit_until;
  } else if (due > now) {
    readiness.reason = task.run_at > now ? Blocking::kRunAt : Blocking::kBackoff;
    readiness.ready_at = due;
  } else {
    readiness.ready = true;
  }
}

// Half up, in integers: 2 of 7 is 28.57 on every machine.
double percentage(int part, int whole) {
  if (whole == 0) return 0;
  const std::int64_t hundredths = (std::int64_t{part} * 20000 + whole) / (std::int64_t{whole} * 2);
  return static_cast<double>(hundredths) / 100;
}

}  // namespace

const char *to_string(Blocking reason) noexcept { return kBlockingNames[static_cast<std::size_t>(reason)]; }

std::vector<Readiness> assess(const Graph &graph, const TaskFacts &task, std::span<const StepFacts> steps, std::int64_t now) {
  require_matching(graph, steps.size());
  const std::vector<int> failure_above = nearest_sources(graph, steps, failed_for_good);
  const std::vector<int> cancelled_above = nearest_sources(graph, steps, cancelled);
  std::vector<Readiness> result(steps.size());
  for (int i = 0; i < graph.size(); ++i) {
    const StepFacts &step = steps[at(i)];
    Readiness &readiness = result[at(i)];
    readiness.total_parents = static_cast<int>(graph.parents(i).size());
    for (const int parent : graph.parents(i)) readiness.completed_parents += satisfies_children(steps[at(parent)].state) ? 1 : 0;
    readiness.dependencies_satisfied = readiness.completed_parents == readiness.total_parents;
    readiness.retry_eligible = may_try_again(step);
    if (step.state != StepState::kPending && step.state != StepState::kError) continue;

    if (failed_for_good(step)) {
      // Said first because raising max_attempts would not help.
      const bool by_rule = step.failed_permanently || !step.retryable;
      readiness.reason = by_rule ? Blocking::kNotRetryable : Blocking::kAttemptsExhausted;
    } else if (failure_above[at(i)] >= 0) {
      readiness.reason = Blocking::kParentFailed;
      readiness.blocking_step = failure_above[at(i)];
    } else if (cancelled_above[at(i)] >= 0) {
      readiness.reason = Blocking::kParentCancelled;
      readiness.blocking_step = cancelled_above[at(i)];
    } else if (!readiness.dependencies_satisfied) {
      readiness.reason = Blocking::kDependencies;
    } else {
      judge_task_and_clock(task, step, now, readiness);
    }
  }
  return result;
}

Verdict verdict(const Graph &graph, std::span<const StepFacts> steps) {
  require_matching(graph, steps.size());
  const std::vector<int> dead_end_above = nearest_sources(graph, steps, dead_end);
  bool complete = true;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (satisfies_children(steps[i].state)) continue;
    complete = false;
    // Not satisfied and not beneath a dead end: it runs, it is ready, or it waits for one that does.
    if (dead_end_above[i] < 0) return Verdict::kRunning;
  }
  return complete ? Verdict::kComplete : Verdict::kStuck;
}

ExecutionContext execution_context(const Graph &graph, std::span<const StepFacts> steps, std::span<const Readiness> readiness) {
  require_matching(graph, steps.size());
  require_matching(graph, readiness.size());
  ExecutionContext context;
  bool any_dead_end = false;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    ++context.total_steps;
    context.pending_steps += steps[i].state == StepState::kPending ? 1 : 0;
    context.in_progress_steps += steps[i].state == StepState::kInProgress ? 1 : 0;
    context.completed_steps += satisfies_children(steps[i].state) ? 1 : 0;
    context.failed_steps += steps[i].state == StepState::kError ? 1 : 0;
    context.cancelled_steps += cancelled(steps[i]) ? 1 : 0;
    context.ready_steps += readiness[i].ready ? 1 : 0;
    any_dead_end = any_dead_end || dead_end(steps[i]);
  }
  if (context.ready_steps > 0) {
    context.execution_status = "has_ready_steps";
    context.recommended_action = "execute_ready_steps";
  } else if (context.in_progress_steps > 0) {
    context.execution_status = "processing";
    context.recommended_action = "wait_for_completion";
  } else if (any_dead_end) {
    context.execution_status = "blocked_by_failures";
    context.recommended_action = "handle_failures";
  } else if (context.total_steps > 0 && context.completed_steps == context.total_steps) {
    context.execution_status = "all_complete";
    context.recommended_action = "finalize_task";
  }
  context.completion_percentage = percentage(context.completed_steps, context.total_steps);
  if (context.failed_steps > 0 || context.cancelled_steps > 0) {
    // A dead end beside a running step is blocked too: somebody must look, whatever that step will do.
    context.health_status = any_dead_end && context.ready_steps == 0 ? "blocked" : "recovering";
  }
  return context;
}

}  // namespace tasker::core
