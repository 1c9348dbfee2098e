-- Steps run by the background workers: results, failures and retries, identity, and what a step leaves behind.
\set SHOW_CONTEXT never
CREATE ROLE regress_engine LOGIN;
CREATE ROLE regress_group NOLOGIN ROLE regress_engine;
CREATE ROLE regress_user LOGIN;
SELECT tasker.grant_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_engine', 'regress_user']) AS r \g /dev/null
SELECT tasker.grant_access('regress_engine', 'author') \g /dev/null
ALTER ROLE regress_engine SET tasker.max_result_size = '2kB';
CREATE SCHEMA engine AUTHORIZATION regress_engine;
GRANT USAGE ON SCHEMA engine TO regress_user;
SET SESSION AUTHORIZATION regress_engine;

-- Every attempt that began: written with dblink it would stay, here it goes with the attempt that failed
CREATE TABLE engine.effects (task_id bigint, step_name text, attempt integer, xid xid8 DEFAULT pg_current_xact_id());
-- Does what its definition says: "do" statements, then "fail" with an SQLSTATE up to and with attempt "until", then returns the value of "return"
CREATE FUNCTION engine.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  config CONSTANT jsonb := coalesce(step.config -> 'config', '{}');
  statement text; value jsonb;
BEGIN
  INSERT INTO engine.effects (task_id, step_name, attempt) VALUES (step.task_id, step.step_name, step.attempt);
  FOR statement IN SELECT jsonb_array_elements_text(config -> 'do') LOOP
    EXECUTE statement USING step;
  END LOOP;
  IF config ? 'fail' AND step.attempt <= coalesce((config ->> 'until')::integer, 99) THEN
    RAISE EXCEPTION 'failed with %', config ->> 'fail' USING ERRCODE = config ->> 'fail', DETAIL = 'a detail', HINT = 'a hint';
  END IF;
  EXECUTE 'SELECT to_jsonb(' || coalesce(config ->> 'return', 'NULL::text') || ')' INTO value USING step;
  RETURN value;
