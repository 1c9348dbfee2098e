// The one mover: every change of state of a task or a step is written here, row and transition together.
//
// A move names the `moves` counter it was decided upon; a row that has moved since is not touched, and the
// caller sees that from the count. Precondition of all functions: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/state.hpp"
#include "pg/spi.hpp"
#include "store/keys.hpp"

// The history in the form of its tables, with what the rows of tasks and steps tell by themselves: see tables.sql, task_moves.
#define TASKER_TASK_MOVES                                                                                         \
  "(SELECT m.task_id, m.sort_key, m.from_state, m.to_state, m.metadata, m.created_at, m.begun_at FROM tasker.task_moves m" \
  " UNION ALL SELECT r.task_id, 10 * r.moves, 'pending', r.state, '{}', r.finished_at, r.started_at FROM tasker.tasks r WHERE r.untold > 0)"
#define TASKER_STEP_MOVES                                                                                         \
  "(SELECT m.task_id, m.step_no, m.element, m.sort_key, m.from_state, m.to_state, m.metadata, m.created_at, m.begun_at, m.attempt FROM tasker.step_moves m" \
  " UNION ALL SELECT r.task_id, r.step_no, r.element, 10 * r.moves, 'pending', r.state, '{}', r.finished_at, r.started_at, r.attempts"       \
  "   FROM tasker.workflow_steps r WHERE r.untold > 0)"

namespace tasker::store {

template <class State>
struct Hop {
  State to;
  TimestampTz at;
  std::string metadata;  // a JSON object, or empty for {}
  // Not 0: a step begins, and there is nothing more to say of it than which attempt it is. Such a begin, and that of a task
  // without metadata, has no row of its own where another hop follows.
  int attempt = 0;
};
Hop<core::StepState> begin_attempt(TimestampTz at, int attempt);

struct StepMove {
  StepKey key;
  int expected_moves = 0;
  core::StepState from = core::StepState::kPending;
  core::MoveCause cause = core::MoveCause::kEngine;
  std::vector<Hop<core::StepState>> hops;  // at least one; may be {pending, in_progress, complete}
  // The row after the last hop.
  int attempts = 0;
  int generation = 0;
  bool permanent = false;
  std::optional<int> max_attempts;  // nothing: as it was; 0: the definition's
  std::optional<int> waiting_on;    // nothing: as it was
  std::optional<TimestampTz> started_at, finished_at, next_attempt_at;
  std::optional<Datum> result;      // jsonb
  std::optional<std::string> error;  // JSON text
  ItemPointerData place{};  // of the row, where it was read
};

// How many rows moved; less than moves.size() means that somebody else was faster. Raises TK004 for a move the table in
// core/state does not allow.
std::size_t move_steps(const std::vector<StepMove> &moves);

struct TaskMove {
  std::int64_t task_id = 0;
  int expected_moves = 0;
  core::TaskState from = core::TaskState::kPending;
  core::MoveCause cause = core::MoveCause::kEngine;
  std::vector<Hop<core::TaskState>> hops;  // may be empty: only the columns below change
  int sinks_done = 0;           // satisfied sinks to take off sinks_left
  bool complete_at_zero = false;  // one more move, to complete, when sinks_left gets 0 and the task is even and not failing
  bool set_failing = false;
  bool set_uneven = false;
  bool unpark = false;           // runnable again
  std::optional<std::string> error;  // kept when one is there
  std::optional<TimestampTz> started_at;
  ItemPointerData place{};
};

struct MovedTask {
  std::int64_t task_id;
  core::TaskState state;
  int moves;
  int sinks_left;
  bool failing, uneven;
  bool completed_now;  // by complete_at_zero
};
// The rows that moved, in no particular order. live, runnable, finished_at and the timer of the deadline follow from the state.
std::vector<MovedTask> move_tasks(const std::vector<TaskMove> &moves);

// Counts of finished tasks, as differences. sign +1 when a task became finished, -1 when it left that state.
// With `steps` all of its steps are complete and their number is given; without, they are counted in the table.
void tally(std::int64_t task_id, int named_task_id, core::TaskState state, int sign, std::optional<int> complete_steps = std::nullopt);
// The same for many clean completions of one definition at once.
void tally_complete(int named_task_id, int tasks, int steps_each);

// Adds the differences up, to one row per definition.
void fold_tallies();

// {"actor": …, "reason": …} with the session's user; reason left out when nothing.
std::string actor_metadata(const std::optional<std::string> &reason, std::initializer_list<std::pair<const char *, std::string>> more = {});

}  // namespace tasker::store
