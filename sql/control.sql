-- What people do to tasks and steps: each move, its repetition, what is refused, and the traces it leaves. Tasks are for a far-off day and run by
-- run_task, so that nothing moves by itself, except where a task that was mended goes on in the background.
\set SHOW_CONTEXT never
CREATE ROLE regress_control LOGIN;
CREATE ROLE regress_outsider LOGIN;
CREATE ROLE regress_operator LOGIN;
SELECT tasker.grant_access('regress_control', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_outsider', 'submitter') \g /dev/null
SELECT tasker.grant_access('regress_operator', 'operator') \g /dev/null
CREATE SCHEMA control AUTHORIZATION regress_control;
GRANT USAGE ON SCHEMA control TO PUBLIC;
SET SESSION AUTHORIZATION regress_control;

CREATE TABLE control.broken (step_name text PRIMARY KEY, code text);
-- Fails while its step is in control.broken; returns what it got from its parents
CREATE FUNCTION control.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.context ? 'broken' AND EXISTS (SELECT FROM control.broken AS b WHERE b.step_name = step.step_name) THEN
    RAISE EXCEPTION 'out of order' USING ERRCODE = (SELECT b.code FROM control.broken AS b WHERE b.step_name = step.step_name);
  END IF;
  IF step.context ? 'do' AND step.step_name = 'b' THEN
    EXECUTE format(step.context ->> 'do', step.task_id);
  END IF;
  RETURN jsonb_build_object('got', step.results);
END
$$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION control.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; hint text;
BEGIN
  EXECUTE statement INTO answer;
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN RETURN answer;
  WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' ', state, regexp_replace(message, 'task -?\d+', 'task N'), '[' || nullif(hint, '') || ']');
END
$$;
CREATE FUNCTION control.id(key text) RETURNS bigint LANGUAGE sql AS $$ SELECT t.task_id FROM tasker.task_status AS t WHERE t.namespace = 'control' AND t.idempotency_key = key $$;
CREATE FUNCTION control.steps(key text) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(s.step_name || ' ' || s.state || CASE s.attempts WHEN 0 THEN '' ELSE ' ' || s.attempts || '/' || s.max_attempts END || coalesce(' (' || s.blocking_reason || ')', ''), ', ' ORDER BY s.step_name)
  FROM tasker.step_status AS s WHERE s.task_id = control.id(key) $$;
CREATE FUNCTION control.history(key text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT concat_ws(' ', coalesce(h.step_name, 'task'), h.from_state, '->', h.to_state, nullif((h.metadata - 'error')::text, '{}')) FROM tasker.task_history AS h WHERE h.task_id = control.id(key)
  ORDER BY coalesce(h.step_name, ''), h.sort_key $$;
SELECT tasker.define_task(jsonb_build_object('namespace', 'control', 'name', 'line', 'steps', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'depends_on', s.parents, 'skippable', s.name = 'b',
  'max_attempts', 2, 'backoff', '{"base_seconds": 0}'::jsonb, 'handler', '{"type": "sql", "function": "control.act"}'::jsonb) ORDER BY s.name)
  FROM (VALUES ('a', '[]'::jsonb), ('b', '["a"]'), ('c', '["b"]'), ('d', '[]')) AS s (name, parents)))) \g /dev/null
SELECT tasker.create_task('control', 'line', CASE WHEN k ~ 'broken' THEN '{"broken": 1}' ELSE '{}' END::jsonb, idempotency_key => k, run_at => '2999-01-01')
FROM unnest(ARRAY['cancelled', 'paused', 'complete', 'resolved', 'broken', 'broken 2', 'broken 3', 'broken 4', 'steps', 'pending']) AS k \g /dev/null
INSERT INTO control.broken VALUES ('b', 'TK002');
\pset format unaligned
\pset tuples_only on

