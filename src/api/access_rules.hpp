// Levels of access: which objects each gets. The one place; access.cpp makes the GRANTs from it.
#pragma once

#include <cstdint>
#include <span>

namespace tasker::api {

using Levels = unsigned;
constexpr Levels kViewer = 1, kMonitor = 2, kSubmitter = 4, kAuthor = 8, kWorker = 16, kOperator = 32, kAdmin = 64;
constexpr Levels kReaders = kViewer | kMonitor | kSubmitter | kAuthor | kOperator | kAdmin;
constexpr Levels kWatchers = kMonitor | kOperator | kAdmin;
constexpr Levels kOperators = kOperator | kAdmin;
constexpr Levels kControllers = kSubmitter | kOperator | kAdmin;
constexpr Levels kHandlers = kSubmitter | kAuthor | kAdmin;  // who owns steps, and who writes their functions
constexpr Levels kEverybody = kReaders | kWorker;

struct LevelName {
  const char *name;
  Levels bit;
};
constexpr LevelName kLevelNames[] = {{"viewer", kViewer}, {"monitor", kMonitor},   {"submitter", kSubmitter}, {"author", kAuthor},
                                     {"worker", kWorker}, {"operator", kOperator}, {"admin", kAdmin}};

enum class Kind : std::uint8_t { kSchema, kType, kRoutine, kRelation, kWrapper };
struct Rule {
  Kind kind;
  const char *name;
  Levels levels;
  std::span<const char *const> hidden = {};  // payload columns: granted to nobody
};

constexpr const char *kTaskPayload[] = {"context"};
constexpr const char *kStepPayload[] = {"result", "error"};
constexpr const char *kTransitionPayload[] = {"metadata"};
constexpr const char *kAnnotationPayload[] = {"annotation"};
constexpr const char *kNotePayload[] = {"note"};
constexpr const char *kSchedulePayload[] = {"context"};
constexpr const char *kEventPayload[] = {"result"};
constexpr const char *kSignalPayload[] = {"payload"};
constexpr const char *kLeaseSecret[] = {"claim_token"};

// Routines by name, all overloads. What is not listed is the extension owner's alone.
constexpr Rule kRules[] = {
    {Kind::kSchema, "tasker", kEverybody},
    {Kind::kType, "step_call", kHandlers},
    {Kind::kType, "task_state", kEverybody},
    {Kind::kType, "step_state", kEverybody},

    {Kind::kRelation, "tasks", kReaders, kTaskPayload},
    {Kind::kRelation, "workflow_steps", kReaders, kStepPayload},
    {Kind::kRelation, "task_moves", kReaders, kTransitionPayload},
    {Kind::kRelation, "step_moves", kReaders, kTransitionPayload},
    {Kind::kRelation, "task_transitions", kReaders},
    {Kind::kRelation, "workflow_step_transitions", kReaders},
    {Kind::kRelation, "task_annotations", kReaders, kAnnotationPayload},
    {Kind::kRelation, "dead_letter_notes", kReaders, kNotePayload},
    {Kind::kRelation, "timers", kReaders},
    {Kind::kRelation, "transfers", kReaders},
    {Kind::kRelation, "queue_items", kReaders},
    {Kind::kRelation, "leases", kReaders, kLeaseSecret},
    {Kind::kRelation, "queue_limits", kEverybody},
    {Kind::kRelation, "step_limit_rows", kReaders},
    {Kind::kRelation, "signals", kReaders, kSignalPayload},
    {Kind::kRelation, "task_labels", kReaders},
    {Kind::kRelation, "idempotency_keys", kReaders},
    {Kind::kRelation, "task_namespaces", kReaders},
    {Kind::kRelation, "dependent_systems", kReaders},
    {Kind::kRelation, "breakers", kReaders},
    {Kind::kRelation, "breaker_transitions", kReaders},
    {Kind::kRelation, "named_tasks", kReaders},
    {Kind::kRelation, "named_steps", kReaders},
    {Kind::kRelation, "scope_pauses", kReaders},
    {Kind::kRelation, "schedule_rows", kReaders, kSchedulePayload},
    {Kind::kRelation, "schedule_fires", kReaders},
    {Kind::kRelation, "event_subscription_rows", kReaders},
    {Kind::kRelation, "event_outbox", kReaders, kEventPayload},
    {Kind::kRelation, "definition_grants", kAuthor | kAdmin},
    {Kind::kRelation, "access_grants", kAdmin},
    {Kind::kRelation, "tallies", kWatchers},
    {Kind::kRelation, "step_history", kWatchers},
    {Kind::kRelation, "task_outcomes", kWatchers},
    {Kind::kRelation, "metric_totals", kWatchers},
    {Kind::kRelation, "batch_learnings", kWatchers},
    {Kind::kRelation, "retention_rules", kWatchers},
    {Kind::kRelation, "retention_marks", kWatchers},
    {Kind::kRelation, "task_summaries", kWatchers},
    {Kind::kRelation, "home", kAdmin},

    {Kind::kRelation, "task_status", kReaders},
    {Kind::kRelation, "step_status", kReaders},
    {Kind::kRelation, "ready_steps", kReaders},
    {Kind::kRelation, "blocked_steps", kReaders},
    {Kind::kRelation, "running_steps", kReaders},
    {Kind::kRelation, "dead_letters", kReaders},
    {Kind::kRelation, "dead_letter_note_list", kReaders},
    {Kind::kRelation, "paused_scopes", kReaders},
    {Kind::kRelation, "schedules", kReaders},
    {Kind::kRelation, "schedule_history", kReaders},
    {Kind::kRelation, "events", kReaders},
    {Kind::kRelation, "event_catalog", kReaders},
    {Kind::kRelation, "event_subscribers", kReaders},
    {Kind::kRelation, "step_dag_relationships", kReaders},
    {Kind::kRelation, "task_history", kReaders},
    {Kind::kRelation, "task_annotation_list", kReaders},
    {Kind::kRelation, "named_task_list", kReaders},
    {Kind::kRelation, "handlers", kReaders},
    {Kind::kRelation, "workers", kWatchers},
    {Kind::kRelation, "circuit_breakers", kReaders},
    {Kind::kRelation, "step_limits", kReaders},
    {Kind::kRelation, "awaited_signals", kEverybody},
    {Kind::kRelation, "sent_signals", kReaders},
    {Kind::kRelation, "queues", kEverybody},
    {Kind::kRelation, "retention_status", kWatchers},
    {Kind::kRelation, "batch_statistics", kWatchers},
    {Kind::kRelation, "metrics", kWatchers},
    {Kind::kRelation, "cache_status", kWatchers},

    // What policies and views call
    {Kind::kRoutine, "visible_owners", kReaders},
    {Kind::kRoutine, "sees_all", kReaders},
    {Kind::kRoutine, "sees_row", kReaders},
    {Kind::kRoutine, "sees_task", kReaders},
    {Kind::kRoutine, "sees_payload", kReaders},
    {Kind::kRoutine, "task_context", kReaders},
    {Kind::kRoutine, "task_result", kReaders},
    {Kind::kRoutine, "task_result_problem", kReaders},
    {Kind::kRoutine, "step_result", kReaders},
    {Kind::kRoutine, "step_error", kReaders},
    {Kind::kRoutine, "transition_metadata", kReaders},
    {Kind::kRoutine, "task_annotation", kReaders},
    {Kind::kRoutine, "scope_paused", kReaders},
    {Kind::kRoutine, "schedule_next_fires", kReaders},
    {Kind::kRoutine, "schedule_context", kReaders},
    {Kind::kRoutine, "event_kinds", kReaders},
    {Kind::kRoutine, "event_name", kReaders},
    {Kind::kRoutine, "custom_event_schema", kReaders},
    {Kind::kRoutine, "dead_letter_note", kReaders},
    {Kind::kRoutine, "waiting_descendants", kReaders},
    {Kind::kRoutine, "step_blocking_reason", kReaders},
    {Kind::kRoutine, "step_depth", kReaders},
    {Kind::kRoutine, "running", kReaders},
    {Kind::kRoutine, "breaker_memory", kReaders},
    {Kind::kRoutine, "step_limit_figures", kReaders},
    {Kind::kRoutine, "awaited_signal_rows", kEverybody},
    {Kind::kRoutine, "queue_rows", kEverybody},
    // Reading
    {Kind::kRoutine, "get_step_readiness_status", kReaders},
    {Kind::kRoutine, "get_step_readiness_status_batch", kReaders},
    {Kind::kRoutine, "get_task_execution_context", kReaders},
    {Kind::kRoutine, "get_task_execution_contexts_batch", kReaders},
    {Kind::kRoutine, "calculate_dependency_levels", kReaders},
    {Kind::kRoutine, "diagnose_task", kReaders},
    {Kind::kRoutine, "diagnose_step", kReaders},
    {Kind::kRoutine, "explain_task", kReaders},
    {Kind::kRoutine, "analyze_template", kReaders},
    {Kind::kRoutine, "analyze_task", kReaders},
    {Kind::kRoutine, "forecast_task", kReaders},
    {Kind::kRoutine, "task_diagram", kReaders},
    {Kind::kRoutine, "template_diagram", kReaders},
    {Kind::kRoutine, "dashboard_html", kReaders},
    {Kind::kRoutine, "dashboard_data", kReaders},
    {Kind::kRoutine, "dashboard_task", kReaders},
    {Kind::kRoutine, "dashboard_totals", kReaders},
    {Kind::kRoutine, "has_open_dead_letter", kReaders},
    {Kind::kRoutine, "task_definition", kReaders},
    {Kind::kRoutine, "wait_for_task", kReaders},
    {Kind::kRoutine, "failure_classes", kReaders},
    {Kind::kRoutine, "cron_fire_times", kReaders},
    {Kind::kRoutine, "analyze_step_historical_success_patterns", kReaders},
    {Kind::kRoutine, "explain_retry", kReaders},
    // The whole system
    {Kind::kRoutine, "get_system_health_counts", kWatchers},
    {Kind::kRoutine, "health_ready", kWatchers},
    {Kind::kRoutine, "health_live", kWatchers},
    {Kind::kRoutine, "health_status", kWatchers},
    {Kind::kRoutine, "get_analytics_metrics", kWatchers},
    {Kind::kRoutine, "get_slowest_steps", kWatchers},
    {Kind::kRoutine, "get_slowest_tasks", kWatchers},
    {Kind::kRoutine, "performance_report", kWatchers},
    {Kind::kRoutine, "metric_rows", kWatchers},
    {Kind::kRoutine, "prometheus_metrics", kWatchers},
    {Kind::kRoutine, "metrics_json", kWatchers},
    {Kind::kRoutine, "metrics_csv", kWatchers},
    {Kind::kRoutine, "worker_slots", kWatchers},
    {Kind::kRoutine, "retention_of", kWatchers},
    {Kind::kRoutine, "assess_connection_health", kWatchers},
    {Kind::kRoutine, "recommended_concurrency", kWatchers},
    {Kind::kRoutine, "batch_rows", kWatchers},
    {Kind::kRoutine, "cache_strategy", kWatchers},
    {Kind::kRoutine, "cache_rows", kWatchers},
    {Kind::kRoutine, "check", kWatchers},
    // Creating and running
    {Kind::kRoutine, "create_task", kSubmitter | kAdmin},
    {Kind::kRoutine, "create_tasks", kSubmitter | kAdmin},
    {Kind::kRoutine, "run_task", kSubmitter | kAdmin},
    {Kind::kRoutine, "schedule_task", kSubmitter | kAdmin},
    // Working on a queue
    {Kind::kRoutine, "claim_steps", kWorker | kAdmin},
    {Kind::kRoutine, "complete_step", kWorker | kAdmin},
    {Kind::kRoutine, "fail_step", kWorker | kAdmin},
    {Kind::kRoutine, "extend_lease", kWorker | kAdmin},
    {Kind::kRoutine, "release_step", kWorker | kAdmin},
    {Kind::kRoutine, "complete_steps", kWorker | kAdmin},
    {Kind::kRoutine, "fail_steps", kWorker | kAdmin},
    // Controlling
    {Kind::kRoutine, "send_signal", kEverybody},
    {Kind::kRoutine, "cancel_task", kControllers},
    {Kind::kRoutine, "pause_task", kControllers},
    {Kind::kRoutine, "resume_task", kControllers},
    {Kind::kRoutine, "retry_task", kControllers},
    {Kind::kRoutine, "resolve_task_manually", kControllers},
    {Kind::kRoutine, "cancel_step", kControllers},
    {Kind::kRoutine, "retry_step", kControllers},
    {Kind::kRoutine, "reset_step", kControllers},
    {Kind::kRoutine, "skip_step", kControllers},
    {Kind::kRoutine, "resolve_step_manually", kControllers},
    {Kind::kRoutine, "rerun_task_from", kControllers},
    {Kind::kRoutine, "annotate_task", kControllers},
    {Kind::kRoutine, "trip_breaker", kOperators},
    {Kind::kRoutine, "reset_breaker", kOperators},
    {Kind::kRoutine, "configure_breaker", kOperators},
    {Kind::kRoutine, "set_queue_limit", kOperators},
    {Kind::kRoutine, "clear_cache", kOperators},
    {Kind::kRoutine, "set_step_limit", kOperators},
    {Kind::kRoutine, "redrive", kControllers},
    {Kind::kRoutine, "note_dead_letter", kControllers},
    {Kind::kRoutine, "unschedule_task", kControllers},
    {Kind::kRoutine, "pause_schedule", kControllers},
    {Kind::kRoutine, "resume_schedule", kControllers},
    {Kind::kRoutine, "run_schedule_now", kControllers},
    {Kind::kRoutine, "backfill_schedule", kControllers},
    {Kind::kRoutine, "tick_schedules", kOperators},
    {Kind::kRoutine, "unsubscribe", kAuthor | kOperators},
    {Kind::kRoutine, "pause_subscription", kAuthor | kOperators},
    {Kind::kRoutine, "resume_subscription", kAuthor | kOperators},
    {Kind::kRoutine, "take_events", kAuthor | kAdmin},
    {Kind::kRoutine, "pause_tasks", kOperator | kAdmin},
    {Kind::kRoutine, "resume_tasks", kOperator | kAdmin},
    // In handlers
    {Kind::kRoutine, "raise_retryable", kHandlers},
    {Kind::kRoutine, "raise_permanent", kHandlers},
    // Defining
    {Kind::kRoutine, "define_task", kAuthor | kAdmin},
    {Kind::kRoutine, "subscribe", kAuthor | kAdmin},
    {Kind::kRoutine, "validate_task_definition", kAuthor | kAdmin},
    {Kind::kRoutine, "retire_task_definition", kAuthor | kAdmin},
    {Kind::kRoutine, "grant_task_definition", kAuthor | kAdmin},
    {Kind::kRoutine, "revoke_task_definition", kAuthor | kAdmin},
    // Administering
    {Kind::kWrapper, "tasker_http", kAdmin},
    {Kind::kRoutine, "tasker_http_validator", kAdmin},
    {Kind::kRoutine, "release_hold", kAdmin},
    {Kind::kRoutine, "install_cron_tick", kAdmin},
    {Kind::kRoutine, "set_retention", kAdmin},
    {Kind::kRoutine, "remove_finished_tasks", kAdmin},
    {Kind::kRoutine, "rebuild_analytics", kAdmin},
    {Kind::kRoutine, "grant_access", kAdmin},
    {Kind::kRoutine, "revoke_access", kAdmin},
    {Kind::kRoutine, "apply_access", kAdmin},
    {Kind::kRoutine, "access_rules", kAdmin},
};

}  // namespace tasker::api
