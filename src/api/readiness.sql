-- Which steps are ready, and what blocks the others. Rows only of tasks that the caller may see.

CREATE FUNCTION tasker.get_step_readiness_status(task_id bigint, step_names text[] DEFAULT NULL)
  RETURNS TABLE (task_id bigint, step_name text, current_state tasker.step_state, dependencies_satisfied boolean, retry_eligible boolean,
    ready_for_execution boolean, last_failure_at timestamptz, next_retry_at timestamptz, total_parents integer, completed_parents integer,
    attempts integer, retry_limit integer, backoff_request_seconds numeric, last_attempted_at timestamptz, blocking_reason text, ready_in interval)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'tasker_get_step_readiness_status';
COMMENT ON FUNCTION tasker.get_step_readiness_status(bigint, text[]) IS 'Each step of a task, or those named: is it ready, and if not, what blocks it and until when';

CREATE FUNCTION tasker.get_step_readiness_status_batch(task_ids bigint[])
  RETURNS TABLE (task_id bigint, step_name text, current_state tasker.step_state, dependencies_satisfied boolean, retry_eligible boolean,
    ready_for_execution boolean, last_failure_at timestamptz, next_retry_at timestamptz, total_parents integer, completed_parents integer,
    attempts integer, retry_limit integer, backoff_request_seconds numeric, last_attempted_at timestamptz, blocking_reason text, ready_in interval)
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_get_step_readiness_status_batch';
COMMENT ON FUNCTION tasker.get_step_readiness_status_batch(bigint[]) IS 'The same for many tasks, in order of task_id; each task once';

CREATE FUNCTION tasker.get_task_execution_context(task_id bigint)
  RETURNS TABLE (task_id bigint, named_task_id integer, status tasker.task_state, total_steps bigint, pending_steps bigint, in_progress_steps bigint,
    completed_steps bigint, failed_steps bigint, cancelled_steps bigint, ready_steps bigint, execution_status text, recommended_action text,
    completion_percentage numeric, health_status text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_get_task_execution_context';
COMMENT ON FUNCTION tasker.get_task_execution_context(bigint) IS 'Counts of a task''s steps, and what the task waits for';

CREATE FUNCTION tasker.get_task_execution_contexts_batch(task_ids bigint[])
  RETURNS TABLE (task_id bigint, named_task_id integer, status tasker.task_state, total_steps bigint, pending_steps bigint, in_progress_steps bigint,
    completed_steps bigint, failed_steps bigint, cancelled_steps bigint, ready_steps bigint, execution_status text, recommended_action text,
    completion_percentage numeric, health_status text)
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_get_task_execution_contexts_batch';
COMMENT ON FUNCTION tasker.get_task_execution_contexts_batch(bigint[]) IS 'The same for many tasks, in order of task_id; each task once';

CREATE FUNCTION tasker.calculate_dependency_levels(task_id bigint)
  RETURNS TABLE (step_name text, dependency_level integer) LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'tasker_calculate_dependency_levels';
COMMENT ON FUNCTION tasker.calculate_dependency_levels(bigint) IS 'Longest distance of each step from a root, by level';

CREATE FUNCTION tasker.step_blocking_reason(task_id bigint, step_no integer, element integer)
  RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_step_blocking_reason';
COMMENT ON FUNCTION tasker.step_blocking_reason(bigint, integer, integer) IS 'What blocks one step, for the views; NULL when nothing does';

CREATE FUNCTION tasker.step_depth(named_task_id integer, step_no integer)
  RETURNS integer LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_step_depth';
COMMENT ON FUNCTION tasker.step_depth(integer, integer) IS 'Shortest distance of a step from a root, for the views';
