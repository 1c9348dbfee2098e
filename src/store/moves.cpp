#include "store/moves.hpp"

#include <algorithm>

#include "core/json.hpp"
#include "pg/security.hpp"
#include "store/hints.hpp"
#include "store/timers.hpp"

namespace tasker::store {

namespace {

// Nested loops over the unnested arrays take the rows in array order, which is key order: two batches never
// wait for each other in opposite directions.
constinit pg::Query update_steps{
    "UPDATE tasker.workflow_steps s SET state = u.state::tasker.step_state, moves = s.moves + u.hops, attempts = u.attempts,"
    " generation = u.generation, permanent = u.permanent, max_attempts = nullif(coalesce(u.max_attempts, s.max_attempts), 0),"
    " crashes = CASE u.state WHEN 'pending' THEN 0 ELSE s.crashes END, old_crashes = CASE u.state WHEN 'pending' THEN 0 ELSE s.old_crashes END,"
    " waiting_on = coalesce(u.waiting_on, s.waiting_on), started_at = u.started_at, finished_at = u.finished_at,"
    " next_attempt_at = u.next_attempt_at, result = u.result, error = u.error::jsonb"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    " AS u(task_id, step_no, element, moves, state, hops, attempts, generation, permanent, max_attempts, waiting_on,"
    " started_at, finished_at, next_attempt_at, result, error)"
    " WHERE s.task_id = u.task_id AND s.step_no = u.step_no AND s.element = u.element AND s.moves = u.moves AND s.task_id = ANY ($1)",
    16,
    {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, BOOLARRAYOID,
     INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID}};

constinit pg::Query insert_step_transitions{
    "INSERT INTO tasker.workflow_step_transitions (task_id, step_no, element, sort_key, from_state, to_state, metadata, created_at)"
    " SELECT task_id, step_no, element, sort_key, from_state::tasker.step_state, to_state::tasker.step_state, coalesce(metadata, '{}')::jsonb, created_at"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
    " AS u(task_id, step_no, element, sort_key, from_state, to_state, metadata, created_at)",
    8,
    {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}};

constinit pg::Query update_tasks{
    "UPDATE tasker.tasks t SET"
    " state = CASE WHEN u.may_complete AND t.sinks_left = u.sinks AND NOT t.uneven AND NOT t.failing THEN 'complete' ELSE u.state END::tasker.task_state,"
    " moves = t.moves + u.hops + (u.may_complete AND t.sinks_left = u.sinks AND NOT t.uneven AND NOT t.failing)::int,"
    " sinks_left = t.sinks_left - u.sinks, failing = (t.failing OR u.failing) AND u.state NOT IN ('complete', 'cancelled', 'resolved_manually'), uneven = t.uneven OR u.uneven,"
    " live = u.live AND NOT (u.may_complete AND t.sinks_left = u.sinks AND NOT t.uneven AND NOT t.failing),"
    " runnable = CASE WHEN NOT u.live THEN false WHEN u.unpark THEN true ELSE t.runnable END"
    "   AND NOT (u.may_complete AND t.sinks_left = u.sinks AND NOT t.uneven AND NOT t.failing),"
    " started_at = coalesce(t.started_at, u.started_at),"
    " finished_at = CASE WHEN NOT u.live OR u.may_complete AND t.sinks_left = u.sinks AND NOT t.uneven AND NOT t.failing THEN clock_timestamp() END,"
    // What failed on the way is in the history of a task that ended well.
    " error = CASE WHEN u.state IN ('complete', 'resolved_manually') THEN NULL WHEN t.live THEN coalesce(t.error, u.error) ELSE u.error END,"
    // A task taken back after its deadline gets the same span again.
    " deadline_at = CASE WHEN u.live AND NOT t.live AND t.deadline_at <= clock_timestamp() THEN clock_timestamp() + make_interval(secs => t.deadline_seconds)"
    "   ELSE t.deadline_at END"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    " AS u(task_id, moves, state, hops, sinks, may_complete, failing, uneven, live, unpark, started_at, error)"
    // The second condition bounds every plan to these rows, whatever the statistics say.
    " WHERE t.task_id = u.task_id AND t.moves = u.moves AND t.task_id = ANY ($1)"
    " RETURNING t.task_id, t.state::text, t.moves, t.sinks_left, t.failing, t.uneven, t.finished_at, t.deadline_at IS NOT NULL",
    12,
    {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, BOOLARRAYOID, BOOLARRAYOID, BOOLARRAYOID, BOOLARRAYOID,
     BOOLARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}};

constinit pg::Query insert_task_transitions{
    "INSERT INTO tasker.task_transitions (task_id, sort_key, from_state, to_state, metadata, created_at)"
    " SELECT task_id, sort_key, from_state::tasker.task_state, to_state::tasker.task_state, coalesce(metadata, '{}')::jsonb, created_at"
    " FROM unnest($1, $2, $3, $4, $5, $6) AS u(task_id, sort_key, from_state, to_state, metadata, created_at)",
    6, {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}};

constinit pg::Query insert_tally{
    "INSERT INTO tasker.tallies (named_task_id, tasks_complete, tasks_error, tasks_cancelled, tasks_resolved_manually, steps_pending, steps_complete,"
    " steps_error, steps_cancelled, steps_resolved_manually, steps_skipped, error_steps_retryable, error_steps_exhausted)"
    " SELECT $2, $4 * ($3 = 'complete')::int, $4 * ($3 = 'error')::int, $4 * ($3 = 'cancelled')::int, $4 * ($3 = 'resolved_manually')::int,"
    " $4 * count(*) FILTER (WHERE s.state IN ('pending', 'in_progress')), $4 * count(*) FILTER (WHERE s.state = 'complete'), $4 * count(*) FILTER (WHERE s.state = 'error'),"
    " $4 * count(*) FILTER (WHERE s.state = 'cancelled'), $4 * count(*) FILTER (WHERE s.state = 'resolved_manually'),"
    " $4 * count(*) FILTER (WHERE s.state = 'skipped'),"
    " $4 * count(*) FILTER (WHERE s.state = 'error' AND NOT s.permanent AND s.attempts < coalesce(s.max_attempts, d.max_attempts) AND d.retryable),"
    " $4 * count(*) FILTER (WHERE s.state = 'error' AND NOT (NOT s.permanent AND s.attempts < coalesce(s.max_attempts, d.max_attempts) AND d.retryable))"
    " FROM tasker.workflow_steps s JOIN tasker.named_steps d ON d.named_task_id = $2 AND d.step_no = s.step_no WHERE s.task_id = $1",
    4, {INT8OID, INT4OID, TEXTOID, INT4OID}};

constinit pg::Query insert_clean_tally{
    "INSERT INTO tasker.tallies (named_task_id, tasks_complete, steps_complete) VALUES ($1, $2, $3)", 3, {INT4OID, INT8OID, INT8OID}};

constinit pg::Query fold{
    "WITH gone AS (DELETE FROM tasker.tallies RETURNING *)"
    " INSERT INTO tasker.tallies SELECT named_task_id, sum(tasks_complete), sum(tasks_error), sum(tasks_cancelled), sum(tasks_resolved_manually), sum(steps_pending),"
    " sum(steps_complete), sum(steps_error), sum(steps_cancelled), sum(steps_resolved_manually), sum(steps_skipped), sum(error_steps_retryable), sum(error_steps_exhausted)"
    " FROM gone GROUP BY named_task_id",
    0, {}};
constinit pg::Query foldable{"SELECT count(*) > count(DISTINCT named_task_id) FROM tasker.tallies", 0, {}};

template <class State>
[[noreturn]] void refuse_move(State from, State to) {
  throw tasker::Error(sqlstate::kIllegalMove, std::string("a move from ") + core::to_string(from) + " to " + core::to_string(to) + " is not allowed");
}

template <class Move>
void check_hops(const Move &move) {
  auto from = move.from;
  for (const auto &hop : move.hops) {
    if (!core::move_allowed(from, hop.to, move.cause)) refuse_move(from, hop.to);
    from = hop.to;
  }
}

template <class T>
void add_timestamp(pg::ArrayBuilder &array, const std::optional<T> &value) {
  if (value) array.timestamp(*value);
  else array.null();
}
void add_int(pg::ArrayBuilder &array, const std::optional<int> &value) {
  if (value) array.int4(*value);
  else array.null();
}
void add_text(pg::ArrayBuilder &array, const std::string &value) {
  if (value.empty()) array.null();
  else array.text(value);
}

void write_step_transitions(const std::vector<StepMove> &moves) {
  pg::ArrayBuilder task(INT8OID), step(INT4OID), element(INT4OID), sort(INT4OID), from(TEXTOID), to(TEXTOID), metadata(TEXTOID), at(TIMESTAMPTZOID);
  for (const StepMove &move : moves) {
    core::StepState state = move.from;
    int number = move.expected_moves;
    for (const auto &hop : move.hops) {
      task.int8(move.key.task_id);
      step.int4(move.key.step_no);
      element.int4(move.key.element);
      sort.int4(++number * 10);
      from.text(core::to_string(state));
      to.text(core::to_string(hop.to));
      add_text(metadata, hop.metadata);
      at.timestamp(hop.at);
      state = hop.to;
    }
  }
  pg::execute(insert_step_transitions, pg::Params().datum(task.datum()).datum(step.datum()).datum(element.datum()).datum(sort.datum())
                                           .datum(from.datum()).datum(to.datum()).datum(metadata.datum()).datum(at.datum()));
}

struct TaskTransitionRows {
  pg::ArrayBuilder task{INT8OID}, sort{INT4OID}, from{TEXTOID}, to{TEXTOID}, metadata{TEXTOID}, at{TIMESTAMPTZOID};

