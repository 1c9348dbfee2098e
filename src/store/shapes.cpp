#include "store/shapes.hpp"

namespace tasker::store {

constinit pg::TableShape tasks_table{"tasks", "tasks_pkey", 1, task_column::kCount,
                                     {"task_id", "home", "named_task_id", "owner", "priority", "state", "moves", "sinks_left", "live", "runnable", "paused",
                                      "failing", "uneven", "run_at", "created_at", "started_at", "finished_at", "deadline_seconds", "deadline_at", "context",
                                      "error", "correlation_id", "created_by", "untold"}};
constinit pg::TableShape steps_table{"workflow_steps", "workflow_steps_pkey", 3, step_column::kCount,
                                     {"task_id", "step_no", "element", "state", "moves", "attempts", "generation", "waiting_on", "crashes", "old_crashes",
                                      "max_attempts", "permanent", "started_at", "finished_at", "next_attempt_at", "result", "error", "untold"}};
constinit pg::TableShape task_moves_table{"task_moves", "task_moves_pkey", 2, task_move_column::kCount,
                                          {"task_id", "sort_key", "from_state", "to_state", "metadata", "created_at", "begun_at"}};
constinit pg::TableShape step_moves_table{"step_moves", "step_moves_pkey", 4, step_move_column::kCount,
                                          {"task_id", "step_no", "element", "sort_key", "from_state", "to_state", "metadata", "created_at", "begun_at", "attempt"}};
constinit pg::TableShape outbox_table{"event_outbox", "event_outbox_pkey", 4, outbox_column::kCount,
                                      {"task_id", "step_no", "element", "sort_key", "event", "subscription_id", "event_id", "occurred_at", "handed_to", "result"}};
constinit pg::TableShape timers_table{"timers", "timers_pkey", 3, timer_column::kCount, {"task_id", "step_no", "element", "kind", "due_at"}};
constinit pg::TableShape leases_table{"leases", "leases_pkey", 3, lease_column::kCount,
                                      {"task_id", "step_no", "element", "queue", "moves", "claim_token", "worker", "claimed_by", "claimed_at", "lease_until"}};
constinit pg::TableShape transfers_table{"transfers", "transfers_pkey", 3, transfer_column::kCount, {"task_id", "step_no", "element", "moves", "begun_at"}};

namespace {

inline constexpr int kTaskStates = 6, kStepStates = 7;

struct Labels {
  const char *task[kTaskStates], *step[kStepStates];
  Labels() {
    for (int i = 0; i < kTaskStates; i++) task[i] = core::to_string(static_cast<core::TaskState>(i));
    for (int i = 0; i < kStepStates; i++) step[i] = core::to_string(static_cast<core::StepState>(i));
  }
};
const Labels &labels() {
  static const Labels made;
  return made;
}
pg::EnumShape &task_states() {
  static pg::EnumShape shape{kTaskStates, labels().task};
  return shape;
}
pg::EnumShape &step_states() {
  static pg::EnumShape shape{kStepStates, labels().step};
  return shape;
}

}  // namespace

pg::TableRow find_task(pg::Table &tasks, std::int64_t task_id, const ItemPointerData &place) {
  const Datum key[] = {Int64GetDatum(task_id)};
  return tasks.find(key, place);
}

namespace {

pg::TableRow find_by_step(pg::Table &table, const StepKey &key, const ItemPointerData &place = {}) {
  const Datum values[] = {Int64GetDatum(key.task_id), Int32GetDatum(key.step_no), Int32GetDatum(key.element)};
  return table.find(values, place);
}

}  // namespace

pg::TableRow find_step(pg::Table &steps, const StepKey &key, const ItemPointerData &place) { return find_by_step(steps, key, place); }
pg::TableRow find_lease(pg::Table &leases, const StepKey &key) { return find_by_step(leases, key); }
pg::TableRow find_transfer(pg::Table &transfers, const StepKey &key) { return find_by_step(transfers, key); }
pg::TableRow find_timer(pg::Table &timers, const StepKey &key) { return find_by_step(timers, key); }

Datum state_datum(Oid type, core::TaskState state) { return pg::enum_datum(task_states(), type, static_cast<int>(state)); }
Datum state_datum(Oid type, core::StepState state) { return pg::enum_datum(step_states(), type, static_cast<int>(state)); }
core::TaskState task_state_of(Oid type, Datum value) { return static_cast<core::TaskState>(pg::enum_place(task_states(), type, value)); }
core::StepState step_state_of(Oid type, Datum value) { return static_cast<core::StepState>(pg::enum_place(step_states(), type, value)); }

}  // namespace tasker::store
