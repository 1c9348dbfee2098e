-- The fire times that test/unit/cron_test.cpp expects, worked out by PostgreSQL alone:
--
--   psql -XqAt -v ON_ERROR_STOP=1 -f test/cron/make_reference.sql > test/cron/expected_fire_times.csv
--
-- Any database of PostgreSQL 15 or later will do; it needs no tasker. Nothing here searches: every minute of UTC in a window is
-- turned into local time and compared with the expression, and the minutes that a clock skips are listed one by one.
-- Each line says that between `after` and `until` (exclusive and inclusive, UTC) the expression fires at `fire`, or never when that
-- is empty. All changes lie in the past, so that newer time zone data gives the same file.
SET timezone = 'UTC';
SET client_min_messages = warning;
SET work_mem = '256MB';
BEGIN;

-- Where clocks change: by an hour, half an hour, a quarter, two hours and a whole day; at two, at midnight and at a minute past it.
CREATE TEMP TABLE changes (zone text, at timestamptz);
INSERT INTO changes VALUES
  ('UTC', '2024-03-31 01:00'),
  ('Europe/Berlin', '2024-03-31 01:00'), ('Europe/Berlin', '2024-10-27 01:00'),
  ('America/New_York', '2024-03-10 07:00'), ('America/New_York', '2024-11-03 06:00'),
  ('America/Sao_Paulo', '2017-10-15 03:00'), ('America/Sao_Paulo', '2018-02-18 02:00'),
  ('Australia/Lord_Howe', '2024-04-06 15:00'), ('Australia/Lord_Howe', '2024-10-05 15:30'),
  ('Asia/Kathmandu', '1985-12-31 18:30'),
  ('Pacific/Apia', '2011-12-30 10:00'), ('Pacific/Apia', '2012-03-31 14:00'), ('Pacific/Apia', '2012-09-29 14:00'),
  ('Africa/Cairo', '2010-08-10 21:00'), ('Africa/Cairo', '2010-09-09 22:00'),
  ('Africa/Cairo', '2023-04-27 22:00'), ('Africa/Cairo', '2023-10-26 21:00'),
  ('Asia/Tehran', '2021-03-21 20:30'), ('Asia/Tehran', '2021-09-21 19:30'),
  ('America/St_Johns', '2010-03-14 03:31'), ('America/St_Johns', '2010-11-07 02:31'),
  ('Antarctica/Troll', '2024-03-31 01:00'), ('Antarctica/Troll', '2024-10-27 01:00'),
  ('America/Caracas', '2007-12-09 07:00'), ('America/Caracas', '2016-05-01 07:00'),
  ('Asia/Pyongyang', '2015-08-14 15:00'), ('Asia/Pyongyang', '2018-05-04 15:00');

DO $$
DECLARE
  wrong record;
BEGIN
  FOR wrong IN SELECT zone, at FROM changes
               WHERE zone <> 'UTC' AND (at AT TIME ZONE zone) - ((at - interval '1 minute') AT TIME ZONE zone) = interval '1 minute' LOOP
    RAISE EXCEPTION 'the clock of % does not change at %', wrong.zone, wrong.at;
  END LOOP;
END $$;

-- How far around a change each expression is looked at: near enough to keep the file small.
CREATE TEMP TABLE close_up (expression text, reach interval);
INSERT INTO close_up VALUES
  -- elapsed time
  ('* * * * *', '15 min'), ('*/7 * * * *', '63 min'), ('*/15 * * * *', '140 min'), ('30 * * * *', '3 h'), ('@hourly', '3 h'),
  ('0 */2 * * *', '9 h'), ('15 */3 * * *', '9 h'), ('20,50 */1 * * sat,sun', '3 h'),
  -- times of the day
  ('0 0 * * *', '50 h'), ('15 0 * * *', '26 h'), ('30 0 * * *', '26 h'), ('59 0 * * *', '26 h'), ('0 1 * * *', '26 h'), ('30 1 * * *', '26 h'),
  ('59 1 * * *', '26 h'), ('0 2 * * *', '26 h'), ('15 2 * * *', '26 h'), ('30 2 * * *', '50 h'), ('0 3 * * *', '26 h'), ('0 12 * * *', '50 h'),
  ('30 23 * * *', '26 h'), ('45 23 * * *', '26 h'), ('* 0 * * *', '25 min'), ('*/10 2 * * *', '26 h'), ('*/20 0-3 * * *', '4 h'),
  ('0 0-23 * * *', '4 h'), ('30 0-23 * * *', '4 h'), ('5-55/25 0,1,2,23 * * *', '3 h'), ('45 22-23 * * *', '26 h'),
  ('30 1-3 * * sun', '50 h'), ('0 0 * * mon-fri', '50 h'), ('30 0,2,23 */2 * fri-sun', '50 h'), ('0 2 L * sun', '50 h');

-- Years at once, for what is rare.
CREATE TEMP TABLE years (zone text, first timestamptz, last timestamptz);
INSERT INTO years VALUES
  ('UTC', '2022-12-01', '2025-03-05'), ('Europe/Berlin', '2023-10-01', '2024-12-02'), ('America/Sao_Paulo', '2016-01-20', '2018-03-05'),
  ('Asia/Tehran', '2020-02-20', '2021-11-01'), ('Pacific/Apia', '2010-12-20', '2013-01-05'), ('Asia/Pyongyang', '2015-07-20', '2016-03-05');
