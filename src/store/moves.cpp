#include "store/moves.hpp"

#include <cmath>

#include "core/events.hpp"
#include "core/json.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "store/events.hpp"
#include "store/hints.hpp"
#include "store/shapes.hpp"
#include "store/step_history.hpp"
#include "store/timers.hpp"

namespace tasker::store {

namespace {

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

// Most have none.
Datum metadata_datum(const std::string &text) {
  static constinit Datum empty = 0;
  if (!text.empty()) return pg::jsonb_datum(text);
  if (empty == Datum(0)) {
    const pg::ContextScope scope(TopMemoryContext);
    empty = pg::jsonb_datum("{}");
  }
  return empty;
}

bool is_plain_begin(const Hop<core::StepState> &hop) { return hop.attempt != 0; }
bool is_plain_begin(const Hop<core::TaskState> &hop) { return hop.to == core::TaskState::kInProgress && hop.metadata.empty(); }

// A row for each hop, but one for a plain begin and what follows it.
template <class Hops, class Write>
void for_each_row(const Hops &hops, Write write) {
  for (std::size_t i = 0; i < hops.size(); i++) {
    const bool with_next = i + 1 < hops.size() && is_plain_begin(hops[i]);
    write(with_next ? &hops[i] : nullptr, hops[with_next ? i + 1 : i], with_next ? 2 : 1);
    if (with_next) i++;
  }
}

// Begun and completed at once, and nothing more to say of it than the row itself does: see tables.sql, task_moves.
inline constexpr int kToldByRow = 2;
bool told_by_row(const StepMove &move) {
  return move.from == core::StepState::kPending && move.hops.size() == kToldByRow && is_plain_begin(move.hops[0]) && move.hops[0].attempt == move.attempts &&
         move.hops[1].to == core::StepState::kComplete && move.hops[1].metadata.empty() && move.started_at == move.hops[0].at && move.finished_at == move.hops[1].at;
}

bool told_by_row(const TaskMove &move, const std::vector<Hop<core::TaskState>> &hops, const pg::TableRow &row, TimestampTz finished_at) {
  return move.from == core::TaskState::kPending && hops.size() == kToldByRow && is_plain_begin(hops[0]) && hops[1].to == core::TaskState::kComplete &&
         hops[1].metadata.empty() && row.nulls[task_column::kStartedAt] && move.started_at == hops[0].at && hops[1].at == finished_at;
}

// What a row has told itself, written now that it has moved again.
void write_step_down(pg::TableRows &history, const pg::TableRow &row, Oid state_type) {
  using namespace step_column;
  if (DatumGetInt32(row.values[kUntold]) == 0) return;
  history.add({row.values[kTaskId], row.values[kStepNo], row.values[kElement], Int32GetDatum(DatumGetInt32(row.values[kMoves]) * 10),
               state_datum(state_type, core::StepState::kPending), row.values[kState], metadata_datum({}), row.values[kFinishedAt], row.values[kStartedAt],
               row.values[kAttempts]});
}
void write_task_down(pg::TableRows &history, const pg::TableRow &row, Oid state_type) {
  using namespace task_column;
  if (DatumGetInt32(row.values[kUntold]) == 0) return;
  history.add({row.values[kTaskId], Int32GetDatum(DatumGetInt32(row.values[kMoves]) * 10), state_datum(state_type, core::TaskState::kPending), row.values[kState],
               metadata_datum({}), row.values[kFinishedAt], row.values[kStartedAt]});
}

void write_step_history(const std::vector<StepMove> &moves, Oid state_type, pg::TableRows &rows) {
  for (const StepMove &move : moves) {
    if (told_by_row(move)) continue;
    core::StepState state = move.from;
    int number = move.expected_moves;
    for_each_row(move.hops, [&](const Hop<core::StepState> *begin, const Hop<core::StepState> &hop, int count) {
      number += count;
      rows.add({Int64GetDatum(move.key.task_id), Int32GetDatum(move.key.step_no), Int32GetDatum(move.key.element), Int32GetDatum(number * 10),
                state_datum(state_type, state), state_datum(state_type, hop.to), metadata_datum(hop.metadata), TimestampTzGetDatum(hop.at)});
      if (begin == nullptr) {
        rows.add_null();
        rows.add_null();
      } else {
        rows.add({TimestampTzGetDatum(begin->at), Int32GetDatum(begin->attempt)});
      }
      state = hop.to;
    });
  }
  if (rows.size() > 0) pg::Table(step_moves_table, pg::Table::Use::kWrite).insert(rows);
}

// The row after a move. Everything an earlier run or another process may have written meanwhile is in `row`.
pg::RowChange change_of(const StepMove &move, const pg::TableRow &row, Oid state_type, Datum result, Datum error) {
  using namespace step_column;
  pg::RowChange change;
  const core::StepState state = move.hops.back().to;
  const auto timestamp = [&](int column, const std::optional<TimestampTz> &value) {
    if (value) change.timestamp(column, *value);
    else change.set_null(column);
  };
  change.set(kState, state_datum(state_type, state));
  change.int4(kMoves, move.expected_moves + static_cast<int>(move.hops.size()));
  change.int4(kAttempts, move.attempts);
  change.int4(kGeneration, move.generation);
  change.boolean(kPermanent, move.permanent);
  change.int4(kUntold, told_by_row(move) ? kToldByRow : 0);
  if (move.max_attempts && *move.max_attempts == 0) change.set_null(kMaxAttempts);
  else if (move.max_attempts) change.int4(kMaxAttempts, *move.max_attempts);
  if (state == core::StepState::kPending) {
    change.int4(kCrashes, 0);
    change.int4(kOldCrashes, 0);
  }
  if (move.waiting_on) change.int4(kWaitingOn, *move.waiting_on);
  timestamp(kStartedAt, move.started_at);
  timestamp(kFinishedAt, move.finished_at);
  timestamp(kNextAttemptAt, move.next_attempt_at);
  if (move.result) change.set(kResult, result);
  else if (!row.nulls[kResult]) change.set_null(kResult);
  if (error != Datum(0)) change.set(kError, error);
  else if (!row.nulls[kError]) change.set_null(kError);
  return change;
}

bool move_step(pg::Table &steps, const StepMove &move, Oid state_type, pg::TableRows &history) {
  pg::TableRow row = find_step(steps, move.key, move.place);
  const Datum result = move.result.value_or(Datum(0));
  const Datum error = move.error && !move.error->empty() ? pg::jsonb_datum(*move.error) : Datum(0);
  while (row && DatumGetInt32(row.values[step_column::kMoves]) == move.expected_moves) {
    const auto wrote = steps.update(row, change_of(move, row, state_type, result, error));
    if (wrote == pg::Table::Wrote::kChanged) continue;
    if (wrote == pg::Table::Wrote::kDone) write_step_down(history, row, state_type);
    return wrote == pg::Table::Wrote::kDone;
  }
  return false;
}

// A task's row after a move, and what is told of it.
struct TaskChange {
  pg::RowChange change;
  MovedTask moved;
  bool was_over = false, has_deadline = false;
  Audience audience;
  TimestampTz finished_at = 0;
  std::vector<Hop<core::TaskState>> hops;  // with the completion
  bool told = false;                       // by the row
};

TaskChange change_of(const TaskMove &move, const pg::TableRow &row, Oid state_type) {
  using namespace task_column;
  const auto flag = [&](int column) { return DatumGetBool(row.values[column]); };
  const auto number = [&](int column) { return DatumGetInt32(row.values[column]); };
  const core::TaskState target = move.hops.empty() ? move.from : move.hops.back().to;
  const bool completes = move.complete_at_zero && number(kSinksLeft) == move.sinks_done && !flag(kUneven) && !flag(kFailing);
  const bool over = core::finished(target) || completes;
  const bool ended_well = target == core::TaskState::kComplete || target == core::TaskState::kResolvedManually;
  TaskChange out;
  out.was_over = !flag(kLive);
  out.audience = {number(kNamedTaskId), DatumGetObjectId(row.values[kOwner]), DatumGetObjectId(row.values[kCreatedBy])};
  out.moved = {move.task_id, completes ? core::TaskState::kComplete : target, number(kMoves) + static_cast<int>(move.hops.size()) + (completes ? 1 : 0),
               number(kSinksLeft) - move.sinks_done, (flag(kFailing) || move.set_failing) && !ended_well && target != core::TaskState::kCancelled,
               flag(kUneven) || move.set_uneven, completes && target != core::TaskState::kComplete};
  pg::RowChange &change = out.change;
  change.set(kState, state_datum(state_type, out.moved.state));
  change.int4(kMoves, out.moved.moves);
  change.int4(kSinksLeft, out.moved.sinks_left);
  change.boolean(kFailing, out.moved.failing);
  change.boolean(kUneven, out.moved.uneven);
  change.boolean(kLive, !over);
  change.boolean(kRunnable, !over && (move.unpark || flag(kRunnable)));
  if (row.nulls[kStartedAt] && move.started_at) change.timestamp(kStartedAt, *move.started_at);
  if (over) {
    out.finished_at = GetCurrentTimestamp();
    if (!out.was_over || completes || !move.hops.empty()) change.timestamp(kFinishedAt, out.finished_at);
  } else if (!row.nulls[kFinishedAt]) {
    change.set_null(kFinishedAt);
  }
  out.hops = move.hops;
  if (out.moved.completed_now) out.hops.push_back({out.moved.state, out.finished_at, {}});
  out.told = told_by_row(move, out.hops, row, out.finished_at);
  if (!out.hops.empty()) change.int4(kUntold, out.told ? kToldByRow : 0);
  // What failed on the way is in the history of a task that ended well.
  const bool keeps_error = flag(kLive) && !row.nulls[kError];
  const bool has_error = move.error && !move.error->empty();
  if (ended_well || (!keeps_error && !has_error)) change.set_null(kError);
  else if (!keeps_error) change.set(kError, pg::text_datum(*move.error));
  out.has_deadline = !row.nulls[kDeadlineAt];
  // A task taken back after its deadline gets the same span again.
  const TimestampTz now = GetCurrentTimestamp();
  if (!over && out.was_over && out.has_deadline && !row.nulls[kDeadlineSeconds] && DatumGetTimestampTz(row.values[kDeadlineAt]) <= now) {
    const double span = DatumGetFloat8(row.values[kDeadlineSeconds]);
    change.timestamp(kDeadlineAt, now + static_cast<TimestampTz>(std::llround(span * USECS_PER_SEC)));
  }
  return out;
}

std::optional<TaskChange> move_task(pg::Table &tasks, const TaskMove &move, Oid state_type, pg::TableRows &history) {
  pg::TableRow row = find_task(tasks, move.task_id, move.place);
  while (row && DatumGetInt32(row.values[task_column::kMoves]) == move.expected_moves) {
    TaskChange change = change_of(move, row, state_type);
    const auto wrote = tasks.update(row, change.change);
    if (wrote == pg::Table::Wrote::kDone) {
      if (!change.hops.empty()) write_task_down(history, row, state_type);
      const bool ended = change.finished_at != 0 && !(change.was_over && move.hops.empty());
      const auto began = row.nulls[task_column::kStartedAt] ? move.started_at : DatumGetTimestampTz(row.values[task_column::kStartedAt]);
      const TimestampTz at = change.moved.completed_now || move.hops.empty() ? change.finished_at : move.hops.back().at;
      if (ended) note_task_end(DatumGetInt32(row.values[task_column::kNamedTaskId]), move.task_id, change.moved.state, began, at);
      return change;
    }
    if (wrote == pg::Table::Wrote::kGone) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Hop<core::StepState> begin_attempt(TimestampTz at, int attempt) {
  return {core::StepState::kInProgress, at, "{\"attempt\": " + std::to_string(attempt) + "}", attempt};
}

std::size_t move_steps(const std::vector<StepMove> &moves) {
  if (moves.empty()) return 0;
  for (const StepMove &move : moves) check_hops(move);
  std::size_t moved = 0;
  pg::TableRows history;
  Oid state_type;
  {
    pg::Table steps(steps_table, pg::Table::Use::kWrite);
    state_type = steps.type(step_column::kState);
    for (const StepMove &move : moves)
      if (move_step(steps, move, state_type, history)) moved++;
  }
  if (moved == moves.size()) {
    write_step_history(moves, state_type, history);
    if (events_wanted()) record_step_events(moves);
  }
  return moved;
}

std::vector<MovedTask> move_tasks(const std::vector<TaskMove> &moves) {
  std::vector<MovedTask> out;
  if (moves.empty()) return out;
  for (const TaskMove &move : moves) check_hops(move);
  pg::TableRows rows;
  const bool tells = events_wanted();
  std::vector<Occurrence> happened;
  std::vector<std::int64_t> deadlines_over, deadlines_again;
  {
    pg::Table tasks(tasks_table, pg::Table::Use::kWrite);
    const Oid state_type = tasks.type(task_column::kState);
    for (const TaskMove &move : moves) {
      const std::optional<TaskChange> done = move_task(tasks, move, state_type, rows);
      if (!done) continue;
      const MovedTask &moved = done->moved;
      core::TaskState before = move.from;
      int number = move.expected_moves;
      for_each_row(done->hops, [&](const Hop<core::TaskState> *begin, const Hop<core::TaskState> &hop, int count) {
        if (tells && begin != nullptr) happened.push_back({{moved.task_id, 0, -1}, (number + 1) * 10, core::event_of(before, begin->to), begin->at, done->audience});
        number += count;
        if (tells) happened.push_back({{moved.task_id, 0, -1}, number * 10, core::event_of(begin == nullptr ? before : begin->to, hop.to), hop.at, done->audience});
        if (done->told) return;
        rows.add({Int64GetDatum(moved.task_id), Int32GetDatum(number * 10), state_datum(state_type, before), state_datum(state_type, hop.to), metadata_datum(hop.metadata),
                  TimestampTzGetDatum(hop.at)});
        if (begin == nullptr) rows.add_null();
        else rows.add({TimestampTzGetDatum(begin->at)});
        before = hop.to;
      });
      const bool over = core::finished(moved.state);
      if (over) task_finished(moved.task_id);
      if (over && tells) note_delivery_end(done->audience.definition);
      if (done->has_deadline && over != core::finished(move.from)) (over ? deadlines_over : deadlines_again).push_back(moved.task_id);
      out.push_back(moved);
    }
  }
  if (rows.size() > 0) pg::Table(task_moves_table, pg::Table::Use::kWrite).insert(rows);
  if (tells) record_events(happened);
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
