-- Finished tasks by the hundred thousand, as the engine would have left them. Variables: workflow, tasks.
-- Written set by set into the tables by a superuser; tasker.check() finds nothing wrong with them.
BEGIN;
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT nextval('tasker.task_id_seq') AS task_id, d.named_task_id, d.step_count, d.sink_count,
  clock_timestamp() - interval '1 day' + i * interval '1 ms' AS started
FROM generate_series(1, :tasks) AS i, tasker.named_tasks AS d JOIN tasker.task_namespaces AS n ON n.task_namespace_id = d.task_namespace_id
WHERE n.name = 'bench' AND d.name = :'workflow';

INSERT INTO tasker.tasks (task_id, home, named_task_id, owner, created_by, state, moves, sinks_left, live, runnable, run_at, created_at, started_at,
  finished_at, correlation_id)
SELECT m.task_id, h.nonce, m.named_task_id, 'bench'::regrole, 'bench'::regrole, 'complete', 2, 0, false, false, m.started, m.started, m.started,
  m.started + interval '5 ms', 'tsk_' || replace(gen_random_uuid()::text, '-', '')
FROM made AS m CROSS JOIN tasker.home AS h;

INSERT INTO tasker.workflow_steps (task_id, step_no, state, moves, attempts, started_at, finished_at)
SELECT m.task_id, s.step_no, 'complete', 2, 1, m.started + s.level * interval '1 ms', m.started + s.level * interval '1 ms' + interval '0.4 ms'
FROM made AS m JOIN tasker.named_steps AS s ON s.named_task_id = m.named_task_id ORDER BY m.task_id, s.step_no;

INSERT INTO tasker.workflow_step_transitions (task_id, step_no, sort_key, from_state, to_state, metadata, created_at)
SELECT w.task_id, w.step_no, t.sort_key, t.from_state, t.to_state, t.metadata, CASE t.sort_key WHEN 10 THEN w.started_at ELSE w.finished_at END
FROM made AS m JOIN tasker.workflow_steps AS w ON w.task_id = m.task_id,
  (VALUES (10, 'pending'::tasker.step_state, 'in_progress'::tasker.step_state, '{"attempt": 1}'::jsonb), (20, 'in_progress', 'complete', '{}'))
    AS t (sort_key, from_state, to_state, metadata)
ORDER BY w.task_id, w.step_no, t.sort_key;

INSERT INTO tasker.task_transitions (task_id, sort_key, from_state, to_state, created_at)
SELECT m.task_id, t.sort_key, t.from_state, t.to_state, m.started + (t.sort_key - 10) * interval '0.5 ms'
FROM made AS m, (VALUES (10, 'pending'::tasker.task_state, 'in_progress'::tasker.task_state), (20, 'in_progress', 'complete')) AS t (sort_key, from_state, to_state)
ORDER BY m.task_id, t.sort_key;

INSERT INTO tasker.tallies (named_task_id, tasks_complete, steps_complete)
SELECT m.named_task_id, count(*), sum(m.step_count) FROM made AS m GROUP BY m.named_task_id;
COMMIT;
VACUUM (ANALYZE) tasker.tasks, tasker.workflow_steps, tasker.workflow_step_transitions, tasker.task_transitions;
