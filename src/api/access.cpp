// grant_access and its kin: the GRANTs that make the levels so.
//
// access_grants says who has which level; the privileges on tasker's objects follow from it and from the rules in
// access_rules.hpp, and from nothing else: apply_access() can take everything back and give it again.
#include "api/access_rules.hpp"
#include "core/definition.hpp"
#include "engine/control.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/hints.hpp"

extern "C" {
#include "tcop/dest.h"
}

using namespace tasker;
using namespace tasker::api;

namespace {

Levels level_bit(const std::string &name) {
  for (const LevelName &level : kLevelNames)
    if (name == level.name) return level.bit;
  throw tasker::Error(sqlstate::kInvalidParameter, "\"" + name + "\" is not a level of access", {},
                      "Levels are viewer, monitor, submitter, author, worker, operator and admin.");
}

constinit pg::Query select_routines{
    "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'tasker'::regnamespace AND p.proname = ANY ($1) ORDER BY 1", 1,
    {TEXTARRAYOID}};
constinit pg::Query select_columns{
    "SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
    " WHERE a.attrelid = ('tasker.' || quote_ident($1))::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL ($2)",
    2, {TEXTOID, TEXTARRAYOID}};
constinit pg::Query select_grantees{
    "SELECT DISTINCT x.grantee FROM (SELECT c.relacl, c.relowner FROM pg_catalog.pg_class c WHERE c.relnamespace = 'tasker'::regnamespace"
    " UNION ALL SELECT a.attacl, c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'tasker'::regnamespace"
    " UNION ALL SELECT p.proacl, p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'tasker'::regnamespace"
    " UNION ALL SELECT t.typacl, t.typowner FROM pg_catalog.pg_type t WHERE t.typnamespace = 'tasker'::regnamespace"
    " UNION ALL SELECT w.fdwacl, w.fdwowner FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.fdwname = 'tasker_http'"
    " UNION ALL SELECT n.nspacl, n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tasker') AS o(acl, owner)"
    " CROSS JOIN LATERAL aclexplode(o.acl) AS x WHERE x.grantee <> 0 AND x.grantee <> o.owner",
    0, {}};
constinit pg::Query insert_grant{
    "INSERT INTO tasker.access_grants (role, level, queue, granted_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", 4,
    {OIDOID, TEXTOID, TEXTOID, OIDOID}};
constinit pg::Query delete_grant{
    "DELETE FROM tasker.access_grants g WHERE g.role = $1 AND g.level = $2 AND g.queue = $3", 3, {OIDOID, TEXTOID, TEXTOID}};
constinit pg::Query select_grants{
    "SELECT g.role::oid, g.level FROM tasker.access_grants g WHERE g.role = $1 OR $1 = 0::oid ORDER BY g.role::oid", 1, {OIDOID}};
// The grant covers all versions, so their definers must all be the caller's.
constinit pg::Query select_authors{
    "SELECT DISTINCT n.author::oid, n.task_namespace_id FROM tasker.named_tasks n JOIN tasker.task_namespaces s USING (task_namespace_id) WHERE s.name = $1 AND n.name = $2", 2,
    {TEXTOID, TEXTOID}};
constinit pg::Query insert_definition_grant{
    "INSERT INTO tasker.definition_grants (task_namespace_id, name, role, granted_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", 4,
    {INT4OID, TEXTOID, OIDOID, OIDOID}};
constinit pg::Query delete_definition_grant{
    "DELETE FROM tasker.definition_grants g WHERE g.task_namespace_id = $1 AND g.name = $2 AND g.role = $3", 3, {INT4OID, TEXTOID, OIDOID}};

bool role_exists(Oid role) {
  return pg::call([=] { return GetUserNameFromId(role, true) != nullptr; });
}

std::string quoted_role(Oid role) {
  return pg::call([=] { return quote_identifier(GetUserNameFromId(role, false)); });
}

// A GRANT or REVOKE has no parameters to bind: every name in the text went through quote_identifier.
void run_utility(const std::string &statement) {
  const char *text = statement.c_str();
  pg::call([=] {
    auto *raw = static_cast<RawStmt *>(linitial(pg_parse_query(text)));
    PlannedStmt *wrapper = makeNode(PlannedStmt);
    wrapper->commandType = CMD_UTILITY;
    wrapper->utilityStmt = raw->stmt;
    wrapper->stmt_location = raw->stmt_location;
    wrapper->stmt_len = raw->stmt_len;
    ProcessUtility(wrapper, text, false, PROCESS_UTILITY_QUERY, nullptr, nullptr, None_Receiver, nullptr);
    CommandCounterIncrement();
  });
}

Datum names_array(std::span<const char *const> names) {
  pg::ArrayBuilder array(TEXTOID);
  for (const char *name : names) array.text(name);
  return array.datum();
}

std::string columns_of(const Rule &rule) {
  if (rule.hidden.empty()) return {};
  return " (" + pg::execute(select_columns, pg::Params().text(rule.name).datum(names_array(rule.hidden))).rows.text(0, 1) + ")";
}

// Gives to, or takes from, one role what `wanted` picks of the rules.
template <typename Predicate>
void change_privileges(const char *verb, const char *preposition, Oid role, Predicate wanted) {
  const std::string begin = std::string(verb) + " ", end = std::string(" ") + preposition + " " + quoted_role(role);
  std::vector<const char *> routines;
  for (const Rule &rule : kRules) {
    if (!wanted(rule)) continue;
    const std::string name = std::string("tasker.") + rule.name;
    switch (rule.kind) {
      case Kind::kSchema: run_utility(begin + "USAGE ON SCHEMA tasker" + end); break;
      case Kind::kType: run_utility(begin + "USAGE ON TYPE " + name + end); break;
      case Kind::kRelation: run_utility(begin + "SELECT" + columns_of(rule) + " ON TABLE " + name + end); break;
      case Kind::kRoutine: routines.push_back(rule.name); break;
      case Kind::kWrapper: run_utility(begin + "USAGE ON FOREIGN DATA WRAPPER " + rule.name + end); break;
    }
  }
  const pg::Result found = pg::execute(select_routines, pg::Params().datum(names_array(routines)));
  std::string list;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) list += (i > 0 ? ", " : "") + found.rows.text(i, 1);
  if (!list.empty()) run_utility(begin + "EXECUTE ON ROUTINE " + list + end);
}

