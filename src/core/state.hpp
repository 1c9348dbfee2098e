// States of tasks and steps, and which moves between them are allowed: data in one place.
//
// Every move of the system is checked here before store::move_* writes row and transition together. A cause
// names why the move is made, because some moves are allowed to one cause only (a lease that ended, a rerun).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tasker::core {

enum class StepState : std::uint8_t { kPending, kInProgress, kComplete, kError, kCancelled, kResolvedManually, kSkipped };
enum class TaskState : std::uint8_t { kPending, kInProgress, kComplete, kError, kCancelled, kResolvedManually };

enum class MoveCause : std::uint8_t {
  kEngine,    // the system ran, failed or finalised something
  kControl,   // somebody called a control function
  kDeadline,  // the task's deadline passed
  kLease,     // an outside worker released its claim or let the lease end
  kRerun,     // rerun_task_from
};

const char *to_string(StepState state) noexcept;
const char *to_string(TaskState state) noexcept;
std::optional<StepState> parse_step_state(std::string_view text) noexcept;
std::optional<TaskState> parse_task_state(std::string_view text) noexcept;

bool move_allowed(StepState from, StepState to, MoveCause cause) noexcept;
bool move_allowed(TaskState from, TaskState to, MoveCause cause) noexcept;

// complete, resolved_manually and skipped: what a child may build on.
bool satisfies_children(StepState state) noexcept;
// Nothing more happens by itself: everything but pending and in_progress.
bool finished(TaskState state) noexcept;

}  // namespace tasker::core
