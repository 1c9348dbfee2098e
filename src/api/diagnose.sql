-- Why isn't it done, and what is there to do? Of tasks that the caller may see; unknown or somebody else's: 02000.

CREATE FUNCTION tasker.diagnose_task(task_id bigint)
  RETURNS TABLE (step_name text, severity text, finding text, evidence jsonb, advice text, doc text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 5 AS 'MODULE_PATHNAME', 'tasker_diagnose_task';
COMMENT ON FUNCTION tasker.diagnose_task(bigint) IS 'Why a task isn''t done: findings with severity, evidence and advice, the worst first. step_name is null for what is about the task or several steps; never without a row';

CREATE FUNCTION tasker.diagnose_step(task_id bigint, step_name text)
  RETURNS TABLE (step_name text, severity text, finding text, evidence jsonb, advice text, doc text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 2 AS 'MODULE_PATHNAME', 'tasker_diagnose_step';
COMMENT ON FUNCTION tasker.diagnose_step(bigint, text) IS 'The findings about one step, and those about its task as a whole';

CREATE FUNCTION tasker.explain_task(task_id bigint)
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_explain_task';
COMMENT ON FUNCTION tasker.explain_task(bigint) IS 'The findings of diagnose_task as text for people';
