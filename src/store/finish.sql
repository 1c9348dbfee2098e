-- Last: this database becomes the home of its tasks, and the launcher hears of it at commit.

INSERT INTO tasker.home (nonce, database_oid)
  SELECT ('x' || pg_catalog.substr(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), 1, 16))::bit(64)::bigint, d.oid
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database();
SELECT tasker.announce();
