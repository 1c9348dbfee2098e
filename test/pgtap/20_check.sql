-- tasker.check() finds nothing in what the engine wrote, and each invariant that is broken by hand.
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE ROLE pt_owner LOGIN;
SELECT tasker.grant_access('pt_owner', l) FROM unnest(ARRAY['author', 'submitter']) AS l;
SET SESSION AUTHORIZATION pt_owner;
-- a; b and c after a; d after b and c. Tasks: one complete, one failed, one waiting, one whose step waits for its retry.
SELECT tasker.define_task('{"name": "pt_check", "steps": [{"name": "a", "handler": {"type": "noop"}}, {"name": "b", "depends_on": ["a"], "handler": {"type": "noop"}},
  {"name": "c", "depends_on": ["a"], "handler": {"type": "sql", "query": "SELECT 1 / ($1 ->> ''by'')::integer"}}, {"name": "d", "depends_on": ["b", "c"], "handler": {"type": "noop"}}]}') AS definition \gset
SELECT tasker.define_task('{"name": "pt_retry", "steps": [{"name": "r", "dependent_system": "pt", "backoff": {"base_seconds": 300}, "handler": {"type": "sql", "query": "SELECT tasker.raise_retryable(''again'')"}}]}');
SELECT tasker.create_task('default', 'pt_check', '{"by": 1}', idempotency_key => 'k', tags => '{t}') AS complete \gset
SELECT tasker.create_task('default', 'pt_check', '{"by": 0}') AS failed \gset
SELECT tasker.create_task('default', 'pt_check', '{"by": 1}', run_at => now() + interval '1 day') AS waiting \gset
SELECT tasker.create_task('default', 'pt_retry') AS retry \gset
CALL tasker.run_task(:complete);
CALL tasker.run_task(:failed);
CALL tasker.run_task(:retry);
SELECT tasker.annotate_task(:complete, 'note', '1');
SELECT tasker.note_dead_letter(:failed, 'c', 'resolved');
SELECT results_eq(format('SELECT state::text FROM tasker.task_status WHERE task_id IN (%s, %s, %s, %s) ORDER BY task_id', :complete, :failed, :waiting, :retry),
  ARRAY['complete', 'error', 'pending', 'in_progress'], 'four tasks');
RESET SESSION AUTHORIZATION;
SELECT is_empty('SELECT * FROM tasker.check()', 'what the engine wrote is whole');

