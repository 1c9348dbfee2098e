-- HTTP endpoints: foreign servers of the wrapper tasker_http, which steps of type http name. The wrapper has no handler:
-- there is nothing to select from it. PostgreSQL keeps the options, hides those of user mappings, and GRANT USAGE ON
-- FOREIGN SERVER says whose steps may call which endpoint.

CREATE FUNCTION tasker.tasker_http_validator(options text[], catalog oid)
  RETURNS void LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_http_validator';
COMMENT ON FUNCTION tasker.tasker_http_validator(text[], oid) IS 'Checks the options of foreign servers and user mappings of tasker_http';

CREATE FOREIGN DATA WRAPPER tasker_http NO HANDLER VALIDATOR tasker.tasker_http_validator;
COMMENT ON FOREIGN DATA WRAPPER tasker_http IS 'HTTP endpoints that workflow steps may call';
