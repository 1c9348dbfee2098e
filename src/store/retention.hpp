// Removal of finished tasks with all that belongs to them. What stays is a line of task_summaries, written in the same
// transaction. Precondition of all functions: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>

#include "core/retention.hpp"
#include "pg/spi.hpp"

namespace tasker::store {

// The setting and the rules of namespaces.
core::RetentionRules load_retention_rules();
// keep: nothing takes the rule away, core::kKeepForever keeps. False when it was so already.
bool set_retention_rule(int namespace_id, std::optional<std::int64_t> keep, Oid actor);

// The next step of a walk after `position`: reads one page of tasks, removes at most max_tasks that are due and stops when it has
// worked for `budget` microseconds. Passes over tasks that somebody holds locked. Reads a bounded range of the index, however many
// dead entries it holds.
core::WalkStep walk_tasks(std::int64_t position, const core::RetentionRules &rules, TimestampTz now, std::int64_t max_tasks, std::int64_t budget);

// What the walk has seen, for the view.
void write_retention_marks(const std::map<int, core::WalkMark> &marks, TimestampTz now);

// Fire times and moves of breakers that are older than the retention, some hundred at a time; the last of each is kept, and a
// fire whose task is still there. True: there may be more.
bool trim_records(const core::RetentionRules &rules, TimestampTz now);

// For whoever adds rows to a task that is over: it is still there, and stays until the end of this transaction.
bool keep_from_removal(std::int64_t task_id);

}  // namespace tasker::store
