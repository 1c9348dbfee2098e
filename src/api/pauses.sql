-- Pauses by scope. An order costs one row however many tasks it holds, and holds those created later too.

CREATE FUNCTION tasker.pause_tasks(namespace text DEFAULT NULL, name text DEFAULT NULL, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_pause_scope';
COMMENT ON FUNCTION tasker.pause_tasks(text, text, text)
  IS 'Pauses all tasks of a definition, of a namespace, or (both NULL) of this database, those created later too: running steps finish, nothing starts. true: the scope was not paused';

CREATE FUNCTION tasker.resume_tasks(namespace text DEFAULT NULL, name text DEFAULT NULL, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resume_scope';
COMMENT ON FUNCTION tasker.resume_tasks(text, text, text)
  IS 'Ends the pause of exactly this scope; a notice tells of others that still hold tasks of it. true: the scope was paused';

-- A sub-select on scope_pauses would be planned with every poll of a task, and cost a fifth of it.
CREATE FUNCTION tasker.scope_paused(named_task_id integer)
  RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10 AS 'MODULE_PATHNAME', 'tasker_scope_paused';
COMMENT ON FUNCTION tasker.scope_paused(integer) IS 'Whether an order of pause_tasks holds the tasks of a definition';

CREATE VIEW tasker.paused_scopes WITH (security_invoker = true) AS
SELECT ns.name AS namespace, p.name, p.paused_by, p.paused_at, p.reason
FROM tasker.scope_pauses AS p LEFT JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = p.task_namespace_id
WHERE p.resumed_at IS NULL;
COMMENT ON VIEW tasker.paused_scopes IS 'What pause_tasks holds now: a definition, a namespace (name is null), or this database (both are null). Orders that have ended are in scope_pauses';