-- Breaks something, looks, and mends it by rolling back to before
CREATE FUNCTION pg_temp.finds(breaking text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  found text;
BEGIN
  BEGIN
    EXECUTE breaking;
    SELECT string_agg(DISTINCT c.check_name, ' ' ORDER BY c.check_name) INTO found FROM tasker.check() AS c;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
  EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN found;
  END;
END
$$;
SELECT is(pg_temp.finds(format(b.breaking, b.task_id)), b.found, b.found)
FROM (VALUES
  ('surplus_step tallies_disagree task_without_definition', :complete, 'UPDATE tasker.tasks SET named_task_id = -1 WHERE task_id = %s'),
  ('annotation_without_task idempotency_key_without_task label_without_task step_without_task tallies_disagree task_transition_without_task', :complete,
    'DELETE FROM tasker.tasks WHERE task_id = %s'),
  ('missing_step sinks_left_disagrees', :waiting, 'DELETE FROM tasker.workflow_steps WHERE task_id = %s AND step_no = 4'),
  ('surplus_step', :waiting, 'INSERT INTO tasker.workflow_steps (task_id, step_no) VALUES (%s, 5)'),
  ('step_without_task', 0, 'INSERT INTO tasker.workflow_steps (task_id, step_no) VALUES (%s, 1)'),
  ('step_transition_without_step', :waiting, 'INSERT INTO tasker.step_moves (task_id, step_no, sort_key, to_state, created_at) VALUES (%s, 9, 10, ''pending'', now())'),
  ('task_history_disagrees', :complete, 'DELETE FROM tasker.task_moves WHERE task_id = %s AND sort_key = 20'),
  ('task_history_disagrees', :complete, 'UPDATE tasker.tasks SET untold = 2 WHERE task_id = %s'),
  ('task_history_disagrees', :waiting, 'UPDATE tasker.tasks SET moves = 1 WHERE task_id = %s'),
  ('step_history_disagrees', :complete, 'UPDATE tasker.workflow_steps SET untold = 0 WHERE task_id = %s AND step_no = 1'),
  ('step_history_disagrees', :complete, 'UPDATE tasker.workflow_steps SET finished_at = NULL WHERE task_id = %s AND step_no = 1'),
  ('step_history_disagrees', :failed, 'UPDATE tasker.step_moves SET to_state = ''cancelled'' WHERE task_id = %s AND step_no = 3 AND to_state = ''error'''),
  ('finished_at_disagrees live_disagrees tallies_disagree timer_of_no_live_task', :waiting, 'UPDATE tasker.tasks SET live = false WHERE task_id = %s'),
  ('live_disagrees', :failed, 'UPDATE tasker.tasks SET runnable = true WHERE task_id = %s'),
  ('finished_at_disagrees', :failed, 'UPDATE tasker.tasks SET finished_at = NULL WHERE task_id = %s'),
  ('complete_task_with_open_step step_history_disagrees tallies_disagree', :complete, 'UPDATE tasker.workflow_steps SET state = ''pending'' WHERE task_id = %s AND step_no = 4'),
  ('waiting_on_disagrees', :waiting, 'UPDATE tasker.workflow_steps SET waiting_on = 1 WHERE task_id = %s AND step_no = 4'),
  ('waiting_on_disagrees', :waiting, 'UPDATE tasker.workflow_steps SET waiting_on = 1 WHERE task_id = %s AND step_no = 2'),
  ('sinks_left_disagrees', :waiting, 'UPDATE tasker.tasks SET sinks_left = 2 WHERE task_id = %s'),
  ('dead_step_in_task_not_failing', :failed, 'UPDATE tasker.tasks SET failing = false WHERE task_id = %s'),
  ('dead_letter_note_without_step', :failed, 'UPDATE tasker.dead_letter_notes SET step_no = 9 WHERE task_id = %s'),
  ('dead_letter_note_without_step', :failed, 'UPDATE tasker.dead_letter_notes SET moves = 99 WHERE task_id = %s'),
  ('pause_without_definition', 0, 'INSERT INTO tasker.scope_pauses (task_namespace_id, name, paused_by) SELECT min(task_namespace_id), ''nothing %s'', ''pg_monitor'' FROM tasker.task_namespaces'),
  ('limit_without_definition', 0, 'INSERT INTO tasker.step_limit_rows (task_namespace_id, name, max_running, changed_by) SELECT min(task_namespace_id), ''nothing %s'', 1, ''pg_monitor'' FROM tasker.task_namespaces'),
  ('timer_of_no_live_task', :complete, 'INSERT INTO tasker.timers (task_id, kind, due_at) VALUES (%s, ''run_at'', now())'),
  ('backoff_without_timer', :retry, 'DELETE FROM tasker.timers WHERE task_id = %s'),
  ('too_many_attempts', :complete, 'UPDATE tasker.workflow_steps SET attempts = 4 WHERE task_id = %s AND step_no = 1'),
  ('label_without_task', 0, 'INSERT INTO tasker.task_labels (label, kind, task_id) VALUES (''x'', ''tag'', %s)'),
  ('system_without_breaker', 0, 'DELETE FROM tasker.breakers WHERE dependent_system_id <> %s'),
  ('breaker_history_disagrees', 0, 'UPDATE tasker.breakers SET moves = 1 WHERE dependent_system_id <> %s'),
  ('breaker_history_disagrees', 0, 'UPDATE tasker.breakers SET state = ''half_open'', opened_at = now() WHERE dependent_system_id <> %s'),
  ('tallies_disagree', 0, 'UPDATE tasker.tallies SET tasks_complete = tasks_complete + 1 WHERE tasks_complete > %s')
) AS b (found, task_id, breaking);
SELECT is_empty('SELECT * FROM tasker.check()', 'whole again');
SELECT * FROM finish();
ROLLBACK;
