-- context_schema: every violation of a context is told with its place, and a faulty schema never gets into a definition.
\set SHOW_CONTEXT never
CREATE ROLE regress_schema LOGIN;
SELECT tasker.grant_access('regress_schema', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
CREATE SCHEMA context_schema AUTHORIZATION regress_schema;
SET SESSION AUTHORIZATION regress_schema;

CREATE FUNCTION context_schema.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE statement;
  RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', state || ' ' || message, 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
END
$$;
-- Defines a task of one step with this schema.
CREATE FUNCTION context_schema.define(name text, schema jsonb) RETURNS void LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'context_schema', 'name', name, 'context_schema', schema,
    'steps', '[{"name": "a", "handler": {"type": "noop"}}]'::jsonb));
$$;
-- What is said of a context: nothing when it fits. The task that it then makes is rolled back.
CREATE FUNCTION context_schema.fits(name text, context jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  detail text;
BEGIN
  PERFORM tasker.create_task('context_schema', name, context);
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN RETURN 'fits';
  WHEN SQLSTATE '22023' THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN detail;
END
$$;
\pset format unaligned
\pset tuples_only on

-- All violations at once, in one error
SELECT context_schema.define('order', '{"type": "object", "required": ["order_id", "items"], "additionalProperties": false, "minProperties": 2, "properties": {
  "order_id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$", "maxLength": 12},
  "items": {"type": "array", "minItems": 1, "maxItems": 3, "uniqueItems": true, "items": {"type": "object", "required": ["sku"], "properties": {
    "sku": {"type": "string", "minLength": 1}, "quantity": {"type": "integer", "minimum": 1, "maximum": 100},
    "price": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.01}}}},
  "status": {"enum": ["new", "paid"]}, "currency": {"const": "EUR"}, "a/b~c": {"type": ["null", "boolean"]}, "note": true, "secret": false}}') \g /dev/null
SELECT context_schema.fits('order', '{"order_id": "AB-1", "items": [{"sku": "x", "quantity": 1.0, "price": 9.99}], "status": "new", "currency": "EUR", "a/b~c": null, "note": {}}');
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order', '{"order_id": "ab-1234567890", "items": [{"quantity": 0, "price": 0},
  {"sku": "", "quantity": 1.5, "price": 0.001}, 7, 7], "status": "lost", "currency": "USD", "a/b~c": 1, "colour": "red", "secret": 1}')$$);
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order')$$);
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order', '{"order_id": 1, "items": {}}')$$);
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order', '[]')$$);
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order', '"x"')$$);
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'order', 'null')$$);
-- In bulk the number of the context is told, and one that does not fit leaves none of them
SELECT context_schema.refused($$SELECT tasker.create_tasks('context_schema', 'order', ARRAY['{"order_id": "AB-1", "items": [1]}', '{"order_id": "AB-2", "items": [{"sku": "x"}]}',
  '{"order_id": "AB-3"}']::jsonb[])$$);
SELECT context_schema.refused($$SELECT tasker.create_tasks('context_schema', 'order', ARRAY['{"order_id": "AB-2", "items": [{"sku": "x"}]}', '[]']::jsonb[])$$);
SELECT count(*) FROM tasker.task_status WHERE namespace = 'context_schema';

-- Patterns are PostgreSQL's regular expressions, not anchored; lengths are characters, not bytes
SELECT context_schema.define('patterns', '{"properties": {"digit": {"pattern": "\\d"}, "anchored": {"pattern": "^(\\d{3})$"}, "any_case": {"pattern": "(?i)^yes$"},
  "ahead": {"pattern": "^(?!no)"}, "again": {"pattern": "^(a|b)\\1$"}, "class": {"pattern": "^[[:alpha:]]+$"}, "three": {"maxLength": 3, "minLength": 3}},
  "patternProperties": {"^n_": {"type": "number"}, "_s$": {"type": "string"}}, "propertyNames": {"pattern": "^[a-z_]+$", "maxLength": 12}}') \g /dev/null
SELECT context_schema.fits('patterns', '{"digit": "a1b", "anchored": "123", "any_case": "YES", "ahead": "yes", "again": "aa", "class": "abc", "three": "äöü", "n_x": 1, "y_s": "s"}');
SELECT context_schema.fits('patterns', '{"digit": "ab", "anchored": "1234", "any_case": "yes!", "ahead": "none", "again": "ab", "class": "a1", "three": "äö", "n_x": "1", "y_s": 1, "n_and_s": true,
  "UPPER": 1, "much_too_long_name": 1}');
SELECT context_schema.fits('patterns', '{"digit": 1, "three": 12, "anchored": null}');
-- Long texts against patterns: linear, and the text is not repeated in the message
SELECT context_schema.define('long', '{"properties": {"plain": {"pattern": "^[a-z]*$"}, "nested": {"pattern": "^(a+)+$"}, "size": {"maxLength": 50000}}}') \g /dev/null
SELECT context_schema.fits('long', jsonb_build_object('plain', repeat('a', 50000), 'nested', repeat('a', 50000), 'size', repeat('ä', 50000)));
SELECT context_schema.fits('long', jsonb_build_object('plain', repeat('a', 50000) || '!', 'nested', repeat('a', 50000) || 'b', 'size', repeat('ä', 50001)));

-- Formats are checked
SELECT context_schema.define('formats', (SELECT jsonb_build_object('properties', jsonb_object_agg(f, jsonb_build_object('format', f))) FROM unnest(ARRAY[
  'date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uuid', 'json-pointer', 'regex']) AS f)) \g /dev/null
