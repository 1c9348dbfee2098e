-- Retention by hand: what may go, what goes with it, and what is left. Tasks are run by run_task, and made old by writing their times.
\set SHOW_CONTEXT never
CREATE ROLE regress_keep LOGIN;
CREATE ROLE regress_keep_operator LOGIN;
CREATE ROLE regress_keep_admin LOGIN;
SELECT tasker.grant_access('regress_keep', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_keep_operator', 'operator'), tasker.grant_access('regress_keep_admin', 'admin') \g /dev/null
CREATE SCHEMA keep AUTHORIZATION regress_keep;
SET SESSION AUTHORIZATION regress_keep;
CREATE FUNCTION keep.act(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF context ? 'fails' THEN RETURN tasker.raise_permanent('no such account'); END IF;
  RETURN '1';
END
$$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION keep.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; hint text;
BEGIN
  BEGIN
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN answer;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, regexp_replace(message, 'task -?\d+', 'task N'), '[' || nullif(hint, '') || ']');
  END;
END
$$;
GRANT USAGE ON SCHEMA keep TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keep TO PUBLIC;
SELECT tasker.define_task(jsonb_build_object('namespace', ns, 'name', 'pair', 'steps', '[{"name": "a", "handler": {"type": "sql", "function": "keep.act"}, "skippable": true},
  {"name": "b", "depends_on": ["a"], "handler": {"type": "noop"}}]'::jsonb)) FROM unnest(ARRAY['keep', 'keep_short', 'keep_always']) AS ns \g /dev/null
CREATE FUNCTION keep.create(ns text, key text, context jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
  SELECT tasker.create_task(ns, 'pair', context, idempotency_key => key, tags => ARRAY['keep', 'other', 'keep'], correlation_id => 'c ' || key, run_at => '2999-01-01')
$$;
SELECT keep.create('keep', 'old') AS old, keep.create('keep', 'young') AS young, keep.create('keep', 'open', '{"fails": 1}') AS open, keep.create('keep', 'closed', '{"fails": 1}') AS closed,
  keep.create('keep', 'cancelled') AS cancelled, keep.create('keep', 'live') AS live, keep.create('keep_short', 'short') AS short, keep.create('keep_always', 'always') AS always,
  keep.create('keep_short', 'locked') AS locked \gset
DO $$
DECLARE
  id bigint;
BEGIN
  FOR id IN SELECT t.task_id FROM tasker.tasks AS t WHERE t.owner = 'regress_keep'::regrole AND t.idempotency_key NOT IN ('live', 'cancelled') ORDER BY 1 LOOP
    CALL tasker.run_task(id, true);
  END LOOP;
END
$$;
SELECT tasker.cancel_task(:cancelled), tasker.annotate_task(:old, 'note', '1'), tasker.note_dead_letter(:closed, 'a', 'wont_fix') > 0 AS noted, tasker.note_dead_letter(:open, 'a', 'resolved') > 0 AS noted_too,
  tasker.note_dead_letter(:open, 'a', 'open') > 0 AS opened_again;
SELECT t.idempotency_key, t.state FROM tasker.tasks AS t WHERE t.owner = 'regress_keep'::regrole ORDER BY t.task_id;
RESET SESSION AUTHORIZATION;
-- 100 days ago, but for one; and what other tests have left is older, as its ids are. In one transaction to the end: the dispatcher must not be faster.
BEGIN;
UPDATE tasker.tasks SET created_at = created_at - interval '1000 days' WHERE owner <> 'regress_keep'::regrole;
UPDATE tasker.tasks SET created_at = created_at - interval '100 days', started_at = started_at - interval '100 days', finished_at = started_at - interval '100 days' + interval '3 s'
  WHERE owner = 'regress_keep'::regrole AND live = false AND started_at IS NOT NULL;
UPDATE tasker.tasks SET created_at = created_at - interval '100 days', finished_at = finished_at - interval '100 days' WHERE task_id = :cancelled;
UPDATE tasker.tasks SET created_at = created_at - interval '100 days' WHERE task_id = :live;
UPDATE tasker.tasks SET finished_at = clock_timestamp() - interval '89 days' WHERE task_id = :young;
UPDATE tasker.tasks SET finished_at = clock_timestamp() - interval '2 days', created_at = clock_timestamp() - interval '3 days' WHERE task_id IN (:short, :locked);
CREATE FUNCTION keep.left_over() RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(t.idempotency_key, ' ' ORDER BY t.task_id) FROM tasker.tasks AS t WHERE t.owner = 'regress_keep'::regrole $$;
SELECT * FROM tasker.check();

-- ---- who may, and what is said ----
SELECT r AS role, x AS statement, keep.try(format('SELECT 1 FROM (SELECT set_config(''role'', %L, true)) AS s, LATERAL (SELECT %s) AS x', r, x)) AS answer
FROM unnest(ARRAY['regress_keep', 'regress_keep_operator', 'regress_keep_admin']) AS r, unnest(ARRAY['tasker.set_retention(''keep'', ''1 day'')', 'tasker.remove_finished_tasks(''1000 days'')']) AS x;
SELECT x AS statement, keep.try('SELECT ' || x) AS answer FROM unnest(ARRAY['tasker.set_retention(''nowhere'', ''1 day'')', 'tasker.set_retention(NULL, ''1 day'')', 'tasker.remove_finished_tasks(''-1 day'')',
  'tasker.remove_finished_tasks(max_tasks => 0)', 'tasker.remove_finished_tasks(namespace => ''nowhere'')', 'tasker.remove_finished_tasks(max_tasks => NULL)', 'tasker.retention_of(''nowhere'')',
  'tasker.set_retention(''keep'', ''1000 years'')']) AS x;
SHOW tasker.retention;

-- ---- rules ----
SELECT tasker.set_retention('keep_short', '1 day'), tasker.set_retention('keep_short', '24 hours'), tasker.set_retention('keep_always', '-1 s'), tasker.set_retention('keep_always', '-7 days'),
  tasker.set_retention('keep', NULL), tasker.set_retention('keep', '36 hours'), tasker.set_retention('keep', NULL);
SELECT s.namespace, s.retention, s.has_rule, s.removed_tasks FROM tasker.retention_status AS s WHERE s.namespace ~ '^keep' ORDER BY 1;
SELECT r.keep, r.changed_by = current_user::regrole AS by_me FROM tasker.retention_rules AS r JOIN tasker.task_namespaces AS n USING (task_namespace_id) WHERE n.name ~ '^keep' ORDER BY 1;

-- ---- what is due goes, with all that belongs to it ----
SELECT keep.try('SELECT tasker.remove_finished_tasks() || '': '' || keep.left_over()') AS by_rules,
  keep.try('SELECT left(tasker.remove_finished_tasks(''10 days'')::text, 0) || keep.left_over()') AS older_than,
  keep.try('SELECT left(tasker.remove_finished_tasks(''0'')::text, 0) || keep.left_over()') AS all_finished,
  keep.try('SELECT tasker.remove_finished_tasks(''0'', ''keep_always'') || '': '' || keep.left_over()') AS of_a_namespace,
  keep.try('SELECT tasker.remove_finished_tasks(NULL, ''keep_always'') || '': '' || keep.left_over()') AS by_its_rule,
  keep.try('SELECT tasker.remove_finished_tasks(NULL, ''keep_short'') || '': '' || keep.left_over()') AS by_its_other_rule,
  keep.try('SELECT tasker.remove_finished_tasks(max_tasks => 2) || '': '' || keep.left_over()') AS not_all_at_once \gx
SELECT h.complete_tasks, h.error_tasks, h.cancelled_tasks, h.complete_steps, h.error_steps, h.exhausted_retry_steps, h.cancelled_steps, h.pending_steps FROM tasker.get_system_health_counts() AS h \gset before_
SELECT tasker.remove_finished_tasks();
SELECT tasker.remove_finished_tasks();
SELECT keep.left_over();
SELECT * FROM tasker.check();
SELECT c.relname, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM tasker.%I WHERE task_id IN (%s, %s, %s, %s)', c.relname, :old, :closed, :cancelled, :short), true, true, '')))[1]::text AS rows
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'task_id' WHERE c.relnamespace = 'tasker'::regnamespace AND c.relkind = 'r' ORDER BY 1;
SELECT n.name AS namespace, z.state, clock_timestamp()::date - z.day BETWEEN 1 AND 200 AS then, z.tasks, z.steps, z.attempts, z.total_seconds > 0 AS took, z.max_seconds = z.total_seconds AS alone
FROM tasker.task_summaries AS z JOIN tasker.named_tasks USING (named_task_id) JOIN tasker.task_namespaces AS n USING (task_namespace_id) WHERE n.name ~ '^keep' ORDER BY 1, 2;
SELECT h.complete_tasks - :before_complete_tasks AS complete_tasks, h.error_tasks - :before_error_tasks AS error_tasks, h.cancelled_tasks - :before_cancelled_tasks AS cancelled_tasks,
  h.complete_steps - :before_complete_steps AS complete_steps, h.error_steps - :before_error_steps AS error_steps, h.exhausted_retry_steps - :before_exhausted_retry_steps AS exhausted,
  h.cancelled_steps - :before_cancelled_steps AS cancelled_steps, h.pending_steps - :before_pending_steps AS pending_steps FROM tasker.get_system_health_counts() AS h;
SELECT s.namespace, s.retention, s.has_rule, s.removed_tasks FROM tasker.retention_status AS s WHERE s.namespace ~ '^keep' ORDER BY 1;

-- ---- afterwards ----
SELECT regexp_replace(x, '\d+', 'N') AS statement, keep.try('SELECT ' || x) AS answer FROM unnest(ARRAY[format('tasker.retry_task(%s)', :closed), format('tasker.annotate_task(%s, ''note'', ''1'')', :old),
  format('tasker.wait_for_task(%s)', :old)]) AS x;
SET SESSION AUTHORIZATION regress_keep;
SELECT keep.create('keep', 'young') = :young AS the_same, keep.create('keep', 'old') > :old AS a_new_one, keep.create('keep', 'live') = :live AS live_is_there;
SELECT tasker.cancel_task(t.task_id) FROM tasker.tasks AS t WHERE t.owner = 'regress_keep'::regrole AND t.live \g /dev/null
RESET SESSION AUTHORIZATION;
-- A closed dead letter is no reason to keep it
SELECT tasker.remove_finished_tasks('0', 'keep') AS removed, keep.left_over();
SET SESSION AUTHORIZATION regress_keep;
SELECT tasker.note_dead_letter(:open, 'a', 'resolved') > 0 AS noted;
RESET SESSION AUTHORIZATION;
SELECT tasker.remove_finished_tasks('0', 'keep') AS removed, keep.left_over();
SET SESSION AUTHORIZATION regress_keep;
-- The definition stays what it was, though nothing but the summaries tells of its tasks
SELECT keep.try($$SELECT tasker.define_task('{"namespace": "keep", "name": "pair", "steps": [{"name": "x", "handler": {"type": "noop"}}]}', replace => true)$$);
RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();

-- ---- fire times of schedules ----
SET SESSION AUTHORIZATION regress_keep;
SELECT tasker.schedule_task('keep-' || n, '0 0 1 1 *', CASE n WHEN 1 THEN 'keep' ELSE 'keep_always' END, 'pair') FROM generate_series(1, 2) AS n \g /dev/null
RESET SESSION AUTHORIZATION;
INSERT INTO tasker.schedule_fires (schedule_id, fire_time, outcome, open, ticked_by)
  SELECT s.schedule_id, clock_timestamp() - make_interval(days => d), CASE d WHEN 300 THEN 'queued' ELSE 'skipped' END, d = 300, 'a test'
  FROM tasker.schedule_rows AS s, unnest(ARRAY[400, 300, 200, 100, 80]) AS d WHERE s.schedule_name ~ '^keep-';
SELECT tasker.remove_finished_tasks();
SELECT s.schedule_name, count(*), string_agg(f.outcome, ' ' ORDER BY f.fire_time) FROM tasker.schedule_fires AS f JOIN tasker.schedule_rows AS s USING (schedule_id) WHERE s.schedule_name ~ '^keep-' GROUP BY 1 ORDER BY 1;
DELETE FROM tasker.schedule_fires WHERE fire_time > clock_timestamp() - interval '90 days' AND ticked_by = 'a test';
SELECT tasker.remove_finished_tasks();
SELECT s.schedule_name, count(*), string_agg(f.outcome, ' ' ORDER BY f.fire_time) FROM tasker.schedule_fires AS f JOIN tasker.schedule_rows AS s USING (schedule_id) WHERE s.schedule_name ~ '^keep-' GROUP BY 1 ORDER BY 1;
SELECT tasker.unschedule_task(s.schedule_name) FROM tasker.schedule_rows AS s WHERE s.schedule_name ~ '^keep-' \g /dev/null

-- ---- moves of breakers, but for the last ----
SET SESSION AUTHORIZATION regress_keep;
SELECT tasker.define_task('{"namespace": "keep", "name": "called", "steps": [{"name": "x", "dependent_system": "keep bank", "handler": {"type": "noop"}}]}') \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT tasker.trip_breaker('keep bank', 'a test'), tasker.reset_breaker('keep bank', 'a test'), tasker.trip_breaker('keep bank', 'a test') \g /dev/null
UPDATE tasker.breaker_transitions AS w SET created_at = w.created_at - interval '100 days' FROM tasker.dependent_systems AS d WHERE d.dependent_system_id = w.dependent_system_id AND d.name = 'keep bank';
SELECT tasker.remove_finished_tasks();
SELECT w.to_state, count(*) FROM tasker.breaker_transitions AS w JOIN tasker.dependent_systems AS d USING (dependent_system_id) WHERE d.name = 'keep bank' GROUP BY 1;
SELECT tasker.reset_breaker('keep bank', 'a test') \g /dev/null
SELECT * FROM tasker.check();

SELECT tasker.set_retention(n.name, NULL) FROM tasker.task_namespaces AS n WHERE n.name ~ '^keep' \g /dev/null
SELECT tasker.revoke_access(r, l) FROM (VALUES ('regress_keep'::regrole, 'author'), ('regress_keep', 'submitter'), ('regress_keep_operator', 'operator'), ('regress_keep_admin', 'admin')) AS v (r, l) \g /dev/null
ROLLBACK;
SET client_min_messages = warning;
DROP OWNED BY regress_keep, regress_keep_operator, regress_keep_admin CASCADE;
DROP ROLE regress_keep, regress_keep_operator, regress_keep_admin;
