-- The cache of costly answers: what is kept, for how long, and why.

CREATE FUNCTION tasker.cache_strategy(OUT strategy text, OUT capability text)
  RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'tasker_cache_strategy';
COMMENT ON FUNCTION tasker.cache_strategy() IS 'How answers are kept: distributed_atomic (shared memory, one session at a time works an answer out), local_only (each session for itself, without the preload) or off';

CREATE FUNCTION tasker.cache_rows()
  RETURNS TABLE (function text, role regrole, arguments jsonb, state text, hits bigint, misses bigint, waited bigint, hit_rate numeric, generation_ms numeric, frequency numeric,
    base_ttl numeric, hit_factor numeric, cost_factor numeric, frequency_factor numeric, ttl numeric, why text, bytes bigint, generated_at timestamptz,
    expires_at timestamptz)
  LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'tasker_cache_rows';
COMMENT ON FUNCTION tasker.cache_rows() IS 'What is known of each question asked in this database, and each cached function without any; see the view cache_status';

CREATE VIEW tasker.cache_status WITH (security_invoker = true) AS
SELECT c.function, c.role, c.arguments, s.strategy, s.capability, c.state, c.hits, c.misses, c.waited, c.hit_rate, c.generation_ms, c.frequency, c.base_ttl, c.hit_factor,
  c.cost_factor, c.frequency_factor, c.ttl, c.why, c.bytes, c.generated_at, c.expires_at
FROM tasker.cache_strategy() AS s CROSS JOIN tasker.cache_rows() AS c;
COMMENT ON VIEW tasker.cache_status IS 'One row per question of a role to a costly function of insight (arguments: hours back from this hour), and one for each function nobody has asked: strategy and capability; state (fresh, expired, computing, unfit: too large to keep, empty); hits, misses, and how often somebody waited for another session''s answer; times to live in seconds, the factors that the next answer will get, and why';

CREATE FUNCTION tasker.clear_cache(function text DEFAULT NULL)
  RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tasker_clear_cache';
COMMENT ON FUNCTION tasker.clear_cache(text) IS 'Throws the kept answers of this database away, those of one function or all, at once and not only at commit; one that is being worked out is not kept. What was learnt stays. How many there were';
