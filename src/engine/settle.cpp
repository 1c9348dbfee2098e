#include "engine/settle.hpp"

#include "core/readiness.hpp"
#include "store/facts.hpp"
#include "store/moves.hpp"

namespace tasker::engine {

Settled settle_task(std::int64_t task_id) {
  const auto row = store::load_task(task_id, store::RowLock::kUpdate);
  if (!row || !row->live) return Settled::kGone;
  const auto facts = store::load_facts(task_id, store::RowLock::kNone);
  const std::vector<core::StepFacts> steps = facts->for_core();
  const core::Verdict verdict = core::verdict(facts->definition->graph, steps);
  if (verdict == core::Verdict::kRunning) return Settled::kStillRunning;

  const TimestampTz now = GetCurrentTimestamp();
  store::TaskMove move;
  move.task_id = task_id;
  move.expected_moves = row->moves;
  move.from = row->state;
  const bool complete = verdict == core::Verdict::kComplete;
  if (complete && row->state == core::TaskState::kPending) move.hops.push_back({core::TaskState::kInProgress, now, {}});
  move.hops.push_back({complete ? core::TaskState::kComplete : core::TaskState::kError, now, complete ? "" : "{\"cause\": \"steps_in_error_state\"}"});
  move.started_at = now;
  store::move_tasks({move});
  store::tally(task_id, row->named_task_id, complete ? core::TaskState::kComplete : core::TaskState::kError, +1);
  return complete ? Settled::kComplete : Settled::kError;
}

}  // namespace tasker::engine
