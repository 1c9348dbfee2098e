-- Dead letters: what the view tells, notes on them, and redrive. Tasks are run by run_task, so that nothing moves by itself.
\set SHOW_CONTEXT never
CREATE ROLE regress_letters LOGIN;
CREATE ROLE regress_letters_other LOGIN;
CREATE ROLE regress_letters_operator LOGIN;
CREATE ROLE regress_letters_monitor LOGIN;
SELECT tasker.grant_access(r, l) FROM unnest(ARRAY['regress_letters', 'regress_letters_other']::regrole[]) AS r, unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_letters_operator', 'operator'), tasker.grant_access('regress_letters_monitor', 'monitor') \g /dev/null
CREATE SCHEMA letters AUTHORIZATION regress_letters;
GRANT USAGE ON SCHEMA letters TO PUBLIC;
SET SESSION AUTHORIZATION regress_letters;

CREATE TABLE letters.broken (step_name text PRIMARY KEY, code text, message text);
GRANT SELECT ON letters.broken TO PUBLIC;
-- Fails while its step is in letters.broken and the context names it
CREATE FUNCTION letters.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  b letters.broken;
BEGIN
  SELECT * INTO b FROM letters.broken AS x WHERE x.step_name = step.step_name AND step.context -> 'fails' ? x.step_name;
  IF FOUND AND b.code = 'TK002' THEN RETURN tasker.raise_permanent(b.message, context => '{"card": 4242}'); END IF;
  IF FOUND THEN RAISE EXCEPTION '%', b.message USING ERRCODE = b.code; END IF;
  RETURN to_jsonb(step.attempt);
END
$$;
-- What a statement answers, or SQLSTATE, message and hint; undone in either case
CREATE FUNCTION letters.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
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
    RETURN concat_ws(' ', state, regexp_replace(message, 'task -?\d+', 'task N'), '[' || nullif(hint, '') || ']');
  END;
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA letters TO PUBLIC;
-- a; b and c after a; d after b and c; e after d. And another one with a step of its own.
SELECT tasker.define_task(jsonb_build_object('namespace', 'letters', 'name', n.name, 'steps', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'depends_on', s.parents,
  'max_attempts', 2, 'skippable', true, 'backoff', '{"base_seconds": 0}'::jsonb, 'dependent_system', CASE s.name WHEN 'b' THEN 'letters ledger' ELSE 'letters mail' END,
  'handler', '{"type": "sql", "function": "letters.act"}'::jsonb) ORDER BY s.name)
  FROM (VALUES ('a', '[]'::jsonb), ('b', '["a"]'), ('c', '["a"]'), ('d', '["b", "c"]'), ('e', '["d"]')) AS s (name, parents))))
