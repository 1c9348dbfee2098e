#include "engine/define.hpp"

#include <algorithm>

#include "engine/control.hpp"
#include "engine/create.hpp"
#include "engine/endpoints.hpp"
#include "engine/handlers.hpp"
#include "http/call.hpp"
#include "pg/regex.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/hints.hpp"

extern "C" {
#include "parser/parser.h"
}

namespace tasker::engine {

namespace {

constinit pg::Query add_namespace{"INSERT INTO tasker.task_namespaces (name) VALUES ($1) ON CONFLICT DO NOTHING", 1, {TEXTOID}};
constinit pg::Query find_namespace{"SELECT task_namespace_id FROM tasker.task_namespaces WHERE name = $1", 1, {TEXTOID}};
constinit pg::Query add_system{
    "WITH added AS (INSERT INTO tasker.dependent_systems (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING dependent_system_id)"
    " INSERT INTO tasker.breakers (dependent_system_id) SELECT a.dependent_system_id FROM added a",
    1, {TEXTOID}};
constinit pg::Query find_same{
    "SELECT named_task_id, definition = $4, author::oid FROM tasker.named_tasks WHERE task_namespace_id = $1 AND name = $2"
    " AND version_order = string_to_array($3, '.')::integer[]", 4,
    {INT4OID, TEXTOID, TEXTOID, JSONBOID}};
constinit pg::Query in_use{"SELECT 1 FROM tasker.task_summaries z WHERE z.named_task_id = $1 UNION ALL SELECT 1 FROM tasker.tasks t WHERE t.named_task_id = $1 LIMIT 1", 1, {INT4OID}};
constinit pg::Query drop_definition{"DELETE FROM tasker.named_tasks WHERE named_task_id = $1", 1, {INT4OID}};
constinit pg::Query add_task{
    "INSERT INTO tasker.named_tasks (task_namespace_id, name, version, version_order, description, definition, context_schema, run_as, author,"
    " deadline_seconds, step_count, sink_count) VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, $10, $11, $12)"
    " ON CONFLICT DO NOTHING RETURNING named_task_id",
    12, {INT4OID, TEXTOID, TEXTOID, INT4ARRAYOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, OIDOID, FLOAT8OID, INT4OID, INT4OID}};
constinit pg::Query add_step{
    "INSERT INTO tasker.named_steps (named_task_id, step_no, name, description, dependent_system_id, handler_type, handler, parents, children, level,"
    " retryable, max_attempts, backoff_base, backoff_multiplier, backoff_max, backoff_jitter, timeout_seconds, skippable, own_transaction, isolation, priority, events,"
    " retry_on, fail_on)"
    " VALUES ($1, $2, $3, $4, (SELECT d.dependent_system_id FROM tasker.dependent_systems d WHERE d.name = $5), $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14,"
    " $15, $16, $17, $18, $19, $20, $21, $22::jsonb, $23, $24)",
    24,
    {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4ARRAYOID, INT4ARRAYOID, INT4OID, BOOLOID, INT4OID, FLOAT8OID, FLOAT8OID,
     FLOAT8OID, FLOAT8OID, FLOAT8OID, BOOLOID, BOOLOID, TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID}};
constinit pg::Query select_document{
    "SELECT nt.definition FROM tasker.named_tasks nt JOIN tasker.task_namespaces ns USING (task_namespace_id) WHERE ns.name = $1 AND nt.name = $2"
    " AND ($3 IS NULL OR nt.version = $3) ORDER BY nt.retired_at IS NOT NULL, nt.version_order DESC LIMIT 1",
    3, {TEXTOID, TEXTOID, TEXTOID}};
constinit pg::Query select_author{
    "SELECT nt.named_task_id, nt.author::oid FROM tasker.named_tasks nt JOIN tasker.task_namespaces ns USING (task_namespace_id)"
    " WHERE ns.name = $1 AND nt.name = $2 AND nt.version = $3",
    3, {TEXTOID, TEXTOID, TEXTOID}};
constinit pg::Query set_retired{
    "UPDATE tasker.named_tasks SET retired_at = clock_timestamp() WHERE named_task_id = $1 AND retired_at IS NULL", 1, {INT4OID}};

std::string dump(const core::json &value) { return value.dump(-1, ' ', false, core::json::error_handler_t::replace); }

// Exactly one statement that may run inside a step; the text itself is planned only when the step runs.
std::string query_problem(const std::string &query) {
  const char *text = query.c_str();
  int statements = 0;
  int *count = &statements;
  const auto failure = pg::in_savepoint([=] { pg::call([=] { *count = list_length(raw_parser(text, RAW_PARSE_DEFAULT)); }); });
  if (failure) return failure->message;
  if (statements == 0) return "the query is empty";
  if (statements > 1) return "the query has " + std::to_string(statements) + " statements, a step runs one";
  return {};
}

void check_http(const core::StepDefinition &step, const std::string &base, std::vector<core::Fault> &faults) {
  const std::vector<core::Fault> found = http::check_call(step.handler, base);
  faults.insert(faults.end(), found.begin(), found.end());
  if (step.server.empty()) return;
  const ServerProblem server = find_server_problem(step.server, GetUserId());
  if (!server.problem.empty()) faults.push_back({base + "/server", server.problem, server.hint, false});
}

void check_senders(const core::StepDefinition &step, const std::string &base, std::vector<core::Fault> &faults) {
  for (std::size_t i = 0; i < step.senders.size(); i++) {
    const char *name = step.senders[i].c_str();
    if (!pg::call([=] { return OidIsValid(get_role_oid(name, true)); }))
      faults.push_back({base + "/senders/" + std::to_string(i), "role \"" + step.senders[i] + "\" does not exist", "Create it before the definition.", false});
  }
}

void check_handler(const core::StepDefinition &step, std::size_t index, std::vector<core::Fault> &faults) {
  const std::string base = "/steps/" + std::to_string(index) + "/handler";
  if (step.handler_type == "http") check_http(step, base, faults);
  check_senders(step, base, faults);
  if (step.handler_type != "sql" || (step.query.empty() && step.function.empty() && step.procedure.empty())) return;
  if (!step.query.empty()) {
    const std::string problem = query_problem(step.query);
    if (!problem.empty()) faults.push_back({base + "/query", problem, "One SQL statement; $1 is the context, $2 the results, $3 the config.", false});
    return;
  }
  const bool procedure = !step.procedure.empty();
  ResolvedHandler handler;
  const auto failure = pg::in_savepoint([&] { handler = procedure ? resolve_procedure(step.procedure) : resolve_function(step.function); });
  const std::string pointer = base + (procedure ? "/procedure" : "/function");
  if (failure) faults.push_back({pointer, failure->message, failure->hint, false});
  else if (!handler.problem.empty()) faults.push_back({pointer, handler.problem, handler.hint, false});
}

[[noreturn]] void refuse(const std::vector<core::Fault> &faults) {
  const bool unsupported = std::all_of(faults.begin(), faults.end(), [](const core::Fault &fault) { return fault.unsupported; });
  std::string detail;
  for (const core::Fault &fault : faults) {
    if (!detail.empty()) detail += "\n";
    detail += (fault.pointer.empty() ? std::string("the document") : fault.pointer) + ": " + fault.problem;
    if (!fault.hint.empty()) detail += " (" + fault.hint + ")";
  }
  throw tasker::Error(unsupported ? sqlstate::kFeatureNotSupported : sqlstate::kInvalidParameter,
                      unsupported ? "the definition needs what this release does not run" : "invalid task definition", detail,
                      "tasker.validate_task_definition() lists the faults as rows.");
}

Datum int4_array(const std::vector<int> &values) {
  pg::ArrayBuilder array(INT4OID);
  for (int value : values) array.int4(value);
  return array.datum();
}

void write_steps(int named_task_id, const core::Definition &definition) {
  std::vector<std::vector<int>> children(definition.steps.size());
  for (std::size_t i = 0; i < definition.steps.size(); i++)
    for (int parent : definition.steps[i].parents) children[static_cast<std::size_t>(parent)].push_back(static_cast<int>(i) + 1);
  for (std::size_t i = 0; i < definition.steps.size(); i++) {
    const core::StepDefinition &step = definition.steps[i];
    if (!step.dependent_system.empty()) pg::execute(add_system, pg::Params().text(step.dependent_system));
    std::vector<int> parents;
    for (int parent : step.parents) parents.push_back(parent + 1);
    const auto optional_text = [](const std::string &text) { return text.empty() ? std::nullopt : std::optional<std::string>(text); };
    pg::Params params;
    params.int4(named_task_id).int4(static_cast<int>(i) + 1).text(step.name).text_or_null(optional_text(step.description))
        .text_or_null(optional_text(step.dependent_system)).text(step.handler_type).text(dump(step.handler)).datum(int4_array(parents))
        .datum(int4_array(children[i])).int4(step.level).boolean(step.retryable).int4(step.max_attempts).float8(step.backoff.base_seconds)
        .float8(step.backoff.multiplier).float8(step.backoff.max_seconds).float8(step.backoff.jitter);
    if (step.timeout_seconds) params.float8(*step.timeout_seconds);
    else params.null();
    params.boolean(step.skippable).boolean(step.own_transaction).text(step.isolation).int4(step.priority).text(dump(step.events))
        .datum(pg::text_array(step.overrides.retry_on)).datum(pg::text_array(step.overrides.fail_on));
    pg::execute(add_step, params);
  }
}

int write_definition(int namespace_id, const core::Definition &definition, Datum document, Oid author) {
  const auto version = core::parse_version(definition.version).value();
  std::vector<bool> has_children(definition.steps.size(), false);
  for (const auto &step : definition.steps)
    for (int parent : step.parents) has_children[static_cast<std::size_t>(parent)] = true;
  pg::Params params;
  params.int4(namespace_id).text(definition.name).text(definition.version).datum(int4_array({version[0], version[1], version[2]}))
      .text_or_null(definition.description.empty() ? std::nullopt : std::optional<std::string>(definition.description)).datum(document)
      .text_or_null(definition.context_schema.is_null() ? std::nullopt : std::optional<std::string>(dump(definition.context_schema)))
      .text(definition.run_as).oid(author);
  if (definition.deadline_seconds) params.float8(*definition.deadline_seconds);
  else params.null();
  params.int4(static_cast<int>(definition.steps.size())).int4(static_cast<int>(std::count(has_children.begin(), has_children.end(), false)));
  const pg::Result added = pg::execute(add_task, params);
  if (added.rows.empty()) return 0;
  const int id = added.rows.int4(0, 1);
  write_steps(id, definition);
  return id;
}

}  // namespace

core::CheckedDefinition check_with_catalog(const core::json &document) {
  core::CheckedDefinition checked = core::check_definition(document, pg::Regex());
  // Steps of a document with faults may be incomplete; what they name is still worth checking.
  for (std::size_t i = 0; i < checked.definition.steps.size(); i++) check_handler(checked.definition.steps[i], i, checked.faults);
  return checked;
}

int define_task(const core::json &document, Datum document_jsonb, bool replace) {
  const core::CheckedDefinition checked = check_with_catalog(document);
  if (!checked.faults.empty()) refuse(checked.faults);
  const core::Definition &definition = checked.definition;
  const Oid author = GetUserId();
  const std::string full_name = definition.ns + "." + definition.name + " version " + definition.version;

  pg::Spi spi;
  pg::OwnerScope as_owner;
  pg::execute(add_namespace, pg::Params().text(definition.ns));
  const int namespace_id = pg::execute(find_namespace, pg::Params().text(definition.ns)).rows.int4(0, 1);
  // Twice: a definition that another session commits between our look and our insert is found by the second look.
  for (int round = 0; round < 2; round++) {
    const pg::Result same = pg::execute(find_same, pg::Params().int4(namespace_id).text(definition.name).text(definition.version).datum(document_jsonb));
    if (!same.rows.empty()) {
      const int id = same.rows.int4(0, 1);
      if (same.rows.boolean(0, 2)) return id;
      if (!replace)
        throw tasker::Error(sqlstate::kDefinitionInUse, "definition " + full_name + " exists with a different body", {},
                            "Raise the version; or pass replace => true while no task has used it.");
      const Oid old_author = same.rows.oid(0, 3);
      if (!pg::has_privileges_of(author, old_author) && !has_level(author, "admin"))
        throw tasker::Error(sqlstate::kInsufficientPrivilege, "definition " + full_name + " belongs to \"" + pg::role_name(old_author) + "\"");
      if (!lock_definition_exclusively(id) || !pg::execute(in_use, pg::Params().int4(id)).rows.empty())
        throw tasker::Error(sqlstate::kDefinitionInUse, "definition " + full_name + " is used by tasks", {}, "Raise the version; running tasks stay with theirs.");
      pg::execute(drop_definition, pg::Params().int4(id));
    }
    const int id = write_definition(namespace_id, definition, document_jsonb, author);
    if (id != 0) {
      store::note_pauses_changed();  // its scope may be paused
      return id;
    }
  }
  throw tasker::Error("40001", "definition " + full_name + " was defined by another session at the same time", {}, "Try again.");
}

std::optional<Datum> find_document(const std::string &ns, const std::string &name, const std::optional<std::string> &version) {
  MemoryContext context = CurrentMemoryContext;
  pg::Spi spi;
  pg::OwnerScope as_owner;
  const pg::Result found = pg::execute(select_document, pg::Params().text(ns).text(name).text_or_null(version), pg::Access::kRead);
  if (found.rows.empty()) return std::nullopt;
  const Datum value = found.rows.datum(0, 1);
  return pg::call([=] {
    MemoryContext old = MemoryContextSwitchTo(context);
    const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    MemoryContextSwitchTo(old);
    return copy;
  });
}

bool retire_definition(const std::string &ns, const std::string &name, const std::string &version) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner;
  const pg::Result found = pg::execute(select_author, pg::Params().text(ns).text(name).text(version));
  if (found.rows.empty()) throw tasker::Error(sqlstate::kNoData, "definition " + ns + "." + name + " version " + version + " does not exist");
  if (!pg::has_privileges_of(caller, found.rows.oid(0, 2)) && !has_level(caller, "admin"))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "definition " + ns + "." + name + " belongs to \"" + pg::role_name(found.rows.oid(0, 2)) + "\"");
  return pg::execute(set_retired, pg::Params().int4(found.rows.int4(0, 1))).processed == 1;
}

}  // namespace tasker::engine
