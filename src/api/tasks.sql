-- Creating tasks, annotating them, waiting for them, running them in the session.

CREATE FUNCTION tasker.create_task(namespace text, name text, context jsonb DEFAULT '{}', version text DEFAULT NULL, priority integer DEFAULT 0,
  run_at timestamptz DEFAULT now(), idempotency_key text DEFAULT NULL, initiator text DEFAULT NULL, source_system text DEFAULT NULL,
  reason text DEFAULT NULL, tags text[] DEFAULT '{}', bypass_steps text[] DEFAULT '{}', correlation_id text DEFAULT NULL, deadline_seconds numeric DEFAULT NULL)
  RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_create_task';
COMMENT ON FUNCTION tasker.create_task(text, text, jsonb, text, integer, timestamptz, text, text, text, text, text[], text[], text, numeric)
  IS 'Creates a task from a definition; runnable when the transaction commits. An idempotency_key that was used gives the existing task';

CREATE FUNCTION tasker.create_tasks(namespace text, name text, contexts jsonb[], version text DEFAULT NULL, priority integer DEFAULT 0,
  run_at timestamptz DEFAULT now(), idempotency_keys text[] DEFAULT NULL, tags text[] DEFAULT '{}', correlation_id text DEFAULT NULL)
  RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_create_tasks';
COMMENT ON FUNCTION tasker.create_tasks(text, text, jsonb[], text, integer, timestamptz, text[], text[], text)
  IS 'Creates one task per context; ids in the order of contexts';

CREATE FUNCTION tasker.annotate_task(task_id bigint, type text, annotation jsonb)
  RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_annotate_task';
COMMENT ON FUNCTION tasker.annotate_task(bigint, text, jsonb) IS 'Attaches a note to a task';

CREATE FUNCTION tasker.wait_for_task(task_id bigint, timeout interval DEFAULT NULL)
  RETURNS tasker.task_state LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_wait_for_task';
COMMENT ON FUNCTION tasker.wait_for_task(bigint, interval) IS 'Sleeps until the task is finished and returns its state; NULL at the timeout. Needs the preload. Holds a snapshot while it waits';

CREATE PROCEDURE tasker.run_task(task_id bigint, skip_waits boolean DEFAULT false)
  LANGUAGE c AS 'MODULE_PATHNAME', 'tasker_run_task';
COMMENT ON PROCEDURE tasker.run_task(bigint, boolean) IS 'Runs the steps of a task in this session until nothing is ready; with skip_waits, delays and backoffs count as elapsed';
