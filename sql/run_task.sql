-- run_task: a task's steps in the caller's own session, outside and inside a transaction block. Tasks are for a far-off day, so that no worker takes them.
\set SHOW_CONTEXT never
CREATE ROLE regress_run LOGIN;
CREATE ROLE regress_run_group NOLOGIN ROLE regress_run;
CREATE ROLE regress_run_other LOGIN;
SELECT tasker.grant_access('regress_run', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_run_other', l) FROM unnest(ARRAY['submitter', 'admin']) AS l \g /dev/null
CREATE SCHEMA run_task AUTHORIZATION regress_run;
GRANT USAGE ON SCHEMA run_task TO PUBLIC;
SET SESSION AUTHORIZATION regress_run;

CREATE TABLE run_task.effects (n integer GENERATED ALWAYS AS IDENTITY, step_name text, attempt integer, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE run_task.later (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
-- Executes what the context says for the step
CREATE FUNCTION run_task.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO run_task.effects (step_name, attempt) VALUES (step.step_name, step.attempt);
  IF step.context ? step.step_name THEN
    EXECUTE step.context ->> step.step_name;
  END IF;
  RETURN to_jsonb(step.attempt);
END
$$;
CREATE FUNCTION run_task.fail_once() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(*) FROM run_task.once) = 0 THEN
    RAISE EXCEPTION 'not yet';
  END IF;
END
$$;
CREATE TABLE run_task.once ();
CREATE PROCEDURE run_task.twice(step tasker.step_call) LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO run_task.effects (step_name, attempt) VALUES ('p 1', step.attempt);
  COMMIT;
  INSERT INTO run_task.effects (step_name, attempt) VALUES ('p 2', step.attempt);
END
$$;
SELECT tasker.define_task(jsonb_build_object('namespace', 'run_task', 'name', n.name, 'steps', n.steps)) FROM (VALUES
  ('line', '[{"name": "a", "handler": {"type": "sql", "function": "run_task.act"}, "backoff": {"base_seconds": 300}}, {"name": "b", "handler": {"type": "noop"}, "depends_on": ["a"]},
    {"name": "c", "handler": {"type": "sql", "function": "run_task.act"}, "depends_on": ["b"], "max_attempts": 2, "backoff": {"base_seconds": 300}}]'::jsonb),
  ('procedure', '[{"name": "a", "handler": {"type": "sql", "function": "run_task.act"}}, {"name": "p", "handler": {"type": "sql", "procedure": "run_task.twice", "atomic": false}, "depends_on": ["a"]}]')) AS n (name, steps) \g /dev/null
CREATE FUNCTION run_task.make(context jsonb DEFAULT '{}', name text DEFAULT 'line') RETURNS bigint LANGUAGE sql AS $$ SELECT tasker.create_task('run_task', name, context, run_at => '2999-01-01') $$;
CREATE FUNCTION run_task.steps(task bigint) RETURNS text LANGUAGE sql AS $$
  SELECT t.state || ': ' || string_agg(s.step_name || ' ' || s.state || ' ' || s.attempts || coalesce(' ' || (s.error ->> 'sqlstate') || ' ' || (s.error ->> 'message'), '')
    || coalesce(' (' || split_part(s.blocking_reason, ':', 1) || ')', ''), ', ' ORDER BY s.step_name)
  FROM tasker.step_status AS s JOIN tasker.task_status AS t USING (task_id) WHERE t.task_id = task GROUP BY t.state $$;
CREATE FUNCTION run_task.effects() RETURNS text LANGUAGE sql AS $$
  WITH gone AS (DELETE FROM run_task.effects RETURNING *)
  SELECT string_agg(step_name || ' ' || attempt, ', ' ORDER BY n) || ' in ' || count(DISTINCT xid) || ' transactions' FROM gone $$;
\pset format unaligned
\pset tuples_only on

-- Outside of a transaction block: each step commits by itself
SELECT run_task.make() AS id \gset
CALL tasker.run_task(:id);
SELECT run_task.steps(:id);
CALL tasker.run_task(task_id => :id, skip_waits => true);
SELECT run_task.steps(:id), run_task.effects();
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects() IS NULL AS nothing_ran;
-- From a DO block as well, which may commit
SELECT run_task.make(name => 'procedure') AS id \gset
SELECT set_config('run_task.id', :'id', false) \g /dev/null
DO $$ BEGIN CALL tasker.run_task(current_setting('run_task.id')::bigint, true); END $$;
SELECT run_task.steps(:id), run_task.effects();

-- Inside of one: all of it in that transaction, gone with it
BEGIN;
SELECT run_task.make() AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id);
ROLLBACK;
SELECT run_task.steps(:id) IS NULL AS gone, run_task.effects() IS NULL AS gone;
BEGIN;
SELECT tasker.create_task('run_task', 'line') AS id \gset
CALL tasker.run_task(:id);
SELECT run_task.steps(:id);
COMMIT;
SELECT run_task.steps(:id), run_task.effects();
-- A procedure that commits by itself cannot run there
SELECT run_task.make(name => 'procedure') AS id \gset
BEGIN;
CALL tasker.run_task(:id, true);
ROLLBACK;
\echo :LAST_ERROR_SQLSTATE
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects();

-- Without skip_waits it stops where time must pass: run_at, a backoff
BEGIN;
SELECT tasker.create_task('run_task', 'line', '{"a": "SELECT run_task.fail_once()"}') AS id \gset
CALL tasker.run_task(:id);
SELECT run_task.steps(:id);
CALL tasker.run_task(:id);
SELECT run_task.steps(:id);
INSERT INTO run_task.once DEFAULT VALUES;
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects();
ROLLBACK;

-- Failures are the task's, not the caller's: a last attempt, a permanent error, a constraint that is checked at the end
SELECT run_task.make('{"c": "SELECT 1 FROM run_task.no_such"}') AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects();
SELECT run_task.make('{"c": "SELECT run_task.fail_once()"}') AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects();
SELECT run_task.make('{"a": "INSERT INTO run_task.later VALUES (1), (1)"}') AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects(), (SELECT count(*) FROM run_task.later);
BEGIN;
SELECT run_task.make('{"a": "INSERT INTO run_task.later VALUES (1), (1)"}') AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id);
COMMIT;
SELECT run_task.steps(:id), run_task.effects();

