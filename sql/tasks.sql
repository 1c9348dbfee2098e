-- Creating tasks: every argument, keys, owners, and what is refused. Tasks are for a far-off day, so that none of them runs.
\set SHOW_CONTEXT never
CREATE ROLE regress_tasks LOGIN;
CREATE ROLE regress_team NOLOGIN;
CREATE ROLE regress_member LOGIN IN ROLE regress_team;
CREATE ROLE regress_stranger LOGIN;
SELECT tasker.grant_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_tasks', 'regress_team', 'regress_stranger']) AS r \g /dev/null
SELECT tasker.grant_access('regress_tasks', 'author') \g /dev/null
CREATE SCHEMA tasks AUTHORIZATION regress_tasks;
GRANT USAGE ON SCHEMA tasks TO PUBLIC;
SET SESSION AUTHORIZATION regress_tasks;

-- SQLSTATE, message, DETAIL and HINT of a refused statement; ids are not shown
CREATE FUNCTION tasks.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE statement;
  RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', state || ' ' || regexp_replace(message, 'task \d+', 'task N'), 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
END
$$;
SELECT tasker.define_task(jsonb_build_object('namespace', 'tasks', 'name', n.name, 'version', n.version, 'run_as', n.run_as, 'deadline_seconds', n.deadline,
  'steps', '[{"name": "a", "handler": {"type": "noop"}}, {"name": "b", "handler": {"type": "noop"}, "depends_on": ["a"], "skippable": true},
    {"name": "c", "handler": {"type": "noop"}, "depends_on": ["a", "b"]}, {"name": "d", "handler": {"type": "noop"}, "skippable": true}]'::jsonb))
FROM (VALUES ('plain', '1.0.0', 'invoker', 1e8), ('plain', '1.1.0', 'invoker', 1e8), ('other', '1.0.0', 'invoker', 60)) AS n (name, version, run_as, deadline) \g /dev/null
SELECT tasker.define_task('{"namespace": "tasks", "name": "definers", "run_as": "definer", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SELECT tasker.define_task('{"namespace": "tasks", "name": "optional", "steps": [{"name": "a", "handler": {"type": "sql", "query": "SELECT 1/0"}, "skippable": true},
  {"name": "b", "handler": {"type": "sql", "query": "SELECT 1/0"}, "skippable": true, "depends_on": ["a"]}]}') \g /dev/null
\pset format unaligned
\pset null '(null)'

-- Every argument, by position and by name
SELECT tasker.create_task('tasks', 'plain', '{"order": 1}', '1.0.0', 7, '2999-01-01 00:00:00+00', 'all arguments', 'alice', 'shop', 'because', '{red,green,red}', '{b,b}', 'corr-1', 3600) AS id \gset
\set first :id
SELECT version, state, paused, owner, created_by, priority, context, total_steps, completed_steps, attempts, run_at = '2999-01-01 00:00:00+00' AS run_at, started_at, finished_at,
  deadline_at - run_at AS deadline, correlation_id, idempotency_key, tags FROM tasker.task_status WHERE task_id = :id;
SELECT initiator, source_system, reason, bypass_steps FROM tasker.tasks WHERE task_id = :id;
SELECT step_name, state, attempts, depends_on, result, blocking_reason FROM tasker.step_status WHERE task_id = :id ORDER BY step_name;
SELECT step_name, from_state, to_state, metadata - 'actor' AS metadata, metadata ->> 'actor' AS actor FROM tasker.task_history WHERE task_id = :id;
SELECT label, kind FROM tasker.task_labels WHERE task_id = :id ORDER BY label;
SELECT tasker.create_task(deadline_seconds => 3600, correlation_id => 'corr-1', bypass_steps => '{b,b}', tags => '{red,green,red}', reason => 'because', source_system => 'shop', initiator => 'alice',
  idempotency_key => 'all arguments', run_at => '2999-01-01 00:00:00+00', priority => 7, version => '1.0.0', context => '{"order": 1}', name => 'plain', namespace => 'tasks') = :id AS same;
-- Defaults; and a rolled back task never was
BEGIN;
SELECT tasker.create_task('tasks', 'plain', idempotency_key => 'rolled back') AS id \gset
SELECT version, state, paused, priority, context, total_steps, run_at = created_at AS now, created_at >= now() AS later, deadline_at - run_at AS deadline, correlation_id ~ '^tsk_[0-9a-f]{32}$' AS correlated,
  tags FROM tasker.task_status WHERE task_id = :id;
SELECT initiator, source_system, reason, bypass_steps FROM tasker.tasks WHERE task_id = :id;
SAVEPOINT s;
SELECT tasker.create_task('tasks', 'other', idempotency_key => 'rolled back') AS other \gset
ROLLBACK TO s;
SELECT count(*) FROM tasker.task_status WHERE task_id IN (:id, :other);
ROLLBACK;
SELECT count(*) FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.create_task('tasks', 'plain', idempotency_key => 'rolled back', run_at => '2999-01-01') > :id AS another;
BEGIN READ ONLY;
SELECT left(tasks.refused($$SELECT tasker.create_task('tasks', 'plain')$$), 5), left(tasks.refused($$SELECT * FROM tasker.create_tasks('tasks', 'plain', '{"{}"}')$$), 5),
  left(tasks.refused(format('SELECT tasker.annotate_task(%s, %L, %L)', :first, 'x', '{}')), 5);
ROLLBACK;

-- Many at once, in the order of their contexts
SELECT array_agg(id ORDER BY n) AS ids FROM tasker.create_tasks('tasks', 'plain', ARRAY['{"n": 3}', '{"n": 1}', '{"n": 2}']::jsonb[], priority => 2, run_at => '2999-01-01',
  idempotency_keys => '{k3,NULL,k2}', tags => '{bulk}', correlation_id => 'corr-2') WITH ORDINALITY AS c (id, n) \gset
SELECT u.n, u.id > lag(u.id) OVER (ORDER BY u.n) AS ascending, t.context, t.idempotency_key, t.priority, t.tags, t.correlation_id, t.version
FROM unnest(:'ids'::bigint[]) WITH ORDINALITY AS u (id, n) JOIN tasker.task_status AS t ON t.task_id = u.id ORDER BY u.n;
SELECT count(*) FROM tasker.create_tasks('tasks', 'plain', '{}');

-- Keys: one task per owner, namespace, name and key, whatever the version and the context
SELECT tasker.create_task('tasks', 'plain', '{"n": 1}', idempotency_key => 'once', run_at => '2999-01-01') AS id \gset
SELECT tasker.create_task('tasks', 'plain', '{"n": 2}', idempotency_key => 'once', version => '1.0.0', priority => 9) = :id AS again,
  tasker.create_task('tasks', 'other', idempotency_key => 'once', run_at => '2999-01-01') = :id AS other_name;
SELECT version, context, priority FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.cancel_task(:id), tasker.create_task('tasks', 'plain', idempotency_key => 'once') = :id AS after_its_end;
-- In bulk: keys that are there, keys that come twice in the call, and none; the first of two with one key is made
SELECT array_agg(id ORDER BY n) AS ids FROM tasker.create_tasks('tasks', 'plain', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4}', '{"n": 5}', '{"n": 6}']::jsonb[], run_at => '2999-01-01',
  idempotency_keys => ARRAY['twice', 'once', 'twice', NULL, NULL, 'k2']) WITH ORDINALITY AS c (id, n) \gset
SELECT u.n, array_position(:'ids'::bigint[], u.id) AS first, u.id = :id AS once, t.context, t.idempotency_key
FROM unnest(:'ids'::bigint[]) WITH ORDINALITY AS u (id, n) JOIN tasker.task_status AS t ON t.task_id = u.id ORDER BY u.n;
SET SESSION AUTHORIZATION regress_stranger;
SELECT tasker.create_task('tasks', 'plain', idempotency_key => 'once', run_at => '2999-01-01') = :id AS same;
SELECT count(*) AS seen, count(*) FILTER (WHERE owner = 'regress_stranger'::regrole) AS own FROM tasker.task_status WHERE namespace = 'tasks';
SELECT tasks.refused(format('SELECT tasker.annotate_task(%s, %L, %L)', :id, 'note', '{}'));
SELECT tasks.refused(format('SELECT tasker.wait_for_task(%s)', :id));
SET SESSION AUTHORIZATION regress_tasks;

-- Notes
SELECT tasker.annotate_task(:id, 'reviewed', '{"by": "bob"}'), tasker.annotate_task(:id, 'reviewed', '[]') \g /dev/null
SELECT type, annotation, created_by FROM tasker.task_annotation_list WHERE task_id = :id ORDER BY task_annotation_id;
SELECT tasks.refused(format('SELECT tasker.annotate_task(%s, %s, %L)', a.id, a.type, '{}')) FROM (VALUES (-1, '''x'''), (:id, '''a b'''), (:id, 'repeat(''x'', 65)'), (:id, 'NULL')) AS a (id, type);

-- Bypassed steps are skipped at once; a task of nothing else is complete
SELECT tasker.create_task('tasks', 'optional', bypass_steps => '{b,a}') AS id \gset
SELECT tasker.wait_for_task(:id, '30 s');
SELECT string_agg(step_name || ' ' || state, ', ' ORDER BY step_name) AS steps FROM tasker.step_status WHERE task_id = :id;
SELECT state, result, completion_percentage FROM tasker.task_status WHERE task_id = :id;

-- Bad arguments
\pset tuples_only on
SELECT tasks.refused($$SELECT tasker.create_task('tasks', 'plain', $$ || a || ')') FROM unnest(ARRAY[
  '''[]''', 'NULL', 'priority => NULL', 'priority => 1000001', 'run_at => NULL', 'run_at => ''infinity''', 'run_at => ''-infinity''', 'version => ''9.9.9''', 'version => ''latest''',
  'initiator => repeat(''x'', 129)', 'source_system => repeat(''x'', 129)', 'reason => repeat(''x'', 1025)', 'correlation_id => repeat(''x'', 129)', 'idempotency_key => repeat(''x'', 513)',
  'tags => ARRAY[repeat(''x'', 129)]', 'tags => ARRAY[''a'', NULL]', 'tags => array_fill(''t''::text, ARRAY[65])', 'bypass_steps => ''{b,z}''', 'bypass_steps => ''{a}''', 'bypass_steps => ''{NULL}''',
  'deadline_seconds => 0', 'deadline_seconds => -1.5', 'deadline_seconds => ''NaN''', 'deadline_seconds => ''infinity''', 'deadline_seconds => 315360001']) AS a;
SELECT tasks.refused('SELECT tasker.create_task(' || a || ')') FROM unnest(ARRAY['NULL, ''plain''', '''tasks'', NULL', '''tasks'', ''no_such''', '''no_such'', ''plain''']) AS a;
SELECT tasks.refused($$SELECT tasker.create_tasks('tasks', 'plain', $$ || a || ')') FROM unnest(ARRAY['''{NULL}''', '''{"{}","{}"}'', idempotency_keys => ''{a}''', '''{"{}","[]"}''']) AS a;

-- Owner: current_user, if session_user may be him
SET SESSION AUTHORIZATION regress_member;
SET ROLE regress_team;
SET client_min_messages = error;
SELECT tasker.create_task('tasks', 'plain', idempotency_key => 'team', run_at => '2999-01-01') AS id \gset
RESET client_min_messages;
-- A role without LOGIN is warned of and waits, before PostgreSQL 17
SELECT DISTINCT split_part(blocking_reason, ':', 1) = CASE WHEN current_setting('server_version_num')::integer < 170000 THEN 'owner_cannot_connect' ELSE 'run_at' END AS waits
FROM tasker.step_status WHERE task_id = :id AND step_name IN ('a', 'd');
RESET ROLE;
SELECT owner, created_by FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.pause_task(:id), tasker.cancel_task(:id);
SET SESSION AUTHORIZATION regress_tasks;
CREATE FUNCTION tasks.wrapper(name text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN tasker.create_task('tasks', name, run_at => '2999-01-01');
SET SESSION AUTHORIZATION regress_stranger;
SELECT tasks.refused($$SELECT tasks.wrapper('plain')$$);
-- run_as definer: through the definer's own function, or with a grant
SELECT tasks.wrapper('definers') AS id \gset
SELECT owner, created_by, context FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.cancel_task(:id);
SELECT tasks.refused($$SELECT tasker.create_task('tasks', 'definers')$$);
SELECT tasks.refused($$SELECT tasker.grant_task_definition('tasks', 'definers', 'regress_stranger')$$);
SET SESSION AUTHORIZATION regress_tasks;
SELECT tasker.grant_task_definition('tasks', 'definers', 'regress_stranger') \g /dev/null
SELECT tasks.refused($$SELECT tasker.grant_task_definition('tasks', 'no_such', 'regress_stranger')$$);
SET SESSION AUTHORIZATION regress_stranger;
SELECT tasker.create_task('tasks', 'definers') AS id \gset
SELECT tasker.wait_for_task(:id, '30 s');
SELECT owner, created_by, state FROM tasker.task_status WHERE task_id = :id;
SET SESSION AUTHORIZATION regress_tasks;
SELECT owner, created_by FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.revoke_task_definition('tasks', 'definers', 'regress_stranger') \g /dev/null
SET SESSION AUTHORIZATION regress_stranger;
SELECT tasks.refused($$SELECT tasker.create_task('tasks', 'definers')$$);
-- A superuser owns no tasks, unless that is asked for; he makes them for others
RESET SESSION AUTHORIZATION;
SELECT tasks.refused($$SELECT tasker.create_task('tasks', 'plain')$$);
BEGIN;
SET LOCAL tasker.allow_superuser_tasks = on;
SELECT tasker.create_task('tasks', 'plain', run_at => '2999-01-01') AS id \gset
SELECT owner = session_user::regrole, created_by = session_user::regrole FROM tasker.tasks WHERE task_id = :id;
ROLLBACK;
SET ROLE regress_tasks;
SELECT tasks.refused($$SET tasker.allow_superuser_tasks = on$$);
SELECT tasker.create_task('tasks', 'plain', run_at => '2999-01-01', idempotency_key => 'for him') AS id \gset
RESET ROLE;
SELECT owner, created_by = session_user::regrole FROM tasker.tasks WHERE task_id = :id;
-- Without CONNECT the task is made, and waits
SELECT current_database() AS db \gset
BEGIN;
REVOKE CONNECT ON DATABASE :"db" FROM PUBLIC;
SET SESSION AUTHORIZATION regress_tasks;
SELECT tasker.create_task('tasks', 'plain') > 0;
ROLLBACK;

-- Waiting
SET SESSION AUTHORIZATION regress_tasks;
SELECT tasker.wait_for_task(:id, '0'), tasker.wait_for_task(:id, '10 ms'), tasker.wait_for_task(:id, '-1 h');
BEGIN;
SELECT tasks.refused(format('SELECT tasker.wait_for_task(%s)', tasker.create_task('tasks', 'plain')));
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tasks.refused(format('SELECT tasker.wait_for_task(%s)', :id));
ROLLBACK;
SELECT tasks.refused('SELECT tasker.wait_for_task(-1)'), tasks.refused('SELECT tasker.wait_for_task(NULL)');
SELECT tasker.cancel_task(:id), tasker.wait_for_task(:id);

SELECT tasker.cancel_task(array_agg(task_id)) > 0 FROM tasker.task_status WHERE namespace = 'tasks' AND state = 'pending';
RESET SESSION AUTHORIZATION;
SELECT tasker.cancel_task(array_agg(task_id)) > 0 FROM tasker.task_status WHERE namespace = 'tasks' AND state = 'pending';
SELECT tasker.revoke_access(r::regrole, 'submitter') FROM unnest(ARRAY['regress_tasks', 'regress_team', 'regress_stranger']) AS r \g /dev/null
SELECT tasker.revoke_access('regress_tasks', 'author') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_tasks, regress_team, regress_member, regress_stranger CASCADE;
DROP ROLE regress_tasks, regress_team, regress_member, regress_stranger;
