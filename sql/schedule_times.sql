-- Fire times in PostgreSQL's own time zones against two references that search nothing: the table that test/cron/make_reference.sql makes over
-- changes of clocks (every minute of UTC turned into local time and compared), and the same idea worked out here for months on end.
SET timezone = 'UTC';
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/test/cron/expected_fire_times.csv'
\pset format unaligned
CREATE TEMP TABLE expected (expression text, zone text, after timestamptz, until timestamptz, fire timestamptz);
COPY expected FROM :'file' WITH (FORMAT csv, DELIMITER ';', HEADER);

CREATE TEMP TABLE windows AS SELECT DISTINCT expression, zone, after, until FROM expected;
CREATE TEMP TABLE computed AS
SELECT w.expression, w.zone, w.after, t.fire FROM windows AS w CROSS JOIN LATERAL
  (SELECT fire FROM tasker.cron_fire_times(w.expression, w.zone, w.after, 1000) AS fire WHERE fire <= w.until) AS t;
SELECT count(*) > 6000 AS enough, count(DISTINCT zone) > 10 AS zones FROM expected WHERE fire IS NOT NULL;
SELECT count(*) AS missing FROM (SELECT expression, zone, after, fire FROM expected WHERE fire IS NOT NULL EXCEPT ALL SELECT * FROM computed) AS d;
SELECT count(*) AS surplus FROM (SELECT * FROM computed EXCEPT ALL SELECT expression, zone, after, fire FROM expected WHERE fire IS NOT NULL) AS d;

-- Four months of minutes in each zone. Elapsed time: each minute whose wall clock fits. A time of the day: the first minute at which the clock shows it
-- or, where it is skipped, something later.
CREATE TEMP TABLE spans (zone text, first timestamptz);
INSERT INTO spans VALUES ('Europe/Berlin', '2024-08-15'), ('America/New_York', '2024-01-15'), ('Australia/Lord_Howe', '2024-02-15'), ('Asia/Kolkata', '2024-01-01'),
  ('America/Sao_Paulo', '2017-09-01'), ('Pacific/Apia', '2011-11-01');
CREATE TEMP TABLE minutes AS
SELECT zone, first, utc, utc AT TIME ZONE zone AS local FROM spans, generate_series(first - interval '3 days', first + interval '120 days', interval '1 minute') AS utc;
CREATE INDEX ON minutes (zone, local, utc);
ANALYZE minutes;

CREATE TEMP TABLE elapsed AS
SELECT e.cron, m.zone, m.utc AS fire FROM minutes AS m JOIN (VALUES ('*/20 */3 * * *', ARRAY[0, 20, 40], 3, false), ('30 * * * sun', ARRAY[30], 1, true)) AS e (cron, minutes, hours, sundays)
  ON extract(minute FROM m.local) = ANY (e.minutes) AND extract(hour FROM m.local)::integer % e.hours = 0 AND (NOT e.sundays OR extract(dow FROM m.local) = 0)
WHERE m.utc > m.first AND m.utc <= m.first + interval '120 days';

CREATE TEMP TABLE daily AS
SELECT DISTINCT c.cron, y.zone, f.fire FROM spans AS y
CROSS JOIN (VALUES ('30 2 * * *', time '02:30'), ('0 0 * * *', '00:00'), ('15 1 * * *', '01:15'), ('45 23 * * *', '23:45')) AS c (cron, at)
CROSS JOIN generate_series(-1, 122) AS d
CROSS JOIN LATERAL (SELECT (y.first::date + d) + c.at AS local) AS l
-- The wall clock has not reached it before: repeated hours count once, skipped times end with the gap.
CROSS JOIN LATERAL (SELECT min(m.utc) AS fire FROM minutes AS m WHERE m.zone = y.zone AND m.local >= l.local AND m.local < l.local + interval '2 days') AS f
WHERE f.fire > y.first AND f.fire <= y.first + interval '120 days' AND l.local < (y.first + interval '120 days') AT TIME ZONE y.zone;

CREATE TEMP TABLE fires AS SELECT * FROM elapsed UNION ALL SELECT * FROM daily;
CREATE TEMP TABLE found AS
SELECT x.cron, x.zone, f.fire FROM (SELECT DISTINCT cron, zone FROM fires) AS x JOIN spans AS y USING (zone)
CROSS JOIN LATERAL (SELECT fire FROM tasker.cron_fire_times(x.cron, x.zone, y.first, 10000) AS fire WHERE fire <= y.first + interval '120 days') AS f;
SELECT cron, count(*) > 100 AS enough, count(DISTINCT zone) AS zones FROM fires GROUP BY cron ORDER BY cron;
SELECT count(*) AS missing FROM (SELECT * FROM fires EXCEPT ALL SELECT * FROM found) AS d;
SELECT count(*) AS surplus FROM (SELECT * FROM found EXCEPT ALL SELECT * FROM fires) AS d;
