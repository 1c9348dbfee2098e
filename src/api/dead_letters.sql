-- Dead letters: what failed and does not run again by itself, what people found out about it, and all of it once more.

CREATE FUNCTION tasker.redrive(namespace text DEFAULT NULL, name text DEFAULT NULL, step_name text DEFAULT NULL, category text DEFAULT NULL,
  sqlstate text DEFAULT NULL, failed_since timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL, max_tasks integer DEFAULT 1000, reason text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_redrive';
COMMENT ON FUNCTION tasker.redrive(text, text, text, text, text, timestamptz, timestamptz, integer, text)
  IS 'Makes dead letters pending again as retry_step does: those that all given filters name, in the oldest max_tasks tasks that the caller may control. How many steps';

CREATE FUNCTION tasker.note_dead_letter(task_id bigint, step_name text, status text, note text DEFAULT NULL)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_note_dead_letter';
COMMENT ON FUNCTION tasker.note_dead_letter(bigint, text, text, text)
  IS 'Notes what was found out about a dead letter: open, resolved or wont_fix. It speaks of this failure only';

CREATE FUNCTION tasker.has_open_dead_letter(task_id bigint)
  RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_has_open_dead_letter';
COMMENT ON FUNCTION tasker.has_open_dead_letter(bigint) IS 'Whether somebody still has to decide about a failed step of the task: one without a note that closes it';

CREATE FUNCTION tasker.dead_letter_note(task_id bigint, step_no integer, element integer, dead_letter_note_id bigint)
  RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_dead_letter_note';
COMMENT ON FUNCTION tasker.dead_letter_note(bigint, integer, integer, bigint) IS 'The text of a note on a dead letter';

CREATE FUNCTION tasker.waiting_descendants(task_id bigint, step_no integer)
  RETURNS integer LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_waiting_descendants';
COMMENT ON FUNCTION tasker.waiting_descendants(bigint, integer) IS 'How many pending steps wait for this one, directly or through others';

-- status, note and by whom come from the last note since the failure; a step that has moved since is a new case.
CREATE VIEW tasker.dead_letters WITH (security_invoker = true) AS
SELECT s.task_id, CASE s.element WHEN -1 THEN d.name ELSE d.name || '[' || s.element || ']' END AS step_name, ns.name AS namespace, n.name, n.version,
  t.owner, t.created_by, t.state AS task_state, s.attempts, coalesce(s.max_attempts, d.max_attempts) AS max_attempts,
  e.error ->> 'category' AS category, e.error ->> 'sqlstate' AS sqlstate, e.error ->> 'message' AS message, e.error,
  (SELECT w.created_at FROM tasker.step_moves AS w
    WHERE w.task_id = s.task_id AND w.step_no = s.step_no AND w.element = s.element AND w.to_state = 'error' ORDER BY w.sort_key LIMIT 1) AS first_failed_at,
  coalesce(s.finished_at, (SELECT w.created_at FROM tasker.step_moves AS w
    WHERE w.task_id = s.task_id AND w.step_no = s.step_no AND w.element = s.element ORDER BY w.sort_key DESC LIMIT 1)) AS failed_at,
  tasker.waiting_descendants(s.task_id, s.step_no) AS blocked_steps, y.name AS dependent_system,
  coalesce(k.status, 'open') AS status, tasker.dead_letter_note(k.task_id, k.step_no, k.element, k.dead_letter_note_id) AS note,
  k.created_by AS noted_by, k.created_at AS noted_at,
  t.initiator, t.correlation_id, t.idempotency_key, t.tags
FROM tasker.tasks AS t
JOIN tasker.workflow_steps AS s ON s.task_id = t.task_id
JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
CROSS JOIN LATERAL (SELECT tasker.step_error(s.task_id, s.step_no, s.element) AS error OFFSET 0) AS e
LEFT JOIN LATERAL (SELECT max(x.dead_letter_note_id) AS last_id FROM tasker.dead_letter_notes AS x
  WHERE x.task_id = s.task_id AND x.step_no = s.step_no AND x.element = s.element AND x.moves = s.moves) AS l ON true
LEFT JOIN tasker.dead_letter_notes AS k
  ON k.task_id = s.task_id AND k.step_no = s.step_no AND k.element = s.element AND k.dead_letter_note_id = l.last_id
LEFT JOIN tasker.dependent_systems AS y ON y.dependent_system_id = d.dependent_system_id
LEFT JOIN tasker.named_tasks AS n ON n.named_task_id = t.named_task_id
LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
WHERE t.failing AND s.state = 'error'
  AND (s.permanent OR s.attempts > 0 AND NOT (d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts)));
COMMENT ON VIEW tasker.dead_letters IS 'Failed steps that will not run again by themselves: redrive, retry_step, skip_step or resolve_step_manually take them out. status: open, or as the last note on this failure says';

CREATE VIEW tasker.dead_letter_note_list WITH (security_invoker = true) AS
SELECT k.task_id, CASE k.element WHEN -1 THEN d.name ELSE d.name || '[' || k.element || ']' END AS step_name, k.dead_letter_note_id, k.status,
  tasker.dead_letter_note(k.task_id, k.step_no, k.element, k.dead_letter_note_id) AS note, k.created_by, k.created_at
FROM tasker.dead_letter_notes AS k
LEFT JOIN tasker.tasks AS t ON t.task_id = k.task_id
LEFT JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = k.step_no;
COMMENT ON VIEW tasker.dead_letter_note_list IS 'Notes that note_dead_letter made, on earlier failures too';
