-- Steps of external workers: claimed under a lease and a token, completed, failed, released, taken back; who may do so; limits.
\set SHOW_CONTEXT never
CREATE ROLE regress_queues LOGIN;
CREATE ROLE regress_queues_worker LOGIN;
CREATE ROLE regress_queues_other LOGIN;
CREATE ROLE regress_queues_operator LOGIN;
SELECT tasker.grant_access('regress_queues', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l \g /dev/null
SELECT tasker.grant_access('regress_queues_worker', 'worker', 'regress-mail') \g /dev/null
SELECT tasker.grant_access('regress_queues_worker', 'worker', 'regress-print') \g /dev/null
SELECT tasker.grant_access('regress_queues_other', 'worker', 'regress-other') \g /dev/null
SELECT tasker.grant_access('regress_queues_operator', 'operator') \g /dev/null
CREATE SCHEMA queues AUTHORIZATION regress_queues;
GRANT USAGE ON SCHEMA queues TO PUBLIC;

SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.define_task($${"namespace": "queues", "name": "mail", "steps": [
  {"name": "prepare", "handler": {"type": "noop"}},
  {"name": "send", "depends_on": ["prepare"], "handler": {"type": "external", "queue": "regress-mail", "config": {"template": "hello"}},
   "max_attempts": 2, "backoff": {"base_seconds": 0.01, "multiplier": 1, "jitter": 0}},
  {"name": "file", "depends_on": ["send"], "handler": {"type": "noop"}}]}$$) > 0 AS defined;
SELECT tasker.define_task($${"namespace": "queues", "name": "wide", "steps": [
  {"name": "a", "handler": {"type": "external", "queue": "regress-print"}},
  {"name": "b", "handler": {"type": "external", "queue": "regress-print"}, "priority": 5},
  {"name": "c", "handler": {"type": "external", "queue": "regress-print"}, "max_attempts": 1},
  {"name": "d", "handler": {"type": "external", "queue": "regress-print"}}]}$$) > 0 AS defined;
-- Faults of a definition
SELECT json_pointer, problem FROM tasker.validate_task_definition($${"name": "bad", "steps": [
  {"name": "a", "handler": {"type": "external"}}, {"name": "b", "handler": {"type": "external", "queue": "no/slash", "server": "x"}}]}$$) ORDER BY 1, 2;

-- What the tests keep of their claims, by step
CREATE TABLE queues.claims (label text PRIMARY KEY, task_id bigint, step_name text, attempt integer, token uuid, context jsonb, results jsonb, config jsonb,
  correlation_id text, lease_until timestamptz);
GRANT ALL ON queues.claims TO PUBLIC;
-- Claims a number of steps, waiting until there are so many
CREATE FUNCTION queues.claim(queue text, labels text[], lease interval DEFAULT '30 s') RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '20 s';
  n integer := 0;
  c record;
BEGIN
  WHILE n < cardinality(labels) LOOP
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'nothing comes'; END IF;
    FOR c IN SELECT * FROM tasker.claim_steps(queue, 'worker 1', cardinality(labels) - n, lease, '1 s') LOOP
      n := n + 1;
      INSERT INTO queues.claims VALUES (labels[n], c.task_id, c.step_name, c.attempt, c.claim_token, c.context, c.results, c.config, c.correlation_id, c.lease_until)
        ON CONFLICT (label) DO UPDATE SET (task_id, step_name, attempt, token, context, results, config, correlation_id, lease_until) =
          (excluded.task_id, excluded.step_name, excluded.attempt, excluded.token, excluded.context, excluded.results, excluded.config, excluded.correlation_id, excluded.lease_until);
    END LOOP;
  END LOOP;
  RETURN n;
END
$$;
CREATE FUNCTION queues.await(question text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  until CONSTANT timestamptz := clock_timestamp() + interval '20 s';
  yes boolean;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || question INTO yes;
    IF yes THEN RETURN true; END IF;
    IF clock_timestamp() > until THEN RAISE EXCEPTION 'never: %', question; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
END
$$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION queues.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; detail text; hint text;
BEGIN
  EXECUTE statement INTO answer;
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN RETURN answer;
  WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN regexp_replace(concat_ws(' ', state, message, '(' || nullif(detail, '') || ')', '[' || nullif(hint, '') || ']'), 'task \d+', 'task N');
END
$$;
SELECT tasker.create_task('queues', 'mail', '{"to": "ann"}', correlation_id => 'letter 1') AS mail \gset
SELECT queues.await(format('(SELECT count(*) = 1 FROM tasker.queue_items WHERE task_id = %s)', :mail));
SELECT state, blocking_reason FROM tasker.step_status WHERE task_id = :mail AND step_name = 'send';
SELECT queue, waiting, oldest_waiting >= '0', claimed, "limit", workers FROM tasker.queues WHERE queue LIKE 'regress%';

-- A worker sees neither the task nor anybody's; he claims
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.try('SELECT count(*) FROM tasker.tasks');
SELECT queue, waiting, claimed FROM tasker.queues;
SELECT queues.claim('regress-mail', '{first}');
SELECT task_id = :mail AS mine, step_name, attempt, context, results, config, correlation_id, lease_until > clock_timestamp() AS holds FROM queues.claims;
SELECT count(*) FROM tasker.claim_steps('regress-mail', 'worker 2');
SELECT queue, waiting, claimed, workers FROM tasker.queues;
SET SESSION AUTHORIZATION regress_queues;
SELECT state, attempts, worker, lease_until > clock_timestamp() AS leased, split_part(blocking_reason, ' until', 1) AS reason FROM tasker.step_status WHERE task_id = :mail AND step_name = 'send';

-- Extending and failing, retried with a new token; the old one is stale
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT token AS old FROM queues.claims WHERE label = 'first' \gset
SELECT tasker.extend_lease(:mail, 'send', :'old', '1 h') > clock_timestamp() + interval '59 min' AS extended;
SELECT tasker.extend_lease(:mail, 'send', :'old', '1 s') > clock_timestamp() + interval '59 min' AS not_shortened;
SELECT tasker.fail_step(:mail, 'send', :'old', 'mailbox full', retry_after => '10 ms', context => '{"box": "ann"}');
SELECT tasker.fail_step(:mail, 'send', :'old', 'mailbox full') AS again;
SELECT queues.try(format('SELECT tasker.complete_step(%s, %L, %L)', :mail, 'send', :'old'));
SELECT queues.claim('regress-mail', '{second}');
SELECT attempt, token <> :'old' AS new_token FROM queues.claims WHERE label = 'second';
SELECT queues.try(format('SELECT tasker.extend_lease(%s, %L, %L)', :mail, 'send', :'old'));
SELECT token AS new FROM queues.claims WHERE label = 'second' \gset
SET SESSION AUTHORIZATION regress_queues;
SELECT error ->> 'message' AS message, error ->> 'category' AS category, error -> 'context' AS context, error ->> 'sqlstate' AS state FROM tasker.task_history
  CROSS JOIN LATERAL (SELECT metadata -> 'error') AS e(error) WHERE task_id = :mail AND to_state = 'error';

-- Completing: once, in the worker's transaction; the same again is no news
SET SESSION AUTHORIZATION regress_queues_worker;
BEGIN;
SELECT tasker.complete_step(:mail, 'send', :'new', '{"sent": true}');
ROLLBACK;
SELECT tasker.complete_step(:mail, 'send', :'new', '{"sent": true}');
SELECT tasker.complete_step(:mail, 'send', :'new', '{"sent": true}') AS again;
SELECT queues.try(format('SELECT tasker.fail_step(%s, %L, %L, %L)', :mail, 'send', :'new', 'too late'));
SELECT queues.try(format('SELECT tasker.complete_step(%s, %L, %L)', :mail, 'send', gen_random_uuid()));
SET SESSION AUTHORIZATION regress_queues;
SELECT queues.await(format('(SELECT state = ''complete'' FROM tasker.task_status WHERE task_id = %s)', :mail));
SELECT step_name, state, attempts, result FROM tasker.step_status WHERE task_id = :mail ORDER BY step_name;
SELECT from_state, to_state, metadata - 'claim_token' - 'error' AS metadata FROM tasker.task_history WHERE task_id = :mail AND step_name = 'send';

-- Priority, many at once, releasing, and a lease that ends
SELECT tasker.create_task('queues', 'wide') AS wide \gset
SELECT queues.await(format('(SELECT count(*) = 4 FROM tasker.queue_items WHERE task_id = %s)', :wide));
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.claim('regress-print', '{w1,w2,w3,w4}');
SELECT label, step_name, attempt FROM queues.claims WHERE label LIKE 'w_' ORDER BY label;
SELECT tasker.release_step(task_id, step_name, token), tasker.release_step(task_id, step_name, token) FROM queues.claims WHERE label = 'w1';
SELECT queues.try(format('SELECT tasker.complete_step(%s, %L, %L)', task_id, step_name, token)) FROM queues.claims WHERE label = 'w1';
SELECT queues.claim('regress-print', '{w1}', '50 ms');
SELECT step_name, attempt FROM queues.claims WHERE label = 'w1';
SELECT token AS expired FROM queues.claims WHERE label = 'w1' \gset
SELECT queues.claim('regress-print', '{w1}');
SELECT step_name, attempt, token <> :'expired' AS new_token FROM queues.claims WHERE label = 'w1';
SELECT queues.try(format('SELECT tasker.complete_step(%s, ''b'', %L)', :wide, :'expired'));
SELECT step_name, outcome FROM tasker.complete_steps((SELECT array_agg(task_id ORDER BY label) FROM queues.claims WHERE label IN ('w1', 'w2')), '{b,a}',
  (SELECT array_agg(token ORDER BY label) FROM queues.claims WHERE label IN ('w1', 'w2')), ARRAY['1', NULL]::jsonb[]);
SELECT step_name, outcome FROM tasker.complete_steps((SELECT array_agg(task_id ORDER BY label) FROM queues.claims WHERE label IN ('w1', 'w2', 'w4')), '{b,a,d}',
  (SELECT array_agg(CASE label WHEN 'w2' THEN gen_random_uuid() ELSE token END ORDER BY label) FROM queues.claims WHERE label IN ('w1', 'w2', 'w4')));
SELECT queues.try(format('SELECT outcome FROM tasker.complete_steps(''{%s,%s}'', ''{a,a}'', ''{%s,%s}'')', :wide, :wide, :'expired', :'expired'));
SELECT queues.try(format('SELECT outcome FROM tasker.complete_steps(''{%s,%s}'', ''{a}'', ''{%s,%s}'')', :wide, :wide, :'expired', :'expired'));
SELECT count(*) FROM tasker.complete_steps('{}', '{}', '{}');
-- Permanent: the task ends in error
SELECT step_name, outcome FROM tasker.fail_steps((SELECT array_agg(task_id) FROM queues.claims WHERE label = 'w3'), '{c}',
  (SELECT array_agg(token) FROM queues.claims WHERE label = 'w3'), '{paper is out}', retryable => false);
SET SESSION AUTHORIZATION regress_queues;
SELECT queues.await(format('(SELECT state = ''error'' FROM tasker.task_status WHERE task_id = %s)', :wide));
SELECT step_name, state, attempts, result, error ->> 'message' AS message, error ->> 'sqlstate' AS code FROM tasker.step_status WHERE task_id = :wide ORDER BY step_name;

-- A lease that ends with the last attempt is a failure
SELECT tasker.create_task('queues', 'wide') AS wide \gset
SELECT queues.await(format('(SELECT count(*) = 4 FROM tasker.queue_items WHERE task_id = %s)', :wide));
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.claim('regress-print', '{v1,v2,v3,v4}', '20 ms');
SET SESSION AUTHORIZATION regress_queues;
SELECT queues.await(format('(SELECT state = ''error'' FROM tasker.step_status WHERE task_id = %s AND step_name = ''c'')', :wide));
SELECT error ->> 'category' AS category, error ->> 'message' AS message, error ->> 'hint' AS hint FROM tasker.step_status WHERE task_id = :wide AND step_name = 'c';
-- Cancelled, a claim is void; paused, nothing is claimed, and resumed it is
SELECT queues.await(format('(SELECT count(*) = 3 FROM tasker.queue_items WHERE task_id = %s)', :wide));
SELECT tasker.pause_task(:wide);
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT count(*) FROM tasker.claim_steps('regress-print', 'worker 1', 10);
SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.resume_task(:wide);
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.claim('regress-print', '{v1,v2,v3}');
SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.cancel_task(:wide, 'not needed');
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.try(format('SELECT tasker.complete_step(%s, %L, %L)', task_id, step_name, token)), queues.try(format('SELECT tasker.extend_lease(%s, %L, %L)', task_id, step_name, token))
  FROM queues.claims WHERE label = 'v1';

-- A time limit from claim to completion, whatever the lease
SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.define_task($${"namespace": "queues", "name": "slow", "steps": [
  {"name": "a", "handler": {"type": "external", "queue": "regress-print"}, "timeout_seconds": 0.05, "max_attempts": 1}]}$$) > 0 AS defined;
SELECT tasker.create_task('queues', 'slow') AS slow \gset
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.claim('regress-print', '{s}', '1 h');
SET SESSION AUTHORIZATION regress_queues;
SELECT queues.await(format('(SELECT state = ''error'' FROM tasker.task_status WHERE task_id = %s)', :slow));
SELECT error ->> 'category' AS category, error ->> 'message' AS message FROM tasker.step_status WHERE task_id = :slow;
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.try(format('SELECT tasker.complete_step(%s, %L, %L)', task_id, step_name, token)) FROM queues.claims WHERE label = 's';

-- How many at once
SET SESSION AUTHORIZATION regress_queues_operator;
SELECT tasker.set_queue_limit('regress-print', 3), tasker.set_queue_limit('regress-print', 3);
SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.create_task('queues', 'wide') AS wide \gset
SELECT queues.await(format('(SELECT count(*) = 4 FROM tasker.queue_items WHERE task_id = %s)', :wide));
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT queues.claim('regress-print', '{l1,l2}');
SELECT count(*) FROM tasker.claim_steps('regress-print', 'worker 2', 10) \gset one_
SELECT :one_count AS one_more, count(*) AS none FROM tasker.claim_steps('regress-print', 'worker 2', 10);
SELECT queue, waiting, claimed, "limit", workers FROM tasker.queues WHERE queue = 'regress-print';
SELECT tasker.complete_step(task_id, step_name, token) FROM queues.claims WHERE label = 'l1';
SELECT count(*) FROM tasker.claim_steps('regress-print', 'worker 2', 10);
SET SESSION AUTHORIZATION regress_queues_operator;
SELECT tasker.set_queue_limit('regress-print', NULL);
SELECT queues.try($$SELECT tasker.set_queue_limit('regress-print', -1)$$);
SET SESSION AUTHORIZATION regress_queues;
SELECT tasker.cancel_task(:wide);

-- Who may what, and what is refused
SELECT queues.try($$SELECT tasker.claim_steps('regress-print', 'me')$$);
SET SESSION AUTHORIZATION regress_queues_other;
SELECT queues.try($$SELECT tasker.claim_steps('regress-print', 'me')$$);
SELECT queues.try(format('SELECT tasker.complete_step(%s, ''a'', gen_random_uuid())', :wide));
SELECT queues.try('SELECT tasker.complete_step(0, ''a'', gen_random_uuid())');
SELECT queues.try('SELECT claim_token FROM tasker.leases');
SELECT queues.try($$SELECT tasker.set_queue_limit('regress-print', 1)$$);
SET SESSION AUTHORIZATION regress_queues_worker;
SELECT q, queues.try(format('SELECT tasker.claim_steps(%s)', q)) FROM unnest(ARRAY[$$'no/slash', 'w'$$, $$'regress-mail', ''$$, $$'regress-mail', 'w', 0$$,
  $$'regress-mail', 'w', 1, '0'$$, $$'regress-mail', 'w', 1, '8 days'$$, $$'regress-mail', 'w', wait => '61 s'$$, $$'regress-mail', NULL$$]) AS q;
SELECT queues.try(format('SELECT tasker.complete_step(%s, ''send'', gen_random_uuid(), to_jsonb(repeat(''x'', 2000000)))', :mail));
SELECT queues.try(format('SELECT tasker.complete_step(%s, ''file'', gen_random_uuid())', :mail));
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT queues.try($$SELECT tasker.claim_steps('regress-mail', 'me')$$);
ROLLBACK;
-- A statement that only claims does not wait for the disk at its commit; one that may write more does
SET synchronous_commit = on;
SELECT count(*) >= 0 AS claimed, current_setting('synchronous_commit') AS commit FROM tasker.claim_steps('regress-mail', 'me');
SHOW synchronous_commit;
BEGIN;
SELECT count(*) >= 0 AS claimed, current_setting('synchronous_commit') AS commit FROM tasker.claim_steps('regress-mail', 'me');
COMMIT;
CREATE TEMP TABLE mine (n integer);
WITH written AS (INSERT INTO mine VALUES (1)) SELECT count(*) >= 0 AS claimed, current_setting('synchronous_commit') AS commit FROM tasker.claim_steps('regress-mail', 'me');
DO $$ BEGIN PERFORM FROM tasker.claim_steps('regress-mail', 'me'); RAISE NOTICE 'commit %', current_setting('synchronous_commit'); END $$;
RESET synchronous_commit;
RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();

SELECT count(tasker.cancel_task(t.task_id)) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_namespaces AS s USING (task_namespace_id)
WHERE s.name = 'queues' AND t.live \g /dev/null
SET client_min_messages = warning;
SELECT tasker.revoke_access(role, level, nullif(queue, '')) FROM tasker.access_grants WHERE role::text LIKE 'regress_queues%' \g /dev/null
DROP OWNED BY regress_queues, regress_queues_worker, regress_queues_other, regress_queues_operator CASCADE;
DROP ROLE regress_queues, regress_queues_worker, regress_queues_other, regress_queues_operator;
