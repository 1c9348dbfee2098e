-- Schedules: what they refuse, whose they are, what each fire time comes to, and what the background does by itself.
\set SHOW_CONTEXT never
CREATE ROLE regress_schedules LOGIN;
CREATE ROLE regress_schedules_other LOGIN;
CREATE ROLE regress_schedules_operator LOGIN;
CREATE ROLE regress_schedules_monitor LOGIN;
SELECT tasker.grant_access(r, l) FROM unnest(ARRAY['regress_schedules', 'regress_schedules_other']::regrole[]) AS r, unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_schedules_operator', 'operator'), tasker.grant_access('regress_schedules_monitor', 'monitor') \g /dev/null
CREATE SCHEMA schedules AUTHORIZATION regress_schedules;
GRANT USAGE ON SCHEMA schedules TO PUBLIC;
SET SESSION AUTHORIZATION regress_schedules;
SET timezone = 'UTC';
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION schedules.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; detail text; hint text;
BEGIN
  BEGIN
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN answer;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, message, '[' || nullif(detail, '') || ']', '(' || nullif(hint, '') || ')');
  END;
END
$$;
SELECT tasker.define_task('{"namespace": "sched", "name": "report", "context_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
  "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SELECT tasker.define_task('{"namespace": "sched", "name": "old", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
-- At midnight of today and of the three days before; not again for weeks.
SELECT '0 0 ' || string_agg(extract(day FROM now() - d * interval '1 day')::text, ',') || ' * *' AS cron FROM generate_series(0, 3) AS d \gset
SELECT '0 0 ' || string_agg(extract(day FROM now() - d * interval '1 day')::text, ',') || ' * *' AS missed FROM generate_series(1, 3) AS d \gset
-- Before the first of them; whoever may write tasker's tables can turn a schedule's clock back.
SELECT date_trunc('day', now()) - interval '3 days 1 hour' AS before \gset
\pset format unaligned
\pset tuples_only on

-- Bad input
SELECT schedules.try(format('SELECT tasker.schedule_task(%s)', a)) FROM unnest(ARRAY[
  $$'a b', '* * * * *', 'sched', 'report'$$, $$'a', '61 * * * *', 'sched', 'report'$$, $$'a', '0 0 30 2 *', 'sched', 'report'$$, $$'a', '* * * *', 'sched', 'report'$$,
  $$'a', '* * * * *', 'sched', 'nothing'$$, $$'a', '* * * * *', 'sched', 'report', '[]'$$, $$'a', '* * * * *', 'sched', 'report', '{"n": "x"}'$$,
  $$'a', '* * * * *', 'sched', 'report', timezone => 'Europe/Berlinn'$$, $$'a', '* * * * *', 'sched', 'report', overlap => 'Skip'$$,
  $$'a', '* * * * *', 'sched', 'report', catch_up => '-1 s'$$, $$'a', '* * * * *', 'sched', 'report', catch_up => '367 days'$$,
  $$'a', '* * * * *', 'sched', 'report', jitter => '25 h'$$, $$NULL, '* * * * *', 'sched', 'report'$$]) AS a;
SELECT schedules.try(s) FROM unnest(ARRAY['SELECT tasker.unschedule_task(''a'')', 'SELECT tasker.pause_schedule(''a'')', 'SELECT tasker.resume_schedule(''a'')',
  'SELECT tasker.run_schedule_now(''a'')', 'SELECT tasker.backfill_schedule(''a'', now(), now())', 'SELECT tasker.tick_schedules()', 'SELECT tasker.install_cron_tick()']) AS s;
SELECT tasker.retire_task_definition('sched', 'old', '0.1.0');
SELECT schedules.try($$SELECT tasker.schedule_task('a', '* * * * *', 'sched', 'old')$$);
RESET SESSION AUTHORIZATION;
SELECT regexp_replace(schedules.try($$SELECT tasker.schedule_task('a', '* * * * *', 'sched', 'report')$$), '\(.*', '');

-- Whose it is. The same name again changes it, and only its owner's call
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.schedule_task('mine', '0 4 * * mon', 'sched', 'report', '{"n": 1}', 'europe/berlin', jitter => '10 min') AS id \gset
SELECT schedule_name, cron, timezone, namespace, name, context, overlap, catch_up, jitter, owner, created_by, paused, cardinality(next_fires) AS next,
  next_fire_at > now() AND extract(isodow FROM next_fire_at AT TIME ZONE timezone) = 1 AND (next_fire_at AT TIME ZONE timezone)::time = '04:00' AS monday,
  last_fire_at, running_tasks, queued_fires, missed_at FROM tasker.schedules;
SELECT fires_after AS settled FROM tasker.schedule_rows \gset
SELECT tasker.schedule_task('mine', '0 4 * * mon', 'sched', 'report', '{"n": 1}', 'Europe/Berlin', jitter => '10 min') = :id AS same;
SELECT changed_at - created_at < interval '1 ms' AS unchanged FROM tasker.schedule_rows;
SELECT tasker.schedule_task('mine', '0 4 * * mon', 'sched', 'report', '{"n": 2}', 'Europe/Berlin', 'queue', '3 h') = :id AS same;
SELECT s.context, s.overlap, s.catch_up, s.jitter, r.fires_after = :'settled' AS same_times, s.changed_at > s.created_at AS changed FROM tasker.schedules AS s JOIN tasker.schedule_rows AS r USING (schedule_name);
SELECT tasker.schedule_task('mine', '0 5 * * mon', 'sched', 'report') = :id AS same;
SELECT fires_after > :'settled' AS later_times_only FROM tasker.schedule_rows;
SET SESSION AUTHORIZATION regress_schedules_other;
SELECT count(*) FROM tasker.schedules;
SELECT schedules.try(s) FROM unnest(ARRAY['SELECT tasker.schedule_task(''mine'', ''* * * * *'', ''sched'', ''report'')', 'SELECT tasker.unschedule_task(''mine'')',
  'SELECT tasker.pause_schedule(''mine'')', 'SELECT tasker.run_schedule_now(''mine'')', 'SELECT context FROM tasker.schedule_rows']) AS s;
SET SESSION AUTHORIZATION regress_schedules_monitor;
SELECT schedule_name, context FROM tasker.schedules;
SET SESSION AUTHORIZATION regress_schedules_operator;
SELECT schedule_name, context FROM tasker.schedules;
SELECT tasker.pause_schedule('mine', 'audit'), tasker.pause_schedule('mine');
SELECT paused, paused_by, pause_reason, next_fire_at, next_fires FROM tasker.schedules;
SELECT tasker.resume_schedule('mine'), tasker.resume_schedule('mine'), tasker.unschedule_task('mine');
SELECT count(*) FROM tasker.schedules;

-- The overlap rules, at four times that are due. Their tasks are held by a pause, and so don't end
SELECT tasker.pause_tasks('sched') \g /dev/null
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.schedule_task(o, :'cron', 'sched', 'report', '{"n": 1}', overlap => o, catch_up => '5 days') FROM unnest(ARRAY['skip', 'queue', 'cancel_running', 'allow']) AS o \g /dev/null
SELECT tasker.schedule_task('late', :'missed', 'sched', 'report', catch_up => '1 hour') \g /dev/null
RESET SESSION AUTHORIZATION;
BEGIN;
UPDATE tasker.schedule_rows SET fires_after = :'before';
SELECT schedule_name, cardinality(next_fires), next_fire_at = :'before'::timestamptz + interval '1 hour' AS first FROM tasker.schedules ORDER BY 1;
SAVEPOINT ticked;
SELECT tasker.tick_schedules();
ROLLBACK TO ticked;
SELECT count(*) FROM tasker.schedule_fires;
SELECT tasker.tick_schedules(), tasker.tick_schedules();
COMMIT;
SET SESSION AUTHORIZATION regress_schedules;
SELECT schedule_name, rank() OVER (PARTITION BY schedule_name ORDER BY fire_time) AS nth, outcome, task_state, regexp_replace(message, '\d+', 'N'), ticked_by FROM tasker.schedule_history ORDER BY 1, 2;
SELECT schedule_name, last_outcome, running_tasks, queued_fires, missed_at = :'before'::timestamptz + interval '1 hour' AS missed, next_fire_at > now() AS next FROM tasker.schedules ORDER BY 1;
SELECT DISTINCT t.owner, t.created_by, t.context, t.idempotency_key = format('schedule:%s:%s', s.schedule_id, to_char(f.fire_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS key,
  t.correlation_id = format('%s@%s', s.schedule_name, to_char(f.fire_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS correlation
FROM tasker.schedule_fires AS f JOIN tasker.schedule_rows AS s USING (schedule_id) JOIN tasker.task_status AS t USING (task_id);
SELECT state, count(*), min(metadata ->> 'reason') AS reason FROM tasker.task_status JOIN tasker.task_history USING (task_id) WHERE to_state = 'cancelled' AND step_name IS NULL GROUP BY 1;
SELECT schedules.try('SELECT tasker.run_schedule_now(''skip'')');
SELECT tasker.run_schedule_now('skip') IS NULL AS skipped, tasker.run_schedule_now('queue') IS NULL AS queued, tasker.run_schedule_now('allow') IS NOT NULL AS created;
-- A pause keeps the queue where it is
SELECT tasker.pause_schedule('queue');
SET SESSION AUTHORIZATION regress_schedules_operator;
SELECT tasker.resume_tasks('sched');
SET SESSION AUTHORIZATION regress_schedules;
CREATE FUNCTION schedules.until(question text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  answer boolean;
BEGIN
  FOR i IN 1 .. 3000 LOOP
    EXECUTE 'SELECT ' || question INTO answer;
    IF answer THEN RETURN true; END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
  RETURN false;
END
$$;
SELECT schedules.until('NOT EXISTS (SELECT FROM tasker.tasks WHERE live)');
SELECT queued_fires FROM tasker.schedules WHERE schedule_name = 'queue';
SELECT tasker.resume_schedule('queue');
-- The dispatcher takes one after the other
SELECT schedules.until('(SELECT queued_fires + running_tasks = 0 FROM tasker.schedules WHERE schedule_name = ''queue'')');
SELECT nth, outcome, task_state, after_former, ticked_by IN ('dispatcher', 'postgres', 'regress_schedules') AS by FROM (
  SELECT rank() OVER w AS nth, outcome, task_state, t.started_at >= lag(t.finished_at) OVER w AS after_former, ticked_by
  FROM tasker.schedule_history JOIN tasker.tasks AS t USING (task_id) WHERE schedule_name = 'queue' WINDOW w AS (ORDER BY fire_time)) AS q ORDER BY 1;

-- Backfill takes what has no fire yet: the times that 'late' has missed, and no others, however often it is asked
SELECT tasker.backfill_schedule('late', :'before', now()), tasker.backfill_schedule('late', :'before', now());
SELECT tasker.backfill_schedule('allow', :'before', now()), tasker.backfill_schedule('allow', :'before', :'before');
SELECT schedules.until('(SELECT queued_fires + running_tasks = 0 FROM tasker.schedules WHERE schedule_name = ''late'')');
SELECT outcome, task_state, count(*) FROM tasker.schedule_history WHERE schedule_name = 'late' GROUP BY 1, 2;
SELECT tasker.schedule_task('often', '* * * * *', 'sched', 'report', overlap => 'allow'), tasker.pause_schedule('often') \g /dev/null
SELECT schedules.try(format('SELECT tasker.backfill_schedule(''often'', %L, %L)', f, t)) FROM (VALUES ('2024-01-01', '2024-02-01'), ('2024-01-02', '2024-01-01'), ('2024-01-01', '2999-01-01'), ('-infinity', '2024-01-01')) AS r (f, t);
SELECT tasker.schedule_task('often', '* * * * *', 'sched', 'report') > 0;
SELECT schedules.try($$SELECT tasker.backfill_schedule('often', '2024-01-01', '2024-01-02')$$);
SELECT tasker.backfill_schedule('often', '2024-01-01 00:00:30', '2024-01-01 00:03:30');
SELECT tasker.unschedule_task(schedule_name) FROM tasker.schedules \g /dev/null
SELECT count(*) FROM tasker.schedule_fires;

-- A definition that runs as its definer: the task is his, and who made the schedule sees it
SELECT tasker.define_task('{"namespace": "sched", "name": "definer", "run_as": "definer", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SET SESSION AUTHORIZATION regress_schedules_other;
SELECT schedules.try($$SELECT tasker.schedule_task('by-grant', '@yearly', 'sched', 'definer')$$);
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.grant_task_definition('sched', 'definer', 'regress_schedules_other') \g /dev/null
SET SESSION AUTHORIZATION regress_schedules_other;
SELECT tasker.schedule_task('by-grant', '@yearly', 'sched', 'definer') \g /dev/null
SELECT tasker.run_schedule_now('by-grant') > 0;
SELECT owner, created_by FROM tasker.task_status WHERE idempotency_key ~ '^schedule';
SELECT tasker.unschedule_task('by-grant');

-- Jitter: each task later than its time by its own part of it
SELECT tasker.schedule_task('jitter-' || i, '* * * * *', 'sched', 'report', jitter => '1 day', overlap => 'allow') FROM generate_series(1, 10) AS i \g /dev/null
RESET SESSION AUTHORIZATION;
BEGIN;
UPDATE tasker.schedule_rows SET fires_after = date_trunc('minute', clock_timestamp()) - interval '30 s';
SELECT tasker.tick_schedules() \g /dev/null
COMMIT;
SELECT count(*) >= 10, bool_and(t.run_at >= f.fire_time AND t.run_at <= f.fire_time + interval '1 day'), count(DISTINCT t.run_at) >= 9 AS each_its_own, count(*) FILTER (WHERE t.run_at > f.created_at) >= 9 AS later
FROM tasker.schedule_fires AS f JOIN tasker.tasks AS t USING (task_id);
SELECT tasker.unschedule_task(schedule_name) FROM tasker.schedules \g /dev/null
SELECT count(tasker.cancel_task(task_id)) >= 9 FROM tasker.tasks WHERE live;

-- What is refused when the time comes is recorded, and stops nobody else
SET SESSION AUTHORIZATION regress_schedules_other;
SELECT tasker.schedule_task('z-rights-gone', :'cron', 'sched', 'report', catch_up => '5 days') \g /dev/null
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.define_task('{"namespace": "sched", "name": "doomed", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
SELECT tasker.schedule_task('a-retired', :'cron', 'sched', 'doomed', catch_up => '5 days') \g /dev/null
SELECT tasker.schedule_task('b-schema', :'cron', 'sched', 'report', '{"n": 1}', catch_up => '5 days', overlap => 'queue') \g /dev/null
SELECT tasker.schedule_task('c-good', :'cron', 'sched', 'report', catch_up => '5 days', overlap => 'allow') \g /dev/null
SELECT tasker.schedule_task('d-zone', :'cron', 'sched', 'report', catch_up => '5 days') \g /dev/null
SELECT tasker.retire_task_definition('sched', 'doomed', '0.1.0');
RESET SESSION AUTHORIZATION;
SELECT tasker.revoke_access('regress_schedules_other', 'submitter') \g /dev/null
BEGIN;
UPDATE tasker.schedule_rows SET fires_after = :'before';
UPDATE tasker.schedule_rows SET context = '{"n": "x"}' WHERE schedule_name = 'b-schema';
UPDATE tasker.schedule_rows SET timezone = 'Europe/Atlantis' WHERE schedule_name = 'd-zone';
SELECT tasker.tick_schedules();
SELECT schedule_name, outcome, count(*), min(message) FROM tasker.schedule_history GROUP BY 1, 2 ORDER BY 1;
SELECT schedule_name, next_fires FROM tasker.schedules WHERE schedule_name = 'd-zone';
DELETE FROM tasker.schedule_rows WHERE schedule_name = 'd-zone';
COMMIT;
-- An owner who is gone
SELECT tasker.grant_access('regress_schedules_other', 'submitter') \g /dev/null
SET client_min_messages = warning;
SELECT tasker.revoke_access('regress_schedules_other', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
DROP OWNED BY regress_schedules_other;
DROP ROLE regress_schedules_other;
RESET client_min_messages;
DELETE FROM tasker.schedule_fires;
BEGIN;
UPDATE tasker.schedule_rows SET fires_after = :'before' WHERE schedule_name = 'z-rights-gone';
SELECT tasker.tick_schedules();
SELECT outcome, count(*), regexp_replace(min(message), 'OID \d+', 'OID N') FROM tasker.schedule_history WHERE schedule_name = 'z-rights-gone' GROUP BY 1;
COMMIT;

-- A database that is held fires nothing, and says so
BEGIN;
UPDATE tasker.home SET held_reason = 'a test';
SELECT schedules.try(s) FROM unnest(ARRAY['SELECT tasker.tick_schedules()', 'SELECT tasker.run_schedule_now(''c-good'')', 'SELECT tasker.backfill_schedule(''c-good'', now(), now())']) AS s;
ROLLBACK;
BEGIN;
UPDATE tasker.schedule_rows SET home = 42 WHERE schedule_name = 'c-good';
SELECT schedules.try('SELECT tasker.tick_schedules()');
ROLLBACK;

-- The dispatcher's own timer: it hears of every change
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.schedule_task('own-timer', :'cron', 'sched', 'report', catch_up => '5 days', overlap => 'allow') \g /dev/null
RESET SESSION AUTHORIZATION;
UPDATE tasker.schedule_rows SET fires_after = :'before' WHERE schedule_name = 'own-timer';
SET SESSION AUTHORIZATION regress_schedules;
SELECT tasker.pause_schedule('c-good');
SELECT schedules.until('(SELECT count(*) = 4 FROM tasker.schedule_history WHERE schedule_name = ''own-timer'' AND task_state = ''complete'')');
SELECT DISTINCT outcome, ticked_by FROM tasker.schedule_history WHERE schedule_name = 'own-timer';

-- When it would fire
SELECT * FROM tasker.cron_fire_times('30 2 * * *', 'Europe/Berlin', '2024-03-29 12:00Z', 4);
SELECT * FROM tasker.cron_fire_times('30 2 * * *', 'Europe/Berlin', '2024-10-26 12:00Z', 2);
SELECT schedules.try(format('SELECT count(*) FROM tasker.cron_fire_times(%s)', a)) FROM unnest(ARRAY[$$'* * * * *', 'UTC', 'infinity', 1$$, $$'* * * * *', 'UTC', now(), -1$$,
  $$'* * * * *', 'UTC', now(), 10001$$, $$'* * * * *', 'UTC', now(), 10000$$, $$'@often', 'UTC', now(), 1$$, $$'* * * * *', 'Nowhere', now(), 1$$, $$'* * * * *', 'UTC', '9999-12-31 23:58Z', 5$$]) AS a;

RESET SESSION AUTHORIZATION;
SELECT tasker.unschedule_task(schedule_name) FROM tasker.schedules \g /dev/null
DELETE FROM tasker.scope_pauses AS p USING tasker.task_namespaces AS n WHERE n.task_namespace_id = p.task_namespace_id AND n.name = 'sched';
SELECT * FROM tasker.check();
SELECT tasker.revoke_access('regress_schedules', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_schedules_operator', 'operator'), tasker.revoke_access('regress_schedules_monitor', 'monitor') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_schedules, regress_schedules_operator, regress_schedules_monitor CASCADE;
DROP ROLE regress_schedules, regress_schedules_operator, regress_schedules_monitor;
