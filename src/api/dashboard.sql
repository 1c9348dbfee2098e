-- One page to look at: what it shows, as the caller may see it, and the page itself. Every part is bounded, whatever the history.

CREATE FUNCTION tasker.dashboard_totals()
  RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED
  SET search_path = pg_catalog, pg_temp
  BEGIN ATOMIC
    SELECT jsonb_build_object(
      'health', (SELECT jsonb_build_object('status', h.status, 'reasons', h.reasons) FROM tasker.health_ready() AS h),
      'counts', (SELECT jsonb_build_object('pending', c.pending_tasks, 'in_progress', c.in_progress_tasks, 'complete', c.complete_tasks, 'error', c.error_tasks,
          'cancelled', c.cancelled_tasks, 'resolved_manually', c.resolved_manually_tasks) FROM tasker.get_system_health_counts() AS c),
      'hours', (SELECT coalesce(jsonb_agg(jsonb_build_object('hour', o.hour, 'state', o.state, 'tasks', o.tasks) ORDER BY o.hour, o.state), '[]')
        FROM (SELECT x.hour, x.state, sum(x.tasks) AS tasks FROM tasker.task_outcomes AS x WHERE x.hour > clock_timestamp() - interval '48 hours' GROUP BY x.hour, x.state) AS o),
      'slowest', (
        WITH h AS MATERIALIZED (
          SELECT x.named_task_id, x.step_no, x.attempts, x.successes, x.total_ms, x.max_ms, x.buckets, x.counts
          FROM tasker.step_history AS x WHERE x.hour > clock_timestamp() - interval '24 hours'),
        top AS (
          SELECT x.named_task_id, x.step_no, sum(x.attempts) AS attempts, sum(x.successes) AS successes, sum(x.total_ms) AS total_ms, max(x.max_ms) AS max_ms
          FROM h AS x GROUP BY x.named_task_id, x.step_no HAVING sum(x.successes) > 0 ORDER BY sum(x.total_ms) / sum(x.successes) DESC, x.named_task_id, x.step_no LIMIT 30)
        SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', ns.name, 'name', n.name, 'version', n.version, 'step', d.name, 'attempts', t.attempts,
          'failures', t.attempts - t.successes, 'mean_ms', round((t.total_ms / t.successes)::numeric, 3), 'max_ms', round(t.max_ms::numeric, 3),
          'p95_ms', round(least(p.p95_ms, t.max_ms)::numeric, 3)) ORDER BY t.total_ms / t.successes DESC), '[]')
        FROM top AS t
        JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = t.step_no
        JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
        JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
        -- The end of the first bucket that 95 of 100 lie in or before
        CROSS JOIN LATERAL (
          SELECT min(0.1 * power(2.0::float8, c.bucket / 8.0)) AS p95_ms
          FROM (SELECT b.bucket, sum(sum(b.number)) OVER (ORDER BY b.bucket) AS so_far, sum(sum(b.number)) OVER () AS number
            FROM h AS x CROSS JOIN LATERAL unnest(x.buckets, x.counts) AS b (bucket, number)
            WHERE x.named_task_id = t.named_task_id AND x.step_no = t.step_no GROUP BY b.bucket) AS c
          WHERE c.so_far >= 0.95 * c.number) AS p));
  END;
COMMENT ON FUNCTION tasker.dashboard_totals() IS 'For dashboard_data, of everybody''s tasks: health, counts by state, outcomes of the last 48 hours, the slowest steps of the last 24. Only for who may read tasker.step_history';

