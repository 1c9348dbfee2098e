#include "engine/control.hpp"

#include <algorithm>

#include "core/events.hpp"
#include "engine/control_call.hpp"
#include "engine/handlers.hpp"
#include "store/events.hpp"
#include "store/hints.hpp"
#include "store/runs.hpp"

namespace tasker::engine {

namespace {

using core::MoveCause;
using core::StepState;
using core::TaskState;

constinit std::int64_t own_task = 0;

constinit pg::Query set_paused{
    "UPDATE tasker.tasks t SET paused = $2, runnable = NOT $2 AND (t.state <> 'pending' OR t.run_at <= clock_timestamp()), moves = t.moves + 1"
    " WHERE t.task_id = $1 AND t.paused <> $2 RETURNING t.moves, t.state::text",
    2, {INT8OID, BOOLOID}};
constinit pg::Query insert_note{
    "INSERT INTO tasker.task_moves (task_id, sort_key, from_state, to_state, metadata, created_at)"
    " VALUES ($1, $2, $3::tasker.task_state, $3::tasker.task_state, $4::jsonb, clock_timestamp())",
    4, {INT8OID, INT4OID, TEXTOID, TEXTOID}};
constinit pg::Query level_of{
    "SELECT 1 FROM tasker.access_grants g WHERE g.level = ANY ($2) AND pg_has_role($1, g.role::oid, 'USAGE') LIMIT 1", 2, {OIDOID, TEXTARRAYOID}};

constinit pg::Query recount_parents{
    "UPDATE tasker.workflow_steps s SET waiting_on = c.open FROM (SELECT d.step_no, (SELECT count(*) FROM unnest(d.parents) AS p(step_no)"
    " JOIN tasker.workflow_steps x ON x.task_id = $1 AND x.step_no = p.step_no AND x.element = -1 AND x.state NOT IN ('complete', 'resolved_manually', 'skipped')) AS open"
    " FROM tasker.named_steps d WHERE d.named_task_id = $2 AND cardinality(d.parents) > 1) c"
    " WHERE s.task_id = $1 AND s.step_no = c.step_no AND s.element = -1 AND s.waiting_on <> c.open",
    2, {INT8OID, INT4OID}};
constinit pg::Query recount_sinks{
    "UPDATE tasker.tasks t SET sinks_left = (SELECT count(*) FROM tasker.workflow_steps s JOIN tasker.named_steps d ON d.named_task_id = $2 AND d.step_no = s.step_no"
    " WHERE s.task_id = $1 AND d.children = '{}' AND s.state NOT IN ('complete', 'resolved_manually', 'skipped')) WHERE t.task_id = $1",
    2, {INT8OID, INT4OID}};
constinit pg::Query result_text{
    "SELECT s.result::text FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.step_no = $2 AND s.element = -1", 2, {INT8OID, INT4OID}};

void satisfy(ControlCall &call, store::StepRow &row, StepState to, std::optional<Datum> result) {
  store::StepMove move = call.begin_move(row, to);
  move.result = result;
  call.write({move});
  call.count_for_children(row);
}

bool set_pause(std::int64_t task_id, bool paused, const Reason &reason) {
  ControlCall call(task_id, reason);
  if (call.task().paused == paused) return false;
  if (!call.task().live) wrong_state("task " + std::to_string(task_id), core::to_string(call.task().state), "Only a live task can be paused or resumed.");
  const pg::Result moved = pg::execute(set_paused, pg::Params().int8(task_id).boolean(paused));
  pg::execute(insert_note, pg::Params().int8(task_id).int4(moved.rows.int4(0, 1) * 10).text(moved.rows.text(0, 2))
                               .text(call.metadata(paused ? "paused" : "resumed")));
  if (store::events_wanted())
    store::record_events({{{task_id, 0, -1}, moved.rows.int4(0, 1) * 10, core::event_of(call.task().state, call.task().state), GetCurrentTimestamp()}});
  if (!paused) call.hint(store::HintKind::kTask);
  return true;
}

bool make_pending(std::int64_t task_id, const std::string &name, const Reason &reason, bool reset) {
  ControlCall call(task_id, reason);
  store::StepRow &row = call.step(name);
  if (row.state == StepState::kPending) return false;
  if (row.state != StepState::kError) wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a step in error can be retried.");
  call.require_live_or_error();
  const store::StepMove move = call.retry_move(row, reset);
  call.revive();
  call.write({move});
  return true;
}

std::string rerun_metadata(const Reason &reason, const std::optional<std::string> &old_result) {
  std::string out = store::actor_metadata(reason, {{"cause", "rerun"}});
  if (old_result) out.insert(out.size() - 1, ", \"previous_result\": " + *old_result);
  return out;
}

// A pending descendant whose parents are done may run at this very moment, on results that are about to go. Its row moves
// there and back, so that what this run brings counts for nothing.
bool may_be_running(ControlCall &call, const store::StepRow &row) {
  const std::vector<int> &parents = call.definition_of(row).parents;
  return std::all_of(parents.begin(), parents.end(),
                     [&](int parent) { return core::satisfies_children(call.facts().steps[static_cast<std::size_t>(parent - 1)].state); });
}

store::StepMove rerun_move(ControlCall &call, const store::StepRow &row, const Reason &reason) {
  store::StepMove move = call.begin_move(row, StepState::kPending);
  // The result leaves the row; the history keeps it.
  const pg::Result old = pg::execute(result_text, pg::Params().int8(row.key.task_id).int4(row.key.step_no));
  move.hops.front().metadata = rerun_metadata(reason, old.rows.text_or_null(0, 1));
  if (row.state == StepState::kPending) move.hops.insert(move.hops.begin(), {StepState::kCancelled, call.now(), call.metadata("rerun")});
  move.cause = row.state == StepState::kError ? MoveCause::kControl : MoveCause::kRerun;
  move.attempts = 0;
  move.generation = row.generation + 1;
  move.started_at.reset();
  return move;
}

Datum roles_array(std::initializer_list<const char *> levels) {
  pg::ArrayBuilder array(TEXTOID);
  for (const char *level : levels) array.text(level);
  return array.datum();
}

}  // namespace

void set_running_task(std::int64_t task_id) { own_task = task_id; }
std::int64_t running_task() { return own_task; }

bool has_level(Oid role, const char *level) {
  if (pg::is_superuser(role) || pg::has_privileges_of(role, store::cached_extension_owner())) return true;
  return !pg::execute(level_of, pg::Params().oid(role).datum(roles_array({level, "admin"}))).rows.empty();
}

bool may_control(Oid role, Oid owner, Oid created_by) {
  return pg::has_privileges_of(role, owner) || pg::has_privileges_of(role, created_by) || has_level(role, "operator");
}

bool cancel_task(std::int64_t task_id, const Reason &reason) {
  ControlCall call(task_id, reason);
  if (call.task().state == TaskState::kCancelled) return false;
  std::vector<store::StepMove> moves;
  for (const store::StepRow &row : call.facts().steps)
    if (row.state == StepState::kPending || row.state == StepState::kInProgress || row.state == StepState::kError)
      moves.push_back(call.begin_move(row, StepState::kCancelled));
  call.finish(TaskState::kCancelled, moves);
  return true;
}

bool pause_task(std::int64_t task_id, const Reason &reason) { return set_pause(task_id, true, reason); }
bool resume_task(std::int64_t task_id, const Reason &reason) { return set_pause(task_id, false, reason); }

bool retry_task(std::int64_t task_id, const Reason &reason) {
  ControlCall call(task_id, reason);
  if (call.task().live) return false;
  if (call.task().state != TaskState::kError)
    wrong_state("task " + std::to_string(task_id), core::to_string(call.task().state), "Only a task in error can be retried.");
  std::vector<store::StepMove> moves;
  for (const store::StepRow &row : call.facts().steps)
    if (row.state == StepState::kError) moves.push_back(call.retry_move(row, false));
  if (moves.empty())
    wrong_state("task " + std::to_string(task_id), "in error without a failed step", "rerun_task_from runs a cancelled step again; resolve_task_manually ends the task.");
  call.revive();
  call.write(moves);
  return true;
}

bool resolve_task_manually(std::int64_t task_id, const Reason &reason) {
  ControlCall call(task_id, reason);
  if (call.task().state == TaskState::kResolvedManually) return false;
  call.require_live_or_error();
  std::vector<store::StepMove> moves;
  for (const store::StepRow &row : call.facts().steps) {
    if (row.state == StepState::kPending || row.state == StepState::kError) moves.push_back(call.begin_move(row, StepState::kResolvedManually));
    if (row.state == StepState::kInProgress) moves.push_back(call.begin_move(row, StepState::kCancelled));  // whoever works on it is told so
  }
  call.finish(TaskState::kResolvedManually, moves);
  return true;
}

bool cancel_step(std::int64_t task_id, const std::string &name, const Reason &reason) {
  ControlCall call(task_id, reason);
  store::StepRow &row = call.step(name);
  if (row.state == StepState::kCancelled) return false;
  if (row.state != StepState::kPending && row.state != StepState::kInProgress && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a step that is not done can be cancelled.");
  call.require_live_or_error();
  call.write_counted({call.begin_move(row, StepState::kCancelled)});
  if (call.task().live) call.mark_uneven(name + ": cancelled" + (reason ? " (" + *reason + ")" : ""));
  call.hint(store::HintKind::kCancel, row.key.step_no);
  call.hint(store::HintKind::kWatch);
  return true;
}

bool retry_step(std::int64_t task_id, const std::string &step, const Reason &reason) { return make_pending(task_id, step, reason, false); }
bool reset_step(std::int64_t task_id, const std::string &step, const Reason &reason) { return make_pending(task_id, step, reason, true); }

bool skip_step(std::int64_t task_id, const std::string &name, const Reason &reason) {
  ControlCall call(task_id, reason);
  store::StepRow &row = call.step(name);
  if (row.state == StepState::kSkipped) return false;
  if (!call.definition_of(row).skippable)
    throw tasker::Error(sqlstate::kIllegalMove, "step \"" + name + "\" cannot be skipped", {}, "Its definition does not say \"skippable\": true; resolve_step_manually is the other way.");
  if (row.state != StepState::kPending && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a pending or failed step can be skipped.");
  call.require_live_or_error();
  call.hint(store::HintKind::kCancel, row.key.step_no);
  call.revive();
  satisfy(call, row, StepState::kSkipped, std::nullopt);
  return true;
}

bool resolve_step_manually(std::int64_t task_id, const std::string &name, Datum result, const Reason &reason) {
  ControlCall call(task_id, reason);
  store::StepRow &row = call.step(name);
  if (row.state == StepState::kResolvedManually) return false;
  if (row.state != StepState::kPending && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a pending or failed step can be resolved.");
  call.require_live_or_error();
  check_result_size(name, result);
  call.hint(store::HintKind::kCancel, row.key.step_no);
  call.revive();
  satisfy(call, row, StepState::kResolvedManually, result == Datum(0) ? std::nullopt : std::optional<Datum>(result));
  return true;
}

bool rerun_task_from(std::int64_t task_id, const std::string &name, const Reason &reason) {
  ControlCall call(task_id, reason);
  const store::StepRow &first = call.step(name);
  if (first.state == StepState::kPending) return false;
  std::vector<int> nodes = core::descendants(call.facts().definition->graph, first.key.step_no - 1);
  nodes.push_back(first.key.step_no - 1);
  std::sort(nodes.begin(), nodes.end());
  std::vector<store::StepMove> moves;
  for (int node : nodes) {
    const store::StepRow &row = call.facts().steps[static_cast<std::size_t>(node)];
    if (row.state == StepState::kPending && !may_be_running(call, row)) continue;
    if (row.state == StepState::kInProgress)
      wrong_state("step \"" + call.definition_of(row).name + "\"", "in_progress", "Wait for it or cancel it first.");
    moves.push_back(rerun_move(call, row, reason));
  }
  if (call.task().live) call.mark_uneven();
  else call.reopen();
  call.write(moves);
  pg::execute(recount_parents, pg::Params().int8(task_id).int4(call.task().named_task_id));
  pg::execute(recount_sinks, pg::Params().int8(task_id).int4(call.task().named_task_id));
  call.hint(store::HintKind::kTask);
  call.hint(store::HintKind::kWatch);
  return true;
}

void bypass_steps(std::int64_t task_id, const std::vector<std::string> &names) {
  auto facts = store::load_facts(task_id, store::RowLock::kNone);
  const TimestampTz now = GetCurrentTimestamp();
  std::vector<store::StepMove> moves;
  std::vector<store::CounterChange> changes;
  int sinks = 0;
  std::vector<int> numbers;
  for (const std::string &name : names) numbers.push_back(facts->definition->step_by_name.at(name));
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  for (int number : numbers) {
    store::StepMove move;
    move.key = {task_id, number, -1};
    move.cause = MoveCause::kControl;
    move.hops.push_back({StepState::kSkipped, now, store::actor_metadata(std::nullopt, {{"cause", "bypass_steps"}})});
    move.finished_at = now;
    moves.push_back(std::move(move));
    const auto &step = facts->definition->step(number);
    if (step.children.empty()) sinks++;
    for (int child : step.children)
      if (facts->definition->step(child).parents.size() >= 2) changes.push_back({{task_id, child, -1}, 1});
  }
  store::TaskMove task;
  task.task_id = task_id;
  task.sinks_done = sinks;
  task.set_uneven = true;
  store::move_tasks({task});
  store::move_steps(moves);
  for (const auto &change : changes) store::count_down({change});
  store::add_hint({{task_id, 0, -1}, 0, facts->task.named_task_id, facts->task.priority, facts->task.owner, store::HintKind::kWatch});
}

}  // namespace tasker::engine
