-- Views for polling. All run with the rights of who reads them: row-level security and the payload functions decide
-- what is in them. What is not selected is not computed: left joins on unique keys and laterals of one row are dropped
-- by the planner, functions in the select list are not called.
--
-- A step that a worker runs now shows as in_progress, although its row is written at the worker's commit. Memory is
-- believed only while its run began with the very row that the statement sees.

CREATE VIEW tasker.task_status WITH (security_invoker = true) AS
SELECT t.task_id, ns.name AS namespace, n.name, n.version,
  CASE WHEN t.state = 'pending' AND t.task_id = ANY (ARRAY(SELECT r.task_id FROM tasker.running() AS r)) THEN 'in_progress' ELSE t.state END AS state,
  t.paused OR t.live AND tasker.scope_paused(t.named_task_id) AS paused, t.owner, t.created_by, t.priority,
  tasker.task_context(t.task_id) AS context,
  CASE WHEN NOT t.live THEN tasker.task_result(t.task_id) END AS result,
  -- One leaf's result is within the limit, or it would not have been stored.
  CASE WHEN t.live OR t.error IS NOT NULL OR n.sink_count = 1 THEN t.error ELSE tasker.task_result_problem(t.task_id) END AS error,
  c.total_steps, c.completed_steps, c.failed_steps,
  round(100.0 * c.completed_steps / nullif(c.total_steps, 0), 2) AS completion_percentage,
  c.attempts, t.created_at, t.started_at, t.finished_at, t.run_at, t.deadline_at, t.correlation_id, t.idempotency_key, t.tags
FROM tasker.tasks AS t
LEFT JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
LEFT JOIN LATERAL (
  SELECT count(*) AS total_steps, count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually', 'skipped')) AS completed_steps,
    count(*) FILTER (WHERE s.state = 'error') AS failed_steps, coalesce(sum(s.attempts), 0) AS attempts
  FROM tasker.workflow_steps AS s WHERE s.task_id = t.task_id) AS c ON true;
COMMENT ON VIEW tasker.task_status IS 'One row per task: where it stands, what came out. result: leaf step → result of a finished task; error: the first permanent failure, or why result is null';

CREATE VIEW tasker.step_status WITH (security_invoker = true) AS
SELECT s.task_id, CASE s.element WHEN -1 THEN d.name ELSE d.name || '[' || s.element || ']' END AS step_name,
  CASE WHEN r.pid IS NULL THEN s.state ELSE 'in_progress' END AS state,
  s.attempts, coalesce(s.max_attempts, d.max_attempts) AS max_attempts,
  CASE WHEN s.state IN ('complete', 'resolved_manually') THEN tasker.step_result(s.task_id, s.step_no, s.element) END AS result,
  CASE WHEN s.state = 'error' THEN tasker.step_error(s.task_id, s.step_no, s.element) END AS error,
  d.handler_type,
  ARRAY(SELECT p.name FROM tasker.named_steps AS p WHERE p.named_task_id = d.named_task_id AND p.step_no = ANY (d.parents) ORDER BY p.step_no) AS depends_on,
  CASE WHEN r.pid IS NULL THEN s.started_at ELSE r.started_at END AS started_at,
  s.finished_at, s.next_attempt_at,
  CASE WHEN s.state = 'in_progress' THEN (SELECT m.due_at FROM tasker.timers AS m
    WHERE m.task_id = s.task_id AND m.step_no = s.step_no AND m.element = s.element AND m.kind = CASE d.handler_type WHEN 'wait' THEN 'wait' ELSE 'timeout' END) END AS wait_until,
  CASE d.handler_type WHEN 'signal' THEN d.handler ->> 'name' END AS signal_name,
  CASE WHEN r.pid IS NOT NULL THEN 'executor ' || r.pid WHEN s.state = 'in_progress' AND d.handler_type = 'http' THEN 'courier' WHEN s.state = 'in_progress' THEN (SELECT l.worker FROM tasker.leases AS l
    WHERE l.task_id = s.task_id AND l.step_no = s.step_no AND l.element = s.element AND l.moves = s.moves) END AS worker,
  CASE WHEN s.state = 'in_progress' THEN (SELECT l.lease_until FROM tasker.leases AS l
    WHERE l.task_id = s.task_id AND l.step_no = s.step_no AND l.element = s.element AND l.moves = s.moves) END AS lease_until,
  CASE WHEN s.state IN ('pending', 'error', 'in_progress') AND r.pid IS NULL THEN tasker.step_blocking_reason(s.task_id, s.step_no, s.element) END AS blocking_reason
