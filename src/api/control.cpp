// The control functions: arguments in, engine/control.hpp does it.
#include <algorithm>

#include "engine/control.hpp"
#include "pg/args.hpp"

using namespace tasker;

namespace {

using TaskAction = bool (*)(std::int64_t, const engine::Reason &);
using StepAction = bool (*)(std::int64_t, const std::string &, const engine::Reason &);

Datum one_task(FunctionCallInfo fcinfo, TaskAction action) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(action(args.int8(0, "task_id"), args.text_or_null(1)));
  });
}

// In ascending order, so that two bulk calls never wait for each other in opposite directions.
Datum many_tasks(FunctionCallInfo fcinfo, TaskAction action) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    std::vector<std::int64_t> ids = args.int8s(0, "task_ids");
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    const engine::Reason reason = args.text_or_null(1);
    int moved = 0;
    for (std::int64_t id : ids) {
      pg::check_interrupts();
      moved += action(id, reason) ? 1 : 0;
    }
    return Int32GetDatum(moved);
  });
}

Datum one_step(FunctionCallInfo fcinfo, StepAction action) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(action(args.int8(0, "task_id"), args.text(1, "step_name"), args.text_or_null(2)));
  });
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_cancel_task) { return one_task(fcinfo, engine::cancel_task); }
TASKER_SQL_FUNCTION(tasker_pause_task) { return one_task(fcinfo, engine::pause_task); }
TASKER_SQL_FUNCTION(tasker_resume_task) { return one_task(fcinfo, engine::resume_task); }
TASKER_SQL_FUNCTION(tasker_retry_task) { return one_task(fcinfo, engine::retry_task); }
TASKER_SQL_FUNCTION(tasker_resolve_task_manually) { return one_task(fcinfo, engine::resolve_task_manually); }
TASKER_SQL_FUNCTION(tasker_cancel_tasks) { return many_tasks(fcinfo, engine::cancel_task); }
TASKER_SQL_FUNCTION(tasker_pause_tasks) { return many_tasks(fcinfo, engine::pause_task); }
TASKER_SQL_FUNCTION(tasker_resume_tasks) { return many_tasks(fcinfo, engine::resume_task); }
TASKER_SQL_FUNCTION(tasker_retry_tasks) { return many_tasks(fcinfo, engine::retry_task); }
TASKER_SQL_FUNCTION(tasker_cancel_step) { return one_step(fcinfo, engine::cancel_step); }
TASKER_SQL_FUNCTION(tasker_retry_step) { return one_step(fcinfo, engine::retry_step); }
TASKER_SQL_FUNCTION(tasker_reset_step) { return one_step(fcinfo, engine::reset_step); }
TASKER_SQL_FUNCTION(tasker_skip_step) { return one_step(fcinfo, engine::skip_step); }

TASKER_SQL_FUNCTION(tasker_rerun_task_from) { return one_step(fcinfo, engine::rerun_task_from); }

TASKER_SQL_FUNCTION(tasker_resolve_step_manually) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const Datum result = args.is_null(2) ? Datum(0) : args.jsonb(2, "result");
    return BoolGetDatum(engine::resolve_step_manually(args.int8(0, "task_id"), args.text(1, "step_name"), result, args.text_or_null(3)));
  });
}
