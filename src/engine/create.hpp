// Creates tasks: rows of the caller's transaction, runnable when it commits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/definitions.hpp"

namespace tasker::engine {

// The options all tasks of one call share. Texts are checked here; times and sizes too.
struct NewTasks {
  std::string ns, name;
  std::optional<std::string> version;
  int priority = 0;
  TimestampTz run_at = 0;
  std::optional<std::string> initiator, source_system, reason, correlation_id;
  std::vector<std::string> tags, bypass_steps;
  std::optional<double> deadline_seconds;
  // Whoever asked for them, when it is not the caller: a schedule creates tasks for the role that made it.
  struct Creator {
    Oid user = InvalidOid, session = InvalidOid;
  };
  std::optional<Creator> creator;
  // One element per task:
  std::vector<Datum> contexts;                                    // jsonb
  std::vector<std::optional<std::string>> idempotency_keys;       // same length, or empty
};

// Ids in the order of contexts; an idempotency key that exists gives the existing task. Raises 02000 for an unknown
// definition, TK006 for a retired one, 22023 for bad values (every schema violation in DETAIL), 42501 for owners that may not be.
std::vector<std::int64_t> create_tasks(const NewTasks &request);
// Raises what create_tasks would raise, and creates nothing.
void check_tasks(const NewTasks &request);

// Whether executors can log in as this role here: "" or why not.
std::string connect_problem(Oid role);

bool role_is_gone(Oid role);
// What ends the steps of an owner who is. detail: how it came to light.
pg::Caught gone_owner(const std::string &detail = {});

// Holds definitions against replacement until the end of the transaction (share), or asks whether nobody does (exclusive, no wait).
// false: the lock is held now, but after a wait, in which the definition may have been replaced.
bool lock_definition(int named_task_id);
bool lock_definition_exclusively(int named_task_id);

}  // namespace tasker::engine