-- Cancelling, once; the reason and who did it stay
BEGIN;
SELECT tasker.cancel_task(control.id('cancelled'));
ROLLBACK;
SELECT control.steps('cancelled');
SELECT tasker.cancel_task(control.id('cancelled'), 'not wanted'), tasker.cancel_task(control.id('cancelled'), 'still not');
SELECT state, finished_at IS NOT NULL AS finished, error FROM tasker.task_status WHERE task_id = control.id('cancelled');
SELECT control.steps('cancelled');
SELECT control.history('cancelled');
-- Pausing: nothing starts
SELECT tasker.pause_task(control.id('paused'), 'lunch'), tasker.pause_task(control.id('paused'));
SELECT control.id('paused') AS id \gset
CALL tasker.run_task(:id, skip_waits => true);
SELECT state, paused FROM tasker.task_status WHERE task_id = :id;
SELECT control.steps('paused');
SELECT tasker.resume_task(:id), tasker.resume_task(:id, 'again');
CALL tasker.run_task(:id, skip_waits => true);
SELECT state, paused FROM tasker.task_status WHERE task_id = :id;
SELECT control.history('paused');

-- Tasks in each state
SELECT control.id('complete') AS complete, control.id('resolved') AS resolved, control.id('broken') AS broken \gset
CALL tasker.run_task(:complete, skip_waits => true);
CALL tasker.run_task(:broken, skip_waits => true);
SELECT tasker.resolve_task_manually(:resolved, 'by phone'), tasker.resolve_task_manually(:resolved);
SELECT control.history('resolved');
SELECT idempotency_key, state, error, completed_steps FROM tasker.task_status WHERE namespace = 'control' AND state <> 'pending' ORDER BY idempotency_key COLLATE "C";
SELECT control.steps('broken');
-- What is allowed in which state, and what is said otherwise
SELECT format('%s of %s: %s', f, k, control.try(format('SELECT tasker.%s(%s)', f, control.id(k))))
FROM unnest(ARRAY['cancel_task', 'pause_task', 'resume_task', 'retry_task', 'resolve_task_manually']) WITH ORDINALITY AS f (f, n)
  CROSS JOIN unnest(ARRAY['pending', 'complete', 'broken', 'cancelled', 'resolved']) WITH ORDINALITY AS k (k, m) ORDER BY n, m;
-- And of steps: pending, complete, in error, cancelled, resolved, skipped
SELECT control.id('steps') AS id \gset
SELECT tasker.skip_step(:id, 'b', 'for the table'), tasker.skip_step(:id, 'b') \g /dev/null
SELECT format('%s of %s: %s', f, s.state, control.try(format('SELECT tasker.%s(%s, %L)', f, control.id(s.k), s.step)))
FROM unnest(ARRAY['cancel_step', 'retry_step', 'reset_step', 'skip_step', 'resolve_step_manually', 'rerun_task_from']) WITH ORDINALITY AS f (f, n)
  CROSS JOIN (VALUES (1, 'pending', 'b', 'pending'), (2, 'pending', 'a', 'pending, not skippable'), (3, 'complete', 'b', 'complete'), (4, 'broken', 'b', 'error'), (5, 'cancelled', 'b', 'cancelled'),
    (6, 'resolved', 'b', 'resolved_manually'), (7, 'steps', 'b', 'skipped')) AS s (m, k, step, state) ORDER BY n, m;

