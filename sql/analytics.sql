-- Analytics: counts by hour, from what was counted as it happened, and from the transitions; each figure against plain SQL.
CREATE ROLE regress_analyst LOGIN;
CREATE ROLE regress_worker_bee LOGIN;
SELECT tasker.grant_access('regress_analyst', 'monitor');
SELECT tasker.grant_access('regress_worker_bee', 'submitter');
SELECT tasker.grant_access('regress_worker_bee', 'author');
CREATE SCHEMA anly AUTHORIZATION regress_worker_bee;
SET SESSION AUTHORIZATION regress_worker_bee;
CREATE FUNCTION anly.nap(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep((context ->> 'ms')::float8 / 1000);
  RETURN NULL;
END $$;
CREATE FUNCTION anly.once(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF (context ->> 'bad')::boolean THEN RAISE EXCEPTION 'as asked' USING ERRCODE = '22012'; END IF;
  RETURN NULL;
END $$;
SELECT tasker.define_task('{"name": "work", "namespace": "anly", "steps": [
  {"name": "nap", "handler": {"type": "sql", "function": "anly.nap"}},
  {"name": "once", "handler": {"type": "sql", "function": "anly.once"}, "depends_on": ["nap"], "max_attempts": 1},
  {"name": "nothing", "handler": {"type": "noop"}, "depends_on": ["once"]}]}') > 0 AS defined;
SELECT tasker.define_task('{"name": "other", "namespace": "anly", "steps": [{"name": "nap", "handler": {"type": "sql", "function": "anly.nap"}}]}') > 0 AS defined;
SELECT tasker.define_task('{"name": "idle", "namespace": "anly", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') > 0 AS defined;

SELECT count(tasker.create_task('anly', 'work', jsonb_build_object('ms', n, 'bad', n % 5 = 0))) FROM generate_series(1, 40) AS n;
SELECT count(tasker.create_task('anly', 'other', jsonb_build_object('ms', n * 3))) FROM generate_series(1, 5) AS n;
-- Rolled back, in part or whole: nothing of it happened.
BEGIN;
SELECT count(tasker.create_task('anly', 'idle')) FROM generate_series(1, 7);
ROLLBACK;
SELECT tasker.create_task('anly', 'idle', run_at => now() + interval '1 day') AS cancelled \gset
SELECT tasker.create_task('anly', 'idle', run_at => now() + interval '1 day') AS later \gset
DO $$
DECLARE id bigint := (SELECT max(task_id) FROM tasker.task_status WHERE name = 'idle');
BEGIN
  BEGIN
    PERFORM tasker.cancel_task(id, 'not really');
    RAISE EXCEPTION 'undone';
  EXCEPTION WHEN raise_exception THEN NULL;
  END;
END $$;
SELECT tasker.cancel_task(:cancelled, 'really') IS NOT NULL AS cancelled;
RESET SESSION AUTHORIZATION;

-- In the background: all have ended, and the dispatcher has written what it counted.
CREATE FUNCTION anly.counted() RETURNS bigint LANGUAGE sql AS $$
  SELECT coalesce((SELECT sum(o.tasks) FROM tasker.task_outcomes AS o JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id) WHERE s.name = 'anly'), 0)::bigint
$$;
DO $$
DECLARE until timestamptz := clock_timestamp() + interval '90 s';
BEGIN
  WHILE anly.counted() < 2 * 45 + 3 LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'counted: % of 93', anly.counted(); END IF;
    PERFORM pg_sleep(0.1);
    COMMIT;
  END LOOP;
END $$;
SELECT n.name, o.state, sum(o.tasks) AS tasks, sum(o.started) AS started FROM tasker.task_outcomes AS o JOIN tasker.named_tasks AS n USING (named_task_id)
WHERE n.task_namespace_id = (SELECT task_namespace_id FROM tasker.task_namespaces WHERE name = 'anly') GROUP BY 1, 2 ORDER BY 1, 2;

-- What the transitions say, by plain SQL. Steps of type noop aren't counted.
CREATE VIEW anly.runs AS
SELECT n.named_task_id, n.name AS task, w.task_id, d.step_no, d.name AS step, w.to_state = 'complete' AS success, (p.metadata ->> 'attempt')::integer AS attempt,
  p.created_at AS started_at, w.created_at AS ended_at, extract(epoch FROM w.created_at - p.created_at)::float8 * 1000 AS ms
