-- HTTP endpoints: foreign servers of tasker_http, their options, who may make and use them, and what definitions say of them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_ep_admin LOGIN;
CREATE ROLE regress_ep_author LOGIN;
CREATE ROLE regress_ep_other LOGIN;
SELECT tasker.grant_access('regress_ep_admin', 'admin'), tasker.grant_access('regress_ep_author', 'author'), tasker.grant_access('regress_ep_author', 'submitter') \g /dev/null
\set VERBOSITY terse

-- Every fault with its SQLSTATE, detail and hint; values are never told.
CREATE FUNCTION pg_temp.fault(command text) RETURNS TABLE (code text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE command;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN NEXT;
END $$;
\x on
SELECT f.* FROM unnest(ARRAY[
  '',
  'url ''https://api.example/v1'', urk ''secret1''',
  'url ''ftp://secret2.example''',
  'url ''https://user:secret3@api.example''',
  'url ''https://api.example/?key=secret4''',
  'url ''https://api.example'', connect_timeout ''secret5''',
  'url ''https://api.example'', timeout ''0''',
  'url ''https://api.example'', max_concurrency ''0''',
  'url ''https://api.example'', rate ''10/fortnight'', http2 ''perhaps''',
  'url ''https://api.example'', ca ''secret6''']) AS o
CROSS JOIN LATERAL pg_temp.fault(rtrim('CREATE SERVER ep_faulty FOREIGN DATA WRAPPER tasker_http ' || CASE WHEN o = '' THEN '' ELSE 'OPTIONS (' || o || ')' END)) AS f;
SELECT f.* FROM pg_temp.fault('ALTER FOREIGN DATA WRAPPER tasker_http OPTIONS (ADD x ''y'')') AS f;

-- Only a superuser opens the network that the server stands in, or names a file; and then nobody else changes that server.
SET SESSION AUTHORIZATION regress_ep_author;
SELECT f.* FROM pg_temp.fault('CREATE SERVER ep_own FOREIGN DATA WRAPPER tasker_http OPTIONS (url ''https://api.example'')') AS f;
SET SESSION AUTHORIZATION regress_ep_admin;
CREATE SERVER ep_open FOREIGN DATA WRAPPER tasker_http OPTIONS (url 'https://api.example/v1', rate '600/min', max_concurrency '4', timeout '5', http2 'off');
SELECT f.* FROM pg_temp.fault('ALTER SERVER ep_open OPTIONS (ADD allow_private ''on'')') AS f;
SELECT f.* FROM pg_temp.fault('ALTER SERVER ep_open OPTIONS (ADD ca ''/etc/passwd'')') AS f;
RESET SESSION AUTHORIZATION;
ALTER SERVER ep_open OPTIONS (ADD allow_private 'on');
SET SESSION AUTHORIZATION regress_ep_admin;
SELECT f.* FROM pg_temp.fault('ALTER SERVER ep_open OPTIONS (SET url ''http://10.0.0.1'')') AS f;
ALTER SERVER ep_open OPTIONS (SET url 'http://10.0.0.1', DROP allow_private);

-- User mappings: one way to say who calls.
SELECT f.* FROM unnest(ARRAY[
  '',
  'token ''secret7''',
  'bearer ''secret8'', username ''x'', password ''y''',
  'username ''secret9''',
  'header_name ''Host'', header_value ''secret10''',
  'bearer E''secret11\n''']) AS o
CROSS JOIN LATERAL pg_temp.fault('CREATE USER MAPPING FOR PUBLIC SERVER ep_open OPTIONS (' || o || ')') AS f WHERE o <> '';
\x off
CREATE USER MAPPING FOR PUBLIC SERVER ep_open OPTIONS (header_name 'X-Api-Key', header_value 'secret12');
CREATE USER MAPPING FOR regress_ep_author SERVER ep_open OPTIONS (bearer 'secret13');
SET SESSION AUTHORIZATION regress_ep_author;
SELECT srvname, usename, umoptions FROM pg_user_mappings WHERE srvname LIKE 'ep_%' ORDER BY usename;
RESET SESSION AUTHORIZATION;
CREATE FOREIGN TABLE ep_table (x integer) SERVER ep_open;

-- What a definition says of a server is checked with the rights of who defines it; the rest of the handler too.
CREATE FUNCTION pg_temp.faults(handler text) RETURNS TABLE (json_pointer text, problem text, hint text) LANGUAGE sql AS $$
  SELECT * FROM tasker.validate_task_definition(jsonb_build_object('name', 'ep', 'steps', jsonb_build_array(jsonb_build_object('name', 'call', 'handler',
    '{"type": "http"}'::jsonb || handler::jsonb)))) $$;
CREATE FOREIGN DATA WRAPPER ep_wrapper;
CREATE SERVER ep_foreign FOREIGN DATA WRAPPER ep_wrapper;
SET SESSION AUTHORIZATION regress_ep_author;
SELECT f.* FROM pg_temp.faults('{}') AS f;
SELECT f.* FROM pg_temp.faults('{"server": "ep_nowhere", "path": "/x"}') AS f;
SELECT f.* FROM pg_temp.faults('{"server": "ep_foreign", "path": "/x"}') AS f;
SELECT f.* FROM pg_temp.faults('{"server": "ep_open", "path": "/x"}') AS f;
RESET SESSION AUTHORIZATION;
GRANT USAGE ON FOREIGN SERVER ep_open TO regress_ep_author;
SET SESSION AUTHORIZATION regress_ep_author;
SELECT f.* FROM pg_temp.faults('{"server": "ep_open", "path": "../x", "method": "STEAL", "headers": {"Host": "x"}, "expect": [99], "result": "x", "idempotency": "often", "url": "y"}') AS f;
SELECT f.* FROM pg_temp.faults('{"server": "ep_open", "method": "POST", "path": "/x/${/context/id}", "query": {"q": "${/context/q}"}, "headers": {"X-Id": "${/context/id}"}, "body": {"a": "${/results}"}, "expect": [200, 409], "result": "/id", "idempotency": "key"}') AS f;
SELECT tasker.define_task('{"namespace": "ep", "name": "call", "steps": [{"name": "call", "handler": {"type": "http", "server": "ep_open", "path": "/x"}}]}') > 0 AS defined;
SELECT steps, conflicts, health FROM tasker.handlers WHERE type = 'http' AND target = 'ep_open';
SELECT dependent_system_id > 0 AS depends_on_its_server FROM tasker.dependent_systems WHERE name = 'ep_open';
RESET SESSION AUTHORIZATION;
REVOKE USAGE ON FOREIGN SERVER ep_open FROM regress_ep_author;
SET SESSION AUTHORIZATION regress_ep_author;
SELECT f.code, f.message, f.hint FROM pg_temp.fault($$SELECT tasker.create_task('ep', 'call')$$) AS f;
RESET SESSION AUTHORIZATION;
-- The author could have it run as himself.
BEGIN;
UPDATE tasker.named_tasks SET run_as = 'definer' WHERE name = 'call';
SELECT conflicts, health FROM tasker.handlers WHERE type = 'http' AND target = 'ep_open';
ROLLBACK;
DROP SERVER ep_open CASCADE;
SELECT conflicts, health FROM tasker.handlers WHERE type = 'http' AND target = 'ep_open';
SET SESSION AUTHORIZATION regress_ep_author;
SELECT f.code, f.message, f.hint FROM pg_temp.fault($$SELECT tasker.create_task('ep', 'call')$$) AS f;
RESET SESSION AUTHORIZATION;

-- Rights on the wrapper follow the level.
SELECT has_foreign_data_wrapper_privilege(r, 'tasker_http', 'USAGE') FROM unnest(ARRAY['regress_ep_admin', 'regress_ep_author', 'regress_ep_other']) AS r;
SELECT tasker.revoke_access('regress_ep_admin', 'admin') \g /dev/null
SELECT has_foreign_data_wrapper_privilege('regress_ep_admin', 'tasker_http', 'USAGE');

DROP FOREIGN DATA WRAPPER ep_wrapper CASCADE;
SELECT tasker.revoke_access('regress_ep_author', 'author'), tasker.revoke_access('regress_ep_author', 'submitter') \g /dev/null
DROP ROLE regress_ep_admin;
DROP ROLE regress_ep_other;
DROP OWNED BY regress_ep_author CASCADE;
DROP ROLE regress_ep_author;