FROM unnest(ARRAY['diamond', 'jewel']) AS n (name) \g /dev/null
INSERT INTO letters.broken VALUES ('b', 'TK002', 'no such account'), ('c', '23505', 'twice'), ('e', '40001', 'again'), ('a', 'P0001', 'nothing');
CREATE FUNCTION letters.create(workflow text, key text, VARIADIC fails text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.create_task('letters', workflow, jsonb_build_object('fails', fails), idempotency_key => key, initiator => 'shop', tags => ARRAY['t'], correlation_id => 'c ' || key,
    run_at => '2999-01-01');
END
$$;
CREATE FUNCTION letters.id(key text) RETURNS bigint LANGUAGE sql AS $$ SELECT t.task_id FROM tasker.task_status AS t WHERE t.namespace = 'letters' AND t.idempotency_key = key $$;
CREATE FUNCTION letters.steps(key text) RETURNS text LANGUAGE sql AS $$
  SELECT min(t.state::text) || ': ' || string_agg(s.step_name || ' ' || s.state || CASE s.attempts WHEN 0 THEN '' ELSE ' ' || s.attempts || '/' || s.max_attempts END, ', ' ORDER BY s.step_name)
  FROM tasker.step_status AS s JOIN tasker.task_status AS t USING (task_id) WHERE s.task_id = letters.id(key) $$;
SELECT letters.create('diamond', 'one', 'b'), letters.create('diamond', 'two', 'b', 'c'), letters.create('jewel', 'three', 'e'), letters.create('jewel', 'four', 'a'),
  letters.create('diamond', 'fine', 'nothing') \g /dev/null
CREATE PROCEDURE letters.run(key text) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 3 LOOP
    CALL tasker.run_task(letters.id(key), skip_waits => true);
  END LOOP;
END
$$;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA letters TO PUBLIC;
CALL letters.run('one');
CALL letters.run('two');
CALL letters.run('three');
CALL letters.run('four');
CALL letters.run('fine');
\pset format unaligned
\pset tuples_only on
SELECT letters.steps(k) FROM unnest(ARRAY['one', 'two', 'three', 'four', 'fine']) AS k;

-- What an operator needs. A step that still has attempts is no dead letter
SELECT idempotency_key, step_name, namespace, name, version, owner, created_by, task_state, attempts, max_attempts, category, sqlstate, message, blocked_steps, dependent_system,
  status, note, noted_by, initiator, correlation_id, tags, error ? 'context' AS context
FROM tasker.dead_letters WHERE namespace = 'letters' ORDER BY task_id, step_name;
SELECT idempotency_key, step_name, first_failed_at < failed_at AS retried, first_failed_at = failed_at AS once FROM tasker.dead_letters WHERE namespace = 'letters' ORDER BY task_id, step_name;
SELECT count(*) FROM tasker.dead_letters WHERE namespace = 'letters' AND tasker.has_open_dead_letter(task_id);
SET SESSION AUTHORIZATION regress_letters_monitor;
SELECT step_name, category, sqlstate, message, error ? 'context' AS context, blocked_steps FROM tasker.dead_letters WHERE correlation_id = 'c one';
SET SESSION AUTHORIZATION regress_letters_other;
SELECT count(*) FROM tasker.dead_letters;
SET SESSION AUTHORIZATION regress_letters;

-- Notes: the last one since the failure counts; the text is for whoever may see payloads
SELECT letters.id('one') AS one, letters.id('two') AS two, letters.id('three') AS three, letters.id('four') AS four, letters.id('fine') AS fine \gset
SELECT letters.try(format(s, :one)) FROM unnest(ARRAY['SELECT tasker.note_dead_letter(%s, ''b'', ''closed'')', 'SELECT tasker.note_dead_letter(%s, ''b'', NULL)', 'SELECT tasker.note_dead_letter(%s, ''z'', ''open'')',
  'SELECT tasker.note_dead_letter(%s, ''a'', ''open'')', 'SELECT tasker.note_dead_letter(%s, ''d'', ''open'')', 'SELECT tasker.note_dead_letter(-1, ''b'', ''open'')',
  'SELECT tasker.note_dead_letter(%s, ''b'', ''open'', repeat(''x'', 8193))']) AS s;
SELECT tasker.note_dead_letter(:one, 'b', 'open', 'asked the bank') < tasker.note_dead_letter(:one, 'b', 'wont_fix', 'customer is gone') AS in_order;
SELECT step_name, status, note, noted_by, noted_at > failed_at AS later FROM tasker.dead_letters WHERE task_id = :one;
SELECT tasker.has_open_dead_letter(:one), tasker.has_open_dead_letter(:two), tasker.has_open_dead_letter(:fine), tasker.has_open_dead_letter(-1);
SET SESSION AUTHORIZATION regress_letters_monitor;
SELECT step_name, status, note, noted_by FROM tasker.dead_letters WHERE correlation_id = 'c one';
SELECT step_name, status, note, created_by FROM tasker.dead_letter_note_list ORDER BY dead_letter_note_id;
SET SESSION AUTHORIZATION regress_letters_other;
SELECT letters.try(format('SELECT tasker.note_dead_letter(%s, ''b'', ''open'')', :one)), (SELECT count(*) FROM tasker.dead_letter_note_list), tasker.has_open_dead_letter(:one),
  tasker.dead_letter_note(:one, 2, -1, 1), tasker.waiting_descendants(:one, 2);
SET SESSION AUTHORIZATION regress_letters_operator;
SELECT tasker.note_dead_letter(:two, 'c', 'resolved', 'by hand') > 0, tasker.has_open_dead_letter(:two);
SELECT idempotency_key, step_name, status, note, noted_by FROM tasker.dead_letters WHERE task_id = :two ORDER BY step_name;
SET SESSION AUTHORIZATION regress_letters;
-- One that fails again is open again; what was noted before stays
SELECT tasker.retry_step(:one, 'b', 'account opened');
SELECT count(*), tasker.has_open_dead_letter(:one) FROM tasker.dead_letters WHERE task_id = :one;
SELECT letters.try(format('SELECT tasker.note_dead_letter(%s, ''b'', ''open'')', :one));
CALL letters.run('one');
SELECT step_name, status, note, noted_by FROM tasker.dead_letters WHERE task_id = :one;
SELECT step_name, status, note, created_by FROM tasker.dead_letter_note_list WHERE task_id = :one ORDER BY dead_letter_note_id;
-- A failed step that is tried again is none
CREATE FUNCTION letters.until(question text) RETURNS boolean LANGUAGE plpgsql AS $$
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
SELECT tasker.define_task('{"namespace": "letters", "name": "slow", "steps": [{"name": "a", "backoff": {"base_seconds": 300}, "handler": {"type": "sql", "function": "letters.act"}}]}') \g /dev/null
SELECT tasker.create_task('letters', 'slow', '{"fails": ["a"]}', idempotency_key => 'slow') AS slow \gset
SELECT letters.until(format('(SELECT state = ''error'' FROM tasker.step_status WHERE task_id = %s)', :slow));
SELECT letters.steps('slow'), (SELECT count(*) FROM tasker.dead_letters WHERE task_id = :slow), tasker.has_open_dead_letter(:slow), tasker.redrive('letters', 'slow'),
  letters.try(format('SELECT tasker.note_dead_letter(%s, ''a'', ''open'')', :slow));

-- redrive: who may name what
SELECT letters.try(s) FROM unnest(ARRAY['SELECT tasker.redrive(name => ''diamond'')', 'SELECT tasker.redrive(''nowhere'')', 'SELECT tasker.redrive(''letters'', ''nothing'')',
  'SELECT tasker.redrive(''letters'', ''diamond'', ''z'')', 'SELECT tasker.redrive(max_tasks => 0)', 'SELECT tasker.redrive(max_tasks => NULL)', 'SELECT tasker.redrive(sqlstate => ''23'')']) AS s;
-- Each filter alone, and together; nothing stays
SELECT f || ': ' || letters.try('SELECT tasker.redrive(' || f || ')') FROM unnest(ARRAY['', '''letters''', '''letters'', ''jewel''', 'step_name => ''b''', 'category => ''validation''', 'sqlstate => ''TK002''',
  'failed_since => now() + interval ''1 hour''', 'failed_before => now() - interval ''1 hour''', 'failed_since => now() - interval ''1 hour'', failed_before => now() + interval ''1 hour''',
  '''letters'', ''diamond'', step_name => ''b'', sqlstate => ''TK002''', 'step_name => ''b'', sqlstate => ''23505''']) AS f;
SET SESSION AUTHORIZATION regress_letters_other;
SELECT tasker.redrive(), tasker.redrive('letters', 'diamond');
SET SESSION AUTHORIZATION regress_letters_operator;
SELECT letters.try('SELECT tasker.redrive(''letters'')');
SET SESSION AUTHORIZATION regress_letters;
SELECT letters.steps(k) FROM unnest(ARRAY['one', 'two', 'three', 'four', 'fine']) AS k;
-- At most max_tasks, the oldest first, a task's steps together; the attempts stay, with one more allowed
SELECT tasker.redrive('letters', max_tasks => 2, reason => 'ledger works again');
SELECT letters.steps(k) FROM unnest(ARRAY['one', 'two', 'three', 'four']) AS k;
SELECT coalesce(h.step_name, 'task'), h.from_state, h.to_state, h.metadata FROM tasker.task_history AS h WHERE h.task_id = :two AND h.metadata ->> 'reason' = 'ledger works again' ORDER BY 1, h.sort_key;
-- Those are no dead letters any more: the next call takes the next ones, and then there is none
SELECT tasker.redrive('letters', max_tasks => 2), tasker.redrive('letters');
DELETE FROM letters.broken WHERE step_name IN ('b', 'e');
CALL letters.run('one');
CALL letters.run('two');
CALL letters.run('three');
SELECT letters.steps(k) FROM unnest(ARRAY['one', 'two', 'three', 'four']) AS k;
SELECT t.idempotency_key, t.error FROM tasker.task_status AS t WHERE t.task_id IN (:one, :two) ORDER BY 1;
-- A task that is still live is redriven where it stands; of what failed on the way its history tells, not its error
INSERT INTO letters.broken VALUES ('b', 'TK002', 'no such account'), ('e', '40001', 'again');
SELECT tasker.define_task('{"namespace": "letters", "name": "pair", "steps": [{"name": "b", "handler": {"type": "sql", "function": "letters.act"}},
  {"name": "e", "backoff": {"base_seconds": 300}, "handler": {"type": "sql", "function": "letters.act"}}]}') \g /dev/null
