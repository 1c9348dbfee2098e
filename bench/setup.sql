-- What the measurements use, in a database that has tasker: handlers, workflows, and procedures that time from inside
-- the server. Run by a superuser; the role bench exists.
DO $$
BEGIN
  IF to_regprocedure('tasker.grant_access(regrole, text, text)') IS NOT NULL THEN
    PERFORM tasker.grant_access('bench', level) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS level;
  ELSE
    GRANT USAGE ON SCHEMA tasker TO bench;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tasker TO bench;
    GRANT USAGE ON TYPE tasker.step_call, tasker.task_state TO bench;
  END IF;
END
$$;
CREATE SCHEMA bench AUTHORIZATION bench;
SET SESSION AUTHORIZATION bench;

CREATE FUNCTION bench.nothing(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION bench.step(name text, parents text[] DEFAULT '{}', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_object('name', name, 'depends_on', parents, 'handler', '{"type": "sql", "function": "bench.nothing"}'::jsonb) || more
$$;
CREATE FUNCTION bench.define(name text, steps jsonb) RETURNS integer LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'bench', 'name', name, 'steps', steps))
$$;
CREATE FUNCTION bench.chain(length integer, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(bench.step('s' || i, CASE i WHEN 1 THEN '{}' ELSE ARRAY['s' || i - 1] END, more) ORDER BY i) FROM generate_series(1, length) AS i
$$;

SELECT bench.define('one', jsonb_build_array(bench.step('only'))),
  bench.define('chain', bench.chain(10)),
  bench.define('alone', bench.chain(10, '{"own_transaction": true}')),
  bench.define('fan', jsonb_build_array(bench.step('first'))
    || (SELECT jsonb_agg(bench.step('leaf' || i, '{first}')) FROM generate_series(1, 20) AS i)
    || bench.step('last', (SELECT array_agg('leaf' || i) FROM generate_series(1, 20) AS i))),
  bench.define('seven', jsonb_build_array(bench.step('a'), bench.step('b', '{a}'), bench.step('c', '{a}'), bench.step('d', '{b}'),
    bench.step('e', '{c}'), bench.step('f', '{d,e}'), bench.step('g', '{f}'))) \g /dev/null

-- One row per run: before create_task, after its commit, after wait_for_task returned.
CREATE TABLE bench.runs (kind text NOT NULL, task_id bigint NOT NULL, begun timestamptz NOT NULL, committed timestamptz NOT NULL, awake timestamptz NOT NULL);
CREATE PROCEDURE bench.submit_and_wait(workflow text, runs integer, kind text) LANGUAGE plpgsql AS $$
DECLARE
  id bigint;
  begun timestamptz;
  committed timestamptz;
BEGIN
  FOR i IN 1 .. runs LOOP
    begun := clock_timestamp();
    id := tasker.create_task('bench', workflow);
    COMMIT;
    committed := clock_timestamp();
    PERFORM tasker.wait_for_task(id, '30 s');
    INSERT INTO bench.runs VALUES (kind, id, begun, committed, clock_timestamp());
    COMMIT;
    PERFORM pg_sleep(0.002);
  END LOOP;
END
$$;
COMMENT ON PROCEDURE bench.submit_and_wait(text, integer, text) IS 'Runs tasks one after the other on a server that has nothing else to do';

-- In calls of 1000, each committed.
CREATE PROCEDURE bench.create_many(workflow text, tasks integer) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. tasks / 1000 LOOP
    PERFORM count(*) FROM tasker.create_tasks('bench', workflow, array_fill('{}'::jsonb, ARRAY[1000]));
    COMMIT;
  END LOOP;
END
$$;

CREATE TABLE bench.seconds (kind text NOT NULL, seconds float8 NOT NULL);
CREATE PROCEDURE bench.time_create_many(workflow text, tasks integer) LANGUAGE plpgsql AS $$
DECLARE
  begun CONSTANT timestamptz := clock_timestamp();
BEGIN
  CALL bench.create_many(workflow, tasks);
  INSERT INTO bench.seconds VALUES ('create_tasks', extract(epoch FROM clock_timestamp() - begun));
  COMMIT;
END
$$;

-- The floor of creation: what a queue of one's own would insert, a job and its one step.
CREATE TABLE bench.jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL DEFAULT 0, context jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE bench.job_steps (job_id bigint NOT NULL, step_no integer NOT NULL, state smallint NOT NULL DEFAULT 0, PRIMARY KEY (job_id, step_no));
CREATE PROCEDURE bench.time_insert_many(jobs integer) LANGUAGE plpgsql AS $$
DECLARE
  begun CONSTANT timestamptz := clock_timestamp();
BEGIN
  FOR i IN 1 .. jobs / 1000 LOOP
    WITH job AS (INSERT INTO bench.jobs (context) SELECT '{}' FROM generate_series(1, 1000) RETURNING id)
    INSERT INTO bench.job_steps (job_id, step_no) SELECT id, 1 FROM job;
    COMMIT;
  END LOOP;
  INSERT INTO bench.seconds VALUES ('insert', extract(epoch FROM clock_timestamp() - begun));
  COMMIT;
END
$$;

CREATE FUNCTION bench.readiness_ms(id bigint, calls integer) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  begun timestamptz;
  took float8[] := '{}';
BEGIN
  FOR i IN 1 .. calls LOOP
    begun := clock_timestamp();
    PERFORM count(*) FROM tasker.get_step_readiness_status(id);
    took := took || 1000 * extract(epoch FROM clock_timestamp() - begun)::float8;
  END LOOP;
  RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(took) AS t);
END
$$;
COMMENT ON FUNCTION bench.readiness_ms(bigint, integer) IS 'Median of so many calls';
RESET SESSION AUTHORIZATION;
