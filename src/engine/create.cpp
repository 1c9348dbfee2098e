#include "engine/create.hpp"

#include "core/definition.hpp"
#include "core/json.hpp"
#include "core/schema.hpp"
#include "engine/control.hpp"
#include "engine/endpoints.hpp"
#include "pg/fault.hpp"
#include "pg/regex.hpp"
#include "pg/security.hpp"
#include "store/hints.hpp"
#include "store/key_arrays.hpp"
#include "store/new_tasks.hpp"
#include "store/runs.hpp"
#include "store/settings.hpp"
#include "store/step_history.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

namespace {

// Keys first: whoever loses the race waits here for the winner's end, before anything else is written.
constinit pg::Query claim_keys{
    "INSERT INTO tasker.idempotency_keys (owner, task_namespace_id, name, idempotency_key, task_id)"
    " SELECT $1, $2, $3, u.key, u.id FROM unnest($4, $5) AS u(key, id) WHERE u.key IS NOT NULL ON CONFLICT DO NOTHING RETURNING task_id",
    5, {OIDOID, INT4OID, TEXTOID, TEXTARRAYOID, INT8ARRAYOID}};
constinit pg::Query find_keys{
    "SELECT u.ord, k.task_id FROM unnest($4) WITH ORDINALITY AS u(key, ord) CROSS JOIN LATERAL (SELECT x.task_id FROM tasker.idempotency_keys x"
    " WHERE x.owner = $1 AND x.task_namespace_id = $2 AND x.name = $3 AND x.idempotency_key = u.key OFFSET 0) k"
    // An old snapshot may show the key of a task that was removed as well: the younger one counts.
    " ORDER BY u.ord, k.task_id",
    4, {OIDOID, INT4OID, TEXTOID, TEXTARRAYOID}};

constinit pg::Query insert_labels{
    "INSERT INTO tasker.task_labels (label, kind, task_id)"
    " SELECT l.label, l.kind, u.id FROM unnest($1) AS u(id) CROSS JOIN (SELECT DISTINCT t, 'tag' FROM unnest($2) AS t UNION ALL SELECT $3, 'correlation_id' WHERE $3 IS NOT NULL) AS l(label, kind)",
    3, {INT8ARRAYOID, TEXTARRAYOID, TEXTOID}};

constinit pg::Query granted{
    "SELECT 1 FROM tasker.definition_grants g WHERE g.task_namespace_id = $1 AND g.name = $2 AND pg_has_role($3, g.role::oid, 'USAGE')"
    " AND pg_has_role(g.granted_by::oid, $4, 'USAGE') LIMIT 1",
    4, {INT4OID, TEXTOID, OIDOID, OIDOID}};

LOCKTAG definition_lock(int named_task_id) {
  LOCKTAG tag;
  // The type's oid as class makes the pair unique in this database, and no DDL takes such a lock.
  SET_LOCKTAG_OBJECT(tag, MyDatabaseId, store::step_call_type(), static_cast<Oid>(named_task_id), 0);
  return tag;
}

void check_text(const char *what, const std::optional<std::string> &value, std::size_t limit) {
  if (value && value->size() > limit)
    throw tasker::Error(sqlstate::kInvalidParameter, std::string(what) + " is " + std::to_string(value->size()) + " bytes long, the limit is " + std::to_string(limit));
}

void check_request(const NewTasks &request) {
  check_text("initiator", request.initiator, 128);
  check_text("source_system", request.source_system, 128);
  check_text("reason", request.reason, 1024);
  check_text("correlation_id", request.correlation_id, 128);
  for (const auto &key : request.idempotency_keys) {
    check_text("idempotency_key", key, 512);
    if (key && key->starts_with("schedule:") && !request.creator)
      throw tasker::Error(sqlstate::kInvalidParameter, "idempotency keys that begin with \"schedule:\" are those of schedules", {}, "Begin yours with something else.");
  }
  for (const auto &tag : request.tags) check_text("a tag", tag, 128);
  if (request.tags.size() > 64) throw tasker::Error(sqlstate::kInvalidParameter, "a task has at most 64 tags");
  if (request.deadline_seconds && !(*request.deadline_seconds >= core::kMinDuration && *request.deadline_seconds <= core::kMaxDeadline))  // NaN too
    throw tasker::Error(sqlstate::kInvalidParameter, "deadline_seconds must be from 0.001 to 315360000");
  if (request.priority < -1000000 || request.priority > 1000000)
    throw tasker::Error(sqlstate::kInvalidParameter, "priority must be between -1000000 and 1000000");
  if (!request.idempotency_keys.empty() && request.idempotency_keys.size() != request.contexts.size())
    throw tasker::Error(sqlstate::kInvalidParameter, "idempotency_keys must have as many elements as contexts");
  if (TIMESTAMP_NOT_FINITE(request.run_at)) throw tasker::Error(sqlstate::kInvalidParameter, "run_at must be finite");
}

void check_context(Datum context, const core::json &schema, std::size_t number, bool many) {
  const std::string where = many ? "context " + std::to_string(number) : "context";
  auto *jsonb = reinterpret_cast<Jsonb *>(DatumGetPointer(context));
  if (!JB_ROOT_IS_OBJECT(jsonb)) throw tasker::Error(sqlstate::kInvalidParameter, where + " must be a JSON object");
  const std::size_t limit = static_cast<std::size_t>(store::settings.max_context_size_kb) * 1024;
  if (VARSIZE(jsonb) > limit)
    throw tasker::Error(sqlstate::kProgramLimit, where + " is " + std::to_string(VARSIZE(jsonb)) + " bytes, the limit is " + std::to_string(limit), {},
                        "Keep large data in a table and pass its key, or raise tasker.max_context_size.");
  if (schema.is_null()) return;
  const char *text = pg::call([=] { return JsonbToCString(nullptr, &jsonb->root, static_cast<int>(VARSIZE(jsonb))); });
  const std::vector<core::Violation> violations = core::validate(schema, core::parse_json(text), pg::Regex());
  if (violations.empty()) return;
  std::string detail;
  for (const core::Violation &violation : violations)
    detail += (detail.empty() ? "" : "\n") + (violation.pointer.empty() ? std::string("the context") : violation.pointer) + " " + violation.problem;
  throw tasker::Error(sqlstate::kInvalidParameter, where + " does not fit the context_schema of the definition", detail);
}

Oid owner_of(const NewTasks &request, const store::CompiledDefinition &definition) {
  const Oid user = request.creator ? request.creator->user : GetUserId(), session = request.creator ? request.creator->session : GetSessionUserId();
  if (definition.runs_as_definer) {
    bool allowed = pg::has_privileges_of(user, definition.author);
    if (!allowed) {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      allowed = !pg::execute(granted, pg::Params().int4(definition.namespace_id).text(definition.name).oid(user).oid(definition.author)).rows.empty();
    }
    if (!allowed)
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied for definition " + definition.ns + "." + definition.name, {},
                          "It runs as its definer; tasker.grant_task_definition gives others the right to create tasks.");
    return definition.author;
  }
  // For a schedule this was asked when it was made, of the session that made it.
  if (!request.creator && !pg::call([=] { return is_member_of_role(session, user); }))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "role \"" + pg::role_name(session) + "\" cannot create tasks that run as \"" + pg::role_name(user) + "\"", {},
                        "A SECURITY DEFINER function needs a definition with \"run_as\": \"definer\".");
  return user;
}

