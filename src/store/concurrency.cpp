#include "store/concurrency.hpp"

#include <algorithm>

#include "pg/spi.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

namespace {

constinit pg::Query count_clients{
    "SELECT count(*)::integer FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.backend_type = 'client backend'", 0, {}};

// A table's estimate counts only where more are open than are looked at.
constinit pg::Query select_load{
    "WITH over AS (SELECT coalesce(sum(y.tasks_complete + y.tasks_error + y.tasks_cancelled + y.tasks_resolved_manually), 0)::bigint AS tasks,"
    "   coalesce(sum(y.steps_pending + y.steps_complete + y.steps_error + y.steps_cancelled + y.steps_resolved_manually + y.steps_skipped), 0)::bigint AS steps"
    "   FROM tasker.tallies y),"
    " open AS (SELECT count(*) AS seen FROM (SELECT FROM tasker.tasks t WHERE t.live LIMIT 10000) x),"
    " estimate AS (SELECT CASE WHEN open.seen < 10000 THEN open.seen ELSE greatest(open.seen, (SELECT c.reltuples FROM pg_catalog.pg_class c"
    "   WHERE c.oid = 'tasker.tasks'::regclass)::bigint - over.tasks) END AS tasks FROM open CROSS JOIN over),"
    " sample AS (SELECT count(DISTINCT s.task_id) AS tasks, count(*) AS steps, count(*) FILTER (WHERE s.state IN ('pending', 'in_progress')) AS open"
    "   FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.live ORDER BY t.task_id LIMIT 200) t"
    "   CROSS JOIN LATERAL (SELECT w.task_id, w.state FROM tasker.workflow_steps w WHERE w.task_id = t.task_id OFFSET 0) s)"
    " SELECT e.tasks, over.tasks + e.tasks, coalesce(e.tasks * m.open / nullif(m.tasks, 0), 0), over.steps + coalesce(e.tasks * m.steps / nullif(m.tasks, 0), 0)"
    " FROM estimate e CROSS JOIN over CROSS JOIN sample m",
    0, {}};

}  // namespace

int worker_slots_left(int executors) {
  int others = 0;
  for (int i = 0; i < shared->database_count; i++) {
    DatabaseSlot &slot = database_slot(i);
    if (slot.state == DatabaseState::kRunning || slot.state == DatabaseState::kStarting) others++;
    if (slot.courier.state != CourierState::kNone) others++;
  }
  return max_worker_processes - settings.reserved_worker_slots - 1 - others - executors;
}

core::ConcurrencyInputs concurrency_inputs() {
  core::ConcurrencyInputs in;
  in.min = settings.min_concurrent_steps;
  in.max = settings.max_concurrent_steps;
  int all = 0, here = 0;
  for (int i = 0; i < shared->executor_count; i++) {
    const ExecutorSlot &slot = executor_slot(i);
    if (slot.state == ExecutorState::kFree || slot.state == ExecutorState::kExited) continue;
    all++;
    here += slot.database == MyDatabaseId ? 1 : 0;
  }
  in.worker_slots = here + std::max(0, worker_slots_left(all));
  in.max_connections = MaxConnections;
  in.connections = pg::execute(count_clients, {}, pg::Access::kRead).rows.int4(0, 1);
  const pg::Result load = pg::execute(select_load, {}, pg::Access::kRead);
  in.open_tasks = load.rows.int8(0, 1);
  in.tasks = load.rows.int8(0, 2);
  in.open_steps = load.rows.int8(0, 3);
  in.steps = load.rows.int8(0, 4);
  return in;
}

ConcurrencyInForce concurrency_in_force() {
  ConcurrencyInForce out{settings.max_concurrent_steps, false, 0};
  if (shared == nullptr || !settings.dynamic_concurrency) return out;
  const LockGuard guard(shared->registry, LW_SHARED);
  const int index = find_database(MyDatabaseId, false);
  if (index < 0 || database_slot(index).concurrency == 0) return out;
  return {database_slot(index).concurrency, true, database_slot(index).concurrency_at};
}

}  // namespace tasker::store
