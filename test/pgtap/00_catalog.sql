-- The catalog after CREATE EXTENSION: what is promised is there, and nothing more is open than promised.
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE TEMP VIEW routines AS
SELECT p.oid, p.proname::text AS name, p.prokind, p.prosecdef, p.proacl, p.proowner, p.proconfig,
  pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
FROM pg_proc AS p WHERE p.pronamespace = 'tasker'::regnamespace;
CREATE TEMP VIEW relations AS
SELECT c.oid, c.relname::text AS name, c.relkind, c.relacl, c.relowner, c.relrowsecurity, c.reloptions
FROM pg_class AS c WHERE c.relnamespace = 'tasker'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S');

-- ---- what is promised is there --------------------------------------------------------------------------------

SELECT set_has('SELECT name FROM relations WHERE relkind = ''r''', $$VALUES ('task_namespaces'), ('dependent_systems'), ('named_tasks'), ('named_steps'), ('tasks'),
  ('workflow_steps'), ('task_moves'), ('step_moves'), ('task_annotations'), ('definition_grants'), ('access_grants'), ('timers'), ('transfers'), ('queue_items'), ('leases'), ('queue_limits'), ('step_limit_rows'), ('signals'),
  ('scope_pauses'), ('schedule_rows'), ('schedule_fires'), ('dead_letter_notes'), ('breakers'), ('breaker_transitions'),
  ('event_subscription_rows'), ('event_outbox')$$, 'tables');
SELECT set_eq('SELECT name FROM relations WHERE relkind = ''v''', $$VALUES ('task_status'), ('step_status'), ('ready_steps'), ('blocked_steps'), ('running_steps'), ('task_transitions'), ('workflow_step_transitions'),
  ('dead_letters'), ('workers'), ('step_dag_relationships'), ('task_history'), ('named_task_list'), ('handlers'), ('task_annotation_list'), ('dead_letter_note_list'), ('paused_scopes'), ('schedules'), ('schedule_history'), ('circuit_breakers'),
  ('awaited_signals'), ('sent_signals'), ('queues'), ('step_limits'), ('retention_status'), ('batch_statistics'), ('metrics'), ('cache_status'), ('events'), ('event_catalog'), ('event_subscribers')$$, 'views');

PREPARE columns_of(text) AS SELECT a.attname::text COLLATE "default" || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
  WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
SELECT results_eq('EXECUTE columns_of(''tasker.task_status'')', ARRAY['task_id bigint', 'namespace text', 'name text', 'version text', 'state tasker.task_state',
  'paused boolean', 'owner regrole', 'created_by regrole', 'priority integer', 'context jsonb', 'result jsonb', 'error text', 'total_steps bigint',
  'completed_steps bigint', 'failed_steps bigint', 'completion_percentage numeric', 'attempts bigint', 'created_at timestamp with time zone',
  'started_at timestamp with time zone', 'finished_at timestamp with time zone', 'run_at timestamp with time zone', 'deadline_at timestamp with time zone',
  'correlation_id text', 'idempotency_key text', 'tags text[]'], 'columns of task_status');
SELECT results_eq('EXECUTE columns_of(''tasker.step_status'')', ARRAY['task_id bigint', 'step_name text', 'state tasker.step_state', 'attempts integer',
  'max_attempts integer', 'result jsonb', 'error jsonb', 'handler_type text', 'depends_on text[]', 'started_at timestamp with time zone',
  'finished_at timestamp with time zone', 'next_attempt_at timestamp with time zone', 'wait_until timestamp with time zone', 'signal_name text', 'worker text',
  'lease_until timestamp with time zone', 'blocking_reason text'], 'columns of step_status');
SELECT results_eq(format('EXECUTE columns_of(%L)', 'tasker.' || v), ARRAY['task_id bigint', 'step_name text', 'namespace text', 'name text', 'owner regrole',
  'blocking_reason text', 'detail text', 'since timestamp with time zone', 'ready_in interval'], 'columns of ' || v) FROM unnest(ARRAY['ready_steps', 'blocked_steps']) AS v;