void check_owner(const NewTasks &request, Oid owner) {
  if (pg::is_superuser(owner) && !store::settings.allow_superuser_tasks)
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "a superuser cannot own tasks", {},
                        "Create the task as an ordinary role (SET ROLE), or set tasker.allow_superuser_tasks.");
  const std::string problem = connect_problem(owner);
  if (!problem.empty() && !request.creator) pg::report(pg::Level::kWarning, "the steps of this task wait: " + problem, {}, "They start when the role can connect.");
}

// Asked again at each attempt; here so that whoever creates the task hears of it.
void check_servers(const store::CompiledDefinition &definition, Oid owner) {
  for (const store::CompiledStep &step : definition.steps) {
    if (step.type != store::HandlerType::kHttp) continue;
    const ServerProblem found = find_server_problem(step.server, owner);
    if (!found.problem.empty()) throw tasker::Error(found.denied ? sqlstate::kInsufficientPrivilege : "42704", "step \"" + step.name + "\": " + found.problem, {}, found.hint);
  }
}

void warn_without_preload() {
  static constinit bool told = false;
  if (store::shared != nullptr || told) return;
  told = true;
  pg::warn(sqlstate::kNeedsPreload, "tasks are not run in the background", "Add tasker to shared_preload_libraries and restart, or CALL tasker.run_task().");
}