-- What a step does to the session stays in the step; it waits for no task and runs none
SELECT run_task.make('{"a": "SET work_mem = ''123kB''", "c": "SELECT set_config(''role'', ''regress_run_group'', false)"}') AS id \gset
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects(), current_user, current_setting('work_mem') <> '123kB' AS restored;
BEGIN;
SELECT tasker.create_task('run_task', 'line', '{"a": "CALL tasker.run_task(1)"}') AS one, tasker.create_task('run_task', 'line', '{"a": "SELECT tasker.wait_for_task(1)"}') AS two,
  tasker.create_task('run_task', 'line', '{"a": "LISTEN run_task"}') AS three \gset
CALL tasker.run_task(:one);
CALL tasker.run_task(:two);
CALL tasker.run_task(:three);
SELECT run_task.steps(:one);
SELECT run_task.steps(:two);
SELECT run_task.steps(:three);
ROLLBACK;

-- Paused and cancelled tasks
SELECT run_task.make() AS id \gset
SELECT tasker.pause_task(:id);
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id);
SELECT tasker.cancel_task(:id);
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id);

-- Only a session of the owner's own; everybody else learns nothing
SELECT run_task.make() AS id \gset
CALL tasker.run_task(-1);
CALL tasker.run_task(NULL);
CREATE PROCEDURE run_task.for_others(task bigint) LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN CALL tasker.run_task(task); END';
SET SESSION AUTHORIZATION regress_run_other;
\set VERBOSITY sqlstate
CALL run_task.for_others(:id);
CALL tasker.run_task(:id);
\set VERBOSITY default
RESET SESSION AUTHORIZATION;
SET ROLE regress_run;
\set VERBOSITY sqlstate
CALL tasker.run_task(:id);
\set VERBOSITY default
RESET ROLE;

-- Row triggers that an administrator has put on tasker's tables (as tools that rebuild tables do) see every write of a step
RESET SESSION AUTHORIZATION;
BEGIN;
CREATE TABLE run_task.seen (place text, action text, old jsonb, new jsonb);
CREATE FUNCTION run_task.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO run_task.seen VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD), to_jsonb(NEW));
  RETURN NULL;
END
$$;
DO $$
BEGIN
  FOR i IN 1 .. 5 LOOP
    EXECUTE format('CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON tasker.%I FOR EACH ROW EXECUTE FUNCTION run_task.see()',
      (ARRAY['tasks', 'workflow_steps', 'task_moves', 'step_moves', 'timers'])[i]);
  END LOOP;
END
$$;
SET LOCAL SESSION AUTHORIZATION regress_run;
SELECT run_task.make('{"c": "SELECT 1 / 0"}') AS seen_id \gset
CALL tasker.run_task(:seen_id, true);
CALL tasker.run_task(:seen_id, true);
RESET SESSION AUTHORIZATION;
SELECT place, action, count(*), count(DISTINCT old ->> 'moves') AS before, count(DISTINCT new ->> 'moves') AS after FROM run_task.seen GROUP BY place, action ORDER BY place, action;
SELECT NOT EXISTS (SELECT row_to_json(t)::jsonb FROM tasker.tasks AS t WHERE task_id = :seen_id EXCEPT SELECT new FROM run_task.seen WHERE place = 'tasks') AS tasks_seen,
  NOT EXISTS (SELECT row_to_json(s)::jsonb FROM tasker.workflow_steps AS s WHERE task_id = :seen_id EXCEPT SELECT new FROM run_task.seen WHERE place = 'workflow_steps') AS steps_seen,
  NOT EXISTS (SELECT row_to_json(w)::jsonb FROM tasker.step_moves AS w WHERE task_id = :seen_id EXCEPT SELECT new FROM run_task.seen WHERE place = 'step_moves') AS history_seen;
SELECT * FROM tasker.check();
ROLLBACK;

-- A held database runs nothing
BEGIN;
UPDATE tasker.home SET held_reason = 'a test', held_at = clock_timestamp();
SET LOCAL SESSION AUTHORIZATION regress_run;
CALL tasker.run_task(:id, true);
ROLLBACK;
SET SESSION AUTHORIZATION regress_run;
CALL tasker.run_task(:id, true);
SELECT run_task.steps(:id), run_task.effects();

RESET SESSION AUTHORIZATION;
SELECT tasker.cancel_task(array_agg(task_id)) >= 0 FROM tasker.task_status WHERE namespace = 'run_task' AND state IN ('pending', 'in_progress');
SELECT * FROM tasker.check();
SELECT tasker.revoke_access('regress_run', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_run_other', l) FROM unnest(ARRAY['submitter', 'admin']) AS l \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_run, regress_run_group, regress_run_other CASCADE;
DROP ROLE regress_run, regress_run_group, regress_run_other;
