#include "engine/pauses.hpp"

#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/pauses.hpp"

namespace tasker::engine {

namespace {

inline constexpr int kNamed = 5;  // orders that a notice lists

void require_operator(Oid caller) {
  if (!has_level(caller, "operator"))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to pause or resume tasks by scope", {},
                        "Operators and admins may; tasker.pause_task pauses single tasks of yours.");
}

std::string name_of(const std::optional<std::string> &ns, const std::optional<std::string> &name) {
  if (!ns) return "this database";
  return name ? *ns + "." + *name : "namespace " + *ns;
}

store::Scope find_scope(const std::optional<std::string> &ns, const std::optional<std::string> &name) {
  if (name && !ns) throw tasker::Error(sqlstate::kInvalidParameter, "a name needs a namespace", {}, "Pass namespace => 'default' for definitions that name none.");
  store::Scope scope;
  if (!ns) return scope;
  scope.namespace_id = store::find_namespace(*ns);
  if (!scope.namespace_id) throw tasker::Error(sqlstate::kNoData, "namespace " + *ns + " does not exist");
  if (name && store::definitions_in(*scope.namespace_id, name).empty())
    throw tasker::Error(sqlstate::kNoData, "definition " + *ns + "." + *name + " does not exist", {}, "tasker.named_task_list shows those there are.");
  scope.name = name;
  return scope;
}

void tell_of_others(const store::Scope &scope, const std::string &what) {
  const std::vector<std::string> others = store::pauses_over(scope, kNamed + 1);
  if (others.empty()) return;
  std::string list;
  for (std::size_t i = 0; i < others.size() && i < static_cast<std::size_t>(kNamed); i++) list += (i > 0 ? ", " : "") + others[i];
  if (others.size() > static_cast<std::size_t>(kNamed)) list += ", …";
  pg::report(pg::Level::kNotice, "tasks of " + what + " are still paused by other orders: " + list, {},
             "Each is ended by tasker.resume_tasks() with its own scope; tasker.paused_scopes shows all.");
}

}  // namespace

bool pause_scope(const std::optional<std::string> &ns, const std::optional<std::string> &name, const Reason &reason) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  require_operator(caller);
  return store::insert_pause(find_scope(ns, name), session, reason);
}

bool resume_scope(const std::optional<std::string> &ns, const std::optional<std::string> &name, const Reason &reason) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  require_operator(caller);
  const store::Scope scope = find_scope(ns, name);
  const bool ended = store::end_pause(scope, session, reason);
  tell_of_others(scope, name_of(ns, name));
  return ended;
}

}  // namespace tasker::engine