// Gives each request its id; those whose key exists get the existing one and are not created.
struct Assigned {
  std::vector<std::int64_t> ids;
  std::vector<bool> fresh;
  std::int64_t home = 0;
};
Assigned assign_ids(const NewTasks &request, const store::CompiledDefinition &definition, Oid owner) {
  Assigned out;
  const std::size_t count = request.contexts.size();
  out.ids = store::next_task_ids(definition.named_task_id, static_cast<int>(count), &out.home);
  if (out.ids.size() != count)
    throw tasker::Error("40001", "definition " + definition.ns + "." + definition.name + " was replaced at the same moment", {}, "Try again.");
  out.fresh.assign(count, true);
  std::size_t keyed = 0;
  for (const auto &key : request.idempotency_keys) keyed += key.has_value() ? 1 : 0;
  if (keyed == 0) return out;

  pg::ArrayBuilder keys(TEXTOID), numbers(INT8OID);
  for (std::size_t i = 0; i < count; i++) {
    if (request.idempotency_keys[i]) keys.text(*request.idempotency_keys[i]);
    else keys.null();
    numbers.int8(out.ids[i]);
  }
  const Datum key_array = keys.datum();
  const Datum number_array = numbers.datum();
  pg::Result found;
  do {
    pg::execute(claim_keys, pg::Params().oid(owner).int4(definition.namespace_id).text(definition.name).datum(key_array).datum(number_array));
    TASKER_FAULT("create.keys_claimed");
    found = pg::execute(find_keys, pg::Params().oid(owner).int4(definition.namespace_id).text(definition.name).datum(key_array));
  } while (found.rows.size() < keyed);  // the task of a key was removed in between: the key is free
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    const std::size_t at = static_cast<std::size_t>(found.rows.int8(i, 1) - 1);
    out.fresh[at] = found.rows.int8(i, 2) == out.ids[at];
    out.ids[at] = found.rows.int8(i, 2);
  }
  return out;
}

void hint_new_tasks(const NewTasks &request, const store::CompiledDefinition &definition, Oid owner, const std::vector<std::int64_t> &ids, bool later) {
  std::vector<int> roots;
  for (const auto &step : definition.steps)
    if (step.parents.empty() && roots.size() <= 4) roots.push_back(step.step_no);
  const bool plain = roots.size() <= 4 && request.bypass_steps.empty();
  for (std::int64_t id : ids) {
    store::Hint hint{{id, 0, -1}, request.run_at, definition.named_task_id, request.priority, owner, store::HintKind::kTask};
    if (later) {
      hint.kind = store::HintKind::kTimer;
      store::add_hint(hint);
    } else if (plain) {
      hint.kind = store::HintKind::kStep;
      for (int root : roots) {
        hint.key.step_no = root;
        hint.priority = request.priority + definition.step(root).priority;
        hint.outside = store::is_outside(definition.step(root).type);
        hint.noop = definition.step(root).type == store::HandlerType::kNoop;
        store::add_hint(hint);
      }
    } else {
      store::add_hint(hint);
    }
  }
}

void check_bypass(const NewTasks &request, const store::CompiledDefinition &definition) {
  for (const std::string &name : request.bypass_steps) {
    const auto found = definition.step_by_name.find(name);
    if (found == definition.step_by_name.end())
      throw tasker::Error(sqlstate::kInvalidParameter, "bypass_steps names step \"" + name + "\", which does not exist in " + definition.ns + "." + definition.name);
    if (!definition.step(found->second).skippable)
      throw tasker::Error(sqlstate::kInvalidParameter, "step \"" + name + "\" cannot be bypassed", {}, "Only a step with \"skippable\": true can.");
  }
}

void write_tasks(const NewTasks &request, const store::CompiledDefinition &definition, Oid owner, Assigned &assigned) {
  const TimestampTz now = GetCurrentTimestamp();
  const TimestampTz run_at = request.run_at < now ? now : request.run_at;
  const bool later = run_at > now;
  std::vector<std::int64_t> fresh;
  std::vector<store::NewTask> tasks;
  for (std::size_t i = 0; i < assigned.ids.size(); i++) {
    if (!assigned.fresh[i]) continue;
    fresh.push_back(assigned.ids[i]);
    const bool keyed = !request.idempotency_keys.empty() && request.idempotency_keys[i];
    tasks.push_back({assigned.ids[i], request.contexts[i], keyed ? &*request.idempotency_keys[i] : nullptr});
  }
  if (fresh.empty()) return;
  const std::optional<double> deadline = request.deadline_seconds ? request.deadline_seconds : definition.deadline_seconds;
  store::insert_tasks(definition,
                      {assigned.home, owner, request.creator ? request.creator->session : GetSessionUserId(), request.priority, run_at, now, deadline, request.initiator,
                       request.source_system, request.reason, request.correlation_id, request.tags, request.bypass_steps},
                      tasks);
  if (!request.tags.empty() || request.correlation_id)
    pg::execute(insert_labels, pg::Params().datum(store::id_array(fresh)).datum(pg::text_array(request.tags)).text_or_null(request.correlation_id));
  if (later) {
    std::vector<std::pair<store::StepKey, TimestampTz>> timers;
    for (std::int64_t id : fresh) timers.push_back({{id, 0, -1}, run_at});
    store::add_timers(timers);
  }
  if (deadline) store::add_deadlines(fresh);
  TASKER_FAULT("create.after_insert");
  store::note_tasks_created(definition.named_task_id, static_cast<std::int64_t>(fresh.size()));
  hint_new_tasks(request, definition, owner, fresh, later);
  if (!request.bypass_steps.empty())
    for (std::int64_t id : fresh) bypass_steps(id, request.bypass_steps);
}

}  // namespace

