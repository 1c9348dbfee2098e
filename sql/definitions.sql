-- Definitions: what define_task takes and what it refuses, versions, replacing, retiring, reading back.
\set SHOW_CONTEXT never
CREATE ROLE regress_author LOGIN;
CREATE ROLE regress_rival LOGIN;
CREATE ROLE regress_nobody LOGIN;
SELECT tasker.grant_access('regress_author', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.grant_access('regress_rival', 'author') \g /dev/null
CREATE SCHEMA definitions AUTHORIZATION regress_author;
GRANT USAGE ON SCHEMA definitions TO regress_rival, regress_nobody;
SET SESSION AUTHORIZATION regress_author;

CREATE FUNCTION definitions.f(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql RETURN context;
CREATE FUNCTION definitions.g(step tasker.step_call) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION definitions."F g"(context jsonb, results jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION definitions.to_text(context jsonb, results jsonb) RETURNS text LANGUAGE sql RETURN '';
CREATE FUNCTION definitions.many(context jsonb, results jsonb) RETURNS SETOF jsonb LANGUAGE sql RETURN context;
CREATE FUNCTION definitions.one(context jsonb) RETURNS jsonb LANGUAGE sql RETURN context;
CREATE FUNCTION definitions.pair(a json, b json) RETURNS jsonb LANGUAGE sql RETURN NULL::jsonb;
CREATE PROCEDURE definitions.p(context jsonb, results jsonb) LANGUAGE sql AS '';
CREATE PROCEDURE definitions.q(step tasker.step_call) LANGUAGE sql AS '';

CREATE FUNCTION definitions.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE statement;
  RETURN 'not refused: ' || statement;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', state || ' ' || message, 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
END
$$;

-- A definition of one step, with keys replaced
CREATE FUNCTION definitions.task(keys jsonb) RETURNS jsonb LANGUAGE sql
RETURN '{"namespace": "definitions", "name": "t", "steps": [{"name": "a", "handler": {"type": "noop"}}]}'::jsonb || keys;
CREATE FUNCTION definitions.step(keys jsonb) RETURNS jsonb LANGUAGE sql
RETURN definitions.task(jsonb_build_object('steps', jsonb_build_array('{"name": "a", "handler": {"type": "noop"}}'::jsonb || keys)));
CREATE FUNCTION definitions.sql(keys jsonb) RETURNS jsonb LANGUAGE sql
RETURN definitions.step(jsonb_build_object('handler', '{"type": "sql"}'::jsonb || keys));
-- Steps written as "a<-b,c d<-a", all noops
CREATE FUNCTION definitions.graph(steps text) RETURNS jsonb LANGUAGE sql
RETURN definitions.task(jsonb_build_object('steps', (
  SELECT jsonb_agg(jsonb_build_object('name', split_part(s, '<-', 1), 'handler', '{"type": "noop"}'::jsonb,
    'depends_on', to_jsonb(array_remove(string_to_array(split_part(s, '<-', 2), ','), ''))) ORDER BY n)
  FROM regexp_split_to_table(steps, ' ') WITH ORDINALITY AS t (s, n))));

\pset format unaligned
\pset tuples_only on

-- Everything a definition can say; the same document, however it is written, is the same definition
SELECT '{"namespace": "definitions", "name": "full", "version": "1.0.0", "description": "All keys", "deadline_seconds": 3600, "run_as": "definer",
  "context_schema": {"type": "object", "required": ["id"]}, "steps": [
    {"name": "a", "description": "first", "dependent_system": "Payment gateway", "handler": {"type": "sql", "function": "definitions.f", "config": {"k": 1}},
     "retryable": false, "max_attempts": 5, "backoff": {"base_seconds": 2, "multiplier": 3, "max_seconds": 60, "jitter": 0}, "timeout_seconds": 1.5,
     "skippable": true, "isolation": "serializable", "priority": 7,
     "events": ["done", {"name": "broke", "condition": "failure", "description": "for the pager"}]},
    {"name": "b.1:x-y_Ä", "handler": {"type": "sql", "query": "SELECT $1"}, "depends_on": ["a", "a"], "own_transaction": true},
    {"name": "c", "handler": {"type": "sql", "procedure": "definitions.p", "atomic": false}, "depends_on": ["a"], "max_attempts": 0},
    {"name": "d", "handler": {"type": "noop"}, "depends_on": ["c", "b.1:x-y_Ä", "a"]},
    {"name": "e", "handler": {"type": "sql", "function": "definitions.g"}},
    {"name": "f", "handler": {"type": "sql", "function": "Definitions.\"F g\""}},
    {"name": "g", "handler": {"type": "sql", "procedure": "definitions.q", "atomic": false}},
    {"name": "h", "handler": {"type": "sql", "query": "WITH x AS (INSERT INTO no.such (a) VALUES (1) RETURNING a) SELECT a FROM x; "}}]}'
  AS document \gset
SELECT count(*) AS faults FROM tasker.validate_task_definition(:'document');
SELECT tasker.define_task(:'document') AS id \gset
SELECT tasker.define_task(:'document') = :id, tasker.define_task((:'document'::jsonb)::text::jsonb) = :id,
  tasker.define_task(definition => :'document', replace => true) = :id;
SELECT tasker.task_definition('definitions', 'full', '1.0.0') = :'document'::jsonb, tasker.task_definition('definitions', 'full') = :'document'::jsonb;
SELECT run_as, author, step_count, sink_count, deadline_seconds, description, context_schema FROM tasker.named_tasks WHERE named_task_id = :id;
SELECT s.step_no, s.name, s.handler_type, s.parents, s.children, s.level, s.retryable, s.max_attempts, s.timeout_seconds, s.skippable, s.own_transaction,
  s.isolation, s.priority, d.name FROM tasker.named_steps AS s LEFT JOIN tasker.dependent_systems AS d USING (dependent_system_id)
WHERE s.named_task_id = :id ORDER BY s.step_no;
SELECT s.backoff_base, s.backoff_multiplier, s.backoff_max, s.backoff_jitter, s.events FROM tasker.named_steps AS s
WHERE s.named_task_id = :id AND s.step_no < 3 ORDER BY s.step_no;
-- Defaults: namespace default, version 0.1.0, invoker
SELECT tasker.define_task('{"name": "regress_defaults", "steps": [{"name": "only", "handler": {"type": "noop"}}]}') AS id \gset
SELECT namespace, name, version, run_as, latest, deadline_seconds FROM tasker.named_task_list WHERE named_task_id = :id;
-- Created and named in one transaction, gone with it
BEGIN;
SELECT tasker.define_task(definitions.task('{"name": "rolled_back", "namespace": "definitions2"}')) > 0;
SELECT namespace, name FROM tasker.named_task_list WHERE namespace = 'definitions2';
ROLLBACK;
SELECT namespace, name FROM tasker.named_task_list WHERE namespace = 'definitions2';
SELECT name FROM tasker.task_namespaces WHERE name = 'definitions2';
-- Where the functions are used
SELECT type, target, definitions, "exists", executable_by, runs, failures FROM tasker.handlers WHERE target LIKE 'definitions.%' ORDER BY target COLLATE "C";
SELECT target, namespaces, steps, conflicts, health FROM tasker.handlers WHERE 'definitions' = ANY (namespaces) AND type = 'sql' ORDER BY target COLLATE "C";
-- What became of them since: gone, other arguments, another result, both arguments, not the definer's to execute
BEGIN;
DROP FUNCTION definitions."F g";
ALTER FUNCTION definitions.f(jsonb, jsonb) RENAME TO old_f;
CREATE FUNCTION definitions.f(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION definitions.g(jsonb, jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
REVOKE ALL ON PROCEDURE definitions.p FROM PUBLIC, CURRENT_USER;
SELECT target, "exists", executable_by, conflicts, health FROM tasker.handlers WHERE target LIKE 'definitions.%' OR target LIKE 'Definitions.%' ORDER BY target COLLATE "C";
ROLLBACK;

-- Versions are compared as numbers, and the latest is the highest that is not retired
SELECT tasker.define_task(definitions.task(jsonb_build_object('name', 'versions', 'version', v))) > 0
FROM unnest(ARRAY['0.9.0', '0.10.0', '0.2.11', '0.0.999999999']) AS v \g /dev/null
SELECT version, latest FROM tasker.named_task_list WHERE name = 'versions' ORDER BY named_task_id;
SELECT tasker.task_definition('definitions', 'versions') ->> 'version';
SELECT tasker.retire_task_definition('definitions', 'versions', '0.10.0'), tasker.retire_task_definition('definitions', 'versions', '0.10.0');
SELECT tasker.task_definition('definitions', 'versions') ->> 'version', tasker.task_definition('definitions', 'versions', '0.10.0') ->> 'version';
SELECT version, latest, retired_at IS NOT NULL AS retired FROM tasker.named_task_list WHERE name = 'versions' ORDER BY named_task_id;
SELECT definitions.refused($$SELECT tasker.create_task('definitions', 'versions', version => '0.10.0')$$);
SELECT tasker.retire_task_definition('definitions', 'versions', v) FROM unnest(ARRAY['0.9.0', '0.2.11', '0.0.999999999']) AS v;
SELECT definitions.refused($$SELECT tasker.create_task('definitions', 'versions')$$);
-- Leading zeros make no new version
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "versions", "version": "00.09.000"}'))$$);
-- A retired definition defined again is still itself, and retired; another body is refused
SELECT tasker.define_task(definitions.task('{"name": "versions", "version": "0.9.0"}')) > 0;
SELECT bool_and(retired_at IS NOT NULL) AS retired FROM tasker.named_task_list WHERE name = 'versions';
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "versions", "version": "0.9.0", "description": "other"}'))$$);

-- Replacing: while no task has used it
SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0"}')) > 0;
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0", "description": "second"}'))$$);
SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0", "description": "second"}'), true) > 0;
SELECT tasker.task_definition('definitions', 'replaced') ->> 'description', (SELECT count(*) FROM tasker.named_tasks WHERE name = 'replaced');
BEGIN;
SELECT tasker.create_task('definitions', 'replaced', run_at => '2999-01-01') > 0;
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0", "description": "third"}'), true)$$);
ROLLBACK;
SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0", "description": "third"}'), replace => true) > 0;
SELECT tasker.create_task('definitions', 'replaced', run_at => '2999-01-01', idempotency_key => 'replaced') AS id \gset
SELECT tasker.cancel_task(:id);
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.0", "description": "fourth"}'), true)$$);
SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.1", "description": "fourth"}')) > 0;

-- What belongs to somebody else, what does not exist, and who may not
SET SESSION AUTHORIZATION regress_rival;
SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.1", "description": "fourth"}')) > 0;
SELECT definitions.refused($$SELECT tasker.define_task(definitions.task('{"name": "replaced", "version": "1.0.1", "description": "mine"}'), true)$$);
SELECT definitions.refused($$SELECT tasker.retire_task_definition('definitions', 'replaced', '1.0.1')$$);
SELECT definitions.refused($$SELECT tasker.retire_task_definition('definitions', 'replaced', '9.9.9')$$);
SELECT definitions.refused($$SELECT tasker.retire_task_definition('definitions', 'replaced', NULL)$$);
SELECT definitions.refused($$SELECT tasker.task_definition('definitions', 'no_such')$$);
SELECT definitions.refused($$SELECT tasker.task_definition('definitions', 'replaced', '9.9.9')$$);
SELECT definitions.refused($$SELECT tasker.task_definition('definitions', 'replaced', '1.0')$$);
SELECT definitions.refused($$SELECT tasker.define_task(NULL)$$);
SELECT definitions.refused($$SELECT tasker.create_task('definitions', 'replaced')$$);
SET SESSION AUTHORIZATION regress_nobody;
SELECT definitions.refused($$SELECT tasker.define_task('{}')$$);
SELECT definitions.refused($$SELECT tasker.task_definition('definitions', 'replaced')$$);
SET SESSION AUTHORIZATION regress_author;

-- Faults, all of them at once
SELECT definitions.refused($$SELECT tasker.define_task('{"name": "bad name", "version": "1", "stesp": [], "steps": [
  {"name": "a", "handler": {"type": "sql", "function": "definitions.missing"}, "depends_on": ["b"], "retry_limit": 5}, {"name": "a"}]}')$$);
SELECT definitions.refused($$SELECT tasker.define_task(definitions.step('{"handler": {"type": "wait", "seconds": 5}, "when": "x"}'))$$);
SELECT definitions.refused($$SELECT tasker.define_task(definitions.step('{"handler": {"type": "wait", "seconds": 5}, "wen": "x"}'))$$);
SELECT definitions.refused(format('SELECT tasker.define_task(definitions.step(%L))', d)) FROM unnest(ARRAY[
  '{"handler": {"type": "task", "name": "t"}}', '{"map": "/x"}', '{"compensate_with": "a"}',
  '{"cache_seconds": 1}']) AS d;
SELECT definitions.refused(format('SELECT tasker.define_task(definitions.task(%L))', d)) FROM unnest(ARRAY['{"on_error": "x"}', '{"on_complete": "x"}']) AS d;

-- A table of faults: what is wrong with each, where, and what helps
CREATE TABLE definitions.bad (n integer GENERATED ALWAYS AS IDENTITY, what text, document jsonb);
INSERT INTO definitions.bad (what, document) VALUES
  ('not an object', '[]'), ('a string', '"x"'), ('null', 'null'), ('nothing at all', '{}'),
  ('unknown keys', definitions.task('{"nmae": "t", "schema": {}, "deadline": 1, "xyz": 1, "~/": 1}')),
  ('types of a task', definitions.task('{"name": 1, "namespace": [], "version": 1.0, "description": {}, "deadline_seconds": "x", "run_as": true, "context_schema": 3, "steps": {}}')),
  ('names', definitions.task('{"name": "", "namespace": "a b", "description": ""}')), ('slash', definitions.task('{"name": "a/b"}')),
  ('brackets', definitions.step('{"name": "load[0]"}')), ('control character', definitions.step(E'{"name": "a\\nb"}')), ('quote', definitions.step('{"name": "a\"b"}')),
  ('65 bytes', definitions.task(jsonb_build_object('name', repeat('x', 65), 'namespace', repeat('ä', 33)))),
  ('129 bytes', definitions.step(jsonb_build_object('name', repeat('y', 129)))),
  ('versions', definitions.task('{"version": "1.0"}')), ('letters', definitions.task('{"version": "1.0.0-rc1"}')), ('signs', definitions.task('{"version": "1.-1.0"}')),
  ('no version', definitions.task('{"version": ""}')), ('ten digits', definitions.task('{"version": "1.0.1000000000"}')), ('spaces', definitions.task('{"version": " 1.0.0"}')),
  ('deadlines', definitions.task('{"deadline_seconds": 0}')), ('negative', definitions.task('{"deadline_seconds": -1}')), ('eleven years', definitions.task('{"deadline_seconds": 346896000}')),
  ('run_as', definitions.task('{"run_as": "definers"}')), ('no steps', definitions.task('{"steps": []}')), ('steps that are none', definitions.task('{"steps": [1, "a", null, []]}')),
  ('empty step', definitions.task('{"steps": [{}]}')),
  ('keys of a step', definitions.step('{"retry_limit": 3, "needs": [], "timeout": 3, "depend_on": [], "custom_events": [], "handlr": 1}')),
  ('types of a step', definitions.step('{"name": true, "description": 1, "dependent_system": 1, "handler": "f", "depends_on": "b", "retryable": "yes", "max_attempts": "3",
    "backoff": 1, "timeout_seconds": "1", "skippable": 0, "own_transaction": null, "isolation": 1, "priority": "high", "events": {}}')),
  ('ranges', definitions.step('{"max_attempts": -1, "timeout_seconds": 0, "priority": 1000001}')), ('fractions', definitions.step('{"max_attempts": 1.5, "priority": 0.1}')),
  ('too many', definitions.step('{"max_attempts": 1001, "timeout_seconds": 604801, "priority": -1000001, "isolation": "snapshot", "dependent_system": ""}')),
  ('backoff', definitions.step('{"backoff": {"base": 1, "base_seconds": -1, "multiplier": 0.5, "max_seconds": 1e9, "jitter": 2}}')),
  ('events', definitions.step('{"events": ["a b", 1, {"condition": "never"}, {"name": "x", "on": 1}]}')),
  ('parents', definitions.step('{"depends_on": [1, null, "b", "a"]}')), ('misspelt parent', definitions.graph('extract transform<-extrakt')),
  ('duplicate names', definitions.graph('a b<-a a<-b a')), ('self', definitions.graph('a b<-b')), ('cycle', definitions.graph('a<-c b<-a c<-b')),
  ('two cycles', definitions.graph('x a<-b b<-a,x c<-d d<-c e<-c')), ('handler types', definitions.step('{"handler": {"type": "sgl"}}')),
  ('no type', definitions.step('{"handler": {"function": "definitions.f"}}')), ('type of type', definitions.step('{"handler": {"type": 1}}')),
  ('noop with keys', definitions.step('{"handler": {"type": "noop", "function": "definitions.f"}}')), ('nothing to run', definitions.sql('{}')),
  ('two things to run', definitions.sql('{"function": "definitions.f", "query": "SELECT 1"}')), ('not a text', definitions.sql('{"query": 1}')),
  ('empty', definitions.sql('{"query": " \n"}')), ('config', definitions.sql('{"query": "SELECT 1", "config": 1, "configg": {}}')),
  ('not qualified', definitions.sql('{"function": "f"}')), ('with arguments', definitions.sql('{"function": "definitions.f(jsonb, jsonb)"}')),
  ('injected', definitions.sql('{"function": "definitions.f; DROP TABLE x"}')), ('three parts', definitions.sql('{"function": "db.definitions.f"}')),
  ('missing', definitions.sql('{"function": "definitions.missing"}')), ('missing schema', definitions.sql('{"function": "no_such_schema.f"}')),
  ('case', definitions.sql('{"function": "definitions.\"F\""}')), ('returns text', definitions.sql('{"function": "definitions.to_text"}')),
  ('returns a set', definitions.sql('{"function": "definitions.many"}')), ('one argument', definitions.sql('{"function": "definitions.one"}')),
  ('json', definitions.sql('{"function": "definitions.pair"}')), ('a procedure', definitions.sql('{"function": "definitions.p"}')),
  ('not a procedure', definitions.sql('{"procedure": "definitions.f", "atomic": false}')), ('atomic procedure', definitions.sql('{"procedure": "definitions.p"}')),
  ('function not atomic', definitions.sql('{"function": "definitions.f", "atomic": false}')), ('atomic 1', definitions.sql('{"procedure": "definitions.p", "atomic": 1}')),
  ('two statements', definitions.sql('{"query": "SELECT 1; SELECT 2"}')), ('a comment only', definitions.sql('{"query": "-- nothing"}')),
  ('syntax', definitions.sql('{"query": "SELEC 1"}')), ('unfinished', definitions.sql('{"query": "SELECT ''x"}')),
  ('two of all', definitions.sql('{"query": "SELECT 1; SELECT 2", "confg": 1}')), ('reserved', definitions.step('{"when": "x", "map": "y"}')),
  ('kinds to come', definitions.step('{"handler": {"type": "wait", "seconds": 1}, "timeout_seconds": 1}')),
  ('bad schema', definitions.task('{"context_schema": {"type": "strin", "properties": {"a/b": {"minimum": "1", "frobnicate": 1}}, "pattern": "("}}'));
SELECT b.what || ': ' || coalesce(v.json_pointer || ' ' || v.problem || coalesce(' [' || v.hint || ']', ''), 'no fault')
FROM definitions.bad AS b LEFT JOIN LATERAL tasker.validate_task_definition(b.document) WITH ORDINALITY AS v ON true ORDER BY b.n, v.ordinality;
-- Each of them is refused by define_task with 22023, or 0A000 where only later releases are needed
SELECT b.what, left(definitions.refused(format('SELECT tasker.define_task(%L)', b.document)), 5) FROM definitions.bad AS b
WHERE definitions.refused(format('SELECT tasker.define_task(%L)', b.document)) !~ '^22023' ORDER BY b.n;

-- Hostile: deep, wide, long
SELECT * FROM tasker.validate_task_definition(definitions.step(jsonb_build_object('handler', ('{"type": "noop", "config": {"x": '
  || repeat('[', 2000) || repeat(']', 2000) || '}}')::jsonb)));
SELECT left(definitions.refused(format('SELECT tasker.define_task(%L)', definitions.task(jsonb_build_object('steps', (SELECT jsonb_agg(i) FROM generate_series(1, 100001) AS i))))), 120);
SELECT count(*), min(v.json_pointer) FROM tasker.validate_task_definition(definitions.graph((SELECT string_agg(format('s%s<-s%s', i, i % 20000 + 1), ' ') FROM generate_series(1, 20000) AS i))) AS v;

RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
SELECT tasker.revoke_access('regress_author', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SELECT tasker.revoke_access('regress_rival', 'author') \g /dev/null
DROP OWNED BY regress_author, regress_rival, regress_nobody CASCADE;
DROP ROLE regress_author, regress_rival, regress_nobody;
