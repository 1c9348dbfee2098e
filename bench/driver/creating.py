"""Creating tasks while nothing runs, beside bare inserts."""
import statistics
from .table import ratio_at_least


def create(bench):
    """create_task from four connections, create_tasks a thousand a call, while nothing runs."""
    s, seconds = bench.server, bench.size(5, 1)
    s.create("made", held=True)
    ours, floors = [], []
    for _ in range(bench.repeats):
        floors.append(s.rate("made", "insert_job.pgbench", "-T", str(seconds), user="bench"))
        ours.append(s.rate("made", "create_task.pgbench", "-T", str(seconds), user="bench"))
    bench.row("create_task, 4 connections", statistics.median(ours), "tasks/s", statistics.median(floors), ratio_at_least(0.5), named="one bare insert a commit")
    many = bench.size(40_000, 4_000)
    for _ in range(bench.repeats):
        s.sql("made", f"CALL bench.time_insert_many({many}); CALL bench.time_create_many('one', {many});", user="bench")
    times = dict(s.sql("made", "SELECT kind, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM bench.seconds GROUP BY kind;"))
    bench.row("create_tasks, 1000 a call", many / float(times["create_tasks"]), "tasks/s", many / float(times["insert"]), ratio_at_least(0.45), named="bare insert .. select of two rows a job")
    s.drop("made")


def readiness(bench):
    """What a poller's call costs beside history."""
    s, tasks = bench.server, bench.size(100_000, 5_000)
    s.create("insight")
    wanted = s.value("insight", "SELECT tasker.create_task('bench', 'seven', run_at => now() + interval '1 year');", user="bench")
    call = f"SELECT bench.readiness_ms({wanted}, 200);"
    s.number("insight", call, user="bench")
    alone = s.number("insight", call, user="bench")
    s.script("insight", "history.sql", workflow="seven", tasks=tasks)
    s.number("insight", call, user="bench")
    among = s.number("insight", call, user="bench")
    s.check("insight")
    bench.row(f"readiness of a 7-step task among {tasks:,} finished ones", among, "ms", alone, named="among none")
    s.drop("insight")
