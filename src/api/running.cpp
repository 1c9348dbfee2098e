// running() and worker_slots(): the executors' slots as rows.
#include "api/running.hpp"

#include "api/visibility.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"

using namespace tasker;

namespace tasker::api {

namespace {

// What is told of an executor slot, copied out under its spinlock.
struct SlotCopy {
  store::ExecutorState state;
  Oid database, owner;
  int pid;
  bool in_handler, busy;
  store::StepKey current;
  int moves, named_task_id;
  TimestampTz current_started, batch_started, last_active;
};

SlotCopy copy_slot(int index) {
  store::ExecutorSlot &slot = store::executor_slot(index);
  const store::SpinGuard guard(slot);
  return {slot.state, slot.database, slot.owner, slot.pid, slot.run_number != 0, slot.assigned > slot.done, slot.current, slot.current_moves,
          slot.current_named_task, slot.current_started, slot.batch_started, slot.last_active};
}

bool works(const SlotCopy &slot) { return slot.state == store::ExecutorState::kRunning && slot.in_handler; }

const char *name_of(store::DatabaseState state) {
  switch (state) {
    case store::DatabaseState::kStarting: return "starting";
    case store::DatabaseState::kRunning: return "running";
    case store::DatabaseState::kStopping: return "stopping";
    default: return "dormant";
  }
}

void database_name(pg::RowSet &rows, Oid database) {
  const char *name = pg::call([=] { return get_database_name(database); });
  if (name) rows.text(name);
  else rows.null();
}

struct DispatcherCopy {
  Oid database;
  store::DatabaseState state;
  int pid;
};

void add_dispatchers(pg::RowSet &rows) {
  std::vector<DispatcherCopy> dispatchers;
  {
    const store::LockGuard guard(store::shared->registry, LW_SHARED);
    for (int i = 0; i < store::shared->database_count; i++) {
      const store::DatabaseSlot &slot = store::database_slot(i);
      if (slot.state == store::DatabaseState::kStarting || slot.dispatcher_pid != 0) dispatchers.push_back({slot.database, slot.state, slot.dispatcher_pid});
    }
  }
  for (const DispatcherCopy &d : dispatchers) {
    rows.text("dispatcher");
    if (d.pid != 0) rows.int4(d.pid);
    else rows.null();
    database_name(rows, d.database);
    rows.null().text(name_of(d.state)).null().null().null().null().null().end_row();
  }
}

void add_couriers(pg::RowSet &rows) {
  for (int i = 0; i < store::shared->database_count; i++) {
    store::DatabaseSlot &slot = store::database_slot(i);
    const store::CourierView courier = store::look_at_courier(slot.courier);
    if (courier.state == store::CourierState::kNone) continue;
    rows.text("courier");
    if (courier.pid != 0) rows.int4(courier.pid);
    else rows.null();
    database_name(rows, slot.database);
    rows.null().text(courier.state == store::CourierState::kStarting ? "starting" : courier.running > 0 ? "running" : courier.waiting > 0 ? "waiting" : "idle")
        .null().null().null().null().timestamp_or_null(courier.since).end_row();
  }
}

void add_executor(pg::RowSet &rows, const SlotCopy &slot) {
  rows.text("executor");
  if (slot.pid != 0) rows.int4(slot.pid);
  else rows.null();
  database_name(rows, slot.database);
  rows.text(pg::role_name(slot.owner));
  const bool starting = slot.state == store::ExecutorState::kStarting;
  // Between two handlers of a batch, or at its end: busy without a current step.
  rows.text(starting ? "starting" : slot.in_handler ? "running" : slot.busy ? "committing" : "idle");
  if (works(slot) && slot.database == MyDatabaseId)
    rows.int8(slot.current.task_id).int4(slot.current.step_no).int4(slot.current.element).int4(slot.named_task_id);
  else
    rows.null().null().null().null();
  const TimestampTz since = slot.in_handler ? slot.current_started : slot.busy ? slot.batch_started : slot.last_active;
  rows.timestamp_or_null(since != 0 ? std::optional<TimestampTz>(since) : std::nullopt).end_row();
}

// owner and created_by of a running step's task, as the table has them.
bool visible(Viewer &viewer, const RunningStep &step) {
  if (viewer.sees(step.owner, step.owner)) return true;
  const FoundRow task = read_row(kTasks, {.count = 1, .first = step.key.task_id}, {"created_by"});
  return task.found && viewer.sees(step.owner, DatumGetObjectId(task.value[0]));
}

}  // namespace

std::vector<RunningStep> running_steps() {
  std::vector<RunningStep> out;
  if (store::shared == nullptr) return out;
  for (int i = 0; i < store::shared->executor_count; i++) {
    const SlotCopy slot = copy_slot(i);
    if (works(slot) && slot.database == MyDatabaseId) out.push_back({slot.current, slot.moves, slot.pid, slot.owner, slot.current_started});
  }
  return out;
}

}  // namespace tasker::api

TASKER_SQL_FUNCTION(tasker_running) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    api::Viewer viewer(GetUserId());
    for (const api::RunningStep &step : api::running_steps()) {
      if (!api::visible(viewer, step)) continue;
      rows.int8(step.key.task_id).int4(step.key.step_no).int4(step.key.element).int4(step.moves).int4(step.pid)
          .datum(ObjectIdGetDatum(step.owner)).datum(TimestampTzGetDatum(step.started_at)).end_row();
    }
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_worker_slots) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    if (store::shared == nullptr) return Datum(0);
    if (const int launcher = store::shared->launcher_pid; launcher != 0)
      rows.text("launcher").int4(launcher).null().null().text("running").null().null().null().null().null().end_row();
    api::add_dispatchers(rows);
    api::add_couriers(rows);
    for (int i = 0; i < store::shared->executor_count; i++) {
      const api::SlotCopy slot = api::copy_slot(i);
      if (slot.state == store::ExecutorState::kStarting || slot.state == store::ExecutorState::kRunning) api::add_executor(rows, slot);
    }
    return Datum(0);
  });
}