CREATE TEMP TABLE rare (expression text);
INSERT INTO rare VALUES
  ('@monthly'), ('@yearly'), ('0 0 L * *'), ('30 23 28,L 2-12/2 *'), ('15 6 $ Jun-AUG *'), ('0 0 29 2 *'), ('0 12 30 12 *'), ('30 */7 30 12 *'),
  ('30 2 13 3,12 5'), ('0 4 */10 * MON'), ('0 0 * feb,Nov 7'), ('30 0 1 4-12/8 0-6/4'), ('45 2 25-31 10 sun'), ('0 0 31 * */3');

-- The values of one field, L as 99.
CREATE FUNCTION pg_temp.field_values(field text, low integer, high integer, names text[] DEFAULT '{}') RETURNS integer[]
LANGUAGE sql IMMUTABLE AS $$
  WITH items AS (
    SELECT string_to_array(split_part(item, '/', 1), '-') AS bounds, coalesce(nullif(split_part(item, '/', 2), ''), '1')::integer AS step
    FROM regexp_split_to_table(regexp_replace(lower(field), 'l|\$', '99'), ',') AS item
  ), ends AS (
    SELECT CASE WHEN bounds[1] = '*' THEN low ELSE coalesce(low - 1 + array_position(names, bounds[1]), bounds[1]::integer) END AS first,
           CASE WHEN bounds[1] = '*' THEN high ELSE coalesce(low - 1 + array_position(names, upper), upper::integer) END AS last,
           step
    FROM items, LATERAL (SELECT bounds[cardinality(bounds)] AS upper) AS uppers
  )
  SELECT array_agg(DISTINCT value) FROM ends, generate_series(first, CASE WHEN last = 0 AND first > 0 THEN high ELSE last END, step) AS value
$$;

CREATE TEMP TABLE expressions AS
SELECT expression, minutes, hours, days, months, array(SELECT weekday % 7 FROM unnest(weekdays) AS weekday) AS weekdays,
       fields[2] LIKE '*%' AS elapsed, fields[3] LIKE '*%' OR fields[5] LIKE '*%' AS both_days
FROM (SELECT expression FROM close_up UNION SELECT expression FROM rare) AS every,
  LATERAL (SELECT string_to_array(CASE expression WHEN '@hourly' THEN '0 * * * *' WHEN '@monthly' THEN '0 0 1 * *' WHEN '@yearly' THEN '0 0 1 1 *'
                                  ELSE expression END, ' ') AS fields) AS split,
  LATERAL (SELECT pg_temp.field_values(fields[1], 0, 59) AS minutes, pg_temp.field_values(fields[2], 0, 23) AS hours,
                  pg_temp.field_values(fields[3], 1, 31) AS days,
                  pg_temp.field_values(fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}') AS months,
                  pg_temp.field_values(fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}') AS weekdays) AS parsed;

CREATE TEMP TABLE windows AS
SELECT row_number() OVER () AS number, *
FROM (SELECT expression, zone, at - reach AS after, at + reach AS until FROM changes, close_up
      UNION ALL SELECT expression, zone, first, last FROM years, rare) AS every;

-- Every minute that a clock shows, from two days before the first window that needs it, and which pass over that local minute it is.
CREATE TEMP TABLE shown AS
SELECT zone, utc, local, row_number() OVER (PARTITION BY zone, local ORDER BY utc) AS pass,
       lag(local) OVER (PARTITION BY zone ORDER BY utc) AS before, lag(utc) OVER (PARTITION BY zone ORDER BY utc) AS utc_before
FROM (SELECT DISTINCT zone, utc, utc AT TIME ZONE zone AS local
      FROM (SELECT DISTINCT zone, after - interval '2 days' AS first, until AS last FROM windows) AS spans,
        generate_series(first, last, interval '1 minute') AS utc) AS minutes;

-- What expressions are compared with: the minutes shown, and those skipped, which count at the end of their gap. Between two
-- windows of a zone there are minutes nobody looks at: those are no gap.
CREATE TEMP TABLE candidates AS
SELECT zone, utc, skipped, pass, extract(minute FROM local)::integer AS minute, extract(hour FROM local)::integer AS hour,
       extract(day FROM local)::integer AS day, extract(day FROM local + interval '1 day') = 1 AS last_day,
       extract(month FROM local)::integer AS month, extract(dow FROM local)::integer AS weekday
FROM (SELECT zone, utc, local, false AS skipped, pass FROM shown
      UNION ALL
      SELECT zone, utc, gap, true, 1
      FROM shown, generate_series(before + interval '1 minute', local - interval '1 minute', interval '1 minute') AS gap
      WHERE utc - utc_before = interval '1 minute') AS every;
CREATE INDEX ON candidates (zone, minute, hour, utc);
ANALYZE candidates, windows, expressions;

CREATE TEMP TABLE fires AS
SELECT DISTINCT number, utc AS fire
FROM windows JOIN expressions USING (expression) CROSS JOIN unnest(minutes) AS minute CROSS JOIN unnest(hours) AS hour
  JOIN candidates USING (zone, minute, hour)
WHERE utc > after AND utc <= until AND month = ANY (months)
  AND CASE WHEN elapsed THEN NOT skipped ELSE pass = 1 END
  AND CASE WHEN both_days THEN (day = ANY (days) OR (99 = ANY (days) AND last_day)) AND weekday = ANY (weekdays)
           ELSE day = ANY (days) OR (99 = ANY (days) AND last_day) OR weekday = ANY (weekdays) END;

\echo expression;zone;after;until;fire
SELECT concat_ws(';', expression, zone, to_char(after, 'YYYY-MM-DD HH24:MI'), to_char(until, 'YYYY-MM-DD HH24:MI'),
                 coalesce(to_char(fire, 'YYYY-MM-DD HH24:MI'), ''))
FROM windows LEFT JOIN fires USING (number)
ORDER BY zone COLLATE "C", after, expression COLLATE "C", fire;
ROLLBACK;
