-- Every shape of workflow, and every way to fail, run to its end: attempts, transitions, levels, verdicts.
--
-- Tasks are created for a far-off day, so that no background worker touches them; run_task with skip_waits runs
-- them here and now, retries included. "runs" counts attempts; a run writes two transitions, a retry one more.
\set VERBOSITY terse
\set later 'timestamptz ''2999-01-01 00:00:00+00'''
CREATE ROLE regress_shapes LOGIN;
CREATE SCHEMA shapes AUTHORIZATION regress_shapes;
SELECT tasker.grant_access('regress_shapes', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l \g /dev/null
SET SESSION AUTHORIZATION regress_shapes;

CREATE TABLE shapes.effects (task_id bigint NOT NULL, step_name text NOT NULL, attempt integer NOT NULL);

-- One handler for all steps. Behaviours: {"fail": n | "always"}, {"timeout": n}, {"permanent": true}, {"chance": p},
-- {"ranges": [[attempts, "fail" | "delay" | "succeed"], ...]}, {"idempotent": true}, {"create": {task}}; none: succeed.
-- The row of shapes.effects is written before the failure: a failed attempt must leave none.
CREATE FUNCTION shapes.step(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  behaviour CONSTANT jsonb := coalesce(step.context #> ARRAY['behaviour', step.step_name], '{}');
  -- Chance, but the same on every machine: what matters is that attempts differ.
  draw CONSTANT float8 := ('x' || left(md5(step.step_name || step.attempt), 7))::bit(28)::integer / 268435456.0;
  action text := 'succeed';
  child bigint;
BEGIN
  INSERT INTO shapes.effects (task_id, step_name, attempt) VALUES (step.task_id, step.step_name, step.attempt);
  IF behaviour ->> 'fail' = 'always' OR step.attempt <= (behaviour ->> 'fail')::integer OR draw < (behaviour ->> 'chance')::float8 THEN
    action := 'fail';
  ELSIF behaviour ? 'ranges' THEN
    SELECT r.value ->> 1 INTO action FROM jsonb_array_elements(behaviour -> 'ranges') AS r WHERE step.attempt <= (r.value ->> 0)::integer LIMIT 1;
  END IF;
  IF step.attempt <= (behaviour ->> 'timeout')::integer THEN
    RAISE EXCEPTION 'Network timeout' USING ERRCODE = 'TK001';
  ELSIF behaviour ? 'permanent' THEN
    RAISE EXCEPTION '% can never succeed', step.step_name USING ERRCODE = 'TK002';
  ELSIF action = 'fail' THEN
    RAISE EXCEPTION '% failed on attempt %', step.step_name, step.attempt USING ERRCODE = 'TK001';
  ELSIF action = 'delay' THEN
    PERFORM pg_sleep(0.01);
  ELSIF behaviour ? 'create' THEN
    child := tasker.create_task(behaviour #>> '{create,namespace}', behaviour #>> '{create,name}', run_at => '2999-01-01 00:00:00+00',
      correlation_id => step.correlation_id, idempotency_key => step.idempotency_key);
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object('step', step.step_name,
    'parents', (SELECT jsonb_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(coalesce(step.results, '{}')) AS k),
    'created', child IS NOT NULL, 'checksum', CASE WHEN behaviour ? 'idempotent' THEN md5(step.context::text || step.results::text) END));
END
$$;
COMMENT ON FUNCTION shapes.step(tasker.step_call) IS 'Does what the context''s "behaviour" says for the step';

-- Steps are written "name(max_attempts) <- parent, parent", separated by semicolons.
CREATE FUNCTION shapes.define(namespace text, name text, version text, steps text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  listed jsonb;
BEGIN
  SELECT jsonb_agg(jsonb_build_object('name', p[1], 'max_attempts', coalesce(p[2]::integer, 3),
    'depends_on', to_jsonb(coalesce(regexp_split_to_array(p[3], ',\s*'), '{}')), 'handler', '{"type": "sql", "function": "shapes.step"}'::jsonb,
    'backoff', '{"base_seconds": 300, "jitter": 0}'::jsonb) ORDER BY s.position)
  INTO listed
  FROM regexp_split_to_table(btrim(steps, E' \n'), ';\s*') WITH ORDINALITY AS s (step, position),
    regexp_match(s.step, '^([\w-]+)(?:\((\d+)\))?(?:\s+<-\s+(.*))?$') AS p;
  PERFORM tasker.define_task(jsonb_build_object('namespace', namespace, 'name', name, 'version', version, 'steps', listed));
  RETURN format('%s/%s %s: %s steps', namespace, name, version, jsonb_array_length(listed));
END
$$;
COMMENT ON FUNCTION shapes.define(text, text, text, text) IS 'Defines a workflow from a compact notation; every handler is shapes.step';

CREATE VIEW shapes.outcome AS
SELECT t.task_id, CASE t.namespace WHEN 'payments' THEN 'refund at payments' ELSE t.idempotency_key END AS run, t.state,
  round(c.completion_percentage::numeric, 2) AS percent, t.attempts AS runs,
  (SELECT count(*) FROM tasker.workflow_step_transitions AS w WHERE w.task_id = t.task_id) AS transitions,
  (SELECT count(*) FROM shapes.effects AS e WHERE e.task_id = t.task_id) AS effects, c.execution_status, c.health_status
FROM tasker.task_status AS t CROSS JOIN LATERAL tasker.get_task_execution_context(t.task_id) AS c;
COMMENT ON VIEW shapes.outcome IS 'How each task ended';

-- Definitions
SELECT shapes.define('shapes', 'linear', '1.0.0', $$initialize_data; validate_input <- initialize_data; process_data <- validate_input;
  transform_results <- process_data; validate_output <- transform_results; finalize_workflow <- validate_output$$);
SELECT shapes.define('shapes', 'diamond', '1.0.0', $$start_workflow; branch_one_process <- start_workflow; branch_two_process <- start_workflow;
  branch_one_validate <- branch_one_process; branch_two_validate <- branch_two_process;
  merge_branches <- branch_one_validate, branch_two_validate; end_workflow <- merge_branches$$);
SELECT shapes.define('shapes', 'parallel_merge', '1.0.0', $$fetch_user_data; fetch_order_data; fetch_inventory_data; fetch_pricing_data;
  process_user_data <- fetch_user_data; process_order_data <- fetch_order_data;
  merge_all_data <- process_user_data, process_order_data, fetch_inventory_data, fetch_pricing_data$$);
SELECT shapes.define('shapes', 'tree', '1.0.0', $$root_initialization; branch_a_setup <- root_initialization; branch_b_setup <- root_initialization;
  a_task_one <- branch_a_setup; a_task_two <- branch_a_setup; b_task_one <- branch_b_setup; b_task_two <- branch_b_setup;
  aggregate_results <- a_task_one, a_task_two, b_task_one, b_task_two$$);
SELECT shapes.define('shapes', 'mixed', '1.0.0', $$init_auth; init_config; validate_permissions <- init_auth; setup_environment <- init_config;
  begin_processing <- validate_permissions, setup_environment; process_critical_data <- begin_processing; process_optional_data <- begin_processing;
  cleanup_temp_files <- setup_environment; finalize_and_report <- process_critical_data, cleanup_temp_files$$);
SELECT shapes.define('shapes', 'failure', '1.0.0', $$reliable_step; flaky_step <- reliable_step; timeout_step <- flaky_step; idempotent_step <- timeout_step$$);
SELECT shapes.define('shapes', 'dummy', '1.0.0', $$step-one; step-two; step-three <- step-two; step-four <- step-three$$);
SELECT shapes.define('shapes', 'api', '1.0.0', $$fetch_cart; fetch_products; validate_products <- fetch_cart, fetch_products; create_order <- validate_products;
  publish_event <- create_order$$);
SELECT shapes.define('shapes', 'fan_out_' || n, '1.0.0', 'initialize_batch; '
  || (SELECT string_agg(format('process_chunk_%s <- initialize_batch; ', i), '' ORDER BY i) || 'aggregate_results <- '
        || string_agg('process_chunk_' || i, ', ' ORDER BY i) FROM generate_series(1, n) AS i)) FROM unnest(ARRAY[1, 5, 60]) AS n;
SELECT shapes.define('ecommerce_blog', 'process_order', '1.0.0', $$validate_cart; process_payment <- validate_cart; update_inventory(2) <- process_payment;
  create_order <- update_inventory; send_confirmation(5) <- create_order$$);
SELECT shapes.define('data_pipeline', 'customer_analytics', '1.0.0', $$extract_orders; extract_users(5); extract_products;
  transform_customer_metrics(2) <- extract_orders, extract_users; transform_product_metrics(2) <- extract_orders, extract_products;
  generate_insights <- transform_customer_metrics, transform_product_metrics; update_dashboard <- generate_insights;
  send_notifications(5) <- update_dashboard$$);
SELECT shapes.define('user_management', 'user_registration', '1.0.0', $$create_user_account; setup_billing_profile <- create_user_account;
  initialize_preferences <- create_user_account; send_welcome_sequence(5) <- setup_billing_profile, initialize_preferences;
  update_user_status(2) <- send_welcome_sequence$$);
SELECT shapes.define('payments', 'process_refund', '2.1.0', $$validate_payment_eligibility; process_gateway_refund(2) <- validate_payment_eligibility;
  update_payment_records <- process_gateway_refund; notify_customer(5) <- update_payment_records$$);
SELECT shapes.define('customer_success', 'process_refund', '1.3.0', $$validate_refund_request; check_refund_policy(2) <- validate_refund_request;
  get_manager_approval(1) <- check_refund_policy; execute_refund_workflow <- get_manager_approval; update_ticket_status <- execute_refund_workflow$$);

-- New tasks: what is ready first, the levels, the verdict. Rolled back, so nobody else ever sees them.
BEGIN;
SELECT tasker.create_task('shapes', n, idempotency_key => n)
FROM unnest(ARRAY['linear', 'diamond', 'parallel_merge', 'tree', 'mixed', 'failure', 'dummy', 'api', 'fan_out_5']) AS n \g /dev/null
SELECT t.name, (SELECT string_agg(l.level::text, ',' ORDER BY l.level) FROM tasker.calculate_dependency_levels(t.task_id) AS l (step_name, level)) AS levels,
  (SELECT string_agg(r.step_name, ' ' ORDER BY r.step_name COLLATE "C") FROM tasker.get_step_readiness_status(t.task_id) AS r
    WHERE r.ready_for_execution) AS ready
FROM tasker.task_status AS t WHERE t.namespace = 'shapes' ORDER BY t.task_id;
SELECT c.total_steps, c.pending_steps, c.ready_steps, c.execution_status, c.recommended_action, c.completion_percentage::numeric(5, 2) AS percent,
  c.health_status
FROM tasker.task_status AS t CROSS JOIN LATERAL tasker.get_task_execution_context(t.task_id) AS c WHERE t.name = 'dummy';
ROLLBACK;

-- The mixed shape's levels, by name
SELECT tasker.create_task('shapes', 'mixed', run_at => :later, idempotency_key => 'mixed plain') AS id \gset
SELECT l.level, string_agg(l.step_name, ' ' ORDER BY l.step_name COLLATE "C") AS steps
FROM tasker.calculate_dependency_levels(:id) AS l (step_name, level) GROUP BY l.level ORDER BY l.level;
CALL tasker.run_task(:id, skip_waits => true);

-- The runs: key, workflow, behaviour, and how it must end
CREATE TABLE shapes.runs (run text PRIMARY KEY, namespace text, name text, behaviour jsonb, state text, percent numeric, runs integer,
  transitions integer, done integer);
INSERT INTO shapes.runs VALUES
  ('linear', 'shapes', 'linear', '{"process_data": {"fail": 1}}', 'complete', 100, 7, 15, 6),
  ('diamond', 'shapes', 'diamond', '{"branch_one_process": {"fail": 1}, "branch_two_process": {"timeout": 1}}', 'complete', 100, 9, 20, 7),
  ('parallel merge', 'shapes', 'parallel_merge', '{"fetch_order_data": {"fail": 1}, "fetch_inventory_data": {"timeout": 1},
    "merge_all_data": {"fail": 1}}', 'complete', 100, 10, 23, 7),
  ('tree', 'shapes', 'tree', '{"branch_b_setup": {"fail": 1}, "a_task_two": {"timeout": 1}, "b_task_two": {"fail": 1}}', 'complete', 100, 11, 25, 8),
  ('mixed', 'shapes', 'mixed', '{"validate_permissions": {"fail": 1}, "setup_environment": {"timeout": 1}, "process_critical_data": {"fail": 2},
    "finalize_and_report": {"idempotent": true}}', 'complete', 100, 13, 30, 9),
  ('failure', 'shapes', 'failure', '{"flaky_step": {"fail": 2}, "timeout_step": {"timeout": 1},
    "idempotent_step": {"idempotent": true}}', 'complete', 100, 7, 17, 4),
  ('dummy', 'shapes', 'dummy', '{}', 'complete', 100, 4, 8, 4),
  ('api', 'shapes', 'api', '{"fetch_products": {"timeout": 2}}', 'complete', 100, 7, 16, 5),
  ('fan-out 1', 'shapes', 'fan_out_1', '{}', 'complete', 100, 3, 6, 3),
  ('fan-out 5', 'shapes', 'fan_out_5', '{"process_chunk_3": {"fail": 2}}', 'complete', 100, 9, 20, 7),
  ('fan-out 60', 'shapes', 'fan_out_60', '{"process_chunk_60": {"fail": 1}}', 'complete', 100, 63, 127, 62),
  ('order', 'ecommerce_blog', 'process_order', '{"update_inventory": {"fail": 1}, "send_confirmation": {"fail": 4}}', 'complete', 100, 10, 25, 5),
  ('analytics', 'data_pipeline', 'customer_analytics', '{"extract_users": {"timeout": 4}, "transform_product_metrics": {"fail": 1}}', 'complete', 100, 13, 31, 8),
  ('registration', 'user_management', 'user_registration', '{"send_welcome_sequence": {"fail": 4}, "update_user_status": {"fail": 1}}', 'complete', 100, 10, 25, 5),
  ('refund', 'customer_success', 'process_refund',
    '{"execute_refund_workflow": {"create": {"namespace": "payments", "name": "process_refund"}}}', 'complete', 100, 5, 10, 5),
  ('composite', 'shapes', 'failure', '{"flaky_step": {"ranges": [[1, "fail"], [2, "delay"]]},
    "timeout_step": {"ranges": [[2, "fail"], [3, "succeed"]]}}', 'complete', 100, 7, 17, 4),
  ('chance', 'shapes', 'failure', '{"reliable_step": {"chance": 0}, "flaky_step": {"chance": 0.7}, "timeout_step": {"chance": 0.3}}', 'complete', 100, 5, 11, 4),
  ('linear exhausted', 'shapes', 'linear', '{"process_data": {"fail": "always"}}', 'error', 33.33, 5, 12, 2),
  ('diamond exhausted', 'shapes', 'diamond', '{"branch_one_process": {"fail": "always"}, "branch_two_process": {"fail": 1}}', 'error', 42.86, 7, 17, 3),
  ('dummy exhausted', 'shapes', 'dummy', '{"step-two": {"timeout": 9}}', 'error', 25, 4, 10, 1),
  ('limit 2 exhausted', 'ecommerce_blog', 'process_order', '{"update_inventory": {"fail": 2}}', 'error', 40, 4, 9, 2),
  ('limit 1 exhausted', 'customer_success', 'process_refund', '{"get_manager_approval": {"timeout": 1}}', 'error', 40, 3, 6, 2),
  ('permanent', 'shapes', 'tree', '{"branch_b_setup": {"permanent": true}}', 'error', 50, 5, 10, 4);
SELECT tasker.create_task(r.namespace, r.name, jsonb_build_object('behaviour', r.behaviour), run_at => :later, idempotency_key => r.run,
  correlation_id => 'shapes-' || replace(r.run, ' ', '-')) FROM shapes.runs AS r ORDER BY r.run COLLATE "C" \g /dev/null
\set ECHO none
SELECT format('CALL tasker.run_task(%s, skip_waits => true)', t.task_id) FROM tasker.task_status AS t JOIN shapes.runs AS r ON r.run = t.idempotency_key
ORDER BY t.task_id \gexec
\set ECHO all

-- One name in two namespaces: the refund that a step of another refund created, found by the correlation id
SELECT t.task_id AS id FROM tasker.task_status AS t WHERE t.correlation_id = 'shapes-refund' AND t.namespace = 'payments' \gset
CALL tasker.run_task(:id, skip_waits => true);
SELECT t.namespace, t.name, t.version, t.state, t.completed_steps FROM tasker.task_status AS t WHERE t.correlation_id = 'shapes-refund' ORDER BY t.version;

-- How they ended
SELECT o.run, o.state, o.percent, o.runs, o.transitions, o.effects, o.execution_status, o.health_status FROM shapes.outcome AS o ORDER BY o.run COLLATE "C";
-- Attempts of each step that did not run exactly once
SELECT t.idempotency_key AS run, string_agg(s.step_name || ' ' || s.attempts || CASE s.state WHEN 'complete' THEN '' ELSE ' ' || s.state END, ', '
  ORDER BY s.step_name COLLATE "C") AS steps
FROM tasker.task_status AS t JOIN tasker.step_status AS s ON s.task_id = t.task_id
WHERE s.state <> 'complete' OR s.attempts <> 1 GROUP BY t.idempotency_key ORDER BY t.idempotency_key COLLATE "C";
-- Why they failed
SELECT t.idempotency_key AS run, t.error FROM tasker.task_status AS t WHERE t.state = 'error' ORDER BY t.idempotency_key COLLATE "C";

-- Nothing differs from what was asked for, and no failed attempt left an effect: no row in any of these
SELECT r.run, r.state AS wanted, o.* FROM shapes.runs AS r LEFT JOIN shapes.outcome AS o USING (run)
WHERE (o.state::text, o.percent, o.runs, o.transitions, o.effects) IS DISTINCT FROM (r.state, r.percent, r.runs, r.transitions, r.done);
SELECT e.task_id, e.step_name, e.attempt, s.attempts, s.state FROM shapes.effects AS e FULL JOIN tasker.step_status AS s USING (task_id, step_name)
WHERE (s.state = 'complete') IS DISTINCT FROM (e.attempt = s.attempts) AND NOT (e.attempt IS NULL AND s.state <> 'complete');
SELECT t.idempotency_key, s.step_name FROM tasker.step_status AS s JOIN tasker.task_status AS t USING (task_id)
WHERE s.state = 'complete'
  AND ARRAY(SELECT jsonb_array_elements_text(s.result -> 'parents')) IS DISTINCT FROM ARRAY(SELECT p FROM unnest(s.depends_on) AS p ORDER BY p COLLATE "C");
-- Every step's transitions make one chain from pending to its state
SELECT w.task_id, w.step_no FROM (
  SELECT w.task_id, w.step_no, w.from_state, w.to_state, lag(w.to_state, 1, 'pending') OVER (PARTITION BY w.task_id, w.step_no, w.element ORDER BY w.sort_key) AS before
  FROM tasker.workflow_step_transitions AS w) AS w
WHERE w.from_state IS DISTINCT FROM w.before
  OR (w.from_state, w.to_state) NOT IN (('pending', 'in_progress'), ('in_progress', 'complete'), ('in_progress', 'error'), ('error', 'pending'));

-- One attempt at a time: while a retry is to come, the step is in error, but the task goes on and nothing is blocked
BEGIN;
SELECT tasker.create_task('shapes', 'linear', '{"behaviour": {"process_data": {"fail": 1}}}') AS id \gset
CALL tasker.run_task(:id);
SELECT t.state, c.failed_steps, c.ready_steps, c.execution_status, c.recommended_action, c.completion_percentage::numeric(5, 2) AS percent, c.health_status
FROM tasker.task_status AS t CROSS JOIN LATERAL tasker.get_task_execution_context(t.task_id) AS c WHERE t.task_id = :id;
SELECT s.step_name, s.state, s.attempts, s.next_attempt_at > clock_timestamp() AS waits FROM tasker.step_status AS s WHERE s.task_id = :id AND s.state = 'error';
ROLLBACK;

-- A cancelled step blocks what is beneath it, and only that; the task ends
SELECT tasker.create_task('shapes', 'dummy', run_at => :later, idempotency_key => 'dummy cancelled') AS id \gset
SELECT tasker.cancel_step(:id, 'step-two');
CALL tasker.run_task(:id, skip_waits => true);
SELECT s.step_name, s.state, s.attempts, split_part(r.blocking_reason, ':', 1) AS reason
FROM tasker.step_status AS s JOIN tasker.get_step_readiness_status(:id) AS r USING (step_name) WHERE s.task_id = :id ORDER BY s.step_name COLLATE "C";
SELECT o.state, o.percent, o.runs FROM shapes.outcome AS o WHERE o.task_id = :id;

-- An idempotent step run again from there gives the same answer
SELECT t.task_id AS id, s.result ->> 'checksum' AS checksum FROM tasker.task_status AS t JOIN tasker.step_status AS s USING (task_id)
WHERE t.idempotency_key = 'failure' AND s.step_name = 'idempotent_step' \gset
SELECT tasker.rerun_task_from(:id, 'idempotent_step');
CALL tasker.run_task(:id, skip_waits => true);
SELECT s.state, s.result ->> 'checksum' = :'checksum' AS same_checksum,
  (SELECT count(*) FROM shapes.effects AS e WHERE e.task_id = :id AND e.step_name = s.step_name) AS executions
FROM tasker.step_status AS s WHERE s.task_id = :id AND s.step_name = 'idempotent_step';

RESET SESSION AUTHORIZATION;
SELECT tasker.revoke_access('regress_shapes', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l \g /dev/null
SET client_min_messages = warning;
DROP OWNED BY regress_shapes CASCADE;
DROP ROLE regress_shapes;