CREATE FUNCTION tasker.dashboard_task(task_id bigint)
  RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED
  SET search_path = pg_catalog, pg_temp
  BEGIN ATOMIC
    SELECT jsonb_build_object('task_id', t.task_id, 'namespace', ns.name, 'name', n.name, 'version', n.version,
      'state', CASE WHEN t.state = 'pending' AND EXISTS (SELECT FROM tasker.running() AS r WHERE r.task_id = t.task_id) THEN 'in_progress' ELSE t.state END,
      'live', t.live, 'paused', t.paused OR t.live AND tasker.scope_paused(t.named_task_id), 'failing', t.failing, 'owner', t.owner, 'priority', t.priority,
      'created_at', t.created_at, 'started_at', t.started_at, 'finished_at', t.finished_at, 'run_at', t.run_at, 'deadline_at', t.deadline_at,
      'error', left(t.error, 500), 'reason', left(t.reason, 500), 'initiator', left(t.initiator, 200), 'correlation_id', left(t.correlation_id, 200), 'tags', t.tags[1:20],
      'total_steps', n.step_count,
      'steps', (SELECT coalesce(jsonb_agg(jsonb_build_object('no', s.step_no, 'name', s.name, 'level', s.level, 'parents', s.parents, 'type', s.handler_type,
            'state', CASE WHEN s.pid IS NULL THEN s.state ELSE 'in_progress' END, 'attempts', s.attempts, 'max_attempts', s.max_attempts,
            'started_at', coalesce(s.run_started_at, s.started_at), 'finished_at', s.finished_at,
            'error', CASE WHEN s.state = 'error' THEN left(tasker.step_error(t.task_id, s.step_no, -1) ->> 'message', 500) END,
            'reason', CASE WHEN t.live AND s.pid IS NULL AND s.state IN ('pending', 'error', 'in_progress') THEN left(tasker.step_blocking_reason(t.task_id, s.step_no, -1), 500) END)
          ORDER BY s.step_no), '[]')
        FROM (SELECT w.step_no, d.name, d.level, d.parents, d.handler_type, w.state, w.attempts, coalesce(w.max_attempts, d.max_attempts) AS max_attempts,
            w.started_at, w.finished_at, r.pid, r.started_at AS run_started_at
          FROM tasker.workflow_steps AS w
          JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = w.step_no
          LEFT JOIN tasker.running() AS r ON r.task_id = w.task_id AND r.step_no = w.step_no AND r.element = w.element AND r.moves = w.moves AND w.state IN ('pending', 'error')
          WHERE w.task_id = t.task_id AND w.element = -1 ORDER BY w.step_no LIMIT 300) AS s),
      'attempts', (SELECT coalesce(jsonb_agg(jsonb_build_object('no', a.step_no, 'attempt', a.attempt, 'from', a.began_at, 'to', a.ended_at, 'state', a.ended)
          ORDER BY a.began_at, a.step_no), '[]')
        FROM (
          SELECT b.step_no, row_number() OVER (PARTITION BY b.step_no ORDER BY b.began_at) AS attempt, b.began_at, b.ended_at, b.ended
          FROM (
            SELECT m.step_no, m.created_at AS began_at, m.ended_at, m.ended
            FROM (SELECT w.step_no, w.to_state, w.created_at, lead(w.created_at) OVER (PARTITION BY w.step_no ORDER BY w.sort_key) AS ended_at,
                lead(w.to_state) OVER (PARTITION BY w.step_no ORDER BY w.sort_key) AS ended
              FROM tasker.workflow_step_transitions AS w WHERE w.task_id = t.task_id AND w.element = -1 AND w.step_no <= 300) AS m
            WHERE m.to_state = 'in_progress'
            UNION ALL
            SELECT r.step_no, r.started_at, NULL, NULL
            FROM tasker.running() AS r JOIN tasker.workflow_steps AS w ON w.task_id = r.task_id AND w.step_no = r.step_no AND w.element = r.element AND w.moves = r.moves
            WHERE r.task_id = t.task_id AND r.element = -1 AND r.step_no <= 300 AND w.state IN ('pending', 'error')) AS b
          ORDER BY b.began_at DESC LIMIT 600) AS a))
    FROM tasker.tasks AS t
    JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
    JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
    WHERE t.task_id = dashboard_task.task_id;
  END;
COMMENT ON FUNCTION tasker.dashboard_task(bigint) IS 'For dashboard_data: one task with its first 300 steps and their last 600 attempts; no contexts or results. NULL for a task that the caller may not see';