FROM tasker.task_namespaces AS s JOIN tasker.named_tasks AS n USING (task_namespace_id) JOIN tasker.tasks AS t USING (named_task_id)
JOIN tasker.workflow_step_transitions AS w USING (task_id)
JOIN tasker.workflow_step_transitions AS p ON p.task_id = w.task_id AND p.step_no = w.step_no AND p.element = w.element AND p.sort_key = w.sort_key - 10
JOIN tasker.named_steps AS d ON d.named_task_id = n.named_task_id AND d.step_no = w.step_no
WHERE s.name = 'anly' AND d.handler_type <> 'noop' AND w.to_state IN ('complete', 'error') AND p.to_state = 'in_progress';
CREATE VIEW anly.ends AS
SELECT n.named_task_id, n.name AS task, w.task_id, w.to_state AS state, w.created_at AS ended_at,
  extract(epoch FROM w.created_at - (SELECT min(f.created_at) FROM tasker.task_transitions AS f WHERE f.task_id = w.task_id AND f.to_state = 'in_progress'))::float8 * 1000 AS ms
FROM tasker.task_namespaces AS s JOIN tasker.named_tasks AS n USING (task_namespace_id) JOIN tasker.tasks AS t USING (named_task_id)
JOIN tasker.task_transitions AS w USING (task_id) WHERE s.name = 'anly' AND w.to_state NOT IN ('pending', 'in_progress');

-- Summed over hours, as a second may lie between an end and its being counted.
CREATE VIEW anly.step_sums AS
SELECT h.named_task_id, h.step_no, h.attempt, sum(h.attempts) AS attempts, sum(h.successes) AS successes, round(sum(h.total_ms)::numeric, 3) AS total_ms, round(max(h.max_ms)::numeric, 3) AS max_ms,
  sum((SELECT sum(c) FROM unnest(h.counts) AS c)) AS in_buckets
FROM tasker.step_history AS h JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id) WHERE s.name = 'anly' GROUP BY 1, 2, 3;
CREATE VIEW anly.true_sums AS
SELECT named_task_id, step_no, attempt, count(*) AS attempts, count(*) FILTER (WHERE success) AS successes, coalesce(round(sum(ms) FILTER (WHERE success)::numeric, 3), 0) AS total_ms,
  coalesce(round(max(ms) FILTER (WHERE success)::numeric, 3), 0) AS max_ms, nullif(count(*) FILTER (WHERE success), 0) AS in_buckets
FROM anly.runs GROUP BY 1, 2, 3;
SELECT count(*) AS kinds FROM anly.true_sums;
(TABLE anly.step_sums EXCEPT TABLE anly.true_sums) UNION ALL (TABLE anly.true_sums EXCEPT TABLE anly.step_sums);
CREATE VIEW anly.task_sums AS
SELECT o.named_task_id, o.state, sum(o.tasks) AS tasks, sum(o.started) AS started, round(sum(o.total_ms)::numeric, 3) AS total_ms FROM tasker.task_outcomes AS o
WHERE o.state <> 'pending' AND o.named_task_id IN (SELECT named_task_id FROM anly.ends) GROUP BY 1, 2;
CREATE VIEW anly.true_task_sums AS
SELECT named_task_id, state, count(*) AS tasks, count(ms) AS started, coalesce(round(sum(ms)::numeric, 3), 0) AS total_ms FROM anly.ends GROUP BY 1, 2;
(TABLE anly.task_sums EXCEPT TABLE anly.true_task_sums) UNION ALL (TABLE anly.true_task_sums EXCEPT TABLE anly.task_sums);

-- Handlers: how they fared.
SELECT target, namespaces, steps, runs, failures, last_used IS NOT NULL AS used, conflicts, health FROM tasker.handlers WHERE 'anly' = ANY (namespaces) AND type <> 'noop' ORDER BY target COLLATE "C";

-- The slowest, exactly those of the transitions.
SET SESSION AUTHORIZATION regress_analyst;
CREATE TEMP TABLE slow AS SELECT * FROM tasker.get_slowest_steps(clock_timestamp() - interval '1 hour', 10, 'anly', 'work');
RESET SESSION AUTHORIZATION;
SELECT count(*), array_agg(DISTINCT step_name) AS steps, bool_and(namespace_name = 'anly' AND task_name = 'work' AND step_status = 'complete' AND attempt = 1 AND attempts = 1 AND retryable) AS told FROM slow;
SELECT count(*) FROM (SELECT task_id, started_at, completed_at, duration_seconds FROM slow
  INTERSECT SELECT task_id, started_at, ended_at, round((ms / 1000)::numeric, 6) FROM anly.runs WHERE task = 'work' AND success AND ms >= (SELECT min(ms) FROM (SELECT ms FROM anly.runs WHERE task = 'work' AND success ORDER BY ms DESC LIMIT 10) AS x)) AS y;
