-- External workers: steps of a queue, claimed under a lease and a token by clients in any language.

CREATE FUNCTION tasker.claim_steps(queue text, worker text, max_steps integer DEFAULT 1, lease interval DEFAULT '30 s', wait interval DEFAULT '0')
  RETURNS TABLE (task_id bigint, step_name text, attempt integer, claim_token uuid, context jsonb, results jsonb, config jsonb, correlation_id text, lease_until timestamptz)
  LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'tasker_claim_steps';
COMMENT ON FUNCTION tasker.claim_steps(text, text, integer, interval, interval)
  IS 'Gives the caller ready steps of a queue, highest priority first, at most 100 at a time; nobody else gets them until the lease ends. With wait (at most 60 s) it sleeps until there is one';

CREATE FUNCTION tasker.complete_step(task_id bigint, step_name text, claim_token uuid, result jsonb DEFAULT NULL)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_complete_step';
COMMENT ON FUNCTION tasker.complete_step(bigint, text, uuid, jsonb)
  IS 'Completes a claimed step in the caller''s transaction; false when this token has completed it already. A token that is late or wrong raises TK003';

CREATE FUNCTION tasker.fail_step(task_id bigint, step_name text, claim_token uuid, message text, retryable boolean DEFAULT true,
  retry_after interval DEFAULT NULL, max_attempts integer DEFAULT NULL, context jsonb DEFAULT '{}')
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_fail_step';
COMMENT ON FUNCTION tasker.fail_step(bigint, text, uuid, text, boolean, interval, integer, jsonb)
  IS 'Fails a claimed step, to be tried again or for good; false when this token has failed it already. A token that is late or wrong raises TK003';

CREATE FUNCTION tasker.complete_steps(task_ids bigint[], step_names text[], claim_tokens uuid[], results jsonb[] DEFAULT NULL)
  RETURNS TABLE (task_id bigint, step_name text, outcome text) LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tasker_complete_steps';
COMMENT ON FUNCTION tasker.complete_steps(bigint[], text[], uuid[], jsonb[])
  IS 'Completes many claimed steps. outcome: done, repeated (this token has completed it already), or stale (the token is late or wrong, and nothing was changed)';

CREATE FUNCTION tasker.fail_steps(task_ids bigint[], step_names text[], claim_tokens uuid[], messages text[], retryable boolean DEFAULT true,
  retry_after interval DEFAULT NULL, max_attempts integer DEFAULT NULL)
  RETURNS TABLE (task_id bigint, step_name text, outcome text) LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'tasker_fail_steps';
COMMENT ON FUNCTION tasker.fail_steps(bigint[], text[], uuid[], text[], boolean, interval, integer)
  IS 'Fails many claimed steps. outcome: done, repeated, or stale, as complete_steps has it';

CREATE FUNCTION tasker.extend_lease(task_id bigint, step_name text, claim_token uuid, lease interval DEFAULT '30 s')
  RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_extend_lease';
COMMENT ON FUNCTION tasker.extend_lease(bigint, text, uuid, interval)
  IS 'Makes a claim last for so long from now, and returns its end; never shortens it. A token that is late or wrong, or of a step that was cancelled, raises TK003';

CREATE FUNCTION tasker.release_step(task_id bigint, step_name text, claim_token uuid)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_release_step';
COMMENT ON FUNCTION tasker.release_step(bigint, text, uuid) IS 'Gives a claimed step back to its queue, without an attempt spent; false when this token has released it already';

CREATE FUNCTION tasker.set_queue_limit(queue text, max_claimed integer)
  RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_set_queue_limit';
COMMENT ON FUNCTION tasker.set_queue_limit(text, integer) IS 'How many steps of a queue may be claimed at the same time; null: as many as there are. False when it was so already';

CREATE FUNCTION tasker.queue_rows()
  RETURNS TABLE (queue text, waiting bigint, waiting_since timestamptz, claimed bigint, max_claimed integer, workers text[])
  LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'tasker_queue_rows';
COMMENT ON FUNCTION tasker.queue_rows() IS 'What the view queues shows';

CREATE VIEW tasker.queues WITH (security_invoker = true) AS
SELECT q.queue, q.waiting, clock_timestamp() - q.waiting_since AS oldest_waiting, q.claimed, q.max_claimed AS "limit", q.workers
FROM tasker.queue_rows() AS q;
COMMENT ON VIEW tasker.queues IS 'Queues of external steps: what waits for a worker and how long already, what is claimed and by whom. Of tasks the reader sees; of a queue he works on, of all';
