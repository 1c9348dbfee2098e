-- What a workflow costs, when it will be over, and how it looks. Tasks that the caller may see; unknown or somebody else's: 02000.

CREATE FUNCTION tasker.analyze_template(namespace text, name text, version text DEFAULT NULL)
  RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_analyze_template';
COMMENT ON FUNCTION tasker.analyze_template(text, text, text) IS 'The graph of a definition with measured durations: nodes, edges, levels, critical path, slack, bottlenecks with their factors, suggestions';

CREATE FUNCTION tasker.analyze_task(task_id bigint)
  RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_analyze_task';
COMMENT ON FUNCTION tasker.analyze_task(bigint) IS 'The same of a task, with what its steps took and what holds up the rest; no contexts, results or messages';

CREATE FUNCTION tasker.forecast_task(task_id bigint)
  RETURNS TABLE (remaining_steps integer, p50 timestamptz, p95 timestamptz, samples integer, basis text, confidence text, why text)
  LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_forecast_task';
COMMENT ON FUNCTION tasker.forecast_task(bigint) IS 'When a task will have ended: with even odds (p50), and in 19 of 20 cases (p95), from finished runs of its definition. Without a time where none can be told, and why says so';

CREATE FUNCTION tasker.task_diagram(task_id bigint, format text DEFAULT 'mermaid')
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_task_diagram';
COMMENT ON FUNCTION tasker.task_diagram(bigint, text) IS 'A task as a picture, coloured by state: text for Mermaid, or for Graphviz with format dot';

CREATE FUNCTION tasker.template_diagram(namespace text, name text, version text DEFAULT NULL, format text DEFAULT 'mermaid')
  RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tasker_template_diagram';
COMMENT ON FUNCTION tasker.template_diagram(text, text, text, text) IS 'A definition as a picture: text for Mermaid, or for Graphviz with format dot';
