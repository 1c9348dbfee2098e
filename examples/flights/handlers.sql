-- What the steps of flights/region_report do.
--
-- A handler gets the task's context and the results of the steps it depends on, and returns its own result.
-- It needs no bookkeeping of its own: what it writes commits together with the record that the step is done.

\set ON_ERROR_STOP on
\set QUIET on

CREATE OR REPLACE FUNCTION flights.great_circle_miles(latitude1 float8, longitude1 float8, latitude2 float8, longitude2 float8)
RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  -- Haversine on a sphere of the mean radius of the earth, 3958.7613 miles.
  SELECT 2 * 3958.7613 * asin(least(1, sqrt(
    power(sind((latitude2 - latitude1) / 2), 2)
    + cosd(latitude1) * cosd(latitude2) * power(sind((longitude2 - longitude1) / 2), 2))))
$$;
COMMENT ON FUNCTION flights.great_circle_miles(float8, float8, float8, float8) IS 'Distance of two points given in degrees, in statute miles';

CREATE OR REPLACE FUNCTION flights.validate(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  region_wanted CONSTANT text := context ->> 'region';
  states text[];
  delivered bigint;
BEGIN
  SELECT array_agg(s.state ORDER BY s.state) INTO states FROM flights.state_region AS s WHERE s.region = region_wanted;
  IF states IS NULL THEN
    RAISE EXCEPTION 'there is no region "%"', region_wanted USING ERRCODE = 'TK002';
  END IF;

  SELECT count(*) INTO delivered
  FROM flights.flight AS f JOIN flights.airport AS a ON a.iata = f.origin
  WHERE a.state = ANY (states);
  IF delivered = 0 THEN
    RAISE EXCEPTION 'no flight starts in region "%"', region_wanted USING ERRCODE = 'TK002', HINT = 'Load the flights with schema.sql.';
  END IF;
  RETURN jsonb_build_object('region', region_wanted, 'states', to_jsonb(states), 'flights', delivered);
END
$$;
COMMENT ON FUNCTION flights.validate(jsonb, jsonb) IS 'Step: does the region exist, and is there anything to report?';

CREATE OR REPLACE FUNCTION flights.clean(step tasker.step_call)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  delivered CONSTANT bigint := (step.results #>> '{validate,flights}')::bigint;
  outages CONSTANT integer := coalesce((step.context ->> 'outages')::integer, 0);
  kept bigint;
BEGIN
  INSERT INTO flights.clean_flight (batch, flight_id, hour_of_day, delay_minutes, on_time, distance_miles, origin, destination)
  SELECT step.task_id, f.flight_id, extract(hour FROM f.departed)::integer, f.delay_minutes, f.delay_minutes < 15,
    f.distance_miles, f.origin, f.destination
  FROM flights.flight AS f
  JOIN flights.airport AS o ON o.iata = f.origin
  JOIN flights.airport AS d ON d.iata = f.destination
  JOIN flights.state_region AS s ON s.state = o.state
  WHERE s.region = step.context ->> 'region'
    AND f.origin <> f.destination
    AND f.distance_miles > 0;
  GET DIAGNOSTICS kept = ROW_COUNT;

  -- A stand-in for a system that is down for a while. The rows written above go with the failed attempt, so the
  -- attempt that succeeds finds none of them and needs no clean-up.
  IF step.attempt <= outages THEN
    RAISE EXCEPTION 'the airport directory does not answer' USING ERRCODE = 'TK001';
  END IF;

  RETURN jsonb_build_object('batch', step.task_id, 'delivered', delivered, 'kept', kept, 'rejected', delivered - kept);
END
$$;
COMMENT ON FUNCTION flights.clean(tasker.step_call) IS 'Step: copies the region''s sound flights into a batch; fails as often as the context''s "outages" says';

-- The four aggregates read the same batch side by side. Each group carries sums rather than averages, so that
-- merge can add them up and see whether all four counted the same flights.

CREATE OR REPLACE FUNCTION flights.delay_by_distance(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_agg(jsonb_build_object('name', g.name, 'flights', g.flights, 'delay', g.delay, 'on_time', g.on_time) ORDER BY g.band)
  FROM (
    SELECT b.band, b.name, count(*) AS flights, sum(c.delay_minutes) AS delay, count(*) FILTER (WHERE c.on_time) AS on_time
    FROM flights.clean_flight AS c
    JOIN (VALUES (0, '<250 mi'), (1, '250-499 mi'), (2, '500-999 mi'), (3, '1000-1999 mi'), (4, '2000+ mi')) AS b (band, name)
      ON b.band = width_bucket(c.distance_miles, ARRAY[250, 500, 1000, 2000])
    WHERE c.batch = (results #>> '{clean,batch}')::bigint
    GROUP BY b.band, b.name
  ) AS g
$$;
COMMENT ON FUNCTION flights.delay_by_distance(jsonb, jsonb) IS 'Step: delays by distance band';

CREATE OR REPLACE FUNCTION flights.delay_by_airport(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH airport AS (
    SELECT a.iata, a.city, a.state, count(*) AS flights, sum(c.delay_minutes) AS delay, count(*) FILTER (WHERE c.on_time) AS on_time
    FROM flights.clean_flight AS c JOIN flights.airport AS a ON a.iata = c.origin
    WHERE c.batch = (results #>> '{clean,batch}')::bigint
    GROUP BY a.iata, a.city, a.state
  ), state AS (
    SELECT p.state, sum(p.flights) AS flights, sum(p.delay) AS delay, sum(p.on_time) AS on_time FROM airport AS p GROUP BY p.state
  )
  SELECT jsonb_build_object(
    'airports', (SELECT jsonb_agg(jsonb_build_object('name', p.iata, 'city', p.city, 'state', p.state, 'flights', p.flights, 'delay', p.delay,
      'on_time', p.on_time) ORDER BY p.flights DESC, p.iata) FROM airport AS p),
    'states', (SELECT jsonb_agg(jsonb_build_object('name', s.state, 'flights', s.flights, 'delay', s.delay, 'on_time', s.on_time)
      ORDER BY s.state) FROM state AS s))
$$;
COMMENT ON FUNCTION flights.delay_by_airport(jsonb, jsonb) IS 'Step: delays by airport of departure and by state';

CREATE OR REPLACE FUNCTION flights.delay_by_hour(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_agg(jsonb_build_object('name', to_char(g.hour_of_day, 'FM00') || ':00', 'flights', g.flights, 'delay', g.delay,
    'on_time', g.on_time) ORDER BY g.hour_of_day)
  FROM (
    SELECT c.hour_of_day, count(*) AS flights, sum(c.delay_minutes) AS delay, count(*) FILTER (WHERE c.on_time) AS on_time
    FROM flights.clean_flight AS c
    WHERE c.batch = (results #>> '{clean,batch}')::bigint
    GROUP BY c.hour_of_day
  ) AS g
$$;
COMMENT ON FUNCTION flights.delay_by_hour(jsonb, jsonb) IS 'Step: delays by hour of departure';

CREATE OR REPLACE FUNCTION flights.delay_by_route(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH route AS (
    SELECT c.origin || '-' || c.destination AS name, count(*) AS flights, sum(c.delay_minutes) AS delay,
      count(*) FILTER (WHERE c.on_time) AS on_time, avg(c.distance_miles)::float8 AS stated,
      flights.great_circle_miles(o.latitude, o.longitude, d.latitude, d.longitude) AS computed
    FROM flights.clean_flight AS c
    JOIN flights.airport AS o ON o.iata = c.origin
    JOIN flights.airport AS d ON d.iata = c.destination
    WHERE c.batch = (results #>> '{clean,batch}')::bigint
    GROUP BY c.origin, c.destination, o.iata, d.iata
  ), checked AS (
    SELECT r.*, (100 * abs(r.stated - r.computed) / r.computed)::numeric AS error_percent FROM route AS r
  )
  SELECT jsonb_build_object(
    'routes', count(*),
    'flights', sum(c.flights),
    'mean_error_percent', round(avg(c.error_percent), 2),
    'max_error_percent', round(max(c.error_percent), 2),
    'max_error_route', (array_agg(c.name ORDER BY c.error_percent DESC, c.name))[1],
    'busiest', (
      SELECT jsonb_agg(to_jsonb(b) ORDER BY b.flights DESC, b.name)
      FROM (
        SELECT k.name, k.flights, k.delay, k.on_time, round(k.stated::numeric) AS stated_miles, round(k.computed::numeric, 1) AS great_circle_miles
        FROM checked AS k ORDER BY k.flights DESC, k.name LIMIT 20
      ) AS b))
  FROM checked AS c
$$;
COMMENT ON FUNCTION flights.delay_by_route(jsonb, jsonb) IS 'Step: delays by route, and stated distances compared with the great circle';

CREATE OR REPLACE FUNCTION flights.extreme(groups jsonb, sign integer)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT g.name || ' ' || to_char(g.delay::numeric / g.flights, 'SGFM990.0')
  FROM (
    SELECT x.name, x.flights, x.delay, sum(x.flights) OVER () AS total
    FROM jsonb_to_recordset(groups) AS x (name text, flights integer, delay bigint)
  ) AS g
  ORDER BY g.flights >= greatest(5, g.total / 100) DESC, sign * g.delay::numeric / g.flights DESC, g.name
  LIMIT 1
$$;
COMMENT ON FUNCTION flights.extreme(jsonb, integer) IS 'The group with the highest (sign 1) or lowest (-1) average delay; very small groups come last';

CREATE OR REPLACE FUNCTION flights.merge(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  kept CONSTANT bigint := (results #>> '{clean,kept}')::bigint;
  total_flights bigint;
  total_delay bigint;
  total_on_time bigint;
  counted record;
BEGIN
  SELECT sum(h.flights), sum(h.delay), sum(h.on_time) INTO total_flights, total_delay, total_on_time
  FROM jsonb_to_recordset(results -> 'delay_by_hour') AS h (flights bigint, delay bigint, on_time bigint);

  FOR counted IN
    SELECT 'delay_by_hour' AS step, total_flights AS flights
    UNION ALL SELECT 'delay_by_distance', sum(d.flights)
      FROM jsonb_to_recordset(results -> 'delay_by_distance') AS d (flights bigint)
    UNION ALL SELECT 'delay_by_airport', sum(a.flights)
      FROM jsonb_to_recordset(results #> '{delay_by_airport,airports}') AS a (flights bigint)
    UNION ALL SELECT 'delay_by_route', (results #>> '{delay_by_route,flights}')::bigint
  LOOP
    IF counted.flights IS DISTINCT FROM kept THEN
      RAISE EXCEPTION '% counted % flights of %', counted.step, coalesce(counted.flights, 0), kept USING ERRCODE = 'TK002';
    END IF;
  END LOOP;

  RETURN jsonb_build_object(
    'region', context ->> 'region',
    'flights', kept,
    'average_delay', round(total_delay::numeric / kept, 1),
    'on_time_percent', round(100 * total_on_time::numeric / kept, 1),
    'worst_hour', flights.extreme(results -> 'delay_by_hour', 1),
    'worst_airport', flights.extreme(results #> '{delay_by_airport,airports}', 1),
    'best_airport', flights.extreme(results #> '{delay_by_airport,airports}', -1),
    'worst_band', flights.extreme(results -> 'delay_by_distance', 1),
    'busiest_route', (results #>> '{delay_by_route,busiest,0,name}') || ' x' || (results #>> '{delay_by_route,busiest,0,flights}'),
    'distance_error_percent', results #> '{delay_by_route,mean_error_percent}',
    'details', results - 'clean');
END
$$;
COMMENT ON FUNCTION flights.merge(jsonb, jsonb) IS 'Step: one report out of four aggregates, which must have counted the same flights';

CREATE OR REPLACE FUNCTION flights.publish(step tasker.step_call)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO flights.report (batch, region, flights, average_delay, on_time_percent, worst_hour, worst_airport, best_airport, worst_band,
    busiest_route, distance_error_percent, details)
  SELECT step.task_id, m.region, m.flights, m.average_delay, m.on_time_percent, m.worst_hour, m.worst_airport, m.best_airport, m.worst_band,
    m.busiest_route, m.distance_error_percent, m.details
  FROM jsonb_to_record(step.results -> 'merge') AS m (region text, flights integer, average_delay numeric, on_time_percent numeric,
    worst_hour text, worst_airport text, best_airport text, worst_band text, busiest_route text, distance_error_percent numeric, details jsonb);
  RETURN jsonb_build_object('table', 'flights.report', 'batch', step.task_id);
END
$$;
COMMENT ON FUNCTION flights.publish(tasker.step_call) IS 'Step: writes the report; its result is the key of the row, not the report itself';
