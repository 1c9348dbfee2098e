#include "insight/metrics.hpp"

#include <algorithm>

#include "pg/spi.hpp"
#include "store/facts.hpp"
#include "store/metric_totals.hpp"
#include "store/ready_sql.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"

namespace tasker::insight {

namespace {

using core::Metrics;
using core::MetricType;

// More live tasks than that are not looked through for ready steps.
inline constexpr std::int64_t kTasksLookedAt = 100'000;

constinit pg::Query select_tasks{
    "SELECT count(*) FILTER (WHERE t.live AND t.state = 'pending'), count(*) FILTER (WHERE t.live AND t.state = 'in_progress'), count(*) FILTER (WHERE t.failing)"
    " FROM tasker.tasks t WHERE t.live OR t.failing",
    0, {}};

// External steps are counted in their queues.
constinit pg::Query select_ready{
    "WITH running AS MATERIALIZED (SELECT r.task_id, r.step_no FROM tasker.running() AS r)"
    " SELECT ns.name::text, coalesce(x.steps, 0), coalesce(x.age, 0) FROM tasker.task_namespaces ns"
    " LEFT JOIN (SELECT n.task_namespace_id, count(*) AS steps,"
    "     extract(epoch FROM clock_timestamp() - min(CASE WHEN NOT " TASKER_STEP_IS_LIMITED " THEN " TASKER_STEP_READY_SINCE " END))::float8 AS age"
    "   FROM (SELECT * FROM tasker.tasks l WHERE l.runnable LIMIT $1) t JOIN tasker.workflow_steps s ON s.task_id = t.task_id"
    "   JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no"
    "   JOIN tasker.named_tasks n ON n.named_task_id = t.named_task_id"
    "   WHERE " TASKER_STEP_COULD_RUN " AND d.handler_type <> 'external'"
    "   AND NOT EXISTS (SELECT FROM running r WHERE r.task_id = s.task_id AND r.step_no = s.step_no)"
    "   GROUP BY n.task_namespace_id) x ON x.task_namespace_id = ns.task_namespace_id"
    " ORDER BY ns.name",
    1, {INT8OID}};

constinit pg::Query select_queues{
    "SELECT q.queue, coalesce(w.waiting, 0), coalesce(w.age, 0), coalesce(c.claimed, 0)"
    " FROM (SELECT d.handler ->> 'queue' AS queue FROM tasker.named_steps d WHERE d.handler_type = 'external'"
    "   UNION SELECT i.queue FROM tasker.queue_items i UNION SELECT l.queue FROM tasker.leases l) q"
    " CROSS JOIN LATERAL (SELECT count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(i.offered_at))::float8 AS age"
    "   FROM tasker.queue_items i WHERE i.queue = q.queue OFFSET 0) w"
    " CROSS JOIN LATERAL (SELECT count(*) AS claimed FROM tasker.leases l WHERE l.queue = q.queue OFFSET 0) c"
    " ORDER BY q.queue",
    0, {}};

constinit pg::Query select_timers{
    "SELECT k.kind, coalesce(x.number, 0), coalesce(x.lag, 0) FROM unnest('{backoff,deadline,lease,run_at,timeout,wait}'::text[]) AS k(kind)"
    " LEFT JOIN (SELECT m.kind, count(*) AS number, greatest(0, extract(epoch FROM clock_timestamp() - min(m.due_at)))::float8 AS lag FROM tasker.timers m GROUP BY m.kind) x"
    "   ON x.kind = k.kind ORDER BY k.kind",
    0, {}};

// A row tells of each change of state in its number of moves, which no restart lowers.
constinit pg::Query select_breakers{
    "SELECT c.system, c.state, coalesce(c.waiting_steps, 0), b.moves FROM tasker.circuit_breakers c"
    " CROSS JOIN LATERAL (SELECT x.moves FROM tasker.dependent_systems y JOIN tasker.breakers x ON x.dependent_system_id = y.dependent_system_id"
    "   WHERE y.name = c.system OFFSET 0) b ORDER BY c.system",
    0, {}};

constinit pg::Query select_limits{
    "SELECT l.namespace, l.name, l.step_name, l.key, l.running, l.waiting FROM tasker.step_limits l WHERE l.running IS NOT NULL"
    " ORDER BY l.namespace, l.name NULLS FIRST, l.step_name NULLS FIRST, l.key NULLS FIRST",
    0, {}};

constinit pg::Query select_rest{
    "SELECT (SELECT count(*) FROM tasker.event_outbox), EXISTS (SELECT FROM tasker.scope_pauses p WHERE p.resumed_at IS NULL AND p.task_namespace_id IS NULL)", 0, {}};

double number(std::int64_t value) { return static_cast<double>(value); }
double yes(bool value) { return value ? 1 : 0; }

void add_totals(Metrics &to) {
  to.declare("tasker_step_attempts_total", MetricType::kCounter, "Attempts of steps that have ended, but for those of type noop");
  to.declare("tasker_step_retries_total", MetricType::kCounter, "Attempts of steps that have ended, after the first");
  to.declare("tasker_tasks_created_total", MetricType::kCounter, "Tasks created");
  to.declare("tasker_tasks_ended_total", MetricType::kCounter, "Tasks that came to a state in which they end; one that is rerun ends again");
  for (const store::MetricTotals &total : store::load_metric_totals()) {
    const core::MetricLabels labels{{"namespace", total.ns}, {"name", total.name}};
    const auto with = [&](const char *label, const char *value) {
      core::MetricLabels out = labels;
      out.emplace_back(label, value);
      return out;
    };
    to.add("tasker_step_attempts_total", with("outcome", "success"), number(total.successes));
    to.add("tasker_step_attempts_total", with("outcome", "failure"), number(total.attempts - total.successes));
    to.add("tasker_step_retries_total", labels, number(total.retries));
    const auto tasks = [&](core::TaskState state) {
      const auto found = total.tasks.find(state);
      return found == total.tasks.end() ? 0.0 : number(found->second);
    };
    to.add("tasker_tasks_created_total", labels, tasks(core::TaskState::kPending));
    for (const core::TaskState state : {core::TaskState::kComplete, core::TaskState::kError, core::TaskState::kCancelled, core::TaskState::kResolvedManually})
      to.add("tasker_tasks_ended_total", with("state", core::to_string(state)), tasks(state));
  }
}

void add_durations(Metrics &to) {
  to.declare("tasker_step_duration_seconds", MetricType::kHistogram, "How long attempts of steps took that succeeded, but for those of type noop");
  to.declare("tasker_task_duration_seconds", MetricType::kHistogram, "How long tasks that are complete took, from the start of their first step");
  for (const store::DurationTotals &total : store::load_duration_totals()) {
    to.add_durations("tasker_step_duration_seconds", {{"namespace", total.ns}}, total.steps);
    to.add_durations("tasker_task_duration_seconds", {{"namespace", total.ns}}, total.tasks);
  }
}

void add_live_work(Metrics &to) {
  const pg::Result tasks = pg::execute(select_tasks, {}, pg::Access::kRead);
  to.declare("tasker_live_tasks", MetricType::kGauge, "Tasks that have not ended, by state");
  to.add("tasker_live_tasks", {{"state", "pending"}}, number(tasks.rows.int8(0, 1)));
  to.add("tasker_live_tasks", {{"state", "in_progress"}}, number(tasks.rows.int8(0, 2)));
  to.declare("tasker_failing_tasks", MetricType::kGauge, "Tasks, live or ended, with a step that has failed for good and waits for somebody's decision");
  to.add("tasker_failing_tasks", {}, number(tasks.rows.int8(0, 3)));

  to.declare("tasker_ready_steps", MetricType::kGauge, "Steps that could run and wait for an executor, the courier or a limit");
  to.declare("tasker_oldest_ready_step_age_seconds", MetricType::kGauge, "How long the oldest ready step that is under no limit has been ready; 0 without one");
  const pg::Result ready = pg::execute(select_ready, pg::Params().int8(kTasksLookedAt), pg::Access::kRead);
  for (std::uint64_t i = 0; i < ready.rows.size(); i++) {
    const core::MetricLabels labels{{"namespace", ready.rows.text(i, 1)}};
    to.add("tasker_ready_steps", labels, number(ready.rows.int8(i, 2)));
    to.add("tasker_oldest_ready_step_age_seconds", labels, std::max(0.0, ready.rows.float8(i, 3)));
  }

  to.declare("tasker_queued_steps", MetricType::kGauge, "External steps that wait for a worker to claim them");
  to.declare("tasker_oldest_queued_step_age_seconds", MetricType::kGauge, "How long the oldest external step that is unclaimed has waited; 0 without one");
  to.declare("tasker_claimed_steps", MetricType::kGauge, "External steps that a worker has claimed");
  const pg::Result queues = pg::execute(select_queues, {}, pg::Access::kRead);
  for (std::uint64_t i = 0; i < queues.rows.size(); i++) {
    const core::MetricLabels labels{{"queue", queues.rows.text(i, 1)}};
    to.add("tasker_queued_steps", labels, number(queues.rows.int8(i, 2)));
    to.add("tasker_oldest_queued_step_age_seconds", labels, std::max(0.0, queues.rows.float8(i, 3)));
    to.add("tasker_claimed_steps", labels, number(queues.rows.int8(i, 4)));
  }

  to.declare("tasker_timers", MetricType::kGauge, "What becomes due by itself, by kind: waits, backoffs, deadlines, leases");
  to.declare("tasker_timer_lag_seconds", MetricType::kGauge, "How long the most overdue timer of a kind is overdue; 0 when none is");
  const pg::Result timers = pg::execute(select_timers, {}, pg::Access::kRead);
  for (std::uint64_t i = 0; i < timers.rows.size(); i++) {
    const core::MetricLabels labels{{"kind", timers.rows.text(i, 1)}};
    to.add("tasker_timers", labels, number(timers.rows.int8(i, 2)));
    to.add("tasker_timer_lag_seconds", labels, timers.rows.float8(i, 3));
  }

  const pg::Result rest = pg::execute(select_rest, {}, pg::Access::kRead);
  to.declare("tasker_undelivered_events", MetricType::kGauge, "Events on their way to subscribers");
  to.add("tasker_undelivered_events", {}, number(rest.rows.int8(0, 1)));
  to.declare("tasker_paused", MetricType::kGauge, "1 while all tasks of this database are paused");
  to.add("tasker_paused", {}, yes(rest.rows.boolean(0, 2)));
}

void add_breakers(Metrics &to) {
  to.declare("tasker_breaker_state", MetricType::kGauge, "1 for the state the circuit breaker of a dependent system is in, 0 for the others");
  to.declare("tasker_breaker_waiting_steps", MetricType::kGauge, "Steps that wait for a circuit breaker");
  to.declare("tasker_breaker_moves_total", MetricType::kCounter, "Changes of state of a circuit breaker");
  const pg::Result found = pg::execute(select_breakers, {}, pg::Access::kRead);
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    const std::string system = found.rows.text(i, 1), now = found.rows.text(i, 2);
    for (const char *state : {"closed", "open", "half_open"}) to.add("tasker_breaker_state", {{"system", system}, {"state", state}}, yes(now == state));
    to.add("tasker_breaker_waiting_steps", {{"system", system}}, number(found.rows.int4(i, 3)));
    to.add("tasker_breaker_moves_total", {{"system", system}}, number(found.rows.int4(i, 4)));
  }
}

void add_limits(Metrics &to) {
  to.declare("tasker_step_limit_running_steps", MetricType::kGauge, "Steps in hand under a limit of set_step_limit");
  to.declare("tasker_step_limit_waiting_steps", MetricType::kGauge, "Steps that wait for a limit of set_step_limit");
  const pg::Result found = pg::execute(select_limits, {}, pg::Access::kRead);
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    const core::MetricLabels labels{{"namespace", found.rows.text(i, 1)}, {"name", found.rows.text(i, 2)}, {"step", found.rows.text(i, 3)}, {"key", found.rows.text(i, 4)}};
    to.add("tasker_step_limit_running_steps", labels, number(found.rows.int8(i, 5)));
    to.add("tasker_step_limit_waiting_steps", labels, number(found.rows.int8(i, 6)));
  }
}

