-- Diagrams to render, one a line: name, the labels that must be readable in the picture, the colours, the text. A definition, and tasks that show every state.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE ROLE diagram_owner LOGIN;
SELECT tasker.grant_access('diagram_owner', 'submitter'), tasker.grant_access('diagram_owner', 'author') \g /dev/null
CREATE SCHEMA diagram AUTHORIZATION diagram_owner;
SET SESSION AUTHORIZATION diagram_owner;
CREATE FUNCTION diagram.act(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.step_name = '__fails__' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'TK002'; END IF;
  RETURN '1';
END
$$;
-- Names that some renderer could take for syntax, markup, an icon, a list or a word of its own
SELECT tasker.define_task(jsonb_build_object('namespace', 'diagram', 'name', 'all_states', 'steps', (
  SELECT jsonb_agg(jsonb_build_object('name', s ->> 0, 'depends_on', s -> 1, 'handler', '{"type": "sql", "function": "diagram.act"}'::jsonb, 'skippable', true) ORDER BY n)
  FROM jsonb_array_elements('[["end", []], ["_x_", ["end"]], ["fa:fa-ban", ["end"]], ["1.", ["_x_"]], ["a--b", ["fa:fa-ban", "1."]], ["__fails__", ["end"]], ["subgraph", ["__fails__"]], ["x:y", []], ["default", []]]')
    WITH ORDINALITY AS t (s, n)))) \g /dev/null
SELECT tasker.create_task('diagram', 'all_states') AS task \gset
SELECT tasker.skip_step(:task, '_x_'), tasker.cancel_step(:task, 'x:y'), tasker.resolve_step_manually(:task, 'default') \g /dev/null
CALL tasker.run_task(:task, true);
RESET SESSION AUTHORIZATION;
-- The one state that doesn't stay by itself
UPDATE tasker.workflow_steps SET state = 'in_progress' WHERE task_id = :task AND step_no = 5;
SELECT jsonb_build_object('name', 'task', 'text', tasker.task_diagram(:task),
  'labels', (SELECT jsonb_agg(s.step_name || s.state::text) FROM tasker.step_status AS s WHERE s.task_id = :task),
  'states', (SELECT jsonb_agg(DISTINCT s.state) FROM tasker.step_status AS s WHERE s.task_id = :task), 'edges', (SELECT sum(cardinality(d.parents)) FROM tasker.named_steps AS d JOIN tasker.named_tasks AS n USING (named_task_id) WHERE n.name = 'all_states'));
SELECT jsonb_build_object('name', 'template', 'text', tasker.template_diagram('diagram', 'all_states'),
  'labels', (SELECT jsonb_agg(d.name || d.handler_type) FROM tasker.named_steps AS d JOIN tasker.named_tasks AS n USING (named_task_id) WHERE n.name = 'all_states'), 'states', '[]'::jsonb, 'edges', (SELECT sum(cardinality(d.parents)) FROM tasker.named_steps AS d JOIN tasker.named_tasks AS n USING (named_task_id) WHERE n.name = 'all_states'));
