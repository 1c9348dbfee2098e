#!/usr/bin/env bash
# A check for Nagios, Icinga, and whatever else understands their plugins: one line, and an exit status.
#
#   check_tasker.sh           tasker.health_status(): would a step run, error rates, connections, how long steps wait
#   check_tasker.sh --ready   tasker.health_ready(): would a step run here now
#
# 0 healthy; 1 degraded, or a standby; 2 unhealthy, or held; 3 nobody answered. PGHOST, PGPORT, PGDATABASE, PGUSER say where; the role
# needs the level monitor. A server that does not answer within ten seconds counts as one that does not.
set -euo pipefail

probe=health_status
case ${1-} in
  '') ;;
  --ready) probe=health_ready ;;
  *) sed -n '2,/^# needs/{s/^# \{0,1\}//p}' "$0"; exit 3 ;;
esac

export PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10} PGOPTIONS="${PGOPTIONS-} -c statement_timeout=10s"
# A warning of the server is none of the status; an error is told.
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
if ! answer=$(psql -XqAt -F '|' -v ON_ERROR_STOP=1 -c "SELECT status, array_to_string(reasons, '; ') FROM tasker.$probe()" 2>"$errors"); then
  echo "UNKNOWN: $(tr '\n' ' ' <"$errors")"
  exit 3
fi
status=${answer%%|*} reasons=${answer#*|}
case $status in
  healthy) echo 'OK: healthy' ;;
  degraded | standby) echo "WARNING: $status: $reasons"; exit 1 ;;
  *) echo "CRITICAL: $status: $reasons"; exit 2 ;;
esac
