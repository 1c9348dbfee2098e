#include "core/events.hpp"

#include <algorithm>

#include "core/definition.hpp"

namespace tasker::core {

namespace {

constexpr EventKind kKinds[] = {
    {"task.start_requested", false, "The first step of the task has begun"},
    {"task.initialize_requested", false, "The task is pending again"},
    {"task.completed", false, "Every step is complete, resolved or skipped"},
    {"task.failed", false, "Nothing more can happen by itself, or the deadline has passed"},
    {"task.cancelled", false, "Somebody has cancelled the task"},
    {"task.resolved_manually", false, "Somebody has declared the task resolved"},
    {"task.retry_requested", false, "A failed task is taken back to work"},
    {"task.rerun_requested", false, "A task that had ended otherwise is taken back to work"},
    {"task.pause_changed", false, "Somebody has paused the task, or let it go on; the cause is in the metadata"},
    {"step.execution_requested", true, "An attempt has begun"},
    {"step.completed", true, "An attempt has succeeded"},
    {"step.failed", true, "An attempt has failed, whether another one follows or not; or the deadline has passed"},
    {"step.released", true, "An attempt was given back: by its worker, or because its lease has expired"},
    {"step.retry_requested", true, "A failed step is to be tried again"},
    {"step.cancelled", true, "The step was cancelled"},
    {"step.skipped", true, "The step was skipped or bypassed"},
    {"step.resolved_manually", true, "Somebody has given the step its result"},
    {"step.rerun_requested", true, "A step that had ended is to run once more"},
};

constexpr const char *kTaskSchema =
    R"({"type": "object", "required": ["event", "event_id", "task_id", "namespace", "name", "version", "from_state", "to_state", "sort_key", "occurred_at"],)"
    R"( "properties": {"event": {"type": "string"}, "event_id": {"type": "integer"}, "task_id": {"type": "integer"}, "namespace": {"type": "string"},)"
    R"( "name": {"type": "string"}, "version": {"type": "string"}, "from_state": {"type": "string"}, "to_state": {"type": "string"}, "sort_key": {"type": "integer"},)"
    R"( "occurred_at": {"type": "string", "format": "date-time"}, "correlation_id": {"type": ["string", "null"]}, "metadata": {"type": ["object", "null"]}}})";
constexpr const char *kStepSchema =
    R"({"type": "object", "required": ["event", "event_id", "task_id", "namespace", "name", "version", "step_name", "from_state", "to_state", "sort_key", "occurred_at"],)"
    R"( "properties": {"event": {"type": "string"}, "event_id": {"type": "integer"}, "task_id": {"type": "integer"}, "namespace": {"type": "string"},)"
    R"( "name": {"type": "string"}, "version": {"type": "string"}, "step_name": {"type": "string"}, "from_state": {"type": "string"}, "to_state": {"type": "string"},)"
    R"( "sort_key": {"type": "integer"}, "occurred_at": {"type": "string", "format": "date-time"}, "correlation_id": {"type": ["string", "null"]},)"
    R"( "metadata": {"type": ["object", "null"]}}})";
constexpr const char *kCustomSchema =
    R"({"type": "object", "required": ["event", "event_id", "task_id", "namespace", "name", "version", "step_name", "from_state", "to_state", "sort_key", "occurred_at", "result"],)"
    R"( "properties": {"event": {"type": "string"}, "event_id": {"type": "integer"}, "task_id": {"type": "integer"}, "namespace": {"type": "string"},)"
    R"( "name": {"type": "string"}, "version": {"type": "string"}, "step_name": {"type": "string"}, "from_state": {"type": "string"}, "to_state": {"type": "string"},)"
    R"( "sort_key": {"type": "integer"}, "occurred_at": {"type": "string", "format": "date-time"}, "correlation_id": {"type": ["string", "null"]},)"
    R"( "metadata": {"type": ["object", "null"]}, "result": {}}})";

}  // namespace

std::span<const EventKind> event_kinds() noexcept { return kKinds; }

const char *event_of(StepState from, StepState to) noexcept {
  switch (to) {
    case StepState::kInProgress: return "step.execution_requested";
    case StepState::kComplete: return "step.completed";
    case StepState::kError: return "step.failed";
    case StepState::kCancelled: return "step.cancelled";
    case StepState::kSkipped: return "step.skipped";
    case StepState::kResolvedManually: return "step.resolved_manually";
    case StepState::kPending: break;
  }
  if (from == StepState::kInProgress) return "step.released";
  return from == StepState::kError ? "step.retry_requested" : "step.rerun_requested";
}

const char *event_of(TaskState from, TaskState to) noexcept {
  if (from == to) return "task.pause_changed";
  switch (to) {
    case TaskState::kComplete: return "task.completed";
    case TaskState::kError: return "task.failed";
    case TaskState::kCancelled: return "task.cancelled";
    case TaskState::kResolvedManually: return "task.resolved_manually";
    case TaskState::kPending: return from == TaskState::kError ? "task.retry_requested" : "task.initialize_requested";
    case TaskState::kInProgress: break;
  }
  if (from == TaskState::kPending) return "task.start_requested";
  return from == TaskState::kError ? "task.retry_requested" : "task.rerun_requested";
}

bool ends_a_task(std::string_view name) noexcept { return name == "task.completed" || name == "task.failed" || name == "task.cancelled" || name == "task.resolved_manually"; }
bool is_reserved_event(std::string_view name) noexcept { return name.starts_with("task.") || name.starts_with("step."); }

bool event_matches(std::string_view pattern, std::string_view name) noexcept {
  if (pattern.ends_with('*')) return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == name;
}

bool names_custom_events(std::string_view pattern) noexcept { return !is_reserved_event(pattern); }

std::string event_pattern_problem(std::string_view pattern) {
  if (pattern == "*") return {};
  const bool open = pattern.ends_with('*');
  const std::string_view fixed = open ? pattern.substr(0, pattern.size() - 1) : pattern;
  if (std::string problem = name_problem(fixed, kMaxStepName); !problem.empty()) return problem;
  if (is_reserved_event(pattern) && std::none_of(std::begin(kKinds), std::end(kKinds), [&](const EventKind &kind) { return event_matches(pattern, kind.name); }))
    return "is no event";
  return {};
}

const char *event_payload_schema(bool of_step, bool custom) noexcept { return custom ? kCustomSchema : of_step ? kStepSchema : kTaskSchema; }

}  // namespace tasker::core