SELECT context_schema.fits('formats', '{"date": "2024-02-29", "time": "23:59:59Z", "date-time": "2024-02-29T12:00:00+02:00", "duration": "P1DT2H", "email": "a@example.org", "hostname": "example.org",
  "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "uri": "https://example.org/?q=1", "uuid": "12345678-1234-1234-1234-123456789abc", "json-pointer": "/a~1b", "regex": "^a+$"}');
SELECT context_schema.fits('formats', '{"date": "2023-02-29", "time": "24:00:00Z", "date-time": "2024-02-29 12:00", "duration": "1 day", "email": "a@", "hostname": "-x-", "ipv4": "192.0.2.256",
  "ipv6": "2001:db8:::1", "uri": "example.org", "uuid": "12345678", "json-pointer": "a", "regex": "("}');
SELECT context_schema.fits('formats', '{"date": 20240229, "regex": null}');

-- Alternatives, conditions, references
SELECT context_schema.define('logic', '{"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"money": {"type": "object", "required": ["amount"],
    "properties": {"amount": {"type": "number"}, "part": {"$ref": "#/$defs/money"}}}, "name": {"$anchor": "who", "type": "string", "minLength": 2}},
  "properties": {"price": {"$ref": "#/$defs/money"}, "who": {"$ref": "#who"}, "any": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]},
    "one": {"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, "none": {"not": {"type": "string"}}, "all": {"allOf": [{"minimum": 1}, {"maximum": 0}]},
    "pair": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}, "some": {"contains": {"const": 1}, "minContains": 2, "maxContains": 3}},
  "if": {"properties": {"kind": {"const": "card"}}, "required": ["kind"]}, "then": {"required": ["number"]}, "else": {"required": ["iban"]},
  "dependentRequired": {"street": ["city"]}, "unevaluatedProperties": {"type": ["object", "string", "integer", "array"]}}') \g /dev/null
SELECT context_schema.fits('logic', '{"kind": "card", "number": "1", "price": {"amount": 1, "part": {"amount": 0.5}}, "who": "me", "any": "ab", "one": 9, "none": 1, "pair": ["a", 1], "some": [1, 2, 1]}');
SELECT context_schema.fits('logic', '{"kind": "card", "street": "x", "price": {"amount": 1, "part": {"amount": "1", "part": {}}}, "who": "", "any": "abc", "one": 6, "none": "x", "all": 5, "pair": [1, 2, 3], "some": [1]}');
SELECT context_schema.fits('logic', '{"one": 5, "some": [1, 1, 1, 1]}');
SELECT context_schema.fits('logic', '{"iban": "x", "extra": true}');

-- true takes any object, false none
SELECT context_schema.define('anything', 'true'), context_schema.define('nothing', 'false') \g /dev/null
SELECT context_schema.fits('anything', '{"a": 1}'), context_schema.fits('nothing', '{}');

-- Faults of the schema itself
SELECT context_schema.refused($$SELECT context_schema.define('bad', '{"type": "objekt", "requird": ["a"], "properties": {"a": {"minimum": "1", "pattern": "(a"}}}')$$);
SELECT s.n, v.json_pointer, v.problem FROM unnest(ARRAY['{"properties": []}', '{"required": ["a", "a"]}', '{"items": 3}', '{"type": []}', '{"enum": 1}', '{"maxLength": -1}', '{"multipleOf": 0}',
    '{"format": "shoe-size"}', '{"$ref": "#/$defs/x"}', '{"$ref": "http://example.org/schema"}', '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
    '{"allOf": []}', '{"patternProperties": {"[": true, "a{1,2": true, "ok": 1}}', '{"$schema": "http://json-schema.org/draft-07/schema#"}', '{"properties": {"a": {"$id": "x"}}}',
    '{"dependencies": {}}', '{"additionalItems": false}', '{"$dynamicRef": "#a"}', '{"pattern": "[[:nosuch:]]"}', '{"$anchor": "1a"}', '{"contentSchema": 1}']) WITH ORDINALITY AS s (schema, n)
  CROSS JOIN LATERAL tasker.validate_task_definition(jsonb_build_object('name', 'x', 'context_schema', s.schema::jsonb, 'steps', '[{"name": "a", "handler": {"type": "noop"}}]'::jsonb))
    WITH ORDINALITY AS v (json_pointer, problem, hint, m) ORDER BY s.n, v.m;

-- Contexts have a largest size
RESET SESSION AUTHORIZATION;
SET tasker.max_context_size = '2kB';
SET SESSION AUTHORIZATION regress_schema;
SELECT context_schema.refused($$SELECT tasker.create_task('context_schema', 'anything', jsonb_build_object('x', repeat('x', 2050)))$$);
SELECT context_schema.refused($$SELECT tasker.create_tasks('context_schema', 'anything', ARRAY['{}', jsonb_build_object('x', repeat('x', 2050))])$$);
SELECT context_schema.fits('anything', jsonb_build_object('x', repeat('x', 2000)));
SELECT context_schema.refused('SET tasker.max_context_size = 1000');

RESET SESSION AUTHORIZATION;
RESET tasker.max_context_size;
SELECT tasker.revoke_access('regress_schema', l) FROM unnest(ARRAY['author', 'submitter']) AS l \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_schema CASCADE;
DROP ROLE regress_schema;
