-- How much was done, how fast, what holds it up: from hourly counts, which cost the same however many tasks there were.

CREATE FUNCTION tasker.get_analytics_metrics(since timestamptz DEFAULT clock_timestamp() - interval '1 hour', OUT active_tasks_count bigint,
    OUT total_namespaces_count bigint, OUT unique_task_types_count bigint, OUT system_health_score numeric, OUT task_throughput bigint,
    OUT completion_count bigint, OUT error_count bigint, OUT completion_rate numeric, OUT error_rate numeric, OUT avg_task_duration numeric,
    OUT p50_task_duration numeric, OUT p95_task_duration numeric, OUT p99_task_duration numeric, OUT step_throughput bigint,
    OUT step_error_count bigint, OUT avg_step_duration numeric, OUT p50_step_duration numeric, OUT p95_step_duration numeric,
    OUT p99_step_duration numeric, OUT analysis_period_start timestamptz, OUT calculated_at timestamptz)
  RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_get_analytics_metrics';
COMMENT ON FUNCTION tasker.get_analytics_metrics(timestamptz)
  IS 'One row about the time since the hour that contains since: tasks created, completed, failed; attempts of steps; durations in seconds, percentiles within 4.5 %';

CREATE FUNCTION tasker.get_slowest_steps(since timestamptz DEFAULT clock_timestamp() - interval '24 hours', max_rows integer DEFAULT 10, namespace text DEFAULT NULL,
    name text DEFAULT NULL, version text DEFAULT NULL)
  RETURNS TABLE (task_id bigint, step_name text, namespace_name text, task_name text, task_version text, duration_seconds numeric, attempt integer,
    started_at timestamptz, completed_at timestamptz, attempts integer, retryable boolean, step_status text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'tasker_get_slowest_steps';
COMMENT ON FUNCTION tasker.get_slowest_steps(timestamptz, integer, text, text, text)
  IS 'Successful attempts that took longest, longest first, since the hour that contains since. The ten longest of each step, hour and attempt number are known';

CREATE FUNCTION tasker.get_slowest_tasks(since timestamptz DEFAULT clock_timestamp() - interval '24 hours', max_rows integer DEFAULT 10, namespace text DEFAULT NULL,
    name text DEFAULT NULL, version text DEFAULT NULL)
  RETURNS TABLE (task_id bigint, namespace_name text, task_name text, task_version text, duration_seconds numeric, task_status text, step_count bigint,
    completed_steps bigint, error_steps bigint, created_at timestamptz, started_at timestamptz, completed_at timestamptz, initiator text, source_system text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'tasker_get_slowest_tasks';
COMMENT ON FUNCTION tasker.get_slowest_tasks(timestamptz, integer, text, text, text)
  IS 'Ended tasks that took longest from the start of their first step, longest first, since the hour that contains since. The ten longest of each definition, hour and end state are known';

CREATE FUNCTION tasker.performance_report(since timestamptz DEFAULT clock_timestamp() - interval '24 hours', until timestamptz DEFAULT clock_timestamp(),
    namespace text DEFAULT NULL, name text DEFAULT NULL, version text DEFAULT NULL)
  RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_performance_report';
COMMENT ON FUNCTION tasker.performance_report(timestamptz, timestamptz, text, text, text)
  IS 'Summary, bottlenecks, trends hour by hour and against the period before, health, recommendations with their evidence, of whole hours';

CREATE FUNCTION tasker.rebuild_analytics(since timestamptz DEFAULT NULL)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_rebuild_analytics';
COMMENT ON FUNCTION tasker.rebuild_analytics(timestamptz)
  IS 'Counts the hours that are over again from the transitions, since the hour that contains since: what a crash lost of them. Reads all of their tasks; hours of definitions whose tasks were removed stay. How much was counted';
