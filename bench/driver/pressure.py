"""Much at once: a burst, many owners, steps that take their time."""
import statistics
from . import floors
from .drain import all_well, held, wait_for_end
from .table import ratio_at_least

EXECUTORS = 4  # tasker.max_executors as it comes


def burst(bench):
    """A hundred thousand tasks in one transaction, on a server that runs."""
    s, tasks = bench.server, bench.size(100_000, 5_000)
    s.create("burst")
    s.sql("burst", "CALL bench.submit_and_wait('one', 20, 'warm-up');", user="bench")
    floor = floors.batch_rate(bench)
    calls = f"SELECT count(*) FROM (SELECT tasker.create_tasks('bench', 'one', array_fill('{{}}'::jsonb, ARRAY[1000])) FROM generate_series(1, {tasks // 1000})) AS t;"
    begun, ready, committed = s.sql("burst", f"""SELECT clock_timestamp() AS begun \\gset
        BEGIN; {calls} SELECT clock_timestamp() AS ready \\gset
        COMMIT; SELECT :'begun', :'ready', clock_timestamp();""", user="bench")[-1]
    before = s.memory()
    wait_for_end(s, "burst")
    after = s.memory()
    all_well(s, "burst", tasks + 20)
    made, commit, first, drained = (float(v) for v in s.sql("burst", f"""SELECT extract(epoch FROM timestamptz '{ready}' - '{begun}'), 1000 * extract(epoch FROM timestamptz '{committed}' - '{ready}'),
        1000 * extract(epoch FROM min(started_at) - '{committed}'), extract(epoch FROM max(finished_at) - '{committed}') FROM tasker.tasks WHERE created_at > '{begun}';""")[-1])
    bench.row(f"burst of {tasks:,} tasks in one transaction, drained", tasks / drained, "steps/s", floor, named="claims, 100 a batch",
              note=f"created at {tasks / made:,.0f}/s; dispatcher {max((v for (_, k), v in after.items() if k == 'dispatcher'), default=0):,} kB after,"
                   f" {max((v for (_, k), v in before.items() if k == 'dispatcher'), default=0):,} kB at the commit")
    bench.row(f"burst of {tasks:,} tasks: its commit", commit, "ms", named="")
    bench.row(f"burst of {tasks:,} tasks: commit to first step", first, "ms")
    s.drop("burst")


def owners(bench):
    """Ten owners' steps on four executors, each of which serves one owner."""
    s, tasks, names = bench.server, bench.size(40_000, 5_000), [f"owner{i}" for i in range(10)]
    for name in names:
        s.sql("postgres", f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;")

    def prepare(database):
        s.sql(database, "GRANT USAGE ON SCHEMA bench TO PUBLIC;" + "".join(f"SELECT tasker.grant_access('{name}', 'submitter');" for name in names))

    one, ten = [], []
    for _ in range(bench.repeats):
        one.append(held(bench, "one", tasks, 1, count=False)[0])
        ten.append(held(bench, "one", tasks, 1, names, prepare, count=False)[0])
    bench.row(f"burn-down of {tasks:,} single steps of ten owners", statistics.median(ten), "steps/s", statistics.median(one), named="of one owner, in turns")


def lengths(bench):
    """Steps of 1, 10 and 100 ms that sleep; the floor is as many connections as executors that do nothing else."""
    s = bench.server
    s.create("lengths")
    for ms in (1, 10, 100):
        workflow = f"sleep_{ms}"
        tasks = bench.size(8000, 1000) // ms if ms < 100 else bench.size(160, 24)
        s.sql("lengths", f"CALL bench.create_many('{workflow}', 40);", user="bench")  # what is learnt first
        wait_for_end(s, "lengths")
        ours, floor = [], []
        for _ in range(bench.repeats):
            floor.append(s.rate("lengths", "sleep.pgbench", "-t", str(tasks // EXECUTORS), user="bench", clients=EXECUTORS, duration=ms))
            after = s.value("lengths", "SELECT max(task_id) FROM tasker.tasks;")
            s.sql("lengths", f"CALL bench.create_many('{workflow}', {tasks});", user="bench")
            wait_for_end(s, "lengths")
            ours.append(s.number("lengths", f"SELECT count(*) / extract(epoch FROM max(finished_at) - min(created_at)) FROM tasker.tasks WHERE task_id > {after};"))
        bench.row(f"steps of {ms} ms", statistics.median(ours), "steps/s", statistics.median(floor), ratio_at_least(0.9), named=f"{EXECUTORS} connections that sleep")
    s.drop("lengths")
