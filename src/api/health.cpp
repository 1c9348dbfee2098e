// Is tasker healthy here? Counts, probes for load balancers and alerts, each explaining itself.
#include <csignal>

#include "core/json.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"
#include "store/ready_sql.hpp"
#include "store/settings.hpp"

using namespace tasker;

namespace {

using core::json;

// Live work is counted in its rows, finished work in the tallies. A step that a worker runs counts as in progress,
// as in the views; a task whose first step runs as well.
constinit pg::Query select_counts{
    "WITH running AS MATERIALIZED (SELECT r.task_id, r.step_no, r.element, r.moves FROM tasker.running() AS r),"
    " live_tasks AS (SELECT count(*) FILTER (WHERE t.state = 'pending' AND NOT EXISTS (SELECT FROM running r WHERE r.task_id = t.task_id)) AS pending,"
    "   count(*) AS total FROM tasker.tasks t WHERE t.live),"
    " live_steps AS (SELECT count(*) AS total, count(*) FILTER (WHERE x.now = 'pending') AS pending,"
    "   count(*) FILTER (WHERE x.now = 'in_progress') AS in_progress, count(*) FILTER (WHERE x.now = 'complete') AS complete,"
    "   count(*) FILTER (WHERE x.now = 'error') AS error, count(*) FILTER (WHERE x.now = 'cancelled') AS cancelled,"
    "   count(*) FILTER (WHERE x.now = 'resolved_manually') AS resolved, count(*) FILTER (WHERE x.now = 'skipped') AS skipped,"
    "   count(*) FILTER (WHERE x.now = 'error' AND x.again) AS retryable,"
    "   count(*) FILTER (WHERE x.now = 'error' AND x.again AND x.next_attempt_at > clock_timestamp()) AS in_backoff"
    "   FROM (SELECT CASE WHEN r.task_id IS NULL THEN s.state ELSE 'in_progress' END AS now, s.next_attempt_at,"
    "       NOT s.permanent AND d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts) AS again"
    "     FROM tasker.tasks t JOIN tasker.workflow_steps s ON s.task_id = t.task_id"
    "     JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no"
    "     LEFT JOIN running r ON r.task_id = s.task_id AND r.step_no = s.step_no AND r.element = s.element AND r.moves = s.moves"
    "       AND s.state IN ('pending', 'error') WHERE t.live) x),"
    " over AS (SELECT coalesce(sum(y.tasks_complete), 0) AS tc, coalesce(sum(y.tasks_error), 0) AS te, coalesce(sum(y.tasks_cancelled), 0) AS tx,"
    "   coalesce(sum(y.tasks_resolved_manually), 0) AS tr, coalesce(sum(y.steps_pending), 0) AS sp, coalesce(sum(y.steps_complete), 0) AS sc,"
    "   coalesce(sum(y.steps_error), 0) AS se, coalesce(sum(y.steps_cancelled), 0) AS sx, coalesce(sum(y.steps_resolved_manually), 0) AS sr,"
    "   coalesce(sum(y.steps_skipped), 0) AS ss, coalesce(sum(y.error_steps_retryable), 0) AS er, coalesce(sum(y.error_steps_exhausted), 0) AS ee"
    "   FROM tasker.tallies y)"
    " SELECT (lt.total + tc + te + tx + tr)::bigint, lt.pending, lt.total - lt.pending, tc::bigint, te::bigint, tx::bigint, tr::bigint,"
    " (ls.total + sp + sc + se + sx + sr + ss)::bigint, (ls.pending + sp)::bigint, ls.in_progress, (ls.complete + sc)::bigint, (ls.error + se)::bigint,"
    " (ls.cancelled + sx)::bigint, (ls.resolved + sr)::bigint, (ls.skipped + ss)::bigint, (ls.retryable + er)::bigint,"
    " (ls.error - ls.retryable + ee)::bigint, ls.in_backoff,"
    " (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datname = current_database() AND a.state = 'active'),"
    " current_setting('max_connections')::bigint"
    " FROM live_tasks lt CROSS JOIN live_steps ls CROSS JOIN over",
    0, {}};
constexpr int kCountColumns = 20;

constinit pg::Query select_connections{
    "SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'client backend'", 0, {}};

// Is this database paused as a whole?
constinit pg::Query select_pause{
    "SELECT to_char(p.paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || coalesce(' (' || p.reason || ')', '') FROM tasker.scope_pauses p"
    " WHERE p.resumed_at IS NULL AND p.task_namespace_id IS NULL",
    0, {}};

// Of the oldest live tasks, as the oldest ready step is theirs: how long has one been ready without running?
constinit pg::Query select_oldest_ready{
    "SELECT extract(epoch FROM clock_timestamp() - min(" TASKER_STEP_READY_SINCE "))::float8"
    " FROM (SELECT * FROM tasker.tasks l WHERE l.live ORDER BY l.task_id LIMIT 1000) t JOIN tasker.workflow_steps s ON s.task_id = t.task_id"
    " JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no"
    " JOIN tasker.named_tasks n ON n.named_task_id = t.named_task_id"
    // Those under a limit may wait for that.
    " WHERE " TASKER_STEP_COULD_RUN " AND NOT " TASKER_STEP_IS_LIMITED
    " AND NOT EXISTS (SELECT FROM tasker.running() r WHERE r.task_id = s.task_id AND r.step_no = s.step_no)",
    0, {}};

// Half-open counts too: the system may work again, but nobody knows it yet.
constinit pg::Query select_open_breakers{
    "SELECT d.name, b.state FROM tasker.breakers b CROSS JOIN LATERAL (SELECT * FROM tasker.dependent_systems x"
    " WHERE x.dependent_system_id = b.dependent_system_id OFFSET 0) d WHERE b.state <> 'closed' ORDER BY d.name",
    0, {}};

// What is wrong, in ascending order of what it means for the status.
enum class Grade : int { kHealthy, kDegraded, kUnhealthy, kHeld, kStandby };
constexpr const char *kGradeNames[] = {"healthy", "degraded", "unhealthy", "held", "standby"};

class Report {
 public:
  void check(const char *name, bool ok, json facts, Grade grade, const std::string &reason) {
    facts["ok"] = ok;
    checks_[name] = std::move(facts);
    if (ok) return;
    reasons_.push_back(reason);
    grade_ = std::max(grade_, grade);
  }
  Grade grade() const { return grade_; }

