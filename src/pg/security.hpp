// Who runs what: tasker's own statements run as the extension's owner, for the length of one scope.
#pragma once

#include "pg/bridge.hpp"

namespace tasker::pg {

// The schema's facts of this database, looked up again in every transaction that needs them.
Oid extension_oid();          // InvalidOid when the extension is not installed here
Oid extension_owner();        // raises 55000 when it is not installed

// Switches to the extension owner, security-restricted, with search_path pinned and planner settings fixed to
// index paths (our statements are point lookups; plans made while tables are empty must serve when they are
// full). Gives everything back at the end of the scope, before any user code and before commit.
class OwnerScope {
 public:
  OwnerScope();
  // lock_timeout_ms 0: as the session has it.
  explicit OwnerScope(Oid owner, int lock_timeout_ms = 0);
  ~OwnerScope();
  OwnerScope(const OwnerScope &) = delete;
  OwnerScope &operator=(const OwnerScope &) = delete;

 private:
  void enter(Oid owner, int lock_timeout_ms);
  Oid old_user_;
  int old_context_;
  int nest_;
};

// Does `member` have the privileges of `role`? True for superusers.
bool has_privileges_of(Oid member, Oid role);
bool is_superuser(Oid role);
// "alice" or, for a role that is gone, its number.
std::string role_name(Oid role);

}  // namespace tasker::pg
