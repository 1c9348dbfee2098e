#!/usr/bin/env python3
"""tasker as Debian's Prometheus sees it, against plain SQL. See run.sh for how it is called.

Prometheus scrapes prometheus-sql-exporter, both with the files of examples/monitoring (only host, port and interval are replaced),
while tasks run; the six queries of queries.promql are evaluated through its HTTP API, and each answer is compared with what SQL
over the tables says. Rates are extrapolated by Prometheus; the same is done here, from counts that SQL confirms.
"""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "monitoring"
WINDOW = 300.0  # of the queries, in seconds
results = []
processes = []


def ok(condition, what, detail=""):
    results.append(bool(condition))
    print(("ok " if condition else "FAIL ") + what + ("" if condition else f": {detail}"), flush=True)


def sql(statement, user=None, database="app"):
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database] + (["-U", user] if user else [])
    done = subprocess.run(command + ["-c", statement], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.removesuffix("\n")


def wait_until(condition, what, seconds=60):
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise RuntimeError(f"within {seconds} s it never came to this: {what}")
        time.sleep(0.1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()  # says why
    except OSError:
        return None


def start(name, command, folder, **env):
    log = open(folder / f"{name}.log", "w")
    processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | env, cwd=folder))


class Prometheus:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def query(self, expression, at=None):
        parameters = {"query": expression} | ({"time": f"{at:.3f}"} if at else {})
        answer = get(f"{self.base}/api/v1/query?" + urllib.parse.urlencode(parameters))
        if answer is None or not answer.startswith("{"):
            return []  # it is still starting
        answer = json.loads(answer)
        if answer["status"] != "success":
            raise RuntimeError(f"{expression}: {answer.get('error')}")
        return answer["data"]["result"]

    def value(self, expression, at=None):
        found = self.query(expression, at)
        return float(found[0]["value"][1]) if len(found) == 1 else None


def extrapolated_rate(samples, at):
    """What rate(…[5m]) makes of the samples of one counter that never goes back."""
    if len(samples) < 2:
        return 0.0
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    increase, sampled = last - first, last_at - first_at
    mean = sampled / (len(samples) - 1)
    to_start, to_end = first_at - (at - WINDOW), at - last_at
    if increase > 0 and first >= 0:
        to_start = min(to_start, sampled * first / increase)
    total = sampled
    for gap in (to_start, to_end):
        total += gap if gap < mean * 1.1 else mean / 2
    return increase * total / sampled / WINDOW


def read_queries():
    """name → expression, in the order of the file."""
    out, name = {}, None
    for line in (EXAMPLES / "queries.promql").read_text().splitlines():
        if heading := re.match(r"# (\w+): ", line):
            name = heading[1]
        elif line and not line.startswith("#"):
            out[name] = line
    return out


def samples(text, metric):
    """(labels → value) of one metric in the text format."""
    out = {}
    for line in text.splitlines():
        found = re.match(re.escape(metric) + r"\{(.*)\} (\S+)$", line)
        if found:
            labels = {k: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], v) for k, v in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[1])}
            out[frozenset((k, v) for k, v in labels.items() if v and k not in ("col", "driver", "host", "database", "user", "sql_job", "server"))] = float(found[2])
    return out


# ---- the parts


