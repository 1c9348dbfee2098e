-- Definitions: checked, versioned, immutable once used.

CREATE FUNCTION tasker.define_task(definition jsonb, replace boolean DEFAULT false)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_define_task';
COMMENT ON FUNCTION tasker.define_task(jsonb, boolean) IS 'Stores a workflow definition and returns its named_task_id; the same definition again returns the same id';

CREATE FUNCTION tasker.validate_task_definition(definition jsonb)
  RETURNS TABLE (json_pointer text, problem text, hint text) LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_validate_task_definition';
COMMENT ON FUNCTION tasker.validate_task_definition(jsonb) IS 'One row per fault of a definition; none when define_task would take it';

CREATE FUNCTION tasker.task_definition(namespace text, name text, version text DEFAULT NULL)
  RETURNS jsonb LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_task_definition';
COMMENT ON FUNCTION tasker.task_definition(text, text, text) IS 'A definition as it was given; the latest version when none is named';

CREATE FUNCTION tasker.retire_task_definition(namespace text, name text, version text)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_retire_task_definition';
COMMENT ON FUNCTION tasker.retire_task_definition(text, text, text) IS 'Forbids new tasks of a version; live ones finish. true: it was not retired before';

CREATE FUNCTION tasker.release_hold(reason text)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_release_hold';
COMMENT ON FUNCTION tasker.release_hold(text) IS 'Lets the tasks of a restored or copied database run here. true: it was held';

CREATE FUNCTION tasker.announce()
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_announce';
COMMENT ON FUNCTION tasker.announce() IS 'Tells the launcher at commit that this database has tasker; called by CREATE EXTENSION';
