-- Which steps are ready, what blocks the others, and what a task as a whole waits for.
--
-- States are written straight into the tables, and rolled back: nobody but this session ever sees these tasks. Each
-- row of the reference engine's truth table is here, with our answer; numbers in [brackets] are its defects.
\set VERBOSITY terse
CREATE ROLE regress_ready LOGIN;
CREATE ROLE regress_ready_other LOGIN;
SELECT tasker.grant_access('regress_ready', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_ready_other', 'viewer') \g /dev/null
BEGIN;
SET LOCAL ROLE regress_ready;
SELECT tasker.define_task('{"name": "one", "namespace": "readiness", "steps": [{"name": "only", "handler": {"type": "noop"}}]}') AS one \gset
SELECT tasker.define_task('{"name": "once", "namespace": "readiness", "steps": [{"name": "only", "retryable": false, "handler": {"type": "noop"}}]}') AS once \gset
SELECT tasker.define_task('{"name": "zero", "namespace": "readiness", "steps": [{"name": "only", "max_attempts": 0, "handler": {"type": "noop"}}]}') AS zero \gset
SELECT tasker.define_task('{"name": "walk", "namespace": "readiness", "steps": [{"name": "a", "handler": {"type": "noop"}},
  {"name": "b", "handler": {"type": "noop"}}, {"name": "c", "depends_on": ["a"], "handler": {"type": "noop"}},
  {"name": "d", "depends_on": ["b", "c"], "handler": {"type": "noop"}}]}') AS walk \gset
SELECT tasker.define_task('{"name": "pair", "namespace": "readiness", "steps": [{"name": "a", "handler": {"type": "noop"}},
  {"name": "b", "handler": {"type": "noop"}}]}') AS pair \gset
SELECT tasker.define_task(jsonb_build_object('name', 'join', 'namespace', 'readiness', 'steps',
  (SELECT jsonb_agg(jsonb_build_object('name', 'p' || i, 'handler', '{"type": "noop"}'::jsonb) ORDER BY i) FROM generate_series(1, 6) AS i)
  || jsonb_build_array(jsonb_build_object('name', 'join', 'handler', '{"type": "noop"}'::jsonb, 'depends_on', '["p1", "p2", "p3", "p4", "p5", "p6"]'::jsonb)))) AS join \gset
SELECT tasker.define_task(jsonb_build_object('name', 'layers', 'namespace', 'readiness', 'steps', jsonb_agg(jsonb_build_object('name', format('%s.%s', l, i),
  'handler', '{"type": "noop"}'::jsonb, 'depends_on', (SELECT coalesce(jsonb_agg(format('%s.%s', l - 1, p)), '[]') FROM generate_series(1, 8) AS p WHERE l > 1))
  ORDER BY l, i))) AS layers FROM generate_series(1, 7) AS l CROSS JOIN generate_series(1, 8) AS i \gset
RESET ROLE;

