-- The cache of costly answers: who gets what, when it is not used, what is told of it.
\pset format unaligned
\pset tuples_only on
\setenv PGDATABASE :DBNAME
CREATE ROLE regress_cache_one LOGIN;
CREATE ROLE regress_cache_two LOGIN;
CREATE ROLE regress_cache_none LOGIN;
CREATE ROLE regress_cache_plain LOGIN;
SELECT tasker.grant_access(r::regrole, 'operator') FROM unnest(ARRAY['regress_cache_one', 'regress_cache_two']) AS r \g /dev/null
SELECT tasker.grant_access('regress_cache_two', l) FROM unnest(ARRAY['submitter', 'author']) AS l \g /dev/null
SELECT tasker.grant_access('regress_cache_none', 'worker', 'cache_queue') \g /dev/null
SELECT tasker.grant_access('regress_cache_plain', 'viewer') \g /dev/null
SELECT tasker.define_task('{"namespace": "cache", "name": "later", "steps": [{"name": "a", "handler": {"type": "noop"}}]}') \g /dev/null
-- Answers are of whole hours: this does not begin at the end of one
SELECT pg_sleep(extract(epoch FROM date_trunc('hour', x) + interval '1 hour' - x)) FROM clock_timestamp() AS x WHERE x > date_trunc('hour', x) + interval '59 minutes 45 seconds' \g /dev/null
SELECT tasker.clear_cache() >= 0 AS cleared;
-- What was asked in other tests is known still; this one looks at its own roles
SELECT count(*) AS answers FROM tasker.cache_status WHERE bytes > 0;
SELECT DISTINCT strategy, capability FROM tasker.cache_status;
CREATE VIEW asked AS SELECT function, role, arguments, state, hits, misses, waited, bytes > 0 AS kept, expires_at > generated_at AS lasts FROM tasker.cache_status WHERE role::text LIKE 'regress_cache%';
GRANT SELECT ON asked TO regress_cache_one, regress_cache_two;

-- The second time it is there; whoever else asks has his own
SET SESSION AUTHORIZATION regress_cache_one;
SELECT r -> 'cached' AS cached, r ->> 'expires_at' > r ->> 'generated_at' AS kept, r ->> 'generated_at' AS generated_at FROM tasker.performance_report(namespace => 'cache') AS r \gset first_
SELECT :'first_cached' AS cached, :'first_kept' AS kept;
SELECT r -> 'cached' AS cached, r ->> 'generated_at' = :'first_generated_at' AS same, r #>> '{filters,namespace}' AS namespace FROM tasker.performance_report(namespace => 'cache') AS r;
-- Other arguments, another question
SELECT r -> 'cached' AS other_hours FROM tasker.performance_report(clock_timestamp() - interval '5 hours', namespace => 'cache') AS r;
SELECT r -> 'cached' AS other_filter FROM tasker.performance_report(namespace => 'cache', name => 'later') AS r;
SET SESSION AUTHORIZATION regress_cache_two;
SELECT r -> 'cached' AS other_role FROM tasker.performance_report(namespace => 'cache') AS r;
SELECT r -> 'cached' AS again FROM tasker.performance_report(namespace => 'cache') AS r;
SELECT function, role, arguments, state, hits, misses, kept, lasts FROM asked ORDER BY role::text, arguments::text COLLATE "C";

-- Rows come back as they were
SELECT tasker.clear_cache('get_analytics_metrics') AS none_yet;
SELECT m::text AS metrics FROM tasker.get_analytics_metrics() AS m \gset
SELECT m::text = :'metrics' AS same FROM tasker.get_analytics_metrics() AS m;
SELECT count(*) AS steps FROM tasker.get_slowest_steps(max_rows => 3, namespace => 'cache');
SELECT count(*) AS tasks FROM tasker.get_slowest_tasks(max_rows => 3, namespace => 'cache');
SELECT md5(tasker.analyze_template('cache', 'later')::text) = md5(tasker.analyze_template('cache', 'later')::text) AS same;
SELECT function, arguments - 'named_task_id' AS arguments, hits, misses FROM asked WHERE function <> 'performance_report' ORDER BY 1;

