-- Steps that wait for a time or for somebody's signal: what their definitions may say, how they end, who may send.
\set SHOW_CONTEXT never
CREATE ROLE regress_waits LOGIN;
CREATE ROLE regress_waits_boss LOGIN;
CREATE ROLE regress_waits_deputy LOGIN IN ROLE regress_waits_boss;
CREATE ROLE regress_waits_other LOGIN;
SELECT tasker.grant_access('regress_waits', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access(r, 'viewer') FROM unnest(ARRAY['regress_waits_boss', 'regress_waits_other']::regrole[]) AS r \g /dev/null
CREATE SCHEMA waits AUTHORIZATION regress_waits;
GRANT USAGE ON SCHEMA waits TO PUBLIC;
SET SESSION AUTHORIZATION regress_waits;
-- What a statement answers, or SQLSTATE, message, detail and hint; undone in either case
CREATE FUNCTION waits.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; detail text; hint text;
BEGIN
  BEGIN
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN answer;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, regexp_replace(message, 'task \d+', 'task N'), nullif(detail, ''), '(' || nullif(hint, '') || ')');
  END;
END
$$;
CREATE FUNCTION waits.define(name text, handler jsonb, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'waits', 'name', name, 'steps', jsonb_build_array(
    jsonb_build_object('name', 'w', 'handler', handler) || more,
    '{"name": "after", "depends_on": ["w"], "handler": {"type": "sql", "query": "SELECT $2 -> ''w''"}}'::jsonb)));
$$;
CREATE FUNCTION waits.step(task bigint) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', step_name, state, attempts, regexp_replace(result::text, '2\d{3}-[^"]*Z', 'T'), error ->> 'message', error ->> 'category',
    regexp_replace(blocking_reason, 'until .*', 'until T'), signal_name), ', ' ORDER BY step_name DESC) FROM tasker.step_status WHERE task_id = task;
$$;
\pset format unaligned
\pset tuples_only on

-- Definitions: each fault, and what is accepted
SELECT h, waits.try(format('SELECT waits.define(''bad'', %L)', h)) FROM unnest(ARRAY['{"type": "wait"}', '{"type": "wait", "seconds": 1, "until": "2030-01-01"}',
  '{"type": "wait", "seconds": -1}', '{"type": "wait", "until": "${context/at}"}', '{"type": "signal"}', '{"type": "signal", "name": "a b"}',
  '{"type": "signal", "name": "go", "senders": []}', '{"type": "signal", "name": "go", "senders": ["regress_waits_boss", "regress_waits_nobody"]}',
  '{"type": "signal", "name": "go", "on_timeout": "fail"}', '{"type": "external"}', '{"type": "http"}']) AS h;
SELECT waits.try($$SELECT waits.define('bad', '{"type": "wait", "seconds": 1}', '{"timeout_seconds": 1}')$$);

-- A wait for seconds, and for a time that the context gives; one that is past is over at once
SELECT waits.define('seconds', '{"type": "wait", "seconds": 0.05}'), waits.define('until', '{"type": "wait", "until": "${/context/at}"}') \g /dev/null
SELECT tasker.create_task('waits', 'seconds') AS t \gset
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT finished_at - started_at >= '50 ms' FROM tasker.step_status WHERE task_id = :t AND step_name = 'w';
SELECT tasker.create_task('waits', 'until', '{"at": "2020-01-01 12:00+00"}') AS t \gset
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT tasker.create_task('waits', 'until', jsonb_build_object('at', clock_timestamp() + interval '200 ms')) AS t \gset
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT finished_at >= (c.at)::timestamptz FROM tasker.step_status JOIN (SELECT task_id, context ->> 'at' AS at FROM tasker.task_status) AS c USING (task_id)
WHERE task_id = :t AND step_name = 'w';
-- What is no time fails at once and for good
CREATE FUNCTION waits.run(name text, context jsonb) RETURNS bigint LANGUAGE sql AS $$ SELECT tasker.create_task('waits', name, context) $$;
SELECT count(waits.run('until', a)) FROM unnest(ARRAY['{}', '{"at": 5}', '{"at": null}', '{"at": "soon"}', '{"at": "infinity"}']::jsonb[]) AS a;
SELECT context, tasker.wait_for_task(task_id, '60 s'), waits.step(task_id) FROM tasker.task_status WHERE name = 'until' AND NOT context ->> 'at' LIKE '2%' IS TRUE ORDER BY task_id;

