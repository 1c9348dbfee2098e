#include "engine/control.hpp"

#include <algorithm>

#include "engine/settle.hpp"
#include "pg/security.hpp"
#include "store/hints.hpp"
#include "store/moves.hpp"
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
    "INSERT INTO tasker.task_transitions (task_id, sort_key, from_state, to_state, metadata, created_at)"
    " VALUES ($1, $2, $3::tasker.task_state, $3::tasker.task_state, $4::jsonb, clock_timestamp())",
    4, {INT8OID, INT4OID, TEXTOID, TEXTOID}};
constinit pg::Query level_of{
    "SELECT 1 FROM tasker.access_grants g WHERE g.level = ANY ($2) AND pg_has_role($1, g.role::oid, 'USAGE') LIMIT 1", 2, {OIDOID, TEXTARRAYOID}};
constinit pg::Query sinks_done{
    "UPDATE tasker.tasks t SET sinks_left = t.sinks_left + $2 WHERE t.task_id = $1", 2, {INT8OID, INT4OID}};

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

[[noreturn]] void unknown_task(std::int64_t task_id) {
  throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
}

[[noreturn]] void wrong_state(const std::string &what, const std::string &state, const char *hint) {
  throw tasker::Error(sqlstate::kIllegalMove, what + " is " + (state == "error" ? "in error" : state), {}, hint);
}

// One control call: the caller's right, the identity, the locks in their order (task, then steps by key).
class Control {
 public:
  Control(std::int64_t task_id, const Reason &reason) : caller_(GetUserId()), as_owner_(store::cached_extension_owner()), reason_(reason) {
    if (task_id != 0 && task_id == own_task)
      throw tasker::Error(sqlstate::kIllegalMove, "a step cannot control its own task", {}, "Return a result or raise an error, and let the task go on by itself.");
    auto loaded = store::load_facts(task_id, store::RowLock::kNone);
    if (!loaded || !may_control(caller_, loaded->task.owner, loaded->task.created_by)) unknown_task(task_id);
    facts_ = std::move(*store::load_facts(task_id, store::RowLock::kUpdate));
    was_live_ = facts_.task.live;
    now_ = GetCurrentTimestamp();
  }

  store::TaskFacts &facts() { return facts_; }
  store::TaskRow &task() { return facts_.task; }
  TimestampTz now() const { return now_; }
  std::string metadata() const { return store::actor_metadata(reason_); }

  store::StepRow &step(const std::string &name) {
    const auto found = facts_.definition->step_by_name.find(name);
    if (found == facts_.definition->step_by_name.end())
      throw tasker::Error(sqlstate::kNoData, "step \"" + name + "\" of task " + std::to_string(task().task_id) + " does not exist");
    return facts_.steps[static_cast<std::size_t>(found->second - 1)];
  }
  const store::CompiledStep &definition_of(const store::StepRow &row) const { return facts_.definition->step(row.key.step_no); }

  store::StepMove begin_move(const store::StepRow &row, StepState to) const {
    store::StepMove move;
    move.key = row.key;
    move.expected_moves = row.moves;
    move.from = row.state;
    move.cause = MoveCause::kControl;
    move.hops.push_back({to, now_, metadata()});
    move.attempts = row.attempts;
    move.generation = row.generation;
    move.started_at = row.started_at;
    if (to != StepState::kPending) move.finished_at = now_;
    return move;
  }