void give(Oid role, Levels levels) {
  change_privileges("GRANT", "TO", role, [=](const Rule &rule) { return (rule.levels & levels) != 0; });
}

void take(Oid role, Levels lost, Levels kept) {
  change_privileges("REVOKE", "FROM", role, [=](const Rule &rule) { return (rule.levels & lost) != 0 && (rule.levels & kept) == 0; });
}

Levels levels_of(Oid role) {
  const pg::Result rows = pg::execute(select_grants, pg::Params().oid(role));
  Levels levels = 0;
  for (std::uint64_t i = 0; i < rows.rows.size(); i++) levels |= level_bit(rows.rows.text(i, 2));
  return levels;
}

// Two changes at once would meet in the same ACLs and one of them fail: one after the other.
void lock_grants() {
  pg::call([] { LockRelationOid(get_relname_relid("access_grants", get_namespace_oid("tasker", false)), ShareRowExclusiveLock); });
}

void require_admin(Oid caller, const char *what) {
  if (!engine::has_level(caller, "admin")) throw tasker::Error(sqlstate::kInsufficientPrivilege, std::string("permission denied to ") + what);
}

struct Grant {
  Oid role;
  std::string level, queue;
  Levels bit;
};

Grant read_grant(FunctionCallInfo fcinfo) {
  const pg::Args args(fcinfo);
  Grant grant{DatumGetObjectId(args.datum(0, "role")), args.text(1, "level"), args.text_or_null(2).value_or(""), 0};
  grant.bit = level_bit(grant.level);
  if (grant.bit == kWorker) {
    if (grant.queue.empty()) throw tasker::Error(sqlstate::kInvalidParameter, "level worker needs a queue", {}, "A worker may claim steps of one queue; grant it once for each.");
    if (const std::string problem = core::name_problem(grant.queue, core::kMaxTaskName); !problem.empty())
      throw tasker::Error(sqlstate::kInvalidParameter, "queue " + problem);
  } else if (!grant.queue.empty()) {
    throw tasker::Error(sqlstate::kInvalidParameter, "level " + grant.level + " takes no queue");
  }
  return grant;
}