FROM tasker.workflow_steps AS s
JOIN tasker.tasks AS t ON t.task_id = s.task_id
JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
LEFT JOIN tasker.running() AS r ON r.task_id = s.task_id AND r.step_no = s.step_no AND r.element = s.element AND r.moves = s.moves
  AND s.state IN ('pending', 'error');
COMMENT ON VIEW tasker.step_status IS 'One row per step: state, attempts, result, last error, who runs it, what blocks it';

-- Both ask for one task at a time, so that a condition on task_id asks for that task alone.
CREATE VIEW tasker.ready_steps WITH (security_invoker = true) AS
SELECT t.task_id, r.step_name, ns.name AS namespace, n.name, t.owner, split_part(r.blocking_reason, ': ', 1) AS blocking_reason,
  nullif(substr(r.blocking_reason, strpos(r.blocking_reason || ': ', ': ') + 2), '') AS detail,
  greatest(t.run_at, r.next_retry_at, (SELECT max(p.finished_at) FROM tasker.named_steps AS d
    JOIN tasker.workflow_steps AS p ON p.task_id = t.task_id AND p.step_no = ANY (d.parents)
    WHERE d.named_task_id = t.named_task_id AND d.name = r.step_name)) AS since,
  r.ready_in
FROM tasker.tasks AS t
CROSS JOIN LATERAL tasker.get_step_readiness_status(t.task_id) AS r
LEFT JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
WHERE t.live AND r.ready_for_execution;
COMMENT ON VIEW tasker.ready_steps IS 'Steps of live tasks that would run now, and since when they could';

CREATE VIEW tasker.blocked_steps WITH (security_invoker = true) AS
SELECT t.task_id, r.step_name, ns.name AS namespace, n.name, t.owner, split_part(r.blocking_reason, ': ', 1) AS blocking_reason,
  nullif(substr(r.blocking_reason, strpos(r.blocking_reason || ': ', ': ') + 2), '') AS detail,
  coalesce(r.last_failure_at, (SELECT max(p.finished_at) FROM tasker.named_steps AS d
    JOIN tasker.workflow_steps AS p ON p.task_id = t.task_id AND p.step_no = ANY (d.parents)
    WHERE d.named_task_id = t.named_task_id AND d.name = r.step_name), t.created_at) AS since,
  r.ready_in
FROM tasker.tasks AS t
CROSS JOIN LATERAL tasker.get_step_readiness_status(t.task_id) AS r
LEFT JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
WHERE t.live AND r.blocking_reason IS NOT NULL AND NOT r.ready_for_execution;
COMMENT ON VIEW tasker.blocked_steps IS 'Steps of live tasks that wait, each with the reason and the object it waits for';

-- Driven by what runs; a row that is in_progress by itself (a wait, a claim) is found through the live tasks.
CREATE VIEW tasker.running_steps WITH (security_invoker = true) AS
SELECT x.task_id, CASE x.element WHEN -1 THEN d.name ELSE d.name || '[' || x.element || ']' END AS step_name, ns.name AS namespace, n.name, t.owner,
  x.attempt, CASE WHEN d.handler_type = 'http' THEN 'courier' ELSE x.worker END AS worker, x.started_at, clock_timestamp() - x.started_at AS running_for
