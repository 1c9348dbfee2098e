-- Circuit breakers: what opens and closes them, by outcomes and by hand, what their steps show, and who may do what.
-- Tasks are for a far-off day and run by run_task, whose outcomes count like those of workers; rows are written by the
-- dispatcher a moment later, so what needs them waits for them.
\set SHOW_CONTEXT never
CREATE ROLE regress_breakers LOGIN;
CREATE ROLE regress_breakers_viewer LOGIN;
CREATE ROLE regress_breakers_operator LOGIN;
SELECT tasker.grant_access('regress_breakers', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_breakers_viewer', 'viewer') \g /dev/null
SELECT tasker.grant_access('regress_breakers_operator', 'operator') \g /dev/null
CREATE SCHEMA breakers AUTHORIZATION regress_breakers;
GRANT USAGE ON SCHEMA breakers TO PUBLIC;
SET SESSION AUTHORIZATION regress_breakers;

-- What the systems outside answer: an SQLSTATE, or nothing when they work
CREATE TABLE breakers.outside (system text PRIMARY KEY, code text);
INSERT INTO breakers.outside VALUES ('regress bank', NULL), ('regress mail', NULL);
GRANT UPDATE, SELECT ON breakers.outside TO PUBLIC;
CREATE FUNCTION breakers.call(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  code CONSTANT text := (SELECT o.code FROM breakers.outside AS o WHERE o.system = step.config #>> '{config,system}');
BEGIN
  IF code IS NOT NULL THEN RAISE EXCEPTION 'the system answers %', code USING ERRCODE = code; END IF;
  RETURN to_jsonb(step.attempt);
END
$$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION breakers.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; hint text;
BEGIN
  EXECUTE statement INTO answer;
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN RETURN answer;
  WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' ', state, message, '[' || nullif(hint, '') || ']');
END
$$;
-- Returns as soon as the breaker's row says so; an error after a minute
CREATE FUNCTION breakers.await(wanted text, wanted_of text DEFAULT 'state') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '1 min';
BEGIN
  WHILE (SELECT to_jsonb(b) ->> wanted_of FROM tasker.circuit_breakers AS b WHERE b.system = 'regress bank') IS DISTINCT FROM wanted LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'the breaker never got %', wanted; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN wanted;
END
$$;
CREATE FUNCTION breakers.await_done(task bigint, step text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '1 min';
BEGIN
  WHILE (SELECT s.state FROM tasker.step_status AS s WHERE s.task_id = task AND s.step_name = step) <> 'complete' LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION '% of task % does not end', step, task; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
END
$$;
CREATE FUNCTION breakers.id(key text) RETURNS bigint LANGUAGE sql AS $$ SELECT t.task_id FROM tasker.task_status AS t WHERE t.namespace = 'breakers' AND t.idempotency_key = key $$;
CREATE FUNCTION breakers.steps(key text) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(s.step_name || ' ' || s.state || CASE s.attempts WHEN 0 THEN '' ELSE ' ' || s.attempts || '/' || s.max_attempts END
    || coalesce(' (' || regexp_replace(s.blocking_reason, '\d{4}-\S+Z', '<time>') || ')', ''), ', ' ORDER BY s.step_name)
  FROM tasker.step_status AS s WHERE s.task_id = breakers.id(key) $$;
CREATE VIEW breakers.now AS
  SELECT b.system, b.state, b.consecutive_failures AS failures, b.times_opened AS opened, CASE WHEN isfinite(b.open_until) THEN b.open_until - b.changed_at END AS open_for, b.opened_at IS NOT NULL AS since, b.reason, b.actor
  FROM tasker.circuit_breakers AS b WHERE b.system LIKE 'regress %' ORDER BY b.system;
GRANT SELECT ON breakers.now TO PUBLIC;
SELECT tasker.define_task(jsonb_build_object('namespace', 'breakers', 'name', 'pay', 'steps', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'max_attempts', 20, 'dependent_system', s.system,
  'backoff', '{"base_seconds": 0}'::jsonb, 'handler', jsonb_build_object('type', 'sql', 'function', 'breakers.call', 'config', jsonb_build_object('system', s.system))) ORDER BY s.name)
  FROM (VALUES ('charge', 'regress bank'), ('receipt', 'regress mail')) AS s (name, system)))) \g /dev/null
SELECT tasker.create_task('breakers', 'pay', idempotency_key => k, run_at => '2999-01-01')
FROM unnest(ARRAY['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth']) AS k \g /dev/null
SELECT breakers.id('first') AS first, breakers.id('second') AS second, breakers.id('third') AS third, breakers.id('fourth') AS fourth, breakers.id('fifth') AS fifth,
  breakers.id('sixth') AS sixth, breakers.id('seventh') AS seventh, breakers.id('eighth') AS eighth \gset

