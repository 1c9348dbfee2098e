-- Counts, probes, what the workers do, and a proof of the tables' integrity.

CREATE FUNCTION tasker.running()
  RETURNS TABLE (task_id bigint, step_no integer, element integer, moves integer, pid integer, owner oid, started_at timestamptz)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 4 AS 'MODULE_PATHNAME', 'tasker_running';
COMMENT ON FUNCTION tasker.running() IS 'Steps that executors run at this moment, of tasks the caller may see; moves is that of the row the run began with';

CREATE FUNCTION tasker.worker_slots()
  RETURNS TABLE (kind text, pid integer, database text, role text, state text, task_id bigint, step_no integer, element integer,
    named_task_id integer, since timestamptz)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 8 AS 'MODULE_PATHNAME', 'tasker_worker_slots';
COMMENT ON FUNCTION tasker.worker_slots() IS 'tasker''s background workers of the whole server; what they run is told of this database only';

CREATE FUNCTION tasker.get_system_health_counts(OUT total_tasks bigint, OUT pending_tasks bigint, OUT in_progress_tasks bigint, OUT complete_tasks bigint,
    OUT error_tasks bigint, OUT cancelled_tasks bigint, OUT resolved_manually_tasks bigint, OUT total_steps bigint, OUT pending_steps bigint,
    OUT in_progress_steps bigint, OUT complete_steps bigint, OUT error_steps bigint, OUT cancelled_steps bigint, OUT resolved_manually_steps bigint,
    OUT skipped_steps bigint, OUT retryable_error_steps bigint, OUT exhausted_retry_steps bigint, OUT in_backoff_steps bigint,
    OUT active_connections bigint, OUT max_connections bigint)
  RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_get_system_health_counts';
COMMENT ON FUNCTION tasker.get_system_health_counts() IS 'All tasks and steps by state, live and finished: the buckets add up to the totals';

CREATE FUNCTION tasker.health_ready()
  RETURNS TABLE (status text, checks jsonb, reasons text[]) LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_health_ready';
COMMENT ON FUNCTION tasker.health_ready() IS 'Would a step run here now? status: healthy, degraded, unhealthy, held or standby; reasons for anything else than healthy';

CREATE FUNCTION tasker.health_live()
  RETURNS TABLE (status text, checks jsonb, reasons text[]) LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_health_live';
COMMENT ON FUNCTION tasker.health_live() IS 'Answers, so the database lives';

CREATE FUNCTION tasker.health_status()
  RETURNS TABLE (status text, checks jsonb, reasons text[]) LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_health_status';
COMMENT ON FUNCTION tasker.health_status() IS 'health_ready, and error rates, connections, and how long the oldest ready step waits';