FROM (
  SELECT s.task_id, s.step_no, s.element, s.attempts + 1 AS attempt, 'executor ' || r.pid AS worker, r.started_at
  FROM tasker.running() AS r
  JOIN tasker.workflow_steps AS s ON s.task_id = r.task_id AND s.step_no = r.step_no AND s.element = r.element AND s.moves = r.moves
  WHERE s.state IN ('pending', 'error')
  UNION ALL
  SELECT s.task_id, s.step_no, s.element, s.attempts, (SELECT l.worker FROM tasker.leases AS l
    WHERE l.task_id = s.task_id AND l.step_no = s.step_no AND l.element = s.element AND l.moves = s.moves), s.started_at
  FROM tasker.tasks AS l JOIN tasker.workflow_steps AS s ON s.task_id = l.task_id WHERE l.live AND s.state = 'in_progress') AS x
JOIN tasker.tasks AS t ON t.task_id = x.task_id
JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = x.step_no
LEFT JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id;
COMMENT ON VIEW tasker.running_steps IS 'Steps that run at this moment, and on which worker';

CREATE VIEW tasker.workers WITH (security_invoker = true) AS
SELECT w.kind, w.pid, w.database, w.role, w.state, w.task_id,
  CASE w.element WHEN -1 THEN d.name ELSE d.name || '[' || w.element || ']' END AS current_step, w.since
FROM tasker.worker_slots() AS w
LEFT JOIN tasker.named_steps AS d ON d.named_task_id = w.named_task_id AND d.step_no = w.step_no;
COMMENT ON VIEW tasker.workers IS 'tasker''s background workers of the whole server, and what those of this database run';

CREATE VIEW tasker.step_dag_relationships WITH (security_invoker = true) AS
SELECT s.task_id, d.name AS step_name,
  ARRAY(SELECT p.name FROM tasker.named_steps AS p WHERE p.named_task_id = d.named_task_id AND p.step_no = ANY (d.parents) ORDER BY p.step_no)
    AS parent_step_names,
  ARRAY(SELECT p.name FROM tasker.named_steps AS p WHERE p.named_task_id = d.named_task_id AND p.step_no = ANY (d.children) ORDER BY p.step_no)
    AS child_step_names,
  ARRAY(SELECT p.name FROM tasker.named_steps AS p
    WHERE p.named_task_id = d.named_task_id AND p.step_no <> d.step_no AND p.parents = d.parents AND d.parents <> '{}' ORDER BY p.step_no)
    AS sibling_step_names,
  cardinality(d.parents) AS parent_count, cardinality(d.children) AS child_count,
  d.parents = '{}' AS is_root_step, d.children = '{}' AS is_leaf_step,
  tasker.step_depth(d.named_task_id, d.step_no) AS min_depth_from_root
FROM tasker.workflow_steps AS s
JOIN tasker.tasks AS t ON t.task_id = s.task_id
JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
WHERE s.element = -1;
COMMENT ON VIEW tasker.step_dag_relationships IS 'Parents, children and siblings (same parents) of each step of each task';

CREATE VIEW tasker.task_transitions WITH (security_invoker = true) AS
SELECT m.task_id, m.sort_key - 10 AS sort_key, m.from_state, 'in_progress'::tasker.task_state AS to_state, '{}'::jsonb AS metadata, m.begun_at AS created_at
FROM tasker.task_moves AS m WHERE m.begun_at IS NOT NULL
UNION ALL
SELECT m.task_id, m.sort_key, CASE WHEN m.begun_at IS NULL THEN m.from_state ELSE 'in_progress' END, m.to_state,
  tasker.transition_metadata(m.task_id, 0, -1, m.sort_key), m.created_at
