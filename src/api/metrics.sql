-- Figures for monitoring systems: as rows, as Prometheus' text, as JSON and as CSV.

CREATE FUNCTION tasker.metric_rows()
  RETURNS TABLE (name text, type text, labels jsonb, value double precision, help text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 200 AS 'MODULE_PATHNAME', 'tasker_metric_rows';
COMMENT ON FUNCTION tasker.metric_rows() IS 'What the view metrics shows';

CREATE VIEW tasker.metrics WITH (security_invoker = true) AS
SELECT m.name, m.type, m.labels, m.value, m.help FROM tasker.metric_rows() AS m;
COMMENT ON VIEW tasker.metrics IS 'Counters, gauges and histograms of this database, a row for each sample. Counters and histograms follow what was committed by a few seconds, outlive restarts and crashes, and never get smaller; gauges tell of this moment';

CREATE FUNCTION tasker.prometheus_metrics()
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_prometheus_metrics';
COMMENT ON FUNCTION tasker.prometheus_metrics() IS 'The view metrics in the text format of Prometheus';

CREATE FUNCTION tasker.metrics_json()
  RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_metrics_json';
COMMENT ON FUNCTION tasker.metrics_json() IS 'The view metrics as one document: timestamp, metrics (name, type, labels, value, help each), total_metrics, metadata';

CREATE FUNCTION tasker.metrics_csv()
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_metrics_csv';
COMMENT ON FUNCTION tasker.metrics_csv() IS 'The view metrics as CSV with a header: timestamp, name, type, value, and a column for each label';
