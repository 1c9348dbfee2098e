-- What failures mean, retries, deadlines.
CREATE ROLE regress_retry LOGIN;
SELECT tasker.grant_access('regress_retry', 'submitter');
SELECT tasker.grant_access('regress_retry', 'author');
CREATE SCHEMA retry AUTHORIZATION regress_retry;
SET SESSION AUTHORIZATION regress_retry;

-- Fails with the SQLSTATE of the context.
CREATE FUNCTION retry.fail(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'failed as asked' USING ERRCODE = context ->> 'code', DETAIL = 'the detail', HINT = 'the hint';
END $$;
CREATE FUNCTION retry.sleep(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(60);
  RETURN NULL;
END $$;

-- The table of classes: each code once, sorted, and the categories are those of the reference.
SELECT count(*) > 60 AS many, count(*) = count(DISTINCT code) AS once, array_agg(DISTINCT category ORDER BY category) AS categories FROM tasker.failure_classes();
SELECT code, category, retryable FROM tasker.failure_classes()
WHERE code IN ('08', '22', '23', '28', '40001', '40P01', '42', '42501', '53', '55P03', '57014', 'P0001', 'TK001', 'TK002') ORDER BY code;

-- Overrides in a definition.
SELECT * FROM tasker.validate_task_definition('{"name": "o", "steps": [
  {"name": "a", "handler": {"type": "noop"}, "retry_on": ["22012", "4"], "fail_on": "P0001"},
  {"name": "b", "handler": {"type": "noop"}, "retry_on": ["23"], "fail_on": ["23", "00"]}]}');
SELECT tasker.define_task('{"name": "plain", "namespace": "retry", "steps": [
  {"name": "a", "handler": {"type": "sql", "function": "retry.fail"}, "backoff": {"jitter": 0}}]}') > 0 AS defined;
SELECT tasker.define_task('{"name": "over", "namespace": "retry", "steps": [
  {"name": "a", "handler": {"type": "sql", "function": "retry.fail"}, "backoff": {"jitter": 0}, "retry_on": ["22", "23505"], "fail_on": ["P0001", "22003"]}]}') > 0 AS defined;

-- Code by code: attempts, category, whether another one was allowed by nature.
CREATE FUNCTION retry.outcome(name text, code text) RETURNS TABLE (attempts integer, state tasker.step_state, category text, retryable text) LANGUAGE plpgsql AS $$
DECLARE id bigint := tasker.create_task('retry', outcome.name, jsonb_build_object('code', code), run_at => now() + interval '1 hour');
BEGIN
  CALL tasker.run_task(id, true);
  RETURN QUERY SELECT s.attempts, s.state, s.error ->> 'category', s.error ->> 'retryable' FROM tasker.step_status AS s WHERE s.task_id = id;
END $$;
SELECT c.code, p.*, o.attempts AS overridden, o.retryable
FROM unnest(ARRAY['22012', '22003', '23505', '23514', 'P0001', '08006', '42P01', '42501', '53300', 'XX123']) AS c(code)
CROSS JOIN retry.outcome('plain', c.code) AS p CROSS JOIN retry.outcome('over', c.code) AS o;

-- Everything about an attempt is kept, in the row and in the history; only the last one's factors differ.
SELECT tasker.create_task('retry', 'plain', '{"code": "08006"}', run_at => now() + interval '1 hour') AS id \gset
CALL tasker.run_task(:id, true);
SELECT error - 'retry' - 'context' AS error, split_part(error ->> 'context', E'\n', 1) AS context, error -> 'retry' AS retry FROM tasker.step_status WHERE task_id = :id;
SELECT metadata #>> '{error,attempt}' AS attempt, metadata #>> '{error,retry,base_seconds}' AS base, metadata #> '{error,retry,factors,error}' AS error_factor,
  (metadata #>> '{error,retry,delay_seconds}')::numeric > 0 AS delayed, metadata #>> '{error,retry,next_attempt_at}' IS NOT NULL AS told
FROM tasker.task_history WHERE task_id = :id AND step_name = 'a' AND to_state = 'error';

-- Long texts are cut.
CREATE FUNCTION retry.long(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', repeat('é', 100000) USING ERRCODE = 'TK002';
END $$;
SELECT tasker.define_task('{"name": "long", "namespace": "retry", "steps": [{"name": "a", "handler": {"type": "sql", "function": "retry.long"}}]}') > 0 AS defined;
SELECT tasker.create_task('retry', 'long', run_at => now() + interval '1 hour') AS id \gset
CALL tasker.run_task(:id, true);
SELECT right(error ->> 'message', 24) AS message, octet_length(error ->> 'message') < 9000 AS short FROM tasker.step_status WHERE task_id = :id;

-- How the past speaks.
RESET SESSION AUTHORIZATION;
SELECT tasker.define_task('{"name": "never_run", "namespace": "retry", "steps": [{"name": "q", "handler": {"type": "noop"}}]}') AS nt \gset
INSERT INTO tasker.step_history (named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms) VALUES
  (:nt, 1, date_trunc('hour', now()) - interval '1 day', 2, 40, 34, 0, 0), (:nt, 1, date_trunc('hour', now()) - interval '30 days', 2, 100, 0, 0, 0),
  (:nt, 1, date_trunc('hour', now()) - interval '1 day', 3, 8, 2, 0, 0), (:nt, 1, date_trunc('hour', now()) - interval '1 day', 10, 60, 1, 0, 0);
SET SESSION AUTHORIZATION regress_retry;
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 1, namespace => 'retry', name => 'never_run');
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 2, namespace => 'retry', name => 'never_run');
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 1, 90, 'retry', 'never_run');
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 50, namespace => 'retry', name => 'never_run');
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 1, namespace => 'retry', name => 'no such');
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', -1);
SELECT * FROM tasker.analyze_step_historical_success_patterns('q', 1, 0);

