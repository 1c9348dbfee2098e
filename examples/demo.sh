#!/usr/bin/env bash
# Loads the examples, runs them in the background workers of a server, shows what happens, and checks how it ended.
#
#   PGHOST, PGPORT, PGDATABASE   a database that has the extension, on a server that preloads it
#   PGUSER                       an ordinary role: it owns the examples, and their tasks run as it
#   TASKER_DEMO_SUPERUSER        who gives that role its rights: a role of the same server, or a connection string
#
# Exit status 0: every task is complete but the one that is to be rejected, and the report covers every flight.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${PGHOST:?}" "${PGDATABASE:?}" "${PGUSER:?}" "${TASKER_DEMO_SUPERUSER:?}"

bound_seconds=120
run=demo-$(date +%s)-$$
export PGAPPNAME=tasker-demo
bold='' dim='' green='' red='' plain=''  # colours, on a terminal only
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; fi

sql() { psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 -v run="$run" "$@"; }
# The answer to one statement as a table for people.
table() { psql -Xq -v ON_ERROR_STOP=1 -v run="$run" -P border=2 -P linestyle=unicode -P footer=off -P pager=off | sed '/^$/d'; }
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
fail() { printf '\n%sdemo: %s%s\n' "$red" "$1" "$plain" >&2; exit 1; }

as_superuser() {
  case $TASKER_DEMO_SUPERUSER in
    *=* | *://*) psql -Xq -v ON_ERROR_STOP=1 -v role="$PGUSER" -d "$TASKER_DEMO_SUPERUSER" ;;
    *) psql -Xq -v ON_ERROR_STOP=1 -v role="$PGUSER" -U "$TASKER_DEMO_SUPERUSER" ;;
  esac
}

prepare() {
  as_superuser >/dev/null <<'SQL'
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'role') \gexec
SELECT tasker.grant_access(:'role', l.level) FROM (VALUES ('author'), ('submitter'), ('viewer')) AS l (level);
SQL
  local example file
  for example in flights ecommerce; do
    for file in schema handlers workflow; do (cd "$example" && sql -f "$file.sql" >/dev/null); done
  done
}

# One line per workflow: name, steps done, steps, tasks finished, tasks, tasks in error, seconds since the first was created
progress() {
  sql <<'SQL'
SELECT t.namespace || '/' || t.name, sum(t.completed_steps), sum(t.total_steps), count(t.finished_at), count(*), count(*) FILTER (WHERE t.state = 'error'),
  to_char(extract(epoch FROM clock_timestamp() - min(min(t.created_at)) OVER ()), 'FM990.0')
FROM tasker.task_status AS t
WHERE t.correlation_id = :'run'
GROUP BY t.namespace, t.name
ORDER BY min(t.task_id);
SQL
}

bar() {  # done, all
  local i width=32 filled=$(($1 * 32 / $2)) text=''
  for ((i = 0; i < width; i++)); do if ((i < filled)); then text+='█'; else text+='░'; fi; done
  printf '%s' "$text"
}

# On a terminal a bar for each workflow, redrawn in place; elsewhere a line when something changed, at most one a second.
watch_tasks() {
  local end=$((SECONDS + bound_seconds)) name steps_done steps finished tasks errors elapsed seconds drawn=0 all_finished line summary printed='' printed_at=-1
  while :; do
    all_finished=1 summary=''
    if [ -t 1 ] && ((drawn)); then printf '\e[%dA' "$drawn"; fi
    drawn=0
    while IFS=$'\t' read -r name steps_done steps finished tasks errors elapsed; do
      ((finished == tasks)) || all_finished=0
      seconds=$elapsed
      summary+="  $name $steps_done/$steps"
      drawn=$((drawn + 1))
      if [ -t 1 ]; then
        printf -v line '  %-28s %s %3d/%-3d steps  %d/%d tasks' "$name" "$(bar "$steps_done" "$steps")" "$steps_done" "$steps" "$finished" "$tasks"
        if ((errors)); then line+=", $errors of them in error"; fi
        printf '\e[2K%s\n' "$line"
      fi
    done < <(progress)
    ((drawn)) || fail "no task of this run is to be seen"
    if [ ! -t 1 ] && [ "$summary" != "$printed" ] && { ((SECONDS > printed_at)) || ((all_finished)); }; then
      printf '%6s s%s\n' "$seconds" "$summary"
      printed=$summary printed_at=$SECONDS
    fi
    if ((all_finished)); then break; fi
    if ((SECONDS >= end)); then
      table <<'SQL' >&2
SELECT t.task_id, t.namespace || '/' || t.name AS task, s.step_name, s.state, s.attempts, s.blocking_reason
FROM tasker.task_status AS t JOIN tasker.step_status AS s USING (task_id)
WHERE t.correlation_id = :'run' AND t.finished_at IS NULL AND s.finished_at IS NULL
ORDER BY t.task_id LIMIT 20;
SQL
      fail "after $bound_seconds s some tasks are not over; above is what their steps wait for (does the server preload tasker?)"
    fi
    sleep 0.15
  done
  printf '  %sall over after %s s%s\n' "$green" "$seconds" "$plain"
}