FROM tasker.task_moves AS m
UNION ALL
SELECT t.task_id, 10 * t.moves - 10, 'pending', 'in_progress', '{}', t.started_at FROM tasker.tasks AS t WHERE t.untold > 0
UNION ALL
SELECT t.task_id, 10 * t.moves, 'in_progress', t.state, '{}', t.finished_at FROM tasker.tasks AS t WHERE t.untold > 0;
COMMENT ON VIEW tasker.task_transitions IS 'Every state change of every task; sort_key is ten times the move number, metadata null for whoever may not see payloads';

CREATE VIEW tasker.workflow_step_transitions WITH (security_invoker = true) AS
SELECT m.task_id, m.step_no, m.element, m.sort_key - 10 AS sort_key, m.from_state, 'in_progress'::tasker.step_state AS to_state,
  pg_catalog.jsonb_build_object('attempt', m.attempt) AS metadata, m.begun_at AS created_at
FROM tasker.step_moves AS m WHERE m.begun_at IS NOT NULL
UNION ALL
SELECT m.task_id, m.step_no, m.element, m.sort_key, CASE WHEN m.begun_at IS NULL THEN m.from_state ELSE 'in_progress' END, m.to_state,
  tasker.transition_metadata(m.task_id, m.step_no, m.element, m.sort_key), m.created_at
FROM tasker.step_moves AS m
UNION ALL
SELECT s.task_id, s.step_no, s.element, 10 * s.moves - 10, 'pending', 'in_progress', pg_catalog.jsonb_build_object('attempt', s.attempts), s.started_at
FROM tasker.workflow_steps AS s WHERE s.untold > 0
UNION ALL
SELECT s.task_id, s.step_no, s.element, 10 * s.moves, 'in_progress', s.state, '{}', s.finished_at FROM tasker.workflow_steps AS s WHERE s.untold > 0;
COMMENT ON VIEW tasker.workflow_step_transitions IS 'Every state change of every step; sort_key is ten times the move number, metadata null for whoever may not see payloads';

CREATE VIEW tasker.task_history WITH (security_invoker = true) AS
SELECT h.task_id, CASE h.element WHEN -1 THEN d.name ELSE d.name || '[' || h.element || ']' END AS step_name, h.sort_key, h.from_state, h.to_state,
  h.metadata, h.created_at
FROM (
  SELECT w.task_id, 0 AS step_no, -1 AS element, w.sort_key, w.from_state::text AS from_state, w.to_state::text AS to_state, w.metadata, w.created_at
  FROM tasker.task_transitions AS w
  UNION ALL
  SELECT w.task_id, w.step_no, w.element, w.sort_key, w.from_state::text, w.to_state::text, w.metadata, w.created_at FROM tasker.workflow_step_transitions AS w) AS h
JOIN tasker.tasks AS t ON t.task_id = h.task_id
LEFT JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = h.step_no
ORDER BY h.created_at, h.task_id, h.step_no, h.element, h.sort_key;
COMMENT ON VIEW tasker.task_history IS 'Every move of every task and step in the order of time; step_name is null for the task''s own';

-- What a subscription is told of, and what it would have been told of.
CREATE VIEW tasker.events WITH (security_invoker = true) AS
SELECT h.task_id, CASE h.element WHEN -1 THEN d.name ELSE d.name || '[' || h.element || ']' END AS step_name, e.event, e.custom, ns.name AS namespace, n.name,
  h.sort_key, h.from_state, h.to_state, h.created_at AS occurred_at, h.metadata
FROM (
  SELECT w.task_id, 0 AS step_no, -1 AS element, w.sort_key, w.from_state::text AS from_state, w.to_state::text AS to_state, w.metadata, w.created_at
  FROM tasker.task_transitions AS w
  UNION ALL
  SELECT w.task_id, w.step_no, w.element, w.sort_key, w.from_state::text, w.to_state::text, w.metadata, w.created_at FROM tasker.workflow_step_transitions AS w) AS h
