#include "store/new_tasks.hpp"

#include <algorithm>
#include <cmath>

#include "store/shapes.hpp"

namespace tasker::store {

namespace {

// All columns of tasker.tasks, in the order in which a row is made below.
constinit pg::TableShape new_tasks_table{"tasks", "tasks_pkey", 1, 30,
                                         {"task_id", "home", "named_task_id", "owner", "created_by", "priority", "state", "moves", "sinks_left", "live", "runnable",
                                          "paused", "failing", "uneven", "run_at", "created_at", "started_at", "finished_at", "deadline_seconds", "deadline_at",
                                          "context", "error", "initiator", "source_system", "reason", "correlation_id", "idempotency_key", "tags", "bypass_steps", "untold"}};
inline constexpr int kStateColumn = 6;
// Those of tasker.workflow_steps that are not null when a step is new.
constinit pg::TableShape new_steps_table{"workflow_steps", "workflow_steps_pkey", 3, 12,
                                         {"task_id", "step_no", "element", "state", "moves", "attempts", "generation", "waiting_on", "crashes", "old_crashes", "permanent",
                                          "untold"}};
inline constexpr int kStepStateColumn = 3;
inline constexpr std::size_t kStepsAtOnce = 4096;  // bounds the memory of many tasks with many steps

constinit pg::Query next_ids{
    "SELECT nextval('tasker.task_id_seq'), h.nonce FROM tasker.home h CROSS JOIN generate_series(1, $1)"
    " WHERE EXISTS (SELECT FROM tasker.named_tasks n WHERE n.named_task_id = $2)",
    2, {INT4OID, INT4OID}};

// Ids of which no two are the same: a random one for each call, counted up for each of its tasks. A random number a task would
// cost as much as its row.
class CorrelationIds {
 public:
  Datum next() {
    if (!drawn_) {
      const pg_uuid_t *uuid = pg::call([] { return DatumGetUUIDP(OidFunctionCall0(F_GEN_RANDOM_UUID)); });
      std::copy(uuid->data, uuid->data + UUID_LEN, bytes_);
      drawn_ = true;
    }
    std::string id = "tsk_";
    for (const unsigned char byte : bytes_) {
      id += kHex[byte >> 4];
      id += kHex[byte & 15];
    }
    for (int i = UUID_LEN; i > UUID_LEN / 2 && ++bytes_[i - 1] == 0;) i--;
    return pg::text_datum(id);
  }

 private:
  static constexpr const char *kHex = "0123456789abcdef";
  unsigned char bytes_[UUID_LEN] = {};
  bool drawn_ = false;
};

void add_or_null(pg::TableRows &rows, const std::optional<std::string> &value) {
  if (value) rows.add({pg::text_datum(*value)});
  else rows.add_null();
}

void insert_steps(const CompiledDefinition &definition, const std::vector<NewTask> &tasks) {
  pg::Table table(new_steps_table, pg::Table::Use::kWrite);
  const Datum pending = state_datum(table.type(kStepStateColumn), core::StepState::kPending), none = Int32GetDatum(0);
  pg::TableRows rows;
  std::size_t waiting = 0;
  for (const NewTask &task : tasks) {
    for (const CompiledStep &step : definition.steps) {
      const int parents = static_cast<int>(step.parents.size());
      rows.add({Int64GetDatum(task.task_id), Int32GetDatum(step.step_no), Int32GetDatum(-1), pending, none, none, none, Int32GetDatum(parents > 1 ? parents : 0), none, none,
                BoolGetDatum(false), none});
      if (++waiting < kStepsAtOnce) continue;
      table.insert(rows);
      rows = {};
      waiting = 0;
    }
  }
  table.insert(rows);
}

}  // namespace

void insert_tasks(const CompiledDefinition &definition, const NewTaskTerms &terms, const std::vector<NewTask> &tasks) {
  if (tasks.empty()) return;
  {
    pg::Table table(new_tasks_table, pg::Table::Use::kWrite);
    const Datum pending = state_datum(table.type(kStateColumn), core::TaskState::kPending), none = Int32GetDatum(0), no = BoolGetDatum(false);
    const Datum tags = pg::text_array(terms.tags), bypass = pg::text_array(terms.bypass_steps);
    pg::TableRows rows;
    CorrelationIds correlation_ids;
    for (const NewTask &task : tasks) {
      rows.add({Int64GetDatum(task.task_id), Int64GetDatum(terms.home), Int32GetDatum(definition.named_task_id), ObjectIdGetDatum(terms.owner),
                ObjectIdGetDatum(terms.created_by), Int32GetDatum(terms.priority), pending, none, Int32GetDatum(definition.sink_count), BoolGetDatum(true),
                BoolGetDatum(terms.run_at <= terms.created_at), no, no, no, TimestampTzGetDatum(terms.run_at), TimestampTzGetDatum(terms.created_at)});
      rows.add_null();
      rows.add_null();
      if (terms.deadline_seconds) {
        const double seconds = *terms.deadline_seconds;
        rows.add({Float8GetDatum(seconds), TimestampTzGetDatum(terms.run_at + static_cast<TimestampTz>(std::llround(seconds * USECS_PER_SEC)))});
      } else {
        rows.add_null();
        rows.add_null();
      }
      rows.add({task.context});
      rows.add_null();
      add_or_null(rows, terms.initiator);
      add_or_null(rows, terms.source_system);
      add_or_null(rows, terms.reason);
      rows.add({terms.correlation_id ? pg::text_datum(*terms.correlation_id) : correlation_ids.next()});
      if (task.idempotency_key != nullptr) rows.add({pg::text_datum(*task.idempotency_key)});
      else rows.add_null();
      rows.add({tags, bypass, none});
    }
    table.insert(rows);
  }
  insert_steps(definition, tasks);
}

std::vector<std::int64_t> next_task_ids(int named_task_id, int count, std::int64_t *home) {
  const pg::Result found = pg::execute(next_ids, pg::Params().int4(count).int4(named_task_id));
  std::vector<std::int64_t> ids;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) ids.push_back(found.rows.int8(i, 1));
  if (!ids.empty()) *home = found.rows.int8(0, 2);
  return ids;
}

}  // namespace tasker::store
