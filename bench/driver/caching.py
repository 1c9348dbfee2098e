"""Costly answers from the cache: what one saves, and whether the adaptive time to live pays."""
import statistics, time
from .outside import program

# A month of hourly counts of definitions with seven steps, as the dispatcher would have left them.
COUNTS = """
SELECT count(bench.define('counted' || i, (SELECT d.definition -> 'steps' FROM tasker.named_tasks AS d WHERE d.name = 'seven'))) FROM generate_series(1, :definitions) AS i;
INSERT INTO tasker.step_history (named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms, buckets, counts)
SELECT s.named_task_id, s.step_no, date_trunc('hour', clock_timestamp()) - make_interval(hours => h), 1, 500, 490, 490 * s.step_no, 40, ARRAY[20, 30, 40, 50], ARRAY[200, 200, 80, 10]
FROM tasker.named_steps AS s JOIN tasker.named_tasks AS n USING (named_task_id), generate_series(1, :hours) AS h WHERE n.name LIKE 'counted%';
INSERT INTO tasker.task_outcomes (named_task_id, hour, state, tasks, started, total_ms, max_ms, buckets, counts)
SELECT n.named_task_id, date_trunc('hour', clock_timestamp()) - make_interval(hours => h), s.state, 100, 100, 3000, 90, ARRAY[40, 50], ARRAY[90, 10]
FROM tasker.named_tasks AS n, generate_series(1, :hours) AS h, unnest(ARRAY['pending', 'complete']::tasker.task_state[]) AS s (state) WHERE n.name LIKE 'counted%';
VACUUM ANALYZE tasker.step_history, tasker.task_outcomes;
"""
REPORT = "SELECT length(tasker.performance_report(clock_timestamp() - make_interval(hours => :hours))::text);\n"


def cache(bench):
    """A report over a month with the cache off and on; and the adaptive time to live beside fixed ones, in virtual time (bench/cache)."""
    s, hours, definitions = bench.server, bench.size(720, 48), bench.size(30, 4)
    s.create("cached", held=True)
    s.sql("cached", COUNTS, hours=hours, definitions=definitions)

    def took(times):
        found = s.sql("cached", "\\timing on\n" + REPORT * times, hours=hours)
        return statistics.median(float(line[0].split()[1]) for line in found if line[0].startswith("Time"))

    times = {"off": [], "on": []}
    for _ in range(3):
        for switch in times:
            s.set(intelligent_cache=switch)
            if time.gmtime().tm_min == 59:
                s.until("cached", "extract(minute FROM clock_timestamp()) < 59", 70)  # answers end with their hour
            s.sql("cached", REPORT, hours=hours)
            times[switch].append(took(5))
    s.set(intelligent_cache=None)
    off, on = (statistics.median(found) for found in times.values())
    bench.row(f"performance_report of {hours:,} hours, {definitions * 7} steps", on, "ms", off, named="tasker.intelligent_cache off")
    s.drop("cached")

    scenarios = {found["name"]: found["rules"] for found in program(bench, "cache")["scenarios"]}
    everything = scenarios["everything"]
    for rule, words in (("fixed, the base", "fixed times: the base"), ("fixed, as old", "fixed times, answers as old")):
        built, other = everything["adaptive"], everything[rule]
        note = f"answers {built['mean_age_seconds']:.0f} s old, fixed {other['mean_age_seconds']:.0f} s; bench/cache prints each pattern"
        bench.row(f"adaptive time to live: answered from the cache, beside {rule}", built["hit_percent"], "%", other["hit_percent"], named=words, note=note)
        bench.row(f"adaptive time to live: mean time to an answer, beside {rule}", built["mean_ms"], "ms", other["mean_ms"], named=words, note=note)
