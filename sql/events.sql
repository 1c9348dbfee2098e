-- Events: the catalogue, the history as events, who may subscribe to what, and what is delivered.
\set SHOW_CONTEXT never
CREATE ROLE regress_events LOGIN;
CREATE ROLE regress_events_other LOGIN;
CREATE ROLE regress_events_watcher LOGIN;
SELECT tasker.grant_access(r, l) FROM unnest(ARRAY['regress_events', 'regress_events_other']::regrole[]) AS r, unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_events_watcher', l) FROM unnest(ARRAY['author', 'submitter', 'monitor']) AS l \g /dev/null
CREATE SCHEMA events AUTHORIZATION regress_events;
GRANT USAGE ON SCHEMA events TO PUBLIC;
SET SESSION AUTHORIZATION regress_events;
CREATE TABLE events.got (n bigint GENERATED ALWAYS AS IDENTITY, event text, task_id bigint, payload jsonb);
CREATE FUNCTION events.receive(context jsonb, results jsonb) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock_shared(20613);
  INSERT INTO events.got (event, task_id, payload) SELECT e ->> 'event', (e ->> 'task_id')::bigint, e FROM jsonb_array_elements(context -> 'events') WITH ORDINALITY AS v(e, n) ORDER BY n
$$;
CREATE FUNCTION events.fail_once(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF context ->> 'n' = '1' THEN PERFORM tasker.raise_permanent('no'); END IF;
  RETURN '{"total": 7}';
END $$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION events.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text; state text; message text; hint text;
BEGIN
  BEGIN
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN answer;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, message, '(' || nullif(hint, '') || ')');
  END;
END
$$;
-- Does the condition hold within 30 s?
CREATE PROCEDURE events.await(condition text) LANGUAGE plpgsql AS $$
DECLARE
  begun timestamptz := clock_timestamp(); holds boolean;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || condition INTO holds;
    EXIT WHEN holds;
    IF clock_timestamp() - begun > interval '30 s' THEN RAISE EXCEPTION 'not within 30 s: %', condition; END IF;
    COMMIT;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT tasker.define_task('{"namespace": "ev", "name": "order", "steps": [
  {"name": "pay", "handler": {"type": "sql", "function": "events.fail_once"}, "max_attempts": 1,
   "events": ["order.paid", {"name": "order.refused", "condition": "failure"}, {"name": "order.tried", "condition": "always", "description": "for the books"}]},
  {"name": "ship", "depends_on": ["pay"], "handler": {"type": "noop"}, "skippable": true}]}') \g /dev/null

-- The catalogue: every allowed move has a name, and every name is a move's
SELECT event, subject FROM tasker.event_catalog WHERE NOT custom;
SELECT event, step_name, condition, description, payload_schema -> 'required' ? 'result' FROM tasker.event_catalog WHERE namespace = 'ev' ORDER BY 1;
SELECT events.try($$SELECT tasker.define_task('{"name": "x", "steps": [{"name": "a", "handler": {"type": "noop"}, "events": ["step.mine"]}]}')$$) LIKE '22023%';

-- Bad input
SELECT events.try(s) FROM unnest(ARRAY[
  $$SELECT tasker.subscribe('a b', '{*}', 'notify', 'c')$$,
  $$SELECT tasker.subscribe('a', '{}', 'notify', 'c')$$,
  $$SELECT tasker.subscribe('a', '{task.done}', 'notify', 'c')$$,
  $$SELECT tasker.subscribe('a', '{**}', 'notify', 'c')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'mail', 'c')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'notify', '')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'notify', 'c', path => '/')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'notify', 'c', name => 'order')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'function', 'events.none')$$,
  $$SELECT tasker.subscribe('a', '{*}', 'webhook', 'none')$$,
  $$SELECT tasker.take_events('a')$$, $$SELECT tasker.unsubscribe('a')$$, $$SELECT tasker.pause_subscription('a')$$, $$SELECT tasker.resume_subscription('a')$$]) AS s;