SELECT results_eq('EXECUTE columns_of(''tasker.workers'')', ARRAY['kind text', 'pid integer', 'database text', 'role text', 'state text', 'task_id bigint',
  'current_step text', 'since timestamp with time zone'], 'columns of workers');
SELECT results_eq('EXECUTE columns_of(''tasker.dead_letters'')', ARRAY['task_id bigint', 'step_name text', 'namespace text', 'name text', 'version text', 'owner regrole',
  'created_by regrole', 'task_state tasker.task_state', 'attempts integer', 'max_attempts integer', 'category text', 'sqlstate text', 'message text', 'error jsonb',
  'first_failed_at timestamp with time zone', 'failed_at timestamp with time zone', 'blocked_steps integer', 'dependent_system text', 'status text', 'note text',
  'noted_by regrole', 'noted_at timestamp with time zone', 'initiator text', 'correlation_id text', 'idempotency_key text', 'tags text[]'], 'columns of dead_letters');
SELECT results_eq('EXECUTE columns_of(''tasker.dead_letter_note_list'')', ARRAY['task_id bigint', 'step_name text', 'dead_letter_note_id bigint', 'status text', 'note text',
  'created_by regrole', 'created_at timestamp with time zone'], 'columns of dead_letter_note_list');
SELECT results_eq('EXECUTE columns_of(''tasker.step_limits'')', ARRAY['namespace text', 'name text', 'step_name text', 'key text', 'max_running integer',
  'per_second double precision', 'burst integer', 'running bigint', 'waiting bigint', 'tokens numeric', 'changed_by regrole', 'changed_at timestamp with time zone'],
  'columns of step_limits');
SELECT results_eq('EXECUTE columns_of(''tasker.paused_scopes'')', ARRAY['namespace text', 'name text', 'paused_by regrole', 'paused_at timestamp with time zone', 'reason text'],
  'columns of paused_scopes');
SELECT results_eq('EXECUTE columns_of(''tasker.schedules'')', ARRAY['schedule_name text', 'cron text', 'timezone text', 'namespace text', 'name text', 'context jsonb',
  'overlap text', 'catch_up interval', 'jitter interval', 'owner regrole', 'created_by regrole', 'paused boolean', 'paused_at timestamp with time zone', 'paused_by regrole',
  'pause_reason text', 'next_fire_at timestamp with time zone', 'next_fires timestamp with time zone[]', 'last_fire_at timestamp with time zone', 'last_outcome text',
  'last_task_id bigint', 'last_message text', 'running_tasks bigint', 'queued_fires bigint', 'missed_at timestamp with time zone', 'created_at timestamp with time zone',
  'changed_at timestamp with time zone'], 'columns of schedules');
SELECT results_eq('EXECUTE columns_of(''tasker.schedule_history'')', ARRAY['schedule_name text', 'fire_time timestamp with time zone', 'outcome text', 'task_id bigint',
  'task_state tasker.task_state', 'message text', 'ticked_by text', 'created_at timestamp with time zone'], 'columns of schedule_history');
SELECT results_eq('EXECUTE columns_of(''tasker.task_history'')', ARRAY['task_id bigint', 'step_name text', 'sort_key integer', 'from_state text', 'to_state text',
  'metadata jsonb', 'created_at timestamp with time zone'], 'columns of task_history');

SELECT results_eq('EXECUTE columns_of(''tasker.circuit_breakers'')', ARRAY['system text', 'state text', 'consecutive_failures integer', 'failure_threshold integer',
  'failure_window interval', 'open_time interval', 'max_open_time interval', 'opened_at timestamp with time zone', 'open_until timestamp with time zone',
  'times_opened integer', 'probing_task_id bigint', 'probing_step text', 'waiting_steps integer', 'last_failure_at timestamp with time zone', 'reason text', 'actor text',
  'changed_at timestamp with time zone'], 'columns of circuit_breakers');