-- A signal: one that waits, who is told so, who may send, and what comes of it
SELECT waits.define('ask', '{"type": "signal", "name": "approval", "senders": ["regress_waits_boss"]}') \g /dev/null
SELECT tasker.create_task('waits', 'ask') AS t \gset
CREATE FUNCTION waits.until_waiting(task bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 6000 LOOP
    EXIT WHEN EXISTS (SELECT FROM tasker.step_status WHERE task_id = task AND step_name = 'w' AND state = 'in_progress');
    PERFORM tasker.wait_for_task(task, '10 ms');
  END LOOP;
  RETURN waits.step(task);
END
$$;
SELECT waits.until_waiting(:t);
SELECT waits.try(format('SELECT tasker.send_signal(%s, ''approval'')', :t)), waits.try(format('SELECT tasker.send_signal(%s, ''aproval'')', :t)), waits.try('SELECT tasker.send_signal(-1, ''approval'')');
SELECT count(*) FROM tasker.awaited_signals;
SET SESSION AUTHORIZATION regress_waits_other;
SELECT waits.try(format('SELECT tasker.send_signal(%s, ''approval'')', :t)), (SELECT count(*) FROM tasker.awaited_signals), (SELECT count(*) FROM tasker.step_status WHERE task_id = :t);
SET SESSION AUTHORIZATION regress_waits_deputy;
SELECT task_id = :t, step_name, signal_name, namespace, name, owner, wait_until FROM tasker.awaited_signals;
-- What is rolled back was not sent
BEGIN; SELECT tasker.send_signal(:t, 'approval', '{"granted": false}') > 0; ROLLBACK;
SELECT tasker.send_signal(:t, 'approval', '{"granted": true}') > 0;
SET SESSION AUTHORIZATION regress_waits;
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT name, sender, used_by FROM tasker.sent_signals WHERE task_id = :t;
SELECT metadata - 'signal_id' FROM tasker.task_history WHERE task_id = :t AND step_name = 'w' AND to_state = 'complete';
SET SESSION AUTHORIZATION regress_waits_boss;
SELECT waits.try(format('SELECT tasker.send_signal(%s, ''approval'')', :t));
SET SESSION AUTHORIZATION regress_waits;

-- Sent early it is kept; the first unused one wins; two steps of one name take one each
SELECT tasker.define_task('{"namespace": "waits", "name": "two", "steps": [{"name": "hold", "handler": {"type": "signal", "name": "go"}},
  {"name": "first", "depends_on": ["hold"], "handler": {"type": "signal", "name": "word"}}, {"name": "second", "depends_on": ["first"], "handler": {"type": "signal", "name": "word"}}]}') \g /dev/null
SELECT tasker.create_task('waits', 'two') AS t \gset
SELECT tasker.send_signal(:t, 'word', to_jsonb(n)) > 0 FROM generate_series(1, 3) AS n;
SELECT tasker.send_signal(:t, 'go') > 0;
SELECT tasker.wait_for_task(:t, '60 s');
SELECT step_name, result FROM tasker.step_status WHERE task_id = :t ORDER BY step_name;
SELECT name, used_by FROM tasker.sent_signals WHERE task_id = :t ORDER BY signal_id;

-- It stays out: the step fails, or goes on with a value. Waiting again is retry_step
SELECT waits.define('fails', '{"type": "signal", "name": "go"}', '{"timeout_seconds": 0.05}'),
  waits.define('goes_on', '{"type": "signal", "name": "go", "on_timeout": {"continue": {"granted": null}}}', '{"timeout_seconds": 0.05}') \g /dev/null
SELECT tasker.create_task('waits', 'goes_on') AS t \gset
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT tasker.create_task('waits', 'fails') AS t \gset
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
BEGIN; SELECT tasker.retry_step(:t, 'w'), tasker.send_signal(:t, 'go', '"now"') > 0; COMMIT;
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);

-- Control: cancelled, resolved, rerun; no timer is left behind
SELECT waits.define('long', '{"type": "wait", "seconds": 3600}') \g /dev/null
SELECT tasker.create_task('waits', 'long') AS t \gset
SELECT waits.until_waiting(:t);
SELECT count(*) FROM tasker.timers WHERE task_id = :t;
SELECT tasker.cancel_task(:t), waits.step(:t);
SELECT count(*) FROM tasker.timers WHERE task_id = :t;
SELECT tasker.create_task('waits', 'ask') AS t \gset
SELECT waits.until_waiting(:t);
SELECT tasker.cancel_step(:t, 'w');
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);
SELECT tasker.rerun_task_from(:t, 'w');
SELECT waits.until_waiting(:t);
SELECT tasker.cancel_step(:t, 'w');
SELECT tasker.wait_for_task(:t, '60 s'), waits.step(:t);

-- run_task: waits count as over when it is told so, signals are taken when they are there
BEGIN; SELECT tasker.create_task('waits', 'long') AS t \gset
CALL tasker.run_task(:t, skip_waits => true); SELECT waits.step(:t); COMMIT;
BEGIN; SELECT tasker.create_task('waits', 'long') AS t \gset
CALL tasker.run_task(:t); SELECT waits.step(:t); CALL tasker.run_task(:t, skip_waits => true); SELECT waits.step(:t); COMMIT;
BEGIN; SELECT tasker.create_task('waits', 'fails') AS t \gset
SELECT tasker.send_signal(:t, 'go', '"early"') > 0; CALL tasker.run_task(:t); SELECT waits.step(:t); COMMIT;

-- A payload is a result: as large as one may be
SELECT tasker.create_task('waits', 'two') AS t \gset
SELECT waits.try(format('SELECT tasker.send_signal(%s, ''go'', to_jsonb(repeat(''x'', 2000000)))', :t));
CREATE TEMP TABLE large AS SELECT to_jsonb(repeat('x', 2000000)) AS p;
SELECT waits.try(format('SELECT tasker.send_signal(%s, ''go'', p) FROM large', :t));
SELECT waits.try('SELECT tasker.create_task(''waits'', ''long'', idempotency_key => ''schedule:1:2026-01-01T00:00:00Z'')');
SELECT tasker.cancel_task(:t);
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM tasker.check();
