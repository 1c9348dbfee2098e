// One control call on one task: the caller's right, tasker's identity, the locks in their order (the task, then its
// steps by key), and the moves it makes. Everything is the caller's transaction.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/control.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"
#include "store/moves.hpp"

namespace tasker::engine {

[[noreturn]] void unknown_task(std::int64_t task_id);
// TK004: "<what> is <state>".
[[noreturn]] void wrong_state(const std::string &what, const std::string &state, const char *hint);

class ControlCall {
 public:
  // Raises 02000 for a task that does not exist or is not the caller's, TK004 in a step of this very task.
  ControlCall(std::int64_t task_id, const Reason &reason);

  store::TaskFacts &facts() { return facts_; }
  store::TaskRow &task() { return facts_.task; }
  // Raises 02000 when the task has no such step.
  store::StepRow &step(const std::string &name);
  const store::CompiledStep &definition_of(const store::StepRow &row) const { return facts_.definition->step(row.key.step_no); }
  TimestampTz now() const { return now_; }
  // Who and why; and by what, where the move alone does not say it.
  std::string metadata(const char *cause = nullptr) const;

  // Raises TK004 for a task that is over, but for one in error.
  void require_live_or_error();

  store::StepMove begin_move(const store::StepRow &row, core::StepState to, const char *cause = nullptr) const;
  // A failed step to be tried again: with one more attempt at least, or (reset) as if it never had been.
  store::StepMove retry_move(const store::StepRow &row, bool reset, const char *cause = nullptr) const;

  // Moves the task back to work; what a finished one added to the tallies is taken off before its steps move.
  void reopen();
  // Ends the task. `moves` of its steps follow it; then the counts show their final state.
  void finish(core::TaskState to, const std::vector<store::StepMove> &moves);
  // The moves of steps in a task that stays as it is. What a finished one added to the tallies follows them.
  void write_counted(const std::vector<store::StepMove> &moves);
  void write(const std::vector<store::StepMove> &moves);
  // No move of the task itself: its end is now decided by looking at every step.
  void mark_uneven(std::optional<std::string> error = std::nullopt);
  // Before a step is satisfied or made pending by hand: the task lives, and its end is looked at.
  void revive();
  // The step counts as done for its children now.
  void count_for_children(const store::StepRow &row);

  void hint(store::HintKind kind, int step_no = 0) const;

 private:
  pg::Spi spi_;
  Oid caller_;
  pg::OwnerScope as_owner_;
  Reason reason_;
  store::TaskFacts facts_;
  TimestampTz now_ = 0;
};

}  // namespace tasker::engine