-- A failed task, mended: retried, resolved, skipped, reset; it goes on where it was
SELECT control.id('broken 2') AS two, control.id('broken 3') AS three, control.id('broken 4') AS four \gset
CALL tasker.run_task(:two, skip_waits => true);
CALL tasker.run_task(:three, skip_waits => true);
CALL tasker.run_task(:four, skip_waits => true);
SELECT tasker.retry_task(:broken, 'once more'), tasker.retry_task(:broken);
CALL tasker.run_task(:broken, skip_waits => true);
SELECT control.steps('broken');
UPDATE control.broken SET code = 'P0001';
SELECT tasker.retry_step(:broken, 'b'), tasker.retry_step(:broken, 'b');
CALL tasker.run_task(:broken, skip_waits => true);
SELECT control.steps('broken');
SELECT tasker.reset_step(:broken, 'b', 'from zero');
CALL tasker.run_task(:broken, skip_waits => true);
SELECT control.steps('broken');
SELECT tasker.skip_step(:two, 'b', 'never mind'), tasker.skip_step(:two, 'b');
SELECT control.try(format('SELECT tasker.resolve_step_manually(%s, ''b'', to_jsonb(repeat(''x'', 1048577)))', :three));
SELECT tasker.resolve_step_manually(:three, 'b', '{"by": "hand"}', 'looked it up'), tasker.resolve_step_manually(:three, 'b', '{"by": "foot"}');
CALL tasker.run_task(:two, skip_waits => true);
CALL tasker.run_task(:three, skip_waits => true);
SELECT control.steps('broken 2');
SELECT control.steps('broken 3');
SELECT t.idempotency_key, t.result FROM tasker.task_status AS t WHERE t.task_id IN (:two, :three) ORDER BY 1;
SELECT control.history('broken 3');
-- The last thing to do, done by hand
SELECT tasker.resolve_step_manually(:four, 'b'), tasker.resolve_step_manually(:four, 'c', '"done"');
SELECT tasker.wait_for_task(:four, '60 s');
SELECT state, result, error FROM tasker.task_status WHERE task_id = :four;
DELETE FROM control.broken;
SELECT tasker.retry_task(:broken);
CALL tasker.run_task(:broken, skip_waits => true);
SELECT control.steps('broken');

-- A cancelled step: what is beneath it waits for ever, so the task ends in error; only running again helps
SELECT control.id('pending') AS id \gset
SELECT tasker.cancel_step(:id, 'a', 'wrong input'), tasker.cancel_step(:id, 'a');
SELECT control.steps('pending');
CALL tasker.run_task(:id, skip_waits => true);
SELECT control.steps('pending');
SELECT state, error, failed_steps FROM tasker.task_status WHERE task_id = :id;
SELECT control.try(format('SELECT tasker.retry_task(%s)', :id));
SELECT tasker.rerun_task_from(:id, 'a', 'right input');
CALL tasker.run_task(:id, skip_waits => true);
SELECT control.steps('pending');
SELECT control.history('pending');
-- Run again from the middle: the step and what follows it, with the earlier results in the history. What the rows told by
-- themselves until then is written down, and reads as before.
SELECT count(*) FILTER (WHERE s.untold > 0) AS told_by_rows FROM tasker.workflow_steps AS s WHERE s.task_id = :complete;
CREATE TEMP TABLE before AS SELECT 0 AS step_no, sort_key, from_state::text, to_state::text, metadata, created_at FROM tasker.task_transitions WHERE task_id = :complete
UNION ALL SELECT step_no, sort_key, from_state::text, to_state::text, metadata, created_at FROM tasker.workflow_step_transitions WHERE task_id = :complete;
SELECT tasker.rerun_task_from(:complete, 'b', 'again'), tasker.rerun_task_from(:complete, 'b');
CALL tasker.run_task(:complete, skip_waits => true);
SELECT control.history('complete');
SELECT count(*) AS moves_before, (SELECT count(*) FROM (TABLE before EXCEPT
  (SELECT 0 AS step_no, sort_key, from_state::text, to_state::text, metadata, created_at FROM tasker.task_transitions WHERE task_id = :complete
  UNION ALL SELECT step_no, sort_key, from_state::text, to_state::text, metadata, created_at FROM tasker.workflow_step_transitions WHERE task_id = :complete)) AS x) AS lost
FROM before;

-- Many at once: each moves or was there; one that is unknown leaves all as they were
SELECT array_agg(id) AS ids FROM tasker.create_tasks('control', 'line', array_fill('{}'::jsonb, ARRAY[3]), run_at => '2999-01-01') AS id \gset
SELECT tasker.pause_task(:'ids'::bigint[], 'all'), tasker.pause_task(:'ids'::bigint[] || :'ids'::bigint[]), tasker.resume_task(:'ids'::bigint[]), tasker.retry_task(:'ids'::bigint[]);
SELECT control.try(format('SELECT tasker.cancel_task(%L::bigint[])', :'ids'::bigint[] || -1::bigint)), control.try('SELECT tasker.cancel_task(ARRAY[NULL]::bigint[])'), control.try('SELECT tasker.cancel_task(NULL::bigint)');
SELECT count(*) FROM tasker.task_status WHERE task_id = ANY (:'ids') AND state = 'pending';
SELECT tasker.cancel_task((:'ids'::bigint[])[1]), tasker.cancel_task(:'ids'::bigint[] || :'ids'::bigint[]), tasker.cancel_task('{}'::bigint[]);
SELECT control.try(format('SELECT tasker.retry_task(%L::bigint[])', :'ids'));