SELECT set_has('SELECT name, arguments, result FROM routines', $$VALUES
  ('define_task', 'definition jsonb, replace boolean', 'integer'),
  ('validate_task_definition', 'definition jsonb', 'TABLE(json_pointer text, problem text, hint text)'),
  ('task_definition', 'namespace text, name text, version text', 'jsonb'),
  ('retire_task_definition', 'namespace text, name text, version text', 'boolean'),
  ('create_task', 'namespace text, name text, context jsonb, version text, priority integer, run_at timestamp with time zone, idempotency_key text, initiator text, source_system text, reason text, tags text[], bypass_steps text[], correlation_id text, deadline_seconds numeric', 'bigint'),
  ('create_tasks', 'namespace text, name text, contexts jsonb[], version text, priority integer, run_at timestamp with time zone, idempotency_keys text[], tags text[], correlation_id text', 'SETOF bigint'),
  ('cancel_task', 'task_id bigint, reason text', 'boolean'), ('cancel_task', 'task_ids bigint[], reason text', 'integer'),
  ('pause_task', 'task_id bigint, reason text', 'boolean'), ('pause_task', 'task_ids bigint[], reason text', 'integer'),
  ('resume_task', 'task_id bigint, reason text', 'boolean'), ('resume_task', 'task_ids bigint[], reason text', 'integer'),
  ('retry_task', 'task_id bigint, reason text', 'boolean'), ('retry_task', 'task_ids bigint[], reason text', 'integer'),
  ('cancel_step', 'task_id bigint, step_name text, reason text', 'boolean'), ('retry_step', 'task_id bigint, step_name text, reason text', 'boolean'),
  ('skip_step', 'task_id bigint, step_name text, reason text', 'boolean'), ('reset_step', 'task_id bigint, step_name text, reason text', 'boolean'),
  ('resolve_step_manually', 'task_id bigint, step_name text, result jsonb, reason text', 'boolean'),
  ('resolve_task_manually', 'task_id bigint, reason text', 'boolean'), ('rerun_task_from', 'task_id bigint, step_name text, reason text', 'boolean'),
  ('annotate_task', 'task_id bigint, type text, annotation jsonb', 'void'),
  ('pause_tasks', 'namespace text, name text, reason text', 'boolean'), ('resume_tasks', 'namespace text, name text, reason text', 'boolean'),
  ('redrive', 'namespace text, name text, step_name text, category text, sqlstate text, failed_since timestamp with time zone, failed_before timestamp with time zone, max_tasks integer, reason text', 'integer'),
  ('note_dead_letter', 'task_id bigint, step_name text, status text, note text', 'bigint'),
  ('wait_for_task', 'task_id bigint, timeout interval', 'tasker.task_state'),
  ('raise_retryable', 'message text, retry_after interval, max_attempts integer, context jsonb', 'jsonb'),
  ('raise_permanent', 'message text, reason text, context jsonb', 'jsonb'),
  ('calculate_dependency_levels', 'task_id bigint', 'TABLE(step_name text, dependency_level integer)'),
  ('diagnose_task', 'task_id bigint', 'TABLE(step_name text, severity text, finding text, evidence jsonb, advice text, doc text)'),
  ('diagnose_step', 'task_id bigint, step_name text', 'TABLE(step_name text, severity text, finding text, evidence jsonb, advice text, doc text)'),
  ('explain_task', 'task_id bigint', 'text'),
  ('analyze_template', 'namespace text, name text, version text', 'jsonb'), ('analyze_task', 'task_id bigint', 'jsonb'),
  ('forecast_task', 'task_id bigint', 'TABLE(remaining_steps integer, p50 timestamp with time zone, p95 timestamp with time zone, samples integer, basis text, confidence text, why text)'),
  ('dashboard_html', 'task_id bigint, refresh_seconds integer', 'text'), ('dashboard_data', 'task_id bigint, oldest_task bigint', 'jsonb'),
  ('task_diagram', 'task_id bigint, format text', 'text'), ('template_diagram', 'namespace text, name text, version text, format text', 'text'),
  ('health_ready', '', 'TABLE(status text, checks jsonb, reasons text[])'), ('health_live', '', 'TABLE(status text, checks jsonb, reasons text[])'),
  ('health_status', '', 'TABLE(status text, checks jsonb, reasons text[])'),
  ('grant_access', 'role regrole, level text, queue text', 'void'), ('revoke_access', 'role regrole, level text, queue text', 'void'),
  ('grant_task_definition', 'namespace text, name text, role regrole', 'void'), ('revoke_task_definition', 'namespace text, name text, role regrole', 'void'),
  ('trip_breaker', 'system text, reason text, open_for interval', 'boolean'), ('reset_breaker', 'system text, reason text', 'boolean'),
  ('configure_breaker', 'system text, failure_threshold integer, failure_window interval, open_time interval, max_open_time interval', 'boolean'),
  ('schedule_task', 'schedule_name text, cron text, namespace text, name text, context jsonb, timezone text, overlap text, catch_up interval, jitter interval', 'bigint'),
  ('unschedule_task', 'schedule_name text', 'void'), ('pause_schedule', 'schedule_name text, reason text', 'boolean'), ('resume_schedule', 'schedule_name text', 'boolean'),
  ('run_schedule_now', 'schedule_name text', 'bigint'), ('backfill_schedule', 'schedule_name text, from_time timestamp with time zone, to_time timestamp with time zone', 'integer'),
  ('subscribe', 'subscription_name text, events text[], kind text, target text, namespace text, name text, path text, max_attempts integer', 'bigint'), ('unsubscribe', 'subscription_name text', 'void'),
  ('pause_subscription', 'subscription_name text, reason text', 'boolean'), ('resume_subscription', 'subscription_name text, reason text', 'boolean'),
  ('take_events', 'subscription_name text, max_events integer, OUT event_id bigint, OUT event text, OUT task_id bigint, OUT step_name text, OUT occurred_at timestamp with time zone, OUT payload jsonb', 'SETOF record'),
  ('tick_schedules', '', 'integer'), ('install_cron_tick', 'database text', 'bigint'),
  ('cron_fire_times', 'cron text, timezone text, after timestamp with time zone, count integer', 'SETOF timestamp with time zone'),
  ('release_hold', 'reason text', 'boolean')$$, 'functions');
