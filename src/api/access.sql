-- Who may see and do what: levels, row-level security, and the payload columns behind functions.

CREATE FUNCTION tasker.visible_owners()
  RETURNS oid[] LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_visible_owners';
COMMENT ON FUNCTION tasker.visible_owners() IS 'The roles whose tasks current_user sees as his own: those whose privileges he has. A superuser sees all by sees_all()';

CREATE FUNCTION tasker.sees_all()
  RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_sees_all';
COMMENT ON FUNCTION tasker.sees_all() IS 'Whether current_user sees the rows of everybody''s tasks: superuser, extension owner, monitor, operator or admin';

CREATE FUNCTION tasker.sees_row(owner oid, created_by oid)
  RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_sees_row';
COMMENT ON FUNCTION tasker.sees_row(oid, oid) IS 'Whether current_user sees tasks with this owner and creator: his own, or all as sees_all() says';

CREATE FUNCTION tasker.sees_task(task_id bigint)
  RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'tasker_sees_task';
COMMENT ON FUNCTION tasker.sees_task(bigint) IS 'The same for one task, by its row; false when there is none';

CREATE FUNCTION tasker.sees_payload(owner oid, created_by oid)
  RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_sees_payload';
COMMENT ON FUNCTION tasker.sees_payload(oid, oid) IS 'Whether current_user sees contexts and results of tasks with this owner and creator: his own, or all as operator or admin';

-- Levels

CREATE FUNCTION tasker.grant_access(role regrole, level text, queue text DEFAULT NULL)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_grant_access';
COMMENT ON FUNCTION tasker.grant_access(regrole, text, text) IS 'Gives a role a level: viewer, monitor, submitter, author, worker (of one queue), operator or admin';

CREATE FUNCTION tasker.revoke_access(role regrole, level text, queue text DEFAULT NULL)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_revoke_access';
COMMENT ON FUNCTION tasker.revoke_access(regrole, text, text) IS 'Takes a level back, with every privilege that no other level of the role needs';

CREATE FUNCTION tasker.apply_access()
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_apply_access';
COMMENT ON FUNCTION tasker.apply_access() IS 'Makes the privileges on tasker''s objects what access_grants says, whatever they were: at install, after an update, after a manual GRANT';

CREATE FUNCTION tasker.access_rules()
  RETURNS TABLE (level text, kind text, name text, hidden_columns text[]) LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_access_rules';
COMMENT ON FUNCTION tasker.access_rules() IS 'What each level of access may use; hidden_columns are granted to nobody';

CREATE FUNCTION tasker.grant_task_definition(namespace text, name text, role regrole)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_grant_task_definition';
COMMENT ON FUNCTION tasker.grant_task_definition(text, text, regrole) IS 'Lets a role create tasks of a definition that runs as its definer';

CREATE FUNCTION tasker.revoke_task_definition(namespace text, name text, role regrole)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_revoke_task_definition';
COMMENT ON FUNCTION tasker.revoke_task_definition(text, text, regrole) IS 'Takes that right back';

-- Payloads: NULL for who may not see them

CREATE FUNCTION tasker.task_context(task_id bigint)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'tasker_task_context';
COMMENT ON FUNCTION tasker.task_context(bigint) IS 'The context of a task';

CREATE FUNCTION tasker.task_result(task_id bigint)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_task_result';
COMMENT ON FUNCTION tasker.task_result(bigint) IS 'The results of a finished task''s leaf steps, by name; NULL when together they are over tasker.max_result_size';

CREATE FUNCTION tasker.task_result_problem(task_id bigint)
  RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_task_result_problem';
COMMENT ON FUNCTION tasker.task_result_problem(bigint) IS 'Why task_result is NULL for a task whose results are too large; NULL when they are not';

CREATE FUNCTION tasker.step_result(task_id bigint, step_no integer, element integer)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'tasker_step_result';
COMMENT ON FUNCTION tasker.step_result(bigint, integer, integer) IS 'The result of a step';

CREATE FUNCTION tasker.step_error(task_id bigint, step_no integer, element integer)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'tasker_step_error';
COMMENT ON FUNCTION tasker.step_error(bigint, integer, integer) IS 'The last error of a step; a monitor gets it without its context';

CREATE FUNCTION tasker.transition_metadata(task_id bigint, step_no integer, element integer, sort_key integer)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'tasker_transition_metadata';
COMMENT ON FUNCTION tasker.transition_metadata(bigint, integer, integer, integer)
  IS 'What is told of a move: actor, reason, attempt, error; step_no 0 for the task''s own. A monitor gets errors without their context';

CREATE FUNCTION tasker.task_annotation(task_id bigint, task_annotation_id bigint)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_task_annotation';
COMMENT ON FUNCTION tasker.task_annotation(bigint, bigint) IS 'A note attached to a task';

-- Row-level security: one function call a row, which remembers the last row's answer. Sub-selects (membership as an
-- init plan, EXISTS on the table of tasks for its children) answer the same, but each is planned again with every
-- query, four for each table of a view; planned so, polling a task takes half as long again.

ALTER TABLE tasker.tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.tasks FOR SELECT USING (tasker.sees_row(owner, created_by));

ALTER TABLE tasker.workflow_steps ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.workflow_steps FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.task_moves ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.task_moves FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.step_moves ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.step_moves FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.timers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.timers FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.transfers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.transfers FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.queue_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.queue_items FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.leases ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.leases FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.signals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.signals FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.task_annotations ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.task_annotations FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.dead_letter_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.dead_letter_notes FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.task_labels ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.task_labels FOR SELECT USING (tasker.sees_task(task_id));

ALTER TABLE tasker.idempotency_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.idempotency_keys FOR SELECT USING (tasker.sees_task(task_id));
