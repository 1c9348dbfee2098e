-- The tables of the C/SPI floor: tasker's own, in a database that has tasker, without what reads them. Variables: tasks, library.
CREATE SCHEMA floor;
CREATE TABLE floor.tasks (LIKE tasker.tasks INCLUDING ALL) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE floor.workflow_steps (LIKE tasker.workflow_steps INCLUDING ALL) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE FUNCTION floor.nothing(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION floor.run(first bigint, steps integer) RETURNS integer LANGUAGE c STRICT AS :'library', 'spi_floor';
CREATE SEQUENCE floor.next;

INSERT INTO floor.tasks (task_id, home, named_task_id, owner, created_by, sinks_left, run_at, created_at, correlation_id)
SELECT i, 1, 1, 'postgres'::regrole, 'postgres'::regrole, 1, now(), clock_timestamp(), 'tsk_' || replace(gen_random_uuid()::text, '-', '')
FROM generate_series(1, :tasks) AS i;
INSERT INTO floor.workflow_steps (task_id, step_no) SELECT i, 1 FROM generate_series(1, :tasks) AS i;
ANALYZE floor.tasks, floor.workflow_steps;
