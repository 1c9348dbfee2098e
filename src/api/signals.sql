-- Signals: somebody's word that a step of type signal waits for.

CREATE FUNCTION tasker.send_signal(task_id bigint, name text, payload jsonb DEFAULT '{}')
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_send_signal';
COMMENT ON FUNCTION tasker.send_signal(bigint, text, jsonb)
  IS 'Sends a task the signal that one of its steps waits for, or will: the payload becomes the result of the step. Takes effect at commit; gives the number of the signal';

CREATE FUNCTION tasker.awaited_signal_rows()
  RETURNS TABLE (task_id bigint, step_name text, signal_name text, namespace text, name text, owner regrole, waiting_since timestamptz, wait_until timestamptz)
  LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tasker_awaited_signals';
COMMENT ON FUNCTION tasker.awaited_signal_rows() IS 'What the view awaited_signals shows';

CREATE VIEW tasker.awaited_signals WITH (security_invoker = true) AS
SELECT a.task_id, a.step_name, a.signal_name, a.namespace, a.name, a.owner, a.waiting_since, a.wait_until FROM tasker.awaited_signal_rows() AS a;
COMMENT ON VIEW tasker.awaited_signals IS 'Steps that wait for a signal now and that the reader may send: what he is asked to decide. wait_until: when the step stops waiting';

CREATE VIEW tasker.sent_signals WITH (security_invoker = true) AS
SELECT g.task_id, g.signal_id, g.name, g.sender, g.sent_at, d.name AS used_by
FROM tasker.signals AS g
JOIN tasker.tasks AS t ON t.task_id = g.task_id
LEFT JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = g.used_by;
COMMENT ON VIEW tasker.sent_signals IS 'Signals that were sent to tasks the reader may see; used_by is the step that took it, null while none has';