SELECT bool_and(duration_seconds <= before) AS falling FROM (SELECT duration_seconds, lag(duration_seconds) OVER () AS before FROM slow) AS x;
SELECT count(*) FROM (SELECT task_id, started_at, completed_at FROM tasker.get_slowest_tasks(max_rows => 5, namespace => 'anly', name => 'other')
  INTERSECT SELECT e.task_id, t.started_at, e.ended_at FROM anly.ends AS e JOIN tasker.tasks AS t USING (task_id) WHERE e.task = 'other') AS x;
SELECT step_count, completed_steps, error_steps, task_status, count(*) FROM tasker.get_slowest_tasks(max_rows => 20, namespace => 'anly', name => 'work') GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;

-- Hours that are over are counted again from the transitions: the same figures. Here everything is made three hours old.
CREATE TABLE anly.before AS TABLE anly.step_sums;
CREATE TABLE anly.tasks_before AS TABLE anly.task_sums;
UPDATE tasker.task_moves SET created_at = created_at - interval '3 hours', begun_at = begun_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM anly.ends UNION SELECT :later);
UPDATE tasker.step_moves SET created_at = created_at - interval '3 hours', begun_at = begun_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM anly.ends);
UPDATE tasker.workflow_steps SET started_at = started_at - interval '3 hours', finished_at = finished_at - interval '3 hours' WHERE task_id IN (SELECT task_id FROM anly.ends);
UPDATE tasker.tasks SET created_at = created_at - interval '3 hours', started_at = started_at - interval '3 hours', finished_at = finished_at - interval '3 hours'
WHERE task_id IN (SELECT task_id FROM anly.ends UNION SELECT :later);
DELETE FROM tasker.step_history;
DELETE FROM tasker.task_outcomes;
SELECT tasker.rebuild_analytics() >= 2 * 45 + 3 + 40 + 40 + 5 AS counted;
(TABLE anly.step_sums EXCEPT TABLE anly.before) UNION ALL (TABLE anly.before EXCEPT TABLE anly.step_sums);
(TABLE anly.task_sums EXCEPT TABLE anly.tasks_before) UNION ALL (TABLE anly.tasks_before EXCEPT TABLE anly.task_sums);
SELECT sum(tasks) AS created FROM tasker.task_outcomes WHERE state = 'pending' AND named_task_id IN (SELECT named_task_id FROM anly.ends);
-- Again, and from an hour on: nothing is counted twice, and nothing older goes.
SELECT tasker.rebuild_analytics(clock_timestamp() - interval '1 hour') AS none;
SELECT tasker.rebuild_analytics(clock_timestamp() - interval '10 hours') > 100 AS again;
SELECT tasker.rebuild_analytics('2100-01-01') AS future;
(TABLE anly.step_sums EXCEPT TABLE anly.before) UNION ALL (TABLE anly.before EXCEPT TABLE anly.step_sums);

