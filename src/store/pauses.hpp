// Orders of pause_tasks: what they hold, known to every process without asking the tables.
//
// An order holds whatever is in its scope, now and later, and so costs one row however many tasks there are. Nobody
// runs a query to learn that nothing has changed: the commit of whoever begins or ends an order, or defines a task,
// raises the database's pause generation, and only then is the list read again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"

namespace tasker::store {

// The name of the scope of order p: "this database", "namespace billing", "billing.invoice". Needs a namespace ps.
#define TASKER_SCOPE_NAME                                                                                                    \
  "CASE WHEN p.task_namespace_id IS NULL THEN 'this database' WHEN p.name IS NULL THEN 'namespace ' || ps.name ELSE ps.name || '.' || p.name END"
// Does order p hold the tasks of definition n?
#define TASKER_SCOPE_HOLDS                                                                                                                 \
  "p.resumed_at IS NULL AND (p.task_namespace_id IS NULL OR p.task_namespace_id = n.task_namespace_id AND (p.name IS NULL OR p.name = n.name))"

// The definitions that open orders hold.
struct Paused {
  bool everything = false;
  std::vector<int> named_tasks;  // ascending
};
// As the tables have it. Precondition: inside pg::OwnerScope and pg::Spi.
Paused read_paused(pg::Access access);

// Reads the orders, if they may have changed since the last call. The same precondition.
void refresh_pauses();
// May they have changed since the last refresh? One load from shared memory.
bool pauses_changed();
// Was this definition in a paused scope at the last refresh?
bool scope_paused(int named_task_id);

// What an order covers: nothing named, this database; a namespace; one definition of it, all versions.
struct Scope {
  std::optional<int> namespace_id;
  std::optional<std::string> name;
};
// All: precondition as refresh_pauses. False: an order for this very scope was there, or was not.
bool insert_pause(const Scope &scope, Oid actor, const std::optional<std::string> &reason);
bool end_pause(const Scope &scope, Oid actor, const std::optional<std::string> &reason);
// Names of open orders, wider or narrower, that hold tasks of the scope, the widest first; at most `limit`.
std::vector<std::string> pauses_over(const Scope &scope, int limit);

}  // namespace tasker::store
