-- Events: what each move of a task or a step is called, and who is told of it.

CREATE FUNCTION tasker.event_kinds(OUT event text, OUT subject text, OUT description text, OUT payload_schema jsonb)
  RETURNS SETOF record LANGUAGE c STABLE PARALLEL SAFE ROWS 20 AS 'MODULE_PATHNAME', 'tasker_event_kinds';
COMMENT ON FUNCTION tasker.event_kinds() IS 'The events that every definition has; subject is task or step. For the view event_catalog';

CREATE FUNCTION tasker.custom_event_schema()
  RETURNS jsonb LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_custom_event_schema';
COMMENT ON FUNCTION tasker.custom_event_schema() IS 'What a subscriber gets of a custom event. For the view event_catalog';

CREATE FUNCTION tasker.event_name(subject text, from_state text, to_state text)
  RETURNS text LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_event_name';
COMMENT ON FUNCTION tasker.event_name(text, text, text) IS 'What a move of a task or a step is called; NULL for a state that is none';

CREATE FUNCTION tasker.subscribe(subscription_name text, events text[], kind text, target text, namespace text DEFAULT NULL, name text DEFAULT NULL,
    path text DEFAULT NULL, max_attempts integer DEFAULT 5)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_subscribe';
COMMENT ON FUNCTION tasker.subscribe(text, text[], text, text, text, text, text, integer)
  IS 'Has events from now on delivered in order, at least once: to a function (target schema.name) or a webhook (a server of tasker_http) as current_user; traces of ended tasks to an OpenTelemetry collector (a server, too); or kept for take_events, with a NOTIFY on a channel. The same name again changes the subscription. Returns its id';

CREATE FUNCTION tasker.unsubscribe(subscription_name text)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_unsubscribe';
COMMENT ON FUNCTION tasker.unsubscribe(text) IS 'Removes a subscription with what waits for it; a delivery that is under way goes on';

