// Who sees what: the functions behind the row-level security policies, and what the payload functions ask.
#include "api/visibility.hpp"

#include <algorithm>

#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"

extern "C" {
#include "catalog/pg_auth_members.h"
#include "utils/catcache.h"
}

using namespace tasker;

namespace tasker::api {

namespace {

constinit pg::Query select_levels{
    "SELECT pg_catalog.bool_or(g.level <> 'monitor') FROM tasker.access_grants g"
    " WHERE g.level IN ('monitor', 'operator', 'admin') AND pg_catalog.pg_has_role($1, g.role::oid, 'USAGE') HAVING pg_catalog.count(*) > 0",
    1, {OIDOID}};

// Roles that `member` was made a member of, directly.
std::vector<Oid> granted_roles(Oid member) {
  struct Found {
    Oid *roles;
    int count;
  };
  const Found found = pg::call([=] {
    CatCList *list = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(member));
    Found out{static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<std::size_t>(list->n_members + 1))), list->n_members};
    for (int i = 0; i < list->n_members; i++)
      out.roles[i] = reinterpret_cast<Form_pg_auth_members>(GETSTRUCT(&list->members[i]->tuple))->roleid;
    ReleaseSysCacheList(list);
    return out;
  });
  return {found.roles, found.roles + found.count};
}

// The search follows every membership; which of them are inherited is Postgres's own decision, asked at the end.
// A superuser has the privileges of all roles without being a member: sees_all() answers for him.
std::vector<Oid> owners_visible_to(Oid role) {
  std::vector<Oid> all{role};
  // Its member by rule, not by row, is the owner of the database.
  if (pg::has_privileges_of(role, ROLE_PG_DATABASE_OWNER)) all.push_back(ROLE_PG_DATABASE_OWNER);
  for (std::size_t i = 0; i < all.size(); i++)
    for (const Oid granted : granted_roles(all[i]))
      if (std::find(all.begin(), all.end(), granted) == all.end()) all.push_back(granted);
  std::erase_if(all, [&](Oid other) { return !pg::has_privileges_of(role, other); });
  return all;
}

}  // namespace

void Viewer::read_levels() {
  if (known_) return;
  const Oid owner = store::cached_extension_owner();
  if (pg::is_superuser(role_) || pg::has_privileges_of(role_, owner)) {
    sees_all_ = operates_ = true;
  } else {
    pg::Spi spi;
    pg::OwnerScope as_owner(owner);
    const pg::Result levels = pg::execute(select_levels, pg::Params().oid(role_), pg::Access::kRead);
    sees_all_ = !levels.rows.empty();
    operates_ = sees_all_ && levels.rows.boolean(0, 1);
  }
  known_ = true;
}

bool Viewer::sees_all() {
  read_levels();
  return sees_all_;
}

bool Viewer::operates() {
  read_levels();
  return operates_;
}

// Membership first: it is answered from a cache.
bool Viewer::sees(Oid owner, Oid created_by) {
  return pg::has_privileges_of(role_, owner) || pg::has_privileges_of(role_, created_by) || sees_all();
}

bool Viewer::sees_payload(Oid owner, Oid created_by) {
  return pg::has_privileges_of(role_, owner) || pg::has_privileges_of(role_, created_by) || operates();
}

SnapshotKey current_snapshot() {
  const Snapshot snapshot = GetActiveSnapshot();
  return {snapshot->xmin, snapshot->xmax, snapshot->xcnt + static_cast<std::uint32_t>(snapshot->subxcnt), snapshot->curcid};
}

Sight Memo::sight(Oid owner, Oid created_by) {
  if (owner != owner_ || created_by != created_by_ || owner == InvalidOid) {
    of_owners_ = viewer_.sees_payload(owner, created_by) ? Sight::kPayload : viewer_.sees(owner, created_by) ? Sight::kRow : Sight::kNothing;
    owner_ = owner;
    created_by_ = created_by;
  }
  return of_owners_;
}

