#!/usr/bin/env bash
# Opens the page of tasker.dashboard_html() in headless Chromium and uses it: by mouse, by keyboard, dark, light, narrow, and
# with hostile text in it.
#
#   run.sh                  on a server that PGHOST and friends name, as a superuser, in a database with the extension
#   run.sh --images DIR     leaves its pictures there (those of doc/images)
#
# It leaves roles and tasks behind. Needs node and chromium: without one of them it says so and exits with 77, as a suite that
# has nothing to run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=
if [ "${1:-}" = --images ]; then images=$(realpath "${2:?--images needs a folder}"); fi
for program in node chromium psql; do
  command -v "$program" >/dev/null || { echo "dashboard: skipped: no $program here"; exit 77; }
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
psql -X -v ON_ERROR_STOP=1 -f "$here/tasks.sql" >"$folder/ids.json"
"$here/../../scripts/dashboard" "$folder/page.html"
PGUSER=dash_owner "$here/../../scripts/dashboard" --refresh 600 "$folder/own.html"
PGUSER=dash_other "$here/../../scripts/dashboard" "$folder/none.html"
grep -q '<meta http-equiv="refresh" content="600">' "$folder/own.html" || { echo "FAIL: the page does not refresh itself"; exit 1; }
# The browser of a distribution may start by way of a script that says things; what matters is in the verdict.
timeout -k 10 300 node "$here/check.js" "$folder" ${images:+"$images"}