CREATE FUNCTION tasker.pause_subscription(subscription_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_pause_subscription';
COMMENT ON FUNCTION tasker.pause_subscription(text, text) IS 'Begins no new delivery until resume_subscription; events wait meanwhile. true: it was not paused';

CREATE FUNCTION tasker.resume_subscription(subscription_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resume_subscription';
COMMENT ON FUNCTION tasker.resume_subscription(text, text) IS 'Lets a paused or dead subscription go on; of a dead one the failed delivery is tried again. true: it was paused or dead';

CREATE FUNCTION tasker.take_events(subscription_name text, max_events integer DEFAULT 100, OUT event_id bigint, OUT event text, OUT task_id bigint, OUT step_name text,
    OUT occurred_at timestamptz, OUT payload jsonb)
  RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tasker_take_events';
COMMENT ON FUNCTION tasker.take_events(text, integer) IS 'Takes the first events that wait for a subscription of kind notify: they are gone when the caller commits, and wait again when he does not';

ALTER TABLE tasker.event_subscription_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.event_subscription_rows FOR SELECT USING (tasker.sees_row(owner, created_by));

ALTER TABLE tasker.event_outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.event_outbox FOR SELECT
  USING (EXISTS (SELECT FROM tasker.event_subscription_rows AS s WHERE s.subscription_id = event_outbox.subscription_id));

CREATE VIEW tasker.event_catalog WITH (security_invoker = true) AS
SELECT k.event, k.subject, false AS custom, NULL::text AS namespace, NULL::text AS name, NULL::text AS version, NULL::text AS step_name, NULL::text AS condition,
  k.description, k.payload_schema
FROM tasker.event_kinds() AS k
UNION ALL
SELECT v.event ->> 'name', 'step', true, ns.name, n.name, n.version, d.name, v.event ->> 'condition', v.event ->> 'description', tasker.custom_event_schema()
FROM tasker.named_steps AS d
CROSS JOIN LATERAL jsonb_array_elements(d.events) AS v(event)
JOIN tasker.named_tasks AS n ON n.named_task_id = d.named_task_id
JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id
WHERE NOT starts_with(v.event ->> 'name', 'task.') AND NOT starts_with(v.event ->> 'name', 'step.');
COMMENT ON VIEW tasker.event_catalog IS 'Every event there is: those of all tasks and steps, and the custom ones with the definition and the step that publish them, on success, failure or always';

CREATE VIEW tasker.event_subscribers WITH (security_invoker = true) AS
SELECT s.subscription_name, s.kind, s.target, s.path, s.events, s.namespace, s.name, s.owner, s.created_by,
  CASE WHEN s.dead_at IS NOT NULL THEN 'dead' WHEN s.paused_at IS NOT NULL THEN 'paused' ELSE 'active' END AS state,
  (SELECT count(*) FROM tasker.event_outbox AS o WHERE o.subscription_id = s.subscription_id) - s.in_flight AS pending, s.in_flight, s.delivered, s.failures,
  clock_timestamp() - (SELECT min(o.occurred_at) FROM tasker.event_outbox AS o WHERE o.subscription_id = s.subscription_id) AS lag,
  s.delivery_task_id, s.last_delivered_at, s.last_failed_at, s.last_error, s.paused_at, s.paused_by, s.pause_reason, s.dead_at,
  x.faults || array_remove(ARRAY[
    (SELECT 'delivers the same as ' || string_agg(o.subscription_name, ', ' ORDER BY o.subscription_name) FROM tasker.event_subscription_rows AS o
      WHERE o.subscription_id <> s.subscription_id AND (o.kind, o.target) = (s.kind, s.target) AND o.path IS NOT DISTINCT FROM s.path AND o.events && s.events
        AND coalesce(o.namespace = s.namespace, true) AND coalesce(o.name = s.name, true))], NULL) AS conflicts,
  s.created_at, s.changed_at, s.dropped,
  CASE WHEN s.dead_at IS NOT NULL THEN 'dead' WHEN s.paused_at IS NOT NULL THEN 'paused' WHEN x.faults <> '{}' THEN 'broken'
    WHEN s.last_failed_at > coalesce(s.last_delivered_at, '-infinity') THEN 'failing' WHEN s.delivered = 0 THEN 'unused' ELSE 'healthy' END AS health
FROM tasker.event_subscription_rows AS s
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.owner
LEFT JOIN pg_catalog.pg_foreign_server AS w ON s.kind IN ('webhook', 'traces') AND w.srvname = s.target
LEFT JOIN LATERAL (
  -- The name is quoted as in SQL; a malformed one was refused by subscribe.
  SELECT count(*) AS found, coalesce(bool_or(r.oid IS NOT NULL AND has_function_privilege(s.owner, p.oid, 'EXECUTE')), false) AS allowed
  FROM (SELECT parse_ident(CASE s.kind WHEN 'function' THEN s.target END) AS parts) AS i
  JOIN pg_catalog.pg_namespace AS pn ON pn.nspname = i.parts[1] JOIN pg_catalog.pg_proc AS p ON p.pronamespace = pn.oid AND p.proname = i.parts[2]) AS f ON s.kind = 'function'
CROSS JOIN LATERAL (
  SELECT array_remove(ARRAY[
      CASE WHEN s.kind = 'function' AND coalesce(f.found, 0) = 0 THEN 'function ' || s.target || ' does not exist' END,
      CASE WHEN s.kind = 'function' AND f.found > 0 AND NOT f.allowed THEN 'its owner may not execute function ' || s.target END,
      CASE WHEN s.kind IN ('webhook', 'traces') AND w.oid IS NULL THEN 'server ' || s.target || ' does not exist' END,
      CASE WHEN s.kind IN ('webhook', 'traces') AND w.oid IS NOT NULL AND r.oid IS NOT NULL AND NOT has_server_privilege(s.owner, w.oid, 'USAGE') THEN 'its owner may not use server ' || s.target END,
      CASE WHEN r.oid IS NULL THEN 'its owner does not exist' END], NULL) AS faults) AS x;
COMMENT ON VIEW tasker.event_subscribers IS 'One row per subscription: state (active, paused, dead), what waits, is under way, was delivered and has failed, how late the oldest is, conflicts: what is wrong with it, or double, and health: dead, paused, broken (by a conflict), failing (since the last delivery), unused, healthy';