-- A task of a definition in its first state, and a step put into another one, as the engine would have left it
CREATE FUNCTION pg_temp.task(workflow integer, id bigint, run_at timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO tasker.tasks (task_id, home, named_task_id, owner, created_by, sinks_left, run_at, created_at)
  SELECT task.id, h.nonce, n.named_task_id, 'regress_ready', 'regress_ready', n.sink_count, task.run_at, now()
  FROM tasker.named_tasks AS n CROSS JOIN tasker.home AS h WHERE n.named_task_id = workflow;
  INSERT INTO tasker.workflow_steps (task_id, step_no, waiting_on)
  SELECT id, d.step_no, CASE WHEN cardinality(d.parents) > 1 THEN cardinality(d.parents) ELSE 0 END FROM tasker.named_steps AS d WHERE d.named_task_id = workflow;
  SELECT id;
$$;
CREATE FUNCTION pg_temp.step(id bigint, name text, state tasker.step_state, attempts integer DEFAULT 0, failed_ago interval DEFAULT '0', waits interval DEFAULT NULL,
    asked numeric DEFAULT NULL, max_attempts integer DEFAULT NULL, permanent boolean DEFAULT false) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.workflow_steps AS s SET state = step.state, moves = s.moves + 1, attempts = step.attempts, permanent = step.permanent,
    max_attempts = step.max_attempts, started_at = CASE WHEN step.attempts > 0 THEN now() - failed_ago END, next_attempt_at = now() - failed_ago + waits,
    error = CASE step.state WHEN 'error' THEN jsonb_build_object('message', 'no', 'retry', jsonb_strip_nulls(jsonb_build_object('requested_seconds', asked))) END
  FROM tasker.tasks AS t JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id
  WHERE t.task_id = step.id AND d.name = step.name AND s.task_id = t.task_id AND s.step_no = d.step_no;
  INSERT INTO tasker.step_moves (task_id, step_no, sort_key, from_state, to_state, created_at)
  SELECT s.task_id, s.step_no, s.moves * 10, 'in_progress', s.state, now() - failed_ago
  FROM tasker.workflow_steps AS s JOIN tasker.tasks AS t ON t.task_id = s.task_id
  JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no WHERE s.task_id = step.id AND d.name = step.name;
$$;

-- The truth table of one step
CREATE TEMP TABLE cases (id bigint PRIMARY KEY, what text);
INSERT INTO cases VALUES (1001, 'new'), (1002, 'in_progress'), (1003, 'complete'), (1004, 'resolved_manually'), (1005, 'skipped'),
  (1006, 'error, attempt 1, now; waits 2 min'), (1007, 'error, attempt 1, 1 min ago; waits 2 min'), (1008, 'error, attempt 1, 3 min ago; waited 2 min'),
  (1009, 'error, attempt 2, 3 min ago; waits 4 min'), (1010, 'error, attempt 2, 5 min ago; waited 4 min'), (1011, 'error, attempt 6 of 10, 29 min ago; waits 30 min'),
  (1012, 'error, attempt 6 of 10, 31 min ago; waited 30 min'), (1013, 'error, attempt 3 of 3'), (1014, 'error, attempt 1, not retryable, 100 s ago [4]'),
  (1015, 'new, not retryable [6]'), (1016, 'new, max_attempts 0 [6]'), (1017, 'error, attempt 1, asked for 60 s, 10 s ago'),
  (1018, 'error, attempt 1, asked for 60 s, 61 s ago'), (1019, 'error, attempt 3 of 5, asked for 1 s, 3 s ago [7]'), (1020, 'cancelled [5]'),
  (1021, 'error, attempt 1, permanent [3]'), (1022, 'pending again after 3 of 3'), (1023, 'error without a time to wait for');
SELECT pg_temp.task(CASE WHEN c.id IN (1014, 1015) THEN :once WHEN c.id = 1016 THEN :zero ELSE :one END, c.id) FROM cases AS c \g /dev/null
SELECT pg_temp.step(1002, 'only', 'in_progress'), pg_temp.step(1003, 'only', 'complete', 1), pg_temp.step(1004, 'only', 'resolved_manually', 1),
  pg_temp.step(1005, 'only', 'skipped'), pg_temp.step(1006, 'only', 'error', 1, '0', '2 min'), pg_temp.step(1007, 'only', 'error', 1, '1 min', '2 min'),
  pg_temp.step(1008, 'only', 'error', 1, '3 min', '2 min'), pg_temp.step(1009, 'only', 'error', 2, '3 min', '4 min'), pg_temp.step(1010, 'only', 'error', 2, '5 min', '4 min'),
  pg_temp.step(1011, 'only', 'error', 6, '29 min', '30 min', NULL, 10), pg_temp.step(1012, 'only', 'error', 6, '31 min', '30 min', NULL, 10),
  pg_temp.step(1013, 'only', 'error', 3), pg_temp.step(1014, 'only', 'error', 1, '100 s'), pg_temp.step(1017, 'only', 'error', 1, '10 s', '60 s', 60),
  pg_temp.step(1018, 'only', 'error', 1, '61 s', '60 s', 60), pg_temp.step(1019, 'only', 'error', 3, '3 s', '1 s', 1, 5), pg_temp.step(1020, 'only', 'cancelled'),
  pg_temp.step(1021, 'only', 'error', 1, '0', NULL, NULL, NULL, true), pg_temp.step(1022, 'only', 'pending', 3), pg_temp.step(1023, 'only', 'error', 1) \g /dev/null
-- The clock runs on while now() stands: all times are told relative to now(), in minutes where the reference has seconds.
SELECT c.what, r.current_state AS state, r.ready_for_execution AS ready, r.retry_eligible AS eligible, r.attempts || ' of ' || r.retry_limit AS attempts,
  r.next_retry_at - now() AS next_retry, now() - r.last_failure_at AS failed_ago, r.backoff_request_seconds AS asked, split_part(r.blocking_reason, ':', 1) AS reason
FROM cases AS c CROSS JOIN LATERAL tasker.get_step_readiness_status(c.id) AS r ORDER BY c.id;
SELECT c.what, x.execution_status, x.recommended_action, x.completion_percentage AS percent, x.health_status
FROM cases AS c CROSS JOIN LATERAL tasker.get_task_execution_context(c.id) AS x ORDER BY c.id;
-- ready_in is the rest of the wait: nothing for the ready, unknown for what never gets ready by itself
SELECT count(*) FILTER (WHERE r.ready_for_execution) AS ready, count(*) FILTER (WHERE r.ready_in > '0') AS waiting, count(*) FILTER (WHERE r.ready_in IS NULL) AS other,
  bool_and(CASE WHEN r.ready_for_execution THEN r.ready_in = '0' WHEN r.next_retry_at IS NULL THEN r.ready_in IS NULL
    ELSE r.ready_in BETWEEN '0' AND r.next_retry_at - now() END) AS agrees
FROM tasker.get_step_readiness_status_batch(ARRAY(SELECT c.id FROM cases AS c)) AS r;

-- The task's own conditions; the first of several is told
SELECT pg_temp.task(:one, 1101, '2999-12-31 23:59:59+00') \g /dev/null
SELECT pg_temp.task(:one, i) FROM generate_series(1102, 1105) AS i \g /dev/null
UPDATE tasker.tasks SET paused = true, runnable = false WHERE task_id = 1102;
UPDATE tasker.tasks SET state = 'error', live = false, runnable = false, finished_at = now() WHERE task_id = 1103;
UPDATE tasker.tasks SET home = home + 1 WHERE task_id = 1104;
UPDATE tasker.tasks SET paused = true, runnable = false WHERE task_id = 1101;
SELECT r.task_id, r.ready_for_execution AS ready, r.blocking_reason, r.next_retry_at AT TIME ZONE 'UTC' AS next_retry FROM tasker.get_step_readiness_status_batch('{1101,1102,1103,1104,1105}') AS r;
UPDATE tasker.tasks SET paused = false WHERE task_id = 1101;
SELECT r.task_id, r.ready_for_execution AS ready, r.blocking_reason, r.next_retry_at AT TIME ZONE 'UTC' AS next_retry, r.ready_in > '900 years' AS in_the_far_future
FROM tasker.get_step_readiness_status(1101) AS r;
SAVEPOINT s;
UPDATE tasker.home SET held_reason = 'copied from production';
SELECT r.task_id, r.blocking_reason FROM tasker.get_step_readiness_status_batch('{1101,1105}') AS r;
ROLLBACK TO s;
DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$;
SELECT r.task_id, r.blocking_reason FROM tasker.get_step_readiness_status_batch('{1101,1105}') AS r;
ROLLBACK TO s;

-- The verified walk: a and b are roots, c follows a, d follows b and c
CREATE FUNCTION pg_temp.look(id bigint) RETURNS TABLE (done text, ready bigint, status text, action text, percent numeric, health text, steps text) LANGUAGE sql AS $$
  SELECT x.completed_steps || '/' || x.total_steps, x.ready_steps, x.execution_status, x.recommended_action, x.completion_percentage, x.health_status,
    (SELECT string_agg(r.step_name || ' ' || r.current_state || coalesce(' (' || r.blocking_reason || ')', CASE WHEN r.ready_for_execution THEN ' (ready)' END, ''), ', ')
      FROM tasker.get_step_readiness_status(id) AS r)
  FROM tasker.get_task_execution_context(id) AS x;
$$;
SELECT pg_temp.task(:walk, 1201) \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'a', 'in_progress') \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'a', 'complete', 1) \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'b', 'error', 3) \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'c', 'in_progress') \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'c', 'complete', 1) \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'b', 'resolved_manually', 3) \g /dev/null
SELECT * FROM pg_temp.look(1201);
SELECT pg_temp.step(1201, 'd', 'complete', 1) \g /dev/null
SELECT * FROM pg_temp.look(1201);

