#!/bin/bash
# A worker of one queue, in the shell: claims a step, runs a command for it, completes it with what the command prints.
#
#   worker.sh QUEUE COMMAND [ARGUMENT…]     the connection is that of psql: PGHOST, PGDATABASE, PGUSER …
#
# COMMAND gets the step as a JSON object (task_id, step_name, attempt, context, results, config, correlation_id) on its
# standard input and prints a JSON value, the result. Status 0: complete. 75 (EX_TEMPFAIL) or a signal: to be tried again.
# Anything else: failed for good, with the last line of its standard error as the message. LEASE (default 300 seconds) is
# how long it may take. SIGTERM lets the step in hand end, then stops.
set -u
queue=${1:?usage: worker.sh QUEUE COMMAND [ARGUMENT…]}; shift
: "${1:?usage: worker.sh QUEUE COMMAND [ARGUMENT…]}"
worker=$(hostname):$$
folder=$(mktemp -d) || exit 1
export TASKER_ANSWER=$folder/answer
trap 'rm -rf "$folder"' EXIT
stopping=
trap 'stopping=1' TERM INT

# Values go in as variables that psql quotes (:'name'): nothing is pasted into SQL. What may be large comes from a file.
sql() {  # statement, then -v name=value…
  local statement=$1; shift
  psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 "$@" <<<"$statement"
}

while [ -z "$stopping" ]; do
  if ! claimed=$(sql "SELECT c.task_id, c.step_name, c.claim_token, row_to_json(c) FROM tasker.claim_steps(:'queue', :'worker', 1, :'lease', '5 s') AS c;" \
      -v queue="$queue" -v worker="$worker" -v lease="${LEASE:-300} s"); then
    echo 'worker: no answer from the server' >&2
    sleep 1
    continue
  fi
  [ -n "$claimed" ] || continue
  IFS=$'\t' read -r task_id step_name token step <<<"$claimed"
  claim=(-v task_id="$task_id" -v step_name="$step_name" -v token="$token")
  # A session of its own: Ctrl-C of a terminal ends the worker, not the step.
  setsid -w "$@" <<<"$step" >"$TASKER_ANSWER" 2>"$folder/errors"
  status=$?
  if [ "$status" -eq 0 ]; then
    [ -s "$TASKER_ANSWER" ] || echo null >"$TASKER_ANSWER"
    # shellcheck disable=SC2016  # psql's to expand
    sql '\set result `cat "$TASKER_ANSWER"`
      '"SELECT tasker.complete_step(:'task_id', :'step_name', :'token', :'result');" "${claim[@]}" >/dev/null 2>"$folder/errors" && continue
    if [ $? -eq 3 ]; then status=1; else status=75; fi  # the server's answer, or none
  fi
  retryable=false
  if [ "$status" -eq 75 ] || [ "$status" -gt 128 ]; then retryable=true; fi
  cat "$folder/errors" >&2
  tail -n 1 "$folder/errors" >"$TASKER_ANSWER"
  [ -s "$TASKER_ANSWER" ] || echo "status $status" >"$TASKER_ANSWER"
  # shellcheck disable=SC2016
  sql '\set message `cat "$TASKER_ANSWER"`
    '"SELECT tasker.fail_step(:'task_id', :'step_name', :'token', :'message', :'retryable');" "${claim[@]}" -v retryable="$retryable" >/dev/null
done
