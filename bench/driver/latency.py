"""How long it takes on a server that has nothing else to do; the floor is one bare insert with its commit."""
from .table import at_most


def latency(bench):
    """One task at a time on an idle server: chains, hand-overs, wake-ups, and the first step when no executor is there."""
    s, runs = bench.server, bench.size(300, 30)
    s.create("idle")
    for workflow in ("one", "chain", "alone"):
        s.sql("idle", f"CALL bench.submit_and_wait('{workflow}', 30, 'warm-up'); CALL bench.submit_and_wait('{workflow}', {runs}, '{workflow}');", user="bench")
    commit = s.commit_ms("idle", runs)

    def quantiles(expression, kind, source="bench.runs AS r"):
        row = s.sql("idle", f"""SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM {expression}))
            FROM {source} WHERE r.kind = '{kind}';""")
        return [float(v) for v in row[0][0].strip("{}").split(",")]

    def row(what, p50, p99, goal, goal99=None):
        bench.row(f"{what}, p50", p50, "ms", commit, goal, named="a bare insert and its commit, p50", note="" if goal99 else f"p99 {p99:.2f}")
        if goal99:
            bench.row(f"{what}, p99", p99, "ms", commit, goal99, named="a bare insert and its commit, p50")

    tasks = "bench.runs AS r JOIN tasker.tasks AS t ON t.task_id = r.task_id"
    first = "bench.runs AS r JOIN tasker.workflow_steps AS w ON w.task_id = r.task_id AND w.step_no = 1"
    steps = first.replace("w.step_no = 1", "w.step_no > 1") + " JOIN tasker.workflow_steps AS p ON p.task_id = w.task_id AND p.step_no = w.step_no - 1"
    row("ten-step chain, create to wait's return", *quantiles("r.awake - r.begun", "chain"), at_most(3), at_most(15))
    row("ten-step chain of own transactions", *quantiles("r.awake - r.begun", "alone"), None)
    row("one step, create to wait's return", *quantiles("r.awake - r.begun", "one"), None)
    row("hand-over within a batch", *quantiles("w.started_at - p.finished_at", "chain", steps), at_most(0.2))
    row("hand-over across executors", *quantiles("w.started_at - p.finished_at", "alone", steps), at_most(1))
    row("commit to first step, warm", *quantiles("w.started_at - r.committed", "one", first), at_most(1.5))
    row("last step's end to wait_for_task's return", *quantiles("r.awake - t.finished_at", "one", tasks), at_most(2))
    for _ in range(5):
        s.executors_gone()
        s.sql("idle", "CALL bench.submit_and_wait('one', 1, 'cold');", user="bench")
    row("commit to first step, no executor yet", *quantiles("w.started_at - r.committed", "cold", first), at_most(50))
    s.drop("idle")