-- Events are taken by hand: the transaction decides whether they are gone
SELECT tasker.subscribe('by hand', '{task.*}', 'notify', 'c') IS NOT NULL AS refused;
SELECT tasker.subscribe('hand', '{task.completed,task.failed,order.*}', 'notify', 'regress-events', namespace => 'ev') = tasker.subscribe('hand', '{task.completed,task.failed,order.*}', 'notify', 'regress-events', namespace => 'ev');
SELECT tasker.create_task('ev', 'order') AS good \gset
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :good));
SELECT tasker.create_task('ev', 'order', '{"n": 1}') AS bad \gset
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :bad));
SELECT event, step_name, from_state, to_state, custom FROM tasker.events WHERE task_id = :good ORDER BY occurred_at, step_name NULLS FIRST, sort_key, custom, event;
SELECT pending, delivered, lag > '0', conflicts, health FROM tasker.event_subscribers WHERE subscription_name = 'hand';
BEGIN;
SELECT count(*) FROM tasker.take_events('hand');
ROLLBACK;
SELECT event, CASE task_id WHEN :good THEN 'good' WHEN :bad THEN 'bad' END, step_name, payload -> 'result' FROM tasker.take_events('hand', 4);
SELECT event, CASE task_id WHEN :good THEN 'good' WHEN :bad THEN 'bad' END, payload ->> 'to_state', payload -> 'metadata' ? 'error' FROM tasker.take_events('hand');
SELECT count(*) FROM tasker.take_events('hand');
SELECT pending, delivered, state FROM tasker.event_subscribers WHERE subscription_name = 'hand';
SELECT events.try($$SELECT tasker.take_events('hand', 0)$$);

-- A rollback of the move takes its event along; a pause is an event
SELECT tasker.subscribe('hand', '{task.pause_changed,task.cancelled,step.skipped}', 'notify', 'regress_events', 'ev', 'order') \g /dev/null
SELECT tasker.create_task('ev', 'order', run_at => now() + interval '1 day') AS later \gset
BEGIN; SELECT tasker.cancel_task(:later); ROLLBACK;
SELECT tasker.pause_task(:later), tasker.resume_task(:later);
SELECT tasker.skip_step(:later, 'ship');
SELECT tasker.cancel_task(:later);
SELECT event, step_name, payload #>> '{metadata,cause}' FROM tasker.take_events('hand');

-- Others: neither the tasks nor the subscription
SET SESSION AUTHORIZATION regress_events_other;
SELECT tasker.subscribe('others', '{*}', 'notify', 'c') IS NOT NULL;
SELECT events.try($$SELECT tasker.subscribe('hand', '{*}', 'notify', 'c')$$), events.try($$SELECT tasker.take_events('hand')$$);
SELECT count(*) FROM tasker.event_subscribers WHERE subscription_name = 'hand';
-- A monitor is told of all tasks, without payload
SET SESSION AUTHORIZATION regress_events_watcher;
SELECT tasker.subscribe('watch', '{order.*}', 'notify', 'c') IS NOT NULL;
SET SESSION AUTHORIZATION regress_events;
SELECT tasker.create_task('ev', 'order') AS seen \gset
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :seen));
SET SESSION AUTHORIZATION regress_events_other;
SELECT count(*) FROM tasker.take_events('others');
SET SESSION AUTHORIZATION regress_events_watcher;
SELECT event, payload -> 'result', payload -> 'metadata' FROM tasker.take_events('watch');
SELECT tasker.unsubscribe('watch');
SET SESSION AUTHORIZATION regress_events_other;
SELECT tasker.unsubscribe('others');
SET SESSION AUTHORIZATION regress_events;

-- A function gets them in order, exactly once; nothing is told of deliveries
SELECT tasker.subscribe('book', '{*}', 'function', 'events.receive', max_attempts => 1) IS NOT NULL;
SELECT tasker.create_task('ev', 'order') AS told \gset
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :told));
CALL events.await($$(SELECT pending + in_flight FROM tasker.event_subscribers WHERE subscription_name = 'book') = 0$$);
SELECT g.event, g.payload ->> 'step_name' FROM events.got AS g WHERE g.task_id = :told ORDER BY n;
SELECT count(*) FROM events.got WHERE task_id <> :told;
SELECT delivered = (SELECT count(*) FROM events.got), failures, state, conflicts, health FROM tasker.event_subscribers WHERE subscription_name = 'book';
-- It fares worse
BEGIN;
RESET SESSION AUTHORIZATION;
UPDATE tasker.event_subscription_rows SET last_failed_at = 'infinity' WHERE subscription_name = 'book';
SELECT health FROM tasker.event_subscribers WHERE subscription_name = 'book';
REVOKE ALL ON FUNCTION events.receive FROM PUBLIC, regress_events;
SELECT conflicts, health FROM tasker.event_subscribers WHERE subscription_name = 'book';
ROLLBACK;