-- Who may: the owner and operators. Nobody else learns that a task exists
SELECT array_agg(format('%s(%%s%s)', f, a) ORDER BY f COLLATE "C") AS calls FROM (VALUES ('cancel_task', ''), ('pause_task', ''), ('resume_task', ''), ('retry_task', ''), ('resolve_task_manually', ''), ('cancel_step', ', ''a'''),
  ('retry_step', ', ''a'''), ('reset_step', ', ''a'''), ('skip_step', ', ''b'''), ('resolve_step_manually', ', ''a'''), ('rerun_task_from', ', ''zz''')) AS f (f, a) \gset
SELECT control.id('steps') AS id \gset
SELECT control.try(format('SELECT tasker.%s(%s, %L)', f, :id, 'zz')) FROM unnest(ARRAY['cancel_step', 'retry_step', 'reset_step', 'skip_step', 'resolve_step_manually', 'rerun_task_from']) AS f;
SET SESSION AUTHORIZATION regress_outsider;
SELECT count(*), count(*) FILTER (WHERE control.try(format('SELECT tasker.' || c, :id)) = control.try(format('SELECT tasker.' || c, -1)) AND control.try(format('SELECT tasker.' || c, -1)) = '02000 task N does not exist') AS same
FROM unnest(:'calls'::text[]) AS c;
SET SESSION AUTHORIZATION regress_operator;
SELECT tasker.pause_task(:id, 'operator at work'), tasker.resume_task(:id), tasker.cancel_task(:id);
SET SESSION AUTHORIZATION regress_control;
SELECT control.history('steps');

-- A step does not control its own task; another one it may. In the background
SELECT tasker.create_task('control', 'line', jsonb_build_object('do', 'SELECT tasker.' || f), idempotency_key => f) FROM unnest(ARRAY['cancel_task(%s)', 'pause_task(%s)', 'retry_step(%s, ''b'')', 'rerun_task_from(%s, ''a'')',
  'resolve_task_manually(%s)', 'cancel_task(tasker.create_task(''control'', ''line'', run_at => ''2999-01-01'', idempotency_key => ''child''))']) AS f \g /dev/null
SELECT t.idempotency_key, tasker.wait_for_task(t.task_id, '60 s') FROM tasker.task_status AS t WHERE t.context ? 'do' ORDER BY t.idempotency_key COLLATE "C";
SELECT t.idempotency_key, s.state, s.attempts, s.error ->> 'sqlstate' AS code, s.error ->> 'message' AS message, s.error ->> 'hint' AS hint FROM tasker.task_status AS t JOIN tasker.step_status AS s USING (task_id)
WHERE t.context ? 'do' AND s.step_name = 'b' ORDER BY t.idempotency_key COLLATE "C";
SELECT control.steps('child');
-- Mended while it may run: it goes on in the background
INSERT INTO control.broken VALUES ('b', 'TK002');
SELECT tasker.create_task('control', 'line', '{"broken": 1}') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT tasker.resolve_step_manually(:id, 'b', '1');
SELECT tasker.wait_for_task(:id, '60 s');
SELECT result FROM tasker.task_status WHERE task_id = :id;

RESET SESSION AUTHORIZATION;
SELECT tasker.cancel_task(array_agg(task_id)) > 0 FROM tasker.task_status WHERE namespace = 'control' AND state IN ('pending', 'in_progress');
SELECT * FROM tasker.check();
SELECT tasker.revoke_access('regress_control', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_outsider', 'submitter'), tasker.revoke_access('regress_operator', 'operator') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_control, regress_outsider, regress_operator CASCADE;
DROP ROLE regress_control, regress_outsider, regress_operator;
