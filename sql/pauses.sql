-- Pauses by scope: who may, what an order holds, what it says, and that nothing of its scope starts while it lasts. The background runs here.
\set SHOW_CONTEXT never
CREATE ROLE regress_pauses LOGIN;
CREATE ROLE regress_pauses_operator LOGIN;
SELECT tasker.grant_access('regress_pauses', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_pauses_operator', 'operator') \g /dev/null
CREATE SCHEMA pauses AUTHORIZATION regress_pauses;
GRANT USAGE ON SCHEMA pauses TO PUBLIC;
SET SESSION AUTHORIZATION regress_pauses;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION pauses.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; hint text;
BEGIN
  BEGIN
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN answer;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, regexp_replace(message, '\d+', 'N'), '(' || nullif(hint, '') || ')');
  END;
END
$$;
CREATE FUNCTION pauses.step(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb('ran'::text) $$;
CREATE FUNCTION pauses.define(ns text, name text, version text DEFAULT '1.0.0') RETURNS void LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', ns, 'name', name, 'version', version, 'steps', jsonb_build_array(
    jsonb_build_object('name', 'a', 'handler', jsonb_build_object('type', 'sql', 'function', 'pauses.step')),
    jsonb_build_object('name', 'b', 'depends_on', '["a"]'::jsonb, 'handler', '{"type": "noop"}'::jsonb))));