  // Moves the task; a finished task's counts are taken back, a newly finished one's are added.
  void move_task(TaskState to, bool failing = false) {
    const bool leaves = !was_live_;
    if (leaves) store::tally(task().task_id, task().named_task_id, task().state, -1);
    store::TaskMove move;
    move.task_id = task().task_id;
    move.expected_moves = task().moves;
    move.from = task().state;
    move.cause = MoveCause::kControl;
    move.hops.push_back({to, now_, metadata()});
    move.set_failing = failing;
    move.set_uneven = true;
    move.unpark = !core::finished(to) && !task().paused;
    const auto moved = store::move_tasks({move});
    if (moved.empty()) throw tasker::Error("40001", "task " + std::to_string(task().task_id) + " was moved by somebody else");
    task().state = to;
    task().moves = moved.front().moves;
    task().live = !core::finished(to);
    was_live_ = task().live;
  }
  // No move of the task itself: its end is now decided by looking at every step.
  void mark_uneven(std::optional<std::string> error = std::nullopt) {
    store::TaskMove move;
    move.task_id = task().task_id;
    move.expected_moves = task().moves;
    move.from = task().state;
    move.set_uneven = true;
    move.error = std::move(error);
    store::move_tasks({move});
  }
  void write(const std::vector<store::StepMove> &moves) {
    if (store::move_steps(moves) != moves.size()) throw tasker::Error("40001", "a step of task " + std::to_string(task().task_id) + " was moved by somebody else");
    std::vector<store::StepKey> over;
    for (const auto &move : moves) over.push_back(move.key);
    store::drop_timers(over);
  }
  void hint(store::HintKind kind, int step_no = 0) const {
    store::add_hint({{facts_.task.task_id, step_no, -1}, 0, facts_.task.named_task_id, facts_.task.priority, facts_.task.owner, kind});
  }
  // A step counts as done for its children now (sign +1) or no more (-1).
  void count_for_children(const store::StepRow &row, int sign) {
    const auto &step = definition_of(row);
    std::vector<store::CounterChange> changes;
    for (int child : step.children)
      if (facts_.definition->step(child).parents.size() >= 2) changes.push_back({{row.key.task_id, child, -1}, sign});
    store::count_down(changes);
    if (step.children.empty()) pg::execute(sinks_done, pg::Params().int8(row.key.task_id).int4(-sign));
  }

 private:
  pg::Spi spi_;
  Oid caller_;
  pg::OwnerScope as_owner_;
  Reason reason_;
  store::TaskFacts facts_;
  bool was_live_ = true;
  TimestampTz now_ = 0;
};

void satisfy(Control &control, store::StepRow &row, StepState to, std::optional<Datum> result) {
  store::StepMove move = control.begin_move(row, to);
  move.result = result;
  control.write({move});
  control.count_for_children(row, +1);
}

// Before a step is satisfied or made pending by hand (the counts of a finished task are taken back as they were given):
// the task lives again, and its end is looked at.
void revive(Control &control) {
  if (control.task().state == TaskState::kError) control.move_task(TaskState::kInProgress);
  else control.mark_uneven();
  control.hint(store::HintKind::kTask);
  control.hint(store::HintKind::kWatch);
}

void require_live_or_error(Control &control) {
  const TaskState state = control.task().state;
  if (state == TaskState::kPending || state == TaskState::kInProgress || state == TaskState::kError) return;
  wrong_state("task " + std::to_string(control.task().task_id), core::to_string(state), "Only a pending, running or failed task can be changed this way.");
}

bool set_pause(std::int64_t task_id, bool paused, const Reason &reason) {
  Control control(task_id, reason);
  if (control.task().paused == paused) return false;
  if (!control.task().live) wrong_state("task " + std::to_string(task_id), core::to_string(control.task().state), "Only a live task can be paused or resumed.");
  const pg::Result moved = pg::execute(set_paused, pg::Params().int8(task_id).boolean(paused));
  pg::execute(insert_note, pg::Params().int8(task_id).int4(moved.rows.int4(0, 1) * 10).text(moved.rows.text(0, 2))
                               .text(store::actor_metadata(reason, {{"cause", paused ? "paused" : "resumed"}})));
  if (!paused) control.hint(store::HintKind::kTask);
  return true;
}

store::StepMove to_pending(Control &control, const store::StepRow &row, bool reset) {
  store::StepMove move = control.begin_move(row, StepState::kPending);
  move.finished_at.reset();
  const int limit = row.max_attempts.value_or(control.definition_of(row).max_attempts);
  if (reset) move.attempts = 0, move.max_attempts = 0;
  else if (row.attempts >= limit) move.max_attempts = row.attempts + 1;
  return move;
}

