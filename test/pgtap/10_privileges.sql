-- Who sees what, and that nobody writes tasker's tables.
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE ROLE pt_alice LOGIN;
CREATE ROLE pt_bob LOGIN;
CREATE ROLE pt_viewer LOGIN;      -- viewer, and a member of pt_alice
CREATE ROLE pt_noinherit LOGIN NOINHERIT;
CREATE ROLE pt_monitor LOGIN;     -- by pg_monitor
CREATE ROLE pt_operator LOGIN;
CREATE ROLE pt_worker LOGIN;
CREATE ROLE pt_admin LOGIN;
CREATE ROLE pt_nobody LOGIN;
GRANT pt_alice TO pt_viewer;
GRANT pt_alice TO pt_noinherit;
GRANT pg_monitor TO pt_monitor;
SELECT tasker.grant_access(r, l) FROM unnest(ARRAY['pt_alice', 'pt_bob']::regrole[]) AS r CROSS JOIN unnest(ARRAY['author', 'submitter']) AS l;
SELECT tasker.grant_access('pt_viewer', 'viewer'), tasker.grant_access('pt_noinherit', 'viewer'), tasker.grant_access('pt_operator', 'operator'),
  tasker.grant_access('pt_worker', 'worker', 'mail'), tasker.grant_access('pt_admin', 'admin');

-- Two tasks of alice's, one finished in error and one waiting, with everything that can hang on a task
SET SESSION AUTHORIZATION pt_alice;
SELECT tasker.define_task('{"name": "pt", "steps": [{"name": "load", "handler": {"type": "sql", "query": "SELECT $1 -> ''secret''"}},
  {"name": "fail", "depends_on": ["load"], "handler": {"type": "sql", "query": "SELECT tasker.raise_permanent(''no'', context => ''{\"card\": 4242}'')"}}]}') AS named_task_id \gset
SELECT tasker.create_task('default', 'pt', '{"secret": "s1"}', idempotency_key => 'k', tags => '{t}', correlation_id => 'c') AS done \gset
CALL tasker.run_task(:done);
SELECT tasker.annotate_task(:done, 'note', '"secret"');
SELECT tasker.create_task('default', 'pt', '{"secret": "s2"}', run_at => now() + interval '1 day') AS waiting \gset
SET SESSION AUTHORIZATION pt_bob;
SELECT tasker.create_task('default', 'pt', '{"secret": "s3"}', run_at => now() + interval '1 day') AS of_bob \gset

-- ---- the owner ------------------------------------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_alice;
SELECT results_eq('SELECT task_id FROM tasker.task_status ORDER BY 1', ARRAY[:done, :waiting]::bigint[], 'alice sees her tasks');
SELECT results_eq(format('SELECT context, result FROM tasker.task_status WHERE task_id = %s', :done), $$VALUES ('{"secret": "s1"}'::jsonb, '{"fail": null}'::jsonb)$$, 'with context and result');
SELECT results_eq(format('SELECT step_name, result, error #>> ''{context,card}'' FROM tasker.step_status WHERE task_id = %s ORDER BY 1', :done),
  $$VALUES ('fail', NULL::jsonb, '4242'), ('load', '"s1"', NULL)$$, 'results and error contexts of her steps');
