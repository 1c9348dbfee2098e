// Dead letters: failed steps that do not run again by themselves, and what people noted about them. Precondition of
// all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"
#include "store/facts.hpp"

namespace tasker::store {

// Which ones: nothing named, all that the role may control.
struct DeadLetterFilter {
  Oid role = InvalidOid;
  bool controls_all = false;                      // else tasks whose owner's or creator's privileges the role has
  std::int64_t except_task = 0;
  std::optional<std::vector<int>> named_tasks;
  std::optional<std::string> step, category, sqlstate;
  std::optional<TimestampTz> failed_since, failed_before;
};

// The next tasks with such a dead letter, ascending, after the one given; locked.
std::vector<std::int64_t> lock_dead_tasks(const DeadLetterFilter &filter, std::int64_t after, int limit);
bool any_dead_task(const DeadLetterFilter &filter, std::int64_t after);
// The steps of one task that are such.
std::vector<int> dead_steps(const DeadLetterFilter &filter, std::int64_t task_id);

bool is_dead_letter(const TaskRow &task, const StepRow &row, const CompiledStep &step);

// The note's id. It speaks of the step as it is now: of a later failure it says nothing.
std::int64_t insert_dead_letter_note(const StepRow &row, const std::string &status, const std::optional<std::string> &note, Oid actor);
// Those of the tasks, ascending, with a dead letter that nobody has closed: the last note on it, if any, says open.
std::vector<std::int64_t> with_open_dead_letter(const std::vector<std::int64_t> &task_ids, pg::Access access = pg::Access::kWrite);

}  // namespace tasker::store
