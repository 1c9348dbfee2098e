-- Graph analysis, forecasts, diagrams. Durations are set by hand in rows, so that every figure can be computed here a second time, another way.
\set SHOW_CONTEXT never
CREATE ROLE regress_graph LOGIN;
CREATE ROLE regress_graph_other LOGIN;
CREATE ROLE regress_graph_watch LOGIN;
SELECT tasker.grant_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_graph', 'regress_graph_other']) AS r \g /dev/null
SELECT tasker.grant_access('regress_graph', 'author'), tasker.grant_access('regress_graph_watch', 'monitor') \g /dev/null
CREATE SCHEMA graph AUTHORIZATION regress_graph;
SET SESSION AUTHORIZATION regress_graph;

CREATE FUNCTION graph.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.context ->> 'fails' = step.step_name THEN RAISE EXCEPTION 'card 4242 is out of order' USING ERRCODE = 'TK002'; END IF;
  RETURN '"secret"';
END
$$;
-- Seven steps, two joins, a way past both, and a short branch
SELECT tasker.define_task(jsonb_build_object('namespace', 'graph', 'name', 'seven', 'steps', (
  SELECT jsonb_agg(jsonb_build_object('name', s ->> 0, 'depends_on', s -> 1, 'handler', '{"type": "sql", "function": "graph.act"}'::jsonb) ORDER BY n)
  FROM jsonb_array_elements('[["load", []], ["check", ["load"]], ["price", ["load"]], ["merge", ["check", "price"]], ["notify", ["load"]], ["book", ["merge"]], ["close", ["book", "price"]]]')
    WITH ORDINALITY AS t (s, n)))) \g /dev/null
SELECT tasker.define_task('{"namespace": "graph", "name": "diamond", "steps": [{"name": "a", "handler": {"type": "noop"}}, {"name": "b", "depends_on": ["a"], "handler": {"type": "wait", "seconds": 30}},
  {"name": "c", "depends_on": ["a"], "handler": {"type": "wait", "seconds": 12}}, {"name": "d", "depends_on": ["b", "c"], "handler": {"type": "noop"}}]}') \g /dev/null
SELECT tasker.define_task('{"namespace": "graph", "name": "never", "steps": [{"name": "x", "handler": {"type": "sql", "function": "graph.act"}}]}') \g /dev/null

-- Nothing has run: the number of steps decides, waits are known from the definition
SELECT a -> 'critical_path' AS path, a #> '{summary,measured_steps}' AS measured, a #> '{suggestions,0,suggestion}' AS suggestion FROM tasker.analyze_template('graph', 'seven') AS a;
SELECT a -> 'critical_path' AS path, a #> '{nodes,2,slack_seconds}' AS slack, a #> '{nodes,2,source}' AS source FROM tasker.analyze_template('graph', 'diamond', '0.1.0') AS a;
SELECT tasker.create_task('graph', 'diamond', run_at => '2999-01-01') AS task \gset
SELECT remaining_steps, p50 - '2999-01-01'::timestamptz AS p50, p95 - '2999-01-01'::timestamptz AS p95, samples, basis, confidence FROM tasker.forecast_task(:task);
SELECT tasker.create_task('graph', 'never', run_at => '2999-01-01') AS task \gset
SELECT * FROM tasker.forecast_task(:task);

-- Attempts counted by hour alone: four successes of five took 8 s together, the longest 5 s
RESET SESSION AUTHORIZATION;
INSERT INTO tasker.step_history SELECT named_task_id, 1, date_trunc('hour', now()), 1, 5, 4, 8000, 5000 FROM tasker.named_tasks WHERE name = 'never';
SET SESSION AUTHORIZATION regress_graph;
SELECT p50 - '2999-01-01'::timestamptz AS p50, p95 - '2999-01-01'::timestamptz AS p95, samples, basis, confidence, why FROM tasker.forecast_task(:task);
SELECT a #> '{nodes,0,duration_seconds}' AS duration, a #> '{nodes,0,source}' AS source, a #> '{bottlenecks,0,factors,failed_attempts_share}' AS failed FROM tasker.analyze_template('graph', 'never') AS a;