# Steps by level, centred, with lines between the levels. Input: level, name, label, parents (separated by commas).
draw_levels() {
  awk -F '\t' -v width=90 '
    { level[$2] = $1; names[$1] = names[$1] (names[$1] == "" ? "" : "\t") $2; label[$2] = $3; parents[$2] = $4; if ($1 > deepest) deepest = $1
      if (length($3) + 4 > cell) cell = length($3) + 4 }
    END {
      for (l = 0; l <= deepest; l++) {
        n = split(names[l], name, "\t")
        for (i = 1; i <= n; i++) centre[name[i]] = int(width / 2 + (i - (n + 1) / 2) * cell)
        if (l > 0) connect(l - 1, l)
        line = ""
        for (i = 1; i <= n; i++) line = sprintf("%-*s%s", centre[name[i]] - int(length(label[name[i]]) / 2), line, label[name[i]])
        print "  " l line
      }
      for (step in parents) {
        m = split(parents[step], parent, ",")
        for (i = 1; i <= m; i++) if (level[parent[i]] < level[step] - 1) print "\n  " step " also reads the result of " parent[i]
      }
    }
    function connect(above, below,   up, down, a, i, x, n, first, last, line) {
      first = width; last = 0
      n = split(names[above], a, "\t"); for (i = 1; i <= n; i++) { x = centre[a[i]]; up[x] = 1; if (x < first) first = x; if (x > last) last = x }
      n = split(names[below], a, "\t"); for (i = 1; i <= n; i++) { x = centre[a[i]]; down[x] = 1; if (x < first) first = x; if (x > last) last = x }
      line = sprintf("%" (first + 3) "s", "")
      for (x = first; x <= last; x++) {
        if (first == last) line = line "│"
        else if (x == first) line = line (x in up ? (x in down ? "├" : "└") : "┌")
        else if (x == last) line = line (x in up ? (x in down ? "┤" : "┘") : "┐")
        else line = line (x in up ? (x in down ? "┼" : "┴") : (x in down ? "┬" : "─"))
      }
      print line
    }'
}

