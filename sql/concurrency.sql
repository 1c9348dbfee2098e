-- How many steps run at once and share a transaction: what is decided is explained, and switched off by a reload.
CREATE ROLE regress_conc LOGIN;
SELECT tasker.grant_access('regress_conc', level) FROM unnest(ARRAY['submitter', 'author']) AS level \g /dev/null
CREATE SCHEMA conc AUTHORIZATION regress_conc;
CREATE PROCEDURE conc.await(question text) LANGUAGE plpgsql AS $$
DECLARE
  answer boolean;
BEGIN
  FOR i IN 1 .. 3000 LOOP
    EXECUTE 'SELECT ' || question INTO answer;
    COMMIT;
    IF answer THEN RETURN; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RAISE EXCEPTION 'not within 30 seconds: %', question;
END $$;
CREATE FUNCTION conc.quick(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION conc.fails(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = 'TK002'; END $$;
GRANT USAGE ON SCHEMA conc TO regress_conc;

-- Every figure of the formula, and the figures agree with each other.
SELECT item FROM tasker.assess_connection_health();
SELECT item FROM tasker.recommended_concurrency();
SELECT h.value = current_setting('max_connections')::integer AS max, v.available = h.value - c.value AS available, s.value = floor(v.available * 0.6) AS safe
FROM (SELECT max(value) FILTER (WHERE item = 'available') AS available FROM tasker.assess_connection_health()) AS v,
  tasker.assess_connection_health() AS h, tasker.assess_connection_health() AS c, tasker.assess_connection_health() AS s
WHERE h.item = 'max_connections' AND c.item = 'connections' AND s.item = 'max_safe';
SELECT bool_and(r.value <= p.value) AS smallest FROM tasker.recommended_concurrency() AS r, tasker.recommended_concurrency() AS p
WHERE r.item = 'result' AND p.item IN ('by_connections', 'by_load', 'max_safe', 'worker_slots', 'max_concurrent_steps');
SELECT explanation LIKE 'pressure % healthy' AS told FROM tasker.assess_connection_health() WHERE item = 'utilisation';

-- The settings are bounded, and a session cannot change them.
SHOW tasker.dynamic_concurrency;
SHOW tasker.adaptive_batching;
SELECT name, boot_val, min_val, max_val, context FROM pg_settings WHERE name IN ('tasker.min_concurrent_steps', 'tasker.max_concurrent_steps', 'tasker.concurrency_interval') ORDER BY name;
SET tasker.adaptive_batching = off;

-- Short steps share, steps that fail share with fewer, unknown ones run alone.
SET SESSION AUTHORIZATION regress_conc;
SELECT tasker.define_task('{"namespace": "conc", "name": "mix", "steps": [
  {"name": "quick", "handler": {"type": "sql", "function": "conc.quick"}},
  {"name": "fails", "handler": {"type": "sql", "function": "conc.fails"}, "max_attempts": 1}]}') > 0 AS defined;
SELECT tasker.define_task('{"namespace": "conc", "name": "rare", "steps": [{"name": "once", "handler": {"type": "sql", "function": "conc.quick"}}]}') > 0 AS defined;
SELECT count(tasker.create_task('conc', 'mix')) FROM generate_series(1, 40);
SELECT count(tasker.create_task('conc', 'rare')) FROM generate_series(1, 3);
RESET SESSION AUTHORIZATION;
CALL conc.await($$(SELECT count(*) = 2 AND min(s.samples) = 40 FROM tasker.batch_statistics AS s WHERE s.namespace = 'conc' AND s.name = 'mix')
  AND (SELECT s.samples = 3 FROM tasker.batch_statistics AS s WHERE s.name = 'rare')$$);
SELECT target, runs, failures, conflicts, health FROM tasker.handlers WHERE 'conc' = ANY (namespaces) ORDER BY target;
-- A second is long enough on any machine.
ALTER SYSTEM SET tasker.max_batch_duration = '1s';
SELECT pg_reload_conf();
\c -
SHOW tasker.max_batch_duration;
SELECT name, step_name, samples, failures, mean_ms < 1000 AS short, batch_size, fits, failure_factor, pressure, pressure_factor, why FROM tasker.batch_statistics
WHERE namespace = 'conc' ORDER BY name, step_name;
ALTER SYSTEM SET tasker.adaptive_batching = off;
SELECT pg_reload_conf();
\c -
SHOW tasker.adaptive_batching;
SELECT name, step_name, batch_size, why FROM tasker.batch_statistics WHERE namespace = 'conc' ORDER BY name, step_name;
ALTER SYSTEM RESET tasker.adaptive_batching;
ALTER SYSTEM RESET tasker.max_batch_duration;
SELECT pg_reload_conf();

-- The dispatcher has decided while work waited, and is told to keep to the fixed number.
SELECT explanation LIKE 'as the dispatcher decided%' AS decided FROM tasker.recommended_concurrency() WHERE item = 'in_force';
ALTER SYSTEM SET tasker.dynamic_concurrency = off;
SELECT pg_reload_conf();
\c -
SHOW tasker.dynamic_concurrency;
SELECT value = current_setting('tasker.max_concurrent_steps')::integer AS fixed, explanation LIKE 'tasker.dynamic_concurrency is off%' AS told FROM tasker.recommended_concurrency() WHERE item = 'in_force';
ALTER SYSTEM RESET tasker.dynamic_concurrency;
SELECT pg_reload_conf();

-- What was learnt is written, and not everybody's to see.
CALL conc.await($$(SELECT count(*) = 3 FROM tasker.batch_learnings AS l JOIN tasker.named_tasks AS n USING (named_task_id) WHERE n.name IN ('mix', 'rare')
  AND cardinality(l.durations_ms) = CASE n.name WHEN 'mix' THEN 40 ELSE 3 END AND cardinality(l.failed) = cardinality(l.durations_ms))$$);
SET SESSION AUTHORIZATION regress_conc;
SELECT * FROM tasker.batch_statistics;
SELECT * FROM tasker.recommended_concurrency();
RESET SESSION AUTHORIZATION;

-- Steps of one definition with the same handler are kin, when they are many: by what the first of them did the others share
-- transactions, in the first task already. Of very many nothing is kept of each.
ALTER SYSTEM SET tasker.max_batch_duration = '1s';
SELECT pg_reload_conf();
\c -
SHOW tasker.max_batch_duration;
SET SESSION AUTHORIZATION regress_conc;
SELECT tasker.define_task(jsonb_build_object('namespace', 'conc', 'name', name, 'steps', (SELECT jsonb_agg(jsonb_build_object('name', 's' || i,
    'depends_on', CASE i WHEN 1 THEN '[]'::jsonb ELSE jsonb_build_array('s' || i - 1) END, 'handler', '{"type": "sql", "function": "conc.quick"}'::jsonb) ORDER BY i)
  FROM generate_series(1, length) AS i))) > 0 AS defined FROM (VALUES ('many', 100), ('thousand', 1000)) AS v(name, length);
SELECT tasker.create_task('conc', 'many') AS many, tasker.create_task('conc', 'thousand') AS thousand \gset
RESET SESSION AUTHORIZATION;
CALL conc.await($$(SELECT count(*) = 2 FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) WHERE n.name IN ('many', 'thousand') AND t.state = 'complete')$$);
SELECT count(DISTINCT xmin::text) < 60 AS shared FROM tasker.workflow_steps WHERE task_id = :many;
SELECT count(DISTINCT xmin::text) < 300 AS shared FROM tasker.workflow_steps WHERE task_id = :thousand;
-- A collision in memory forgets a step.
SELECT name, kin, count(*) > 50 AS many, min(samples) AS samples FROM tasker.batch_statistics WHERE name IN ('many', 'thousand') GROUP BY name, kin ORDER BY name, kin;
ALTER SYSTEM RESET tasker.max_batch_duration;
SELECT pg_reload_conf();

SELECT * FROM tasker.check();
SET client_min_messages = warning;
DROP OWNED BY regress_conc CASCADE;
DELETE FROM tasker.access_grants WHERE role = 'regress_conc'::regrole;
DROP ROLE regress_conc;
