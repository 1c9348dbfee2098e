-- Why isn't it done: each finding provoked, with its evidence. Numbers, processes and times that differ from run to run show as *.
\set SHOW_CONTEXT never
CREATE ROLE regress_diagnose LOGIN;
CREATE ROLE regress_library NOLOGIN;
CREATE ROLE regress_outside LOGIN;
CREATE ROLE regress_watch LOGIN;
CREATE ROLE regress_leaves LOGIN;
SELECT tasker.grant_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_diagnose', 'regress_outside', 'regress_leaves']) AS r \g /dev/null
SELECT tasker.grant_access('regress_diagnose', 'author'), tasker.grant_access('regress_watch', 'monitor') \g /dev/null
CREATE SCHEMA diagnose AUTHORIZATION regress_diagnose;
CREATE SCHEMA library AUTHORIZATION regress_library;
GRANT USAGE ON SCHEMA library TO regress_diagnose;
GRANT USAGE ON SCHEMA diagnose TO regress_watch, regress_outside, regress_leaves;
CREATE TABLE library.prices (amount integer);
CREATE FUNCTION library.price(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(count(*)) FROM library.prices';
GRANT EXECUTE ON FUNCTION library.price(jsonb, jsonb) TO regress_diagnose;
SET SESSION AUTHORIZATION regress_diagnose;

-- Does what the context says under the step's name: raises {"code", "detail"} up to attempt "until", sleeps {"sleep"} seconds, waits for an advisory {"lock"}
CREATE FUNCTION diagnose.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  todo CONSTANT jsonb := coalesce(step.context -> step.step_name, '{}');
BEGIN
  IF todo ? 'lock' THEN PERFORM pg_advisory_xact_lock_shared((todo ->> 'lock')::bigint); END IF;
  IF todo ? 'sleep' THEN PERFORM pg_sleep((todo ->> 'sleep')::float8); END IF;
  IF todo ? 'code' AND step.attempt <= coalesce((todo ->> 'until')::integer, 99) THEN
    RAISE EXCEPTION 'out of order' USING ERRCODE = todo ->> 'code', DETAIL = 'card ' || coalesce(todo ->> 'card', '');
  END IF;
  RETURN '1';
END
$$;
CREATE FUNCTION diagnose.temporary(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION diagnose.act_alone(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN diagnose.act(step); END';

-- Defines a task of steps given as [name, parents, other keys]
CREATE FUNCTION diagnose.define(name text, steps jsonb) RETURNS void LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'diagnose', 'name', name, 'steps', (SELECT jsonb_agg(jsonb_build_object('name', s ->> 0, 'depends_on', s -> 1,
    'backoff', '{"base_seconds": 0, "jitter": 0}'::jsonb, 'handler', '{"type": "sql", "function": "diagnose.act"}'::jsonb) || coalesce(s -> 2, '{}') ORDER BY n)
  FROM jsonb_array_elements(steps) WITH ORDINALITY AS t (s, n))))
$$;
-- A task for a far-off day: nothing moves by itself
CREATE FUNCTION diagnose.create(name text, key text, context jsonb DEFAULT '{}', run_at timestamptz DEFAULT '2999-01-01') RETURNS bigint LANGUAGE sql AS $$
  SELECT tasker.create_task('diagnose', name, context, idempotency_key => key, run_at => run_at)
$$;
CREATE FUNCTION diagnose.id(key text) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT t.task_id FROM tasker.task_status AS t WHERE t.namespace = 'diagnose' AND t.idempotency_key = key $$;
CREATE FUNCTION diagnose.masked(what text) RETURNS text LANGUAGE sql AS $$
  SELECT regexp_replace(regexp_replace(regexp_replace(what, '\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', '*', 'g'),
    '("[a-z_]*(?:pid|seconds|executors|busy|max_worker_processes|worker_slots_left|max_concurrent_steps|connections|usual_\w+|p95_seconds)": )[0-9.]+', '\1*', 'g'),
    '(task|process|Task|_(?:task|step|task_from)\()( ?)\d+', '\1\2*', 'g')
$$;
CREATE FUNCTION diagnose.told(key text, step text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT concat_ws(' ', d.severity, d.finding, d.step_name, diagnose.masked(d.evidence::text))
  FROM (SELECT * FROM tasker.diagnose_task(diagnose.id(key)) WHERE step IS NULL UNION ALL SELECT * FROM tasker.diagnose_step(diagnose.id(key), step) WHERE step IS NOT NULL) AS d
$$;
-- Until the finding is there, at most half a minute
CREATE PROCEDURE diagnose.await(key text, finding text) LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  WHILE NOT EXISTS (SELECT FROM tasker.diagnose_task(diagnose.id(key)) AS d WHERE d.finding = await.finding) LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'no finding %: %', finding, tasker.explain_task(diagnose.id(key)); END IF;
    PERFORM pg_sleep(0.05);
  END LOOP;
END
$$;
CREATE PROCEDURE diagnose.run(VARIADIC keys text[]) LANGUAGE plpgsql AS $$
DECLARE
  key text;
BEGIN
  FOREACH key IN ARRAY keys LOOP
    CALL tasker.run_task(diagnose.id(key), true);
  END LOOP;
END
$$;
SELECT diagnose.define('line', '[["a", []], ["b", ["a"]], ["c", ["b"], {"skippable": true}]]') \g /dev/null
SELECT diagnose.define('wide', '[["a", []], ["b", []], ["c", ["a", "b"]]]') \g /dev/null
\pset format unaligned
\pset tuples_only on
\pset null '(null)'

-- Waiting for its time, for parents, for somebody
SELECT diagnose.create('line', 'later') \g /dev/null
SELECT diagnose.told('later');
SELECT diagnose.told('later', 'c');
SELECT tasker.pause_task(diagnose.id('later'), 'the night') \g /dev/null
SELECT diagnose.told('later', 'a');
SELECT tasker.resume_task(diagnose.id('later')) \g /dev/null
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT tasker.pause_tasks('diagnose', reason => 'maintenance') \g /dev/null
SELECT diagnose.told('later');
ROLLBACK;
SET SESSION AUTHORIZATION regress_diagnose;

-- Done, each in its way
SELECT diagnose.create('line', k) FROM unnest(ARRAY['done', 'cancelled', 'resolved', 'cut', 'skipped']) AS k \g /dev/null
CALL diagnose.run('done');
SELECT diagnose.told('done');
SELECT diagnose.told('done', 'b');
SELECT tasker.cancel_task(diagnose.id('cancelled'), 'not needed') \g /dev/null
SELECT diagnose.told('cancelled');
SELECT diagnose.told('cancelled', 'b');
SELECT tasker.resolve_task_manually(diagnose.id('resolved'), 'by phone') \g /dev/null
SELECT diagnose.told('resolved');
SELECT tasker.cancel_step(diagnose.id('cut'), 'a', 'no more') \g /dev/null
CALL diagnose.run('cut');
SELECT diagnose.told('cut');
SELECT tasker.skip_step(diagnose.id('skipped'), 'c', 'today') \g /dev/null
SELECT diagnose.told('skipped', 'c');

-- A failed step, the steps beneath it, and what there is to do
SELECT diagnose.create('wide', 'failed', '{"a": {"code": "TK002", "card": "4242"}}') \g /dev/null
CALL diagnose.run('failed');
SELECT diagnose.told('failed');
SELECT diagnose.masked(d.advice), d.doc FROM tasker.diagnose_task(diagnose.id('failed')) AS d;

-- It retries by itself
SELECT diagnose.define('slowly', '[["a", [], {"backoff": {"base_seconds": 300, "jitter": 0}}]]') \g /dev/null
SELECT diagnose.create('slowly', 'retries', '{"a": {"code": "08006"}}', now()) \g /dev/null
CALL diagnose.await('retries', 'transient_failure');
SELECT diagnose.told('retries');

-- Out of attempts by a failure that passes; the same where only one attempt is allowed
SELECT diagnose.define('once', '[["a", [], {"retryable": false}]]') \g /dev/null
SELECT diagnose.create('line', 'transient', '{"a": {"code": "08006"}}'), diagnose.create('once', 'once', '{"a": {"code": "40001"}}') \g /dev/null
CALL diagnose.run('transient', 'once');
SELECT diagnose.told('transient');
SELECT diagnose.told('once');

-- This input, while the same step of other tasks succeeds; then the handler, as it fails for everybody
SELECT diagnose.define('input', '[["a", []]]') \g /dev/null
SELECT diagnose.create('input', 'input ' || i, CASE i WHEN 5 THEN '{"a": {"code": "22P02", "card": "4242"}}' ELSE '{}' END::jsonb) FROM generate_series(1, 5) AS i \g /dev/null
CALL diagnose.run('input 5');
SELECT diagnose.told('input 5');
CALL diagnose.run('input 1', 'input 2', 'input 3', 'input 4');
SELECT diagnose.told('input 5');
SELECT diagnose.define('broken', '[["a", []]]') \g /dev/null
SELECT diagnose.create('broken', 'broken ' || i, '{"a": {"code": "42P01"}}') FROM generate_series(1, 4) AS i \g /dev/null
CALL diagnose.run('broken 1', 'broken 2', 'broken 3', 'broken 4');
SELECT diagnose.told('broken 4');

-- The function behind a step: gone, not for the owner, not in a schema of his, and a privilege inside
SELECT diagnose.define('temporary', '[["a", []], ["b", ["a"], {"handler": {"type": "sql", "function": "diagnose.temporary"}}]]') \g /dev/null
SELECT diagnose.define('priced', '[["a", [], {"handler": {"type": "sql", "function": "library.price"}}]]') \g /dev/null
SELECT diagnose.create('temporary', 'temporary'), diagnose.create('priced', 'priced') \g /dev/null
DROP FUNCTION diagnose.temporary(jsonb, jsonb);
SELECT diagnose.told('temporary');
CALL diagnose.run('temporary');
SELECT diagnose.told('temporary');
CREATE FUNCTION diagnose.temporary(context jsonb, results jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
SELECT diagnose.told('temporary');
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION library.price(jsonb, jsonb) FROM regress_diagnose, PUBLIC;
SELECT diagnose.told('priced');
REVOKE USAGE ON SCHEMA library FROM regress_diagnose;
SELECT diagnose.told('priced');
SELECT d.advice FROM tasker.diagnose_task(diagnose.id('priced')) AS d WHERE d.finding = 'privilege_missing';
GRANT USAGE ON SCHEMA library TO regress_diagnose;
GRANT EXECUTE ON FUNCTION library.price(jsonb, jsonb) TO regress_diagnose;
SET SESSION AUTHORIZATION regress_diagnose;
CALL diagnose.run('priced');
SELECT diagnose.told('priced');

-- Timeouts: nothing is known; successes far from the limit; near to it
SELECT diagnose.define('timed', '[["a", [], {"timeout_seconds": 0.5, "max_attempts": 1}]]') \g /dev/null
SELECT diagnose.create('timed', 'timed', '{"a": {"sleep": 60}}') \g /dev/null
CALL diagnose.run('timed');
SELECT diagnose.told('timed');
RESET SESSION AUTHORIZATION;
CREATE FUNCTION pg_temp.longest(milliseconds float8) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tasker.step_history SELECT n.named_task_id, 1, date_trunc('hour', clock_timestamp()) - interval '1 hour', 1, 1, 1, milliseconds, milliseconds FROM tasker.named_tasks AS n WHERE n.name = 'timed'
  ON CONFLICT (named_task_id, step_no, hour, attempt) DO UPDATE SET max_ms = milliseconds
$$;
SELECT pg_temp.longest(20) \g /dev/null
SELECT diagnose.told('timed');
SELECT pg_temp.longest(490) \g /dev/null
SELECT diagnose.told('timed');
SELECT diagnose.masked(d.advice) FROM tasker.diagnose_task(diagnose.id('timed')) AS d;
SET SESSION AUTHORIZATION regress_diagnose;

-- The deadline of the whole run
SELECT tasker.create_task('diagnose', 'line', '{"a": {"sleep": 60}}', idempotency_key => 'late', deadline_seconds => 0.5) \g /dev/null
SELECT tasker.wait_for_task(diagnose.id('late'), '30 s');
SELECT diagnose.told('late');
SELECT tasker.create_task('diagnose', 'line', idempotency_key => 'soon', deadline_seconds => 100, run_at => '2999-01-01') \g /dev/null
RESET SESSION AUTHORIZATION;
BEGIN;
UPDATE tasker.tasks SET deadline_at = now() + interval '40 s', run_at = now() - interval '10 min', created_at = now() - interval '10 min' WHERE task_id = diagnose.id('soon');
SELECT d.severity, d.finding, (d.evidence ->> 'seconds_left')::integer BETWEEN 20 AND 40 AS left FROM tasker.diagnose_task(diagnose.id('soon')) AS d WHERE d.finding = 'deadline_near';
ROLLBACK;

-- What keeps a whole task: hold, owner, lock, definition
BEGIN;
UPDATE tasker.home SET held_reason = 'copied from production';
SELECT diagnose.told('later');
SELECT diagnose.told('later', 'b');
ROLLBACK;
BEGIN;
DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$;
SELECT diagnose.told('later');
ROLLBACK;
BEGIN;
ALTER ROLE regress_diagnose SUPERUSER;
SELECT diagnose.told('later');
ROLLBACK;
BEGIN;
SELECT 1 FROM tasker.tasks AS t WHERE t.task_id = diagnose.id('later') FOR UPDATE \g /dev/null
SELECT diagnose.told('later');
ROLLBACK;
SET SESSION AUTHORIZATION regress_diagnose;
BEGIN;
SELECT tasker.pause_task(diagnose.id('later')) \g /dev/null
PREPARE TRANSACTION 'regress_diagnose';
SELECT diagnose.told('later');
ROLLBACK PREPARED 'regress_diagnose';
SELECT tasker.define_task('{"namespace": "diagnose", "name": "line", "version": "0.2.0", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SELECT tasker.retire_task_definition('diagnose', 'line', '0.1.0') \g /dev/null
SELECT t FROM diagnose.told('later') AS t WHERE t ~ 'retired';
SET SESSION AUTHORIZATION regress_leaves;
SELECT tasker.create_task('diagnose', 'wide', idempotency_key => 'left', run_at => '2999-01-01') \g /dev/null
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT diagnose.id('left') AS left \gset
SELECT tasker.revoke_access('regress_leaves', 'submitter') \g /dev/null
REVOKE USAGE ON SCHEMA diagnose FROM regress_leaves;
DROP ROLE regress_leaves;
SELECT d.severity, d.finding, d.evidence ->> 'owner' ~ '^\d+$' AS number FROM tasker.diagnose_task(:left) AS d WHERE d.finding = 'owner_gone';
ROLLBACK;
-- Rows that somebody took away
BEGIN;
DELETE FROM tasker.workflow_steps AS s WHERE s.task_id = :left AND s.step_no = 2;
SELECT d.severity, d.finding, d.doc FROM tasker.diagnose_task(:left) AS d;
SELECT regexp_replace(tasker.explain_task(:left), '\d+', 'N');
ROLLBACK;

-- A breaker
SELECT diagnose.define('calls', '[["a", [], {"dependent_system": "diagnose_payments"}], ["b", [], {"dependent_system": "diagnose_payments"}]]') \g /dev/null
SELECT tasker.trip_breaker('diagnose_payments', 'upgrade') \g /dev/null
SET SESSION AUTHORIZATION regress_diagnose;
SELECT diagnose.create('calls', 'calls') \g /dev/null
SELECT diagnose.told('calls');
SELECT d.advice FROM tasker.diagnose_task(diagnose.id('calls')) AS d;
RESET SESSION AUTHORIZATION;
SELECT tasker.trip_breaker('diagnose_payments', 'upgrade', '1 day') \g /dev/null
UPDATE tasker.tasks SET run_at = now() WHERE task_id = diagnose.id('calls');
SELECT diagnose.told('calls', 'b');
SELECT tasker.reset_breaker('diagnose_payments') \g /dev/null
SET SESSION AUTHORIZATION regress_diagnose;

-- Running too long, behind a lock: twelve runs tell what is usual
SELECT diagnose.define('long', '[["a", [], {"handler": {"type": "sql", "function": "diagnose.act_alone"}}]]') \g /dev/null
SELECT tasker.create_task('diagnose', 'long') FROM generate_series(1, 12) \g /dev/null
CREATE PROCEDURE diagnose.await_usual() LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  WHILE EXISTS (SELECT FROM tasker.task_status AS t WHERE t.name = 'long' AND t.state <> 'complete') LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'they do not end'; END IF;
    PERFORM pg_sleep(0.05);
  END LOOP;
END
$$;
CALL diagnose.await_usual();
SELECT pg_advisory_lock(424242) \g /dev/null
SELECT diagnose.create('long', 'long', '{"a": {"lock": 424242}}', now()) \g /dev/null
CALL diagnose.await('long', 'long_running');
SELECT d.severity, d.finding, d.step_name, diagnose.masked((d.evidence - 'blocked_by')::text), d.evidence -> 'blocked_by' = jsonb_build_array(pg_backend_pid()) AS blocked_by_me
FROM tasker.diagnose_task(diagnose.id('long')) AS d;
-- No executor left: as many steps as there may be executors wait for the same lock, each alone
SELECT diagnose.define('alone', '[["a", [], {"own_transaction": true}]]') \g /dev/null
SELECT diagnose.create('alone', 'alone ' || i, '{"a": {"lock": 424242}}', now()) FROM generate_series(1, current_setting('tasker.max_executors')::integer) AS i \g /dev/null
CALL diagnose.await('alone ' || current_setting('tasker.max_executors'), 'worker_shortage');
SELECT diagnose.told('alone ' || current_setting('tasker.max_executors'));
SELECT pg_advisory_unlock(424242) \g /dev/null
CALL diagnose.await_usual();

-- run_task has a task for itself, and the handler sees it
CREATE FUNCTION diagnose.look(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(d.finding || CASE WHEN (d.evidence ->> 'pid')::integer = pg_backend_pid() THEN ' here' ELSE '' END) FROM tasker.diagnose_task(step.task_id) AS d $$;
SELECT diagnose.define('look', '[["a", [], {"handler": {"type": "sql", "function": "diagnose.look"}}]]') \g /dev/null
SELECT diagnose.create('look', 'look') \g /dev/null
CALL diagnose.run('look');
SELECT t.result FROM tasker.task_status AS t WHERE t.task_id = diagnose.id('look');

-- Who sees it: the owner, a monitor without payloads, nobody else
SELECT count(*), bool_or(d.evidence::text ~ '4242|card') AS leaks FROM tasker.diagnose_task(diagnose.id('input 5')) AS d;
SELECT diagnose.id('input 5') AS input \gset
SET SESSION AUTHORIZATION regress_watch;
SELECT d.finding, d.evidence ->> 'message', d.evidence::text || d.advice ~ '4242|card' AS leaks FROM tasker.diagnose_task(:input) AS d;
SELECT tasker.explain_task(:input) ~ '4242|card' AS leaks;
\set VERBOSITY sqlstate
SET SESSION AUTHORIZATION regress_outside;
SELECT * FROM tasker.diagnose_task(:input);
SELECT * FROM tasker.diagnose_step(:input, 'a');
SELECT tasker.explain_task(:input);
SELECT tasker.explain_task(-1);
SET SESSION AUTHORIZATION regress_diagnose;
SELECT * FROM tasker.diagnose_step(:input, 'nothing');
SELECT * FROM tasker.diagnose_task(NULL);
SELECT * FROM tasker.diagnose_step(:input, NULL);
SELECT tasker.explain_task(NULL);
\set VERBOSITY default

-- As text
SELECT diagnose.masked(tasker.explain_task(diagnose.id('failed')));
SELECT diagnose.masked(tasker.explain_task(diagnose.id('done')));

RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
SELECT tasker.cancel_task(t.task_id) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id)
WHERE t.live AND s.name = 'diagnose' \g /dev/null
SELECT * FROM tasker.check();