-- The delay explained: of a step that has not failed yet, and of one that waits.
SELECT tasker.create_task('retry', 'never_run', run_at => now() + interval '1 hour') AS id \gset
SELECT item, value, CASE item WHEN 'pressure' THEN regexp_replace(explanation, '\d+ %', 'n %') ELSE explanation END AS explanation
FROM tasker.explain_retry(:id, 'q');
SELECT * FROM tasker.explain_retry(-1, 'a');
SELECT tasker.define_task('{"name": "asks", "namespace": "retry", "steps": [
  {"name": "a", "handler": {"type": "sql", "query": "SELECT tasker.raise_retryable(''later'', ''90 s'')"}}]}') > 0 AS defined;
SELECT tasker.create_task('retry', 'asks') AS id \gset
CALL tasker.run_task(:id);
SELECT item, value, CASE item WHEN 'decided' THEN split_part(explanation, ':', 1) ELSE explanation END AS explanation FROM tasker.explain_retry(:id, 'a');
SELECT tasker.cancel_task(:id);

-- Deadlines: what could run fails, what is beneath waits in vain, the task ends in error. Nothing is left to become due.
SELECT tasker.define_task('{"name": "late", "namespace": "retry", "deadline_seconds": 2, "steps": [
  {"name": "a", "handler": {"type": "sql", "function": "retry.sleep"}},
  {"name": "b", "depends_on": ["a"], "handler": {"type": "noop"}}, {"name": "c", "handler": {"type": "noop"}, "depends_on": ["b"]}]}') > 0 AS defined;
SELECT tasker.create_task('retry', 'late') AS id \gset
SELECT tasker.wait_for_task(:id, '60 s');
SELECT state, regexp_replace(error, 'at 2.*', 'at …') AS error, finished_at >= deadline_at AS late FROM tasker.task_status WHERE task_id = :id;
SELECT step_name, state, attempts, error ->> 'category' AS category, error ->> 'retryable' AS retryable, blocking_reason FROM tasker.step_status WHERE task_id = :id ORDER BY 1;
SELECT step_name, from_state, to_state, metadata ->> 'cause' AS cause FROM tasker.task_history WHERE task_id = :id AND to_state = 'error' ORDER BY 1;
SELECT count(*) AS timers FROM tasker.timers WHERE task_id = :id;
-- In the session too, where nobody else watches the clock.
BEGIN;
SELECT tasker.create_task('retry', 'late', deadline_seconds => 0.2) AS id \gset
CALL tasker.run_task(:id);
COMMIT;
SELECT step_name, state, attempts, regexp_replace(error ->> 'message', 'at 2.*', 'at …') AS message, blocking_reason FROM tasker.step_status WHERE task_id = :id ORDER BY 1;
SELECT state, regexp_replace(error, 'at 2.*', 'at …') AS error FROM tasker.task_status WHERE task_id = :id;
-- It counts from run_at; whatever ends the task takes its timers away.
SELECT tasker.create_task('retry', 'late', run_at => now() + interval '1 hour', deadline_seconds => 3600.5) AS id \gset
SELECT deadline_at - run_at AS span FROM tasker.task_status WHERE task_id = :id;
SELECT kind FROM tasker.timers WHERE task_id = :id ORDER BY 1;
SELECT tasker.cancel_task(:id);
SELECT count(*) AS timers FROM tasker.timers WHERE task_id = :id;
-- Paused tasks run out of time as well.
BEGIN;
SELECT tasker.create_task('retry', 'late', deadline_seconds => 0.2) AS id \gset
SELECT tasker.pause_task(:id);
COMMIT;
SELECT tasker.wait_for_task(:id, '60 s');
SELECT step_name, state, attempts FROM tasker.step_status WHERE task_id = :id ORDER BY 1;
-- A retry after the deadline has the same span again.
SELECT tasker.retry_task(:id, 'again');
SELECT state, deadline_at > statement_timestamp() - interval '0.2 s' AS moved, deadline_at < statement_timestamp() + interval '0.3 s' AS by_the_same FROM tasker.task_status WHERE task_id = :id;
SELECT tasker.wait_for_task(:id, '60 s');
SELECT count(*) AS failures FROM tasker.task_history WHERE task_id = :id AND step_name = 'a' AND to_state = 'error';

RESET SESSION AUTHORIZATION;
SELECT * FROM tasker.check();
SET client_min_messages = warning;
DROP OWNED BY regress_retry CASCADE;
DELETE FROM tasker.access_grants WHERE role = 'regress_retry'::regrole;
DROP ROLE regress_retry;
