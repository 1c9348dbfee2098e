// send_signal, and what the view awaited_signals shows.
#include "api/visibility.hpp"
#include "engine/waits.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"

using namespace tasker;

namespace {

// Live tasks alone have such steps; signal steps are found by their definitions.
constinit pg::Query select_waiting{
    "SELECT t.task_id, s.step_no, t.named_task_id, t.owner::oid, t.created_by::oid, s.started_at,"
    " (SELECT m.due_at FROM tasker.timers m WHERE m.task_id = s.task_id AND m.step_no = s.step_no AND m.element = s.element AND m.kind = 'timeout')"
    " FROM tasker.tasks t JOIN tasker.workflow_steps s ON s.task_id = t.task_id AND s.state = 'in_progress'"
    " JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no AND d.handler_type = 'signal'"
    " WHERE t.live ORDER BY t.task_id, s.step_no",
    0, {}};

}  // namespace

TASKER_SQL_FUNCTION(tasker_send_signal) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return Int64GetDatum(engine::send_signal(args.int8(0, "task_id"), args.text(1, "name"), args.jsonb(2, "payload")));
  });
}

TASKER_SQL_FUNCTION(tasker_awaited_signals) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    const Oid reader = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const pg::Result found = pg::execute(select_waiting, {}, pg::Access::kRead);
    const pg::Rows &r = found.rows;
    for (std::uint64_t i = 0; i < r.size(); i++) {
      const store::DefinitionPtr definition = store::definition(r.int4(i, 3));
      const store::CompiledStep &step = definition->step(r.int4(i, 2));
      if (!engine::accepts_sender(step, r.oid(i, 4), reader)) continue;
      rows.int8(r.int8(i, 1)).text(step.name).text(step.signal_name).text(definition->ns).text(definition->name)
          .datum(ObjectIdGetDatum(r.oid(i, 4))).timestamp_or_null(r.timestamp_or_null(i, 6)).timestamp_or_null(r.timestamp_or_null(i, 7)).end_row();
    }
    return Datum(0);
  });
}