SELECT tasker.create_task('letters', 'pair', '{"fails": ["b", "e"]}', idempotency_key => 'pair') AS pair \gset
SELECT letters.until(format('(SELECT count(*) = 2 FROM tasker.step_status WHERE task_id = %s AND state = ''error'')', :pair));
SELECT letters.steps('pair'), error FROM tasker.task_status WHERE task_id = :pair;
DELETE FROM letters.broken WHERE step_name IN ('b', 'e');
BEGIN;
SELECT tasker.redrive('letters', 'pair');
CALL tasker.run_task(:pair, skip_waits => true);
COMMIT;
SELECT letters.steps('pair'), error FROM tasker.task_status WHERE task_id = :pair;
-- A task that was ended by hand is left alone
SELECT tasker.create_task('letters', 'diamond', '{"fails": ["c"]}', run_at => '2999-01-01') AS ended \gset
CALL tasker.run_task(:ended, skip_waits => true);
SELECT count(*) FROM tasker.dead_letters WHERE task_id = :ended;
SELECT tasker.resolve_task_manually(:ended);
SELECT count(*) FROM tasker.dead_letters WHERE task_id = :ended;
SELECT tasker.redrive('letters', 'diamond', 'c');
SELECT letters.steps('two');
SELECT state FROM tasker.task_status WHERE task_id = :ended;
-- In a step: all but its own task
SELECT letters.create('diamond', 'five', 'c') \g /dev/null
CALL letters.run('five');
SELECT tasker.define_task('{"namespace": "letters", "name": "branches", "steps": [{"name": "fails", "handler": {"type": "sql", "query": "SELECT tasker.raise_permanent(''no'')"}},
  {"name": "redrives", "handler": {"type": "sql", "query": "SELECT tasker.redrive(''letters'')"}}]}') \g /dev/null
SELECT tasker.create_task('letters', 'branches', idempotency_key => 'branches', run_at => '2999-01-01') AS branches \gset
CALL tasker.run_task(:branches, skip_waits => true);
SELECT letters.steps(k) FROM unnest(ARRAY['five', 'branches']) AS k;
SELECT step_name, result FROM tasker.step_status WHERE task_id = :branches AND result IS NOT NULL ORDER BY 1;
SELECT tasker.redrive('letters', 'branches');
SELECT letters.steps('branches');

RESET SESSION AUTHORIZATION;
SELECT tasker.cancel_task(array_agg(task_id)) > 0 FROM tasker.task_status WHERE namespace = 'letters' AND state IN ('pending', 'in_progress', 'error');
SELECT * FROM tasker.check();
SELECT tasker.revoke_access(r, l) FROM unnest(ARRAY['regress_letters', 'regress_letters_other']::regrole[]) AS r, unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_letters_operator', 'operator'), tasker.revoke_access('regress_letters_monitor', 'monitor') \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_letters, regress_letters_other, regress_letters_operator, regress_letters_monitor CASCADE;
DROP ROLE regress_letters, regress_letters_other, regress_letters_operator, regress_letters_monitor;
