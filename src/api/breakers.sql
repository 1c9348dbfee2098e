-- Circuit breakers of the systems that steps depend on: what operators do to them, and how they stand.

CREATE FUNCTION tasker.trip_breaker(system text, reason text DEFAULT NULL, open_for interval DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_trip_breaker';
COMMENT ON FUNCTION tasker.trip_breaker(text, text, interval) IS 'Opens the breaker of a dependent system for that long, or until reset_breaker: its steps wait';

CREATE FUNCTION tasker.reset_breaker(system text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_reset_breaker';
COMMENT ON FUNCTION tasker.reset_breaker(text, text) IS 'Closes the breaker of a dependent system: its steps go on';

CREATE FUNCTION tasker.configure_breaker(system text, failure_threshold integer DEFAULT NULL, failure_window interval DEFAULT NULL,
    open_time interval DEFAULT NULL, max_open_time interval DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_configure_breaker';
COMMENT ON FUNCTION tasker.configure_breaker(text, integer, interval, interval, interval)
  IS 'Gives the breaker of a dependent system settings of its own, all at once; what is NULL follows tasker.breaker_*. true: they were others';

CREATE FUNCTION tasker.breaker_memory(dependent_system_id integer, moves integer, OUT consecutive_failures integer, OUT last_failure_at timestamptz,
    OUT probing_task_id bigint, OUT probing_step_no integer, OUT waiting_steps integer,
    OUT failure_threshold integer, OUT failure_window interval, OUT open_time interval, OUT max_open_time interval)
  RETURNS SETOF record LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_breaker_memory';
COMMENT ON FUNCTION tasker.breaker_memory(integer, integer)
  IS 'What memory knows of a breaker beyond a row of so many moves, for the view, and the settings that hold where it has none of its own';

CREATE VIEW tasker.circuit_breakers WITH (security_invoker = true) AS
SELECT d.name AS system,
  CASE WHEN b.state = 'open' AND b.open_until <= clock_timestamp() THEN 'half_open' ELSE b.state END AS state,
  coalesce(m.consecutive_failures, b.failures) AS consecutive_failures,
  coalesce(b.failure_threshold, m.failure_threshold) AS failure_threshold,
  coalesce(b.failure_window, m.failure_window) AS failure_window,
  coalesce(b.open_time, m.open_time) AS open_time,
  coalesce(b.max_open_time, m.max_open_time) AS max_open_time,
  b.opened_at, b.open_until, b.opens AS times_opened,
  m.probing_task_id,
  (SELECT s.name FROM tasker.tasks AS t JOIN tasker.named_steps AS s ON s.named_task_id = t.named_task_id AND s.step_no = m.probing_step_no
    WHERE t.task_id = m.probing_task_id) AS probing_step,
  m.waiting_steps,
  greatest(m.last_failure_at, b.last_failure_at) AS last_failure_at,
  b.reason, b.actor, b.changed_at
FROM tasker.breakers AS b
JOIN tasker.dependent_systems AS d ON d.dependent_system_id = b.dependent_system_id
LEFT JOIN LATERAL tasker.breaker_memory(b.dependent_system_id, b.moves) AS m ON true;
COMMENT ON VIEW tasker.circuit_breakers IS 'One row per dependent system: may its steps run, since when and until when not, what it would take, and who waits. times_opened counts since it was closed last; settings are those in force';
