#include "engine/waits.hpp"

#include <algorithm>

#include "core/template.hpp"
#include "core/utc.hpp"
#include "engine/control.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/hints.hpp"
#include "store/retention.hpp"
#include "store/settings.hpp"

namespace tasker::engine {

namespace {

constinit pg::Query select_signal{
    "SELECT g.signal_id, g.payload, g.sender::oid FROM tasker.signals g WHERE g.task_id = $1 AND g.used_by IS NULL AND $2 = ANY (g.steps)"
    " ORDER BY g.signal_id LIMIT 1",
    2, {INT8OID, INT4OID}};
constinit pg::Query use_signal{
    "UPDATE tasker.signals g SET used_by = $3 WHERE g.task_id = $1 AND g.signal_id = $2 AND g.used_by IS NULL", 3, {INT8OID, INT8OID, INT4OID}};
constinit pg::Query insert_signal{
    "INSERT INTO tasker.signals (task_id, name, payload, steps, sender) VALUES ($1, $2, $3, $4, $5::oid::regrole) RETURNING signal_id", 5,
    {INT8OID, TEXTOID, JSONBOID, INT4ARRAYOID, OIDOID}};

// Names of an SQL_ASCII server may hold invalid bytes.
std::string dump(const core::json &value) { return value.dump(-1, ' ', false, core::json::error_handler_t::replace); }

Datum jsonb_of(const core::json &value, MemoryContext memory) {
  pg::ContextScope scope(memory);
  return pg::jsonb_datum(dump(value));
}

// What pg_strtotime and its kin accept; an interval of the past is fine, no end of time is.
TimestampTz read_timestamp(const core::json &value) {
  if (!value.is_string())
    throw tasker::Error(sqlstate::kInvalidParameter, std::string("\"until\" of the wait gives ") + value.type_name() + ", not a timestamp", {},
                        "Give a text such as \"2026-01-31T09:00:00Z\".");
  const std::string &text = value.get_ref<const std::string &>();
  const char *chars = text.c_str();
  TimestampTz at = 0;
  TimestampTz *result = &at;
  const auto failure = pg::in_savepoint([=] {
    pg::call([=] { *result = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(chars), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))); });
  });
  if (failure) throw tasker::Error(failure->sqlstate.c_str(), failure->message, {}, "\"until\" of the wait must give a timestamp.");
  if (TIMESTAMP_NOT_FINITE(at)) throw tasker::Error("22008", "\"until\" of the wait is " + text, {}, "A wait needs an end.");
  return at;
}

std::vector<std::string> senders_of(const store::CompiledStep &step) {
  std::vector<std::string> out;
  const core::json handler = core::parse_json(step.handler);
  if (const auto found = handler.find("senders"); found != handler.end()) out = found->get<std::vector<std::string>>();
  return out;
}

}  // namespace

TimestampTz wait_until(const Batch &batch, const Outcome &outcome) {
  const core::json handler = core::parse_json(outcome.step().handler);
  if (const auto seconds = handler.find("seconds"); seconds != handler.end())
    return outcome.started_at + static_cast<TimestampTz>(seconds->get<double>() * USECS_PER_SEC);
  return read_timestamp(core::Template(handler.at("until").get<std::string>()).value(batch.document(outcome)));
}

OutsideEnd wait_is_over(TimestampTz until, MemoryContext memory) {
  OutsideEnd end;
  end.result = jsonb_of({{"waited_until", core::utc(until)}}, memory);
  return end;
}

std::optional<SentSignal> take_signal(const store::StepKey &key, MemoryContext memory) {
  const pg::Result found = pg::execute(select_signal, pg::Params().int8(key.task_id).int4(key.step_no));
  if (found.rows.empty()) return std::nullopt;
  SentSignal signal;
  signal.signal_id = found.rows.int8(0, 1);
  signal.sender = found.rows.oid(0, 3);
  const Datum payload = found.rows.datum(0, 2);
  {
    pg::ContextScope scope(memory);
    signal.payload = pg::call([=] { return PointerGetDatum(PG_DETOAST_DATUM_COPY(payload)); });
  }
  if (pg::execute(use_signal, pg::Params().int8(key.task_id).int8(signal.signal_id).int4(key.step_no)).processed != 1) return std::nullopt;
  return signal;
}

