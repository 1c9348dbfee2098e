// Dead letters as people deal with them: retried in bulk, and with notes on what was found out.
#pragma once

#include <optional>
#include <string>

#include "engine/control.hpp"

namespace tasker::engine {

// Nothing named: every dead letter that the caller may control.
struct Redrive {
  std::optional<std::string> ns, name, step, category, sqlstate;
  std::optional<TimestampTz> failed_since, failed_before;
  int max_tasks = 1000;
  Reason reason;
};
// Makes the matching dead letters pending again, as retry_step does, in the oldest max_tasks tasks that have any; those of
// one task together. How many steps. A task that somebody holds is waited for; the one whose step runs this is left out.
// Raises 22023 and 02000 for filters that name nothing; tells in a NOTICE when there are more.
int redrive(const Redrive &wanted);

// status: open, resolved or wont_fix. The note's id. Raises TK004 for a step that is no dead letter now.
std::int64_t note_dead_letter(std::int64_t task_id, const std::string &step, const std::string &status, const std::optional<std::string> &note);

}  // namespace tasker::engine