JOIN tasker.tasks AS t ON t.task_id = h.task_id
JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
LEFT JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = h.step_no
CROSS JOIN LATERAL (
  SELECT tasker.event_name(CASE h.step_no WHEN 0 THEN 'task' ELSE 'step' END, h.from_state, h.to_state) AS event, false AS custom
  UNION ALL
  SELECT DISTINCT v.event ->> 'name', true FROM jsonb_array_elements(d.events) AS v(event)
  WHERE h.to_state IN ('complete', 'error') AND v.event ->> 'condition' IN ('always', CASE h.to_state WHEN 'complete' THEN 'success' ELSE 'failure' END)
    AND NOT starts_with(v.event ->> 'name', 'task.') AND NOT starts_with(v.event ->> 'name', 'step.')) AS e;
COMMENT ON VIEW tasker.events IS 'Every event of the history: one for each move of a task or a step, and the custom ones that its definition publishes with it; metadata is null for whoever may not see payloads';

CREATE VIEW tasker.task_annotation_list WITH (security_invoker = true) AS
SELECT a.task_id, a.task_annotation_id, a.annotation_type AS type, tasker.task_annotation(a.task_id, a.task_annotation_id) AS annotation,
  a.created_by, a.created_at
FROM tasker.task_annotations AS a;
COMMENT ON VIEW tasker.task_annotation_list IS 'Notes that annotate_task attached to tasks';

CREATE VIEW tasker.named_task_list WITH (security_invoker = true) AS
SELECT n.named_task_id, ns.name AS namespace, n.name, n.version, n.description, n.run_as, n.author, n.step_count, n.deadline_seconds,
  n.retired_at IS NULL AND NOT EXISTS (SELECT FROM tasker.named_tasks AS o WHERE o.task_namespace_id = n.task_namespace_id AND o.name = n.name
    AND o.retired_at IS NULL AND o.version_order > n.version_order) AS latest,
  (SELECT count(*) FROM tasker.tasks AS t WHERE t.live AND t.named_task_id = n.named_task_id) AS live_tasks,
  n.created_at, n.retired_at,
  tasker.scope_paused(n.named_task_id) AS paused
FROM tasker.named_tasks AS n JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id;
COMMENT ON VIEW tasker.named_task_list IS 'Definitions; latest: what create_task takes without a version. live_tasks counts those the reader may see; paused: pause_tasks holds them';

CREATE VIEW tasker.handlers WITH (security_invoker = true) AS
SELECT h.type, h.target, h.definitions,
  CASE WHEN h.routine IS NOT NULL THEN p.found > 0 END AS "exists",
  p.executable_by, u.runs, u.failures, u.last_used, h.namespaces, h.steps, f.faults || f.doubts AS conflicts,
  CASE WHEN f.faults <> '{}' THEN 'broken' WHEN u.runs = 0 THEN 'unused' WHEN u.failures * 2 > u.runs THEN 'failing' ELSE 'healthy' END AS health
FROM (
  SELECT d.handler_type AS type, coalesce(d.handler ->> 'function', d.handler ->> 'procedure', d.handler ->> 'server', d.handler ->> 'queue',
      d.handler ->> 'query') AS target, coalesce(d.handler ->> 'function', d.handler ->> 'procedure') AS routine,
    CASE WHEN d.handler ? 'procedure' THEN 'procedure' WHEN d.handler ? 'function' THEN 'function' END AS kind,
    array_agg(DISTINCT ns.name || '.' || n.name || ' ' || n.version) AS definitions,
    array_agg(DISTINCT d.named_task_id) AS named_task_ids,
    array_agg(DISTINCT ns.name) AS namespaces, count(*) AS steps,
    array_agg(DISTINCT n.author::oid) FILTER (WHERE n.run_as = 'definer') AS definers
  FROM tasker.named_steps AS d
  JOIN tasker.named_tasks AS n ON n.named_task_id = d.named_task_id
  JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
  GROUP BY 1, 2, 3, 4) AS h