-- Two independent steps: one failure of each kind
SELECT pg_temp.task(:pair, i) FROM generate_series(1301, 1304) AS i \g /dev/null
SELECT pg_temp.step(1301, 'a', 'error', 1, '0', '1 hour'), pg_temp.step(1301, 'b', 'error', 3), pg_temp.step(1302, 'a', 'error', 1, '0', '1 hour'),
  pg_temp.step(1302, 'b', 'in_progress'), pg_temp.step(1303, 'a', 'complete', 1), pg_temp.step(1303, 'b', 'cancelled'),
  pg_temp.step(1304, 'a', 'error', 1, '0', '1 hour') \g /dev/null
SELECT i, l.done, l.ready, l.status, l.action, l.percent, l.health FROM generate_series(1301, 1304) AS i CROSS JOIN LATERAL pg_temp.look(i) AS l;

-- What blocks is named: the nearest step to blame, or up to three parents
SELECT pg_temp.task(:walk, i) FROM generate_series(1401, 1403) AS i \g /dev/null
SELECT pg_temp.task(:join, 1404) \g /dev/null
SELECT pg_temp.step(1401, 'a', 'error', 3), pg_temp.step(1402, 'a', 'cancelled'), pg_temp.step(1403, 'c', 'skipped'), pg_temp.step(1404, 'p2', 'complete', 1) \g /dev/null
SELECT r.task_id, r.step_name, r.total_parents, r.completed_parents, r.dependencies_satisfied AS satisfied, r.blocking_reason
FROM tasker.get_step_readiness_status_batch('{1401,1402,1403,1404}') AS r WHERE r.total_parents > 0;
SELECT pg_temp.step(1404, p, 'complete', 1) FROM unnest(ARRAY['p1', 'p4', 'p5']) AS p \g /dev/null
SELECT r.blocking_reason FROM tasker.get_step_readiness_status(1404, '{join}') AS r;

