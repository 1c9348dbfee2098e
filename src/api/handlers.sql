-- What handlers receive and raise.

CREATE TYPE tasker.step_call AS (
  task_id bigint,
  step_name text,
  attempt integer,
  context jsonb,
  results jsonb,
  config jsonb,
  correlation_id text,
  idempotency_key text
);
COMMENT ON TYPE tasker.step_call IS 'Argument of a handler f(step tasker.step_call): results holds parent step → result, config the handler object; idempotency_key is stable over attempts';

CREATE FUNCTION tasker.raise_retryable(message text, retry_after interval DEFAULT NULL, max_attempts integer DEFAULT NULL, context jsonb DEFAULT '{}')
  RETURNS jsonb LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_raise_retryable';
COMMENT ON FUNCTION tasker.raise_retryable(text, interval, integer, jsonb) IS 'Fails the attempt with SQLSTATE TK001; another one is made, after retry_after when given';

CREATE FUNCTION tasker.raise_permanent(message text, reason text DEFAULT 'unspecified', context jsonb DEFAULT '{}')
  RETURNS jsonb LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tasker_raise_permanent';
COMMENT ON FUNCTION tasker.raise_permanent(text, text, jsonb) IS 'Fails the step with SQLSTATE TK002; no other attempt is made';