-- One snapshot proves all: rows that must exist, and what must follow from other rows. It reads everything, history too.
CREATE FUNCTION tasker.check()
  RETURNS TABLE (check_name text, task_id bigint, detail text) LANGUAGE sql STABLE PARALLEL RESTRICTED
  SET search_path = pg_catalog, pg_temp
  BEGIN ATOMIC
    SELECT 'task_without_definition', t.task_id, format('definition %s does not exist', t.named_task_id)
      FROM tasker.tasks AS t WHERE NOT EXISTS (SELECT FROM tasker.named_tasks AS n WHERE n.named_task_id = t.named_task_id)
    UNION ALL
    SELECT 'missing_step', t.task_id, format('step %s (%s) has no row', d.step_no, d.name)
      FROM tasker.tasks AS t JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id
      WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = t.task_id AND s.step_no = d.step_no AND s.element = -1)
    UNION ALL
    SELECT 'surplus_step', s.task_id, format('step %s is not in the definition', s.step_no)
      FROM tasker.workflow_steps AS s JOIN tasker.tasks AS t ON t.task_id = s.task_id
      WHERE NOT EXISTS (SELECT FROM tasker.named_steps AS d WHERE d.named_task_id = t.named_task_id AND d.step_no = s.step_no)
    UNION ALL
    SELECT 'step_without_task', s.task_id, format('step %s', s.step_no)
      FROM tasker.workflow_steps AS s WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = s.task_id)
    UNION ALL
    SELECT 'task_transition_without_task', w.task_id, format('sort_key %s', w.sort_key)
      FROM tasker.task_moves AS w WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = w.task_id)
    UNION ALL
    SELECT 'step_transition_without_step', w.task_id, format('step %s, sort_key %s', w.step_no, w.sort_key)
      FROM tasker.step_moves AS w
      WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = w.task_id AND s.step_no = w.step_no AND s.element = w.element)
    UNION ALL
    SELECT 'label_without_task', l.task_id, format('%s %L', l.kind, l.label)
      FROM tasker.task_labels AS l WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = l.task_id)
    UNION ALL
    SELECT 'idempotency_key_without_task', k.task_id, format('key %L', k.idempotency_key)
      FROM tasker.idempotency_keys AS k WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = k.task_id)
    UNION ALL
    SELECT 'annotation_without_task', a.task_id, format('annotation %s', a.task_annotation_id)
      FROM tasker.task_annotations AS a WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = a.task_id)
    UNION ALL
    SELECT 'signal_without_task', g.task_id, format('signal %s, %L', g.signal_id, g.name)
      FROM tasker.signals AS g WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = g.task_id)
    UNION ALL
    SELECT 'queue_item_without_step', q.task_id, format('step %s in queue %L', q.step_no, q.queue)
      FROM tasker.queue_items AS q
      WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = q.task_id AND s.step_no = q.step_no AND s.element = q.element)
    UNION ALL
    SELECT 'lease_without_step', l.task_id, format('step %s, claimed by %L', l.step_no, l.worker)
      FROM tasker.leases AS l
      WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = l.task_id AND s.step_no = l.step_no AND s.element = l.element)
    UNION ALL
    -- Nothing else would ever end them.
    SELECT 'step_without_timer', s.task_id, format('step %s is under way, and nothing ends it', s.step_no)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id AND s.state = 'in_progress'
      JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no AND d.handler_type IN ('wait', 'external')
      WHERE t.live AND NOT EXISTS (SELECT FROM tasker.timers AS m WHERE m.task_id = s.task_id AND m.step_no = s.step_no AND m.element = s.element
        AND m.kind = CASE d.handler_type WHEN 'wait' THEN 'wait' ELSE 'lease' END)
    UNION ALL
    SELECT 'call_without_transfer', s.task_id, format('step %s is under way, and no courier knows of it', s.step_no)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id AND s.state = 'in_progress'
      JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no AND d.handler_type = 'http'
      WHERE t.live AND NOT EXISTS (SELECT FROM tasker.transfers AS f WHERE f.task_id = s.task_id AND f.step_no = s.step_no AND f.element = s.element AND f.moves = s.moves)
    UNION ALL
    SELECT 'dead_letter_note_without_step', k.task_id, format('note %s on step %s', k.dead_letter_note_id, k.step_no)
      FROM tasker.dead_letter_notes AS k
      WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = k.task_id AND s.step_no = k.step_no AND s.element = k.element AND s.moves >= k.moves)
    UNION ALL
    SELECT 'pause_without_definition', NULL, format('pause %s of %L', p.pause_id, p.name)
      FROM tasker.scope_pauses AS p WHERE p.name IS NOT NULL
        AND NOT EXISTS (SELECT FROM tasker.named_tasks AS n WHERE n.task_namespace_id = p.task_namespace_id AND n.name = p.name)
    UNION ALL
    SELECT 'limit_without_definition', NULL, format('limit %s of %L', l.limit_id, l.name)
      FROM tasker.step_limit_rows AS l WHERE l.name IS NOT NULL
        AND NOT EXISTS (SELECT FROM tasker.named_tasks AS n WHERE n.task_namespace_id = l.task_namespace_id AND n.name = l.name)
    UNION ALL
    SELECT 'task_history_disagrees', t.task_id, format('%s after %s moves, but the history ends with %s at %s', t.state, t.moves,
        coalesce(w.to_state::text, 'nothing'), coalesce(w.sort_key::text, '-'))
      FROM tasker.tasks AS t LEFT JOIN LATERAL (SELECT x.to_state, x.sort_key FROM tasker.task_moves AS x WHERE x.task_id = t.task_id
        ORDER BY x.sort_key DESC LIMIT 1) AS w ON true
      WHERE coalesce(w.sort_key, 0) <> 10 * (t.moves - t.untold) OR CASE t.untold WHEN 0 THEN coalesce(w.to_state, 'pending') <> t.state
        ELSE coalesce(w.to_state, 'pending') <> 'pending' OR t.untold <> 2 OR t.state <> 'complete' OR t.started_at IS NULL OR t.finished_at IS NULL END
    UNION ALL
    SELECT 'step_history_disagrees', s.task_id, format('step %s: %s after %s moves, but the history ends with %s at %s', s.step_no, s.state, s.moves,
        coalesce(w.to_state::text, 'nothing'), coalesce(w.sort_key::text, '-'))
      FROM tasker.workflow_steps AS s LEFT JOIN LATERAL (SELECT x.to_state, x.sort_key FROM tasker.step_moves AS x
        WHERE x.task_id = s.task_id AND x.step_no = s.step_no AND x.element = s.element ORDER BY x.sort_key DESC LIMIT 1) AS w ON true
      WHERE coalesce(w.sort_key, 0) <> 10 * (s.moves - s.untold) OR CASE s.untold WHEN 0 THEN coalesce(w.to_state, 'pending') <> s.state
        ELSE coalesce(w.to_state, 'pending') <> 'pending' OR s.untold <> 2 OR s.state <> 'complete' OR s.started_at IS NULL OR s.finished_at IS NULL END
    UNION ALL
    SELECT 'live_disagrees', t.task_id, format('state %s, live %s, runnable %s', t.state, t.live, t.runnable)
      FROM tasker.tasks AS t WHERE t.live <> (t.state IN ('pending', 'in_progress')) OR t.runnable AND NOT t.live
    UNION ALL
    SELECT 'finished_at_disagrees', t.task_id, format('state %s, finished_at %s', t.state, coalesce(t.finished_at::text, 'is null'))
      FROM tasker.tasks AS t WHERE (t.finished_at IS NULL) <> t.live
    UNION ALL
    SELECT 'complete_task_with_open_step', t.task_id, format('step %s is %s', s.step_no, s.state)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id
      WHERE t.state = 'complete' AND s.state NOT IN ('complete', 'resolved_manually', 'skipped')
    UNION ALL
    -- The counters matter to steps that may still run; parents with a result are what they leave out.
    SELECT 'waiting_on_disagrees', s.task_id, format('step %s waits on %s parents, %s are not done', s.step_no, s.waiting_on, p.open)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id
      JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
      CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE x.state NOT IN ('complete', 'resolved_manually', 'skipped')) AS open
        FROM tasker.workflow_steps AS x WHERE x.task_id = s.task_id AND x.element = -1 AND x.step_no = ANY (d.parents)) AS p
      WHERE t.live AND s.state IN ('pending', 'error') AND s.waiting_on <> CASE WHEN cardinality(d.parents) > 1 THEN p.open ELSE 0 END
    UNION ALL
    SELECT 'sinks_left_disagrees', t.task_id, format('%s left, %s are not done', t.sinks_left, p.open)
      FROM tasker.tasks AS t CROSS JOIN LATERAL (SELECT count(*) AS open FROM tasker.workflow_steps AS s
        JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no AND d.children = '{}'
        WHERE s.task_id = t.task_id AND s.element = -1 AND s.state NOT IN ('complete', 'resolved_manually', 'skipped')) AS p
      WHERE t.live AND t.sinks_left <> p.open
    UNION ALL
    SELECT 'dead_step_in_task_not_failing', t.task_id, format('step %s cannot run again', s.step_no)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id
      JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
      WHERE NOT t.failing AND s.state = 'error'
        AND (s.permanent OR s.attempts > 0 AND NOT (d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts)))
    UNION ALL
    SELECT 'timer_of_no_live_task', m.task_id, format('%s of step %s due at %s', m.kind, m.step_no, m.due_at)
      FROM tasker.timers AS m WHERE NOT EXISTS (SELECT FROM tasker.tasks AS t WHERE t.task_id = m.task_id AND t.live)
    UNION ALL
    SELECT 'backoff_without_timer', s.task_id, format('step %s waits until %s', s.step_no, s.next_attempt_at)
      FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id
      WHERE t.live AND s.state = 'error' AND s.next_attempt_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM tasker.timers AS m WHERE m.task_id = s.task_id AND m.step_no = s.step_no AND m.element = s.element)
    UNION ALL
    -- A failure may lower the limit below the attempts made: raise_retryable(max_attempts => 1).
    SELECT 'too_many_attempts', s.task_id, format('step %s made %s attempts', s.step_no, s.attempts)
      FROM tasker.workflow_steps AS s JOIN tasker.tasks AS t ON t.task_id = s.task_id
      JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
      WHERE s.attempts > greatest(d.max_attempts, s.max_attempts, 1) AND NOT (s.state = 'error' AND s.max_attempts < d.max_attempts)
    UNION ALL
    SELECT 'system_without_breaker', NULL, format('dependent system %s', d.name)
      FROM tasker.dependent_systems AS d WHERE NOT EXISTS (SELECT FROM tasker.breakers AS b WHERE b.dependent_system_id = d.dependent_system_id)
    UNION ALL
    SELECT 'breaker_history_disagrees', NULL, format('dependent system %s: %s after %s moves, but the history ends with %s at %s', b.dependent_system_id, b.state,
        b.moves, coalesce(w.to_state, 'nothing'), coalesce(w.sort_key::text, '-'))
      FROM tasker.breakers AS b LEFT JOIN LATERAL (SELECT x.to_state, x.sort_key FROM tasker.breaker_transitions AS x
        WHERE x.dependent_system_id = b.dependent_system_id ORDER BY x.sort_key DESC LIMIT 1) AS w ON true
      WHERE coalesce(w.to_state, 'closed') <> b.state OR coalesce(w.sort_key, 0) <> b.moves
    UNION ALL
    SELECT 'tallies_disagree', NULL, format('definition %s, %s: %s tallied, %s counted', coalesce(y.named_task_id, c.named_task_id),
        coalesce(y.bucket, c.bucket), coalesce(y.tallied, 0), coalesce(c.counted, 0))
      FROM (
        SELECT z.named_task_id, b.bucket, sum(b.number) AS tallied FROM tasker.tallies AS z
        CROSS JOIN LATERAL (VALUES ('tasks complete', z.tasks_complete), ('tasks error', z.tasks_error), ('tasks cancelled', z.tasks_cancelled),
          ('tasks resolved_manually', z.tasks_resolved_manually), ('steps pending', z.steps_pending), ('steps complete', z.steps_complete),
          ('steps error', z.steps_error), ('steps cancelled', z.steps_cancelled), ('steps resolved_manually', z.steps_resolved_manually),
          ('steps skipped', z.steps_skipped)) AS b (bucket, number)
        GROUP BY z.named_task_id, b.bucket) AS y
      FULL JOIN (
        SELECT t.named_task_id, 'tasks ' || t.state AS bucket, count(*) AS counted FROM tasker.tasks AS t WHERE NOT t.live GROUP BY t.named_task_id, t.state
        UNION ALL
        SELECT t.named_task_id, 'steps ' || CASE s.state WHEN 'in_progress' THEN 'pending' ELSE s.state::text END, count(*)
        FROM tasker.tasks AS t JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id WHERE NOT t.live GROUP BY 1, 2) AS c
        ON c.named_task_id = y.named_task_id AND c.bucket = y.bucket
      WHERE coalesce(y.tallied, 0) <> coalesce(c.counted, 0);
  END;
COMMENT ON FUNCTION tasker.check() IS 'One row per broken invariant of the tables; none when all is well. Reads all tasks: for tests and doubts, not for probes';