$$;
SELECT pauses.define('billing', 'invoice'), pauses.define('billing', 'reminder'), pauses.define('ops', 'nightly') \g /dev/null
CREATE FUNCTION pauses.create(ns text, name text, key text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM tasker.create_task(ns, name, idempotency_key => key); END $$;
-- What there is, and why it waits. A task that is not held has ended; the wait for that is not a guess but the task's own.
CREATE FUNCTION pauses.look() RETURNS TABLE (key text, state text, paused boolean, reason text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.wait_for_task(t.task_id, '60 s') FROM tasker.task_status AS t JOIN tasker.named_task_list AS n USING (namespace, name, version)
  WHERE t.idempotency_key IS NOT NULL AND NOT t.paused;
  RETURN QUERY SELECT t.idempotency_key, t.state::text, t.paused, s.blocking_reason
    FROM tasker.task_status AS t JOIN tasker.step_status AS s ON s.task_id = t.task_id AND s.step_name = 'a' WHERE t.idempotency_key IS NOT NULL ORDER BY t.idempotency_key;
END
$$;
\pset format unaligned
\pset tuples_only on

-- Who may: operators and admins. What a scope is
SELECT pauses.try('SELECT tasker.pause_tasks()'), pauses.try('SELECT tasker.resume_tasks(''billing'')');
RESET SESSION AUTHORIZATION;
GRANT EXECUTE ON FUNCTION tasker.pause_tasks, tasker.resume_tasks TO regress_pauses;
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.try('SELECT tasker.pause_tasks()'), pauses.try('SELECT tasker.resume_tasks(''billing'')');
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION tasker.pause_tasks, tasker.resume_tasks FROM regress_pauses;
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT pauses.try(s) FROM unnest(ARRAY['SELECT tasker.pause_tasks(name => ''invoice'')', 'SELECT tasker.pause_tasks(''nowhere'')', 'SELECT tasker.pause_tasks(''billing'', ''nothing'')',
  'SELECT tasker.resume_tasks(name => ''invoice'')', 'SELECT tasker.resume_tasks(''nowhere'')', 'SELECT tasker.resume_tasks(''billing'', ''nothing'')',
  'SELECT tasker.pause_tasks(''billing'')', 'SELECT tasker.resume_tasks()']) AS s;

-- An order holds what is there and what comes; once is enough, and a rollback leaves nothing
BEGIN;
SELECT tasker.pause_tasks('billing', 'invoice', 'never mind');
ROLLBACK;
SELECT tasker.pause_tasks('billing', 'invoice', 'wrong prices'), tasker.pause_tasks('billing', 'invoice', 'still wrong');
SELECT namespace, name, paused_by, paused_at <= clock_timestamp() AS at, reason FROM tasker.paused_scopes;
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.create('billing', 'invoice', 'b-i 1'), pauses.create('billing', 'reminder', 'b-r 1'), pauses.create('ops', 'nightly', 'o-n 1') \g /dev/null
SELECT pauses.look();
SELECT namespace, name, paused FROM tasker.named_task_list WHERE namespace IN ('billing', 'ops') ORDER BY 1, 2;
-- Nobody is started for what is held
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_pauses_quiet LOGIN;
SELECT tasker.grant_access('regress_pauses_quiet', 'submitter') \g /dev/null
SET SESSION AUTHORIZATION regress_pauses_quiet;
SELECT tasker.create_task('billing', 'invoice') AS quiet \gset
SET SESSION AUTHORIZATION regress_pauses;
SELECT tasker.create_task('billing', 'reminder') AS loud \gset
SELECT tasker.wait_for_task(:loud, '60 s');
RESET SESSION AUTHORIZATION;
SELECT count(*) FILTER (WHERE role = 'regress_pauses') > 0 AS loud, count(*) FILTER (WHERE role = 'regress_pauses_quiet') AS quiet FROM tasker.workers WHERE database = current_database();
SELECT tasker.cancel_task(:quiet);
SET SESSION AUTHORIZATION regress_pauses;
-- A version that is defined meanwhile is in the scope too
SELECT pauses.define('billing', 'invoice', '1.1.0');
SELECT pauses.create('billing', 'invoice', 'b-i 2') \g /dev/null
SELECT pauses.look();
-- run_task runs nothing of it either
SELECT tasker.create_task('billing', 'invoice', run_at => '2999-01-01') AS id \gset
CALL tasker.run_task(:id, skip_waits => true);
SELECT state, paused FROM tasker.task_status WHERE task_id = :id;
SELECT ready_for_execution, blocking_reason, ready_in FROM tasker.get_step_readiness_status(:id, '{a}');
SELECT execution_status, ready_steps FROM tasker.get_task_execution_context(:id);
SELECT step_name, blocking_reason, detail FROM tasker.blocked_steps WHERE task_id = :id ORDER BY 1;
-- Nor in the transaction of the one who pauses, who is its owner here
RESET SESSION AUTHORIZATION;
SELECT tasker.grant_access('regress_pauses', 'operator') \g /dev/null
SET SESSION AUTHORIZATION regress_pauses;
SELECT tasker.create_task('ops', 'nightly', run_at => '2999-01-01') AS mine \gset
BEGIN;
SELECT tasker.pause_tasks('ops');
CALL tasker.run_task(:mine, skip_waits => true);
SELECT state FROM tasker.task_status WHERE task_id = :mine;
ROLLBACK;
CALL tasker.run_task(:mine, skip_waits => true);
SELECT state FROM tasker.task_status WHERE task_id = :mine;
RESET SESSION AUTHORIZATION;
SELECT tasker.revoke_access('regress_pauses', 'operator') \g /dev/null

-- Wider and narrower orders stand by themselves; the widest is named, and the task's own pause before all
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT tasker.pause_tasks('billing', reason => 'audit'), tasker.pause_tasks(reason => 'move');
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.create('billing', 'reminder', 'b-r 2'), pauses.create('ops', 'nightly', 'o-n 2') \g /dev/null
SELECT pauses.look();
SELECT tasker.pause_task(task_id) FROM tasker.task_status WHERE idempotency_key = 'b-i 1';
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT status, reasons[1] ~ '^this database is paused since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(move\); see tasker.resume_tasks$' AS says FROM tasker.health_ready();
SELECT tasker.resume_tasks('billing', 'reminder');
SELECT tasker.resume_tasks(reason => 'moved');
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.look();
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT tasker.resume_tasks('billing', 'invoice', 'prices are right');
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.look();
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT tasker.resume_tasks('billing'), tasker.resume_tasks('billing'), tasker.resume_tasks();
SET SESSION AUTHORIZATION regress_pauses;
-- Everything that was held runs, but for the task with a pause of its own
SELECT pauses.look();
SELECT tasker.resume_task(task_id) FROM tasker.task_status WHERE idempotency_key = 'b-i 1';
SELECT pauses.look() WHERE true LIMIT 1;
CALL tasker.run_task(:id, skip_waits => true);
SELECT state, paused FROM tasker.task_status WHERE task_id = :id;

-- Orders are kept, with who and why
SELECT n.name AS namespace, p.name, p.paused_by, p.reason, p.resumed_by, p.resumed_at > p.paused_at AS resumed, p.resume_reason
FROM tasker.scope_pauses AS p LEFT JOIN tasker.task_namespaces AS n USING (task_namespace_id) ORDER BY p.pause_id;
SELECT count(*) FROM tasker.paused_scopes;

-- A delayed task whose time comes while it is held starts when the hold ends, and so does a step whose retry came due
CREATE TABLE pauses.broken (is_broken boolean PRIMARY KEY);
INSERT INTO pauses.broken VALUES (true);
CREATE FUNCTION pauses.retried(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.attempt = 1 AND EXISTS (SELECT FROM pauses.broken) THEN RAISE EXCEPTION 'not yet'; END IF;
  RETURN to_jsonb(step.attempt);
END
$$;
SELECT tasker.define_task('{"namespace": "billing", "name": "retried", "steps": [{"name": "a", "backoff": {"base_seconds": 1, "jitter": 0},
  "handler": {"type": "sql", "function": "pauses.retried"}}]}') \g /dev/null
SELECT tasker.create_task('billing', 'retried') AS retried \gset
CREATE FUNCTION pauses.until(question text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  answer boolean;
BEGIN
  FOR i IN 1 .. 3000 LOOP
    EXECUTE 'SELECT ' || question INTO answer;
    IF answer THEN RETURN true; END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
  RETURN false;
END
$$;
SELECT pauses.until(format('EXISTS (SELECT FROM tasker.step_status WHERE task_id = %s AND state = ''error'')', :retried));
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT tasker.pause_tasks('billing');
SET SESSION AUTHORIZATION regress_pauses;
SELECT tasker.create_task('billing', 'invoice', run_at => clock_timestamp() + interval '1 s') AS delayed \gset
SELECT pauses.until(format('(SELECT bool_and(coalesce(next_attempt_at, run_at) < clock_timestamp() - interval ''0.5 s'') FROM tasker.task_status JOIN tasker.step_status USING (task_id) WHERE task_id IN (%s, %s))', :retried, :delayed));
SELECT t.state, s.state, s.attempts, s.blocking_reason FROM tasker.task_status AS t JOIN tasker.step_status AS s USING (task_id) WHERE t.task_id IN (:retried, :delayed) AND s.step_name = 'a' ORDER BY t.task_id;
SET SESSION AUTHORIZATION regress_pauses_operator;
SELECT tasker.resume_tasks('billing');
SET SESSION AUTHORIZATION regress_pauses;
SELECT tasker.wait_for_task(:retried, '60 s'), tasker.wait_for_task(:delayed, '60 s');

RESET SESSION AUTHORIZATION;
-- A prepared transaction pauses when it is committed
BEGIN;
SELECT tasker.pause_tasks('ops');
PREPARE TRANSACTION 'regress_pauses';
SELECT count(*) FROM tasker.paused_scopes;
COMMIT PREPARED 'regress_pauses';
SET SESSION AUTHORIZATION regress_pauses;
SELECT pauses.create('ops', 'nightly', 'o-n 3') \g /dev/null
SELECT * FROM pauses.look() WHERE key = 'o-n 3';
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT tasker.resume_tasks('ops');
PREPARE TRANSACTION 'regress_pauses';
COMMIT PREPARED 'regress_pauses';
SET SESSION AUTHORIZATION regress_pauses;
SELECT * FROM pauses.look() WHERE key = 'o-n 3';

RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();
SELECT tasker.revoke_access('regress_pauses', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_pauses_operator', 'operator'), tasker.revoke_access('regress_pauses_quiet', 'submitter') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_pauses, regress_pauses_operator, regress_pauses_quiet CASCADE;
DROP ROLE regress_pauses, regress_pauses_operator, regress_pauses_quiet;
