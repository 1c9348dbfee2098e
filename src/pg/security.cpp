#include "pg/security.hpp"

namespace tasker::pg {

namespace {

void pin(const char *name, const char *value) {
  (void)set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

}  // namespace

Oid extension_oid() {
  return call([] { return get_extension_oid("tasker", true); });
}

Oid extension_owner() {
  const Oid owner = call([]() -> Oid {
    Oid found = InvalidOid;
    Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key[1];
    ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("tasker"));
    SysScanDesc scan = systable_beginscan(extensions, ExtensionNameIndexId, true, nullptr, 1, key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) found = reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple))->extowner;
    systable_endscan(scan);
    table_close(extensions, AccessShareLock);
    return found;
  });
  if (!OidIsValid(owner))
    throw tasker::Error(sqlstate::kObjectNotReady, "extension \"tasker\" is not installed in this database", {}, "Run CREATE EXTENSION tasker.");
  return owner;
}

OwnerScope::OwnerScope() { enter(extension_owner(), 0); }
OwnerScope::OwnerScope(Oid owner, int lock_timeout_ms) { enter(owner, lock_timeout_ms); }

void OwnerScope::enter(Oid owner, int lock_timeout_ms) {
  GetUserIdAndSecContext(&old_user_, &old_context_);
  SetUserIdAndSecContext(owner, old_context_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
  nest_ = NewGUCNestLevel();
  try {
    call([=] {
      if (lock_timeout_ms > 0) {
        char value[16];
        snprintf(value, sizeof value, "%d", lock_timeout_ms);
        pin("lock_timeout", value);
      }
      pin("search_path", "pg_catalog, pg_temp");
      pin("enable_seqscan", "off");
      pin("enable_hashjoin", "off");
      pin("enable_mergejoin", "off");
      pin("enable_bitmapscan", "off");
      pin("jit", "off");
    });
  } catch (...) {
    SetUserIdAndSecContext(old_user_, old_context_);
    throw;
  }
}

OwnerScope::~OwnerScope() {
  SetUserIdAndSecContext(old_user_, old_context_);
  // In flight of an error the abort of the (sub)transaction restores the settings.
  if (std::uncaught_exceptions() == 0) AtEOXact_GUC(true, nest_);
}

bool has_privileges_of(Oid member, Oid role) {
  return call([=] { return has_privs_of_role(member, role); });
}

bool is_superuser(Oid role) {
  return call([=] { return superuser_arg(role); });
}

std::string role_name(Oid role) {
  const char *name = call([=] { return GetUserNameFromId(role, true); });
  return name ? name : std::to_string(role);
}

}  // namespace tasker::pg
