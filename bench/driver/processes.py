"""What our processes cost: idle, and in memory."""
import time
from .drain import warm
from .server import cpu_seconds, status_of
from .table import Goal, at_most


def idle(bench):
    """A database with a task that isn't due, so that its dispatcher stays, and nothing to do."""
    s, seconds = bench.server, bench.size(60, 10)
    s.create("quiet")
    warm(s, "quiet", "one", 1000, 1)
    s.sql("quiet", "SELECT tasker.create_task('bench', 'one', run_at => now() + interval '1 year');", user="bench")
    s.executors_gone()
    s.sql("postgres", "ALTER SYSTEM SET autovacuum = off;")  # or its visits are counted
    s.sql("postgres", "SELECT pg_reload_conf();")

    def look():
        commits = s.number("postgres", "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'quiet';")
        return commits, {pid: (kind, cpu_seconds(pid), status_of(pid, "voluntary_ctxt_switches")) for pid, kind in s.processes().items()}

    time.sleep(12 if bench.scale == "quick" else 75)  # what was begun is done, and what waits a minute before it leaves has left
    commits, before = look()
    time.sleep(seconds)
    commits_after, after = look()
    both = [pid for pid in before if pid in after and None not in before[pid] + after[pid]]
    cpu = sum(after[pid][1] - before[pid][1] for pid in both)
    wakes = {before[pid][0]: after[pid][2] - before[pid][2] for pid in both}
    bench.row("CPU of all our processes, idle", 100 * cpu / seconds, "%", None, Goal("figure", "at most", 0.1), note=f"{seconds} s: " + ", ".join(sorted(wakes)))
    bench.row("transactions, idle", 60 / seconds * (commits_after - commits), "per minute", None, at_most(1), note="by the statistics of the database")
    bench.row("waking up, idle", 60 / seconds * sum(wakes.values()), "per minute", None, None, note=", ".join(f"{kind} {60 / seconds * n:.0f}" for kind, n in sorted(wakes.items())))
    s.sql("postgres", "ALTER SYSTEM RESET autovacuum;")
    s.sql("postgres", "SELECT pg_reload_conf();")
    s.drop("quiet")


def memory(bench):
    """Private memory of each process over many steps, after it has met its largest queue."""
    s, rounds = bench.server, bench.size(10, 3, 50)
    each = bench.size(20_000, 2_000)
    s.create("memory")
    for _ in range(bench.size(10, 2)):  # a dispatcher's queues and tables have their full size after eight or so
        warm(s, "memory", "one", each, 1)
    before = s.memory()
    for _ in range(rounds):
        warm(s, "memory", "one", each, 1)
    after, steps = s.memory(), rounds * each
    for kind in sorted({kind for _, kind in after}):
        both = [key for key in after if key in before and key[1] == kind]
        if both:
            growth = max(after[key] - before[key] for key in both)
            bench.row(f"private memory of a {kind}", max(after[key] for key in both) / 1024, "MB", max(before[key] for key in both) / 1024, named=f"before the last {steps:,} steps")
            bench.row(f"growth of a {kind}, per million steps", growth / 1024 * 1e6 / steps, "MB", None, at_most(1) if steps >= 100_000 else None, note=f"{growth:,} kB over {steps:,} steps")
    s.drop("memory")