void require_role(Oid role) {
  if (!role_exists(role)) throw tasker::Error("42704", "role with OID " + std::to_string(role) + " does not exist");
}

// Namespace id of a definition whose grants the caller may change.
int require_definer(Oid caller, const std::string &ns, const std::string &name) {
  const pg::Result authors = pg::execute(select_authors, pg::Params().text(ns).text(name));
  if (authors.rows.empty()) throw tasker::Error(sqlstate::kNoData, "definition " + ns + "." + name + " does not exist");
  for (std::uint64_t i = 0; i < authors.rows.size(); i++) {
    const Oid author = authors.rows.oid(i, 1);
    if (!pg::has_privileges_of(caller, author) && !engine::has_level(caller, "admin"))
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "definition " + ns + "." + name + " belongs to \"" + pg::role_name(author) + "\"");
  }
  return authors.rows.int4(0, 2);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_grant_access) {
  return pg::entry([&]() -> Datum {
    const Grant grant = read_grant(fcinfo);
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    require_admin(caller, "grant access to tasker");
    require_role(grant.role);
    lock_grants();
    pg::execute(insert_grant, pg::Params().oid(grant.role).text(grant.level).text(grant.queue).oid(caller));
    give(grant.role, grant.bit);
    store::note_pauses_changed();  // it decides who is told of events, too
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_revoke_access) {
  return pg::entry([&]() -> Datum {
    const Grant grant = read_grant(fcinfo);
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    require_admin(caller, "revoke access to tasker");
    lock_grants();
    pg::execute(delete_grant, pg::Params().oid(grant.role).text(grant.level).text(grant.queue));
    if (role_exists(grant.role)) take(grant.role, grant.bit, levels_of(grant.role));
    store::note_pauses_changed();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_apply_access) {
  return pg::entry([&]() -> Datum {
    (void)fcinfo;
    const Oid caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    require_admin(caller, "reset the privileges on tasker");
    lock_grants();
    const pg::Result grantees = pg::execute(select_grantees);
    std::string from = "PUBLIC";
    for (std::uint64_t i = 0; i < grantees.rows.size(); i++)
      if (role_exists(grantees.rows.oid(i, 1))) from += ", " + quoted_role(grantees.rows.oid(i, 1));
    for (const char *objects : {"ALL TABLES IN SCHEMA tasker", "ALL SEQUENCES IN SCHEMA tasker", "ALL ROUTINES IN SCHEMA tasker", "SCHEMA tasker",
                                "FOREIGN DATA WRAPPER tasker_http"})
      run_utility(std::string("REVOKE ALL ON ") + objects + " FROM " + from);
    for (const Rule &rule : kRules)
      if (rule.kind == Kind::kType) run_utility(std::string("REVOKE ALL ON TYPE tasker.") + rule.name + " FROM " + from);
    const pg::Result grants = pg::execute(select_grants, pg::Params().oid(InvalidOid));
    for (std::uint64_t i = 0; i < grants.rows.size(); i++)
      if (role_exists(grants.rows.oid(i, 1))) give(grants.rows.oid(i, 1), level_bit(grants.rows.text(i, 2)));
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_access_rules) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    constexpr const char *kinds[] = {"schema", "type", "routine", "relation", "foreign data wrapper"};
    for (const LevelName &level : kLevelNames)
      for (const Rule &rule : kRules)
        if ((rule.levels & level.bit) != 0)
          rows.text(level.name).text(kinds[static_cast<int>(rule.kind)]).text(rule.name).datum(names_array(rule.hidden)).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_grant_task_definition) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace"), name = args.text(1, "name");
    const Oid role = DatumGetObjectId(args.datum(2, "role")), caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    const int namespace_id = require_definer(caller, ns, name);
    require_role(role);
    pg::execute(insert_definition_grant, pg::Params().int4(namespace_id).text(name).oid(role).oid(caller));
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_revoke_task_definition) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string ns = args.text(0, "namespace"), name = args.text(1, "name");
    const Oid role = DatumGetObjectId(args.datum(2, "role")), caller = GetUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner;
    const int namespace_id = require_definer(caller, ns, name);
    pg::execute(delete_definition_grant, pg::Params().int4(namespace_id).text(name).oid(role));
    return Datum(0);
  });
}