-- Ids: each once, in order, unknown ones left out; names of steps pick rows; no ids, no rows
SELECT r.task_id, r.step_name FROM tasker.get_step_readiness_status_batch('{1303,9999,1001,1303,1001}') AS r;
SELECT x.task_id FROM tasker.get_task_execution_contexts_batch('{1303,9999,1001,1303}') AS x;
SELECT r.step_name FROM tasker.get_step_readiness_status(1201, '{d,a,nothing}') AS r;
SELECT count(*) FROM tasker.get_step_readiness_status(1201, '{}');
SELECT count(*) FROM tasker.get_step_readiness_status_batch('{}');
SELECT count(*) FROM tasker.get_step_readiness_status_batch(NULL);
SELECT count(*) FROM tasker.get_step_readiness_status(NULL);
SELECT count(*) FROM tasker.get_task_execution_context(9999);
SELECT count(*) FROM tasker.calculate_dependency_levels(9999);

-- Levels: the longest way from a root, however many ways there are [12]
SELECT * FROM tasker.calculate_dependency_levels(1201);
SELECT pg_temp.task(:layers, 1501) \g /dev/null
SELECT l.dependency_level, count(*) FROM tasker.calculate_dependency_levels(1501) AS l GROUP BY l.dependency_level ORDER BY l.dependency_level;
SELECT r.parent_count, r.child_count, r.is_root_step, r.is_leaf_step, r.min_depth_from_root, cardinality(r.sibling_step_names) AS siblings, count(*)
FROM tasker.step_dag_relationships AS r WHERE r.task_id = 1501 GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY r.min_depth_from_root;

-- Somebody else's tasks are as unknown as no tasks; the views show the same as the functions
SET LOCAL ROLE regress_ready_other;
SELECT (SELECT count(*) FROM tasker.get_step_readiness_status(1201)) AS steps, (SELECT count(*) FROM tasker.get_task_execution_contexts_batch('{1001,1201}')) AS contexts,
  (SELECT count(*) FROM tasker.calculate_dependency_levels(1201)) AS levels, tasker.step_blocking_reason(1401, 3, -1) AS reason, (SELECT count(*) FROM tasker.blocked_steps) AS blocked;