-- A subscriber that fails is dead, and gets everything when it is resumed
ALTER FUNCTION events.receive(jsonb, jsonb) RENAME TO receive_;
TRUNCATE events.got;
SELECT tasker.create_task('ev', 'order') AS missed \gset
CALL events.await($$(SELECT state FROM tasker.event_subscribers WHERE subscription_name = 'book') = 'dead'$$);
SELECT failures, in_flight > 0, last_error ~ '^delivery task \d+: deliver: function events.receive', conflicts, health FROM tasker.event_subscribers WHERE subscription_name = 'book';
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :missed));
ALTER FUNCTION events.receive_(jsonb, jsonb) RENAME TO receive;
SELECT tasker.resume_subscription('book'), tasker.resume_subscription('book');
CALL events.await($$(SELECT pending + in_flight FROM tasker.event_subscribers WHERE subscription_name = 'book') = 0$$);
SELECT count(*), count(DISTINCT (g.event, g.payload ->> 'step_name', g.payload ->> 'sort_key')) FROM events.got AS g WHERE g.task_id = :missed;
SELECT state, dead_at FROM tasker.event_subscribers WHERE subscription_name = 'book';

-- Paused, they wait
SELECT tasker.pause_subscription('book', 'night'), tasker.pause_subscription('book');
SELECT tasker.create_task('ev', 'order') AS waits \gset
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :waits));
SELECT state, pause_reason, pending, in_flight, health FROM tasker.event_subscribers WHERE subscription_name = 'book';
SELECT tasker.resume_subscription('book');
CALL events.await($$(SELECT pending + in_flight FROM tasker.event_subscribers WHERE subscription_name = 'book') = 0$$);
SELECT count(*), count(DISTINCT (g.event, g.payload ->> 'step_name', g.payload ->> 'sort_key')) FROM events.got AS g WHERE g.task_id = :waits;

-- A cancelled delivery is made anew
TRUNCATE events.got;
SELECT pg_advisory_lock(20613) \g /dev/null
SELECT tasker.create_task('ev', 'order') AS again \gset
CALL events.await($$(SELECT delivery_task_id IS NOT NULL FROM tasker.event_subscribers WHERE subscription_name = 'book')$$);
SELECT delivery_task_id AS delivery FROM tasker.event_subscribers WHERE subscription_name = 'book' \gset
SELECT tasker.cancel_task(:delivery);
CALL events.await($$(SELECT state FROM tasker.event_subscribers WHERE subscription_name = 'book') = 'dead'$$);
SELECT pg_advisory_unlock(20613) \g /dev/null
SELECT tasker.resume_subscription('book');
CALL events.await(format('NOT live FROM tasker.tasks WHERE task_id = %s', :again));
CALL events.await($$(SELECT pending + in_flight FROM tasker.event_subscribers WHERE subscription_name = 'book') = 0$$);
SELECT count(*), count(DISTINCT (g.event, g.payload ->> 'step_name', g.payload ->> 'sort_key')) FROM events.got AS g;

-- Two that deliver the same are a conflict; what waits goes with its subscription
SELECT tasker.subscribe('double', '{*}', 'function', 'events.receive') IS NOT NULL;
SELECT subscription_name, conflicts, health FROM tasker.event_subscribers WHERE kind = 'function' ORDER BY 1;
SELECT tasker.unsubscribe('double'), tasker.unsubscribe('book'), tasker.unsubscribe('hand');
SELECT count(*) FROM tasker.event_subscribers;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM tasker.event_outbox;
DROP OWNED BY regress_events, regress_events_other, regress_events_watcher CASCADE;
