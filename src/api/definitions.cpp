// define_task, validate_task_definition, task_definition, retire_task_definition, release_hold, announce.
#include "engine/control.hpp"
#include "engine/define.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"
#include "store/hints.hpp"
#include "store/schedules.hpp"

using namespace tasker;

namespace {

constinit pg::Query restamp_home{
    "UPDATE tasker.home SET database_oid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),"
    " held_reason = NULL, held_at = NULL, host = NULL, accepted_up_to = coalesce((SELECT max(t.task_id) FROM tasker.tasks t), 0)",
    0, {}};
constinit pg::Query restamp_tasks{"UPDATE tasker.tasks t SET home = $1 WHERE t.live AND t.home <> $1", 1, {INT8OID}};

}  // namespace

TASKER_SQL_FUNCTION(tasker_define_task) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const core::json document = core::parse_json(args.json_text(0, "definition"));
    return Int32GetDatum(engine::define_task(document, args.jsonb(0, "definition"), args.boolean(1, "replace")));
  });
}

TASKER_SQL_FUNCTION(tasker_validate_task_definition) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    core::CheckedDefinition checked;
    const std::string json_text = args.json_text(0, "definition");
    try {
      checked = engine::check_with_catalog(core::parse_json(json_text));
    } catch (const tasker::Error &error) {  // nested too deeply, or a number out of range
      checked.faults.push_back({"", error.message(), {}, false});
    }
    pg::RowSet rows(fcinfo);
    for (const core::Fault &fault : checked.faults)
      rows.text(fault.pointer).text(fault.problem).text_or_null(fault.hint.empty() ? std::nullopt : std::optional<std::string>(fault.hint)).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_task_definition) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace"), name = args.text(1, "name");
    const auto version = args.text_or_null(2);
    const auto document = engine::find_document(ns, name, version);
    if (!document) throw tasker::Error(sqlstate::kNoData, "definition " + ns + "." + name + (version ? " version " + *version : "") + " does not exist");
    return *document;
  });
}

TASKER_SQL_FUNCTION(tasker_retire_task_definition) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::retire_definition(args.text(0, "namespace"), args.text(1, "name"), args.text(2, "version")));
  });
}

TASKER_SQL_FUNCTION(tasker_release_hold) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string reason = args.text(0, "reason");
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    if (!engine::has_level(caller, "admin")) throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to release the hold of this database");
    const store::Home home = store::load_home(true);
    if (!home.held) return BoolGetDatum(false);
    pg::execute(restamp_home);
    pg::execute(restamp_tasks, pg::Params().int8(home.nonce));
    store::adopt_schedules(home.nonce);
    pg::report(pg::Level::kLog, "tasker: hold of this database released", "It was held: " + home.reason + ". Reason given: " + reason);
    store::announce_database();
    store::request_sweep();
    return BoolGetDatum(true);
  });
}

TASKER_SQL_FUNCTION(tasker_announce) {
  return pg::entry([&]() -> Datum {
    store::announce_database();
    return Datum(0);
  });
}
