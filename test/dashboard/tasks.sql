-- Tasks for the page: done, failed, running, waiting, large; with hostile text wherever people may write what they like. Prints the
-- ids that the test asks for, as JSON.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE ROLE dash_owner LOGIN;
CREATE ROLE dash_other LOGIN;
SELECT tasker.grant_access('dash_owner', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('dash_other', 'viewer') \g /dev/null
CREATE SCHEMA dash AUTHORIZATION dash_owner;
SET SESSION AUTHORIZATION dash_owner;

-- Works for as long as its step usually takes, so that the pictures have something to show; the context says what goes wrong.
CREATE FUNCTION dash.work(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(coalesce((step.config #>> '{config,ms}')::float8, 30) / 1000);
  IF step.step_name = step.context ->> 'fails' THEN
    PERFORM tasker.raise_permanent(step.context ->> 'message');
  ELSIF step.step_name = step.context ->> 'stumbles' AND step.attempt = 1 THEN
    PERFORM tasker.raise_retryable('the bank answered 503: try again', retry_after => '100 ms');
  ELSIF step.step_name = step.context ->> 'waits' THEN
    PERFORM tasker.raise_retryable('the warehouse is closed for stocktaking', retry_after => '2 hours');
  END IF;
  RETURN '1';
END
$$;
CREATE FUNCTION dash.steps(described text) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(jsonb_build_object('name', p[1], 'depends_on', coalesce(to_jsonb(string_to_array(nullif(p[3], ''), ',')), '[]'), 'max_attempts', 5,
    'handler', CASE p[2] WHEN 'signal' THEN '{"type": "signal", "name": "go"}'::jsonb ELSE jsonb_build_object('type', 'sql', 'function', 'dash.work', 'config', jsonb_build_object('ms', p[2]::integer)) END) ORDER BY n)
  FROM regexp_split_to_table(described, '\s+') WITH ORDINALITY AS t (s, n) CROSS JOIN LATERAL (SELECT string_to_array(s, '|') AS p) AS x
$$;
SELECT tasker.define_task(jsonb_build_object('namespace', 'shop', 'name', 'order', 'steps', dash.steps(
  'validate|20| check_fraud|140|validate reserve_stock|60|validate quote_shipping|90|validate charge_card|110|check_fraud,reserve_stock book_carrier|70|quote_shipping,reserve_stock print_label|30|book_carrier,charge_card pack|160|print_label,reserve_stock invoice|50|charge_card confirm|20|pack,invoice'))) \g /dev/null
SELECT tasker.define_task(jsonb_build_object('namespace', 'shop', 'name', 'refund', 'steps', dash.steps('check|20| approval|signal|check pay_back|60|approval book|20|pay_back inform|20|pay_back'))) \g /dev/null
-- As wide and deep as those of a genome project: 60 steps in layers, some edges over several of them
SELECT tasker.define_task(jsonb_build_object('namespace', 'science', 'name', 'genome', 'steps', dash.steps(
  'reference|40| ' || (SELECT string_agg(format('fetch_%1$s|%2$s| align_%1$s|%3$s|fetch_%1$s,reference sort_%1$s|30|align_%1$s call_variants_%1$s|%4$s|sort_%1$s,reference', i, 20 + 7 * i % 50, 60 + 13 * i % 90, 40 + 11 * i % 70), ' ') FROM generate_series(1, 14) AS i)
  || ' merge|120|' || (SELECT string_agg('call_variants_' || i, ',') FROM generate_series(1, 14) AS i) || ' annotate|60|merge,reference report|20|annotate'))) \g /dev/null

CREATE TEMP TABLE made (what text, task_id bigint);
INSERT INTO made SELECT 'done', tasker.create_task('shop', 'order', tags => ARRAY['web', 'gift']) FROM generate_series(1, 3);
INSERT INTO made SELECT 'stumbled', tasker.create_task('shop', 'order', '{"stumbles": "charge_card"}');
INSERT INTO made SELECT 'large', tasker.create_task('science', 'genome');
INSERT INTO made SELECT 'hostile', tasker.create_task('shop', 'order', jsonb_build_object('fails', 'reserve_stock', 'message', '</script><img src=x onerror=alert(1)><script>alert(2)</script> & <!-- ' || E'\u2028' || ' ${x} "quoted" ''twice'''),
  initiator => '<b onclick=alert(3)>', reason => '"><svg onload=alert(4)>', tags => ARRAY['<i>tag</i>'], correlation_id => 'javascript:alert(5)//]]>');
INSERT INTO made SELECT 'failed', tasker.create_task('shop', 'order', '{"fails": "check_fraud", "message": "card 4242 was reported stolen; the order needs a decision"}');
INSERT INTO made SELECT 'retrying', tasker.create_task('shop', 'order', '{"waits": "reserve_stock"}');
INSERT INTO made SELECT 'asked', tasker.create_task('shop', 'refund') FROM generate_series(1, 4);
INSERT INTO made SELECT 'later', tasker.create_task('shop', 'order', run_at => now() + interval '3 hours');
SELECT tasker.wait_for_task(m.task_id, '60 s') FROM made AS m WHERE m.what IN ('done', 'stumbled', 'large') \g /dev/null
-- The others come to rest without an end: until nothing runs, and nothing could.
DO $$
BEGIN
  FOR i IN 1 .. 600 LOOP
    EXIT WHEN NOT EXISTS (SELECT FROM tasker.ready_steps) AND NOT EXISTS (SELECT FROM tasker.running_steps AS r JOIN tasker.step_status AS s USING (task_id, step_name) WHERE s.signal_name IS NULL);
    IF i = 600 THEN RAISE 'the tasks did not come to rest'; END IF;
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$$;
SELECT json_object_agg(m.what, m.task_id) FROM (SELECT what, min(task_id) AS task_id FROM made GROUP BY what) AS m;
RESET SESSION AUTHORIZATION;
-- What is counted in memory comes to the tables within seconds.
DO $$
BEGIN
  FOR i IN 1 .. 600 LOOP
    EXIT WHEN NOT EXISTS (SELECT FROM tasker.workflow_steps AS s JOIN tasker.tasks AS t USING (task_id) JOIN tasker.named_steps AS d USING (named_task_id, step_no)
      WHERE s.state = 'complete' AND d.handler_type = 'sql' AND NOT EXISTS (SELECT FROM tasker.step_history AS h WHERE h.named_task_id = t.named_task_id AND h.step_no = s.step_no AND h.successes > 0));
    IF i = 600 THEN RAISE 'the attempts were not counted'; END IF;
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$$;
-- Two days of such work, as they would have been counted
INSERT INTO tasker.task_outcomes (hour, named_task_id, state, tasks, started, total_ms, max_ms)
SELECT date_trunc('hour', now()) - h * interval '1 hour', n.named_task_id, s.state::tasker.task_state, s.number, 0, 0, 0
FROM generate_series(1, 47) AS h JOIN tasker.named_tasks AS n ON n.name = 'order'
CROSS JOIN LATERAL (SELECT round(70 + 55 * sin((h - extract(hour FROM now())) * pi() / 12) + 7 * (h % 5))::bigint AS total) AS t
CROSS JOIN LATERAL (VALUES ('pending', t.total), ('complete', t.total - t.total / 12 - h % 3), ('error', t.total / 12 * (h % 4) / 3), ('cancelled', h % 3::bigint)) AS s (state, number)
ON CONFLICT DO NOTHING;
