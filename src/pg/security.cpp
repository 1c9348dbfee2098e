#include "pg/security.hpp"

#include <cstring>

extern "C" {
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "storage/proc.h"
}

namespace tasker::pg {

namespace {

inline constexpr const char *kSearchPath = "pg_catalog, pg_temp";

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

OwnerScope::Switches OwnerScope::switches() { return {enable_seqscan, enable_hashjoin, enable_mergejoin, enable_bitmapscan, jit_enabled, LockTimeout}; }

void OwnerScope::set(const Switches &to) {
  enable_seqscan = to.seqscan;
  enable_hashjoin = to.hashjoin;
  enable_mergejoin = to.mergejoin;
  enable_bitmapscan = to.bitmapscan;
  jit_enabled = to.jit;
  LockTimeout = to.lock_timeout;
}

void OwnerScope::enter(Oid owner, int lock_timeout_ms) {
  GetUserIdAndSecContext(&old_user_, &old_context_);
  old_ = switches();
  SetUserIdAndSecContext(owner, old_context_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
  if (std::strcmp(namespace_search_path, kSearchPath) != 0) {
    nest_ = NewGUCNestLevel();
    try {
      call([] { (void)set_config_option("search_path", kSearchPath, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false); });
    } catch (...) {
      SetUserIdAndSecContext(old_user_, old_context_);
      throw;
    }
  }
  set({false, false, false, false, false, lock_timeout_ms > 0 ? lock_timeout_ms : old_.lock_timeout});
}

OwnerScope::~OwnerScope() {
  set(old_);
  SetUserIdAndSecContext(old_user_, old_context_);
  // In flight of an error the abort of the (sub)transaction restores the setting.
  if (nest_ != 0 && std::uncaught_exceptions() == 0) AtEOXact_GUC(true, nest_);
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