Sight Memo::sight_of(std::int64_t task_id) {
  if (task_id != task_id_ || task_id == 0) {
    const FoundRow task = read_row(kTasks, {.count = 1, .first = task_id}, {"owner", "created_by"});
    of_task_ = task.found ? sight(DatumGetObjectId(task.value[0]), DatumGetObjectId(task.value[1])) : Sight::kNothing;
    task_id_ = task_id;
  }
  return of_task_;
}

Memo &memo_of(FunctionCallInfo fcinfo) {
  const Oid role = GetUserId();
  FmgrInfo *function = fcinfo->flinfo;
  auto *memo = static_cast<Memo *>(function->fn_extra);
  if (memo == nullptr) {
    memo = pg::call([=] { return static_cast<Memo *>(MemoryContextAlloc(function->fn_mcxt, sizeof(Memo))); });
    *memo = Memo();
    function->fn_extra = memo;
  }
  const SnapshotKey snapshot = current_snapshot();
  if (memo->viewer_.role() != role || !(memo->snapshot_ == snapshot)) {
    *memo = Memo();
    memo->viewer_ = Viewer(role);
    memo->snapshot_ = snapshot;
  }
  return *memo;
}

FoundRow read_row(const TableShape &shape, const RowKey &key, std::initializer_list<const char *> columns) {
  const TableShape *s = &shape;
  const RowKey *k = &key;
  const char *const *names = columns.begin();
  const int count = static_cast<int>(columns.size());
  return pg::call([=] {
    FoundRow row;
    const Oid schema = get_namespace_oid("tasker", false);
    const Oid table_oid = get_relname_relid(s->table, schema);
    Relation table = table_open(table_oid, AccessShareLock);
    ScanKeyData scan_keys[4];
    ScanKeyInit(&scan_keys[0], get_attnum(table_oid, s->key[0]), BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(k->first));
    for (int i = 1; i < k->count; i++)
      ScanKeyInit(&scan_keys[i], get_attnum(table_oid, s->key[i]), BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(k->rest[i - 1]));
    SysScanDesc scan = systable_beginscan(table, get_relname_relid(s->index, schema), true, GetActiveSnapshot(), k->count, scan_keys);
    HeapTuple tuple = systable_getnext(scan);
    row.found = HeapTupleIsValid(tuple);
    for (int i = 0; row.found && i < count; i++) {
      const AttrNumber number = get_attnum(table_oid, names[i]);
      const Datum value = heap_getattr(tuple, number, RelationGetDescr(table), &row.null[i]);
      if (row.null[i]) continue;
      const bool by_value = TupleDescAttr(RelationGetDescr(table), number - 1)->attbyval;
      row.value[i] = by_value ? value : PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return row;
  });
}

}  // namespace tasker::api

TASKER_SQL_FUNCTION(tasker_visible_owners) {
  return pg::entry([&]() -> Datum {
    (void)fcinfo;
    pg::ArrayBuilder array(OIDOID);
    for (const Oid role : api::owners_visible_to(GetUserId())) array.oid(role);
    return array.datum();
  });
}

TASKER_SQL_FUNCTION(tasker_sees_all) {
  return pg::entry([&]() -> Datum {
    (void)fcinfo;
    return BoolGetDatum(api::Viewer(GetUserId()).sees_all());
  });
}

TASKER_SQL_FUNCTION(tasker_sees_row) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const auto role = [&](int n, const char *name) { return DatumGetObjectId(args.datum(n, name)); };
    return BoolGetDatum(api::memo_of(fcinfo).sight(role(0, "owner"), role(1, "created_by")) != api::Sight::kNothing);
  });
}

TASKER_SQL_FUNCTION(tasker_sees_task) {
  return pg::entry([&]() -> Datum {
    return BoolGetDatum(api::memo_of(fcinfo).sight_of(pg::Args(fcinfo).int8(0, "task_id")) != api::Sight::kNothing);
  });
}

TASKER_SQL_FUNCTION(tasker_sees_payload) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const auto role = [&](int n, const char *name) { return DatumGetObjectId(args.datum(n, name)); };
    return BoolGetDatum(api::Viewer(GetUserId()).sees_payload(role(0, "owner"), role(1, "created_by")));
  });
}