// ---- shared memory: what the workers of this database say of themselves

struct Workers {
  bool dispatcher = false;
  int concurrency = 0;
  int starting = 0, running = 0, committing = 0, idle = 0;
  store::CourierView courier;
};

void count_executor(Workers &to, store::ExecutorSlot &slot) {
  const store::SpinGuard guard(slot);
  if (slot.database != MyDatabaseId) return;
  if (slot.state == store::ExecutorState::kStarting) to.starting++;
  if (slot.state != store::ExecutorState::kRunning) return;
  int &kind = slot.run_number != 0 ? to.running : slot.assigned > slot.done ? to.committing : to.idle;
  kind++;
}

Workers look_at_workers() {
  Workers out;
  if (store::shared == nullptr) return out;
  {
    const store::LockGuard guard(store::shared->registry, LW_SHARED);
    if (const int index = store::find_database(MyDatabaseId, false); index >= 0) {
      store::DatabaseSlot &slot = store::database_slot(index);
      out.dispatcher = slot.dispatcher_pid != 0;
      out.concurrency = slot.concurrency;
      out.courier = store::look_at_courier(slot.courier);
    }
  }
  for (int i = 0; i < store::shared->executor_count; i++) count_executor(out, store::executor_slot(i));
  return out;
}

void add_workers(Metrics &to) {
  const Workers workers = look_at_workers();
  to.declare("tasker_dispatcher_running", MetricType::kGauge, "1 while a dispatcher serves this database; without live work there is none");
  to.add("tasker_dispatcher_running", {}, yes(workers.dispatcher));
  to.declare("tasker_executors", MetricType::kGauge, "Executors of this database, by what they do");
  to.add("tasker_executors", {{"state", "starting"}}, workers.starting);
  to.add("tasker_executors", {{"state", "running"}}, workers.running);
  to.add("tasker_executors", {{"state", "committing"}}, workers.committing);
  to.add("tasker_executors", {{"state", "idle"}}, workers.idle);
  to.declare("tasker_executors_allowed", MetricType::kGauge, "Executors this database may have, as its dispatcher has decided last");
  const int most = store::shared != nullptr ? store::settings.max_executors : 0;
  to.add("tasker_executors_allowed", {}, workers.concurrency > 0 ? std::min(workers.concurrency, most) : most);
  to.declare("tasker_calls", MetricType::kGauge, "HTTP calls that the courier has under way, and that wait for it");
  to.add("tasker_calls", {{"state", "running"}}, workers.courier.running);
  to.add("tasker_calls", {{"state", "waiting"}}, workers.courier.waiting);
}

void add_server(Metrics &to) {
  to.declare("tasker_info", MetricType::kGauge, "1, with the version of the extension's library");
  to.add("tasker_info", {{"version", TASKER_VERSION}}, 1);
  to.declare("tasker_preloaded", MetricType::kGauge, "1 when tasker is in shared_preload_libraries, without which nothing runs in the background");
  to.add("tasker_preloaded", {}, yes(store::shared != nullptr));
  const bool standby = RecoveryInProgress();
  to.declare("tasker_standby", MetricType::kGauge, "1 on a standby, which shows tasks and runs none");
  to.add("tasker_standby", {}, yes(standby));
  to.declare("tasker_held", MetricType::kGauge, "1 while this database is held, as a copy of another is");
  to.add("tasker_held", {}, yes(!standby && store::load_home(false).held));
}

}  // namespace

core::Metrics gather_metrics() {
  Metrics out;
  add_totals(out);
  add_durations(out);
  add_live_work(out);
  add_breakers(out);
  add_limits(out);
  add_workers(out);
  add_server(out);
  return out;
}

}  // namespace tasker::insight