std::string connect_problem(Oid role) {
  struct Found {
    bool exists, login;
  };
  const Found found = pg::call([=] {
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
    Found out{HeapTupleIsValid(tuple), false};
    if (out.exists) {
      out.login = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcanlogin;
      ReleaseSysCache(tuple);
    }
    return out;
  });
  if (!found.exists) return "role " + std::to_string(role) + " does not exist";
  if (pg::kWorkersNeedLogin && !found.login) return "role \"" + pg::role_name(role) + "\" is not permitted to log in";
  if (!pg::call([=] { return pg::database_allows_connect(MyDatabaseId, role); }))
    return "role \"" + pg::role_name(role) + "\" has no CONNECT privilege on this database";
  return {};
}

bool role_is_gone(Oid role) {
  return pg::call([=] { return !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)); });
}

pg::Caught gone_owner(const std::string &detail) {
  return {"28000", "the owner of the task does not exist any more", detail, "Create the task again as another role.", {}};
}

bool lock_definition(int named_task_id) {
  const LOCKTAG tag = definition_lock(named_task_id);
  const LOCKTAG *t = &tag;
  return pg::call([=] {
    if (LockAcquire(t, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL) return true;
    (void)LockAcquire(t, AccessShareLock, false, false);
    return false;
  });
}

bool lock_definition_exclusively(int named_task_id) {
  const LOCKTAG tag = definition_lock(named_task_id);
  const LOCKTAG *t = &tag;
  return pg::call([=] { return LockAcquire(t, AccessExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL; });
}

namespace {

struct Checked {
  store::DefinitionPtr definition;
  Oid owner;
};

// Precondition: inside pg::Spi, as the caller.
Checked check(const NewTasks &request) {
  check_request(request);
  store::DefinitionPtr definition;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    // Whoever had to wait for a replacement looks again: what was found may be gone.
    std::optional<store::FoundDefinition> found;
    do found = store::find_definition(request.ns, request.name, request.version);
    while (found && !found->retired && !lock_definition(found->named_task_id));
    if (!found)
      throw tasker::Error(sqlstate::kNoData, "definition " + request.ns + "." + request.name + (request.version ? " version " + *request.version : "") + " does not exist", {},
                          "Define it with tasker.define_task; tasker.named_task_list shows those there are.");
    if (found->retired)
      throw tasker::Error(sqlstate::kDefinitionInUse, "definition " + request.ns + "." + request.name + (request.version ? " version " + *request.version : "") + " is retired", {}, "Define a new version.");
    definition = store::definition(found->named_task_id);
  }
  check_bypass(request, *definition);
  const Oid owner = owner_of(request, *definition);
  check_owner(request, owner);
  check_servers(*definition, owner);
  const core::json schema = definition->context_schema.empty() ? core::json() : core::parse_json(definition->context_schema);
  for (std::size_t i = 0; i < request.contexts.size(); i++) check_context(request.contexts[i], schema, i + 1, request.contexts.size() > 1);
  return {definition, owner};
}

}  // namespace

void check_tasks(const NewTasks &request) {
  pg::Spi spi;
  check(request);
}

std::vector<std::int64_t> create_tasks(const NewTasks &request) {
  warn_without_preload();
  pg::Spi spi;
  const auto [definition, owner] = check(request);
  pg::OwnerScope as_owner(store::cached_extension_owner());
  Assigned assigned = assign_ids(request, *definition, owner);
  write_tasks(request, *definition, owner, assigned);
  return assigned.ids;
}

}  // namespace tasker::engine