-- Named by a definition, it is there, closed, with the settings of the server
SELECT * FROM tasker.circuit_breakers WHERE system LIKE 'regress %' ORDER BY system;

-- Five failures in a row open it: the step stays as it is, and the other system is not concerned
UPDATE breakers.outside SET code = '08006' WHERE system = 'regress bank';
CALL tasker.run_task(:first, skip_waits => true);
SELECT breakers.await('open');
SELECT * FROM breakers.now;
SELECT breakers.steps('first');
-- Steps of another task of that system wait without an attempt, whatever run_task is told; of two delays the longer is named
CALL tasker.run_task(:second, skip_waits => true);
SELECT breakers.steps('second');

-- By hand: closed at once for this session. A success begins the row anew; permanent failures and conflicts say nothing.
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.reset_breaker('regress bank', 'the line is repaired'), tasker.reset_breaker('regress bank', 'twice');
SELECT * FROM breakers.now;
SET SESSION AUTHORIZATION regress_breakers;
UPDATE breakers.outside SET code = '22012' WHERE system = 'regress bank';
CALL tasker.run_task(:second, skip_waits => true);
SELECT breakers.steps('second');
SELECT * FROM breakers.now;

-- Settings of its own: two failures are enough
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.configure_breaker('regress bank', failure_threshold => 2, open_time => '1 hour', max_open_time => '2 hours');
SELECT tasker.configure_breaker('regress bank', 2, NULL, '60 min', '120 min');
SELECT system, failure_threshold, failure_window, open_time, max_open_time FROM tasker.circuit_breakers WHERE system LIKE 'regress %' ORDER BY system;
SET SESSION AUTHORIZATION regress_breakers;
UPDATE breakers.outside SET code = '57P03' WHERE system = 'regress bank';
CALL tasker.run_task(:third, skip_waits => true);
SELECT breakers.await('open');
SELECT * FROM breakers.now;
SELECT breakers.steps('third');

-- Reset while the system is still down: two more
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.reset_breaker('regress bank');
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:third, skip_waits => true);
SELECT breakers.await('open');
SELECT breakers.steps('third');

-- Tripped for a moment, which goes by: half-open, and the next step probes. It fails: open again, for longer than before.
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.trip_breaker('regress bank', 'maintenance', '1 ms');
SELECT breakers.await('half_open');
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:third, skip_waits => true);
SELECT breakers.await('open');
SELECT system, state, opened, open_for, since, reason, actor FROM breakers.now;
SELECT breakers.steps('third');
-- It succeeds: closed
UPDATE breakers.outside SET code = NULL;
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.trip_breaker('regress bank', 'look again', '1 ms');
SELECT breakers.await('half_open');
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:third, skip_waits => true);
SELECT breakers.await('closed');
SELECT * FROM breakers.now;
SELECT breakers.steps('third');

-- Tripped until it is reset. What is not committed holds for the session that did it, and for nobody when it is undone.
SET SESSION AUTHORIZATION regress_breakers_operator;
BEGIN;
SELECT tasker.trip_breaker('regress bank');
SELECT * FROM breakers.now WHERE state <> 'closed';
ROLLBACK;
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:fourth, skip_waits => true);
SELECT breakers.steps('fourth');
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.trip_breaker('regress bank', 'no more today'), tasker.trip_breaker('regress bank', 'once more');
SELECT * FROM breakers.now WHERE state <> 'closed';
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:fifth, skip_waits => true);
SELECT breakers.steps('fifth');
SELECT step_name, ready_for_execution, next_retry_at, ready_in, blocking_reason FROM tasker.get_step_readiness_status(:fifth) WHERE NOT dependencies_satisfied OR step_name = 'charge';
RESET SESSION AUTHORIZATION;
SELECT checks #>> '{circuit_breakers,not_closed,regress bank}' AS not_closed, 'circuit breakers are not closed: regress bank' = ANY (reasons) AS told FROM tasker.health_status();
-- A step in a transaction block is undone with it: its outcome counts for nothing
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.reset_breaker('regress bank', 'tomorrow');
SET SESSION AUTHORIZATION regress_breakers;
UPDATE breakers.outside SET code = '08006' WHERE system = 'regress bank';
BEGIN;
CALL tasker.run_task(:sixth, skip_waits => true);
SELECT breakers.steps('sixth');
ROLLBACK;
SELECT * FROM breakers.now;
UPDATE breakers.outside SET code = NULL WHERE system = 'regress bank';
CALL tasker.run_task(:sixth, skip_waits => true);
SELECT breakers.steps('sixth');

