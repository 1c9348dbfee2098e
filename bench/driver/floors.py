"""What tasker is compared with: queues written by hand, and the same rows written by a bare loop in C."""
import os, subprocess
from .server import HERE, Trouble, counters, installed, per_step


def compile_spi_floor(server):
    """The library of the C/SPI floor, in the server's own folder."""
    library = os.path.join(server.folder, "spi_floor.so")
    flags = [*installed("--cflags").split(), *installed("--cflags_sl").split(), "-I", installed("--includedir-server")]
    command = [*installed("--cc").split(), *flags, "-shared", "-o", library, os.path.join(HERE, "spi_floor.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"the C/SPI floor does not compile: {done.stderr}")
    os.chmod(library, 0o755)
    return library


def spi(bench, steps, size, clients=4):
    """(steps a second, counters a step) of a loop that commits every `size` steps."""
    s = bench.server
    if not os.path.exists(os.path.join(s.folder, "spi_floor.so")):
        compile_spi_floor(s)
    calls = max(1, steps // size // clients)
    steps = calls * size * clients
    s.create("spi", held=True)
    s.sql("spi", "CHECKPOINT;")
    s.script("spi", "spi_floor.sql", tasks=steps, library=os.path.join(s.folder, "spi_floor.so"))
    s.pgbench("spi", "spi_floor.pgbench", "-t", "1", clients=1, size=0)  # the library is loaded
    s.sql("spi", "ALTER SEQUENCE floor.next RESTART;")
    before = counters(s, "spi")
    s.pgbench("spi", "spi_floor.pgbench", "-t", str(calls), clients=clients, size=size)
    after = counters(s, "spi", end=True)
    seconds = s.number("spi", "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM floor.tasks WHERE state = 'complete';")
    if s.number("spi", "SELECT count(*) FROM floor.tasks WHERE state <> 'complete';") != 0:
        raise Trouble("the C/SPI floor left tasks behind")
    s.drop("spi")
    return steps / seconds, per_step(before, after, steps)


def claims(bench, jobs, size, clients=4, count=True):
    """(jobs a second, counters a job unless they aren't asked for) of a table as a queue: FOR UPDATE SKIP LOCKED, one or a hundred a time."""
    s = bench.server
    s.drop("floor")
    s.sql("postgres", "CREATE DATABASE floor;")
    s.script("floor", "floor.sql")
    s.sql("floor", "CHECKPOINT;")
    s.sql("floor", f"INSERT INTO jobs (context) SELECT '{{}}' FROM generate_series(1, {jobs}); ANALYZE jobs;")
    before = counters(s, "floor") if count else None
    script = "claim_single.pgbench" if size == 1 else "claim_batch.pgbench"
    # A batch that met others may have got less than a hundred.
    s.pgbench("floor", script, "-t", str(jobs // clients if size == 1 else jobs // size // clients + 10), clients=clients)
    after = counters(s, "floor", end=True) if count else None
    seconds = s.number("floor", "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM jobs WHERE state = 2;")
    if s.number("floor", "SELECT count(*) FROM jobs WHERE state <> 2;") != 0:
        raise Trouble("the floor left jobs behind")
    s.drop("floor")
    return jobs / seconds, per_step(before, after, jobs) if count else None


def batch_rate(bench, jobs=None):
    return claims(bench, jobs or bench.size(40_000, 10_000), 100, count=False)[0]