SELECT is(count(*), 1::bigint, 'CALL run_task(bigint, boolean)') FROM routines WHERE name = 'run_task' AND prokind = 'p' AND oid::regprocedure::text = 'tasker.run_task(bigint,boolean)';
SELECT results_eq(format('SELECT n COLLATE "default" FROM pg_proc, unnest(proargnames, proargmodes) AS a (n, m) WHERE oid = %L::regprocedure AND m = ''t''', f),
  ARRAY['task_id', 'step_name', 'current_state', 'dependencies_satisfied', 'retry_eligible', 'ready_for_execution', 'last_failure_at', 'next_retry_at', 'total_parents',
    'completed_parents', 'attempts', 'retry_limit', 'backoff_request_seconds', 'last_attempted_at', 'blocking_reason', 'ready_in'], 'columns of ' || f)
FROM unnest(ARRAY['tasker.get_step_readiness_status(bigint,text[])', 'tasker.get_step_readiness_status_batch(bigint[])']) AS f;
SELECT results_eq(format('SELECT n COLLATE "default" FROM pg_proc, unnest(proargnames, proargmodes) AS a (n, m) WHERE oid = %L::regprocedure AND m = ''t''', f),
  ARRAY['task_id', 'named_task_id', 'status', 'total_steps', 'pending_steps', 'in_progress_steps', 'completed_steps', 'failed_steps', 'cancelled_steps', 'ready_steps',
    'execution_status', 'recommended_action', 'completion_percentage', 'health_status'], 'columns of ' || f)
FROM unnest(ARRAY['tasker.get_task_execution_context(bigint)', 'tasker.get_task_execution_contexts_batch(bigint[])']) AS f;
SELECT enum_has_labels('tasker', 'task_state', ARRAY['pending', 'in_progress', 'complete', 'error', 'cancelled', 'resolved_manually']);
SELECT enum_has_labels('tasker', 'step_state', ARRAY['pending', 'in_progress', 'complete', 'error', 'cancelled', 'resolved_manually', 'skipped']);

-- ---- and nothing more is open ---------------------------------------------------------------------------------

