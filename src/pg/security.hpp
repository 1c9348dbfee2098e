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
//
// search_path goes through the configuration machinery, because what is cached of it must follow; where an outer scope has
// pinned it, nothing is done. The planner's switches and lock_timeout are variables without any hook, set and put back here: a
// step goes through several scopes, and each setting by name would cost two microseconds.
class OwnerScope {
 public:
  OwnerScope();
  // lock_timeout_ms 0: as the session has it.
  explicit OwnerScope(Oid owner, int lock_timeout_ms = 0);
  ~OwnerScope();
  OwnerScope(const OwnerScope &) = delete;
  OwnerScope &operator=(const OwnerScope &) = delete;

 private:
  struct Switches {
    bool seqscan, hashjoin, mergejoin, bitmapscan, jit;
    int lock_timeout;
  };
  static Switches switches();
  static void set(const Switches &to);
  void enter(Oid owner, int lock_timeout_ms);
  Oid old_user_;
  int old_context_;
  int nest_ = 0;  // 0: search_path was as it must be
  Switches old_;
};

// Does `member` have the privileges of `role`? True for superusers.
bool has_privileges_of(Oid member, Oid role);
bool is_superuser(Oid role);
// "alice" or, for a role that is gone, its number.
std::string role_name(Oid role);

}  // namespace tasker::pg