bool make_pending(std::int64_t task_id, const std::string &name, const Reason &reason, bool reset) {
  Control control(task_id, reason);
  store::StepRow &row = control.step(name);
  if (row.state == StepState::kPending) return false;
  if (row.state != StepState::kError) wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a step in error can be retried.");
  require_live_or_error(control);
  const store::StepMove move = to_pending(control, row, reset);
  revive(control);
  control.write({move});
  return true;
}

std::string rerun_metadata(const Reason &reason, const std::optional<std::string> &old_result) {
  std::string out = store::actor_metadata(reason, {{"cause", "rerun"}});
  if (old_result) out.insert(out.size() - 1, ", \"previous_result\": " + *old_result);
  return out;
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
  Control control(task_id, reason);
  if (control.task().state == TaskState::kCancelled) return false;
  // The order of locks is tasks, then steps; the counts come last, when the steps show their final state.
  const TaskState before = control.task().state;
  const bool was_live = control.task().live;
  if (!was_live) store::tally(task_id, control.task().named_task_id, before, -1);
  store::TaskMove task;
  task.task_id = task_id;
  task.expected_moves = control.task().moves;
  task.from = before;
  task.cause = MoveCause::kControl;
  task.hops.push_back({TaskState::kCancelled, control.now(), control.metadata()});
  store::move_tasks({task});
  std::vector<store::StepMove> moves;
  for (const store::StepRow &row : control.facts().steps)
    if (row.state == StepState::kPending || row.state == StepState::kInProgress || row.state == StepState::kError)
      moves.push_back(control.begin_move(row, StepState::kCancelled));
  control.write(moves);
  store::drop_timers({{task_id, 0, -1}});
  store::tally(task_id, control.task().named_task_id, TaskState::kCancelled, +1);
  control.hint(store::HintKind::kCancel);
  return true;
}

bool pause_task(std::int64_t task_id, const Reason &reason) { return set_pause(task_id, true, reason); }
bool resume_task(std::int64_t task_id, const Reason &reason) { return set_pause(task_id, false, reason); }

bool retry_task(std::int64_t task_id, const Reason &reason) {
  Control control(task_id, reason);
  if (control.task().live) return false;
  if (control.task().state != TaskState::kError)
    wrong_state("task " + std::to_string(task_id), core::to_string(control.task().state), "Only a task in error can be retried.");
  std::vector<store::StepMove> moves;
  for (const store::StepRow &row : control.facts().steps)
    if (row.state == StepState::kError) moves.push_back(to_pending(control, row, false));
  if (moves.empty())
    wrong_state("task " + std::to_string(task_id), "in error without a failed step", "rerun_task_from runs a cancelled step again; resolve_task_manually ends the task.");
  control.move_task(TaskState::kInProgress);
  control.write(moves);
  control.hint(store::HintKind::kTask);
  control.hint(store::HintKind::kWatch);
  return true;
}

bool resolve_task_manually(std::int64_t task_id, const Reason &reason) {
  Control control(task_id, reason);
  if (control.task().state == TaskState::kResolvedManually) return false;
  require_live_or_error(control);
  std::vector<store::StepMove> moves;
  if (!control.task().live) store::tally(task_id, control.task().named_task_id, control.task().state, -1);
  store::TaskMove task;
  task.task_id = task_id;
  task.expected_moves = control.task().moves;
  task.from = control.task().state;
  task.cause = MoveCause::kControl;
  task.hops.push_back({TaskState::kResolvedManually, control.now(), control.metadata()});
  store::move_tasks({task});
  for (const store::StepRow &row : control.facts().steps)
    if (row.state == StepState::kPending || row.state == StepState::kError) moves.push_back(control.begin_move(row, StepState::kResolvedManually));
  control.write(moves);
  store::drop_timers({{task_id, 0, -1}});
  store::tally(task_id, control.task().named_task_id, TaskState::kResolvedManually, +1);
  control.hint(store::HintKind::kCancel);
  return true;
}