-- Steps that are due wait in the dispatcher, and show it wherever steps are shown; closed, they go on
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.trip_breaker('regress bank', 'until the evening', '1 hour');
SET SESSION AUTHORIZATION regress_breakers;
SELECT tasker.create_task('breakers', 'pay', idempotency_key => 'due') AS due \gset
SELECT breakers.await('1', wanted_of => 'waiting_steps');
SELECT breakers.await_done(:due, 'receipt');
SELECT breakers.steps('due');
SELECT r.step_name, r.retry_eligible, r.ready_for_execution, r.next_retry_at = b.open_until AS until_then, r.ready_in BETWEEN interval '1 us' AND interval '1 hour' AS ready_in
FROM tasker.get_step_readiness_status(:due) AS r JOIN tasker.circuit_breakers AS b ON b.system = 'regress bank' WHERE r.blocking_reason LIKE 'circuit_open%';
SELECT step_name, blocking_reason, regexp_replace(detail, '\d{4}-\S+Z', '<time>') AS detail FROM tasker.blocked_steps WHERE task_id = :due;
SELECT count(*) AS ready FROM tasker.ready_steps WHERE task_id = :due;
SELECT execution_status, ready_steps FROM tasker.get_task_execution_context(:due);
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.reset_breaker('regress bank', 'sooner');
SET SESSION AUTHORIZATION regress_breakers;
SELECT tasker.wait_for_task(:due, '60 s');
SELECT breakers.steps('due');
SELECT breakers.await('0', wanted_of => 'waiting_steps');

-- Switched off by a threshold of 0: nothing opens it but a hand
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.configure_breaker('regress bank', failure_threshold => 0);
SET SESSION AUTHORIZATION regress_breakers;
UPDATE breakers.outside SET code = '08006' WHERE system = 'regress bank';
CALL tasker.run_task(:seventh, skip_waits => true);
SELECT breakers.steps('seventh');
SELECT * FROM breakers.now;
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.trip_breaker('regress bank');
SET SESSION AUTHORIZATION regress_breakers;
CALL tasker.run_task(:eighth, skip_waits => true);
SELECT breakers.steps('eighth');
SET SESSION AUTHORIZATION regress_breakers_operator;
SELECT tasker.reset_breaker('regress bank'), tasker.configure_breaker('regress bank');
SELECT system, failure_threshold, failure_window, open_time, max_open_time FROM tasker.circuit_breakers WHERE system = 'regress bank';

-- Its history
SELECT t.sort_key, t.from_state, t.to_state, t.metadata FROM tasker.breaker_transitions AS t JOIN tasker.dependent_systems AS d USING (dependent_system_id)
WHERE d.name = 'regress bank' ORDER BY t.sort_key;

-- What is refused
SELECT breakers.try(s) FROM unnest(ARRAY[
  $$SELECT tasker.trip_breaker('regress nobody')$$, $$SELECT tasker.reset_breaker('regress nobody')$$, $$SELECT tasker.configure_breaker('regress nobody')$$,
  $$SELECT tasker.trip_breaker(NULL)$$, $$SELECT tasker.trip_breaker('regress bank', 'x', '0 s')$$, $$SELECT tasker.trip_breaker('regress bank', 'x', '-1 day')$$,
  $$SELECT tasker.trip_breaker('regress bank', 'x', '11 years')$$, $$SELECT tasker.configure_breaker('regress bank', -1)$$, $$SELECT tasker.configure_breaker('regress bank', 1001)$$,
  $$SELECT tasker.configure_breaker('regress bank', failure_window => '2 days')$$, $$SELECT tasker.configure_breaker('regress bank', open_time => '-1 s')$$,
  $$SELECT tasker.configure_breaker('regress bank', open_time => '2 min', max_open_time => '1 min')$$,
  $$SELECT tasker.configure_breaker('regress bank', max_open_time => '100 years')$$]) AS s;
UPDATE tasker.breakers SET state = 'closed';
-- Who may
SET SESSION AUTHORIZATION regress_breakers;
SELECT breakers.try(s) FROM unnest(ARRAY[$$SELECT tasker.trip_breaker('regress bank')$$, $$SELECT tasker.reset_breaker('regress bank')$$, $$SELECT tasker.configure_breaker('regress bank')$$]) AS s;
SET SESSION AUTHORIZATION regress_breakers_viewer;
SELECT breakers.try(s) FROM unnest(ARRAY[$$SELECT tasker.trip_breaker('regress bank')$$, $$SELECT count(*) FROM tasker.breakers WHERE false$$]) AS s;
SELECT system, state, times_opened, probing_task_id, waiting_steps FROM tasker.circuit_breakers WHERE system LIKE 'regress %' ORDER BY system;
RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();

SELECT count(tasker.cancel_task(t.task_id)) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id)
WHERE s.name = 'breakers' AND t.live \g /dev/null
SET client_min_messages = warning;
SELECT tasker.revoke_access(role, level) FROM tasker.access_grants WHERE role::text LIKE 'regress_breakers%' \g /dev/null
DROP OWNED BY regress_breakers, regress_breakers_viewer, regress_breakers_operator CASCADE;
DROP ROLE regress_breakers, regress_breakers_viewer, regress_breakers_operator;
