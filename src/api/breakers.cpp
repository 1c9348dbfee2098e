// trip_breaker, reset_breaker, configure_breaker, and what the view circuit_breakers asks of memory.
#include <algorithm>

#include "api/visibility.hpp"
#include "engine/breakers.hpp"
#include "pg/args.hpp"
#include "store/breakers.hpp"

using namespace tasker;

namespace {

// In microseconds, a month as 30 days; what is out of any range stays out of it. Infinite ones have the greatest fields.
std::optional<std::int64_t> interval_or_null(const pg::Args &args, int n, const char *name) {
  if (args.is_null(n)) return std::nullopt;
  const Interval &interval = *DatumGetIntervalP(args.datum(n, name));
  const double total = static_cast<double>(interval.time) + static_cast<double>(USECS_PER_DAY) * (interval.day + 30.0 * interval.month);
  return static_cast<std::int64_t>(std::clamp(total, 0.0, 4e18));
}

Datum interval_datum(std::int64_t microseconds) {
  return pg::call([=] {
    auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
    interval->time = microseconds;
    return IntervalPGetDatum(interval);
  });
}

bool may_see(const store::StepKey &step) {
  const api::FoundRow task = api::read_row(api::kTasks, {.count = 1, .first = step.task_id}, {"owner", "created_by"});
  return task.found && api::Viewer(GetUserId()).sees(DatumGetObjectId(task.value[0]), DatumGetObjectId(task.value[1]));
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_trip_breaker) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::trip_breaker(args.text(0, "system"), args.text_or_null(1), interval_or_null(args, 2, "open_for")));
  });
}

TASKER_SQL_FUNCTION(tasker_reset_breaker) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::reset_breaker(args.text(0, "system"), args.text_or_null(1)));
  });
}

TASKER_SQL_FUNCTION(tasker_configure_breaker) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::BreakerChoice choice;
    if (!args.is_null(1)) choice.failure_threshold = args.int4(1, "failure_threshold");
    choice.failure_window = interval_or_null(args, 2, "failure_window");
    choice.open_time = interval_or_null(args, 3, "open_time");
    choice.max_open_time = interval_or_null(args, 4, "max_open_time");
    return BoolGetDatum(engine::configure_breaker(args.text(0, "system"), choice));
  });
}

TASKER_SQL_FUNCTION(tasker_breaker_memory) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    pg::RowSet rows(fcinfo);
    const std::optional<store::BreakerMemory> memory = store::breaker_memory(args.int4(0, "dependent_system_id"));
    // A row that is newer than memory has the say.
    if (memory && memory->row_moves >= args.int4(1, "moves")) {
      const core::Breaker &breaker = memory->breaker;
      rows.int4(breaker.failures).timestamp_or_null(breaker.last_failure_at != 0 ? std::optional<TimestampTz>(breaker.last_failure_at) : std::nullopt);
      if (memory->probe.task_id != 0 && may_see(memory->probe)) rows.int8(memory->probe.task_id).int4(memory->probe.step_no);
      else rows.null().null();
      rows.int4(memory->waiting);
    } else {
      rows.null().null().null().null();
      if (store::shared != nullptr) rows.int4(0);
      else rows.null();
    }
    const core::BreakerSettings settings = store::breaker_settings({});
    rows.int4(settings.failure_threshold).datum(interval_datum(settings.window)).datum(interval_datum(settings.open_time))
        .datum(interval_datum(settings.max_open_time)).end_row();
    return Datum(0);
  });
}
