-- The workflow flights/region_report: one report of delays for one region.
--
--   validate > clean > delay_by_distance, delay_by_airport, delay_by_hour, delay_by_route > merge > publish

\set ON_ERROR_STOP on
\set QUIET on

SELECT tasker.define_task($definition${
  "namespace": "flights",
  "name": "region_report",
  "version": "1.0.0",
  "description": "Delays of the flights that start in one region",
  "context_schema": {
    "type": "object",
    "properties": {
      "region": {"type": "string", "enum": ["Northeast", "Midwest", "South", "West", "Territories"]},
      "outages": {"type": "integer", "minimum": 0, "maximum": 10}
    },
    "required": ["region"],
    "additionalProperties": false
  },
  "deadline_seconds": 600,
  "steps": [
    {
      "name": "validate",
      "description": "Does the region exist, and is there anything to report?",
      "handler": {"type": "sql", "function": "flights.validate"}
    },
    {
      "name": "clean",
      "description": "Copy the sound flights of the region into a batch",
      "depends_on": ["validate"],
      "handler": {"type": "sql", "function": "flights.clean"},
      "max_attempts": 5,
      "backoff": {"base_seconds": 0.2, "multiplier": 2, "max_seconds": 5, "jitter": 0.1}
    },
    {
      "name": "delay_by_distance",
      "depends_on": ["clean"],
      "handler": {"type": "sql", "function": "flights.delay_by_distance"}
    },
    {
      "name": "delay_by_airport",
      "depends_on": ["clean"],
      "handler": {"type": "sql", "function": "flights.delay_by_airport"}
    },
    {
      "name": "delay_by_hour",
      "depends_on": ["clean"],
      "handler": {"type": "sql", "function": "flights.delay_by_hour"}
    },
    {
      "name": "delay_by_route",
      "depends_on": ["clean"],
      "handler": {"type": "sql", "function": "flights.delay_by_route"}
    },
    {
      "name": "merge",
      "description": "One report out of four aggregates; clean is named to compare the counts with its own",
      "depends_on": ["clean", "delay_by_distance", "delay_by_airport", "delay_by_hour", "delay_by_route"],
      "handler": {"type": "sql", "function": "flights.merge"}
    },
    {
      "name": "publish",
      "description": "Write the row of flights.report",
      "depends_on": ["merge"],
      "handler": {"type": "sql", "function": "flights.publish"}
    }
  ]
}$definition$) AS named_task_id;
