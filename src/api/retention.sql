-- Retention: how long finished tasks are kept, and what is left of those that are gone.

CREATE FUNCTION tasker.set_retention(namespace text, keep interval)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_set_retention';
COMMENT ON FUNCTION tasker.set_retention(text, interval)
  IS 'How long finished tasks of a namespace are kept: NULL, as long as tasker.retention says; a negative interval, for ever. False when it was so already';

CREATE FUNCTION tasker.retention_of(namespace text)
  RETURNS interval LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_retention_of';
COMMENT ON FUNCTION tasker.retention_of(text) IS 'How long finished tasks of a namespace are kept, by its own rule or by tasker.retention; NULL: for ever';

CREATE FUNCTION tasker.remove_finished_tasks(older_than interval DEFAULT NULL, namespace text DEFAULT NULL, max_tasks integer DEFAULT 10000)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_remove_finished_tasks';
COMMENT ON FUNCTION tasker.remove_finished_tasks(interval, text, integer)
  IS 'Removes finished tasks now, as the dispatcher does by itself: those that are due, or all that finished longer ago than older_than; never one with an open dead letter. How many are gone';

CREATE VIEW tasker.retention_status WITH (security_invoker = true) AS
SELECT ns.name AS namespace, tasker.retention_of(ns.name) AS retention, r.task_namespace_id IS NOT NULL AS has_rule,
  (SELECT coalesce(sum(z.tasks), 0)::bigint FROM tasker.named_tasks AS n JOIN tasker.task_summaries AS z ON z.named_task_id = n.named_task_id
    WHERE n.task_namespace_id = ns.task_namespace_id) AS removed_tasks,
  m.held_back, m.oldest_finished_at, m.passed_at
FROM tasker.task_namespaces AS ns
LEFT JOIN tasker.retention_rules AS r ON r.task_namespace_id = ns.task_namespace_id
LEFT JOIN tasker.retention_marks AS m ON m.task_namespace_id = ns.task_namespace_id;
COMMENT ON VIEW tasker.retention_status IS 'One row per namespace: how long finished tasks are kept (null: for ever), by a rule of its own or by the setting; how many were removed; what the dispatcher saw last: how many are due but stay, because of an open dead letter or a lock, and the oldest that stay';