SELECT is((SELECT h.metadata #>> '{error,context,card}' FROM tasker.task_history AS h WHERE h.task_id = :done AND h.to_state = 'error' AND h.step_name = 'fail'), '4242', 'the whole history');
SELECT results_eq('SELECT annotation FROM tasker.task_annotation_list', $$VALUES ('"secret"'::jsonb)$$, 'her notes');
SELECT results_eq('SELECT task_id, step_name FROM tasker.dead_letters', format('VALUES (%s::bigint, ''fail'')', :done), 'her dead letters');
SELECT tasker.note_dead_letter(:done, 'fail', 'wont_fix', 'secret') AS note \gset
SELECT results_eq('SELECT status, note FROM tasker.dead_letters', $$VALUES ('wont_fix', 'secret')$$, 'what she notes on them');
SELECT results_eq('SELECT dead_letter_note_id, note FROM tasker.dead_letter_note_list', format('VALUES (%s::bigint, ''secret'')', :note), 'all her notes');
SELECT ok(NOT tasker.has_open_dead_letter(:done), 'nothing is open');
SELECT throws_ok(format('SELECT tasker.%s()', f), '42501', NULL, f || ' is not hers') FROM unnest(ARRAY['pause_tasks', 'resume_tasks']) AS f;
SELECT lives_ok('SELECT * FROM tasker.paused_scopes', 'what is paused she may know');
SELECT is((SELECT count(*) FROM tasker.task_labels), 2::bigint, 'her labels');
SELECT is((SELECT count(*) FROM tasker.idempotency_keys), 1::bigint, 'and keys');
SELECT is((SELECT count(*) FROM tasker.timers), 1::bigint, 'and timers');
SELECT throws_ok(format('SELECT %I FROM tasker.%I', c, t), '42501', NULL, format('%s.%s by no other way', t, c))
FROM (VALUES ('tasks', 'context'), ('workflow_steps', 'result'), ('workflow_steps', 'error'), ('task_moves', 'metadata'), ('step_moves', 'metadata'),
  ('task_annotations', 'annotation'), ('dead_letter_notes', 'note'), ('schedule_rows', 'context')) AS x (t, c);
SELECT throws_ok('SELECT * FROM tasker.access_grants', '42501', NULL, 'who else has access is not hers to see');
SELECT throws_ok('SELECT * FROM tasker.get_system_health_counts()', '42501', NULL, 'nor the whole system');
SELECT throws_ok('SELECT * FROM tasker.workers', '42501', NULL, 'nor the workers');
SELECT throws_ok('SELECT tasker.release_hold(''x'')', '42501', NULL, 'holds are not hers to release');
SELECT throws_ok('SELECT tasker.announce()', '42501', NULL, 'the extension''s own functions are nobody''s');

-- ---- somebody else --------------------------------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_bob;
SELECT results_eq('SELECT task_id FROM tasker.task_status', ARRAY[:of_bob]::bigint[], 'bob sees only his');
SELECT is_empty(format('SELECT 1 FROM tasker.%I WHERE task_id IN (%s, %s)', t, :done, :waiting), 'nothing of alice''s in ' || t)
FROM unnest(ARRAY['tasks', 'workflow_steps', 'task_moves', 'step_moves', 'task_transitions', 'workflow_step_transitions', 'timers', 'task_labels', 'idempotency_keys', 'task_annotations',
  'task_status', 'step_status', 'ready_steps', 'blocked_steps', 'running_steps', 'dead_letters', 'task_history', 'step_dag_relationships', 'task_annotation_list', 'dead_letter_notes', 'dead_letter_note_list']) AS t;
SELECT ok(tasker.task_context(:done) IS NULL AND tasker.task_result(:done) IS NULL AND tasker.step_result(:done, 1, -1) IS NULL AND tasker.step_error(:done, 2, -1) IS NULL
  AND tasker.transition_metadata(:done, 0, -1, 10) IS NULL AND tasker.task_annotation(:done, 1) IS NULL AND tasker.step_blocking_reason(:waiting, 1, -1) IS NULL
  AND tasker.dead_letter_note(:done, 2, -1, :note) IS NULL AND tasker.has_open_dead_letter(:done) IS NULL AND tasker.waiting_descendants(:done, 1) IS NULL,
  'the payload functions say nothing');
SELECT is_empty(format('SELECT 1 FROM tasker.%s', f), f || ' gives no rows')
FROM unnest(ARRAY[format('get_step_readiness_status(%s)', :waiting), format('get_step_readiness_status_batch(ARRAY[%s, %s])', :done, :waiting),
  format('get_task_execution_context(%s)', :done), format('get_task_execution_contexts_batch(ARRAY[%s, %s])', :done, :waiting), format('calculate_dependency_levels(%s)', :done)]) AS f;
SELECT throws_ok(format('SELECT tasker.cancel_task(%s)', :waiting), '02000', format('task %s does not exist', :waiting), 'alice''s task is as unknown to bob');
SELECT throws_ok('SELECT tasker.cancel_task(99999999)', '02000', 'task 99999999 does not exist', 'as one that does not exist');
SELECT throws_ok(format('SELECT tasker.note_dead_letter(%s, ''fail'', ''open'')', :done), '02000', format('task %s does not exist', :done), 'to note something as well');
SELECT is(tasker.redrive(), 0, 'and redrive finds nothing of hers');
SELECT throws_ok(format('SELECT %s', f), '02000', format('task %s does not exist', :waiting), f || ' says so too')
FROM unnest(ARRAY[format('* FROM tasker.diagnose_task(%s)', :waiting), format('* FROM tasker.diagnose_step(%s, ''load'')', :waiting), format('* FROM tasker.diagnose_step(%s, ''nothing'')', :waiting),
  format('tasker.explain_task(%s)', :waiting)]) AS f;
SELECT results_eq('SELECT DISTINCT name FROM tasker.named_task_list WHERE name = ''pt''', ARRAY['pt'], 'definitions are for all to read');

-- ---- membership -----------------------------------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_viewer;
SELECT results_eq(format('SELECT task_id, context IS NOT NULL FROM tasker.task_status WHERE name = ''pt'' ORDER BY 1'),
  format('VALUES (%s::bigint, true), (%s::bigint, true)', :done, :waiting), 'a member of alice sees what she sees');
SELECT throws_ok('SELECT tasker.create_task(''default'', ''pt'')', '42501', NULL, 'viewing is not creating') WHERE NOT has_function_privilege('pt_alice', 'tasker.define_task(jsonb,boolean)', 'EXECUTE');
SET SESSION AUTHORIZATION pt_noinherit;
SELECT is_empty('SELECT 1 FROM tasker.task_status', 'a member that does not inherit sees nothing');
SET ROLE pt_alice;
SELECT is((SELECT count(*) FROM tasker.task_status), 2::bigint, 'until it takes the role');
RESET ROLE;
SELECT set_eq('SELECT unnest(tasker.visible_owners())', $$VALUES ('pt_noinherit'::regrole::oid)$$, 'visible_owners: whose privileges one has');
SET SESSION AUTHORIZATION pt_viewer;
SELECT set_eq('SELECT unnest(tasker.visible_owners())', $$VALUES ('pt_viewer'::regrole::oid), ('pt_alice'::regrole::oid)$$, 'with those of the roles it inherits from');

-- ---- a monitor ------------------------------------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_monitor;
SELECT results_eq('SELECT task_id FROM tasker.task_status WHERE name = ''pt'' ORDER BY 1', ARRAY[:done, :waiting, :of_bob]::bigint[], 'a monitor sees all tasks');
SELECT is_empty('SELECT 1 FROM tasker.task_status WHERE context IS NOT NULL OR result IS NOT NULL', 'without contexts and results');
SELECT is((SELECT t.error FROM tasker.task_status AS t WHERE t.task_id = :done), 'fail: no', 'with errors');
SELECT is_empty('SELECT 1 FROM tasker.step_status WHERE result IS NOT NULL', 'steps without results');
SELECT results_eq(format('SELECT error ->> ''message'', error ? ''context'' FROM tasker.step_status WHERE task_id = %s AND step_name = ''fail''', :done), $$VALUES ('no', false)$$,
  'errors without contexts');
SELECT is_empty('SELECT 1 FROM tasker.task_history WHERE metadata #> ''{error,context}'' IS NOT NULL', 'in the history too');
SELECT is_empty('SELECT 1 FROM tasker.task_annotation_list WHERE annotation IS NOT NULL', 'and notes without text');
SELECT results_eq(format('SELECT status, note, message, error ? ''context'' FROM tasker.dead_letters WHERE task_id = %s', :done), $$VALUES ('wont_fix', NULL, 'no', false)$$, 'on dead letters too');
SELECT is_empty('SELECT 1 FROM tasker.dead_letter_note_list WHERE note IS NOT NULL', 'and in their list');
SELECT throws_ok('SELECT tasker.' || f, '42501', NULL, f || ' is not a monitor''s') FROM unnest(ARRAY['pause_tasks()', 'resume_tasks()', 'redrive()', 'note_dead_letter(1, ''a'', ''open'')']) AS f;
SELECT is((SELECT count(*) FROM tasker.get_step_readiness_status(:waiting)), 2::bigint, 'readiness of all');
SELECT results_eq(format('SELECT d.step_name, d.finding FROM tasker.diagnose_task(%s) AS d', :done), $$VALUES ('fail', 'failed')$$, 'findings of all');
SELECT is_empty(format('SELECT 1 FROM tasker.diagnose_task(%s) AS d WHERE d.evidence::text || d.advice || tasker.explain_task(%s) ~ ''4242|secret''', :done, :done), 'without payloads');
SELECT is((SELECT count(*) FROM tasker.get_system_health_counts()), 1::bigint, 'health counts');
SELECT is((SELECT status IN ('healthy', 'degraded', 'unhealthy', 'held', 'standby') FROM tasker.health_ready()), true, 'health_ready');
SELECT is((SELECT status FROM tasker.health_live()), 'healthy', 'health_live');
SELECT is((SELECT status IN ('healthy', 'degraded', 'unhealthy', 'held', 'standby') FROM tasker.health_status()), true, 'health_status');
SELECT lives_ok('SELECT * FROM tasker.workers', 'workers');
SELECT is_empty('SELECT * FROM tasker.check()', 'check finds nothing');
SELECT throws_ok(format('SELECT tasker.cancel_task(%s)', :waiting), '42501', NULL, 'but no control');
SELECT throws_ok('SELECT tasker.grant_access(''pt_monitor'', ''admin'')', '42501', NULL, 'and no granting');

-- ---- an operator, a worker, an admin, nobody ------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_operator;
SELECT results_eq('SELECT context ->> ''secret'' FROM tasker.task_status WHERE name = ''pt'' ORDER BY task_id', ARRAY['s1', 's2', 's3'], 'an operator sees payloads');
SELECT is(tasker.pause_task(:of_bob, 'night'), true, 'and controls');
SELECT is((SELECT note FROM tasker.dead_letters WHERE task_id = :done), 'secret', 'and notes');
SELECT is(tasker.redrive('default', 'pt'), 1, 'and tries again what failed');
SELECT is(tasker.pause_tasks('default'), true, 'and pauses whole scopes');
SELECT is(tasker.resume_tasks('default'), true, 'and resumes them');
SELECT throws_ok('SELECT tasker.create_task(''default'', ''pt'')', '42501', NULL, 'but creates nothing');
SET SESSION AUTHORIZATION pt_worker;
SELECT throws_ok('SELECT 1 FROM tasker.task_status', '42501', NULL, 'a worker sees no tasks');
SELECT throws_ok('SELECT 1 FROM tasker.named_tasks', '42501', NULL, 'nor definitions');
SELECT throws_ok(format('SELECT * FROM tasker.diagnose_task(%s)', :done), '42501', NULL, 'nor why they fail');
SET SESSION AUTHORIZATION pt_nobody;
SELECT throws_ok('SELECT 1 FROM tasker.task_status', '42501', NULL, 'nobody sees the schema');
SELECT throws_ok('SELECT tasker.sees_all()', '42501', NULL, 'nor calls its functions');
SELECT throws_ok('CREATE FUNCTION pg_temp.f(s tasker.step_call) RETURNS jsonb LANGUAGE sql AS ''SELECT NULL::jsonb''', '42501', NULL, 'nor uses its types');

SET SESSION AUTHORIZATION pt_admin;
SELECT lives_ok('SELECT tasker.grant_access(''pt_nobody'', ''viewer'')', 'an admin grants');
SELECT throws_ok('SELECT tasker.grant_access(''pt_nobody'', ''king'')', '22023', NULL, 'levels that exist');
SELECT throws_ok('SELECT tasker.grant_access(''pt_nobody'', ''worker'')', '22023', NULL, 'a worker''s with a queue');
SELECT throws_ok('SELECT tasker.grant_access(''pt_nobody'', ''viewer'', ''mail'')', '22023', NULL, 'the others without');
SELECT throws_ok('SELECT tasker.grant_access(4000000000::oid::regrole, ''viewer'')', '42704', NULL, 'to roles that exist');
SET SESSION AUTHORIZATION pt_nobody;
SELECT is_empty('SELECT 1 FROM tasker.task_status', 'a viewer sees its own: nothing');
SELECT throws_ok('SELECT tasker.create_task(''default'', ''pt'')', '42501', NULL, 'and creates nothing');
SELECT throws_ok('SELECT tasker.grant_access(''pt_nobody'', ''admin'')', '42501', NULL, 'and grants nothing');

-- ---- revoking takes back what no other level needs ------------------------------------------------------------

SET SESSION AUTHORIZATION pt_admin;
SELECT lives_ok('SELECT tasker.grant_access(''pt_nobody'', ''submitter'')', 'viewer and submitter');
SELECT lives_ok('SELECT tasker.revoke_access(''pt_nobody'', ''viewer'')', 'without viewer');
SET SESSION AUTHORIZATION pt_nobody;
SELECT lives_ok('SELECT 1 FROM tasker.task_status', 'a submitter still reads');
SET SESSION AUTHORIZATION pt_admin;
SELECT lives_ok('SELECT tasker.revoke_access(''pt_nobody'', ''submitter'')', 'without any level');
RESET SESSION AUTHORIZATION;
SELECT is_empty($$SELECT 1 FROM pg_shdepend AS d WHERE d.refobjid = 'pt_nobody'::regrole AND d.deptype = 'a'$$, 'no privilege is left, so the role can be dropped');
SELECT lives_ok('DROP ROLE pt_nobody', 'and is');
GRANT INSERT ON tasker.tasks TO pt_bob;
GRANT SELECT ON tasker.workflow_steps TO pt_bob;
SELECT lives_ok('SELECT tasker.apply_access()', 'what was granted by hand');
SELECT ok(NOT has_table_privilege('pt_bob', 'tasker.tasks', 'INSERT') AND NOT has_column_privilege('pt_bob', 'tasker.workflow_steps', 'result', 'SELECT')
  AND has_column_privilege('pt_bob', 'tasker.workflow_steps', 'state', 'SELECT'), 'is taken back, the levels stay');

-- ---- a definition that runs as its definer --------------------------------------------------------------------

SET SESSION AUTHORIZATION pt_alice;
SELECT lives_ok($$SELECT tasker.define_task('{"name": "pt_definer", "run_as": "definer", "steps": [{"name": "a", "handler": {"type": "noop"}}]}')$$, 'alice defines one');
SET SESSION AUTHORIZATION pt_bob;
SELECT throws_ok('SELECT tasker.create_task(''default'', ''pt_definer'')', '42501', NULL, 'bob may not use it');
SELECT throws_ok('SELECT tasker.grant_task_definition(''default'', ''pt_definer'', ''pt_bob'')', '42501', NULL, 'nor let himself in');
SET SESSION AUTHORIZATION pt_alice;
SELECT lives_ok('SELECT tasker.grant_task_definition(''default'', ''pt_definer'', ''pt_bob'')', 'alice lets him');
SELECT throws_ok('SELECT tasker.grant_task_definition(''default'', ''pt_nothing'', ''pt_bob'')', '02000', NULL, 'use what exists');
SET SESSION AUTHORIZATION pt_bob;
SELECT tasker.create_task('default', 'pt_definer', '{"of": "bob"}', run_at => now() + interval '1 day') AS definers \gset
SELECT results_eq(format('SELECT owner, created_by, context ->> ''of'' FROM tasker.task_status WHERE task_id = %s', :definers),
  $$VALUES ('pt_alice'::regrole, 'pt_bob'::regrole, 'bob')$$, 'it runs as alice, and bob sees it');
SELECT is((SELECT count(*) FROM tasker.step_status WHERE task_id = :definers), 1::bigint, 'with its steps');
SELECT is(tasker.cancel_task(:definers), true, 'and controls it');
SET SESSION AUTHORIZATION pt_alice;
SELECT lives_ok('SELECT tasker.revoke_task_definition(''default'', ''pt_definer'', ''pt_bob'')', 'alice takes it back');
SET SESSION AUTHORIZATION pt_bob;
SELECT throws_ok('SELECT tasker.create_task(''default'', ''pt_definer'')', '42501', NULL, 'and bob is out');

-- ---- nobody writes --------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
CREATE SCHEMA pt_scratch;
GRANT ALL ON SCHEMA pt_scratch TO PUBLIC;
CREATE TEMP TABLE attempts AS
SELECT r.role, format(s.statement, c.relname, a.attname) AS statement
FROM unnest(ARRAY['pt_alice', 'pt_viewer', 'pt_monitor', 'pt_operator', 'pt_worker', 'pt_admin']) AS r (role)
CROSS JOIN pg_class AS c
CROSS JOIN LATERAL (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = '' ORDER BY a.attnum LIMIT 1) AS a
CROSS JOIN unnest(ARRAY['INSERT INTO tasker.%I DEFAULT VALUES', 'UPDATE tasker.%I SET %2$I = %2$I', 'DELETE FROM tasker.%I', 'TRUNCATE tasker.%I', 'DROP TABLE tasker.%I',
  'ALTER TABLE tasker.%I DISABLE ROW LEVEL SECURITY', 'LOCK TABLE tasker.%I IN EXCLUSIVE MODE', 'COPY tasker.%I FROM PROGRAM ''true''',
  'CREATE POLICY mine ON tasker.%I USING (true)', 'CREATE TABLE pt_scratch.mine (x integer REFERENCES tasker.%I)', 'SELECT 1 FROM tasker.%I FOR UPDATE',
  'CREATE TRIGGER mine BEFORE UPDATE ON tasker.%I FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
  'CREATE RULE mine AS ON UPDATE TO tasker.%I DO INSTEAD NOTHING', 'CREATE INDEX ON tasker.%I (%2$I)']) AS s (statement)
WHERE c.relnamespace = 'tasker'::regnamespace AND c.relkind = 'r'
  -- A table without a primary key cannot be referenced by anybody.
  AND NOT (s.statement LIKE '%REFERENCES%' AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary));
GRANT SELECT ON attempts TO PUBLIC;
CREATE FUNCTION pg_temp.refused(as_role text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  one record;
BEGIN
  EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', as_role);
  FOR one IN SELECT a.statement FROM attempts AS a WHERE a.role = as_role LOOP
    BEGIN
      EXECUTE one.statement;
      RETURN NEXT one.statement || ': was allowed';
    EXCEPTION WHEN insufficient_privilege THEN NULL; WHEN OTHERS THEN RETURN NEXT one.statement || ': ' || SQLERRM;
    END;
  END LOOP;
  RESET SESSION AUTHORIZATION;
END
$$;
SELECT ok((SELECT count(*) > 1000 FROM attempts), 'every way to write every table');
SELECT is((SELECT string_agg(x, E'\n') FROM pg_temp.refused(r) AS x), NULL, r || ' is refused all of them')
FROM unnest(ARRAY['pt_alice', 'pt_viewer', 'pt_monitor', 'pt_operator', 'pt_worker', 'pt_admin']) AS r;

-- Forged states, by the ways that are left: views are not for writing, and sequences not for turning
SET SESSION AUTHORIZATION pt_alice;
SELECT throws_ok(format('UPDATE tasker.task_status SET state = ''complete'' WHERE task_id = %s', :waiting), NULL, NULL, 'task_status is not for writing');
SELECT throws_ok(format('DELETE FROM tasker.step_status WHERE task_id = %s', :waiting), NULL, NULL, 'nor step_status');
SELECT throws_ok('SELECT nextval(''tasker.task_id_seq'')', '42501', NULL, 'task ids are not for taking');
SELECT throws_ok('CREATE TABLE tasker.mine ()', '42501', NULL, 'nor is the schema for adding to');
SELECT throws_ok('CREATE FUNCTION tasker.mine() RETURNS integer LANGUAGE sql AS ''SELECT 1''', '42501', NULL, 'tables or functions');
SELECT throws_ok('ALTER EXTENSION tasker UPDATE', '42501', NULL, 'or for updating');
SELECT throws_ok('DROP EXTENSION tasker', '42501', NULL, 'or dropping');
SELECT throws_ok(format('SELECT tasker.retry_step(%s, ''load'')', :done), 'TK004', NULL, 'a move that is not allowed is refused to the owner too');
SELECT throws_ok(format('SELECT tasker.skip_step(%s, ''load'')', :waiting), 'TK004', NULL, 'as is skipping what is not skippable');
SET row_security = off;
SELECT throws_ok('SELECT 1 FROM tasker.tasks', '42501', NULL, 'row_security = off opens nothing');
RESET row_security;

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