-- A transaction sees what it did itself, and nobody else sees it
SELECT active_tasks_count AS live FROM tasker.get_analytics_metrics() \gset
BEGIN;
SELECT tasker.create_task('cache', 'later', run_at => '2999-01-01') AS task \gset
SELECT active_tasks_count - :live AS own FROM tasker.get_analytics_metrics();
ROLLBACK;
SELECT active_tasks_count - :live AS rolled_back FROM tasker.get_analytics_metrics();
SELECT tasker.create_task('cache', 'later', run_at => '2999-01-01') AS task \gset
SELECT active_tasks_count - :live AS kept_for_a_while FROM tasker.get_analytics_metrics();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT active_tasks_count - :live AS one_snapshot_for_all FROM tasker.get_analytics_metrics();
ROLLBACK;
-- Inside a subtransaction as outside; one that wrote and was undone has still written
BEGIN;
SAVEPOINT s;
SELECT active_tasks_count - :live AS still FROM tasker.get_analytics_metrics();
SELECT tasker.cancel_task(:task) AS moved;
ROLLBACK TO s;
SELECT active_tasks_count - :live AS of_now FROM tasker.get_analytics_metrics();
ROLLBACK;
-- By hand: at once, and not at commit
BEGIN;
SELECT tasker.clear_cache('get_analytics_metrics') AS cleared;
ROLLBACK;
SELECT active_tasks_count - :live AS fresh FROM tasker.get_analytics_metrics();
SELECT tasker.clear_cache() >= 3 AS all_cleared;
SELECT DISTINCT state, kept FROM asked;
SELECT hits > 0 AS what_was_learnt_stays FROM asked WHERE function = 'get_analytics_metrics';
SELECT tasker.clear_cache('get_slowest');

-- A statement that began long ago publishes what is true now, not what was
BEGIN;
DECLARE held CURSOR FOR SELECT active_tasks_count - :live AS count FROM tasker.get_analytics_metrics();
\! psql -X -q -A -t -d "$PGDATABASE" -c "SET SESSION AUTHORIZATION regress_cache_two" -c "SELECT tasker.create_task('cache', 'later', run_at => '2999-01-01') > 0"
FETCH held;
COMMIT;
SELECT active_tasks_count - :live AS count FROM tasker.get_analytics_metrics();

-- What cannot be answered is not kept
SELECT tasker.performance_report(name => 'no such definition');
SELECT count(*) AS kept FROM asked WHERE arguments ->> 'name' = 'no such definition' AND kept;

-- Who may: monitor and more look, operators clear; rights are checked at each call, whatever is kept
SET SESSION AUTHORIZATION regress_cache_plain;
SELECT tasker.analyze_template('cache', 'later') ->> 'name' AS definition;
SELECT count(*) FROM tasker.cache_status;
SELECT tasker.clear_cache();
SELECT tasker.performance_report(namespace => 'cache');
SET SESSION AUTHORIZATION regress_cache_none;
SELECT tasker.clear_cache();
RESET SESSION AUTHORIZATION;
SELECT tasker.grant_access('regress_cache_none', 'monitor') \g /dev/null
SET SESSION AUTHORIZATION regress_cache_none;
SELECT r -> 'cached' AS first FROM tasker.performance_report(namespace => 'cache') AS r;
SELECT tasker.clear_cache();
RESET SESSION AUTHORIZATION;
SELECT tasker.revoke_access('regress_cache_none', 'monitor') \g /dev/null
SET SESSION AUTHORIZATION regress_cache_none;
SELECT tasker.performance_report(namespace => 'cache');
RESET SESSION AUTHORIZATION;

-- Why so long, by the factors
SELECT tasker.clear_cache() >= 0 AS cleared;
SELECT count(*) FROM generate_series(1, 150) AS i, LATERAL (SELECT tasker.performance_report(clock_timestamp() - make_interval(hours => 7 + i % 1), namespace => 'cache')) AS r;
SELECT hits, misses, hit_rate > 0.99 AS rate, frequency > 100 AS often, base_ttl, hit_factor, cost_factor, frequency_factor, ttl = round(base_ttl * hit_factor * cost_factor * frequency_factor, 3) AS product,
  regexp_replace(why, '(takes|frequency) [0-9.]+', '\1 …', 'g') AS why
FROM tasker.cache_status WHERE function = 'performance_report' AND role = session_user::regrole AND arguments ->> 'hours_back' = '7';
-- Every cached function has a row
SELECT function, count(*) > 0 AS listed FROM tasker.cache_status GROUP BY 1 ORDER BY 1;

-- Switched off and on
ALTER SYSTEM SET tasker.intelligent_cache = off;
SELECT pg_reload_conf() \g /dev/null
\c -
\pset format unaligned
\pset tuples_only on
SELECT r -> 'cached' AS cached, r ->> 'expires_at' = r ->> 'generated_at' AS not_kept FROM generate_series(1, 2), LATERAL (SELECT tasker.performance_report(namespace => 'cache') AS r) AS x;
SELECT DISTINCT strategy, capability FROM tasker.cache_status;
SELECT hits > 100 AS what_was_learnt_is_kept FROM tasker.cache_status WHERE function = 'performance_report' AND role = session_user::regrole AND arguments ->> 'hours_back' = '7';
ALTER SYSTEM RESET tasker.intelligent_cache;
SELECT pg_reload_conf() \g /dev/null
\c -
\pset format unaligned
\pset tuples_only on
SELECT DISTINCT strategy FROM tasker.cache_status;
SELECT tasker.cancel_task(task_id) FROM tasker.task_status WHERE namespace = 'cache' \g /dev/null
DROP VIEW asked;
