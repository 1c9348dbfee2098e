-- One task per region, created in one call. psql -v run=NAME gives the run a name to look it up by.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?run}
\else
  \set run by-hand
\endif

SELECT tasker.create_tasks('flights', 'region_report',
  contexts => (
    SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('region', r.region, 'outages', 2) ORDER BY r.region)
    FROM (SELECT DISTINCT s.region FROM flights.state_region AS s) AS r),
  tags => '{example}',
  correlation_id => :'run') AS task_id;