SELECT is_empty('SELECT oid::regprocedure FROM routines WHERE prosecdef', 'no function is SECURITY DEFINER');
SELECT is_empty('SELECT oid::regprocedure FROM routines JOIN pg_proc AS p USING (oid) WHERE p.prolang = (SELECT l.oid FROM pg_language AS l WHERE l.lanname = ''sql'')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE ''search_path=pg_catalog, pg_temp%'')', 'every SQL function pins its search_path');
SELECT is_empty($$SELECT what FROM (
    SELECT 'schema tasker', x.grantee FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS x WHERE n.nspname = 'tasker'
    UNION ALL SELECT w.fdwname::text, x.grantee FROM pg_foreign_data_wrapper AS w, aclexplode(coalesce(w.fdwacl, acldefault('F', w.fdwowner))) AS x WHERE w.fdwname = 'tasker_http'
    UNION ALL SELECT r.oid::regprocedure::text, x.grantee FROM routines AS r, aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) AS x
    UNION ALL SELECT r.name, x.grantee FROM relations AS r, aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) AS x
    UNION ALL SELECT a.attrelid::regclass || '.' || a.attname, x.grantee FROM pg_attribute AS a JOIN relations AS r ON r.oid = a.attrelid, aclexplode(a.attacl) AS x
    UNION ALL SELECT t.typname::text, x.grantee FROM pg_type AS t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) AS x
      WHERE t.typnamespace = 'tasker'::regnamespace AND t.typelem = 0 AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class AS c WHERE c.oid = t.typrelid))) AS g (what, grantee)
  WHERE g.grantee = 0$$, 'PUBLIC has nothing');
SELECT is_empty($$SELECT r.name, x.grantee::regrole, x.privilege_type FROM relations AS r, aclexplode(r.relacl) AS x
  WHERE x.grantee <> r.relowner AND (x.privilege_type <> 'SELECT' OR x.is_grantable)$$, 'nobody but the owner has more than SELECT on a table, view or sequence');
SELECT is_empty($$SELECT a.attrelid::regclass, a.attname, x.grantee::regrole FROM pg_attribute AS a JOIN relations AS r ON r.oid = a.attrelid, aclexplode(a.attacl) AS x
  WHERE x.privilege_type <> 'SELECT' OR x.is_grantable$$, 'nor on a column');
SELECT is_empty($$SELECT r.name FROM relations AS r WHERE r.relkind = 'S' AND EXISTS (SELECT FROM aclexplode(r.relacl) AS x WHERE x.grantee <> r.relowner)$$, 'nobody has a sequence');

CREATE TEMP TABLE payload (name text, columns text[]);
INSERT INTO payload VALUES ('tasks', '{context}'), ('workflow_steps', '{result,error}'), ('task_moves', '{metadata}'), ('step_moves', '{metadata}'),
  ('task_annotations', '{annotation}'), ('dead_letter_notes', '{note}'), ('schedule_rows', '{context}'), ('event_outbox', '{result}'), ('signals', '{payload}'), ('leases', '{claim_token}');
SELECT is_empty($$SELECT r.name, x.grantee::regrole FROM payload AS p JOIN relations AS r USING (name), aclexplode(r.relacl) AS x WHERE x.grantee <> r.relowner$$,
  'tables with payloads are granted by column only');
SELECT is_empty($$SELECT r.name, a.attname FROM payload AS p JOIN relations AS r USING (name) JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attname = ANY (p.columns)
  WHERE a.attacl IS NOT NULL$$, 'and nobody has the payload columns');
SELECT set_eq($$SELECT DISTINCT a.name, a.hidden_columns FROM tasker.access_rules() AS a WHERE a.hidden_columns <> '{}'$$, 'SELECT name, columns FROM payload', 'which the rules say too');

SELECT is_empty($$SELECT r.name FROM relations AS r WHERE r.relkind = 'r' AND NOT r.relrowsecurity
  AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = r.oid AND a.attname IN ('task_id', 'owner') AND NOT a.attisdropped)$$, 'row-level security on every table that belongs to an owner');
SELECT is_empty($$SELECT r.name FROM relations AS r WHERE r.relrowsecurity
  AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = r.oid AND p.polcmd = 'r' AND p.polroles = '{0}')$$, 'each with a policy for SELECT');
