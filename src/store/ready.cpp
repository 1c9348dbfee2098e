// Which steps of a task can run: read from the rows of the task and its steps, without a statement. A dispatcher does this for every
// task, so that it is a good part of what a step costs.
#include <algorithm>
#include <unordered_set>

#include "pg/memory.hpp"
#include "store/facts.hpp"
#include "store/key_arrays.hpp"
#include "store/shapes.hpp"

namespace tasker::store {

namespace {

inline constexpr std::size_t kRowsInMemory = 2000;  // before the memory of the rows read is used again

// What waits to be claimed has been offered.
constinit pg::Query select_offered{
    "SELECT u.task_id, u.step_no, u.element FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " WHERE EXISTS (SELECT FROM tasker.queue_items q WHERE q.task_id = u.task_id AND q.step_no = u.step_no AND q.element = u.element)",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};
// A signal that came while its step's end was under way.
constinit pg::Query select_signalled{
    "SELECT u.task_id, u.step_no, u.element FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " WHERE EXISTS (SELECT FROM tasker.signals g WHERE g.task_id = u.task_id AND g.used_by IS NULL AND u.step_no = ANY (g.steps))",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

struct ReadTask {
  std::int64_t id = 0;
  int named_task_id = 0, priority = 0;
  Oid owner = InvalidOid;
  TimestampTz run_at = 0;
  ItemPointerData place{};
};

struct ReadStep {
  StepKey key;
  core::StepState state = core::StepState::kPending;
  int attempts = 0;
  std::optional<int> max_attempts;  // of the row; else the definition's
  bool free = false;                // neither failed for good nor waiting for several parents
  std::optional<TimestampTz> next_attempt_at;
  ItemPointerData place{};
};

ReadStep read_step(const pg::TableRow &row, Oid state_type) {
  using namespace step_column;
  ReadStep s;
  s.key = {DatumGetInt64(row.values[kTaskId]), DatumGetInt32(row.values[kStepNo]), DatumGetInt32(row.values[kElement])};
  s.state = step_state_of(state_type, row.values[kState]);
  s.attempts = DatumGetInt32(row.values[kAttempts]);
  if (!row.nulls[kMaxAttempts]) s.max_attempts = DatumGetInt32(row.values[kMaxAttempts]);
  s.free = !DatumGetBool(row.values[kPermanent]) && DatumGetInt32(row.values[kWaitingOn]) == 0;
  s.next_attempt_at = timestamp_or_null(row, kNextAttemptAt);
  s.place = row.tuple->t_self;
  return s;
}

// `steps`: of one task, in the order of their keys.
bool parent_done(const std::vector<ReadStep> &steps, int parent) {
  const StepKey key{steps.front().key.task_id, parent, -1};
  const auto found = std::lower_bound(steps.begin(), steps.end(), key, [](const ReadStep &s, const StepKey &k) { return s.key < k; });
  return found != steps.end() && found->key == key && core::satisfies_children(found->state);
}

// Of those keys, the ones that a statement finds.
std::unordered_set<StepKey, StepKeyHash> found_among(pg::Query &query, const std::vector<StepKey> &keys) {
  std::unordered_set<StepKey, StepKeyHash> out;
  if (keys.empty()) return out;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  const pg::Result found = pg::execute(query, arrays.params());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.insert({found.rows.int8(i, 1), found.rows.int4(i, 2), found.rows.int4(i, 3)});
  return out;
}

class Reader {
 public:
  explicit Reader(std::int64_t nonce) : nonce_(nonce), now_(GetCurrentTimestamp()) {}

  std::vector<Hint> read(const std::vector<std::int64_t> &task_ids) {
    pg::OwnedContext memory(CurrentMemoryContext, "tasker ready steps");
    for (std::size_t next = 0; next < task_ids.size(); memory.reset()) {
      const pg::ContextScope scope(memory.get());
      pg::Table tasks(tasks_table, pg::Table::Use::kRead), steps(steps_table, pg::Table::Use::kRead);
      for (std::size_t rows = 0; next < task_ids.size() && rows < kRowsInMemory; next++) rows += 1 + read_one(tasks, steps, task_ids[next]);
    }
    const auto offered = found_among(select_offered, external_), signalled = found_among(select_signalled, signals_);
    std::erase_if(ready_, [&](const Hint &hint) { return offered.contains(hint.key); });
    std::erase_if(ready_, [&](const Hint &hint) { return awaiting_.contains(hint.key) && !signalled.contains(hint.key); });
    ready_.insert(ready_.end(), watched_.begin(), watched_.end());
    return std::move(ready_);
  }

 private:
  // How many steps it has read.
  std::size_t read_one(pg::Table &tasks, pg::Table &steps, std::int64_t task_id) {
    using namespace task_column;
    const pg::TableRow row = find_task(tasks, task_id);
    if (!row || !DatumGetBool(row.values[kLive])) return 0;
    if (DatumGetBool(row.values[kFailing]) || DatumGetBool(row.values[kUneven])) {
      Hint hint{};
      hint.key.task_id = task_id;
      hint.kind = HintKind::kWatch;
      watched_.push_back(hint);
    }
    if (DatumGetBool(row.values[kPaused]) || DatumGetInt64(row.values[kHome]) != nonce_) return 0;
    const ReadTask task{task_id,       DatumGetInt32(row.values[kNamedTaskId]),     DatumGetInt32(row.values[kPriority]), DatumGetObjectId(row.values[kOwner]),
                        DatumGetTimestampTz(row.values[kRunAt]), row.tuple->t_self};
    if (!know(task.named_task_id)) return 0;
    steps_.clear();
    const Oid state_type = steps.type(step_column::kState);
    const Datum key[] = {Int64GetDatum(task_id)};
    for (pg::TableRow step = steps.find_first(key, 1); step; step = steps.next()) steps_.push_back(read_step(step, state_type));
    for (const ReadStep &step : steps_)
      if (step.key.step_no >= 1 && step.key.step_no <= static_cast<int>(definition_->steps.size())) judge(task, step, definition_->step(step.key.step_no));
    return steps_.size();
  }

  // False: a task without its definition. tasker.check() tells of it; here it must not hold up the others.
  bool know(int named_task_id) {
    if (definition_ != nullptr && definition_->named_task_id == named_task_id) return true;
    try {
      definition_ = definition(named_task_id);
    } catch (const tasker::Error &) {
      definition_ = nullptr;
    }
    return definition_ != nullptr;
  }

  // A step with one parent is ready when that parent is done; with more, when its counter is zero.
  void judge(const ReadTask &task, const ReadStep &row, const CompiledStep &step) {
    if (row.state == core::StepState::kInProgress && step.type == HandlerType::kSignal) {
      signals_.push_back(row.key);
      awaiting_.insert(row.key);
    } else if ((row.state != core::StepState::kPending && row.state != core::StepState::kError) || !row.free) {
      return;
    } else if (row.state == core::StepState::kError && (!step.retryable || row.attempts >= row.max_attempts.value_or(step.max_attempts))) {
      return;
    } else if (step.parents.size() == 1 && !parent_done(steps_, step.parents.front())) {
      return;
    } else if (step.type == HandlerType::kExternal) {
      external_.push_back(row.key);
    }
    Hint hint{};
    hint.key = row.key;
    hint.named_task_id = task.named_task_id;
    hint.priority = task.priority + step.priority;
    hint.owner = task.owner;
    hint.due = std::max(task.run_at, row.next_attempt_at.value_or(task.run_at));
    hint.outside = is_outside(step.type);
    hint.noop = step.type == HandlerType::kNoop;
    hint.kind = hint.due > now_ ? HintKind::kTimer : HintKind::kStep;
    hint.places = {task.place, row.place};
    ready_.push_back(hint);
  }

  std::int64_t nonce_;
  TimestampTz now_;
  DefinitionPtr definition_;
  std::vector<ReadStep> steps_;  // of the task that is read
  std::vector<Hint> ready_, watched_;
  std::vector<StepKey> external_, signals_;
  std::unordered_set<StepKey, StepKeyHash> awaiting_;
};

}  // namespace

std::vector<Hint> ready_steps(const std::vector<std::int64_t> &task_ids, std::int64_t nonce) {
  if (task_ids.empty()) return {};
  return Reader(nonce).read(task_ids);
}

}  // namespace tasker::store
