-- Limits on sql and http steps: how many run at once, how many begin in a second.

CREATE FUNCTION tasker.set_step_limit(namespace text, name text DEFAULT NULL, step_name text DEFAULT NULL, key text DEFAULT NULL,
    max_running integer DEFAULT NULL, per_second double precision DEFAULT NULL, burst integer DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_set_step_limit';
COMMENT ON FUNCTION tasker.set_step_limit(text, text, text, text, integer, double precision, integer)
  IS 'Limits the sql and http steps of a namespace, of a definition (all versions) or of one step of it: how many run at once, how many begin in a second, and of those how many at a time. With key, a JSON Pointer into the context, for each value separately. Without any figure: no limit. False when it was so already';

CREATE FUNCTION tasker.step_limit_figures(limit_id integer, OUT running bigint, OUT waiting bigint, OUT tokens double precision, OUT as_of timestamptz)
  RETURNS SETOF record LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_step_limit_figures';
COMMENT ON FUNCTION tasker.step_limit_figures(integer) IS 'What the dispatcher counts under a limit, for the view';

CREATE VIEW tasker.step_limits WITH (security_invoker = true) AS
SELECT ns.name AS namespace, l.name, l.step_name, l.key, l.max_running, l.per_second, l.burst,
  f.running, f.waiting, CASE WHEN l.per_second IS NOT NULL AND l.key IS NULL AND f.running IS NOT NULL
    THEN round(least(l.burst, f.tokens + extract(epoch FROM clock_timestamp() - f.as_of)::float8 * l.per_second)::numeric, 3) END AS tokens,
  l.changed_by, l.changed_at
FROM tasker.step_limit_rows AS l
JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = l.task_namespace_id
LEFT JOIN LATERAL tasker.step_limit_figures(l.limit_id) AS f ON true;
COMMENT ON VIEW tasker.step_limits IS 'The limits that set_step_limit has set. running: steps that executors or the courier have in hand; waiting: those that wait for this limit; tokens: how many may begin at once as far as the rate goes. The last three are null without the preload';
