// create_task(s), annotate_task, wait_for_task, run_task.
#include "core/definition.hpp"
#include "engine/control.hpp"
#include "engine/create.hpp"
#include "engine/session_run.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"
#include "store/retention.hpp"

using namespace tasker;

namespace {

constinit pg::Query insert_annotation{
    "INSERT INTO tasker.task_annotations (task_id, annotation_type, annotation, created_by) VALUES ($1, $2, $3, $4)", 4,
    {INT8OID, TEXTOID, JSONBOID, OIDOID}};
constinit pg::Query select_state{
    "SELECT t.state::text, t.owner::oid, t.created_by::oid, t.xmin = pg_current_xact_id_if_assigned()::xid FROM tasker.tasks t WHERE t.task_id = $1", 1, {INT8OID}};
constinit pg::Query state_value{"SELECT $1::tasker.task_state", 1, {TEXTOID}};

double interval_ms(Datum interval) {
  return pg::call([=] {
    const Datum epoch = DirectFunctionCall2(extract_interval, PointerGetDatum(cstring_to_text("epoch")), interval);
    return DatumGetFloat8(DirectFunctionCall1(numeric_float8, epoch)) * 1000.0;
  });
}

// The state when the caller may see the task; raises 02000 otherwise.
core::TaskState visible_state(std::int64_t task_id, bool *own_transaction) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const pg::Result found = pg::execute(select_state, pg::Params().int8(task_id));
  if (found.rows.empty() || !(engine::may_control(caller, found.rows.oid(0, 2), found.rows.oid(0, 3)) || engine::has_level(caller, "monitor")))
    throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
  *own_transaction = found.rows.boolean(0, 4);
  return core::parse_task_state(found.rows.text(0, 1)).value();
}

Datum state_datum(core::TaskState state) {
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  return pg::execute(state_value, pg::Params().text(core::to_string(state))).rows.datum(0, 1);
}

// Sleeps on the bucket of the task; leaves the condition variable on every path.
class Waiter {
 public:
  explicit Waiter(std::int64_t task_id) : variable_(&store::shared->finished[static_cast<std::uint64_t>(task_id) % store::kWaitBuckets]) {
    ConditionVariable *v = variable_;
    pg::call([=] { ConditionVariablePrepareToSleep(v); });
  }
  ~Waiter() { ConditionVariableCancelSleep(); }
  Waiter(const Waiter &) = delete;
  Waiter &operator=(const Waiter &) = delete;
  void sleep(long milliseconds) {
    static constinit std::uint32_t event = 0;
    ConditionVariable *v = variable_;
    const std::uint32_t e = pg::wait_event(&event, "TaskerWaitForTask");
    pg::call([=] { (void)ConditionVariableTimedSleep(v, milliseconds, e); });
  }

 private:
  ConditionVariable *variable_;
};

}  // namespace

TASKER_SQL_FUNCTION(tasker_create_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::NewTasks request;
    request.ns = args.text(0, "namespace");
    request.name = args.text(1, "name");
    request.contexts = {args.jsonb(2, "context")};
    request.version = args.text_or_null(3);
    request.priority = args.int4(4, "priority");
    request.run_at = DatumGetTimestampTz(args.datum(5, "run_at"));
    request.idempotency_keys = {args.text_or_null(6)};
    request.initiator = args.text_or_null(7);
    request.source_system = args.text_or_null(8);
    request.reason = args.text_or_null(9);
    request.tags = args.texts(10, "tags");
    request.bypass_steps = args.texts(11, "bypass_steps");
    request.correlation_id = args.text_or_null(12);
    if (!args.is_null(13)) {
      const Datum seconds = args.datum(13, "deadline_seconds");
      request.deadline_seconds = pg::call([=] { return DatumGetFloat8(DirectFunctionCall1(numeric_float8, seconds)); });
    }
    return Int64GetDatum(engine::create_tasks(request).front());
  });
}

TASKER_SQL_FUNCTION(tasker_create_tasks) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::NewTasks request;
    request.ns = args.text(0, "namespace");
    request.name = args.text(1, "name");
    (void)args.datum(2, "contexts");
    request.contexts = args.jsonbs(2, "contexts");
    request.version = args.text_or_null(3);
    request.priority = args.int4(4, "priority");
    request.run_at = DatumGetTimestampTz(args.datum(5, "run_at"));
    request.idempotency_keys = args.texts_or_nulls(6);
    request.tags = args.texts(7, "tags");
    request.correlation_id = args.text_or_null(8);
    pg::RowSet rows(fcinfo);
    if (!request.contexts.empty())
      for (std::int64_t id : engine::create_tasks(request)) rows.int8(id).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_annotate_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const std::string type = args.text(1, "type");
    if (const std::string problem = core::name_problem(type, 64); !problem.empty())
      throw tasker::Error(sqlstate::kInvalidParameter, "annotation type " + problem);
    const Datum annotation = args.jsonb(2, "annotation");
    const Oid caller = GetUserId(), session = GetSessionUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const auto task = store::load_task(task_id, store::RowLock::kNone);
    if (!task || !engine::may_control(caller, task->owner, task->created_by) || (!task->live && !store::keep_from_removal(task_id)))
      throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
    pg::execute(insert_annotation, pg::Params().int8(task_id).text(type).datum(annotation).oid(session));
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_wait_for_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    if (store::shared == nullptr)
      throw tasker::Error(sqlstate::kNeedsPreload, "wait_for_task needs background workers", {}, "Add tasker to shared_preload_libraries and restart.");
    if (engine::running_task() != 0)
      throw tasker::Error(sqlstate::kObjectNotReady, "a step cannot wait for a task", {}, "It would hold its executor; poll from outside, or make the wait a step of its own.");
    if (IsolationUsesXactSnapshot())
      throw tasker::Error(sqlstate::kObjectNotReady, "wait_for_task cannot see changes in REPEATABLE READ or SERIALIZABLE", {}, "Use READ COMMITTED.");
    bool own = false;
    core::TaskState state = visible_state(task_id, &own);
    if (own && !core::finished(state))
      throw tasker::Error(sqlstate::kObjectNotReady, "task " + std::to_string(task_id) + " was created or changed by this transaction", {}, "Commit first, then wait.");
    const bool bounded = !args.is_null(1);
    const TimestampTz until = bounded ? GetCurrentTimestamp() + static_cast<TimestampTz>(interval_ms(args.datum(1, "timeout")) * 1000.0) : 0;
    Waiter waiter(task_id);
    for (;;) {
      state = visible_state(task_id, &own);
      if (core::finished(state)) return state_datum(state);
      // A bound on each sleep: the only way to miss a wake-up is a transaction that finished thousands of tasks.
      long slice = 1000;
      if (bounded) {
        const TimestampTz left = until - GetCurrentTimestamp();
        if (left <= 0) break;
        slice = std::min<long>(slice, static_cast<long>(left / 1000) + 1);
      }
      waiter.sleep(slice);
    }
    fcinfo->isnull = true;
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_run_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const auto *context = reinterpret_cast<const CallContext *>(fcinfo->context);
    const bool may_commit = context != nullptr && IsA(context, CallContext) && !context->atomic;
    engine::run_in_session(args.int8(0, "task_id"), args.boolean(1, "skip_waits"), may_commit);
    return Datum(0);
  });
}
