"""Parts that are programs of their own: they start what they need, and leave their figures in bench/results."""
import json, os, subprocess, sys
from .server import HERE, Trouble
from .table import at_most


def program(bench, name, *arguments):
    if bench.scale == "quick":
        arguments += ("--quick",)
    done = subprocess.run([*([sys.executable] if name == "http" else []), os.path.join(HERE, name), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"bench/{name} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    with open(os.path.join(HERE, "results", f"{name}.json")) as file:
        return json.load(file)


def http(bench):
    """HTTP calls to a server that answers after 10 ms, one in twenty after 500 (bench/http)."""
    found = program(bench, "http")
    bench.row(f"{found['calls']:,} HTTP calls", found["calls_per_second"], "calls/s", found["ceiling_calls_per_second"], named="what the latency of the server allows")
    bench.row("private memory of the courier, 200 calls at once", found["courier_private_mb"], "MB")
    bench.row("CPU of the courier per call", found["courier_cpu_ms_a_call"], "ms")
    bench.row("HTTP calls made more than once or lost", found["calls"] - found["complete"] + found["requests"] - found["distinct"], "", goal=at_most(0))


def retry(bench):
    """Predictive retry beside the plain backoff, in virtual time (bench/retry)."""
    scenarios = program(bench, "retry")["scenarios"]
    rules = [(scenario["rules"]["as built"], scenario["rules"]["plain"]) for scenario in scenarios]
    for what, name, unit, turned in (("success of tasks that met a failure", "exhausted", "%", True), ("failed attempts of a task that met one", "failed_attempts", "", False)):
        on, off = (sum(rule[i][name] for rule in rules) / len(rules) for i in (0, 1))
        if turned:
            on, off = 100 * (1 - on), 100 * (1 - off)
        bench.row(f"predictive retry: {what}", on, unit, off, named="plain backoff", note=f"mean of {len(rules)} kinds of outage; bench/retry prints each")