show_results() {
  title 'Delays of 5,000 flights by region of departure (minutes; flights.report)'
  table <<'SQL'
SELECT r.region, r.flights, r.average_delay AS delay, r.on_time_percent AS "on time %", r.worst_hour AS "worst hour", r.worst_airport AS "worst airport",
  r.worst_band AS "worst distance", r.busiest_route AS "busiest route", r.distance_error_percent AS "miles off %"
FROM flights.report AS r
ORDER BY r.flights DESC;
SQL

  title 'Orders (shop.orders), and the one that was rejected (tasker.task_status)'
  table <<'SQL'
SELECT t.context ->> 'cart_id' AS cart, t.state, o.order_id AS "order", o.subtotal, o.discount, o.shipping, o.tax, o.total
FROM tasker.task_status AS t LEFT JOIN shop.orders AS o ON o.task_id = t.task_id
WHERE t.correlation_id = :'run' AND t.namespace = 'ecommerce'
ORDER BY cart;
SQL
  sql <<'SQL'
SELECT format('  cart %s: %s', t.context ->> 'cart_id', t.error)
FROM tasker.task_status AS t
WHERE t.correlation_id = :'run' AND t.state = 'error';
SELECT format('  reorder proposals: %s', string_agg(format('%s x %s', p.quantity, p.sku), ', ' ORDER BY p.sku)) FROM shop.reorder_proposals AS p;
SELECT format('  welcome mail for: %s', string_agg(m.recipient, ', ' ORDER BY m.recipient)) FROM shop.outbox AS m;
SQL

  local task
  task=$(sql <<<"SELECT t.task_id FROM tasker.task_status AS t WHERE t.correlation_id = :'run' AND t.context ->> 'region' = 'West'")
  title "The steps of flights/region_report by level (task $task)"
  sql -v task="$task" <<'SQL' | draw_levels
SELECT l.level, s.step_name, s.step_name || CASE WHEN s.attempts > 1 THEN format(' (%s attempts)', s.attempts) ELSE '' END, array_to_string(s.depends_on, ',')
FROM tasker.calculate_dependency_levels(:task) AS l (step_name, level) JOIN tasker.step_status AS s USING (step_name)
WHERE s.task_id = :task
ORDER BY l.level, s.step_name;
SQL

  title "The history of task $task: region West (tasker.task_history)"
  sql -v task="$task" -v dim="$dim" -v red="$red" -v plain="$plain" <<'SQL'
SELECT format('  %s%s s%s  %s %s%s%s', :'dim', lpad(to_char(extract(epoch FROM h.created_at - t.created_at), 'FM990.000'), 8), :'plain',
  rpad(coalesce(h.step_name, '(task)'), 18), CASE h.to_state::text WHEN 'error' THEN :'red' END,
  rtrim(rpad(format('%s -> %s', coalesce(h.from_state::text, 'new'), h.to_state), 26)
    || coalesce(h.metadata #>> '{error,message}', h.metadata ->> 'message', '')), :'plain')
FROM tasker.task_history AS h JOIN tasker.task_status AS t USING (task_id)
WHERE h.task_id = :task
ORDER BY h.created_at, h.step_name, h.sort_key;
SQL
}

check_results() {
  local faults
  faults=$(sql <<'SQL'
SELECT format('task %s, %s/%s %s, is %s: %s', t.task_id, t.namespace, t.name, t.context, t.state, coalesce(t.error, 'no error'))
FROM tasker.task_status AS t
WHERE t.correlation_id = :'run'
  AND CASE WHEN t.context ->> 'cart_id' = '1004' THEN t.state <> 'error' OR t.error NOT LIKE '%out of stock%' ELSE t.state <> 'complete' END
ORDER BY t.task_id;
SELECT format('%s tasks instead of 13', count(*)) FROM tasker.task_status AS t WHERE t.correlation_id = :'run' HAVING count(*) <> 13;
SELECT format('the reports cover %s flights in %s regions instead of 5000 in 5', coalesce(sum(r.flights), 0), count(*))
FROM flights.report AS r HAVING (count(*), sum(r.flights)) IS DISTINCT FROM (5::bigint, 5000::bigint);
SELECT format('%s flights were cleaned instead of 5000: a failed attempt left rows behind', count(*)) FROM flights.clean_flight HAVING count(*) <> 5000;
SELECT format('step clean of task %s took %s attempts instead of 3', s.task_id, s.attempts)
FROM tasker.step_status AS s JOIN tasker.task_status AS t USING (task_id)
WHERE t.correlation_id = :'run' AND s.step_name = 'clean' AND s.attempts <> 3;
SQL
)
  [ -z "$faults" ] || fail "$faults"
  printf '\n%sAs expected: 12 tasks complete, 1 rejected, 5,000 flights reported, nothing left by the 10 failed attempts.%s\n' "$green" "$plain"
}

prepare
title 'Running in the background workers of the server'
(cd flights && sql -f run.sql >/dev/null)
(cd ecommerce && sql -f run.sql >/dev/null)
watch_tasks
show_results
check_results
