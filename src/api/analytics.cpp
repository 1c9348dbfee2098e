// get_analytics_metrics, get_slowest_steps, get_slowest_tasks, performance_report, rebuild_analytics. Nothing in them is a payload.
#include "core/utc.hpp"
#include "insight/analytics.hpp"
#include "insight/cached.hpp"
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

// Rows as the cache keeps them, an array each. Kinds of the columns: i bigint, n integer, b boolean, s text, t timestamptz, and by its digit
// numeric with so many decimals.
constexpr std::string_view kMetrics = "iii3iii226666ii6666tt", kSlowSteps = "issss6nttnbs", kSlowTasks = "isss6siiitttss";

void put_value(pg::RowSet &rows, char kind, const json &value) {
  if (value.is_null()) {
    rows.null();
    return;
  }
  switch (kind) {
    case 'i': rows.int8(value.get<std::int64_t>()); break;
    case 'n': rows.int4(value.get<int>()); break;
    case 'b': rows.boolean(value.get<bool>()); break;
    case 's': rows.text(value.get_ref<const std::string &>()); break;
    case 't': rows.timestamp_or_null(value.get<TimestampTz>()); break;
    default: rows.datum(pg::numeric_from_double(value.get<double>(), kind - '0'));
  }
}

void put_rows(FunctionCallInfo fcinfo, std::string_view kinds, const json &found) {
  pg::RowSet rows(fcinfo);
  for (const json &row : found) {
    for (std::size_t i = 0; i < kinds.size(); i++) put_value(rows, kinds[i], row.at(i));
    rows.end_row();
  }
}

double seconds_of(TimestampTz from, TimestampTz to) { return static_cast<double>(to - from) / 1e6; }
json text_or_null(const std::optional<std::string> &value) { return value ? json(*value) : json(); }

void add_durations(json &row, const core::Durations &durations) {
  for (const double ms : {durations.mean_ms(), durations.percentile_ms(0.5), durations.percentile_ms(0.95), durations.percentile_ms(0.99)})
    row.push_back(durations.count == 0 ? json() : json(ms / 1000));
}

json metrics(TimestampTz since) {
  const TimestampTz now = GetCurrentTimestamp();
  const insight::Definitions all = insight::find_definitions({});
  const core::PeriodProfile period = insight::read_period(all, since, now);
  const core::PeriodProfile hour = insight::read_period(all, now - USECS_PER_HOUR, now);
  const insight::Extent extent = insight::count_extent();
  const core::TaskCounts &tasks = period.tasks;
  json row = {insight::count_active_tasks(all), extent.namespaces, extent.definitions, hour.tasks.health_score(), tasks.created, tasks.complete, tasks.error,
              tasks.completion_rate() * 100, tasks.error_rate() * 100};
  add_durations(row, tasks.complete_durations);
  row.push_back(period.steps.attempts);
  row.push_back(period.steps.failures());
  add_durations(row, period.steps.durations);
  row.push_back(period.from);
  row.push_back(now);
  return json::array({std::move(row)});
}

json slow_steps(TimestampTz since, int limit, const insight::DefinitionFilter &filter) {
  json rows = json::array();
  for (const insight::SlowStep &step : insight::slowest_steps(find(filter), since, limit))
    rows.push_back({step.task_id, step.step_name, step.ns, step.name, step.version, seconds_of(step.started_at, step.completed_at), step.attempt, step.started_at,
                    step.completed_at, step.attempts, step.retryable, step.state});
  return rows;
}

json slow_tasks(TimestampTz since, int limit, const insight::DefinitionFilter &filter) {
  json rows = json::array();
  for (const insight::SlowTask &task : insight::slowest_tasks(find(filter), since, limit))
    rows.push_back({task.task_id, task.ns, task.name, task.version, seconds_of(task.started_at, task.ended_at), task.state, task.steps, task.complete_steps,
                    task.error_steps, task.created_at, task.started_at, task.ended_at, text_or_null(task.initiator), text_or_null(task.source_system)});
  return rows;
}

json filters_json(const insight::DefinitionFilter &filter) {
  return {{"namespace", text_or_null(filter.ns)}, {"name", text_or_null(filter.name)}, {"version", text_or_null(filter.version)}};
}

json report(TimestampTz since, TimestampTz until, const insight::DefinitionFilter &filter) {
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
  return out;
}

template <class Body>
auto as_owner(Body &&body) {
  pg::Spi spi;
  pg::OwnerScope scope(store::cached_extension_owner());
  return body();
}

// A question about whole hours, told by how long ago they were: what is learnt of it lasts longer than the hour its answer is of.
class Asked {
 public:
  explicit Asked(core::CachedFunction function) : function_(function) {}
  Asked &hour(const char *name, TimestampTz moment) {
    arguments_[name] = (hour_ - moment) / USECS_PER_HOUR;
    return *this;
  }
  Asked &filter(const insight::DefinitionFilter &filter) {
    arguments_.update(filters_json(filter));
    return *this;
  }
  Asked &limit(int max_rows) {
    arguments_["max_rows"] = max_rows;
    return *this;
  }
  // `read` as the extension's owner, unless the cache knows.
  template <class Read>
  insight::Cached answer(Read &&read) const {
    return insight::cached(function_, arguments_, hour_, [&] { return as_owner(read); });
  }

 private:
  core::CachedFunction function_;
  TimestampTz hour_ = insight::hour_of(GetCurrentTimestamp());
  json arguments_ = json::object();
};

}  // namespace

TASKER_SQL_FUNCTION(tasker_get_analytics_metrics) {
  return pg::entry([&]() -> Datum {
    const TimestampTz since = since_of(pg::Args(fcinfo));
    const auto found = Asked(core::CachedFunction::kAnalyticsMetrics).hour("hours_back", insight::hour_of(since)).answer([&] { return metrics(since); });
    put_rows(fcinfo, kMetrics, found.value());
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_slowest_steps) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz since = since_of(args);
    const int limit = limit_of(args);
    const insight::DefinitionFilter filter = filter_of(args, 2);
    const auto found = Asked(core::CachedFunction::kSlowestSteps).hour("hours_back", insight::hour_of(since)).limit(limit).filter(filter)
                           .answer([&] { return slow_steps(since, limit, filter); });
    put_rows(fcinfo, kSlowSteps, found.value());
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_slowest_tasks) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz since = since_of(args);
    const int limit = limit_of(args);
    const insight::DefinitionFilter filter = filter_of(args, 2);
    const auto found = Asked(core::CachedFunction::kSlowestTasks).hour("hours_back", insight::hour_of(since)).limit(limit).filter(filter)
                           .answer([&] { return slow_tasks(since, limit, filter); });
    put_rows(fcinfo, kSlowTasks, found.value());
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
    const auto found = Asked(core::CachedFunction::kPerformanceReport).hour("hours_back", insight::hour_of(since)).hour("until_hours_back", insight::end_of_hour(until))
                           .filter(filter).answer([&] { return report(since, until, filter); });
    // A report is an object, and has other members.
    std::string out = found.document();
    out.pop_back();
    out += std::string(", \"cached\": ") + (found.cached ? "true" : "false") + ", \"generated_at\": \"" + core::utc(found.generated_at) + "\", \"expires_at\": \"" +
           core::utc(found.expires_at) + "\"}";
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
    store::clear_cache_at_commit();
    return Int64GetDatum(as_owner([&] { return insight::rebuild_counts(since); }));
  });
}
