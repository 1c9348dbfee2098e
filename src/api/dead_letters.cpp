// redrive, note_dead_letter, and what the views of dead letters ask.
#include "engine/dead_letters.hpp"

#include "api/visibility.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/dead_letters.hpp"

using namespace tasker;
using api::Sight;

namespace {

constinit pg::Query select_note{
    "SELECT k.note FROM tasker.dead_letter_notes k WHERE k.task_id = $1 AND k.step_no = $2 AND k.element = $3 AND k.dead_letter_note_id = $4", 4,
    {INT8OID, INT4OID, INT4OID, INT8OID}};
constinit pg::Query select_states{
    "SELECT t.named_task_id, s.step_no, s.state::text FROM tasker.tasks t JOIN tasker.workflow_steps s ON s.task_id = t.task_id"
    " WHERE t.task_id = $1 AND s.element = -1",
    1, {INT8OID}};

std::optional<TimestampTz> time_or_null(const pg::Args &args, int n) {
  if (args.is_null(n)) return std::nullopt;
  return DatumGetTimestampTz(args.datum(n, ""));
}

// Pending steps beneath this one; what is done, or runs, does not wait for it, nor does what only follows from there.
int count_waiting(const core::Graph &graph, const std::vector<core::StepState> &states, int node) {
  std::vector<bool> seen(states.size(), false);
  std::vector<int> queue{node};
  int waiting = 0;
  for (std::size_t head = 0; head < queue.size(); head++) {
    for (const int child : graph.children(queue[head])) {
      const auto at = static_cast<std::size_t>(child);
      if (seen[at] || core::satisfies_children(states[at]) || states[at] == core::StepState::kInProgress) continue;
      seen[at] = true;
      waiting += states[at] == core::StepState::kPending ? 1 : 0;
      queue.push_back(child);
    }
  }
  return waiting;
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_redrive) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::Redrive wanted;
    wanted.ns = args.text_or_null(0);
    wanted.name = args.text_or_null(1);
    wanted.step = args.text_or_null(2);
    wanted.category = args.text_or_null(3);
    wanted.sqlstate = args.text_or_null(4);
    wanted.failed_since = time_or_null(args, 5);
    wanted.failed_before = time_or_null(args, 6);
    wanted.max_tasks = args.int4(7, "max_tasks");
    wanted.reason = args.text_or_null(8);
    return Int32GetDatum(engine::redrive(wanted));
  });
}

TASKER_SQL_FUNCTION(tasker_note_dead_letter) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return Int64GetDatum(engine::note_dead_letter(args.int8(0, "task_id"), args.text(1, "step_name"), args.text(2, "status"), args.text_or_null(3)));
  });
}

TASKER_SQL_FUNCTION(tasker_has_open_dead_letter) {
  return pg::entry([&]() -> Datum {
    const std::int64_t task_id = pg::Args(fcinfo).int8(0, "task_id");
    if (api::memo_of(fcinfo).sight_of(task_id) == Sight::kNothing) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    return BoolGetDatum(!store::with_open_dead_letter({task_id}, pg::Access::kRead).empty());
  });
}

TASKER_SQL_FUNCTION(tasker_dead_letter_note) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    std::optional<std::string> note;
    if (api::memo_of(fcinfo).sight_of(task_id) == Sight::kPayload) {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      const pg::Result found = pg::execute(select_note, pg::Params().int8(task_id).int4(args.int4(1, "step_no")).int4(args.int4(2, "element"))
                                                            .int8(args.int8(3, "dead_letter_note_id")), pg::Access::kRead);
      if (!found.rows.empty()) note = found.rows.text_or_null(0, 1);
    }
    if (!note) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    return pg::text_datum(*note);
  });
}

TASKER_SQL_FUNCTION(tasker_waiting_descendants) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const int step_no = args.int4(1, "step_no");
    fcinfo->isnull = true;
    if (api::memo_of(fcinfo).sight_of(task_id) == Sight::kNothing) return Datum(0);
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const pg::Result found = pg::execute(select_states, pg::Params().int8(task_id), pg::Access::kRead);
    if (found.rows.empty()) return Datum(0);
    const store::DefinitionPtr definition = store::definition(found.rows.int4(0, 1));
    std::vector<core::StepState> states(definition->steps.size(), core::StepState::kPending);
    for (std::uint64_t i = 0; i < found.rows.size(); i++)
      if (const auto at = static_cast<std::size_t>(found.rows.int4(i, 2)) - 1; at < states.size()) states[at] = core::parse_step_state(found.rows.text(i, 3)).value();
    if (step_no < 1 || static_cast<std::size_t>(step_no) > states.size()) return Datum(0);
    fcinfo->isnull = false;
    return Int32GetDatum(count_waiting(definition->graph, states, step_no - 1));
  });
}
