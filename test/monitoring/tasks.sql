-- What there is to see: tasks that succeed, fail, wait, stand in a queue, and depend on a system whose breaker is open. Nothing of
-- it has run yet, so that every counter begins at 0 under the eyes of Prometheus.
CREATE ROLE meter_owner LOGIN;
CREATE ROLE meter_reader LOGIN;
GRANT pg_monitor TO meter_reader;
SELECT tasker.grant_access('meter_owner', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l;
CREATE SCHEMA shop AUTHORIZATION meter_owner;
SET SESSION AUTHORIZATION meter_owner;
CREATE FUNCTION shop.nap(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep((context ->> 'ms')::float8 / 1000);
  RETURN NULL;
END $$;
CREATE FUNCTION shop.pay(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF (step.context ->> 'late')::boolean AND step.attempt = 1 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = 'TK001'; END IF;
  IF (step.context ->> 'broke')::boolean THEN RAISE EXCEPTION 'never' USING ERRCODE = 'TK002'; END IF;
  RETURN NULL;
END $$;
-- Runs until the test lets it pass.
CREATE FUNCTION shop.gate(context jsonb, results jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(27);
  RETURN NULL;
END $$;
SELECT tasker.define_task('{"namespace": "shop", "name": "order", "steps": [
  {"name": "pick", "handler": {"type": "sql", "function": "shop.nap"}},
  {"name": "pay", "handler": {"type": "sql", "function": "shop.pay"}, "depends_on": ["pick"], "backoff": {"base_seconds": 0}}]}');
SELECT tasker.define_task('{"namespace": "shop", "name": "gate", "steps": [{"name": "gate", "own_transaction": true, "handler": {"type": "sql", "function": "shop.gate"}}]}');
SELECT tasker.define_task('{"namespace": "back_office", "name": "pack", "steps": [{"name": "pack", "handler": {"type": "external", "queue": "packers"}},
  {"name": "rest", "handler": {"type": "wait", "seconds": 86400}}]}');
SELECT tasker.define_task('{"namespace": "shop", "name": "charge", "steps": [
  {"name": "charge", "dependent_system": "the \"bank\" \\ its branch", "handler": {"type": "sql", "query": "SELECT 1"}},
  {"name": "mail", "dependent_system": "mail", "handler": {"type": "sql", "query": "SELECT 2"}}]}');
