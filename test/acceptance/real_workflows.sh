#!/usr/bin/env bash
# Two real scientific workflows, of 22 and 197 steps, run by the background engine as an ordinary role: each step exactly
# once, none before its parents.
#
#   test/acceptance/real_workflows.sh     on the preloaded server that PGHOST and friends name, as a superuser
#
# The workflows lie outside this tree: workflow-*.json in $TASKER_WORKFLOWS or ../shared/data. Every handler in them is
# acc.step. Makes and drops a database of its own.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${TASKER_WORKFLOWS:-$here/../../../shared/data}
shopt -s nullglob
files=("$folder"/workflow-*.json)
if [ ${#files[@]} -eq 0 ]; then
  echo "real_workflows: skipped: no workflow-*.json in $folder; TASKER_WORKFLOWS names another folder"
  exit 0
fi

database=tasker_acceptance
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
trap 'sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "DROP ROLE IF EXISTS acc_owner" 2>/dev/null || true' EXIT
sql -d postgres -c "SET client_min_messages = warning" -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database"
export PGDATABASE=$database

sql <<'SQL'
DO $$ BEGIN IF to_regrole('acc_owner') IS NULL THEN CREATE ROLE acc_owner LOGIN; END IF; END $$;
CREATE EXTENSION tasker;
DO $$
BEGIN
  IF to_regprocedure('tasker.grant_access(regrole, text, text)') IS NOT NULL THEN
    PERFORM tasker.grant_access('acc_owner', level) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS level;
  ELSE
    GRANT USAGE ON SCHEMA tasker TO acc_owner;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tasker TO acc_owner;
    GRANT USAGE ON TYPE tasker.step_call, tasker.task_state TO acc_owner;
  END IF;
END
$$;
CREATE SCHEMA acc AUTHORIZATION acc_owner;
SET SESSION AUTHORIZATION acc_owner;

-- The ledger: what really happened, in the words of the handlers. They know their task by its context and their parents
-- by their results; which step of the task ran is the number in the result, told by the next one.
CREATE TABLE acc.ledger (run_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, workflow text NOT NULL, parents bigint[] NOT NULL, at timestamptz NOT NULL);
CREATE FUNCTION acc.step(context jsonb, results jsonb) RETURNS jsonb LANGUAGE sql AS $$
  INSERT INTO acc.ledger (workflow, parents, at)
  VALUES (context ->> 'workflow', ARRAY(SELECT (r.value)::bigint FROM jsonb_each(results) AS r ORDER BY 1), clock_timestamp())
  RETURNING to_jsonb(run_no)
$$;
SQL

# Each query returns a line per fault; the steps' rows and results are read by the superuser.
faults_of() {  # task id, workflow
  sql -v task="$1" -v workflow="$2" <<'SQL'
CREATE TEMP VIEW step AS
SELECT s.task_id, s.step_no, d.name, d.parents, s.state, s.attempts, (s.result #>> '{}')::bigint AS run_no,
  (SELECT min(w.created_at) FROM tasker.workflow_step_transitions AS w WHERE w.task_id = s.task_id AND w.step_no = s.step_no AND w.to_state = 'in_progress') AS started_at,
  (SELECT max(w.created_at) FROM tasker.workflow_step_transitions AS w WHERE w.task_id = s.task_id AND w.step_no = s.step_no AND w.to_state = 'complete') AS finished_at
FROM tasker.workflow_steps AS s JOIN tasker.tasks AS t ON t.task_id = s.task_id JOIN tasker.named_steps AS d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no;

SELECT format('the task is %s', state) FROM tasker.tasks WHERE task_id = :task AND state <> 'complete';
SELECT format('step %s is %s after %s attempts', name, state, attempts) FROM step WHERE task_id = :task AND (state <> 'complete' OR attempts <> 1);
SELECT format('step %s has no row in the ledger', s.name) FROM step AS s LEFT JOIN acc.ledger AS l USING (run_no) WHERE s.task_id = :task AND l.run_no IS NULL;
SELECT format('row %s of the ledger belongs to %s steps', l.run_no, count(s.step_no)) FROM acc.ledger AS l LEFT JOIN step AS s ON s.run_no = l.run_no AND s.task_id = :task
  WHERE l.workflow = :'workflow' GROUP BY l.run_no HAVING count(s.step_no) <> 1;
SELECT format('step %s has %s moves', s.name, count(*)) FROM step AS s JOIN tasker.workflow_step_transitions AS w USING (task_id, step_no) WHERE s.task_id = :task GROUP BY s.name HAVING count(*) <> 2;
SELECT format('step %s started before its parent %s finished', s.name, p.name) FROM step AS s JOIN step AS p ON p.task_id = s.task_id AND p.step_no = ANY (s.parents)
  WHERE s.task_id = :task AND s.started_at < p.finished_at;
SELECT format('step %s ran before its parent %s', s.name, p.name) FROM step AS s JOIN step AS p ON p.task_id = s.task_id AND p.step_no = ANY (s.parents)
  JOIN acc.ledger AS l ON l.run_no = s.run_no JOIN acc.ledger AS q ON q.run_no = p.run_no WHERE s.task_id = :task AND l.at < q.at;
SELECT format('step %s was given the results of %s, not of its parents', s.name, l.parents) FROM step AS s JOIN acc.ledger AS l USING (run_no)
  WHERE s.task_id = :task AND l.parents <> ARRAY(SELECT p.run_no FROM step AS p WHERE p.task_id = s.task_id AND p.step_no = ANY (s.parents) ORDER BY 1);
SQL
}

failed=0
run_workflow() {  # file
  local name steps task state faults
  name=$(basename "$1" .json)
  sql -U "${PGUSER:-$(id -un)}" -v definition="$(cat "$1")" >/dev/null <<<"SET SESSION AUTHORIZATION acc_owner; SELECT tasker.define_task(:'definition');"
  for round in cold warm; do
    task=$(sql -v definition="$(cat "$1")" -v workflow="$name $round" <<<"SET SESSION AUTHORIZATION acc_owner;
      SELECT tasker.create_task(:'definition'::jsonb ->> 'namespace', :'definition'::jsonb ->> 'name', jsonb_build_object('workflow', :'workflow'));")
    state=$(sql <<<"SET SESSION AUTHORIZATION acc_owner; SELECT tasker.wait_for_task($task, '120 s');")
    steps=$(sql <<<"SELECT count(*) FROM tasker.workflow_steps WHERE task_id = $task;")
    faults=$(faults_of "$task" "$name $round")
    if [ -n "$faults" ]; then
      failed=1
      echo "real_workflows: $name ($round): FAILED, task $task ended ${state:-not within two minutes}"
      head -20 <<<"$faults"
    else
      sql <<<"SELECT format('real_workflows: $name ($round): $steps steps, each once and after its parents, in %s ms: %s steps/s', round(1000 * s, 1), round($steps / s))
        FROM (SELECT extract(epoch FROM finished_at - created_at) AS s FROM tasker.tasks WHERE task_id = $task) AS t;"
    fi
  done
}
for file in "${files[@]}"; do run_workflow "$file"; done

[ "$failed" -eq 0 ] || { echo "real_workflows: failed"; exit 1; }
echo "real_workflows: ${#files[@]} workflows passed"