END
$$;
CREATE FUNCTION engine.both(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('context', context, 'results', results);
CREATE FUNCTION engine.nothing(context jsonb, results jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION engine.commits(context jsonb, results jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE PROCEDURE engine.work(context jsonb, results jsonb) LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO engine.effects (step_name) VALUES ('first half');
  COMMIT;
  INSERT INTO engine.effects (step_name) VALUES (results ->> 'number');
END
$$;
CREATE PROCEDURE engine.half(step tasker.step_call) LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO engine.effects (step_name, attempt) VALUES ('kept', step.attempt);
  COMMIT;
  INSERT INTO engine.effects (step_name, attempt) VALUES ('lost', step.attempt);
  RAISE EXCEPTION 'half way on attempt %', step.attempt USING ERRCODE = 'TK001';
END
$$;

-- Defines a task of steps given as [name, handler's config or handler, other keys], all in a row unless they say depends_on
CREATE FUNCTION engine.define(name text, steps jsonb) RETURNS void LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'engine', 'name', name, 'steps', (SELECT jsonb_agg(jsonb_build_object('name', s ->> 0, 'backoff', '{"base_seconds": 0}'::jsonb,
    'handler', CASE WHEN s -> 1 ? 'type' THEN s -> 1 ELSE jsonb_build_object('type', 'sql', 'function', 'engine.act', 'config', s -> 1) END) || coalesce(s -> 2, '{}') ORDER BY n)
  FROM jsonb_array_elements(steps) WITH ORDINALITY AS t (s, n))))
$$;
\pset format unaligned
\pset null '(null)'

-- Every kind of handler, and the results of parents
SELECT engine.define('kinds', '[["both", {"type": "sql", "function": "engine.both"}], ["call", {"return": "$1.step_name || '' '' || $1.attempt || '' '' || $1.correlation_id || '' '' || ($1.config ->> ''function'')"}],
  ["number", {"type": "sql", "query": "SELECT v, ''ignored'' FROM (VALUES (1.50), (2)) AS t (v)"}], ["config", {"type": "sql", "query": "SELECT $3 #>> ''{config,a}'' || ($1 ->> ''x'')", "config": {"a": "b"}}],
  ["no_rows", {"type": "sql", "query": "SELECT 1 WHERE false"}], ["null", {"type": "sql", "query": "SELECT NULL::jsonb"}], ["row", {"type": "sql", "query": "SELECT t FROM (VALUES (1, ''x'')) AS t (a, b)"}],
  ["dml", {"type": "sql", "query": "INSERT INTO engine.effects (step_name) VALUES (''dml'') RETURNING step_name"}], ["update", {"type": "sql", "query": "UPDATE engine.effects SET attempt = 1 WHERE false"}],
  ["void", {"type": "sql", "function": "engine.nothing"}], ["noop", {"type": "noop"}], ["work", {"type": "sql", "procedure": "engine.work", "atomic": false}, {"depends_on": ["number"]}],
  ["join", {"type": "sql", "function": "engine.both"}, {"depends_on": ["number", "no_rows", "void", "noop", "work"]}]]') \g /dev/null
SELECT tasker.create_task('engine', 'kinds', '{"x": "y"}', correlation_id => 'corr') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, result FROM tasker.step_status WHERE task_id = :id ORDER BY step_name;
-- The task's result is that of its leaves; a procedure's two halves were two transactions
SELECT result -> 'join' -> 'results' ->> 'number' AS leaf, (SELECT count(*) FROM jsonb_object_keys(result)) AS leaves FROM tasker.task_status WHERE task_id = :id;
SELECT step_name, attempt, count(DISTINCT xid) FROM engine.effects WHERE step_name NOT IN ('call', 'dml') GROUP BY 1, 2 ORDER BY 1;
SELECT count(DISTINCT xid) FROM engine.effects WHERE step_name IN ('first half', '1.50');

-- Failures by SQLSTATE: what is tried again, and how often
SELECT engine.define('classes', (SELECT jsonb_agg(jsonb_build_array(code, jsonb_build_object('fail', code), '{"max_attempts": 2}'::jsonb)) FROM unnest(ARRAY['08006', '0A000', '22012', '23505', '25006', '28000', '2D000',
  '3F000', '40001', '40P01', '42501', '42601', '42P01', '53300', '54000', '55000', '55P03', '57014', '57P01', '57P03', 'P0001', 'P0002', 'TK001', 'TK002', 'TK004', 'XX000', 'ZZ999']) AS code)) \g /dev/null
SELECT tasker.create_task('engine', 'classes', idempotency_key => 'classes') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, error ->> 'category' AS category, error ->> 'retryable' AS retryable, split_part(blocking_reason, ':', 1) AS reason FROM tasker.step_status WHERE task_id = :id ORDER BY step_name COLLATE "C";
-- Failed attempts have no effect; dead letters are what will not run again
SELECT count(*) FROM engine.effects WHERE task_id = :id;
SELECT count(*) FROM tasker.dead_letters WHERE task_id = :id;
SELECT step_name, error - 'retry' - 'context' AS error FROM tasker.step_status WHERE task_id = :id AND step_name IN ('22012', '40P01', 'ZZ999') ORDER BY 1;
SELECT state, failed_steps, completed_steps, error ~ '^[0-9A-Z]{5}: failed with [0-9A-Z]{5}$' AS error FROM tasker.task_status WHERE task_id = :id;

-- Retries: attempts, asked-for delays, limits, raise_retryable and raise_permanent
SELECT engine.define('retries', '[["third_time", {"fail": "TK001", "until": 2}], ["exhausted", {"fail": "P0001"}], ["limit_1", {"fail": "P0001"}, {"max_attempts": 1}], ["limit_0", {"fail": "P0001"}, {"max_attempts": 0}],
  ["limit_5", {"fail": "40001", "until": 4}, {"max_attempts": 5}], ["not_retryable", {"fail": "TK001"}, {"retryable": false}], ["backoff", {"fail": "P0001", "until": 1}, {"backoff": {"base_seconds": 0.02, "jitter": 0}}],
  ["asked", {"do": ["SELECT tasker.raise_retryable(''later'', ''20 ms'', 2, ''{\"a\": 1}'')"]}], ["asked_once", {"do": ["SELECT tasker.raise_retryable(''never again'', max_attempts => 1)"]}],
  ["asked_more", {"do": ["SELECT tasker.raise_retryable(''more'', max_attempts => 4)"]}, {"max_attempts": 1}], ["permanent", {"do": ["SELECT tasker.raise_permanent(''no'', ''fraud'', ''{\"b\": 2}'')"]}],
  ["in_a_query", {"type": "sql", "query": "SELECT tasker.raise_permanent(''no'')"}], ["half", {"type": "sql", "procedure": "engine.half", "atomic": false}, {"max_attempts": 2}],
  ["after", {"type": "noop"}, {"depends_on": ["permanent"]}], ["dropped", {"type": "sql", "function": "engine.nothing"}]]') \g /dev/null
ALTER FUNCTION engine.nothing(jsonb, jsonb) RENAME TO something;
SELECT tasker.create_task('engine', 'retries') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
ALTER FUNCTION engine.something(jsonb, jsonb) RENAME TO nothing;
SELECT step_name, state, attempts, max_attempts, error ->> 'sqlstate' AS code, error ->> 'message' AS message, CASE jsonb_typeof(error -> 'context') WHEN 'object' THEN error -> 'context' END AS context,
  error ->> 'detail' AS detail, blocking_reason FROM tasker.step_status WHERE task_id = :id ORDER BY step_name;
-- What the procedure committed before it failed stays, at least once
SELECT step_name, attempt FROM engine.effects WHERE step_name IN ('kept', 'lost') ORDER BY attempt;
-- Each attempt in the history, with what was decided
SELECT step_name, from_state, to_state, metadata -> 'attempt' AS attempt, metadata ->> 'cause' AS cause, metadata #>> '{error,message}' AS error, (metadata #> '{error,retry}') - 'next_attempt_at' - 'factors' - 'delay_seconds' AS retry
FROM tasker.task_history WHERE task_id = :id AND step_name IN ('asked', 'backoff') ORDER BY step_name, sort_key;
SELECT step_name, count(*) AS retries, bool_and(gap >= '20 ms') AS waited FROM (
  SELECT step_name, to_state, created_at - lag(created_at) OVER (PARTITION BY step_name ORDER BY sort_key) AS gap
  FROM tasker.task_history WHERE task_id = :id AND step_name IN ('asked', 'backoff')) AS h WHERE to_state = 'pending' GROUP BY step_name ORDER BY 1;
SELECT from_state, to_state, metadata FROM tasker.task_history WHERE task_id = :id AND step_name IS NULL ORDER BY sort_key;

-- Limits: time, size of a result
SELECT engine.define('limits', '[["slow", {"do": ["SELECT pg_sleep(60)"]}, {"timeout_seconds": 0.1, "max_attempts": 2}], ["swallows", {"do": ["DO $x$BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END$x$"]},
  {"timeout_seconds": 0.1, "max_attempts": 1}], ["large", {"return": "repeat(''x'', 2100)"}], ["fits", {"return": "repeat(''x'', 2000)"}]]') \g /dev/null
SELECT tasker.create_task('engine', 'limits') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, length(result #>> '{}') AS length, error ->> 'sqlstate' AS code, error ->> 'category' AS category, error ->> 'message' AS message, error ->> 'hint' AS hint FROM tasker.step_status
WHERE task_id = :id ORDER BY step_name;

-- Transactions: alone, or of another isolation level
SELECT engine.define('transactions', '[["first", {"return": "pg_current_xact_id()::text"}], ["alone", {"return": "pg_current_xact_id()::text"}, {"own_transaction": true, "depends_on": ["first"]}],
  ["last", {"return": "$1.results ->> ''alone'' <> pg_current_xact_id()::text"}, {"depends_on": ["alone"]}], ["default", {"return": "current_setting(''transaction_isolation'')"}],
  ["serializable", {"return": "current_setting(''transaction_isolation'')"}, {"isolation": "serializable"}], ["repeatable", {"return": "current_setting(''transaction_isolation'')"}, {"isolation": "repeatable read"}]]') \g /dev/null
SELECT tasker.create_task('engine', 'transactions') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, result FROM tasker.step_status WHERE task_id = :id AND result::text !~ '\d' ORDER BY step_name;
SELECT count(DISTINCT result) FROM tasker.step_status WHERE task_id = :id AND step_name IN ('first', 'alone');

-- Identity: the owner, whatever the step does
SELECT engine.define('sessions', '[["who", {"return": "current_user || '' '' || session_user"}], ["reset", {"do": ["RESET ROLE", "RESET SESSION AUTHORIZATION"], "return": "current_user || '' '' || session_user"}],
  ["role", {"do": ["SET ROLE regress_group"], "return": "current_user || '' '' || session_user"}], ["other", {"do": ["SET ROLE regress_user"]}], ["authorization", {"do": ["SET SESSION AUTHORIZATION regress_user"]}],
  ["listen", {"do": ["LISTEN engine"]}], ["commit", {"type": "sql", "function": "engine.commits"}], ["waits", {"do": ["SELECT tasker.wait_for_task(1)"]}], ["runs", {"do": ["CALL tasker.run_task(1)"]}],
  ["superuser", {"do": ["SET tasker.max_result_size = 1000000"]}]]') \g /dev/null
SELECT tasker.create_task('engine', 'sessions') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, result, concat_ws(' ', error ->> 'sqlstate', error ->> 'message', '[' || nullif(error ->> 'hint', '') || ']') AS error FROM tasker.step_status WHERE task_id = :id ORDER BY step_name;
-- What a step leaves behind does not reach the next one, in one batch or in the next
SELECT engine.define('litter', jsonb_build_array(jsonb_build_array('leave', jsonb_build_object('do', ARRAY['SET work_mem = ''123kB''', 'SELECT set_config(''regress.x'', ''left'', false)', 'SET LOCAL statement_timeout = 77000',
    'CREATE TEMP TABLE litter (a int)', 'PREPARE litter AS SELECT 1', 'SELECT pg_advisory_lock(42, 43), pg_advisory_lock_shared(44)', 'SET search_path = pg_temp', 'DECLARE litter CURSOR WITH HOLD FOR SELECT 1', 'SET ROLE regress_group'])),
  jsonb_build_array('look', jsonb_build_object('return', 'ARRAY[(current_setting(''work_mem'') = ''123kB'')::text, nullif(current_setting(''regress.x'', true), ''''), current_setting(''statement_timeout''), to_regclass(''pg_temp.litter'')::text, current_user, current_setting(''search_path'')]
    || ARRAY(SELECT name FROM pg_prepared_statements) || ARRAY(SELECT name FROM pg_cursors WHERE name = ''litter'')
    || ARRAY(SELECT ''lock'' FROM pg_locks WHERE locktype = ''advisory'' AND pid = pg_backend_pid())'), '{"depends_on": ["leave"]}'::jsonb))) \g /dev/null
SELECT array_agg(id) AS ids FROM tasker.create_tasks('engine', 'litter', array_fill('{}'::jsonb, ARRAY[40])) AS id \gset
SELECT array_agg(DISTINCT tasker.wait_for_task(id, '60 s')) AS states FROM unnest(:'ids'::bigint[]) AS id;
SELECT step_name, state, result, error ->> 'message' AS error, count(*) FROM tasker.step_status WHERE task_id = ANY (:'ids') GROUP BY 1, 2, 3, 4 ORDER BY 1;

-- Delayed tasks start by themselves, however many one transaction creates
SELECT tasker.define_task('{"namespace": "engine", "name": "nothing", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SELECT array_agg(id) AS ids FROM tasker.create_tasks('engine', 'nothing', array_fill('{}'::jsonb, ARRAY[500]), run_at => clock_timestamp() + interval '0.5 s') AS id \gset
SELECT array_agg(DISTINCT tasker.wait_for_task(id, '60 s')) AS states FROM unnest(:'ids'::bigint[]) AS id;

-- A definition of one role runs with the rights of the other who creates the task
SET SESSION AUTHORIZATION regress_user;
SELECT tasker.create_task('engine', 'sessions') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, error ->> 'sqlstate' AS code, error ->> 'message' AS message FROM tasker.step_status WHERE task_id = :id AND step_name IN ('who', 'commit') ORDER BY 1;
SET SESSION AUTHORIZATION regress_engine;
GRANT INSERT ON engine.effects TO regress_user;
SET SESSION AUTHORIZATION regress_user;
SELECT tasker.retry_step(:id, 'who');
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts, result FROM tasker.step_status WHERE task_id = :id AND step_name = 'who';

RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();
SELECT tasker.revoke_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_engine', 'regress_user']) AS r \g /dev/null
SELECT tasker.revoke_access('regress_engine', 'author') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_engine, regress_group, regress_user CASCADE;
DROP ROLE regress_engine, regress_group, regress_user;
