-- What people do to tasks and steps. true: it moved; false: it was there already.

CREATE FUNCTION tasker.cancel_task(task_id bigint, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_cancel_task';
COMMENT ON FUNCTION tasker.cancel_task(bigint, text) IS 'Cancels a task: running steps are interrupted, nothing more starts';
CREATE FUNCTION tasker.cancel_task(task_ids bigint[], reason text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_cancel_tasks';
COMMENT ON FUNCTION tasker.cancel_task(bigint[], text) IS 'The same for many tasks; how many moved';

CREATE FUNCTION tasker.pause_task(task_id bigint, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_pause_task';
COMMENT ON FUNCTION tasker.pause_task(bigint, text) IS 'Pauses a task: running steps finish, nothing starts';
CREATE FUNCTION tasker.pause_task(task_ids bigint[], reason text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_pause_tasks';
COMMENT ON FUNCTION tasker.pause_task(bigint[], text) IS 'The same for many tasks; how many moved';

CREATE FUNCTION tasker.resume_task(task_id bigint, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resume_task';
COMMENT ON FUNCTION tasker.resume_task(bigint, text) IS 'Ends a pause';
CREATE FUNCTION tasker.resume_task(task_ids bigint[], reason text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resume_tasks';
COMMENT ON FUNCTION tasker.resume_task(bigint[], text) IS 'The same for many tasks; how many moved';

CREATE FUNCTION tasker.retry_task(task_id bigint, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_retry_task';
COMMENT ON FUNCTION tasker.retry_task(bigint, text) IS 'Makes the failed steps of a task in error pending again, each with at least one more attempt';
CREATE FUNCTION tasker.retry_task(task_ids bigint[], reason text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_retry_tasks';
COMMENT ON FUNCTION tasker.retry_task(bigint[], text) IS 'The same for many tasks; how many moved';

CREATE FUNCTION tasker.resolve_task_manually(task_id bigint, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resolve_task_manually';
COMMENT ON FUNCTION tasker.resolve_task_manually(bigint, text) IS 'Ends a task by hand: what is not done counts as resolved';

CREATE FUNCTION tasker.cancel_step(task_id bigint, step_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_cancel_step';
COMMENT ON FUNCTION tasker.cancel_step(bigint, text, text) IS 'Cancels a step; its descendants can no longer run';

CREATE FUNCTION tasker.retry_step(task_id bigint, step_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_retry_step';
COMMENT ON FUNCTION tasker.retry_step(bigint, text, text) IS 'Makes a failed step pending again, with at least one more attempt';

CREATE FUNCTION tasker.reset_step(task_id bigint, step_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_reset_step';
COMMENT ON FUNCTION tasker.reset_step(bigint, text, text) IS 'Makes a failed step pending again, its attempts counted from zero';

CREATE FUNCTION tasker.skip_step(task_id bigint, step_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_skip_step';
COMMENT ON FUNCTION tasker.skip_step(bigint, text, text) IS 'Skips a skippable step: its children go on';

CREATE FUNCTION tasker.resolve_step_manually(task_id bigint, step_name text, result jsonb DEFAULT NULL, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resolve_step_manually';
COMMENT ON FUNCTION tasker.resolve_step_manually(bigint, text, jsonb, text) IS 'Gives a step its result by hand: its children go on';

CREATE FUNCTION tasker.rerun_task_from(task_id bigint, step_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_rerun_task_from';
COMMENT ON FUNCTION tasker.rerun_task_from(bigint, text, text) IS 'Runs a step and its descendants again; earlier results stay in the history';