  Datum write(FunctionCallInfo fcinfo) const {
    pg::RowSet rows(fcinfo);
    pg::ArrayBuilder reasons(TEXTOID);
    for (const std::string &reason : reasons_) reasons.text(reason);
    rows.text(kGradeNames[static_cast<int>(grade_)]).datum(pg::jsonb_datum(checks_.dump(-1, ' ', false, json::error_handler_t::replace)))
        .datum(reasons.datum()).end_row();
    return Datum(0);
  }

 private:
  json checks_ = json::object();
  std::vector<std::string> reasons_;
  Grade grade_ = Grade::kHealthy;
};

// A copy of what the launcher and the dispatcher say of themselves.
struct Workers {
  int launcher_pid = 0, databases = 0;
  bool known = false;  // this database has a slot
  store::DatabaseState state = store::DatabaseState::kFree;
  int dispatcher_pid = 0, failures = 0;
};

Workers look_at_workers() {
  Workers out;
  const store::LockGuard guard(store::shared->registry, LW_SHARED);
  out.launcher_pid = store::shared->launcher_pid;
  for (int i = 0; i < store::shared->database_count; i++) out.databases += store::database_slot(i).state != store::DatabaseState::kFree ? 1 : 0;
  const int index = store::find_database(MyDatabaseId, false);
  if (index < 0) return out;
  const store::DatabaseSlot &slot = store::database_slot(index);
  out.known = true;
  out.state = slot.state;
  out.dispatcher_pid = slot.dispatcher_pid;
  out.failures = slot.failures;
  return out;
}

bool alive(int pid) { return pid > 0 && kill(pid, 0) == 0; }

const char *name_of(store::DatabaseState state) {
  switch (state) {
    case store::DatabaseState::kFree: return "unknown to the launcher";
    case store::DatabaseState::kUnknown: return "to be visited";
    case store::DatabaseState::kStarting: return "starting";
    case store::DatabaseState::kRunning: return "running";
    case store::DatabaseState::kDormant: return "dormant";
    case store::DatabaseState::kStopping: return "stopping";
  }
  return "";
}

void check_workers(Report &report) {
  const bool preloaded = store::shared != nullptr;
  report.check("preload", preloaded, json::object(), Grade::kDegraded, "tasker is not in shared_preload_libraries: nothing runs in the background");
  if (!preloaded) return;
  const Workers workers = look_at_workers();
  report.check("launcher", alive(workers.launcher_pid), {{"pid", workers.launcher_pid}}, Grade::kUnhealthy, "the launcher is not running");
  const bool failing = workers.failures > 0 && workers.state != store::DatabaseState::kRunning;
  report.check("dispatcher", workers.known && !failing, {{"state", name_of(workers.state)}, {"pid", workers.dispatcher_pid}, {"failed_starts", workers.failures}},
               Grade::kUnhealthy,
               workers.known ? "the dispatcher of this database has failed " + std::to_string(workers.failures) + " times in a row: see the server log"
                             : "the launcher does not know this database: are there more than tasker.max_databases?");
  const int databases = std::max(1, workers.databases), needed = 1 + 2 * databases + store::settings.max_executors;
  report.check("worker_slots", max_worker_processes >= needed,
               {{"max_worker_processes", max_worker_processes}, {"needed", needed}, {"databases", databases}, {"max_executors", store::settings.max_executors}},
               Grade::kDegraded,
               "max_worker_processes is " + std::to_string(max_worker_processes) + ", tasker alone may want " + std::to_string(needed));
}

// Everything that decides whether steps of this database run. Precondition: inside pg::OwnerScope and pg::Spi.
void check_ready(Report &report) {
  report.check("extension", true, {{"version", TASKER_VERSION}}, Grade::kUnhealthy, "");
  const bool standby = RecoveryInProgress();
  report.check("primary", !standby, json::object(), Grade::kStandby, "this server is a standby: it shows tasks and runs none");
  if (standby) return;
  check_workers(report);
  const store::Home home = store::load_home(false);
  report.check("not_held", !home.held, json::object(), Grade::kHeld, "this database is held: " + home.reason + "; see tasker.release_hold");
  const pg::Result pause = pg::execute(select_pause, {}, pg::Access::kRead);
  report.check("not_paused", pause.rows.empty(), json::object(), Grade::kDegraded,
               pause.rows.empty() ? "" : "this database is paused since " + pause.rows.text(0, 1) + "; see tasker.resume_tasks");
}

double rate(std::int64_t part, std::int64_t whole) { return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0; }
std::string percent(double share) { return std::to_string(static_cast<int>(share * 100)) + " %"; }

void check_breakers(Report &report) {
  const pg::Result open = pg::execute(select_open_breakers, {}, pg::Access::kRead);
  json systems = json::object();
  std::string names;
  for (std::uint64_t i = 0; i < open.rows.size(); i++) {
    const std::string name = open.rows.text(i, 1);
    systems[name] = open.rows.text(i, 2);
    names += (names.empty() ? "" : ", ") + name;
  }
  report.check("circuit_breakers", systems.empty(), {{"not_closed", systems}}, Grade::kDegraded, "circuit breakers are not closed: " + names);
}

void check_load(Report &report) {
  const pg::Result counts = pg::execute(select_counts, {}, pg::Access::kRead);
  const auto count = [&](int column) { return counts.rows.int8(0, column); };
  const double tasks = rate(count(5), count(4) + count(5) + count(6) + count(7)), steps = rate(count(12), count(8));
  report.check("task_errors", tasks <= 0.5, {{"rate", tasks}}, Grade::kDegraded, percent(tasks) + " of the finished tasks ended in error");
  report.check("step_errors", steps <= 0.5, {{"rate", steps}}, Grade::kDegraded, percent(steps) + " of all steps are in error");

  const std::int64_t connections = pg::execute(select_connections, {}, pg::Access::kRead).rows.int8(0, 1), most = count(20);
  const double used = rate(connections, most);
  report.check("connections", used <= 0.9, {{"used", connections}, {"max", most}}, Grade::kDegraded, percent(used) + " of the connections are in use");

  check_breakers(report);
  const pg::Result oldest = pg::execute(select_oldest_ready, {}, pg::Access::kRead);
  const double age = oldest.rows.is_null(0, 1) ? 0 : std::max(0.0, oldest.rows.float8(0, 1));
  // A step that waited for a whole sweep was looked at and passed over.
  const bool expected_to_run = report.grade() <= Grade::kUnhealthy && store::shared != nullptr;
  report.check("oldest_ready_step", !expected_to_run || age <= store::settings.sweep_interval_s, {{"age_seconds", age}}, Grade::kDegraded,
               "a step has been ready for " + std::to_string(static_cast<std::int64_t>(age)) + " s and does not run");
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_get_system_health_counts) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    pg::Spi spi;
    pg::OwnerScope as_owner;
    const pg::Result counts = pg::execute(select_counts, {}, pg::Access::kRead);
    for (int column = 1; column <= kCountColumns; column++) rows.int8(counts.rows.int8(0, column));
    rows.end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_health_ready) {
  return pg::entry([&]() -> Datum {
    Report report;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner;
      check_ready(report);
    }
    return report.write(fcinfo);
  });
}

TASKER_SQL_FUNCTION(tasker_health_live) {
  return pg::entry([&]() -> Datum {
    Report report;
    report.check("answers", true, json::object(), Grade::kUnhealthy, "");
    return report.write(fcinfo);
  });
}

TASKER_SQL_FUNCTION(tasker_health_status) {
  return pg::entry([&]() -> Datum {
    Report report;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner;
      check_ready(report);
      check_load(report);
    }
    return report.write(fcinfo);
  });
}
