-- Finished tasks by the hundred thousand, as the engine would have left them. Variables: workflow, tasks.
-- Written set by set into the tables by a superuser; tasker.check() finds nothing wrong with them.
BEGIN;
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT nextval('tasker.task_id_seq') AS task_id, d.named_task_id, d.step_count, d.sink_count,
  clock_timestamp() - interval '1 day' + i * interval '1 ms' AS started
FROM generate_series(1, :tasks) AS i, tasker.named_tasks AS d JOIN tasker.task_namespaces AS n ON n.task_namespace_id = d.task_namespace_id
WHERE n.name = 'bench' AND d.name = :'workflow';

INSERT INTO tasker.tasks (task_id, home, named_task_id, owner, created_by, state, moves, sinks_left, live, runnable, run_at, created_at, started_at,
  finished_at, correlation_id, untold)
SELECT m.task_id, h.nonce, m.named_task_id, 'bench'::regrole, 'bench'::regrole, 'complete', 2, 0, false, false, m.started, m.started, m.started,
  m.started + interval '5 ms', 'tsk_' || replace(gen_random_uuid()::text, '-', ''), 2
FROM made AS m CROSS JOIN tasker.home AS h;

INSERT INTO tasker.workflow_steps (task_id, step_no, state, moves, attempts, started_at, finished_at, untold)
SELECT m.task_id, s.step_no, 'complete', 2, 1, m.started + s.level * interval '1 ms', m.started + s.level * interval '1 ms' + interval '0.4 ms', 2
FROM made AS m JOIN tasker.named_steps AS s ON s.named_task_id = m.named_task_id ORDER BY m.task_id, s.step_no;

INSERT INTO tasker.tallies (named_task_id, tasks_complete, steps_complete)
SELECT m.named_task_id, count(*), sum(m.step_count) FROM made AS m GROUP BY m.named_task_id;
COMMIT;
VACUUM (ANALYZE) tasker.tasks, tasker.workflow_steps;