SELECT is_empty($$SELECT p.polrelid::regclass FROM pg_policy AS p JOIN relations AS r ON r.oid = p.polrelid WHERE p.polcmd <> 'r'$$, 'and none for writing');
SELECT is_empty($$SELECT name FROM relations WHERE relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)$$, 'every view runs with the rights of its reader');
SELECT is_empty($$SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger AS t JOIN relations AS r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal$$, 'no triggers');
SELECT is_empty($$SELECT c.conrelid::regclass, c.conname FROM pg_constraint AS c JOIN relations AS r ON r.oid = c.conrelid
  WHERE c.contype = 'f' AND r.name IN ('tasks', 'workflow_steps', 'task_moves', 'step_moves', 'timers')$$, 'no foreign keys on hot tables');

-- ---- levels ---------------------------------------------------------------------------------------------------

SELECT set_eq('SELECT DISTINCT name FROM tasker.access_rules() WHERE kind = ''routine''', 'SELECT DISTINCT name FROM routines WHERE name <> ''announce''',
  'the rules name every routine but those of the extension owner alone');
SELECT set_eq('SELECT DISTINCT name FROM tasker.access_rules() WHERE kind = ''relation''', 'SELECT name FROM relations WHERE relkind IN (''r'', ''v'')', 'every table and view');
SELECT set_eq('SELECT DISTINCT level FROM tasker.access_rules()', ARRAY['viewer', 'monitor', 'submitter', 'author', 'worker', 'operator', 'admin'], 'and every level has something');
SELECT results_eq('SELECT role, level FROM tasker.access_grants', $$VALUES ('pg_monitor'::regrole, 'monitor')$$, 'pg_monitor has level monitor from the start, and nobody else anything');
SELECT is_empty($$SELECT a.name FROM tasker.access_rules() AS a WHERE a.level = 'monitor' AND a.kind = 'routine'
  AND EXISTS (SELECT FROM routines AS r WHERE r.name = a.name AND NOT has_function_privilege('pg_monitor', r.oid, 'EXECUTE'))$$, 'pg_monitor may call what the rules give it');
SELECT is_empty($$SELECT r.oid::regprocedure FROM routines AS r WHERE has_function_privilege('pg_monitor', r.oid, 'EXECUTE')
  AND r.name NOT IN (SELECT a.name FROM tasker.access_rules() AS a WHERE a.level = 'monitor')$$, 'and nothing else');

-- ---- every object says what it is -----------------------------------------------------------------------------

SELECT is_empty('SELECT oid::regprocedure FROM routines WHERE obj_description(oid, ''pg_proc'') IS NULL', 'comments on functions');
SELECT is_empty('SELECT name FROM relations AS r WHERE obj_description(oid, ''pg_class'') IS NULL
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = r.oid AND d.deptype = ''i'')', 'on tables, views and sequences');
SELECT is_empty($$SELECT t.typname FROM pg_type AS t WHERE t.typnamespace = 'tasker'::regnamespace AND t.typtype IN ('e', 'c', 'd') AND obj_description(t.oid, 'pg_type') IS NULL
  AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class AS c WHERE c.oid = t.typrelid))$$, 'on types');
SELECT isnt_empty('SELECT 1 FROM pg_foreign_data_wrapper WHERE fdwname = ''tasker_http'' AND obj_description(oid, ''pg_foreign_data_wrapper'') IS NOT NULL', 'on the wrapper');
SELECT isnt_empty('SELECT 1 FROM pg_namespace WHERE nspname = ''tasker'' AND obj_description(oid, ''pg_namespace'') IS NOT NULL', 'on the schema');

-- ---- a dump keeps all but the home row and what a dispatcher saw last ----------------------------------------

SELECT set_eq($$SELECT c.relname::text FROM pg_extension AS e, unnest(e.extconfig) AS o JOIN pg_class AS c ON c.oid = o WHERE e.extname = 'tasker'$$,
  'SELECT name FROM relations WHERE relkind IN (''r'', ''S'') AND name NOT IN (''home'', ''retention_marks'')', 'tables and sequences that pg_dump keeps');

SELECT * FROM finish();
ROLLBACK;
