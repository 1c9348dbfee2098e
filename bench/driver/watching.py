"""What it costs to look: each function of insight at 100,000 finished tasks, and the throughput of steps while everything watches."""
import contextlib, os, statistics, subprocess, sys, tempfile
from .drain import warm
from .server import HERE
from .table import at_most, ratio_at_least

# Over two days, which hold them all; the cache is off. Those of the engine that tasker descends from take 3 to 10 s for the first four at this size.
CALLS = {
    "get_analytics_metrics": "count(*) FROM tasker.get_analytics_metrics(clock_timestamp() - interval '2 days')",
    "get_slowest_steps": "count(*) FROM tasker.get_slowest_steps(clock_timestamp() - interval '2 days')",
    "get_slowest_tasks": "count(*) FROM tasker.get_slowest_tasks(clock_timestamp() - interval '2 days')",
    "performance_report": "length(tasker.performance_report(clock_timestamp() - interval '2 days')::text)",
    "analyze_template": "length(tasker.analyze_template('bench', 'seven')::text)",
    "analyze_task": "length(tasker.analyze_task((SELECT max(task_id) FROM tasker.tasks))::text)",
    "get_system_health_counts": "count(*) FROM tasker.get_system_health_counts()",
    "health_status": "length(tasker.health_status()::text)",
    "prometheus_metrics": "length(tasker.prometheus_metrics())",
    "dashboard_data": "length(tasker.dashboard_data()::text)",
}
# A collector, a probe and an open page.
WATCHERS = ["\\o /dev/null\nSELECT tasker.prometheus_metrics() \\watch 5", "\\o /dev/null\nSELECT tasker.health_ready() \\watch 1",
            "\\o /dev/null\nSELECT tasker.dashboard_data() \\watch 5"]


@contextlib.contextmanager
def collector():
    """That of the tests; its port."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, os.path.join(HERE, "..", "test", "http", "collector.py"), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield int(process.stdout.readline())
        finally:
            process.communicate()


def insight(bench):
    """Each function of insight among 100,000 finished tasks; then drains with everything that watches and without, in turns."""
    s, tasks = bench.server, bench.size(100_000, 2_000)
    s.create("watched")
    s.script("watched", "history.sql", workflow="seven", tasks=tasks)
    s.sql("watched", "SELECT tasker.rebuild_analytics();")
    s.set(intelligent_cache="off")
    for name, call in CALLS.items():
        found = s.sql("watched", "\\timing on\n" + f"SELECT {call};\n" * 6)
        times = [float(line[0].split()[1]) for line in found if line[0].startswith("Time")][1:]  # the first one plans
        bench.row(f"{name} at {tasks:,} finished tasks", statistics.median(times), "ms", None, at_most(100))
    s.set(intelligent_cache=None)

    each, rates = bench.size(60_000, 2_000), {"off": [], "on": [], "traced": []}
    with collector() as port:
        s.sql("watched", f"""CREATE SERVER collector FOREIGN DATA WRAPPER tasker_http OPTIONS (url 'http://127.0.0.1:{port}', allow_private 'on');
            GRANT USAGE ON FOREIGN SERVER collector TO bench;""")
        for turn in range(2 * bench.repeats + 1):
            for watched in rates:
                looks = watched != "off"
                s.set(log_steps="all" if looks else None, log_format="json" if looks else None)
                if watched == "traced":
                    s.sql("watched", "SELECT tasker.subscribe('spans', '{task.completed,task.failed,task.cancelled,task.resolved_manually}', 'traces', 'collector');", user="bench")
                s.executors_gone()  # new ones have the settings from the start
                with s.sessions("watched", WATCHERS if looks else []):
                    rate = warm(s, "watched", "one", each, 1)
                if watched == "traced":
                    s.sql("watched", "SELECT tasker.unsubscribe('spans');", user="bench")
                    s.until("watched", "NOT EXISTS (SELECT FROM tasker.tasks WHERE live)", seconds=60)  # the last delivery
                if turn > 0:
                    rates[watched].append(rate)
    s.set(log_steps=None, log_format=None)
    off = statistics.median(rates["off"])
    bench.row("drain while everything watches", statistics.median(rates["on"]), "steps/s", off, ratio_at_least(0.97), named="nothing watches, in turns",
              note="a line in the log for each attempt (bounded), Prometheus and the dashboard every 5 s, a probe every second")
    bench.row("and the trace of each task goes to a collector", statistics.median(rates["traced"]), "steps/s", off, named="nothing watches, in turns",
              note="a task of one step; on the same machine a collector in Python; traces that find no place are dropped")
    s.drop("watched")
