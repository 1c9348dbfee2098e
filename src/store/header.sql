\echo Use "CREATE EXTENSION tasker" to load this file. \quit
SET LOCAL search_path = pg_catalog, pg_temp;

-- Plain CREATE: the script fails rather than adopt an object that somebody planted.
CREATE SCHEMA tasker;
COMMENT ON SCHEMA tasker IS 'Workflows inside the database: tasks, steps, and the functions and views over them';
