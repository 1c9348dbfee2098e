// Rows of tasks and steps as the engine reads them. Precondition: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/readiness.hpp"
#include "store/definitions.hpp"
#include "store/keys.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

struct TaskRow {
  std::int64_t task_id = 0, home = 0;
  int named_task_id = 0;
  Oid owner = InvalidOid, created_by = InvalidOid;
  int priority = 0;
  core::TaskState state = core::TaskState::kPending;
  int moves = 0, sinks_left = 0;
  bool live = false, paused = false, failing = false, uneven = false;
  TimestampTz run_at = 0;
  std::optional<TimestampTz> deadline_at;
  ItemPointerData place{};  // of the row, where known: see pg::Table::find
};

struct StepRow {
  StepKey key;
  core::StepState state = core::StepState::kPending;
  int moves = 0, attempts = 0, generation = 0, waiting_on = 0, crashes = 0;
  std::optional<int> max_attempts;  // of the row; else the definition's
  bool permanent = false;
  std::optional<TimestampTz> started_at, finished_at, next_attempt_at;
  ItemPointerData place{};
};

struct TaskFacts {
  TaskRow task;
  DefinitionPtr definition;
  std::vector<StepRow> steps;  // steps[step_no - 1]

  std::vector<core::StepFacts> for_core() const;
};

enum class RowLock { kNone, kUpdate };

std::optional<TaskRow> load_task(std::int64_t task_id, RowLock lock);
// Task and all its steps; nothing when the task does not exist. kUpdate locks the task row, then its steps' rows by key.
std::optional<TaskFacts> load_facts(std::int64_t task_id, RowLock lock);
core::StepFacts step_facts(const StepRow &row, const CompiledStep &step);

// This database's nonce, and whether its tasks may run here.
struct Home {
  std::int64_t nonce = 0;
  bool held = false;
  std::string reason;
};
// thorough: looks at every live task for one of another database (a dispatcher's start); else at the first task only.
Home load_home(bool thorough);

// What the dispatcher reads. ready_steps (ready.cpp) gives a hint for each step of these tasks that is ready as far as its
// own row and its parents go (kStep), or becomes so at a known time (kTimer); and kWatch for tasks that need watching.
std::vector<Hint> ready_steps(const std::vector<std::int64_t> &task_ids, std::int64_t nonce);

struct PagePosition {
  int rank = INT_MIN;  // minus the priority
  std::int64_t task_id = 0;
  std::int64_t from = 0;  // no task before that id
};
// The next `limit` runnable tasks in order of priority, then id; moves the position. Fewer than limit: the end. 0 stands for
// one that is not to run here now.
std::vector<std::int64_t> runnable_page(std::int64_t nonce, PagePosition &position, int limit);
bool any_live_task();

}  // namespace tasker::store
