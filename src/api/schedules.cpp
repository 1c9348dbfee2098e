// Schedules: arguments in, engine/schedules.hpp does it; and what the views ask.
#include "engine/schedules.hpp"

#include "api/visibility.hpp"
#include "pg/args.hpp"
#include "pg/first_row.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/schedules.hpp"

using namespace tasker;

namespace {

constexpr int kMaxPreview = 10000;

constinit pg::Query find_reading{
    "SELECT s.context, s.owner::oid, s.created_by::oid FROM tasker.schedule_rows s WHERE s.schedule_id = $1", 1, {INT8OID}};

// pg_cron's function, in pg_cron's schema, with the rights of the caller: tasker adds none.
constinit pg::Query cron_facts{
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron'), pg_catalog.current_setting('cron.database_name', true),"
    " pg_catalog.to_regprocedure('cron.schedule_in_database(text, text, text, text, text, boolean)') IS NOT NULL,"
    " EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = $1), pg_catalog.current_database()::text",
    1, {TEXTOID}};
constexpr const char *kMakeJob = "SELECT cron.schedule_in_database($1, '* * * * *', 'SELECT tasker.tick_schedules()', $2)";

// In microseconds, a month as 30 days. What is out of any range stays out of it.
std::int64_t microseconds(Datum value) {
  const Interval &interval = *DatumGetIntervalP(value);
  const double total = static_cast<double>(interval.time) + static_cast<double>(USECS_PER_DAY) * (interval.day + 30.0 * interval.month);
  return static_cast<std::int64_t>(std::min(std::max(total, -4e18), 4e18));
}

TimestampTz timestamp_of(const pg::Args &args, int n, const char *name) { return DatumGetTimestampTz(args.datum(n, name)); }

Datum int8_or_null(FunctionCallInfo fcinfo, std::optional<std::int64_t> value) {
  fcinfo->isnull = !value.has_value();
  return Int64GetDatum(value.value_or(0));
}

// The job ticks in `database`; it must be made where pg_cron is.
void check_pg_cron(const std::string &database) {
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const pg::Result facts = pg::execute(cron_facts, pg::Params().text(database), pg::Access::kRead);
  const pg::Rows &found = facts.rows;
  const std::string here = found.text(0, 5);
  const auto home = found.text_or_null(0, 2);
  if (!home)
    throw tasker::Error(sqlstate::kObjectNotReady, "pg_cron does not run on this server", {},
                        "Add pg_cron to shared_preload_libraries and restart. With tasker preloaded schedules fire without it.");
  if (!found.boolean(0, 1))
    throw tasker::Error(sqlstate::kObjectNotReady, "pg_cron is not installed in this database", {},
                        *home == here ? "Run CREATE EXTENSION pg_cron."
                                      : "Its database is \"" + *home + "\". There, call SELECT cron.schedule_in_database('tasker', '* * * * *',"
                                        " 'SELECT tasker.tick_schedules()', '" + database + "').");
  if (!found.boolean(0, 3))
    throw tasker::Error(sqlstate::kObjectNotReady, "pg_cron here is older than 1.4", {}, "Update it: ALTER EXTENSION pg_cron UPDATE.");
  if (!found.boolean(0, 4)) throw tasker::Error("3D000", "database \"" + database + "\" does not exist");
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_schedule_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::NewSchedule schedule;
    schedule.schedule_name = args.text(0, "schedule_name");
    schedule.cron = args.text(1, "cron");
    schedule.ns = args.text(2, "namespace");
    schedule.name = args.text(3, "name");
    schedule.context = args.jsonb(4, "context");
    schedule.timezone = args.text(5, "timezone");
    schedule.overlap = args.text(6, "overlap");
    schedule.catch_up = args.datum(7, "catch_up");
    schedule.jitter = args.datum(8, "jitter");
    schedule.catch_up_microseconds = microseconds(schedule.catch_up);
    schedule.jitter_microseconds = microseconds(schedule.jitter);
    return Int64GetDatum(engine::schedule_task(schedule));
  });
}

TASKER_SQL_FUNCTION(tasker_unschedule_task) {
  return pg::entry([&]() -> Datum {
    engine::unschedule_task(pg::Args(fcinfo).text(0, "schedule_name"));
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_pause_schedule) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::pause_schedule(args.text(0, "schedule_name"), args.text_or_null(1)));
  });
}

