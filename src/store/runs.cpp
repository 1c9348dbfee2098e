#include "store/runs.hpp"

#include <unordered_map>

#include "pg/memory.hpp"
#include "store/shapes.hpp"

namespace tasker::store {

namespace {

// A value of a row that is about to go, in the context given.
Datum copy_jsonb(const pg::TableRow &row, int column, MemoryContext context) {
  if (row.nulls[column]) return Datum(0);
  const Datum value = row.values[column];
  return pg::call([=] {
    MemoryContext old = MemoryContextSwitchTo(context);
    const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    MemoryContextSwitchTo(old);
    return copy;
  });
}

TaskRow read_task(const pg::TableRow &row, Oid state_type) {
  using namespace task_column;
  TaskRow t;
  t.task_id = DatumGetInt64(row.values[kTaskId]);
  t.home = DatumGetInt64(row.values[kHome]);
  t.named_task_id = DatumGetInt32(row.values[kNamedTaskId]);
  t.owner = DatumGetObjectId(row.values[kOwner]);
  t.priority = DatumGetInt32(row.values[kPriority]);
  t.state = task_state_of(state_type, row.values[kState]);
  t.moves = DatumGetInt32(row.values[kMoves]);
  t.live = DatumGetBool(row.values[kLive]);
  t.paused = DatumGetBool(row.values[kPaused]);
  t.failing = DatumGetBool(row.values[kFailing]);
  t.uneven = DatumGetBool(row.values[kUneven]);
  t.run_at = DatumGetTimestampTz(row.values[kRunAt]);
  t.deadline_at = timestamp_or_null(row, kDeadlineAt);
  t.place = row.tuple->t_self;
  return t;
}

StepRow read_step(const pg::TableRow &row, const StepKey &key, Oid state_type) {
  using namespace step_column;
  StepRow s;
  s.key = key;
  s.state = step_state_of(state_type, row.values[kState]);
  s.moves = DatumGetInt32(row.values[kMoves]);
  s.attempts = DatumGetInt32(row.values[kAttempts]);
  s.generation = DatumGetInt32(row.values[kGeneration]);
  s.waiting_on = DatumGetInt32(row.values[kWaitingOn]);
  s.crashes = DatumGetInt32(row.values[kCrashes]);
  if (!row.nulls[kMaxAttempts]) s.max_attempts = DatumGetInt32(row.values[kMaxAttempts]);
  s.permanent = DatumGetBool(row.values[kPermanent]);
  s.next_attempt_at = timestamp_or_null(row, kNextAttemptAt);
  s.started_at = timestamp_or_null(row, kStartedAt);
  s.place = row.tuple->t_self;
  return s;
}

// What a task's row says for all its steps.
struct LoadedTask {
  TaskRow row;
  Datum context = 0;
  std::optional<std::string> correlation_id;
  bool delayed = false;
};

std::optional<LoadedTask> load_task(pg::Table &tasks, const StepAt &step, MemoryContext context) {
  const pg::TableRow row = find_task(tasks, step.task_id, step.places.task);
  if (!row) return std::nullopt;
  LoadedTask out;
  out.row = read_task(row, tasks.type(task_column::kState));
  out.context = copy_jsonb(row, task_column::kContext, context);
  if (!row.nulls[task_column::kCorrelationId]) out.correlation_id = pg::to_string(row.values[task_column::kCorrelationId]);
  out.delayed = out.row.run_at > DatumGetTimestampTz(row.values[task_column::kCreatedAt]);
  return out;
}

}  // namespace

std::vector<LoadedStep> load_steps(const std::vector<StepAt> &wanted, MemoryContext context) {
  std::vector<LoadedStep> out;
  if (wanted.empty()) return out;
  out.reserve(wanted.size());
  pg::Table tasks(tasks_table, pg::Table::Use::kRead), steps(steps_table, pg::Table::Use::kRead);
  const Oid state_type = steps.type(step_column::kState);
  std::unordered_map<std::int64_t, std::optional<LoadedTask>> loaded;
  for (const StepAt &key : wanted) {
    const auto [task, first] = loaded.try_emplace(key.task_id);
    if (first) task->second = load_task(tasks, key, context);
    if (!task->second) continue;
    const pg::TableRow row = find_step(steps, key, key.places.step);
    if (!row) continue;
    LoadedStep l;
    l.task = task->second->row;
    l.step = read_step(row, key, state_type);
    l.context = task->second->context;
    l.correlation_id = task->second->correlation_id;
    l.delayed = task->second->delayed;
    out.push_back(std::move(l));
  }
  return out;
}

std::unordered_map<std::int64_t, int> definitions_of(const std::vector<std::int64_t> &task_ids) {
  std::unordered_map<std::int64_t, int> out;
  pg::Table tasks(tasks_table, pg::Table::Use::kRead);
  for (const std::int64_t id : task_ids) {
    if (out.contains(id)) continue;
    if (const pg::TableRow row = find_task(tasks, id)) out.emplace(id, DatumGetInt32(row.values[task_column::kNamedTaskId]));
  }
  return out;
}

std::vector<ParentResult> load_results(const std::vector<StepKey> &keys, MemoryContext context) {
  std::vector<ParentResult> out;
  if (keys.empty()) return out;
  pg::Table steps(steps_table, pg::Table::Use::kRead);
  const Oid state_type = steps.type(step_column::kState);
  for (const StepKey &key : keys) {
    const pg::TableRow row = find_step(steps, key);
    if (row) out.push_back({key, step_state_of(state_type, row.values[step_column::kState]), copy_jsonb(row, step_column::kResult, context)});
  }
  return out;
}

std::vector<StepKey> count_down(const std::vector<CounterChange> &changes) {
  std::vector<StepKey> ready;
  if (changes.empty()) return ready;
  pg::Table steps(steps_table, pg::Table::Use::kWrite);
  const Oid state_type = steps.type(step_column::kState);
  for (const CounterChange &change : changes) {
    pg::TableRow row = find_step(steps, change.child);
    for (auto wrote = pg::Table::Wrote::kChanged; row && wrote == pg::Table::Wrote::kChanged;) {
      const int left = DatumGetInt32(row.values[step_column::kWaitingOn]) - change.parents_done;
      const bool pending = step_state_of(state_type, row.values[step_column::kState]) == core::StepState::kPending;
      pg::RowChange counter;
      counter.int4(step_column::kWaitingOn, left);
      wrote = steps.update(row, counter);
      if (wrote == pg::Table::Wrote::kDone && left == 0 && pending) ready.push_back(change.child);
    }
  }
  return ready;
}

}  // namespace tasker::store