SET LOCAL ROLE regress_ready;
SELECT (SELECT count(*) FROM tasker.get_step_readiness_status(1201)) AS steps, (SELECT count(*) FROM tasker.get_task_execution_contexts_batch('{1001,1201}')) AS contexts,
  (SELECT count(*) FROM tasker.calculate_dependency_levels(1201)) AS levels, tasker.step_blocking_reason(1401, 3, -1) AS reason;
SELECT b.task_id, b.step_name, b.blocking_reason, b.detail FROM tasker.blocked_steps AS b WHERE b.task_id BETWEEN 1401 AND 1404 ORDER BY b.task_id, b.step_name;
SELECT b.task_id, b.step_name, b.since = now() AS since_now, b.ready_in FROM tasker.ready_steps AS b WHERE b.task_id BETWEEN 1401 AND 1404 ORDER BY b.task_id, b.step_name;
SELECT count(*) AS different FROM tasker.step_status AS s JOIN tasker.get_step_readiness_status_batch(ARRAY(SELECT t.task_id FROM tasker.tasks AS t)) AS r USING (task_id, step_name)
WHERE (s.state, s.attempts, s.max_attempts, s.blocking_reason) IS DISTINCT FROM (r.current_state, r.attempts, r.retry_limit, r.blocking_reason);
RESET ROLE;

-- Counts: 2 complete, 1 pending and 1 failed task, and every bucket adds up [11]. Differences, as other tests leave finished tasks.
CREATE TEMP TABLE before AS SELECT * FROM tasker.get_system_health_counts();
SELECT pg_temp.task(:pair, i) FROM generate_series(1601, 1604) AS i \g /dev/null
SELECT pg_temp.step(i, s, 'complete', 1) FROM generate_series(1601, 1602) AS i CROSS JOIN unnest(ARRAY['a', 'b']) AS s \g /dev/null
SELECT pg_temp.step(1604, 'a', 'error', 1, '0', '1 hour'), pg_temp.step(1604, 'b', 'skipped') \g /dev/null
UPDATE tasker.tasks SET state = 'complete', live = false, runnable = false, finished_at = now() WHERE task_id IN (1601, 1602);
UPDATE tasker.tasks SET state = 'in_progress' WHERE task_id = 1604;
INSERT INTO tasker.tallies (named_task_id, tasks_complete, steps_complete) VALUES (:pair, 2, 4);
SELECT c.total_tasks - b.total_tasks AS tasks, c.pending_tasks - b.pending_tasks AS pending, c.in_progress_tasks - b.in_progress_tasks AS in_progress,
  c.complete_tasks - b.complete_tasks AS complete, c.total_steps - b.total_steps AS steps, c.pending_steps - b.pending_steps AS pending_steps,
  c.complete_steps - b.complete_steps AS complete_steps, c.error_steps - b.error_steps AS error_steps, c.skipped_steps - b.skipped_steps AS skipped,
  c.retryable_error_steps - b.retryable_error_steps AS retryable, c.exhausted_retry_steps - b.exhausted_retry_steps AS exhausted, c.in_backoff_steps - b.in_backoff_steps AS in_backoff
FROM tasker.get_system_health_counts() AS c CROSS JOIN before AS b;
SELECT c.total_tasks = c.pending_tasks + c.in_progress_tasks + c.complete_tasks + c.error_tasks + c.cancelled_tasks + c.resolved_manually_tasks AS tasks_add_up,
  c.total_steps = c.pending_steps + c.in_progress_steps + c.complete_steps + c.error_steps + c.cancelled_steps + c.resolved_manually_steps + c.skipped_steps AS steps_add_up,
  c.error_steps = c.retryable_error_steps + c.exhausted_retry_steps AS errors_add_up, c.active_connections >= 1 AS connected
FROM tasker.get_system_health_counts() AS c;
ROLLBACK;
SELECT tasker.revoke_access('regress_ready', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_ready_other', 'viewer') \g /dev/null
DROP ROLE regress_ready, regress_ready_other;
