// get_analytics_metrics, get_slowest_steps, get_slowest_tasks, performance_report, rebuild_analytics. Nothing in them is a payload.
#include "core/utc.hpp"
#include "insight/analytics.hpp"
#include "insight/rebuild.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"

using namespace tasker;

namespace {

using core::json;

inline constexpr int kMostRows = 1000;
inline constexpr std::int64_t kMostHours = 90 * 24;

TimestampTz moment(const pg::Args &args, int n, const char *name) {
  const TimestampTz out = DatumGetTimestampTz(args.datum(n, name));
  if (TIMESTAMP_NOT_FINITE(out)) throw tasker::Error(sqlstate::kInvalidParameter, std::string(name) + " must be finite", {}, "Counts are kept for 90 days.");
  return out;
}

TimestampTz since_of(const pg::Args &args) {
  const TimestampTz out = moment(args, 0, "since");
  if (out > GetCurrentTimestamp()) throw tasker::Error(sqlstate::kInvalidParameter, "since must not be in the future");
  return out;
}

// The arguments namespace, name, version from n on.
insight::DefinitionFilter filter_of(const pg::Args &args, int n) { return {args.text_or_null(n), args.text_or_null(n + 1), args.text_or_null(n + 2)}; }

// Precondition of all that read: inside pg::OwnerScope and pg::Spi.
insight::Definitions find(const insight::DefinitionFilter &filter) {
  insight::Definitions found = insight::find_definitions(filter);
  if (!found.empty() || (!filter.ns && !filter.name && !filter.version)) return found;
  std::string asked;
  for (const auto &[word, value] : {std::pair{"namespace", filter.ns}, {"name", filter.name}, {"version", filter.version}})
    if (value) asked += std::string(asked.empty() ? "" : ", ") + word + " \"" + *value + "\"";
  throw tasker::Error(sqlstate::kNoData, "no definition has " + asked, {}, "tasker.named_task_list shows those there are.");
}

int limit_of(const pg::Args &args) {
  const int limit = args.int4(1, "max_rows");
  if (limit < 1 || limit > kMostRows) throw tasker::Error(sqlstate::kInvalidParameter, "max_rows must be from 1 to " + std::to_string(kMostRows));
  return limit;
}

Datum seconds_of(TimestampTz from, TimestampTz to) { return pg::numeric_from_double(static_cast<double>(to - from) / 1e6, 6); }

void put_durations(pg::RowSet &rows, const core::Durations &durations) {
  if (durations.count == 0) {
    rows.null().null().null().null();
    return;
  }
  for (const double ms : {durations.mean_ms(), durations.percentile_ms(0.5), durations.percentile_ms(0.95), durations.percentile_ms(0.99)})
    rows.datum(pg::numeric_from_double(ms / 1000, 6));
}

void put_metrics(pg::RowSet &rows, TimestampTz since) {
  const TimestampTz now = GetCurrentTimestamp();
  const insight::Definitions all = insight::find_definitions({});
  const core::PeriodProfile period = insight::read_period(all, since, now);
  const core::PeriodProfile hour = insight::read_period(all, now - USECS_PER_HOUR, now);
  const insight::Extent extent = insight::count_extent();
  const core::TaskCounts &tasks = period.tasks;
  rows.int8(insight::count_active_tasks(all)).int8(extent.namespaces).int8(extent.definitions).datum(pg::numeric_from_double(hour.tasks.health_score(), 3));
  rows.int8(tasks.created).int8(tasks.complete).int8(tasks.error);
  rows.datum(pg::numeric_from_double(tasks.completion_rate() * 100, 2)).datum(pg::numeric_from_double(tasks.error_rate() * 100, 2));
  put_durations(rows, tasks.complete_durations);
  rows.int8(period.steps.attempts).int8(period.steps.failures());
  put_durations(rows, period.steps.durations);
  rows.timestamp_or_null(period.from).timestamp_or_null(now).end_row();
}

json filters_json(const insight::DefinitionFilter &filter) {
  const auto member = [](const std::optional<std::string> &value) { return value ? json(*value) : json(); };
  return {{"namespace", member(filter.ns)}, {"name", member(filter.name)}, {"version", member(filter.version)}};
}

json report(TimestampTz since, TimestampTz until, const insight::DefinitionFilter &filter) {
  const TimestampTz now = GetCurrentTimestamp();
  const insight::Definitions definitions = find(filter);
  core::PerformanceCase facts;
  facts.now = insight::read_period(definitions, since, until);
  // As many whole hours before it.
  const std::int64_t hours = (insight::hour_of(facts.now.to - 1) - facts.now.from) / USECS_PER_HOUR + 1;
  facts.before = insight::read_period(definitions, facts.now.from - hours * USECS_PER_HOUR, facts.now.from);
  facts.steps = insight::read_step_profiles(definitions, since, until);
  facts.active_tasks = insight::count_active_tasks(definitions);
  json out = core::performance_report(facts);
  out["period"] = {{"from", core::utc(facts.now.from)}, {"to", core::utc(facts.now.to)}};
  out["filters"] = filters_json(filter);
  out["generated_at"] = core::utc(now);
  out["cached"] = false;
  out["expires_at"] = core::utc(now);
  return out;
}

template <class Body>
auto as_owner(Body &&body) {
  pg::Spi spi;
  pg::OwnerScope scope(store::cached_extension_owner());
  return body();
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_get_analytics_metrics) {
  return pg::entry([&]() -> Datum {
    const TimestampTz since = since_of(pg::Args(fcinfo));
    pg::RowSet rows(fcinfo);
    pg::Spi spi;
    pg::OwnerScope scope(store::cached_extension_owner());
    put_metrics(rows, since);
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_slowest_steps) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz since = since_of(args);
    const int limit = limit_of(args);
    const insight::DefinitionFilter filter = filter_of(args, 2);
    pg::RowSet rows(fcinfo);
    for (const insight::SlowStep &step : as_owner([&] { return insight::slowest_steps(find(filter), since, limit); }))
      rows.int8(step.task_id).text(step.step_name).text(step.ns).text(step.name).text(step.version).datum(seconds_of(step.started_at, step.completed_at)).int4(step.attempt)
          .timestamp_or_null(step.started_at).timestamp_or_null(step.completed_at).int4(step.attempts).boolean(step.retryable).text(step.state).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_slowest_tasks) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz since = since_of(args);
    const int limit = limit_of(args);
    const insight::DefinitionFilter filter = filter_of(args, 2);
    pg::RowSet rows(fcinfo);
    for (const insight::SlowTask &task : as_owner([&] { return insight::slowest_tasks(find(filter), since, limit); }))
      rows.int8(task.task_id).text(task.ns).text(task.name).text(task.version).datum(seconds_of(task.started_at, task.ended_at)).text(task.state).int8(task.steps)
          .int8(task.complete_steps).int8(task.error_steps).timestamp_or_null(task.created_at).timestamp_or_null(task.started_at).timestamp_or_null(task.ended_at)
          .text_or_null(task.initiator).text_or_null(task.source_system).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_performance_report) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz since = since_of(args), until = moment(args, 1, "until");
    if (until <= since) throw tasker::Error(sqlstate::kInvalidParameter, "until must be after since");
    if (until - since > kMostHours * USECS_PER_HOUR)
      throw tasker::Error(sqlstate::kInvalidParameter, "the period must not be longer than 90 days", {}, "Counts are kept for 90 days.");
    const insight::DefinitionFilter filter = filter_of(args, 2);
    const std::string out = as_owner([&] { return report(since, until, filter).dump(-1, ' ', false, json::error_handler_t::replace); });
    return pg::jsonb_datum(out);
  });
}

TASKER_SQL_FUNCTION(tasker_rebuild_analytics) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    std::optional<TimestampTz> since;
    if (!args.is_null(0)) since = moment(args, 0, "since");
    if (IsolationUsesXactSnapshot())
      throw tasker::Error("0A000", "analytics are not rebuilt under an isolation level with one snapshot for all", "What was counted since would be lost.",
                          "Call rebuild_analytics under READ COMMITTED.");
    return Int64GetDatum(as_owner([&] { return insight::rebuild_counts(since); }));
  });
}
