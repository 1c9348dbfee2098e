#!/usr/bin/env bash
# Lets the Prometheus of Debian, with its two exporters, watch tasker, and compares what it says with plain SQL; see check.py.
#
#   run.sh                  on a server that PGHOST and friends name, as a superuser, with tasker preloaded and installed
#   run.sh --install DIR    only fetches Debian's packages and unpacks them into DIR: nothing is installed and no daemon started
#   TASKER_PROMETHEUS=DIR run.sh    uses what was unpacked there, else what is installed
#
# It makes a database, roles and tasks and leaves them behind; what it starts ends with it. Without one of the programs it says so
# and exits with 77, as a suite that has nothing to run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=(prometheus prometheus-sql-exporter prometheus-postgres-exporter)

if [ "${1:-}" = --install ]; then
  [ -x "$2/usr/bin/prometheus-postgres-exporter" ] && exit
  mkdir -p "$2"
  cd "$2"
  # Lists that are older than the archive name files that are gone.
  apt-get -q download "${packages[@]}" >apt.log 2>&1 || { apt-get -q update && apt-get -q download "${packages[@]}"; } >>apt.log 2>&1 || { tail -3 apt.log >&2; exit 1; }
  for file in ./*.deb; do dpkg-deb -x "$file" .; done
  rm -f ./*.deb
  exit
fi

[ -z "${TASKER_PROMETHEUS:-}" ] || PATH=$TASKER_PROMETHEUS/usr/bin:$PATH
for program in prometheus promtool prometheus-sql-exporter prometheus-postgres-exporter python3 psql; do
  command -v "$program" >/dev/null || { echo "metrics: skipped: no $program here"; exit 77; }
done
exec python3 "$here/check.py"
