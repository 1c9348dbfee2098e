-- How many steps run at once, and how many share a transaction: what is decided, and why.

CREATE FUNCTION tasker.assess_connection_health()
  RETURNS TABLE (item text, value numeric, explanation text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 7 AS 'MODULE_PATHNAME', 'tasker_assess_connection_health';
COMMENT ON FUNCTION tasker.assess_connection_health() IS 'The connections of the server, one row per figure: in use, free, pressure (healthy, degraded or critical), and how many steps that is enough for';

CREATE FUNCTION tasker.recommended_concurrency()
  RETURNS TABLE (item text, value numeric, explanation text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 9 AS 'MODULE_PATHNAME', 'tasker_recommended_concurrency';
COMMENT ON FUNCTION tasker.recommended_concurrency() IS 'How many steps of this database may run at once, decided as its dispatcher would now: each input, each part, the result, and what is in force';

CREATE FUNCTION tasker.batch_rows()
  RETURNS TABLE (named_task_id integer, step_no integer, samples integer, failures integer, mean_ms numeric, p50_ms numeric, p95_ms numeric,
    batch_size integer, fits integer, failure_factor numeric, pressure text, pressure_factor numeric, why text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'tasker_batch_rows';
COMMENT ON FUNCTION tasker.batch_rows() IS 'What is learnt of each step, and the batch that follows; a negative step_no: of all steps with the handler of that one; see the view batch_statistics';

CREATE VIEW tasker.batch_statistics WITH (security_invoker = true) AS
SELECT ns.name AS namespace, n.name, n.version, d.name AS step_name, b.step_no < 0 AS kin, b.samples, b.failures, b.mean_ms, b.p50_ms, b.p95_ms,
  b.batch_size, b.fits, b.failure_factor, b.pressure, b.pressure_factor, b.why
FROM tasker.batch_rows() AS b
JOIN tasker.named_steps AS d ON d.named_task_id = b.named_task_id AND d.step_no = abs(b.step_no)
JOIN tasker.named_tasks AS n ON n.named_task_id = d.named_task_id
JOIN tasker.task_namespaces AS ns ON ns.task_namespace_id = n.task_namespace_id;
COMMENT ON VIEW tasker.batch_statistics IS 'One row per step that has run: its last runs (100 at most), how many may share a transaction (batch_size), and why: how many fit the time, and the factors of failures and of pressure on connections. kin: of all steps of the definition that have the handler of this one, its first; they are many, and speak for those of them that have run less than ten times';
