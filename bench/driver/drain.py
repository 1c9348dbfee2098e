"""Drains: tasks are there, then the hold is released, and the clock stops when the last has ended."""
import statistics
from . import floors
from .server import Trouble, counters, per_step
from .table import at_least, at_most, ratio_at_least


def fill(server, database, workflow, tasks, user="bench"):
    server.sql(database, f"CALL bench.create_many('{workflow}', {tasks});", user=user)


def wait_for_end(server, database, seconds=900):
    server.until(database, "NOT EXISTS (SELECT FROM tasker.tasks WHERE live)", seconds, pause=0.2)


def all_well(server, database, steps, once=True):
    """Every step complete, at its first attempt."""
    found = server.sql(database, """SELECT count(*) FILTER (WHERE state = 'complete'), count(*) FILTER (WHERE attempts = 1), count(*) FROM tasker.workflow_steps;""")[0]
    if int(found[0]) != steps or int(found[2]) != steps or (once and int(found[1]) != steps):
        raise Trouble(f"of {steps} steps in {database} {found[0]} are complete, {found[1]} at their first attempt")


def held(bench, workflow, tasks, steps_each, users=("bench",), prepare=None, count=True):
    """(steps a second, counters a step unless they aren't asked for) of a new database that is filled while held."""
    s = bench.server
    s.create("drain", held=True)
    if prepare:
        prepare("drain")
    s.sql("drain", "CHECKPOINT;")
    for user in users:
        fill(s, "drain", workflow, tasks // len(users), user)
    s.sql("drain", "ANALYZE tasker.tasks, tasker.workflow_steps;")
    before = counters(s, "drain") if count else None
    released = s.value("drain", "SELECT tasker.release_hold('benchmark') \\g /dev/null\nSELECT clock_timestamp();")
    wait_for_end(s, "drain", 7200)
    if count:
        s.executors_gone()
    after = counters(s, "drain", end=True) if count else None
    seconds = s.number("drain", f"SELECT extract(epoch FROM max(finished_at) - '{released}') FROM tasker.tasks;")
    all_well(s, "drain", tasks * steps_each)
    s.drop("drain")
    return tasks * steps_each / seconds, per_step(before, after, tasks * steps_each) if count else None


def warm(server, database, workflow, tasks, steps_each, user="bench"):
    """Steps a second of tasks created by one call while executors are there; from their commit on."""
    begun, last = server.sql(database, f"""SELECT count(*), max(id) FROM tasker.create_tasks('bench', '{workflow}', array_fill('{{}}'::jsonb, ARRAY[{tasks}])) AS id \\gset
        SELECT clock_timestamp(), :max;""", user=user)[-1]
    first, last = int(last) - tasks + 1, int(last)
    # Of these tasks alone, by their key, and only when the last of them is over: beside a held snapshot, looking through all that was
    # once live would take a processor.
    server.until(database, f"""CASE WHEN (SELECT live FROM tasker.tasks WHERE task_id = {last}) THEN false
        ELSE NOT EXISTS (SELECT FROM tasker.tasks WHERE live AND task_id BETWEEN {first} AND {last}) END""", 900, pause=0.2)
    seconds = server.number(database, f"SELECT extract(epoch FROM max(finished_at) - '{begun}') FROM tasker.tasks WHERE task_id BETWEEN {first} AND {last};")
    return tasks * steps_each / seconds


def burndown(bench):
    """No-op single steps, beside every floor, and what a step costs by the server's counters."""
    tasks, many = bench.size(40_000, 4_000), bench.size(None, None, 1_000_000)
    batch, spi60, ours, costs, floor_costs = [], [], [], [], []
    for _ in range(bench.repeats):
        rate, cost = floors.claims(bench, tasks, 100)
        batch.append(rate)
        floor_costs.append(cost)
        spi60.append(floors.spi(bench, tasks, 60)[0])
        rate, cost = held(bench, "one", tasks, 1)
        ours.append(rate)
        costs.append(cost)
    single, _ = floors.claims(bench, tasks // 4, 1)
    spi32, spi_cost = floors.spi(bench, tasks, 32)
    rate, floor = statistics.median(ours), statistics.median(batch)
    what = f"burn-down of {tasks:,} single steps"
    bench.row(what, rate, "steps/s", floor, ratio_at_least(1.0), named="claims, 100 a batch", note="runs: " + ", ".join(f"{r:,.0f}" for r in ours))
    bench.row(what, rate, "steps/s", statistics.median(spi60), ratio_at_least(0.9), named="C/SPI loop, 60 a commit")
    bench.row(what, rate, "steps/s", spi32, named="C/SPI loop, 32 a commit")
    bench.row(what, rate, "steps/s", single, named="claims, one by one")
    if many:
        rate, _ = held(bench, "one", many, 1)
        bench.row(f"burn-down of {many:,} single steps", rate, "steps/s", floor, ratio_at_least(1.0), named="claims, 100 a batch")
    chains, fans = bench.size(4000, 1000), bench.size(1000, 1000)
    chain, chain_cost = held(bench, "chain", chains, 10)
    bench.row("ten-step chains, drained", chain, "steps/s", floor, named="claims, 100 a batch")
    fan, fan_cost = held(bench, "fan", fans, 22)
    bench.row("1 → 20 → 1, drained", fan, "steps/s", floor, named="claims, 100 a batch")

    def middle(of, name):
        return statistics.median(cost[name] for cost in of)

    def note(name):
        return f"C/SPI loop {spi_cost[name]:.2f}; a step of a chain {chain_cost[name]:.2f}, of a fan {fan_cost[name]:.2f}"

    for name in costs[0]:
        goal = at_most(0.1) if name == "commits" else at_most(0) if name == "multixacts" else None
        bench.row(f"{name} of a one-step task", middle(costs, name), "", middle(floor_costs, name), goal, named="claims, 100 a batch", note=note(name))
    bench.row("WAL bytes of a step of a chain", chain_cost["WAL bytes"], "", spi_cost["WAL bytes"], at_most(1000), named="C/SPI loop, one-step task")
    writes = sum(chain_cost[name] for name in ("inserts", "updates", "deletes"))
    bench.row("tuple writes of a step of a chain", writes, "", sum(spi_cost[name] for name in ("inserts", "updates", "deletes")), at_most(3),
              named="C/SPI loop, one-step task", note="a tenth of the task's own among them")


def shapes(bench):
    """Workflows of the usual forms, many at a time."""
    for workflow, name, steps in (("linear4", "linear-4", 4), ("diamond", "diamond", 4), ("seven", "7-step DAG", 7), ("tree", "tree with 8 leaves", 15)):
        tasks = max(1000, bench.size(40_000, 4_000) // steps // 1000 * 1000)
        floor, ours = [], []
        for _ in range(bench.repeats):
            floor.append(floors.batch_rate(bench))
            ours.append(held(bench, workflow, tasks, steps, count=False)[0])
        bench.row(f"{name}, {tasks:,} tasks", statistics.median(ours), "steps/s", statistics.median(floor), named="claims, 100 a batch")


def wide(bench):
    """Single large tasks, and a hundred middling ones, on executors that are there."""
    s = bench.server
    s.create("wide")
    width, length = bench.size(9_999, 999), bench.size(10_000, 1_000)
    s.sql("wide", f"SELECT bench.define('wide', bench.wide({width})), bench.define('long_chain', bench.chain({length})), bench.define('layered', bench.layered(20, 20, 3));", user="bench")
    warm(s, "wide", "fan", 1000, 22)
    for workflow, name, tasks, steps, goal in (("fan", "100 × (1 → 20 → 1)", 100, 22, at_least(10_000)), ("wide", f"1 → {width:,} → 1", 1, width + 2, None),
                                               ("layered", "20 layers of 20, 3 parents each, 10 tasks", 10, 400, None), ("long_chain", f"chain of {length:,}", 1, length, None)):
        floor, ours = [], []
        for _ in range(5 if workflow == "fan" else 2):
            floor.append(floors.batch_rate(bench))
            warm(s, "wide", "fan", 5, 22)  # executors of this database
            ours.append(warm(s, "wide", workflow, tasks, steps))
        # Of a definition that has run before; but who defines a large one may run it once.
        later = statistics.median(ours) if workflow == "fan" else ours[-1]
        bench.row(name, later, "steps/s", statistics.median(floor), goal, named="claims, 100 a batch", note=f"commit to end; its first run {ours[0]:,.0f}")
    s.check("wide")
    s.drop("wide")
