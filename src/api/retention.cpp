// set_retention, remove_finished_tasks: arguments in, engine/retention.hpp does it.
#include "engine/retention.hpp"

#include "engine/control.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/retention.hpp"

using namespace tasker;

TASKER_SQL_FUNCTION(tasker_set_retention) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace");
    std::optional<std::int64_t> keep;
    if (!args.is_null(1)) keep = args.microseconds(1, "keep");
    return BoolGetDatum(engine::set_retention(ns, keep));
  });
}

TASKER_SQL_FUNCTION(tasker_retention_of) {
  return pg::entry([&]() -> Datum {
    const std::string ns = pg::Args(fcinfo).text(0, "namespace");
    std::int64_t keep = core::kKeepForever;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      const std::optional<int> id = store::find_namespace(ns);
      if (!id) throw tasker::Error(sqlstate::kNoData, "namespace " + ns + " does not exist");
      keep = store::load_retention_rules().of(*id);
    }
    if (keep < 0) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    return pg::call([=] {
      auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
      interval->day = static_cast<std::int32_t>(keep / USECS_PER_DAY);
      interval->time = keep % USECS_PER_DAY;
      return IntervalPGetDatum(interval);
    });
  });
}

TASKER_SQL_FUNCTION(tasker_remove_finished_tasks) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::Removal wanted;
    if (!args.is_null(0)) wanted.older_than = args.microseconds(0, "older_than");
    if (wanted.older_than && *wanted.older_than < 0)
      throw tasker::Error(sqlstate::kInvalidParameter, "older_than must not be negative", {}, "Leave it out to remove what is due by tasker.retention and set_retention.");
    wanted.ns = args.text_or_null(1);
    wanted.max_tasks = args.int4(2, "max_tasks");
    if (wanted.max_tasks < 1) throw tasker::Error(sqlstate::kInvalidParameter, "max_tasks must be at least 1");
    return Int64GetDatum(engine::remove_finished(wanted));
  });
}