TASKER_SQL_FUNCTION(tasker_resume_schedule) {
  return pg::entry([&]() -> Datum { return BoolGetDatum(engine::resume_schedule(pg::Args(fcinfo).text(0, "schedule_name"))); });
}

TASKER_SQL_FUNCTION(tasker_run_schedule_now) {
  return pg::entry([&]() -> Datum { return int8_or_null(fcinfo, engine::run_schedule_now(pg::Args(fcinfo).text(0, "schedule_name"))); });
}

TASKER_SQL_FUNCTION(tasker_backfill_schedule) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return Int32GetDatum(engine::backfill_schedule(args.text(0, "schedule_name"), timestamp_of(args, 1, "from_time"), timestamp_of(args, 2, "to_time")));
  });
}

TASKER_SQL_FUNCTION(tasker_tick_schedules) {
  return pg::entry([&]() -> Datum {
    (void)fcinfo;
    const engine::Tick tick = engine::tick_schedules(GetCurrentTimestamp(), pg::role_name(GetSessionUserId()), INT_MAX);
    if (tick.handled > 0) store::note_schedules_changed();
    return Int32GetDatum(tick.tasks);
  });
}

TASKER_SQL_FUNCTION(tasker_install_cron_tick) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const char *here = pg::call([] { return get_database_name(MyDatabaseId); });
    const std::string database = args.text_or_null(0).value_or(here);
    pg::Spi spi;
    check_pg_cron(database);
    const Oid types[] = {TEXTOID, TEXTOID};
    const Datum values[] = {pg::text_datum(database == here ? "tasker" : "tasker " + database), pg::text_datum(database)};
    const bool nulls[] = {false, false};
    const pg::FirstValue job = pg::run_first_value(pg::prepare_plan(kMakeJob, 2, types, false), 2, types, values, nulls, CurrentMemoryContext);
    if (!job.found || job.null || job.type != INT8OID) throw tasker::Error(sqlstate::kInternal, "cron.schedule_in_database returned no job");
    return job.value;
  });
}

TASKER_SQL_FUNCTION(tasker_cron_fire_times) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const TimestampTz after = timestamp_of(args, 2, "after");
    const int count = args.int4(3, "count");
    if (TIMESTAMP_NOT_FINITE(after)) throw tasker::Error(sqlstate::kInvalidParameter, "after must be finite");
    if (count < 0 || count > kMaxPreview) throw tasker::Error(sqlstate::kInvalidParameter, "count must be between 0 and " + std::to_string(kMaxPreview));
    pg::RowSet rows(fcinfo);
    for (const TimestampTz at : engine::fire_times(args.text(0, "cron"), args.text(1, "timezone"), after, count)) rows.datum(TimestampTzGetDatum(at)).end_row();
    return Datum(0);
  });
}

// For the view, which one schedule with a time zone that is no more must not break.
TASKER_SQL_FUNCTION(tasker_schedule_next_fires) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    pg::ArrayBuilder times(TIMESTAMPTZOID);
    try {
      const TimestampTz after = timestamp_of(args, 2, "after");
      for (const TimestampTz at : engine::fire_times(args.text(0, "cron"), args.text(1, "timezone"), after, args.int4(3, "count"))) times.timestamp(at);
    } catch (const tasker::Error &) {
      // What is wrong is in the server log each time that somebody ticks.
    }
    return times.datum();
  });
}

TASKER_SQL_FUNCTION(tasker_schedule_context) {
  return pg::entry([&]() -> Datum {
    const std::int64_t schedule_id = pg::Args(fcinfo).int8(0, "schedule_id");
    const MemoryContext memory = CurrentMemoryContext;
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const pg::Result found = pg::execute(find_reading, pg::Params().int8(schedule_id), pg::Access::kRead);
    if (found.rows.empty() || !api::Viewer(caller).sees_payload(found.rows.oid(0, 2), found.rows.oid(0, 3))) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    const Datum value = found.rows.datum(0, 1);
    return pg::call([=] {
      MemoryContext old = MemoryContextSwitchTo(memory);
      const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
      MemoryContextSwitchTo(old);
      return copy;
    });
  });
}
