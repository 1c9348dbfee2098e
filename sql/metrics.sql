-- Metrics: what the view shows against plain SQL over the transitions, in all its forms; who may read it; what lowers a counter (nothing).
\set SHOW_CONTEXT never
CREATE ROLE regress_meter LOGIN;
CREATE ROLE regress_meter_reader LOGIN;
SELECT tasker.grant_access('regress_meter', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l \g /dev/null
SELECT tasker.grant_access('regress_meter_reader', 'monitor') \g /dev/null
CREATE SCHEMA metr AUTHORIZATION regress_meter;
SET SESSION AUTHORIZATION regress_meter;
CREATE FUNCTION metr.nap(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep((context ->> 'ms')::float8 / 1000);
  RETURN NULL;
END $$;
CREATE FUNCTION metr.flaky(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF (step.context ->> 'bad')::boolean AND step.attempt = 1 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = 'TK001'; END IF;
  IF (step.context ->> 'dead')::boolean THEN RAISE EXCEPTION 'never' USING ERRCODE = 'TK002'; END IF;
  RETURN NULL;
END $$;
SELECT tasker.define_task(jsonb_build_object('namespace', 'metr', 'name', 'work', 'version', v, 'steps', '[
  {"name": "nap", "handler": {"type": "sql", "function": "metr.nap"}},
  {"name": "flaky", "handler": {"type": "sql", "function": "metr.flaky"}, "depends_on": ["nap"], "backoff": {"base_seconds": 0}},
  {"name": "nothing", "handler": {"type": "noop"}, "depends_on": ["flaky"]}]'::jsonb)) > 0 AS defined FROM unnest(ARRAY['0.1.0', '0.2.0']) AS v;
SELECT tasker.define_task('{"namespace": "metr", "name": "outside", "steps": [
  {"name": "hand", "handler": {"type": "external", "queue": "metr_hands"}},
  {"name": "wait", "handler": {"type": "wait", "seconds": 86400}}]}') > 0 AS defined;
SELECT tasker.define_task('{"namespace": "metr", "name": "calls", "steps": [{"name": "call", "dependent_system": "metr \\bank \"", "handler": {"type": "sql", "query": "SELECT 1"}}]}') > 0 AS defined;
SELECT count(tasker.create_task('metr', 'work', jsonb_build_object('ms', 3 * n, 'bad', n % 4 = 0, 'dead', n % 10 = 0), version => CASE WHEN n > 12 THEN '0.2.0' ELSE '0.1.0' END))
FROM generate_series(1, 20) AS n;
SELECT count(tasker.create_task('metr', 'outside')) FROM generate_series(1, 3);
SELECT tasker.create_task('metr', 'calls', run_at => '2999-01-01') AS later \gset
SELECT tasker.cancel_task(tasker.create_task('metr', 'calls', run_at => '2999-01-01')) IS NOT NULL AS cancelled;
RESET SESSION AUTHORIZATION;
SELECT tasker.trip_breaker(E'metr \\bank "', 'regress', '1 hour') AS tripped;

-- What the transitions say. Steps of type noop aren't counted, and two of type wait or external have not ended.
CREATE VIEW metr.runs AS
SELECT s.name AS namespace, n.name, w.to_state = 'complete' AS success, (p.metadata ->> 'attempt')::integer AS attempt, extract(epoch FROM w.created_at - p.created_at)::float8 AS seconds
FROM tasker.task_namespaces AS s JOIN tasker.named_tasks AS n USING (task_namespace_id) JOIN tasker.tasks AS t USING (named_task_id)
JOIN tasker.workflow_step_transitions AS w USING (task_id)
JOIN tasker.workflow_step_transitions AS p ON p.task_id = w.task_id AND p.step_no = w.step_no AND p.element = w.element AND p.sort_key = w.sort_key - 10
JOIN tasker.named_steps AS d ON d.named_task_id = n.named_task_id AND d.step_no = w.step_no
WHERE s.name = 'metr' AND d.handler_type <> 'noop' AND w.to_state IN ('complete', 'error') AND p.to_state = 'in_progress';
CREATE VIEW metr.ends AS
SELECT s.name AS namespace, n.name, w.to_state AS state,
  extract(epoch FROM w.created_at - (SELECT min(f.created_at) FROM tasker.task_transitions AS f WHERE f.task_id = w.task_id AND f.to_state = 'in_progress'))::float8 AS seconds
FROM tasker.task_namespaces AS s JOIN tasker.named_tasks AS n USING (task_namespace_id) JOIN tasker.tasks AS t USING (named_task_id)
JOIN tasker.task_transitions AS w USING (task_id) WHERE s.name = 'metr' AND w.to_state NOT IN ('pending', 'in_progress');
-- One figure. labels: those that it must have.
CREATE FUNCTION metr.figure(metric text, wanted jsonb DEFAULT '{}') RETURNS float8 LANGUAGE sql AS $$
  SELECT coalesce(sum(m.value), 0) FROM tasker.metrics AS m WHERE m.name = metric AND m.labels @> wanted $$;
-- In the background: all that can end has ended, and the dispatcher has written what it counted.
DO $$
DECLARE until timestamptz := clock_timestamp() + interval '90 s';
BEGIN
  WHILE (SELECT count(*) FROM metr.ends) < 21 OR (SELECT metr.figure('tasker_tasks_ended_total', '{"namespace": "metr"}')) < 21
    OR (SELECT metr.figure('tasker_queued_steps', '{"queue": "metr_hands"}')) < 3 OR (SELECT metr.figure('tasker_step_attempts_total', '{"namespace": "metr"}')) < (SELECT count(*) FROM metr.runs) LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'ended % and %', (SELECT count(*) FROM metr.ends), metr.figure('tasker_tasks_ended_total', '{"namespace": "metr"}'); END IF;
    PERFORM pg_sleep(0.05);
    COMMIT;
  END LOOP;
END $$;

-- Counters: the same as counted there, all versions of a definition together, zeros where nothing was.
SELECT m.name, m.labels - 'namespace' AS labels, m.value FROM tasker.metrics AS m WHERE m.type = 'counter' AND m.labels ->> 'namespace' = 'metr' ORDER BY m.name, m.labels;
SELECT r.name, count(*) FILTER (WHERE success) AS success, count(*) FILTER (WHERE NOT success) AS failure, count(*) FILTER (WHERE attempt > 1) AS retries FROM metr.runs AS r GROUP BY 1 ORDER BY 1;
SELECT e.name, e.state, count(*) FROM metr.ends AS e GROUP BY 1, 2 ORDER BY 1, 2;

-- Histograms: each bucket is exactly what took so long at most.
CREATE VIEW metr.buckets AS
SELECT m.name, m.labels ->> 'le' AS le, (m.labels ->> 'le')::float8 AS bound, m.value FROM tasker.metrics AS m WHERE m.type = 'histogram' AND m.labels ->> 'namespace' = 'metr';
SELECT b.name, count(*) AS samples, min(bound), max(bound) FROM metr.buckets AS b GROUP BY b.name ORDER BY b.name;
SELECT b.* FROM metr.buckets AS b WHERE b.name = 'tasker_step_duration_seconds_bucket' AND b.value IS DISTINCT FROM (SELECT count(*) FROM metr.runs AS r WHERE r.success AND r.seconds <= b.bound);
SELECT b.* FROM metr.buckets AS b WHERE b.name = 'tasker_task_duration_seconds_bucket' AND b.value IS DISTINCT FROM (SELECT count(*) FROM metr.ends AS e WHERE e.state = 'complete' AND e.seconds <= b.bound);
SELECT (SELECT value FROM metr.buckets WHERE name = 'tasker_step_duration_seconds_count') = count(*) AS counted,
  abs((SELECT value FROM metr.buckets WHERE name = 'tasker_step_duration_seconds_sum') - sum(seconds)) < 0.001 AS summed FROM metr.runs WHERE success;
SELECT count(DISTINCT value) > 3 AS spread FROM metr.buckets WHERE name = 'tasker_step_duration_seconds_bucket';

-- Gauges.
SELECT m.name, m.labels, m.value FROM tasker.metrics AS m
WHERE m.labels ->> 'system' LIKE 'metr %' OR m.labels ->> 'queue' LIKE 'metr%' AND m.name NOT LIKE '%age%' OR m.name IN ('tasker_held', 'tasker_paused', 'tasker_standby', 'tasker_preloaded') ORDER BY m.name, m.labels;
SELECT metr.figure('tasker_oldest_queued_step_age_seconds', '{"queue": "metr_hands"}') BETWEEN 0.000001 AND 600 AS waits;
SELECT metr.figure('tasker_live_tasks') = (SELECT count(*) FROM tasker.tasks WHERE live) AS live, metr.figure('tasker_failing_tasks') = (SELECT count(*) FROM tasker.tasks WHERE failing) AS failing,
  metr.figure('tasker_timers') = (SELECT count(*) FROM tasker.timers) AS timers, metr.figure('tasker_timers', '{"kind": "wait"}') >= 3 AS waits;
-- Ready and kept from running: a limit of none. While it waits for that its age counts for nothing.
SELECT tasker.set_step_limit('metr', max_running => 0) AS set;
SET SESSION AUTHORIZATION regress_meter;
SELECT count(tasker.create_task('metr', 'work', '{"ms": 0}')) FROM generate_series(1, 4);
RESET SESSION AUTHORIZATION;
SELECT metr.figure('tasker_ready_steps', '{"namespace": "metr"}') AS ready, metr.figure('tasker_oldest_ready_step_age_seconds', '{"namespace": "metr"}') AS age;
DO $$
DECLARE until timestamptz := clock_timestamp() + interval '60 s';
BEGIN
  WHILE (SELECT metr.figure('tasker_step_limit_waiting_steps', '{"namespace": "metr"}')) < 4 LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'they do not wait for the limit'; END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
SELECT m.name, m.labels, m.value FROM tasker.metrics AS m WHERE m.name LIKE 'tasker_step_limit%' AND m.labels ->> 'namespace' = 'metr' ORDER BY 1;
SELECT tasker.pause_tasks('metr') IS NOT NULL AS paused;
SELECT metr.figure('tasker_ready_steps', '{"namespace": "metr"}') AS ready;
SELECT tasker.resume_tasks('metr') IS NOT NULL AS resumed;
SELECT count(tasker.cancel_task(t.task_id)) FROM tasker.task_status AS t WHERE t.namespace = 'metr' AND t.name = 'work' AND t.finished_at IS NULL;
SELECT tasker.set_step_limit('metr') AS lifted;
DO $$
DECLARE until timestamptz := clock_timestamp() + interval '60 s';
BEGIN
  WHILE (SELECT metr.figure('tasker_tasks_ended_total', '{"namespace": "metr", "state": "cancelled"}')) < 5 OR (SELECT metr.figure('tasker_tasks_created_total', '{"namespace": "metr", "name": "work"}')) < 24 LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'those that were cancelled are not counted'; END IF;
    PERFORM pg_sleep(0.05);
    COMMIT;
  END LOOP;
END $$;

-- All forms tell the same: a sample is a row, a line, an element. Every family has one HELP and one TYPE, before its samples, which are together.
CREATE TEMP TABLE lines AS SELECT n, line FROM string_to_table(tasker.prometheus_metrics(), E'\n') WITH ORDINALITY AS t (line, n);
SELECT line FROM lines WHERE line LIKE '%metr %' AND line LIKE 'tasker_breaker%' ORDER BY n;
SELECT count(*) FILTER (WHERE line !~ '^(# (HELP|TYPE) tasker_[a-z_]+ .+|tasker_[a-z_]+(\{[a-z]+="([^"\\]|\\[\\"n])*"(,[a-z]+="([^"\\]|\\[\\"n])*")*\})? [0-9.e+-]+|)$') AS unknown,
  count(*) FILTER (WHERE line = '') AS empty, max(n) = max(n) FILTER (WHERE line = '') AS ends_with_a_newline FROM lines;
CREATE TEMP VIEW families AS
  SELECT n, line ~ '^#' AS head, split_part(line, ' ', 2) AS word, CASE WHEN line ~ '^#' THEN split_part(line, ' ', 3) ELSE regexp_replace(split_part(split_part(line, '{', 1), ' ', 1), '(_seconds)_(bucket|sum|count)$', '\1') END AS family
  FROM lines WHERE line <> '';
SELECT family FROM families GROUP BY family HAVING count(*) FILTER (WHERE head AND word = 'HELP') <> 1 OR count(*) FILTER (WHERE head AND word = 'TYPE') <> 1
  OR max(n) - min(n) + 1 <> count(*) OR max(n) FILTER (WHERE head) > min(n) FILTER (WHERE NOT head) OR count(*) FILTER (WHERE NOT head) = 0;
SELECT (SELECT count(*) FROM families WHERE NOT head) = count(*) AS text, jsonb_array_length(tasker.metrics_json() -> 'metrics') = count(*) AS json,
  (tasker.metrics_json() ->> 'total_metrics')::bigint = count(*) AS total, (SELECT count(*) FROM string_to_table(rtrim(tasker.metrics_csv(), E'\n'), E'\n')) = count(*) + 1 AS csv FROM tasker.metrics;
SELECT count(*) AS differing FROM ((SELECT e ->> 'name', e ->> 'type', e -> 'labels', e ->> 'help' FROM jsonb_array_elements(tasker.metrics_json() -> 'metrics') AS e EXCEPT SELECT name, type, labels, help FROM tasker.metrics)
  UNION ALL (SELECT name, type, labels, help FROM tasker.metrics EXCEPT SELECT e ->> 'name', e ->> 'type', e -> 'labels', e ->> 'help' FROM jsonb_array_elements(tasker.metrics_json() -> 'metrics') AS e)) AS x;
SELECT array_agg(k ORDER BY k) AS keys, tasker.metrics_json() #>> '{metadata,database}' = current_database() AS here, abs(extract(epoch FROM clock_timestamp() - (tasker.metrics_json() ->> 'timestamp')::timestamptz)) < 60 AS now
FROM jsonb_object_keys(tasker.metrics_json()) AS k;
SELECT split_part(tasker.metrics_csv(), E'\n', 1) AS header;
SELECT regexp_replace(line, '^[^,]*', '<now>') AS line FROM string_to_table(tasker.metrics_csv(), E'\n') AS line WHERE line LIKE '%tasker_breaker_state%metr %' ORDER BY 1;
SELECT name FROM tasker.metrics GROUP BY name, labels HAVING count(*) > 1;
SELECT name FROM tasker.metrics WHERE name !~ '^tasker_' OR (type = 'counter') <> (name ~ '_total$') OR help = '' OR value IS NULL OR type = 'histogram' AND name !~ '_(bucket|sum|count)$';

-- Who may read it: those who may see figures of all.
SET SESSION AUTHORIZATION regress_meter;
SELECT count(*) FROM tasker.metrics;
SELECT tasker.prometheus_metrics();
SELECT tasker.metrics_json();
SELECT tasker.metrics_csv();
SELECT count(*) FROM tasker.metric_totals;
SET SESSION AUTHORIZATION regress_meter_reader;
SELECT count(*) > 50 AS rows FROM tasker.metrics;
SELECT length(tasker.prometheus_metrics()) > 1000 AS text, tasker.metrics_json() ? 'metrics' AS json, length(tasker.metrics_csv()) > 1000 AS csv;
UPDATE tasker.metric_totals SET number = 0;
RESET SESSION AUTHORIZATION;

-- What is removed or counted again changes none. Here everything is made three hours old, so that there are hours to count again.
CREATE TEMP TABLE before AS SELECT m.name, m.labels, m.value FROM tasker.metrics AS m WHERE m.type <> 'gauge' AND m.labels ->> 'namespace' = 'metr';
CREATE TEMP VIEW changed AS SELECT b.name, b.labels, b.value, m.value AS now FROM before AS b LEFT JOIN tasker.metrics AS m USING (name, labels) WHERE m.value IS DISTINCT FROM b.value;
CREATE TEMP TABLE aged AS SELECT t.task_id FROM tasker.task_status AS t WHERE t.namespace = 'metr' AND t.name = 'work';
UPDATE tasker.task_moves SET created_at = created_at - interval '3 hours', begun_at = begun_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM aged);
UPDATE tasker.step_moves SET created_at = created_at - interval '3 hours', begun_at = begun_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM aged);
UPDATE tasker.workflow_steps SET started_at = started_at - interval '3 hours', finished_at = finished_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM aged);
UPDATE tasker.tasks SET created_at = created_at - interval '3 hours', started_at = started_at - interval '3 hours', finished_at = finished_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM aged);
SELECT tasker.rebuild_analytics() >= 20 + 20 + 45 AS rebuilt;
SELECT tasker.remove_finished_tasks('0', 'metr') AS removed;
SELECT count(*) AS left FROM tasker.task_status WHERE namespace = 'metr' AND state = 'complete';
SELECT * FROM changed;
SELECT count(*) FROM metr.ends WHERE state = 'complete';

SELECT tasker.reset_breaker(E'metr \\bank "') AS reset;
SELECT count(tasker.cancel_task(t.task_id)) FROM tasker.task_status AS t WHERE t.namespace = 'metr' AND t.finished_at IS NULL;
DROP SCHEMA metr CASCADE;
SELECT tasker.revoke_access('regress_meter', l) IS NOT NULL AS revoked FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l;
SELECT tasker.revoke_access('regress_meter_reader', 'monitor') IS NOT NULL AS revoked;
