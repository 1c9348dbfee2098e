-- What the measurements use, in a database that has tasker: handlers, workflows, and procedures that time from inside
-- the server. Run by a superuser; the role bench exists.
SELECT tasker.grant_access('bench', level) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS level \g /dev/null
CREATE SCHEMA bench AUTHORIZATION bench;
SET SESSION AUTHORIZATION bench;

CREATE FUNCTION bench.nothing(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION bench.sleep_ms(duration float8) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(duration / 1000); RETURN to_jsonb(pg_backend_pid()); END $$;
CREATE FUNCTION bench.sleep_1(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT bench.sleep_ms(1) $$;
CREATE FUNCTION bench.sleep_10(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT bench.sleep_ms(10) $$;
CREATE FUNCTION bench.sleep_100(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT bench.sleep_ms(100) $$;
CREATE FUNCTION bench.step(name text, parents text[] DEFAULT '{}', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_object('name', name, 'depends_on', parents, 'handler', '{"type": "sql", "function": "bench.nothing"}'::jsonb) || more
$$;
CREATE FUNCTION bench.define(name text, steps jsonb) RETURNS integer LANGUAGE sql AS $$
  SELECT tasker.define_task(jsonb_build_object('namespace', 'bench', 'name', name, 'steps', steps))
$$;
CREATE FUNCTION bench.chain(length integer, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(bench.step('s' || i, CASE i WHEN 1 THEN '{}' ELSE ARRAY['s' || i - 1] END, more) ORDER BY i) FROM generate_series(1, length) AS i
$$;

CREATE FUNCTION bench.wide(leaves integer) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_array(bench.step('first')) || jsonb_agg(bench.step('leaf' || i, '{first}') ORDER BY i) || bench.step('last', array_agg('leaf' || i)) FROM generate_series(1, leaves) AS i
$$;
-- Each step has so many of the layer above as parents.
CREATE FUNCTION bench.layered(layers integer, width integer, parents integer) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(bench.step('s' || l || '_' || i, CASE l WHEN 1 THEN '{}' ELSE (SELECT array_agg('s' || l - 1 || '_' || (i + k) % width) FROM generate_series(0, parents - 1) AS k) END) ORDER BY l, i)
  FROM generate_series(1, layers) AS l, generate_series(0, width - 1) AS i
$$;

SELECT bench.define('one', jsonb_build_array(bench.step('only'))),
  bench.define('noop', jsonb_build_array(bench.step('only', '{}', '{"handler": {"type": "noop"}}'))),
  bench.define('sleep_1', jsonb_build_array(bench.step('only', '{}', '{"handler": {"type": "sql", "function": "bench.sleep_1"}}'))),
  bench.define('sleep_10', jsonb_build_array(bench.step('only', '{}', '{"handler": {"type": "sql", "function": "bench.sleep_10"}}'))),
  bench.define('sleep_100', jsonb_build_array(bench.step('only', '{}', '{"handler": {"type": "sql", "function": "bench.sleep_100"}}'))),
  bench.define('linear4', bench.chain(4)),
  bench.define('diamond', jsonb_build_array(bench.step('a'), bench.step('b', '{a}'), bench.step('c', '{a}'), bench.step('d', '{b,c}'))),
  bench.define('tree', (SELECT jsonb_agg(bench.step('n' || i, CASE i WHEN 1 THEN '{}' ELSE ARRAY['n' || i / 2] END) ORDER BY i) FROM generate_series(1, 15) AS i)),
  bench.define('chain', bench.chain(10)),
  bench.define('alone', bench.chain(10, '{"own_transaction": true}')),
  bench.define('fan', bench.wide(20)),
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
  WHILE tasks > 0 LOOP
    PERFORM count(*) FROM tasker.create_tasks('bench', workflow, array_fill('{}'::jsonb, ARRAY[least(tasks, 1000)]));
    COMMIT;
    tasks := tasks - 1000;
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

CREATE PROCEDURE bench.time_commits(runs integer) LANGUAGE plpgsql AS $$
DECLARE
  begun timestamptz;
  took float8[] := '{}';
BEGIN
  FOR i IN 1 .. runs LOOP
    begun := clock_timestamp();
    INSERT INTO bench.jobs (context) VALUES ('{}');
    COMMIT;
    took := took || extract(epoch FROM clock_timestamp() - begun)::float8;
    PERFORM pg_sleep(0.002);
  END LOOP;
  DELETE FROM bench.seconds WHERE kind = 'commit';
  INSERT INTO bench.seconds SELECT 'commit', t FROM unnest(took) AS t;
END
$$;
COMMENT ON PROCEDURE bench.time_commits(integer) IS 'Bare inserts, as submit_and_wait runs tasks';

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
