"""The claims of the engine's authors, each as off, on and gain; and the two of them that no other part measures."""
import statistics
from .drain import wait_for_end
from .table import show

PARTS = ["concurrency", "stability", "querytime", "batching", "retry", "cache"]

# Words, the gain that is claimed, the least of it in percent, part and beginning of the row; True: the gain is what is saved.
CLAIMS = (
    ("dynamic concurrency: throughput", "+200 to 300 %", 200, "concurrency", "dynamic concurrency, connections free", False),
    ("memory stability: growth of a session", "+40 %", 40, "stability", "growth of", True),
    ("query time", "−40 to 60 %", 40, "querytime", "ready_steps", True),
    ("adaptive batching: throughput", "+25 to 40 %", 25, "batching", "adaptive batching, short", False),
    ("sharing transactions: throughput", "+25 to 40 %", 25, "batching", "sharing transactions", False),
    ("predictive retry: success", "", None, "retry", "predictive retry: success", False),
    # 10 to 15 ms cached for 80 to 120 ms: of the health page, which is not costly here.
    ("cached answers: time", "−81 to 92 %", 81, "cache", "performance_report of", True),
)

TABLES = """
CREATE TABLE bench.crowd (n integer);
SELECT format('CREATE TABLE bench.crowd_%s (a integer PRIMARY KEY, b text, c jsonb)', i) FROM generate_series(0, :tables - 1) AS i \\gexec
CREATE FUNCTION bench.look_around(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  found bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM bench.crowd_%s WHERE a = 1', step.task_id % current_setting('bench.tables')::integer) INTO found;
  RETURN to_jsonb(found);
END $$;
SELECT bench.define('around', jsonb_build_array(bench.step('only', '{}', '{"handler": {"type": "sql", "function": "bench.look_around"}}')));
"""


def stability(bench):
    """Sessions grow with the tables they have seen: executors that are replaced in time against some that stay."""
    s, tables = bench.server, bench.size(3000, 500)
    s.create("stability")
    s.sql("postgres", f"ALTER DATABASE stability SET bench.tables = {tables};")
    s.sql("stability", TABLES, user="bench", tables=tables)
    most = {}
    for name, limit in (("off", 4 * 1024 * 1024), ("on", 16 * 1024)):
        s.set(executor_max_memory=limit)
        s.executors_gone()
        s.sql("stability", "CALL bench.create_many('one', 200);", user="bench")
        wait_for_end(s, "stability")
        start = max((kb for (_, kind), kb in s.memory().items() if kind == "executor"), default=0)
        peak = start
        for _ in range(bench.size(6, 2)):
            s.sql("stability", f"CALL bench.create_many('around', {tables});", user="bench")
            wait_for_end(s, "stability")
            peak = max([peak] + [kb for (_, kind), kb in s.memory().items() if kind == "executor"])
        most[name] = (peak - start) / 1024
    s.set(executor_max_memory=None)
    bench.row(f"growth of the largest executor, steps that look at {tables:,} tables", most["on"], "MB", most["off"], named="executors stay; else replaced above 16 MB")
    s.drop("stability")


def querytime(bench):
    """A poller's query among finished tasks, without the indexes made for it and with them."""
    s, finished, live = bench.server, bench.size(200_000, 20_000), 20
    s.create("queried", held=True)
    s.script("queried", "history.sql", workflow="seven", tasks=finished)
    s.sql("queried", f"CALL bench.create_many('seven', {live});", user="bench")
    s.sql("queried", "VACUUM ANALYZE;")

    def took():
        text = "\\timing on\n" + "SELECT count(*) FROM tasker.ready_steps;\n" * 5
        times = [float(line[0].split()[1]) for line in s.sql("queried", text) if line[0].startswith("Time")]
        return statistics.median(times)

    times = {"false": [], "true": []}
    for _ in range(3):
        for valid in times:
            s.sql("queried", f"UPDATE pg_index SET indisvalid = {valid} WHERE indexrelid IN ('tasker.tasks_runnable'::regclass, 'tasker.tasks_open'::regclass);")
            times[valid].append(took())
    off, on = (statistics.median(found) for found in times.values())
    bench.row(f"ready_steps, {live} live tasks among {finished:,} finished", on, "ms", off, named="without the indexes of live tasks")
    s.drop("queried")


def judge(rows):
    """A line per claim: what it is of, off, on, gain in percent, what was claimed, met."""
    out = []
    for words, claimed, least, part, begin, less in CLAIMS:
        row = next((r for r in rows if r["part"] == part and r["workload"].startswith(begin)), None)
        if row is None or not row["floor"]:
            continue
        gain = 100 * ((1 - row["ratio"]) if less else (row["ratio"] - 1))
        out.append({"claim": words, "workload": row["workload"], "unit": row["unit"], "off": row["floor"], "on": row["figure"], "saves": less, "gain_percent": gain,
                    "claimed": claimed, "met": gain >= least if least is not None else None})
    return out


HEADS = ("claim", "off", "on", "", "gain", "claimed", "met", "measured by")


def cells(claim):
    gain = claim["gain_percent"]
    sign = "−" if claim["saves"] else "+"
    return (claim["claim"], show(claim["off"]), show(claim["on"]), claim["unit"], f"{sign if gain >= 0 else '+' if claim['saves'] else '−'}{abs(gain):.0f} %", claim["claimed"],
            {None: "", True: "yes", False: "NO"}[claim["met"]], claim["workload"])


def lines(found):
    table = [HEADS] + [cells(claim) for claim in found]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADS))]
    return [" ".join(cell.rjust(w) if i in (1, 2, 4) else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip() for line in table]


def markdown(found):
    return ["| " + " | ".join(HEADS) + " |", "|---|--:|--:|---|--:|---|---|---|"] + ["| " + " | ".join(cells(claim)) + " |" for claim in found]