LEFT JOIN LATERAL (
  -- The name is quoted as in SQL; a malformed one was refused by define_task.
  SELECT count(*) AS found,
    (SELECT array_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END)
      FROM unnest(array_agg(r.oid)) AS x (routine) JOIN pg_catalog.pg_proc AS y ON y.oid = x.routine
      CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(y.proacl, pg_catalog.acldefault('f', y.proowner))) AS a
      WHERE a.privilege_type = 'EXECUTE') AS executable_by,
    -- What a step calls: the one with two arguments, or else the one with one.
    max(r.oid) FILTER (WHERE r.proargtypes::text = '3802 3802' AND k.right_kind) AS by_two,
    max(r.oid) FILTER (WHERE r.proargtypes::text = ('tasker.step_call'::regtype)::oid::text AND k.right_kind) AS by_one
  FROM pg_catalog.pg_proc AS r
  JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.pronamespace
  CROSS JOIN LATERAL (SELECT r.prokind = CASE h.kind WHEN 'procedure' THEN 'p' ELSE 'f' END AS right_kind) AS k
  WHERE r.proname = (parse_ident(h.routine))[2] AND rn.nspname = (parse_ident(h.routine))[1]) AS p ON true
LEFT JOIN LATERAL (
  SELECT array_remove(ARRAY[
      CASE WHEN h.routine IS NOT NULL AND p.found = 0 THEN h.kind || ' ' || h.routine || ' does not exist' END,
      CASE WHEN p.found > 0 AND coalesce(p.by_two, p.by_one) IS NULL THEN h.kind || ' ' || h.routine || ' takes neither (jsonb, jsonb) nor (tasker.step_call)' END,
      (SELECT 'function ' || h.routine || ' must return jsonb or void' FROM pg_catalog.pg_proc AS y
        WHERE h.kind = 'function' AND y.oid = coalesce(p.by_two, p.by_one) AND (y.proretset OR y.prorettype NOT IN ('jsonb'::regtype, 'void'::regtype))),
      CASE WHEN h.type = 'http' AND NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server AS v WHERE v.srvname = h.target) THEN 'server ' || h.target || ' does not exist' END,
      (SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) || ' defined it to run as definer, and may not ' || CASE h.type WHEN 'http' THEN 'use server ' ELSE 'execute ' END || h.target
        FROM pg_catalog.pg_roles AS r LEFT JOIN pg_catalog.pg_foreign_server AS v ON h.type = 'http' AND v.srvname = h.target
        WHERE r.oid = ANY (h.definers) AND (NOT has_function_privilege(r.oid, coalesce(p.by_two, p.by_one), 'EXECUTE') OR NOT has_server_privilege(r.oid, v.oid, 'USAGE')))], NULL) AS faults,
    CASE WHEN p.by_two IS NOT NULL AND p.by_one IS NOT NULL
      THEN ARRAY[h.kind || ' ' || h.routine || ' exists with both arguments: the one of (jsonb, jsonb) is called'] ELSE '{}' END AS doubts) AS f ON true
LEFT JOIN LATERAL (
  SELECT coalesce(sum(s.attempts), 0) AS runs, coalesce(sum(s.attempts - (s.state = 'complete')::integer), 0) AS failures, max(s.started_at) AS last_used
  FROM tasker.tasks AS t
  JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.handler_type = h.type
    AND coalesce(d.handler ->> 'function', d.handler ->> 'procedure', d.handler ->> 'server', d.handler ->> 'queue', d.handler ->> 'query')
      IS NOT DISTINCT FROM h.target
  JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id AND s.step_no = d.step_no
  WHERE t.named_task_id = ANY (h.named_task_ids) AND s.attempts > 0) AS u ON true;
COMMENT ON VIEW tasker.handlers IS 'What steps do, and where it is used: definitions, their namespaces, and how many steps; conflicts: what is wrong with it, or double; health: broken, unused, failing (more than half of the attempts), healthy; runs, failures, last_used and health count the tasks the reader may see, and read their steps when selected';
