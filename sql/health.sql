-- Probes as a shell sees them, and counts that add up.
CREATE ROLE regress_probe LOGIN;
SELECT tasker.grant_access('regress_probe', 'monitor');

-- Every bucket, and every task and step in one.
SELECT total_tasks = pending_tasks + in_progress_tasks + complete_tasks + error_tasks + cancelled_tasks + resolved_manually_tasks AS tasks,
  total_steps = pending_steps + in_progress_steps + complete_steps + error_steps + cancelled_steps + resolved_manually_steps + skipped_steps AS steps,
  error_steps = retryable_error_steps + exhausted_retry_steps AS errors, in_backoff_steps <= retryable_error_steps AS backoff,
  total_tasks = (SELECT count(*) FROM tasker.tasks) AS all_tasks, total_steps = (SELECT count(*) FROM tasker.workflow_steps) AS all_steps,
  error_tasks = (SELECT count(*) FROM tasker.tasks WHERE state = 'error') AS error_tasks, error_steps = (SELECT count(*) FROM tasker.workflow_steps WHERE state = 'error') AS error_steps
FROM tasker.get_system_health_counts();

\setenv PGUSER regress_probe
SELECT current_database() AS db \gset
\setenv PGDATABASE :db
-- A probe of Kubernetes: the exit status of psql and grep.
\! psql -XqAtc 'SELECT status FROM tasker.health_ready()' | grep -qE '^(healthy|degraded)$'; echo "ready: $?"
\! psql -XqAtc 'SELECT status FROM tasker.health_live()' | grep -q '^healthy$'; echo "live: $?"
\! examples/monitoring/check_tasker.sh --ready; echo "status $?"
SELECT tasker.pause_tasks(reason => 'a test of probes') AS paused;
\! said=$(examples/monitoring/check_tasker.sh --ready); status=$?; echo "$said" | sed 's/since [^ ]*/since T/'; echo "status $status"
\! psql -XqAtc 'SELECT status FROM tasker.health_ready()' | grep -qE '^(healthy|degraded)$'; echo "ready: $?"
SELECT tasker.resume_tasks(reason => 'over') AS resumed;
UPDATE tasker.home SET held_reason = 'a test of probes', held_at = now();
\! examples/monitoring/check_tasker.sh --ready; echo "status $?"
\! psql -XqAtc 'SELECT status FROM tasker.health_ready()' | grep -qE '^(healthy|degraded)$'; echo "ready: $?"
SELECT tasker.release_hold('over') AS released;
\! examples/monitoring/check_tasker.sh --ready; echo "status $?"
\! PGDATABASE=no_such_database examples/monitoring/check_tasker.sh > /dev/null; echo "status $?"
\! examples/monitoring/check_tasker.sh --nonsense > /dev/null; echo "status $?"
-- Somebody without the level is told nothing.
CREATE ROLE regress_nobody LOGIN;
\! PGUSER=regress_nobody examples/monitoring/check_tasker.sh > /dev/null; echo "status $?"
\! examples/monitoring/check_tasker.sh > /dev/null; case $? in 0 | 1) echo "answered" ;; *) echo "did not" ;; esac