-- Finished tasks are looked for from oldest_task on: a caller who sees few of many would read them all.
CREATE FUNCTION tasker.dashboard_data(task_id bigint DEFAULT NULL, oldest_task bigint DEFAULT 0)
  RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED
  SET search_path = pg_catalog, pg_temp
  BEGIN ATOMIC
    WITH live AS MATERIALIZED (
      SELECT t.task_id, t.named_task_id, t.paused, t.failing, t.owner, t.priority, t.created_at, t.started_at, t.run_at, t.deadline_at,
        CASE WHEN t.state = 'pending' AND t.task_id = ANY (ARRAY(SELECT r.task_id FROM tasker.running() AS r)) THEN 'in_progress' ELSE t.state END AS state
      FROM tasker.tasks AS t WHERE t.live ORDER BY t.task_id DESC LIMIT 200),
    finished AS MATERIALIZED (
      SELECT t.task_id, t.named_task_id, t.state, t.created_at, t.started_at, t.finished_at
      FROM tasker.tasks AS t WHERE NOT t.live AND t.task_id >= dashboard_data.oldest_task ORDER BY t.task_id DESC LIMIT 500),
    failing AS MATERIALIZED (SELECT t.task_id FROM tasker.tasks AS t WHERE t.failing ORDER BY t.task_id DESC LIMIT 100),
    picked AS (
      SELECT p.task_id, min(p.rank) AS rank FROM (
        (SELECT t.task_id, 0 AS rank FROM tasker.tasks AS t WHERE t.task_id = dashboard_data.task_id)
        UNION ALL (SELECT f.task_id, 1 FROM failing AS f ORDER BY f.task_id DESC LIMIT 7)
        UNION ALL (SELECT l.task_id, 2 FROM live AS l WHERE l.state = 'in_progress' ORDER BY l.started_at LIMIT 7)
        UNION ALL (SELECT f.task_id, 3 FROM finished AS f ORDER BY f.finished_at - f.started_at DESC NULLS LAST LIMIT 6)
        UNION ALL (SELECT l.task_id, 4 FROM live AS l ORDER BY l.task_id DESC LIMIT 20)
        UNION ALL (SELECT f.task_id, 5 FROM finished AS f ORDER BY f.task_id DESC LIMIT 20)) AS p
      GROUP BY p.task_id ORDER BY min(p.rank), p.task_id DESC LIMIT 20),
    -- Of the caller's own tasks, where the figures of all are not for him
    own_hours AS (
      SELECT h.hour, h.state, count(*) AS tasks FROM (
        SELECT date_trunc('hour', f.finished_at) AS hour, f.state FROM finished AS f
        UNION ALL SELECT date_trunc('hour', f.created_at), 'pending' FROM finished AS f
        UNION ALL SELECT date_trunc('hour', l.created_at), 'pending' FROM live AS l) AS h
      WHERE h.hour > clock_timestamp() - interval '48 hours' GROUP BY h.hour, h.state),
    own_steps AS (
      SELECT f.named_task_id, s.step_no, sum(s.attempts) AS attempts, sum(s.attempts - (s.state = 'complete')::integer) AS failures,
        avg(m.ms) AS mean_ms, max(m.ms) AS max_ms, percentile_disc(0.95) WITHIN GROUP (ORDER BY m.ms) AS p95_ms
      FROM (SELECT x.task_id, x.named_task_id FROM finished AS x ORDER BY x.task_id DESC LIMIT 200) AS f
      JOIN tasker.workflow_steps AS s ON s.task_id = f.task_id AND s.attempts > 0 AND s.element = -1
      CROSS JOIN LATERAL (SELECT CASE s.state WHEN 'complete' THEN extract(epoch FROM s.finished_at - s.started_at) * 1000 END AS ms) AS m
      GROUP BY f.named_task_id, s.step_no HAVING count(m.ms) > 0 ORDER BY avg(m.ms) DESC LIMIT 30)
    SELECT jsonb_build_object('generated_at', clock_timestamp(), 'database', current_database(), 'role', current_user,
      'live', (SELECT coalesce(jsonb_agg(jsonb_build_object('task_id', l.task_id, 'namespace', ns.name, 'name', n.name, 'version', n.version, 'state', l.state,
          'paused', l.paused OR tasker.scope_paused(l.named_task_id), 'failing', l.failing, 'owner', l.owner, 'priority', l.priority, 'created_at', l.created_at,
          'started_at', l.started_at, 'run_at', l.run_at, 'deadline_at', l.deadline_at, 'steps', c.steps, 'done', c.done, 'failed', c.failed) ORDER BY l.task_id DESC), '[]')
        FROM live AS l
        JOIN tasker.named_tasks AS n ON n.named_task_id = l.named_task_id
        JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
        CROSS JOIN LATERAL (SELECT count(*) AS steps, count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually', 'skipped')) AS done,
          count(*) FILTER (WHERE s.state = 'error') AS failed FROM tasker.workflow_steps AS s WHERE s.task_id = l.task_id) AS c),
      'failures', (
        SELECT coalesce(jsonb_agg(f.row ORDER BY f.failed_at DESC), '[]') FROM (
          (SELECT d.failed_at, jsonb_build_object('task_id', d.task_id, 'step', d.step_name, 'namespace', d.namespace, 'name', d.name, 'kind', d.status, 'category', d.category,
              'sqlstate', d.sqlstate, 'message', left(d.message, 500), 'attempts', d.attempts, 'max_attempts', d.max_attempts, 'failed_at', d.failed_at, 'blocked', d.blocked_steps) AS row
            FROM tasker.dead_letters AS d WHERE d.task_id = ANY (ARRAY(SELECT x.task_id FROM failing AS x)) ORDER BY d.task_id DESC LIMIT 100)
          UNION ALL
          (SELECT s.finished_at, jsonb_build_object('task_id', l.task_id, 'step', d.name, 'namespace', ns.name, 'name', n.name, 'kind', 'retrying', 'category', e.error ->> 'category',
              'sqlstate', e.error ->> 'sqlstate', 'message', left(e.error ->> 'message', 500), 'attempts', s.attempts, 'max_attempts', coalesce(s.max_attempts, d.max_attempts),
              'failed_at', coalesce(s.finished_at, s.started_at), 'next_at', s.next_attempt_at, 'blocked', tasker.waiting_descendants(l.task_id, s.step_no))
            FROM live AS l
            JOIN tasker.workflow_steps AS s ON s.task_id = l.task_id AND s.state = 'error' AND s.element = -1
            JOIN tasker.named_steps AS d ON d.named_task_id = l.named_task_id AND d.step_no = s.step_no
            JOIN tasker.named_tasks AS n ON n.named_task_id = l.named_task_id
            JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
            CROSS JOIN LATERAL (SELECT tasker.step_error(s.task_id, s.step_no, s.element) AS error OFFSET 0) AS e
            WHERE NOT s.permanent AND d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts)
            ORDER BY l.task_id DESC LIMIT 100)) AS f),
      'tasks', (SELECT coalesce(jsonb_agg(k.task ORDER BY p.rank, p.task_id DESC) FILTER (WHERE k.task IS NOT NULL), '[]')
        FROM picked AS p CROSS JOIN LATERAL (SELECT tasker.dashboard_task(p.task_id) AS task OFFSET 0) AS k))
    || CASE WHEN has_table_privilege('tasker.step_history', 'SELECT') AND tasker.sees_all() THEN tasker.dashboard_totals() || '{"scope": "all"}'
      ELSE jsonb_build_object('scope', 'own', 'health', NULL,
        'counts', (SELECT coalesce(jsonb_object_agg(c.state, c.number), '{}') FROM (SELECT x.state, count(*) AS number
          FROM (SELECT l.state FROM live AS l UNION ALL SELECT f.state FROM finished AS f) AS x GROUP BY x.state) AS c),
        'hours', (SELECT coalesce(jsonb_agg(jsonb_build_object('hour', h.hour, 'state', h.state, 'tasks', h.tasks) ORDER BY h.hour, h.state), '[]') FROM own_hours AS h),
        'slowest', (SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', ns.name, 'name', n.name, 'version', n.version, 'step', d.name, 'attempts', o.attempts,
            'failures', o.failures, 'mean_ms', round(o.mean_ms, 3), 'p95_ms', round(o.p95_ms, 3), 'max_ms', round(o.max_ms, 3)) ORDER BY o.mean_ms DESC), '[]')
          FROM own_steps AS o
          JOIN tasker.named_steps AS d ON d.named_task_id = o.named_task_id AND d.step_no = o.step_no
          JOIN tasker.named_tasks AS n ON n.named_task_id = o.named_task_id
          JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id)) END;
  END;
COMMENT ON FUNCTION tasker.dashboard_data(bigint, bigint) IS 'What dashboard_html shows: up to 200 live tasks, 100 dead letters and 100 steps in retry, 30 slowest steps, and 20 tasks with steps and attempts (that of task_id among them), as the caller may see them. Finished tasks are looked for from oldest_task on';

CREATE FUNCTION tasker.dashboard_html(task_id bigint DEFAULT NULL, refresh_seconds integer DEFAULT NULL)
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_dashboard_html';
COMMENT ON FUNCTION tasker.dashboard_html(bigint, integer) IS 'A page for a browser that needs nothing else: live tasks, states over time, slowest steps, failures, and tasks as pictures. task_id: this one is among them; refresh_seconds: the browser reads the file again so often';
