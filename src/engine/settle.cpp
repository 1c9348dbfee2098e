#include "engine/settle.hpp"

#include <algorithm>

#include "core/readiness.hpp"
#include "engine/failure.hpp"
#include "store/facts.hpp"
#include "store/hints.hpp"
#include "store/moves.hpp"
#include "store/queues.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

namespace {

bool frontier(const store::TaskFacts &facts, const store::StepRow &row) {
  if (row.state != core::StepState::kPending && row.state != core::StepState::kInProgress && row.state != core::StepState::kError) return false;
  if (row.state == core::StepState::kError && !row.next_attempt_at) return false;  // failed for good before
  const std::vector<int> &parents = facts.definition->step(row.key.step_no).parents;
  return std::all_of(parents.begin(), parents.end(),
                     [&](int parent) { return core::satisfies_children(facts.steps[static_cast<std::size_t>(parent - 1)].state); });
}

// One step that ran out of time. An attempt that was under way is counted.
store::StepMove expire(const store::TaskFacts &facts, const store::StepRow &row, const pg::Caught &error, TimestampTz now) {
  const std::optional<TimestampTz> since = store::running_since(row.key, row.moves);
  const store::CompiledStep &step = facts.definition->step(row.key.step_no);
  FailureDecision failure = decide_failure(error, row, step, row.attempts + (since ? 1 : 0), "timeout", false);
  plan_attempt(failure, facts.task.named_task_id, step, now);
  store::StepMove move;
  move.key = row.key;
  move.expected_moves = row.moves;
  move.from = row.state;
  move.cause = core::MoveCause::kDeadline;
  if (row.state == core::StepState::kError) move.hops.push_back({core::StepState::kPending, now, "{\"cause\": \"deadline\"}"});
  if (since) move.hops.push_back(store::begin_attempt(*since, failure.attempts));
  move.hops.push_back({core::StepState::kError, now, "{\"cause\": \"deadline\", \"error\": " + failure.error + "}"});
  move.attempts = failure.attempts;
  move.generation = row.generation;
  move.permanent = true;
  move.started_at = since ? since : row.started_at;
  move.finished_at = now;
  move.error = failure.error;
  return move;
}

// What is then the error of the task. Raises 40001 when a step moved since it was read: whoever settles comes back.
std::string expire_steps(store::TaskFacts &facts, TimestampTz now, std::optional<TimestampTz> &ran_since) {
  const pg::Caught error = deadline_passed(*facts.task.deadline_at);
  std::vector<store::StepMove> moves;
  std::vector<store::StepKey> keys{{facts.task.task_id, 0, -1}};
  std::string first;
  for (store::StepRow &row : facts.steps) {
    if (!frontier(facts, row)) continue;
    moves.push_back(expire(facts, row, error, now));
    if (moves.back().attempts > row.attempts) ran_since = moves.back().started_at;
    keys.push_back(row.key);
    if (facts.definition->step(row.key.step_no).type == store::HandlerType::kExternal) store::drop_lease(row.key);
    if (first.empty()) first = facts.definition->step(row.key.step_no).name + ": ";
    row.state = core::StepState::kError;
    row.permanent = true;
    row.next_attempt_at.reset();
  }
  if (store::move_steps(moves) != moves.size()) throw tasker::Error("40001", "a step of task " + std::to_string(facts.task.task_id) + " was moved by somebody else");
  store::drop_timers(keys);
  store::add_hint({keys.front(), 0, facts.task.named_task_id, facts.task.priority, facts.task.owner, store::HintKind::kCancel});
  return first + error.message;
}

}  // namespace

Settled settle_task(std::int64_t task_id) {
  const auto row = store::load_task(task_id, store::RowLock::kUpdate);
  if (!row || !row->live) return Settled::kGone;
  auto facts = store::load_facts(task_id, store::RowLock::kNone);
  core::Verdict verdict = core::verdict(facts->definition->graph, facts->for_core());
  const TimestampTz now = GetCurrentTimestamp();
  const bool late = verdict == core::Verdict::kRunning && row->deadline_at && *row->deadline_at <= now;
  if (verdict == core::Verdict::kRunning && !late) return Settled::kStillRunning;

  store::TaskMove move;
  move.task_id = task_id;
  move.expected_moves = row->moves;
  move.from = row->state;
  if (late) {
    // Tasks before steps, as everywhere: the row is locked already.
    std::optional<TimestampTz> ran_since;
    move.error = expire_steps(*facts, now, ran_since);
    move.set_failing = true;
    if (ran_since && row->state == core::TaskState::kPending) {
      move.hops.push_back({core::TaskState::kInProgress, *ran_since, {}});
      move.started_at = ran_since;
    }
    verdict = core::Verdict::kStuck;
  }
  const bool complete = verdict == core::Verdict::kComplete;
  if (complete && row->state == core::TaskState::kPending) {
    move.hops.push_back({core::TaskState::kInProgress, now, {}});
    move.started_at = now;
  }
  const char *cause = row->deadline_at && *row->deadline_at <= now ? "{\"cause\": \"deadline\"}" : "{\"cause\": \"steps_in_error_state\"}";
  move.hops.push_back({complete ? core::TaskState::kComplete : core::TaskState::kError, now, complete ? "" : cause});
  store::move_tasks({move});
  if (row->state == core::TaskState::kPending) store::drop_timers({{task_id, 0, -1}});  // over before its time to start
  store::tally(task_id, row->named_task_id, complete ? core::TaskState::kComplete : core::TaskState::kError, +1);
  return complete ? Settled::kComplete : Settled::kError;
}

}  // namespace tasker::engine
