-- What failures mean, and how long a failed step waits for its next attempt.

CREATE FUNCTION tasker.failure_classes()
  RETURNS TABLE (code text, category text, retryable boolean, meaning text)
  LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 80 AS 'MODULE_PATHNAME', 'tasker_failure_classes';
COMMENT ON FUNCTION tasker.failure_classes() IS 'What an error means for its step, by SQLSTATE or its class of two characters; a whole code wins, what is not listed is retryable. retry_on and fail_on of a step override it';

CREATE FUNCTION tasker.analyze_step_historical_success_patterns(step_name text, current_attempts integer, lookback_days integer DEFAULT 7,
    namespace text DEFAULT NULL, name text DEFAULT NULL)
  RETURNS TABLE (total_attempts bigint, successful_attempts bigint, success_rate numeric, confidence_level text, recommendation text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_analyze_step_historical_success_patterns';
COMMENT ON FUNCTION tasker.analyze_step_historical_success_patterns(text, integer, integer, text, text) IS 'How the next attempt of such steps went in the past, after so many attempts, and what follows for the delay. All definitions, or those of a namespace and name';

CREATE FUNCTION tasker.explain_retry(task_id bigint, step_name text)
  RETURNS TABLE (item text, value numeric, explanation text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 8 AS 'MODULE_PATHNAME', 'tasker_explain_retry';
COMMENT ON FUNCTION tasker.explain_retry(bigint, text) IS 'The delay before the next attempt of a step, were it to fail now or as it failed last: base, each factor with its reason, result';
