-- Limits on steps: what is refused, who may set them, what is shown of them, and that they hold and let go.
\set SHOW_CONTEXT never
CREATE ROLE regress_limits LOGIN;
CREATE ROLE regress_limits_operator LOGIN;
CREATE ROLE regress_limits_worker LOGIN;
SELECT tasker.grant_access('regress_limits', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l \g /dev/null
SELECT tasker.grant_access('regress_limits_operator', 'operator') \g /dev/null
SELECT tasker.grant_access('regress_limits_worker', 'worker', 'regress-limits') \g /dev/null
CREATE SCHEMA limits AUTHORIZATION regress_limits;
GRANT USAGE ON SCHEMA limits TO PUBLIC;

SET SESSION AUTHORIZATION regress_limits;
CREATE FUNCTION limits.work(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT context';
SELECT tasker.define_task($${"namespace": "limits", "name": "pay", "steps": [
  {"name": "open", "handler": {"type": "noop"}},
  {"name": "charge", "depends_on": ["open"], "handler": {"type": "sql", "function": "limits.work"}},
  {"name": "mail", "depends_on": ["open"], "handler": {"type": "external", "queue": "regress-limits"}, "skippable": true}]}$$) > 0 AS defined;
SELECT tasker.define_task($${"namespace": "limits", "name": "ship", "steps": [{"name": "pack", "handler": {"type": "sql", "query": "SELECT 1"}}]}$$) > 0 AS defined;

-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION limits.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
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
CREATE FUNCTION limits.await(question text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '30 s';
  yes boolean;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || question INTO yes;
    IF yes THEN RETURN true; END IF;
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'never: %', question; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
END
$$;

-- What is refused
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT s.statement, limits.try('SELECT tasker.set_step_limit(' || s.statement || ')') AS answer FROM (VALUES
  (1, $$NULL, max_running => 1$$),
  (2, $$'nowhere', max_running => 1$$),
  (3, $$'limits', 'nothing', max_running => 1$$),
  (4, $$'limits', 'pay', 'nothing', max_running => 1$$),
  (5, $$'limits', step_name => 'charge', max_running => 1$$),
  (6, $$'limits', 'pay', 'mail', max_running => 1$$),
  (7, $$'limits', 'pay', 'open', max_running => 1$$),
  (8, $$'limits', max_running => -1$$),
  (9, $$'limits', max_running => 1000001$$),
  (10, $$'limits', per_second => 0$$),
  (11, $$'limits', per_second => 'NaN'$$),
  (12, $$'limits', per_second => 1e9$$),
  (13, $$'limits', per_second => 1, burst => 0$$),
  (14, $$'limits', max_running => 1, burst => 2$$),
  (15, $$'limits', key => 'customer', max_running => 1$$),
  (16, $$'limits', key => '/a~2', max_running => 1$$),
  (17, $$'limits', key => '', max_running => 1$$)) AS s (n, statement) ORDER BY s.n;
-- Who may
SELECT limits.try($$SELECT tasker.set_step_limit('limits', 'pay', 'charge', max_running => 1)$$) AS operator;
SET SESSION AUTHORIZATION regress_limits;
SELECT limits.try($$SELECT tasker.set_step_limit('limits', 'pay', 'charge', max_running => 1)$$) AS owner;
SELECT limits.try($$INSERT INTO tasker.step_limit_rows (task_namespace_id, max_running, changed_by) VALUES (1, 1, 'regress_limits')$$) AS owner;
SET SESSION AUTHORIZATION regress_limits_worker;
SELECT limits.try($$SELECT count(*) FROM tasker.step_limits$$) AS worker;

-- One row for each scope; false when nothing changes
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', per_second => 2.5) AS namespace, tasker.set_step_limit('limits', per_second => 2.5, burst => 3) AS again,
  tasker.set_step_limit('limits', per_second => 2.5, burst => 4) AS burst, tasker.set_step_limit('limits', 'pay', max_running => 7) AS definition,
  tasker.set_step_limit('limits', 'pay', 'charge', max_running => 0) AS step, tasker.set_step_limit('limits', 'pay', 'charge', '/customer', 1, 10) AS key;
SELECT namespace, name, step_name, key, max_running, per_second, burst, running, waiting, tokens, changed_by FROM tasker.step_limits ORDER BY name, step_name, key;
SELECT l.key, l.key_path FROM tasker.step_limit_rows AS l WHERE l.key IS NOT NULL;
SELECT tasker.set_step_limit('limits') AS gone, tasker.set_step_limit('limits') AS again, tasker.set_step_limit('limits', 'pay') AS definition,
  tasker.set_step_limit('limits', 'pay', 'charge', '/customer') AS key;
SELECT count(*) FROM tasker.step_limits;

-- Closed: its steps wait, others go on
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.create_task('limits', 'pay', '{"customer": 1}', bypass_steps => '{mail}') AS first \gset
SELECT tasker.create_task('limits', 'pay', '{"customer": 2}', bypass_steps => '{mail}') AS second \gset
SELECT tasker.create_task('limits', 'ship') AS ship \gset
SELECT tasker.wait_for_task(:ship, '30 s');
SELECT limits.await($$waiting = 2 FROM tasker.step_limits WHERE step_name = 'charge'$$);
SELECT step_name, ready_for_execution, blocking_reason, ready_in FROM tasker.get_step_readiness_status(:first);
SELECT b.step_name, b.blocking_reason, b.detail FROM tasker.blocked_steps AS b WHERE b.task_id = :second;
SELECT recommended_action, ready_steps FROM tasker.get_task_execution_context(:first);
SELECT severity, finding, evidence, advice FROM tasker.diagnose_step(:first, 'charge');
-- A step that is cancelled while it waits is not waited for
SELECT tasker.cancel_task(:second);
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', 'pay', 'charge', max_running => 1);
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.wait_for_task(:first, '30 s');
SELECT limits.await($$running + waiting = 0 FROM tasker.step_limits WHERE step_name = 'charge'$$);

-- A rate: the first takes the only token
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', 'pay', 'charge', per_second => 0.001);
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.create_task('limits', 'pay', '{"customer": 1}', bypass_steps => '{mail}') AS third \gset
SELECT tasker.wait_for_task(:third, '30 s');
SELECT tasker.create_task('limits', 'pay', '{"customer": 1}', bypass_steps => '{mail}') AS fourth \gset
SELECT limits.await($$waiting = 1 FROM tasker.step_limits WHERE step_name = 'charge'$$);
SELECT regexp_replace(blocking_reason, '[0-9-]{10}T[0-9:]{8}Z', 'then') AS blocking_reason, ready_in BETWEEN interval '15 min' AND interval '1000 s' AS ready_in,
  next_retry_at BETWEEN now() AND now() + interval '1000 s' AS next
FROM tasker.get_step_readiness_status(:fourth, '{charge}');
SELECT tokens < 1 AS tokens FROM tasker.step_limits WHERE step_name = 'charge';
SELECT severity, finding, evidence ? 'until' AS until FROM tasker.diagnose_step(:fourth, 'charge');
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', 'pay', 'charge');
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.wait_for_task(:fourth, '30 s');

-- By key: for each customer, and for a task without one not at all
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', key => '/customer', per_second => 0.001);
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.create_task('limits', 'ship', c::jsonb) AS task_id FROM unnest(ARRAY['{"customer": 1}', '{"customer": "1"}', '{"customer": null}', '{}', '{}']) AS c \g /dev/null
SELECT limits.await($$count(*) = 6 FROM tasker.task_status WHERE namespace = 'limits' AND name = 'ship' AND state = 'complete'$$);
SELECT tasker.create_task('limits', 'ship', '{"customer": 1}') AS fifth \gset
SELECT limits.await($$waiting = 1 FROM tasker.step_limits WHERE key IS NOT NULL$$);
SELECT regexp_replace(blocking_reason, '[0-9-]{10}T[0-9:]{8}Z', 'then') AS blocking_reason FROM tasker.get_step_readiness_status(:fifth);
SET SESSION AUTHORIZATION regress_limits_operator;
SELECT tasker.set_step_limit('limits', key => '/customer');
SET SESSION AUTHORIZATION regress_limits;
SELECT tasker.wait_for_task(:fifth, '30 s');

RESET SESSION AUTHORIZATION;
SELECT count(*) FROM tasker.step_limits;