-- The example of doc/guide.md
SELECT tasker.define_task('{"namespace": "graph", "name": "dunning", "steps": [
  {"name": "open",   "handler": {"type": "noop"}},
  {"name": "grace",  "depends_on": ["open"], "handler": {"type": "wait", "seconds": 1209600}},
  {"name": "score",  "depends_on": ["open"], "handler": {"type": "wait", "seconds": 86400}},
  {"name": "letter", "depends_on": ["grace", "score"], "handler": {"type": "noop"}}
]}') \g /dev/null
SELECT a #>> '{critical_path,steps}' AS critical_path, a #>> '{critical_path,seconds}' AS seconds, a #>> '{summary,average_parallelism}' AS parallelism
FROM tasker.analyze_template('graph', 'dunning') AS a;
SELECT n ->> 'name' AS step, n -> 'duration_seconds' AS duration, n -> 'slack_seconds' AS slack, n ->> 'source' AS source
FROM tasker.analyze_template('graph', 'dunning') AS a, jsonb_array_elements(a -> 'nodes') AS n;

-- Eleven runs, of which one is rerun from a step: ten count
SELECT tasker.create_task('graph', 'seven') AS task FROM generate_series(1, 11) \g /dev/null
DO $$
DECLARE
  id bigint;
BEGIN
  FOR id IN SELECT task_id FROM tasker.task_status WHERE namespace = 'graph' AND name = 'seven' ORDER BY task_id LOOP
    PERFORM tasker.wait_for_task(id, '1 min');
  END LOOP;
END
$$;
SELECT tasker.rerun_task_from(max(task_id), 'merge') AS rerun FROM tasker.task_status WHERE namespace = 'graph' AND name = 'seven' \gset
SELECT tasker.wait_for_task(max(task_id), '1 min') AS state FROM tasker.task_status WHERE namespace = 'graph' AND name = 'seven';
RESET SESSION AUTHORIZATION;
-- Step i of run r waits r · 2 s and works 3 · i + (r · 7) % 10 s after its parents
CREATE TEMP TABLE runs AS SELECT task_id, (row_number() OVER (ORDER BY task_id))::integer AS run FROM tasker.tasks WHERE task_id IN (SELECT task_id FROM tasker.task_status WHERE namespace = 'graph' AND name = 'seven');
CREATE TEMP TABLE edges AS SELECT d.step_no AS child, p AS parent FROM tasker.named_steps AS d JOIN tasker.named_tasks AS n USING (named_task_id), unnest(d.parents) AS p WHERE n.name = 'seven';
CREATE TEMP TABLE planned (run integer, step_no integer, waiting interval, working interval, ended timestamptz);
CREATE FUNCTION pg_temp.plan(run integer, begun timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 7 LOOP  -- parents have lower numbers
    INSERT INTO planned SELECT run, i, make_interval(secs => run * 2), make_interval(secs => i * 3 + (run * 7) % 10),
      coalesce((SELECT max(p.ended) FROM planned AS p JOIN edges AS e ON e.parent = p.step_no WHERE p.run = plan.run AND e.child = i), begun) + make_interval(secs => run * 2 + i * 3 + (run * 7) % 10);
  END LOOP;
END
$$;
UPDATE tasker.tasks AS t SET run_at = '2026-01-01', created_at = '2026-01-01' FROM runs AS r WHERE r.task_id = t.task_id;
SELECT pg_temp.plan(run, '2026-01-01') FROM runs \g /dev/null
UPDATE tasker.workflow_steps AS s SET started_at = p.ended - p.working, finished_at = p.ended FROM runs AS r JOIN planned AS p USING (run) WHERE r.task_id = s.task_id AND p.step_no = s.step_no;

-- Medians, the longest way and slack, computed from all paths
CREATE TEMP TABLE medians AS SELECT step_no, extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY working))::float8 AS working,
  extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY waiting))::float8 AS waiting FROM planned WHERE run <= 10 GROUP BY step_no;
CREATE TEMP TABLE ways AS WITH RECURSIVE w AS (
  SELECT ARRAY[m.step_no] AS steps, m.step_no AS last, m.working AS length FROM medians AS m WHERE m.step_no NOT IN (SELECT child FROM edges)
  UNION ALL SELECT w.steps || e.child, e.child, w.length + m.working FROM w JOIN edges AS e ON e.parent = w.last JOIN medians AS m ON m.step_no = e.child)
  SELECT * FROM w WHERE last NOT IN (SELECT parent FROM edges);