bool cancel_step(std::int64_t task_id, const std::string &name, const Reason &reason) {
  Control control(task_id, reason);
  store::StepRow &row = control.step(name);
  if (row.state == StepState::kCancelled) return false;
  if (row.state != StepState::kPending && row.state != StepState::kInProgress && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a step that is not done can be cancelled.");
  require_live_or_error(control);
  control.write({control.begin_move(row, StepState::kCancelled)});
  if (control.task().live) control.mark_uneven(name + ": cancelled" + (reason ? " (" + *reason + ")" : ""));
  control.hint(store::HintKind::kCancel, row.key.step_no);
  control.hint(store::HintKind::kWatch);
  return true;
}

bool retry_step(std::int64_t task_id, const std::string &step, const Reason &reason) { return make_pending(task_id, step, reason, false); }
bool reset_step(std::int64_t task_id, const std::string &step, const Reason &reason) { return make_pending(task_id, step, reason, true); }

bool skip_step(std::int64_t task_id, const std::string &name, const Reason &reason) {
  Control control(task_id, reason);
  store::StepRow &row = control.step(name);
  if (row.state == StepState::kSkipped) return false;
  if (!control.definition_of(row).skippable)
    throw tasker::Error(sqlstate::kIllegalMove, "step \"" + name + "\" cannot be skipped", {}, "Its definition does not say \"skippable\": true; resolve_step_manually is the other way.");
  if (row.state != StepState::kPending && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a pending or failed step can be skipped.");
  require_live_or_error(control);
  control.hint(store::HintKind::kCancel, row.key.step_no);
  revive(control);
  satisfy(control, row, StepState::kSkipped, std::nullopt);
  return true;
}

bool resolve_step_manually(std::int64_t task_id, const std::string &name, Datum result, const Reason &reason) {
  Control control(task_id, reason);
  store::StepRow &row = control.step(name);
  if (row.state == StepState::kResolvedManually) return false;
  if (row.state != StepState::kPending && row.state != StepState::kError)
    wrong_state("step \"" + name + "\"", core::to_string(row.state), "Only a pending or failed step can be resolved.");
  require_live_or_error(control);
  control.hint(store::HintKind::kCancel, row.key.step_no);
  revive(control);
  satisfy(control, row, StepState::kResolvedManually, result == Datum(0) ? std::nullopt : std::optional<Datum>(result));
  return true;
}

bool rerun_task_from(std::int64_t task_id, const std::string &name, const Reason &reason) {
  Control control(task_id, reason);
  const store::StepRow &first = control.step(name);
  if (first.state == StepState::kPending) return false;
  std::vector<int> nodes = core::descendants(control.facts().definition->graph, first.key.step_no - 1);
  nodes.push_back(first.key.step_no - 1);
  std::sort(nodes.begin(), nodes.end());
  std::vector<store::StepMove> moves;
  for (int node : nodes) {
    const store::StepRow &row = control.facts().steps[static_cast<std::size_t>(node)];
    if (row.state == StepState::kPending) continue;
    if (row.state == StepState::kInProgress)
      wrong_state("step \"" + control.definition_of(row).name + "\"", "in_progress", "Wait for it or cancel it first.");
    store::StepMove move = control.begin_move(row, StepState::kPending);
    // The result leaves the row; the history keeps it.
    const pg::Result old = pg::execute(result_text, pg::Params().int8(task_id).int4(row.key.step_no));
    move.hops.front().metadata = rerun_metadata(reason, old.rows.text_or_null(0, 1));
    move.cause = row.state == StepState::kError ? MoveCause::kControl : MoveCause::kRerun;
    move.attempts = 0;
    move.generation = row.generation + 1;
    move.started_at.reset();
    move.finished_at.reset();
    moves.push_back(std::move(move));
  }
  if (control.task().live) control.mark_uneven();
  else control.move_task(TaskState::kInProgress);
  control.write(moves);
  pg::execute(recount_parents, pg::Params().int8(task_id).int4(control.task().named_task_id));
  pg::execute(recount_sinks, pg::Params().int8(task_id).int4(control.task().named_task_id));
  control.hint(store::HintKind::kTask);
  control.hint(store::HintKind::kWatch);
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
