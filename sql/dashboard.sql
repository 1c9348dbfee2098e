-- The page to look at: what is in it, for whom, how much of it, and that nothing people wrote gets out of its place.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_dash LOGIN;
CREATE ROLE regress_dash_other LOGIN;
CREATE ROLE regress_dash_monitor LOGIN;
SELECT tasker.grant_access('regress_dash', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_dash_other', 'viewer'), tasker.grant_access('regress_dash_monitor', 'monitor') \g /dev/null
CREATE SCHEMA dash AUTHORIZATION regress_dash;
SET SESSION AUTHORIZATION regress_dash;
CREATE FUNCTION dash.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.step_name = 'fails' THEN PERFORM tasker.raise_permanent('</script><img src=x onerror=alert(1)> & ' || chr(8232) || ' <!--'); END IF;
  RETURN '"a result that nobody else shall see"';
END
$$;
SELECT tasker.define_task('{"namespace": "dash", "name": "drawn", "steps": [
  {"name": "first", "handler": {"type": "sql", "function": "dash.act"}},
  {"name": "fails", "depends_on": ["first"], "handler": {"type": "sql", "function": "dash.act"}},
  {"name": "right", "depends_on": ["first"], "handler": {"type": "sql", "function": "dash.act"}},
  {"name": "last", "depends_on": ["fails", "right"], "handler": {"type": "sql", "function": "dash.act"}}]}') \g /dev/null
SELECT tasker.create_task('dash', 'drawn', '{"secret": "a context that nobody else shall see"}', reason => '<b>"''&', tags => ARRAY['<i>']) AS task \gset
CALL tasker.run_task(:task, true);

-- One task, as its owner sees it
SELECT d ->> 'role' AS role, d ->> 'scope' AS scope, ARRAY(SELECT jsonb_object_keys(d) ORDER BY 1) AS keys, d -> 'counts' AS counts FROM tasker.dashboard_data() AS d;
SELECT t ->> 'name' AS name, t ->> 'state' AS state, t -> 'failing' AS failing, t ->> 'reason' AS reason, t -> 'tags' AS tags, t -> 'total_steps' AS steps
FROM tasker.dashboard_task(:task) AS t;
SELECT s ->> 'name' AS step, s ->> 'level' AS level, s -> 'parents' AS parents, s ->> 'state' AS state, s ->> 'attempts' AS attempts, s ->> 'error' AS error
FROM jsonb_array_elements(tasker.dashboard_task(:task) -> 'steps') AS s ORDER BY s -> 'no';
SELECT a ->> 'no' AS step_no, a ->> 'attempt' AS attempt, a ->> 'state' AS state, a ->> 'from' <= a ->> 'to' AS in_order
FROM jsonb_array_elements(tasker.dashboard_task(:task) -> 'attempts') AS a ORDER BY a -> 'no';
SELECT f ->> 'step' AS step, f ->> 'kind' AS kind, f ->> 'sqlstate' AS sqlstate, f ->> 'blocked' AS blocked, (f ->> 'task_id')::bigint = :task AS it FROM jsonb_array_elements(tasker.dashboard_data() -> 'failures') AS f;
SELECT s ->> 'step' AS step, s ->> 'attempts' AS attempts, s ->> 'failures' AS failures, (s ->> 'mean_ms')::numeric >= 0 AS measured
FROM jsonb_array_elements(tasker.dashboard_data() -> 'slowest') AS s ORDER BY 1;
SELECT h ->> 'state' AS state, h ->> 'tasks' AS tasks FROM jsonb_array_elements(tasker.dashboard_data() -> 'hours') AS h ORDER BY 1;

-- The page: what it shows can be read back, and is inert; nothing of the payloads
CREATE FUNCTION dash.shown(page text) RETURNS text LANGUAGE sql AS $$ SELECT (regexp_match(page, '<script type="application/json" id="data">(.*?)</script>'))[1] $$;
GRANT USAGE ON SCHEMA dash TO PUBLIC;
SELECT tasker.dashboard_html() AS page \gset
SELECT dash.shown(:'page')::jsonb #>> '{failures,0,message}' AS message, dash.shown(:'page') ~ '[<>&]' AS markup, :'page' ~ '[^\x01-\x7e]' AS beyond_ascii, :'page' ~ 'shall see' AS payload,
  (SELECT count(*) FROM regexp_matches(:'page', '<(/?)script', 'g')) AS script_tags, :'page' ~ '(src|href)="' AS refers;
