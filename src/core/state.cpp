// The table of allowed moves. Everything else in this file reads it or names its members.
#include "core/state.hpp"

#include <cstddef>
#include <iterator>
#include <span>

namespace tasker::core {
namespace {

constexpr unsigned only(MoveCause cause) { return 1U << static_cast<unsigned>(cause); }
// Open to every cause: whether the caller may ask for the move is decided before it gets here.
constexpr unsigned kAny = ~0U;

template <typename State>
struct Move {
  State from, to;
  unsigned causes;
};

using S = StepState;
constexpr Move<StepState> kStepMoves[] = {
    {S::kPending, S::kInProgress, kAny},
    {S::kPending, S::kCancelled, kAny},
    {S::kPending, S::kSkipped, kAny},
    {S::kPending, S::kResolvedManually, kAny},
    {S::kPending, S::kError, only(MoveCause::kDeadline)},
    {S::kInProgress, S::kComplete, kAny},
    {S::kInProgress, S::kError, kAny},
    {S::kInProgress, S::kCancelled, kAny},
    {S::kInProgress, S::kPending, only(MoveCause::kLease)},
    {S::kError, S::kPending, kAny},
    {S::kError, S::kResolvedManually, kAny},
    {S::kError, S::kSkipped, kAny},
    {S::kError, S::kCancelled, kAny},
    {S::kComplete, S::kPending, only(MoveCause::kRerun)},
    {S::kSkipped, S::kPending, only(MoveCause::kRerun)},
    {S::kResolvedManually, S::kPending, only(MoveCause::kRerun)},
    {S::kCancelled, S::kPending, only(MoveCause::kRerun)},
};

// A task that ended is taken back to in_progress, never to complete in one move: history then shows that it ran again.
constexpr unsigned kTakenBack = only(MoveCause::kControl) | only(MoveCause::kRerun);

using T = TaskState;
constexpr Move<TaskState> kTaskMoves[] = {
    {T::kPending, T::kInProgress, kAny},
    {T::kPending, T::kCancelled, kAny},
    {T::kPending, T::kError, kAny},
    {T::kPending, T::kResolvedManually, only(MoveCause::kControl)},
    {T::kInProgress, T::kComplete, kAny},
    {T::kInProgress, T::kError, kAny},
    {T::kInProgress, T::kCancelled, kAny},
    {T::kInProgress, T::kPending, kAny},
    {T::kInProgress, T::kResolvedManually, only(MoveCause::kControl)},
    {T::kError, T::kPending, kAny},
    {T::kError, T::kCancelled, kAny},
    {T::kError, T::kResolvedManually, only(MoveCause::kControl)},
    {T::kError, T::kInProgress, kTakenBack},
    {T::kComplete, T::kCancelled, only(MoveCause::kControl)},
    {T::kComplete, T::kInProgress, kTakenBack},
    {T::kResolvedManually, T::kCancelled, only(MoveCause::kControl)},
    {T::kResolvedManually, T::kInProgress, kTakenBack},
    {T::kCancelled, T::kInProgress, kTakenBack},
};

constexpr const char *kStepStateNames[] = {"pending", "in_progress", "complete", "error", "cancelled", "resolved_manually", "skipped"};
constexpr const char *kTaskStateNames[] = {"pending", "in_progress", "complete", "error", "cancelled", "resolved_manually"};
static_assert(std::size(kStepStateNames) == static_cast<std::size_t>(S::kSkipped) + 1);
static_assert(std::size(kTaskStateNames) == static_cast<std::size_t>(T::kResolvedManually) + 1);

template <typename State>
bool listed(std::span<const Move<State>> moves, State from, State to, MoveCause cause) noexcept {
  for (const Move<State> &move : moves) {
    if (move.from == from && move.to == to) return (move.causes & only(cause)) != 0;
  }
  return false;
}

template <typename State>
std::optional<State> named(std::span<const char *const> names, std::string_view text) noexcept {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text == names[i]) return static_cast<State>(i);
  }
  return std::nullopt;
}

}  // namespace

const char *to_string(StepState state) noexcept { return kStepStateNames[static_cast<std::size_t>(state)]; }
const char *to_string(TaskState state) noexcept { return kTaskStateNames[static_cast<std::size_t>(state)]; }

std::optional<StepState> parse_step_state(std::string_view text) noexcept { return named<StepState>(kStepStateNames, text); }
std::optional<TaskState> parse_task_state(std::string_view text) noexcept { return named<TaskState>(kTaskStateNames, text); }

bool move_allowed(StepState from, StepState to, MoveCause cause) noexcept {
  return listed<StepState>(kStepMoves, from, to, cause);
}

bool move_allowed(TaskState from, TaskState to, MoveCause cause) noexcept {
  return listed<TaskState>(kTaskMoves, from, to, cause);
}

bool satisfies_children(StepState state) noexcept {
  return state == StepState::kComplete || state == StepState::kResolvedManually || state == StepState::kSkipped;
}

bool finished(TaskState state) noexcept { return state != TaskState::kPending && state != TaskState::kInProgress; }

}  // namespace tasker::core