-- Durations over four orders of magnitude, given to the rows that tell them: percentiles within the bound that is promised.
UPDATE tasker.workflow_steps AS w SET finished_at = w.started_at + make_interval(secs => 0.0003 * power(1.3, n.number))
FROM (SELECT task_id, row_number() OVER (ORDER BY task_id) AS number FROM anly.runs WHERE task = 'work' AND step = 'nap') AS n
WHERE w.task_id = n.task_id AND w.step_no = 1 AND w.untold = 2;
SELECT tasker.rebuild_analytics() > 100 AS again;
CREATE TEMP TABLE report AS SELECT tasker.performance_report(clock_timestamp() - interval '4 hours', clock_timestamp(), 'anly', 'work') AS r;
CREATE TEMP TABLE truth AS SELECT count(*) AS count, avg(ms) / 1000 AS mean, max(ms) / 1000 AS max, percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY ms) AS p
FROM anly.runs WHERE task = 'work' AND success;
SELECT (r #>> '{summary,step_seconds,count}')::bigint = count AS count, abs((r #>> '{summary,step_seconds,mean}')::float8 / mean - 1) < 1e-3 AS mean,
  abs((r #>> '{summary,step_seconds,max}')::float8 / max - 1) < 1e-6 AS max, abs((r #>> '{summary,step_seconds,p50}')::float8 * 1000 / p[1] - 1) < 0.045 AS p50,
  abs((r #>> '{summary,step_seconds,p95}')::float8 * 1000 / p[2] - 1) < 0.045 AS p95, abs((r #>> '{summary,step_seconds,p99}')::float8 * 1000 / p[3] - 1) < 0.045 AS p99
FROM report, truth;
SELECT r #> '{summary,tasks}' AS tasks, r #> '{summary,steps}' AS steps, r #> '{summary,error_rate}' AS error_rate, r #> '{summary,completion_rate}' AS completion_rate, r #> '{summary,efficiency}' AS efficiency FROM report;
SELECT jsonb_object_keys(r) AS member FROM report ORDER BY 1;
SELECT r -> 'filters' AS filters, r -> 'cached' AS cached, r ->> 'expires_at' = r ->> 'generated_at' AS fresh, r #>> '{health,status}' AS status, r #> '{health,reasons}' AS reasons FROM report;
SELECT b ->> 'step' AS step, b ->> 'severity' AS severity, b -> 'attempts' AS attempts, b -> 'failures' AS failures, b -> 'reasons' AS reasons FROM report, jsonb_array_elements(r -> 'bottlenecks') AS b;
SELECT a ->> 'severity' AS severity, a ->> 'finding' AS finding, a #> '{evidence,failures}' AS failures FROM report, jsonb_array_elements(r -> 'recommendations') AS a;
SELECT sum((h #>> '{tasks,ended}')::int) AS ended, sum((h #>> '{steps,attempts}')::int) AS attempts, min(h ->> 'hour') >= r #>> '{period,from}' AS within FROM report, jsonb_array_elements(r #> '{trends,hours}') AS h GROUP BY r;
-- The period before: as many hours, and all of it happened in them.
SELECT r #> '{trends,changes,complete,before}' AS complete_before, r #> '{trends,changes,complete,now}' AS complete_now
FROM tasker.performance_report(clock_timestamp() - interval '2 hours', clock_timestamp(), 'anly', 'other') AS r;

-- Whole hours: the hour that since lies in counts from its beginning.
SELECT (r #>> '{period,from}')::timestamptz = date_trunc('hour', clock_timestamp() - interval '4 hours', 'UTC') AS begins FROM report;

SELECT task_throughput >= 47 AS created, completion_count >= 37 AS complete, error_count >= 8 AS error, step_throughput >= 85 AS steps, step_error_count >= 8 AS failures,
  completion_rate + error_rate <= 100 AS rates, p50_step_duration <= p95_step_duration AND p95_step_duration <= p99_step_duration AS ordered, active_tasks_count >= 1 AS active,
  total_namespaces_count >= 1 AND unique_task_types_count >= 3 AS extent, system_health_score BETWEEN 0 AND 1 AS score,
  analysis_period_start = date_trunc('hour', clock_timestamp() - interval '4 hours', 'UTC') AS start, calculated_at <= clock_timestamp() AS told
FROM tasker.get_analytics_metrics(clock_timestamp() - interval '4 hours');

-- Hours of a definition whose tasks were removed stay as they are.
CREATE TABLE anly.full AS TABLE anly.step_sums;
-- A walk goes by id and ends before the first task that is too young: what was created before these is made old, too.
UPDATE tasker.tasks SET created_at = created_at - interval '3 hours' WHERE task_id < (SELECT min(task_id) FROM anly.ends);
SELECT tasker.remove_finished_tasks('1 hour', 'anly') AS removed;
SELECT tasker.rebuild_analytics() >= 0 AS again;
(TABLE anly.step_sums EXCEPT TABLE anly.full) UNION ALL (TABLE anly.full EXCEPT TABLE anly.step_sums);
SELECT count(*) AS gone_are_not_listed FROM tasker.get_slowest_tasks(max_rows => 5, namespace => 'anly', name => 'other');

-- Bad calls.
SELECT tasker.get_analytics_metrics(NULL);
SELECT tasker.get_analytics_metrics('infinity');
SELECT tasker.get_analytics_metrics(clock_timestamp() + interval '1 hour');
SELECT tasker.get_slowest_steps(max_rows => 0);
SELECT tasker.get_slowest_tasks(max_rows => 1001);
SELECT tasker.get_slowest_tasks(namespace => 'anly', version => '9.9.9');
SELECT tasker.performance_report('2026-01-02', '2026-01-01');
SELECT tasker.performance_report('2025-01-02', '2026-01-01');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tasker.rebuild_analytics();
ROLLBACK;
SET ROLE regress_worker_bee;
SELECT tasker.get_analytics_metrics();
SELECT tasker.performance_report();
SELECT tasker.get_slowest_steps();
RESET ROLE;
SET ROLE regress_analyst;
SELECT tasker.rebuild_analytics();
RESET ROLE;