def check_files(queries):
    dashboard = json.loads((EXAMPLES / "grafana_dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    ok(len(queries) == 6, "there are six queries", queries)
    ok(sorted(shown) == sorted(queries.values()), "the dashboard shows these queries, and no others", shown)


def check_text(what):
    text = sql("SELECT tasker.prometheus_metrics()", "meter_reader") + "\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    ok(done.returncode == 0 and not done.stderr and not done.stdout, f"promtool accepts the text {what}", done.stdout + done.stderr)
    broken = subprocess.run(["promtool", "check", "metrics"], input=text.replace('namespace="', "namespace=", 1), capture_output=True, text=True)
    ok(broken.returncode != 0, "and would not accept any")


def start_all(folder):
    ports = {name: free_port() for name in ("sql", "postgres", "prometheus")}
    config = (EXAMPLES / "prometheus_sql_exporter.yml").read_text().replace("interval: 15s", "interval: 1s")
    (folder / "sql_exporter.yml").write_text(config)
    config = (EXAMPLES / "prometheus.yml").read_text().replace("scrape_interval: 15s", "scrape_interval: 1s").replace("localhost:9237", f"127.0.0.1:{ports['sql']}")
    (folder / "prometheus.yml").write_text(config)
    done = subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], capture_output=True, text=True)
    ok(done.returncode == 0, "promtool accepts prometheus.yml", done.stdout + done.stderr)
    start("sql_exporter", ["prometheus-sql-exporter", "-config.file", folder / "sql_exporter.yml", "-web.listen-address", f"127.0.0.1:{ports['sql']}"], folder, PGUSER="meter_reader")
    source = f"host={os.environ['PGHOST']} port={os.environ.get('PGPORT', '5432')} user=meter_reader dbname=app sslmode=disable"
    start("postgres_exporter", ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{ports['postgres']}", "--disable-default-metrics",
                                "--disable-settings-metrics", f"--extend.query-path={EXAMPLES / 'prometheus_postgres_exporter.yml'}"], folder, DATA_SOURCE_NAME=source)
    start("prometheus", ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{ports['prometheus']}"], folder)
    return ports


# What SQL says: what the transitions tell of attempts, by outcome.
ATTEMPTS = """SELECT count(*) FILTER (WHERE w.to_state = 'complete'), count(*) FILTER (WHERE w.to_state = 'error')
  FROM tasker.workflow_step_transitions AS w JOIN tasker.workflow_step_transitions AS p
    ON p.task_id = w.task_id AND p.step_no = w.step_no AND p.element = w.element AND p.sort_key = w.sort_key - 10 AND p.to_state = 'in_progress'
  WHERE w.to_state IN ('complete', 'error')"""
DURATIONS = """SELECT extract(epoch FROM w.created_at - p.created_at)::float8 AS seconds
  FROM tasker.workflow_step_transitions AS w JOIN tasker.workflow_step_transitions AS p
    ON p.task_id = w.task_id AND p.step_no = w.step_no AND p.element = w.element AND p.sort_key = w.sort_key - 10 AND p.to_state = 'in_progress'
  WHERE w.to_state = 'complete'"""


def make_work(prometheus):
    """All states there are to see; returns the session that holds the gate closed."""
    counter = 'sum(tasker_step_attempts_total)'
    wait_until(lambda: (prometheus.value("min(count_over_time(tasker_step_attempts_total[5m]))") or 0) >= 2, "two scrapes of counters that nothing has moved")
    ok(prometheus.value(counter) == 0, "counters begin at 0", prometheus.value(counter))
    sql("SELECT tasker.trip_breaker(E'the \"bank\" \\\\ its branch', 'test', '1 hour')")
    sql("SELECT tasker.create_task('shop', 'order', jsonb_build_object('ms', 2 * n, 'late', n % 5 = 0, 'broke', n % 8 = 0)) FROM generate_series(1, 40) AS n", "meter_owner")
    sql("SELECT tasker.create_task('back_office', 'pack') FROM generate_series(1, 4)", "meter_owner")
    sql("SELECT tasker.create_task('shop', 'charge') FROM generate_series(1, 3)", "meter_owner")
    wait_until(lambda: sql("SELECT count(*) FROM tasker.task_status WHERE name = 'order' AND finished_at IS NULL") == "0", "all orders have ended")
    wait_until(lambda: sql("SELECT count(*) FROM tasker.queue_items") == "4", "four steps wait for a worker")
    wait_until(lambda: sql("SELECT count(*) FROM tasker.step_status WHERE step_name = 'mail' AND state = 'complete'") == "3", "the mails are sent")
    # One that waits for an hour already, as far as anybody can tell.
    sql("UPDATE tasker.queue_items SET offered_at = offered_at - interval '1 hour' WHERE task_id = (SELECT max(task_id) FROM tasker.queue_items)")
    keeper = subprocess.Popen(["psql", "-XAtq", "-d", "app"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes.append(keeper)
    keeper.stdin.write("SELECT pg_advisory_lock(27), 'closed';\n")
    keeper.stdin.flush()
    keeper.stdout.readline()
    executors = int(sql("SELECT value FROM tasker.metrics WHERE name = 'tasker_executors_allowed'"))
    sql(f"SELECT tasker.create_task('shop', 'gate') FROM generate_series(1, {executors + 5})", "meter_owner")
    wait_until(lambda: sql("SELECT count(*) FROM tasker.running()") == str(executors), "every executor is at work")
    return keeper


def check_queries(prometheus, queries):
    success, failure = map(int, sql(ATTEMPTS).split("|"))
    ok(success > 60 and failure > 10, "steps have succeeded and failed", (success, failure))
    depth = int(sql("SELECT (SELECT count(*) FROM tasker.ready_steps AS r WHERE r.name = 'gate') + (SELECT count(*) FROM tasker.queue_items)"))
    seen = lambda: (prometheus.value('sum(tasker_step_attempts_total{outcome="success"})'), prometheus.value('sum(tasker_step_attempts_total{outcome="failure"})'),
                    prometheus.value(queries["queue_depth"]), prometheus.value('max(tasker_breaker_waiting_steps)'))
    wait_until(lambda: seen() == (success, failure, depth, 3), "Prometheus has seen the last of it")
    # One moment for all.
    at = max(float(s["values"][-1][0]) for s in prometheus.query("tasker_step_attempts_total[5m]"))

    def rate(selector):
        series = prometheus.query(f"{selector}[5m]", at)
        values = [[(float(t), float(v)) for t, v in s["values"]] for s in series]
        return {json.dumps(s["metric"], sort_keys=True): extrapolated_rate(v, at) for s, v in zip(series, values)}, sum(v[-1][1] for v in values), sum(v[0][1] for v in values), series

    rates, last, first, _ = rate("tasker_step_attempts_total")
    failed, last_failed, _, _ = rate('tasker_step_attempts_total{outcome="failure"}')
    ok((last, first, last_failed) == (success + failure, 0, failure), "the counters went from 0 to what the transitions tell", (last, first, last_failed))
    throughput = prometheus.value(queries["throughput"], at)
    ok(abs(throughput - sum(rates.values())) < 1e-9, "throughput is the rate of these counts", (throughput, sum(rates.values())))
    error_ratio = prometheus.value(queries["error_ratio"], at)
    ok(abs(error_ratio - failure / (success + failure)) < 1e-9, "the error ratio is that of the transitions", (error_ratio, failure, success))
    check_p95(prometheus, queries, at, success)

    ok(prometheus.value(queries["queue_depth"], at) == depth == 9, "the queue is as deep as the tables say", (prometheus.value(queries["queue_depth"], at), depth))
    age = prometheus.value(queries["oldest_ready_step_seconds"], at)
    true_age = float(sql(f"SELECT {at} - extract(epoch FROM min(offered_at)) FROM tasker.queue_items"))
    ok(true_age > 3600 and 0 <= true_age - age < 10, "the oldest ready step has waited as long as its row says", (age, true_age))
    own = prometheus.value('tasker_oldest_ready_step_age_seconds{namespace="shop"}', at)
    true_own = float(sql(f"SELECT {at} - extract(epoch FROM min(since)) FROM tasker.ready_steps WHERE name = 'gate'"))
    ok(own > 0 and -1 < true_own - own < 10, "so has the oldest that waits for an executor", (own, true_own))

    states = {(s["metric"]["system"], s["metric"]["state"]) for s in prometheus.query(queries["breaker_state"], at)}
    true_states = {tuple(row.split("|")) for row in sql("SELECT system, state FROM tasker.circuit_breakers").splitlines()}
    ok(states == true_states and ('the "bank" \\ its branch', "open") in states and ("mail", "closed") in states, "breakers are in the states of the view", (states, true_states))


def check_p95(prometheus, queries, at, success):
    p95 = prometheus.value(queries["p95_step_seconds"], at)
    # Bucket by bucket what SQL counts of the durations, and where the 95th of 100 lies among them.
    bounds = [float(b) for b in sql("SELECT DISTINCT (labels ->> 'le')::float8 AS le FROM tasker.metrics WHERE name = 'tasker_step_duration_seconds_bucket' ORDER BY le").splitlines()]
    counts = [int(c) for c in sql(f"SELECT count(*) FILTER (WHERE d.seconds <= b) FROM ({DURATIONS}) AS d CROSS JOIN unnest('{{{','.join(map(str, bounds))}}}'::float8[]) AS b GROUP BY b ORDER BY b").splitlines()]
    told = {float(s["metric"]["le"]): float(s["value"][1]) for s in prometheus.query("sum by (le) (tasker_step_duration_seconds_bucket)", at)}
    ok(counts[-1] == success and told == dict(zip(bounds, counts)), "the histogram counts the durations of the transitions", (told, counts))
    i = next(i for i, c in enumerate(counts) if c >= 0.95 * success)
    below, count_below = (bounds[i - 1], counts[i - 1]) if i else (0.0, 0)
    expected = below + (bounds[i] - below) * (0.95 * success - count_below) / (counts[i] - count_below)
    ok(abs(p95 - expected) < 1e-9, "p95 is interpolated between its bounds", (p95, expected))
    true = float(sql(f"SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY d.seconds) FROM ({DURATIONS}) AS d"))
    ok(below <= true <= bounds[i] and true > 0.02, "and lies in the same bucket as the duration of that rank", (below, true, bounds[i]))


def check_exporter(text, metric, what):
    """Everything but what changes by itself is told with all its labels."""
    told = samples(text or "", metric)
    rows = json.loads(sql("SELECT json_agg(m) FROM tasker.metrics AS m WHERE m.name !~ '_age_|_lag_|tasker_executors'"))
    expected = {frozenset({("metric", r["name"])} | set(r["labels"].items())): r["value"] for r in rows}
    wrong = {tuple(sorted(k)): (v, told.get(k)) for k, v in expected.items() if told.get(k) != v}
    ok(len(expected) > 100 and not wrong, f"{what} tells every sample", wrong if told else text)


def main():
    queries = read_queries()
    check_files(queries)
    sql("CREATE DATABASE app", database="postgres")
    sql("CREATE EXTENSION tasker")
    subprocess.run(["psql", "-Xq", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", "app", "-f", pathlib.Path(__file__).with_name("tasks.sql")], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            check_text("of a database without a task")
            ports = start_all(folder)
            prometheus = Prometheus(ports["prometheus"])
            keeper = make_work(prometheus)
            check_queries(prometheus, queries)
            check_text("with everything in it")
            check_exporter(get(f"http://127.0.0.1:{ports['sql']}/metrics"), "sql_tasker", "prometheus-sql-exporter")
            check_exporter(get(f"http://127.0.0.1:{ports['postgres']}/metrics"), "tasker_value", "prometheus-postgres-exporter")
            keeper.stdin.close()
            wait_until(lambda: prometheus.value("sum(tasker_ready_steps)") == 0, "the gate is open, and nothing is ready any more")
            ok(prometheus.value("tasker_failing_tasks") == float(sql("SELECT count(*) FROM tasker.tasks WHERE failing")), "failing tasks are those of the table")
        except Exception:
            for log in folder.glob("*.log"):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]), file=sys.stderr)
            raise
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()
    failed = results.count(False)
    print(f"metrics: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
