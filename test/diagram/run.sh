#!/usr/bin/env bash
# Renders the diagrams of tasker with npm's Mermaid in headless Chromium, and looks at the pictures.
#
#   run.sh                  installs Mermaid into a temporary folder first
#   run.sh --install DIR    only installs it, into DIR, as whoever may reach the registry; without npm it does nothing
#   TASKER_MERMAID=DIR run.sh    uses what was installed there
#
# On a server that PGHOST and friends name, as a superuser, in a database with the extension (it leaves a role and a definition
# there). Needs node, npm and chromium: without one of them it says so and exits with 77, as a suite that has nothing to run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

install() {  # folder; no script of a package is run
  cp "$here/package.json" "$here/package-lock.json" "$1/"
  npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error >"$1/npm.log" 2>&1 || { cat "$1/npm.log" >&2; return 1; }
}

if [ "${1:-}" = --install ]; then
  command -v npm >/dev/null || exit 0
  mkdir -p "$2"
  cmp -s "$here/package-lock.json" "$2/package-lock.json" && [ -d "$2/node_modules/mermaid" ] || install "$2"
  exit
fi

needed=(node chromium psql)
[ -n "${TASKER_MERMAID:-}" ] || needed+=(npm)
for program in "${needed[@]}"; do
  command -v "$program" >/dev/null || { echo "diagram: skipped: no $program here"; exit 77; }
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mermaid=${TASKER_MERMAID:-$folder}
[ -n "${TASKER_MERMAID:-}" ] || install "$folder"
[ -f "$mermaid/node_modules/mermaid/dist/mermaid.min.js" ] || { echo "diagram: skipped: no Mermaid in $mermaid"; exit 77; }

psql -X -v ON_ERROR_STOP=1 -f "$here/diagrams.sql" >"$folder/diagrams"
node "$here/page.js" "$(realpath "$mermaid")/node_modules/mermaid/dist/mermaid.min.js" <"$folder/diagrams" >"$folder/page.html"
# --no-sandbox: in containers and as root Chromium has none to enter; the page is our own.
timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" --virtual-time-budget=60000 --dump-dom "file://$folder/page.html" \
  >"$folder/dom.html" 2>"$folder/chromium.log" || { tail -5 "$folder/chromium.log" >&2; exit 1; }
sed -n '/<pre id="verdict">/,/<\/pre>/p' "$folder/dom.html" | sed 's/<[^>]*>//g; /^$/d' >"$folder/verdict"
grep -v '^end$' "$folder/verdict" || true
grep -q '^end$' "$folder/verdict" || { echo "FAIL: the page did not come to its end"; tail -5 "$folder/chromium.log"; exit 1; }
passed=$(grep -c '^ok ' "$folder/verdict" || true) failed=$(grep -c '^FAIL' "$folder/verdict" || true)
echo "diagram: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -eq "$(grep -c . "$folder/diagrams")" ]
