"""What adapts, on against off, in turns. The `off` of each is its floor."""
import statistics, subprocess, os
from .drain import wait_for_end, warm
from .server import Trouble
from .table import ratio_at_least

KINDS = {"short": (10_000, 0), "mixed": (5_000, 200), "long": (0, 500)}  # short steps (nothing) and long ones (10 ms of sleep)
SPAN = "extract(epoch FROM max(finished_at) - min(created_at))"
P99 = "1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at))"


def arrive(server, database, counts):
    """Tasks of these workflows, created side by side, ten a transaction, as they run: (steps a second, p99 of creation to end in ms)."""
    after = server.value(database, "SELECT coalesce(max(task_id), 0) FROM tasker.tasks;")
    makers = []
    for workflow, tasks in counts.items():
        if tasks:
            psql = subprocess.Popen([os.path.join(server.bin, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "bench", "-d", database], env=server.env, stdin=subprocess.PIPE,
                                    stdout=subprocess.DEVNULL, text=True)
            psql.stdin.write(f"SELECT count(tasker.create_task('bench', '{workflow}')) FROM generate_series(1, 10);\n" * (tasks // 10))
            psql.stdin.close()
            makers.append(psql)
    if any([maker.wait() for maker in makers]):
        raise Trouble("tasks could not be created")
    wait_for_end(server, database)
    return [float(v) for v in server.sql(database, f"SELECT count(*) / {SPAN}, {P99} FROM tasker.tasks WHERE task_id > {after};")[-1]]


def batching(bench):
    """Adaptive batching: short steps that are there at once, then short and long ones, apart and mixed, as fast as they are created."""
    s, scale = bench.server, bench.size(1, 5)
    s.create("batching")
    arrive(s, "batching", {"one": 200, "sleep_10": 50})  # what is learnt at first
    drains = {"alone": [], "off": [], "on": []}
    for _ in range(bench.repeats):
        for name, switch, ms in (("alone", "off", 0), ("off", "off", None), ("on", "on", None)):
            s.set(adaptive_batching=switch, max_batch_duration=ms)
            drains[name].append(warm(s, "batching", "one", 10_000 // scale, 1))
    alone, off, on = (statistics.median(rates) for rates in drains.values())
    bench.row("adaptive batching, short steps", on, "steps/s", off, ratio_at_least(1.25), named="switched off: 32 at most")
    bench.row("sharing transactions, short steps", on, "steps/s", alone, ratio_at_least(1.25), named="every step commits alone")
    for kind, (short, long) in KINDS.items():
        found = {"off": [], "on": []}
        for _ in range(bench.repeats):
            for switch in found:
                s.set(adaptive_batching=switch)
                found[switch].append(arrive(s, "batching", {"one": short // scale, "sleep_10": long // scale}))
        on, off = ([statistics.median(one[i] for one in found[switch]) for i in (0, 1)] for switch in ("on", "off"))
        bench.row(f"adaptive batching, {kind} steps as they arrive", on[0], "steps/s", off[0], named="switched off: 32 at most",
                  note=f"p99 {on[1]:,.0f} ms, off {off[1]:,.0f}")
    s.set(adaptive_batching=None)
    s.drop("batching")


def concurrency(bench):
    """Dynamic concurrency against three at a time, steps of 10 ms that wait: alone on the server, and with its connections nearly gone."""
    s, tasks = bench.server, bench.size(2000, 400)
    s.set(max_executors=12, concurrency_interval=1)
    s.create("concurrency")
    for kind, taken, goal in (("connections free", 0, ratio_at_least(3)), ("90 of 100 connections taken", 90, None)):
        found = {"fixed": [], "dynamic": []}
        with s.sessions("postgres", ["SELECT 1;"] * taken):
            for _ in range(bench.repeats):
                for name in found:
                    switch, most = ("on", 12) if name == "dynamic" else ("off", 3)
                    s.set(dynamic_concurrency=switch, max_concurrent_steps=most)
                    s.executors_gone()
                    found[name].append(sleepers(s, tasks))
        dynamic, fixed = ([statistics.median(one[i] for one in found[name]) for i in range(3)] for name in ("dynamic", "fixed"))
        bench.row(f"dynamic concurrency, {kind}", dynamic[0], "steps/s", fixed[0], goal, named="three at a time",
                  note=f"{dynamic[1]:.0f} executors, {fixed[1]:.0f} fixed; their memory {dynamic[2]:.1f} MB each, {fixed[2]:.1f}")
    s.set(dynamic_concurrency=None, max_concurrent_steps=None, max_executors=None, concurrency_interval=None)
    s.drop("concurrency")


def sleepers(s, tasks):
    """(steps a second, executors that ran them, MB of the largest)."""
    after = s.value("concurrency", "SELECT coalesce(max(task_id), 0) FROM tasker.tasks;")
    s.sql("concurrency", f"CALL bench.create_many('sleep_10', {tasks});", user="bench")
    wait_for_end(s, "concurrency")
    memory = max((kb for (_, kind), kb in s.memory().items() if kind == "executor"), default=0) / 1024
    rate, executors = s.sql("concurrency", f"""SELECT count(*) / extract(epoch FROM max(t.finished_at) - min(t.created_at)), count(DISTINCT s.result)
      FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_id) WHERE task_id > {after};""")[-1]
    return float(rate), float(executors), memory
