#include "engine/control_call.hpp"

#include "store/hints.hpp"
#include "store/queues.hpp"
#include "store/runs.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

namespace {

using core::MoveCause;
using core::StepState;
using core::TaskState;

constinit pg::Query take_sinks{"UPDATE tasker.tasks t SET sinks_left = t.sinks_left - 1 WHERE t.task_id = $1", 1, {INT8OID}};

[[noreturn]] void moved_meanwhile(const std::string &what) {
  throw tasker::Error("40001", what + " was moved by somebody else");
}

}  // namespace

void unknown_task(std::int64_t task_id) {
  throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
}

void wrong_state(const std::string &what, const std::string &state, const char *hint) {
  throw tasker::Error(sqlstate::kIllegalMove, what + " is " + (state == "error" ? "in error" : state), {}, hint);
}

ControlCall::ControlCall(std::int64_t task_id, const Reason &reason)
    : caller_(GetUserId()), as_owner_(store::cached_extension_owner()), reason_(reason) {
  if (task_id != 0 && task_id == running_task())
    throw tasker::Error(sqlstate::kIllegalMove, "a step cannot control its own task", {}, "Return a result or raise an error, and let the task go on by itself.");
  const auto seen = store::load_task(task_id, store::RowLock::kNone);
  if (!seen || !may_control(caller_, seen->owner, seen->created_by)) unknown_task(task_id);
  auto locked = store::load_facts(task_id, store::RowLock::kUpdate);
  if (!locked) unknown_task(task_id);  // removed while we waited
  facts_ = std::move(*locked);
  now_ = GetCurrentTimestamp();
}

store::StepRow &ControlCall::step(const std::string &name) {
  const auto found = facts_.definition->step_by_name.find(name);
  if (found == facts_.definition->step_by_name.end())
    throw tasker::Error(sqlstate::kNoData, "step \"" + name + "\" of task " + std::to_string(task().task_id) + " does not exist");
  return facts_.steps[static_cast<std::size_t>(found->second - 1)];
}

std::string ControlCall::metadata(const char *cause) const {
  if (cause == nullptr) return store::actor_metadata(reason_);
  return store::actor_metadata(reason_, {{"cause", cause}});
}

void ControlCall::require_live_or_error() {
  const TaskState state = task().state;
  if (state == TaskState::kPending || state == TaskState::kInProgress || state == TaskState::kError) return;
  wrong_state("task " + std::to_string(task().task_id), core::to_string(state), "Only a pending, running or failed task can be changed this way.");
}

store::StepMove ControlCall::begin_move(const store::StepRow &row, StepState to, const char *cause) const {
  store::StepMove move;
  move.key = row.key;
  move.expected_moves = row.moves;
  move.from = row.state;
  move.cause = MoveCause::kControl;
  move.hops.push_back({to, now_, metadata(cause)});
  move.attempts = row.attempts;
  move.generation = row.generation;
  move.started_at = row.started_at;
  if (to != StepState::kPending) move.finished_at = now_;
  return move;
}

store::StepMove ControlCall::retry_move(const store::StepRow &row, bool reset, const char *cause) const {
  store::StepMove move = begin_move(row, StepState::kPending, cause);
  const int limit = row.max_attempts.value_or(definition_of(row).max_attempts);
  if (reset) move.attempts = 0, move.max_attempts = 0;
  else if (row.attempts >= limit) move.max_attempts = row.attempts + 1;
  return move;
}

void ControlCall::reopen() {
  if (!task().live) store::tally(task().task_id, task().named_task_id, task().state, -1);
  store::TaskMove move;
  move.task_id = task().task_id;
  move.expected_moves = task().moves;
  move.from = task().state;
  move.cause = MoveCause::kControl;
  move.hops.push_back({TaskState::kInProgress, now_, metadata()});
  move.set_uneven = true;
  move.unpark = !task().paused;
  const auto moved = store::move_tasks({move});
  if (moved.empty()) moved_meanwhile("task " + std::to_string(task().task_id));
  task().state = TaskState::kInProgress;
  task().moves = moved.front().moves;
  task().live = true;
}

void ControlCall::finish(TaskState to, const std::vector<store::StepMove> &moves) {
  if (!task().live) store::tally(task().task_id, task().named_task_id, task().state, -1);
  store::TaskMove move;
  move.task_id = task().task_id;
  move.expected_moves = task().moves;
  move.from = task().state;
  move.cause = MoveCause::kControl;
  move.hops.push_back({to, now_, metadata()});
  if (store::move_tasks({move}).empty()) moved_meanwhile("task " + std::to_string(task().task_id));
  write(moves);
  store::drop_timers({{task().task_id, 0, -1}});
  store::tally(task().task_id, task().named_task_id, to, +1);
  hint(store::HintKind::kCancel);
}

void ControlCall::write_counted(const std::vector<store::StepMove> &moves) {
  if (!task().live) store::tally(task().task_id, task().named_task_id, task().state, -1);
  write(moves);
  if (!task().live) store::tally(task().task_id, task().named_task_id, task().state, +1);
}

void ControlCall::write(const std::vector<store::StepMove> &moves) {
  if (store::move_steps(moves) != moves.size()) moved_meanwhile("a step of task " + std::to_string(task().task_id));
  std::vector<store::StepKey> over;
  for (const auto &move : moves) {
    over.push_back(move.key);
    if (facts_.definition->step(move.key.step_no).type == store::HandlerType::kExternal) store::drop_lease(move.key);
  }
  store::drop_timers(over);
}

void ControlCall::mark_uneven(std::optional<std::string> error) {
  store::TaskMove move;
  move.task_id = task().task_id;
  move.expected_moves = task().moves;
  move.from = task().state;
  move.set_uneven = true;
  move.error = std::move(error);
  store::move_tasks({move});
}

void ControlCall::revive() {
  if (task().state == TaskState::kError) reopen();
  else mark_uneven();
  hint(store::HintKind::kTask);
  hint(store::HintKind::kWatch);
}

void ControlCall::count_for_children(const store::StepRow &row) {
  const auto &step = definition_of(row);
  std::vector<store::CounterChange> changes;
  for (int child : step.children)
    if (facts_.definition->step(child).parents.size() >= 2) changes.push_back({{row.key.task_id, child, -1}, 1});
  store::count_down(changes);
  if (step.children.empty()) pg::execute(take_sinks, pg::Params().int8(row.key.task_id));
}

void ControlCall::hint(store::HintKind kind, int step_no) const {
  store::add_hint({{facts_.task.task_id, step_no, -1}, 0, facts_.task.named_task_id, facts_.task.priority, facts_.task.owner, kind});
}

}  // namespace tasker::engine