SELECT count(*) AS ways, max(length) AS longest FROM ways;
SELECT a -> 'critical_path' AS path, a #> '{summary,past_runs}' AS runs, a -> 'summary' AS summary FROM tasker.analyze_template('graph', 'seven') AS a;
SELECT (a #>> '{critical_path,seconds}')::float8 = (SELECT max(length) FROM ways) AS same_length,
  (SELECT array_agg(d.name ORDER BY o) FROM ways AS w, unnest(w.steps) WITH ORDINALITY AS u (s, o) JOIN tasker.named_steps AS d ON d.step_no = u.s JOIN tasker.named_tasks AS t USING (named_task_id)
    WHERE t.name = 'seven' AND w.length = (SELECT max(length) FROM ways)) = ARRAY(SELECT jsonb_array_elements_text(a #> '{critical_path,steps}')) AS same_way,
  (a #>> '{summary,work_seconds}')::float8 = (SELECT sum(working) FROM medians) AS same_work
FROM tasker.analyze_template('graph', 'seven') AS a;
SELECT n ->> 'name' AS step, n -> 'level' AS level, n -> 'duration_seconds' AS duration, n -> 'waiting_seconds' AS waiting, n -> 'slack_seconds' AS slack,
  (n ->> 'duration_seconds')::float8 = m.working AND (n ->> 'waiting_seconds')::float8 = m.waiting
    AND (n ->> 'slack_seconds')::float8 = (SELECT max(length) FROM ways) - (SELECT max(length) FROM ways WHERE m.step_no = ANY (steps)) AS as_computed
FROM tasker.analyze_template('graph', 'seven') AS a, jsonb_array_elements(a -> 'nodes') WITH ORDINALITY AS x (n, i) JOIN medians AS m ON m.step_no = i ORDER BY i;
SELECT a -> 'edges' -> 5 AS edge, a -> 'roots' AS roots, a -> 'leaves' AS leaves, a #> '{levels,1}' AS level FROM tasker.analyze_template('graph', 'seven') AS a;

-- Scores: 5 for each descendant, double on the critical path, and 20 times the share of it
WITH RECURSIVE below AS (SELECT parent AS step_no, child FROM edges UNION SELECT b.step_no, e.child FROM below AS b JOIN edges AS e ON e.parent = b.child),
  scored AS (SELECT m.step_no, round((5 * (SELECT count(*) FROM below AS b WHERE b.step_no = m.step_no)) * CASE WHEN l.slack = 0 THEN 2 WHEN l.slack * 10 < l.longest THEN 1.2 ELSE 1 END
      + CASE WHEN l.slack = 0 THEN 20 * m.working / l.longest ELSE 0 END) AS score
    FROM medians AS m, LATERAL (SELECT max(w.length) AS longest, max(w.length) - max(w.length) FILTER (WHERE m.step_no = ANY (w.steps)) AS slack FROM ways AS w) AS l)
SELECT b ->> 'step_name' AS step, b -> 'score' AS score, b ->> 'severity' AS severity, b #> '{factors,downstream}' AS downstream, b #> '{factors,multiplier}' AS m, (b ->> 'score')::float8 = s.score AS as_computed
FROM tasker.analyze_template('graph', 'seven') AS a, jsonb_array_elements(a -> 'bottlenecks') WITH ORDINALITY AS x (b, i)
JOIN tasker.named_steps AS d ON d.name = b ->> 'step_name' JOIN tasker.named_tasks AS t ON t.named_task_id = d.named_task_id AND t.name = 'seven' JOIN scored AS s ON s.step_no = d.step_no ORDER BY i;

-- A forecast before the start: the ends of ten runs, moved to this one's beginning. k = ⌈0.5 · 11⌉ and ⌈0.95 · 11⌉, which is more than there are
SET SESSION AUTHORIZATION regress_graph;
SELECT tasker.create_task('graph', 'seven', '{"fails": "price"}', run_at => '2999-01-01') AS task \gset
RESET SESSION AUTHORIZATION;
CREATE TEMP TABLE totals AS SELECT run, max(ended) - '2026-01-01' AS took, row_number() OVER (ORDER BY max(ended)) AS k FROM planned WHERE run <= 10 GROUP BY run;
SELECT f.remaining_steps, f.samples, f.basis, f.confidence, f.why, f.p50 - '2999-01-01'::timestamptz = (SELECT took FROM totals WHERE k = 6) AS p50, f.p95 - '2999-01-01'::timestamptz = (SELECT took FROM totals WHERE k = 10) AS p95
FROM tasker.forecast_task(:task) AS f;
-- On its way: load ended five minutes before it began, as if it had been done by hand; the others have not begun
UPDATE tasker.workflow_steps SET state = 'complete', started_at = '2998-12-31 23:50', finished_at = '2998-12-31 23:55' WHERE task_id = :task AND step_no = 1;
WITH t AS (SELECT run, max(ended) - max(ended) FILTER (WHERE step_no = 1) AS took, row_number() OVER (ORDER BY max(ended) - max(ended) FILTER (WHERE step_no = 1)) AS k FROM planned WHERE run <= 10 GROUP BY run)
SELECT f.remaining_steps, f.p50 - '2999-01-01'::timestamptz = (SELECT took FROM t WHERE k = 6) AS p50, f.p95 - '2999-01-01'::timestamptz = (SELECT took FROM t WHERE k = 10) AS p95 FROM tasker.forecast_task(:task) AS f;
UPDATE tasker.workflow_steps SET state = 'pending', started_at = NULL, finished_at = NULL WHERE task_id = :task AND step_no = 1;

-- What goes on only when somebody acts has no time, and what is over has its own
SET SESSION AUTHORIZATION regress_graph;
SELECT tasker.pause_task(:task) \g /dev/null
SELECT remaining_steps, p50, p95, basis, why FROM tasker.forecast_task(:task);
SELECT tasker.resume_task(:task) \g /dev/null
CALL tasker.run_task(:task, true);
SELECT remaining_steps, p50, p95, basis, why FROM tasker.forecast_task(:task);
SELECT f.remaining_steps, f.p50 = t.finished_at AND f.p95 = t.finished_at AS its_end, f.basis, f.confidence, f.why FROM tasker.task_status AS t, tasker.forecast_task(t.task_id) AS f
WHERE t.namespace = 'graph' AND t.name = 'seven' AND t.state = 'complete' ORDER BY t.task_id LIMIT 1;

-- The failed task: what holds it up, and no payload
SELECT b ->> 'step_name' AS step, b -> 'score' AS score, b ->> 'severity' AS severity, b ->> 'type' AS type, b -> 'factors' AS factors FROM tasker.analyze_task(:task) AS a, jsonb_array_elements(a -> 'bottlenecks') AS b;
SELECT a -> 'state' AS state, a -> 'impact' AS impact, (a #> '{levels,1}') - '{steps,work_seconds,longest_seconds}'::text[] AS level, a #> '{remaining_path,steps}' AS remaining FROM tasker.analyze_task(:task) AS a;
SELECT n ->> 'name' AS step, n ->> 'state' AS state, n -> 'attempts' AS attempts, n ->> 'blocking_reason' AS blocking_reason FROM tasker.analyze_task(:task) AS a, jsonb_array_elements(a -> 'nodes') AS n;
SELECT a::text ~ 'secret|4242|fails' AS payload FROM tasker.analyze_task(:task) AS a;

-- Pictures
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(tasker.task_diagram(:task), 'task \d+', 'task *');
SELECT regexp_replace(tasker.task_diagram(:task, 'dot'), 'task \d+', 'task *');
SELECT tasker.template_diagram('graph', 'diamond');
SELECT tasker.template_diagram('graph', 'diamond', format => 'dot');
SELECT tasker.template_diagram('graph', 'diamond', '0.1.0', 'svg');
SELECT tasker.task_diagram(:task, NULL);
\pset format aligned
\pset tuples_only off

-- Unknown, or not yours: the same words
SET SESSION AUTHORIZATION regress_graph_other;
\set VERBOSITY sqlstate
SELECT tasker.analyze_template('graph', 'none');
SELECT tasker.analyze_template('graph', 'seven', '9.9.9');
SELECT tasker.template_diagram('none', 'seven');
\set VERBOSITY default
CREATE FUNCTION pg_temp.told(call text, task bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SELECT %s', call) USING task;
  RETURN 'told';
EXCEPTION WHEN SQLSTATE '02000' THEN RETURN replace(SQLERRM, task::text, '*');
END
$$;
SELECT c AS call, pg_temp.told(c, :task::bigint) AS not_mine, pg_temp.told(c, 0) AS unknown FROM unnest(ARRAY['tasker.analyze_task($1)', 'tasker.forecast_task($1)', 'tasker.task_diagram($1)']) AS c;
SELECT tasker.analyze_template('graph', 'seven') -> 'name' AS definitions_are_not_secret;
RESET SESSION AUTHORIZATION;
-- A monitor sees all of it, as there is no payload in it
SET SESSION AUTHORIZATION regress_graph_watch;
SELECT tasker.analyze_task(:task) #>> '{bottlenecks,0,step_name}' AS step, tasker.analyze_task(:task)::text ~ 'secret|4242|fails' AS payload, (SELECT why ~ '4242' FROM tasker.forecast_task(:task)) AS in_forecast, tasker.task_diagram(:task) ~ '4242' AS in_picture;
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
SELECT tasker.cancel_task(t.task_id) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id)
WHERE t.live AND s.name = 'graph' \g /dev/null
SELECT * FROM tasker.check();