OutsideEnd signal_came(const SentSignal &signal) {
  OutsideEnd end;
  end.result = signal.payload;
  end.metadata = "\"signal_id\": " + std::to_string(signal.signal_id) + ", \"sender\": " + dump(pg::role_name(signal.sender));
  return end;
}

OutsideEnd signal_stayed_out(const store::CompiledStep &step, MemoryContext memory) {
  const core::json handler = core::parse_json(step.handler);
  const auto found = handler.find("on_timeout");
  if (found != handler.end() && found->is_object())
    return {.result = jsonb_of(found->at("continue"), memory), .error = {}, .category = nullptr, .may_retry = true, .metadata = "\"cause\": \"timeout\""};
  const pg::Caught late{"57014", "signal \"" + step.signal_name + "\" did not come in time", {},
                        "retry_step waits for it again; \"on_timeout\": {\"continue\": value} goes on without it.", {}};
  return {.result = 0, .error = late, .category = "timeout", .may_retry = false, .metadata = {}};
}

bool accepts_sender(const store::CompiledStep &step, Oid owner, Oid role) {
  const std::vector<std::string> senders = senders_of(step);
  if (senders.empty()) return pg::has_privileges_of(role, owner);
  return std::any_of(senders.begin(), senders.end(), [&](const std::string &name) {
    const char *chars = name.c_str();
    const Oid sender = pg::call([=] { return get_role_oid(chars, true); });
    return OidIsValid(sender) && pg::has_privileges_of(role, sender);
  });
}

std::int64_t send_signal(std::int64_t task_id, const std::string &name, Datum payload) {
  const Oid sender = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const std::string what = "task " + std::to_string(task_id);
  const auto task = store::load_task(task_id, store::RowLock::kNone);
  if (!task) throw tasker::Error(sqlstate::kNoData, what + " does not exist");
  const store::DefinitionPtr definition = store::definition(task->named_task_id);
  const bool visible = may_control(sender, task->owner, task->created_by);
  std::vector<int> steps;
  bool known = false;
  for (const store::CompiledStep &step : definition->steps) {
    if (step.type != store::HandlerType::kSignal || step.signal_name != name) continue;
    known = true;
    if (accepts_sender(step, task->owner, sender)) steps.push_back(step.step_no);
  }
  if (steps.empty()) {
    if (!visible) throw tasker::Error(sqlstate::kNoData, what + " does not exist");
    if (!known)
      throw tasker::Error(sqlstate::kInvalidParameter, what + " has no step that waits for signal \"" + name + "\"", {},
                          "The names are those of its steps of type signal: see signal_name in tasker.step_status.");
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "role \"" + pg::role_name(sender) + "\" may not send signal \"" + name + "\" to " + what, {},
                        "The key \"senders\" of the step names the roles that may.");
  }
  if (!task->live && !task->failing)
    throw tasker::Error(sqlstate::kIllegalMove, what + " is " + core::to_string(task->state), {}, "A signal goes to a task that is not over.");
  const std::size_t size = pg::call([=] { return static_cast<std::size_t>(VARSIZE_ANY_EXHDR(DatumGetPointer(payload))); });
  if (size > static_cast<std::size_t>(store::settings.max_result_size_kb) * 1024)
    throw tasker::Error("54000", "the payload of the signal has " + std::to_string(size) + " bytes, more than tasker.max_result_size", {},
                        "Write it to a table and send its key.");
  if (!task->live && !store::keep_from_removal(task_id)) throw tasker::Error(sqlstate::kNoData, what + " does not exist");
  pg::ArrayBuilder array(INT4OID);
  for (const int step : steps) array.int4(step);
  const pg::Result added = pg::execute(insert_signal, pg::Params().int8(task_id).text(name).datum(payload).datum(array.datum()).oid(sender));
  for (const int step : steps)
    store::add_hint({{task_id, step, -1}, 0, task->named_task_id, task->priority, task->owner, store::HintKind::kStep, true});
  return added.rows.int8(0, 1);
}

}  // namespace tasker::engine
