"""Finished steps, a snapshot held open, and analytical readers: what lies about must not slow what runs."""
import statistics, time
from . import floors
from .drain import warm
from .queues import claim_rates, define_queue
from .server import Trouble
from .table import Goal, ratio_at_least

STEPS_EACH = 10  # of a finished task: the workflow is `chain`


def finished(bench):
    """Drains, and claims of external steps, in a database with so many finished steps and in one without, in turns."""
    s, tasks, turns = bench.server, bench.size(20_000, 2_000), bench.repeats
    for name in ("clean", "aged"):
        s.create(name)
        define_queue(s, name)
    there = 0
    for steps in bench.size([100_000, 1_000_000], [20_000], [100_000, 1_000_000, 5_000_000]):
        s.script("aged", "history.sql", workflow="chain", tasks=(steps - there) // STEPS_EACH)
        there = steps
        s.check("aged")
        rates, claims = {"clean": [], "aged": []}, {"clean": [], "aged": []}
        for turn in range(turns + 1):
            for name in rates:
                s.executors_gone()  # those of the other database would keep their slots for a minute
                s.sql(name, "ANALYZE;")  # as autovacuum would have by then
                rate, claim = warm(s, name, "one", tasks, 1), claim_rates(s, name, bench.size(2000, 200))
                if turn > 0:
                    rates[name].append(rate)
                    claims[name].append(claim)
        bench.row(f"drain beside {steps:,} finished steps", statistics.median(rates["aged"]), "steps/s", statistics.median(rates["clean"]), ratio_at_least(0.95),
                  named="beside none, in turns")
        for i, (what, unit, goal) in enumerate((("claim and complete, one at a time", "steps/s", ratio_at_least(0.95)),
                                                ("claim and complete, 100 at a time", "steps/s", ratio_at_least(0.95)),
                                                ("claim and complete, from one connection", "ms", Goal("ratio", "at most", 1.05)))):
            aged, clean = (statistics.median(c[i] for c in claims[name]) for name in ("aged", "clean"))
            bench.row(f"{what}, beside {steps:,} finished steps", aged, unit, clean, goal, named="beside none, in turns")
    for name in ("clean", "aged"):
        s.drop(name)


def paced(s, database, seconds):
    """Chains of ten at 80 a second: p50 of creation to end in the last third, in ms, and the steps a second that got done."""
    s.sql(database, "ANALYZE tasker.tasks, tasker.workflow_steps;")
    after = s.value(database, "SELECT coalesce(max(task_id), 0) FROM tasker.tasks;")
    s.pgbench(database, "create_chain.pgbench", "-T", str(seconds), "-R", "80", user="bench", clients=2)
    s.until(database, "NOT EXISTS (SELECT FROM tasker.tasks WHERE live)")
    row = s.sql(database, f"""SELECT 1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at)) FILTER (WHERE part = 3),
        1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at)) FILTER (WHERE part = 3),
        10 * count(*) / extract(epoch FROM max(finished_at) - min(created_at))
        FROM (SELECT *, ntile(3) OVER (ORDER BY task_id) AS part FROM tasker.tasks WHERE task_id > {after}) AS t;""")[-1]
    return [float(v) for v in row]


HOLD = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tasker.tasks;"


def snapshot(bench):
    """At 800 steps/s and at full speed, while a session in that database keeps the snapshot it took at the start."""
    s, seconds, tasks = bench.server, bench.size(90, 5, 300), bench.size(20_000, 2_000)
    for name in ("clean", "snapped"):
        s.create(name)
        warm(s, name, "chain", 500, 10)
    p50, p99, _ = paced(s, "clean", max(6, seconds // 3))
    with s.sessions("snapped", [HOLD]):
        held_p50, held_p99, rate = paced(s, "snapped", seconds)
        bench.row(f"800 steps/s for {seconds} s, snapshot held: chain p50 at the end", held_p50, "ms", p50, Goal("ratio", "at most", 1.25), named="no snapshot, same rate",
                  note=f"p99 {held_p99:.1f}, without {p99:.1f}; {rate:.0f} steps/s done")
        rates, end = {"clean": [], "snapped": []}, time.monotonic() + 2 * seconds
        while time.monotonic() < end or len(rates["clean"]) < 4:
            for name in rates:
                s.executors_gone()
                rates[name].append(warm(s, name, "one", tasks, 1))
        last = len(rates["clean"]) // 2
        dead = s.number("snapped", "SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE schemaname = 'tasker';")
        bench.row(f"full speed, snapshot held for {3 * seconds} s", statistics.median(rates["snapped"][last:]), "steps/s",
                  statistics.median(rates["clean"][last:]), ratio_at_least(0.95),
                  named="no snapshot, in turns", note=f"the second half of {len(rates['clean'])} drains; {dead:,.0f} dead rows kept")
    for name in ("clean", "snapped"):
        s.drop(name)


def retention(bench):
    """Finished tasks are removed while others run: drains with the rule and without it in turns, chains at 800 steps/s, and how fast they go."""
    s, steps, tasks, seconds = bench.server, bench.size(1_000_000, 100_000, 5_000_000), bench.size(20_000, 2_000), bench.size(20, 5)
    s.create("retained")
    s.script("retained", "history.sql", workflow="chain", tasks=steps // STEPS_EACH)
    warm(s, "retained", "chain", 500, 10)

    def keep(interval):
        s.sql("retained", f"SELECT tasker.set_retention('bench', {interval});")

    def old():
        return s.number("retained", "SELECT count(*) FROM tasker.tasks WHERE finished_at < clock_timestamp() - interval '1 hour';")

    rates, removed = {"on": [], "off": []}, []
    for _ in range(bench.size(5, 1)):
        for name, interval in (("off", "'-1 day'"), ("on", "'1 hour'")):
            keep(interval)
            left = old()
            rates[name].append(warm(s, "retained", "one", tasks, 1))
            if name == "on":
                removed.append(left - old())
    left = old()
    if left == 0 or min(removed) == 0:
        raise Trouble(f"{left:.0f} old tasks left, {removed} removed in the drains: it was not measured what it costs to remove them")
    bench.row("drain while finished tasks are removed", statistics.median(rates["on"]), "steps/s", statistics.median(rates["off"]), ratio_at_least(0.95),
              named="no retention, in turns", note=f"{statistics.median(removed):,.0f} tasks of ten steps removed meanwhile")
    keep("'-1 day'")
    p50, p99, _ = paced(s, "retained", seconds)
    keep("'1 hour'")
    busy_p50, busy_p99, _ = paced(s, "retained", seconds)
    note = f"p99 {busy_p99:.1f}, without {p99:.1f}; {left - old():,.0f} tasks removed meanwhile"
    bench.row("800 steps/s while finished tasks are removed: chain p50", busy_p50, "ms", p50, Goal("ratio", "at most", 1.25), named="no retention, same rate", note=note)
    begun, left = time.monotonic(), old()
    if left > 0:
        s.until("retained", "NOT EXISTS (SELECT FROM tasker.tasks WHERE finished_at < clock_timestamp() - interval '1 hour')", 600)
        bench.row("finished steps removed, nothing else to do", STEPS_EACH * left / (time.monotonic() - begun), "steps/s")
    s.check("retained")
    s.drop("retained")


READER = """\\o /dev/null
SELECT d.name, s.state, count(*), avg(s.finished_at - s.started_at), count(DISTINCT t.owner) FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_id)
JOIN tasker.named_tasks d USING (named_task_id) GROUP BY 1, 2 ORDER BY 3 DESC
\\watch 0.01"""


def readers(bench):
    """Four sessions that count and average all there is, again and again; the floor drains beside them too."""
    s, tasks, turns = bench.server, bench.size(20_000, 2_000), bench.repeats
    s.create("read")
    s.script("read", "history.sql", workflow="chain", tasks=bench.size(20_000, 1_000))
    alone = statistics.median(warm(s, "read", "one", tasks, 1) for _ in range(turns))
    ours, floor = [], []
    with s.sessions("read", [READER] * 4):
        for _ in range(turns):
            floor.append(floors.batch_rate(bench, tasks))
            ours.append(warm(s, "read", "one", tasks, 1))
    beside = statistics.median(ours)
    bench.row("drain beside four analytical readers", beside, "steps/s", statistics.median(floor), named="claims, 100 a batch, beside the same", note=f"without them {alone:,.0f}")
    # 800 steps/s leave room for readers: does latency?
    with s.sessions("read", [READER] * 4):
        p50, p99, rate = paced(s, "read", bench.size(30, 6))
        commit = s.commit_ms("read", 200)
    bench.row("800 steps/s beside four analytical readers: chain p50", p50, "ms", commit, named="a bare insert and its commit beside the same", note=f"p99 {p99:.1f}; {rate:.0f} steps/s done")
    s.drop("read")