-- The policy names the hashes of the style and the script that are there
SELECT :'page' LIKE '%default-src ''none''; style-src ''sha256-' || encode(sha256(convert_to((regexp_match(:'page', '<style>(.*?)</style>'))[1], 'UTF8')), 'base64')
    || '''; script-src ''sha256-' || encode(sha256(convert_to((regexp_match(:'page', '<script>(.*?)</script>'))[1], 'UTF8')), 'base64') || '''%' AS hashes_agree,
  :'page' ~ 'http-equiv="refresh"' AS refreshes;
SELECT tasker.dashboard_html(refresh_seconds => 30) ~ '<meta http-equiv="refresh" content="30">' AS refreshes;
SELECT tasker.dashboard_html(refresh_seconds => 0);
SELECT tasker.dashboard_html(refresh_seconds => 86401);
SELECT tasker.dashboard_html(-1);

-- No more than so much, and the task that is asked for
SELECT count(*) FROM tasker.create_tasks('dash', 'drawn', array_fill('{}'::jsonb, ARRAY[230]), run_at => now() + interval '1 day');
SELECT jsonb_array_length(d -> 'live') AS live, jsonb_array_length(d -> 'tasks') AS tasks, d #> '{tasks,0,task_id}' = to_jsonb(:task::bigint) AS failing_first, length(d::text) < 200000 AS small FROM tasker.dashboard_data() AS d;
SELECT min(t.task_id) AS oldest FROM tasker.tasks AS t WHERE t.live \gset
SELECT tasker.dashboard_data() @> jsonb_build_object('tasks', jsonb_build_array(jsonb_build_object('task_id', :oldest))) AS by_itself, tasker.dashboard_data(:oldest) #> '{tasks,0,task_id}' = to_jsonb(:oldest::bigint) AS asked_for;
SELECT jsonb_array_length(dash.shown(tasker.dashboard_html(:oldest))::jsonb -> 'tasks') AS tasks;
-- Finished tasks from a certain one on; failing ones are shown all the same
SELECT jsonb_path_query_array(tasker.dashboard_data(NULL, :task), '$.hours[*].state') AS with_it, jsonb_path_query_array(tasker.dashboard_data(NULL, :task + 1), '$.hours[*].state') AS without;

-- Somebody else sees none of it
SET SESSION AUTHORIZATION regress_dash_other;
SELECT jsonb_array_length(d -> 'live') AS live, jsonb_array_length(d -> 'tasks') AS tasks, d -> 'failures' AS failures, d -> 'slowest' AS slowest, d -> 'hours' AS hours, d -> 'counts' AS counts, d -> 'health' AS health
FROM tasker.dashboard_data(:task) AS d;
SELECT tasker.dashboard_task(:task);
\set VERBOSITY sqlstate
SELECT tasker.dashboard_html(:task);
\set VERBOSITY terse
SELECT dash.shown(tasker.dashboard_html()) ~ 'dash\.act|drawn|regress_dash"' AS leaks;
SELECT tasker.dashboard_totals();
-- A monitor sees it, with the messages of errors as in step_status
SET SESSION AUTHORIZATION regress_dash_monitor;
SELECT d ->> 'scope' AS scope, d -> 'health' ? 'status' AS health, d -> 'counts' ? 'complete' AS counts, jsonb_array_length(d -> 'live') AS live FROM tasker.dashboard_data() AS d;
SELECT f ->> 'step' AS step, f -> 'message' AS message FROM jsonb_array_elements(tasker.dashboard_data(:task) -> 'failures') AS f WHERE (f ->> 'task_id')::bigint = :task;
SELECT s ->> 'name' AS step, s -> 'error' AS error FROM jsonb_array_elements(tasker.dashboard_task(:task) -> 'steps') AS s WHERE s ->> 'state' = 'error';
-- Without any level there is none of it
RESET SESSION AUTHORIZATION;
SELECT tasker.revoke_access('regress_dash_other', 'viewer');
SET SESSION AUTHORIZATION regress_dash_other;
SELECT tasker.dashboard_html();
RESET SESSION AUTHORIZATION;

SELECT tasker.cancel_task(ARRAY(SELECT t.task_id FROM tasker.tasks AS t WHERE t.owner = 'regress_dash'::regrole AND t.live), 'the test is over');
