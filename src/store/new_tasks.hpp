// The rows of new tasks and their steps, written side by side: by far the most of what create_tasks does.
// Precondition: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/definitions.hpp"

namespace tasker::store {

// What is the same for all tasks of a call.
struct NewTaskTerms {
  std::int64_t home = 0;  // see store/facts.hpp
  Oid owner = InvalidOid, created_by = InvalidOid;
  int priority = 0;
  TimestampTz run_at = 0, created_at = 0;  // runnable at once when run_at is not later
  std::optional<double> deadline_seconds;  // from run_at
  std::optional<std::string> initiator, source_system, reason;
  std::optional<std::string> correlation_id;  // each gets one of its own when there is none
  std::vector<std::string> tags, bypass_steps;
};
struct NewTask {
  std::int64_t task_id;
  Datum context;                     // jsonb
  const std::string *idempotency_key;  // or null
};
void insert_tasks(const CompiledDefinition &definition, const NewTaskTerms &terms, const std::vector<NewTask> &tasks);

// `count` new task ids, and this database's nonce as `home`. Nothing when the definition does not exist any more.
std::vector<std::int64_t> next_task_ids(int named_task_id, int count, std::int64_t *home);

}  // namespace tasker::store
