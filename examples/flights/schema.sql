-- Airports, flights, and the tables that the report workflow writes.
--
-- Run it from this directory (\copy reads data/) as any role that may create a schema in the database.
-- It starts afresh: an existing schema "flights" of that role is dropped first.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;

DROP SCHEMA IF EXISTS flights CASCADE;
CREATE SCHEMA flights;
COMMENT ON SCHEMA flights IS 'Example: delay reports by region from 5,000 real flights';

CREATE TABLE flights.state_region (
  state text PRIMARY KEY,
  region text NOT NULL
);
COMMENT ON TABLE flights.state_region IS 'Census region of each state; what belongs to none is called Territories';

INSERT INTO flights.state_region (state, region)
SELECT pg_catalog.unnest(pg_catalog.string_to_array(r.states, ' ')), r.region
FROM (VALUES
  ('Northeast', 'CT MA ME NH NJ NY PA RI VT'),
  ('Midwest', 'IA IL IN KS MI MN MO ND NE OH SD WI'),
  ('South', 'AL AR DC DE FL GA KY LA MD MS NC OK SC TN TX VA WV'),
  ('West', 'AK AZ CA CO HI ID MT NM NV OR UT WA WY'),
  ('Territories', 'AS CQ GU PR VI')
) AS r (region, states);

CREATE TABLE flights.airport (
  iata text PRIMARY KEY,
  name text NOT NULL,
  city text NOT NULL,
  state text NOT NULL,
  country text NOT NULL,
  latitude float8 NOT NULL CHECK (latitude BETWEEN -90 AND 90),
  longitude float8 NOT NULL CHECK (longitude BETWEEN -180 AND 180)
);
COMMENT ON TABLE flights.airport IS 'Airports with their coordinates, as delivered';

\copy flights.airport FROM 'data/airports.csv' WITH (FORMAT csv, HEADER true)

CREATE TABLE flights.flight (
  flight_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  departed timestamp NOT NULL,
  delay_minutes integer NOT NULL,
  distance_miles integer NOT NULL,
  origin text NOT NULL,
  destination text NOT NULL
);
COMMENT ON TABLE flights.flight IS 'Flights, as delivered';

-- The JSON file is one line: read as CSV with quote and delimiter that occur in no JSON text, it is one field.
CREATE TEMPORARY TABLE delivery (document jsonb NOT NULL) ON COMMIT DROP;
\copy delivery FROM 'data/flights-5k.json' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')

INSERT INTO flights.flight (departed, delay_minutes, distance_miles, origin, destination)
SELECT pg_catalog.to_timestamp(f.date, 'YYYY/MM/DD HH24:MI')::timestamp, f.delay, f.distance, f.origin, f.destination
FROM delivery,
  pg_catalog.jsonb_to_recordset(delivery.document) AS f (date text, delay integer, distance integer, origin text, destination text);

CREATE INDEX flight_origin ON flights.flight (origin);

CREATE TABLE flights.clean_flight (
  batch bigint NOT NULL,
  flight_id integer NOT NULL,
  hour_of_day integer NOT NULL,
  delay_minutes integer NOT NULL,
  on_time boolean NOT NULL,
  distance_miles integer NOT NULL,
  origin text NOT NULL,
  destination text NOT NULL,
  PRIMARY KEY (batch, flight_id)
);
COMMENT ON TABLE flights.clean_flight IS 'Flights that passed the checks, one batch per task (the batch is its task_id)';

CREATE TABLE flights.report (
  batch bigint PRIMARY KEY,
  region text NOT NULL,
  flights integer NOT NULL,
  average_delay numeric NOT NULL,
  on_time_percent numeric NOT NULL,
  worst_hour text NOT NULL,
  worst_airport text NOT NULL,
  best_airport text NOT NULL,
  worst_band text NOT NULL,
  busiest_route text NOT NULL,
  distance_error_percent numeric NOT NULL,
  details jsonb NOT NULL,
  published_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE flights.report IS 'What the workflow publishes: one row per region and run';

COMMIT;
ANALYZE flights.airport, flights.flight;
RESET client_min_messages;
