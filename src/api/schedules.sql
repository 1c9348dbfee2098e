-- Schedules: tasks created at the times of a cron expression, fired by the dispatcher or by whoever calls tick_schedules.

CREATE FUNCTION tasker.schedule_task(schedule_name text, cron text, namespace text, name text, context jsonb DEFAULT '{}', timezone text DEFAULT 'UTC',
    overlap text DEFAULT 'skip', catch_up interval DEFAULT '0', jitter interval DEFAULT '0')
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_schedule_task';
COMMENT ON FUNCTION tasker.schedule_task(text, text, text, text, jsonb, text, text, interval, interval)
  IS 'Creates a task at each time that the expression names, owned by current_user; the same name again changes the schedule. Returns its id';

CREATE FUNCTION tasker.unschedule_task(schedule_name text)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_unschedule_task';
COMMENT ON FUNCTION tasker.unschedule_task(text) IS 'Removes a schedule with its history; tasks that it created go on';

CREATE FUNCTION tasker.pause_schedule(schedule_name text, reason text DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_pause_schedule';
COMMENT ON FUNCTION tasker.pause_schedule(text, text) IS 'Lets a schedule fire no more until resume_schedule. true: it was not paused';

CREATE FUNCTION tasker.resume_schedule(schedule_name text)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_resume_schedule';
COMMENT ON FUNCTION tasker.resume_schedule(text) IS 'Lets a paused schedule fire again, from now on. true: it was paused';

CREATE FUNCTION tasker.run_schedule_now(schedule_name text)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_run_schedule_now';
COMMENT ON FUNCTION tasker.run_schedule_now(text) IS 'Fires a schedule now, paused or not, under its overlap rule. Returns the task; NULL when none was created yet';

CREATE FUNCTION tasker.backfill_schedule(schedule_name text, from_time timestamptz, to_time timestamptz)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_backfill_schedule';
COMMENT ON FUNCTION tasker.backfill_schedule(text, timestamptz, timestamptz)
  IS 'Fires each fire time in the range, both ends included, that has not been fired; one task after another unless overlap is allow. Returns how many';

CREATE FUNCTION tasker.tick_schedules()
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_tick_schedules';
COMMENT ON FUNCTION tasker.tick_schedules() IS 'Fires what is due: for pg_cron and the like, once a minute. Returns how many tasks were created here';

CREATE FUNCTION tasker.install_cron_tick(database text DEFAULT NULL)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_install_cron_tick';
COMMENT ON FUNCTION tasker.install_cron_tick(text)
  IS 'In pg_cron''s database: makes the job that calls tick_schedules() once a minute, in this database or the one named. Returns the job''s id';

CREATE FUNCTION tasker.cron_fire_times(cron text, timezone text, after timestamptz, count integer)
  RETURNS SETOF timestamptz LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'tasker_cron_fire_times';
COMMENT ON FUNCTION tasker.cron_fire_times(text, text, timestamptz, integer) IS 'When an expression fires in a time zone: the first so many times after a moment';

CREATE FUNCTION tasker.schedule_next_fires(cron text, timezone text, after timestamptz, count integer)
  RETURNS timestamptz[] LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'tasker_schedule_next_fires';
COMMENT ON FUNCTION tasker.schedule_next_fires(text, text, timestamptz, integer) IS 'The same for the view schedules: nothing where the expression or the time zone cannot be read';

CREATE FUNCTION tasker.schedule_context(schedule_id bigint)
  RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'tasker_schedule_context';
COMMENT ON FUNCTION tasker.schedule_context(bigint) IS 'The context of a schedule''s tasks; NULL for who may not see it';

ALTER TABLE tasker.schedule_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.schedule_rows FOR SELECT USING (tasker.sees_row(owner, created_by));

ALTER TABLE tasker.schedule_fires ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasker.schedule_fires FOR SELECT
  USING (EXISTS (SELECT FROM tasker.schedule_rows AS s WHERE s.schedule_id = schedule_fires.schedule_id));

-- What the next tick would fire comes first, though its time may have passed.
CREATE VIEW tasker.schedules WITH (security_invoker = true) AS
SELECT s.schedule_name, s.cron, s.timezone, s.namespace, s.name, tasker.schedule_context(s.schedule_id) AS context, s.overlap, s.catch_up, s.jitter,
  s.owner, s.created_by, s.paused_at IS NOT NULL AS paused, s.paused_at, s.paused_by, s.pause_reason,
  (n.next_fires)[1] AS next_fire_at, n.next_fires,
  l.fire_time AS last_fire_at, l.outcome AS last_outcome, l.task_id AS last_task_id, l.message AS last_message,
  (SELECT count(*) FROM tasker.schedule_fires AS f JOIN tasker.tasks AS t ON t.task_id = f.task_id
    WHERE f.schedule_id = s.schedule_id AND f.open AND t.live) AS running_tasks,
  (SELECT count(*) FROM tasker.schedule_fires AS f WHERE f.schedule_id = s.schedule_id AND f.open AND f.task_id IS NULL) AS queued_fires,
  s.missed_at, s.created_at, s.changed_at
FROM tasker.schedule_rows AS s
CROSS JOIN LATERAL (SELECT CASE WHEN s.paused_at IS NULL
  THEN tasker.schedule_next_fires(s.cron, s.timezone, greatest(s.fires_after, clock_timestamp() - greatest(s.catch_up, '2 min')), 5) END AS next_fires) AS n
LEFT JOIN LATERAL (SELECT f.fire_time, f.outcome, f.task_id, f.message FROM tasker.schedule_fires AS f
  WHERE f.schedule_id = s.schedule_id ORDER BY f.fire_time DESC LIMIT 1) AS l ON true;
COMMENT ON VIEW tasker.schedules IS 'One row per schedule: when it fires next, what came of the last time, what runs and what waits. missed_at: the first of the fire times that were passed over last';

CREATE VIEW tasker.schedule_history WITH (security_invoker = true) AS
SELECT s.schedule_name, f.fire_time, f.outcome, f.task_id, t.state AS task_state, f.message, f.ticked_by, f.created_at
FROM tasker.schedule_fires AS f
JOIN tasker.schedule_rows AS s ON s.schedule_id = f.schedule_id
LEFT JOIN tasker.tasks AS t ON t.task_id = f.task_id;
COMMENT ON VIEW tasker.schedule_history IS 'What came of each fire time: created, skipped, queued or failed; the task, and who ticked';