  void add(std::int64_t task_id, int number, core::TaskState before, core::TaskState after, const std::string &data, TimestampTz when) {
    task.int8(task_id);
    sort.int4(number * 10);
    from.text(core::to_string(before));
    to.text(core::to_string(after));
    add_text(metadata, data);
    at.timestamp(when);
  }
  void write() {
    if (task.size() == 0) return;
    pg::execute(insert_task_transitions, pg::Params().datum(task.datum()).datum(sort.datum()).datum(from.datum()).datum(to.datum())
                                             .datum(metadata.datum()).datum(at.datum()));
  }
};

}  // namespace

std::size_t move_steps(const std::vector<StepMove> &moves) {
  if (moves.empty()) return 0;
  pg::ArrayBuilder task(INT8OID), step(INT4OID), element(INT4OID), guard(INT4OID), state(TEXTOID), hops(INT4OID), attempts(INT4OID),
      generation(INT4OID), permanent(BOOLOID), max_attempts(INT4OID), waiting(INT4OID), started(TIMESTAMPTZOID), finished(TIMESTAMPTZOID),
      next(TIMESTAMPTZOID), result(JSONBOID), error(TEXTOID);
  for (const StepMove &move : moves) {
    check_hops(move);
    task.int8(move.key.task_id);
    step.int4(move.key.step_no);
    element.int4(move.key.element);
    guard.int4(move.expected_moves);
    state.text(core::to_string(move.hops.back().to));
    hops.int4(static_cast<int>(move.hops.size()));
    attempts.int4(move.attempts);
    generation.int4(move.generation);
    permanent.boolean(move.permanent);
    add_int(max_attempts, move.max_attempts);
    add_int(waiting, move.waiting_on);
    add_timestamp(started, move.started_at);
    add_timestamp(finished, move.finished_at);
    add_timestamp(next, move.next_attempt_at);
    if (move.result) result.add(*move.result);
    else result.null();
    add_text(error, move.error.value_or(""));
  }
  const pg::Result updated = pg::execute(
      update_steps, pg::Params().datum(task.datum()).datum(step.datum()).datum(element.datum()).datum(guard.datum()).datum(state.datum())
                        .datum(hops.datum()).datum(attempts.datum()).datum(generation.datum()).datum(permanent.datum()).datum(max_attempts.datum())
                        .datum(waiting.datum()).datum(started.datum()).datum(finished.datum()).datum(next.datum()).datum(result.datum()).datum(error.datum()));
  if (updated.processed == moves.size()) write_step_transitions(moves);
  return updated.processed;
}

std::vector<MovedTask> move_tasks(const std::vector<TaskMove> &moves) {
  std::vector<MovedTask> out;
  if (moves.empty()) return out;
  pg::ArrayBuilder task(INT8OID), guard(INT4OID), state(TEXTOID), hops(INT4OID), sinks(INT4OID), may_complete(BOOLOID), failing(BOOLOID),
      uneven(BOOLOID), live(BOOLOID), unpark(BOOLOID), started(TIMESTAMPTZOID), error(TEXTOID);
  for (const TaskMove &move : moves) {
    check_hops(move);
    const core::TaskState target = move.hops.empty() ? move.from : move.hops.back().to;
    task.int8(move.task_id);
    guard.int4(move.expected_moves);
    state.text(core::to_string(target));
    hops.int4(static_cast<int>(move.hops.size()));
    sinks.int4(move.sinks_done);
    may_complete.boolean(move.complete_at_zero);
    failing.boolean(move.set_failing);
    uneven.boolean(move.set_uneven);
    live.boolean(!core::finished(target));
    unpark.boolean(move.unpark);
    add_timestamp(started, move.started_at);
    add_text(error, move.error.value_or(""));
  }
  const pg::Result updated = pg::execute(
      update_tasks, pg::Params().datum(task.datum()).datum(guard.datum()).datum(state.datum()).datum(hops.datum()).datum(sinks.datum())
                        .datum(may_complete.datum()).datum(failing.datum()).datum(uneven.datum()).datum(live.datum()).datum(unpark.datum())
                        .datum(started.datum()).datum(error.datum()));
  TaskTransitionRows rows;
  std::vector<std::int64_t> deadlines_over, deadlines_again;
  for (std::uint64_t i = 0; i < updated.rows.size(); i++) {
    MovedTask moved{updated.rows.int8(i, 1), core::parse_task_state(updated.rows.text(i, 2)).value(), updated.rows.int4(i, 3),
                    updated.rows.int4(i, 4), updated.rows.boolean(i, 5), updated.rows.boolean(i, 6), false};
    const auto found = std::find_if(moves.begin(), moves.end(), [&](const TaskMove &m) { return m.task_id == moved.task_id; });
    core::TaskState before = found->from;
    int number = found->expected_moves;
    for (const auto &hop : found->hops) {
      rows.add(moved.task_id, ++number, before, hop.to, hop.metadata, hop.at);
      before = hop.to;
    }
    if (moved.state != before) {
      rows.add(moved.task_id, ++number, before, moved.state, {}, updated.rows.timestamp(i, 7));
      moved.completed_now = true;
    }
    const bool over = core::finished(moved.state);
    if (over) task_finished(moved.task_id);
    if (updated.rows.boolean(i, 8) && over != core::finished(found->from)) (over ? deadlines_over : deadlines_again).push_back(moved.task_id);
    out.push_back(moved);
  }
  rows.write();
  drop_deadlines(deadlines_over);
  add_deadlines(deadlines_again);
  return out;
}

void tally(std::int64_t task_id, int named_task_id, core::TaskState state, int sign, std::optional<int> complete_steps) {
  if (complete_steps && state == core::TaskState::kComplete) {
    tally_complete(named_task_id, sign, *complete_steps);
    return;
  }
  pg::execute(insert_tally, pg::Params().int8(task_id).int4(named_task_id).text(core::to_string(state)).int4(sign));
}

void tally_complete(int named_task_id, int tasks, int steps_each) {
  pg::execute(insert_clean_tally, pg::Params().int4(named_task_id).int8(tasks).int8(static_cast<std::int64_t>(tasks) * steps_each));
}

void fold_tallies() {
  if (pg::execute(foldable).rows.boolean(0, 1)) pg::execute(fold);
}

std::string actor_metadata(const std::optional<std::string> &reason, std::initializer_list<std::pair<const char *, std::string>> more) {
  core::json out = core::json::object();
  out["actor"] = pg::role_name(GetSessionUserId());
  if (reason) out["reason"] = *reason;
  for (const auto &[key, value] : more) out[key] = value;
  return out.dump(-1, ' ', false, core::json::error_handler_t::replace);
}

}  // namespace tasker::store
