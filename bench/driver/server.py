"""A private server, and what is asked of it and of the system about it."""
import contextlib, os, pwd, re, shutil, subprocess, tempfile, time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIGURATION = """
shared_preload_libraries = 'tasker'
fsync = on
synchronous_commit = on
shared_buffers = 1GB
max_wal_size = 8GB
min_wal_size = 2GB
checkpoint_timeout = 30min
max_worker_processes = 24
autovacuum_naptime = 10s
listen_addresses = ''
timezone = 'UTC'
"""
# What of the settings decides speed: written beside the figures.
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_level", "max_worker_processes", "jit",
            "tasker.max_executors", "tasker.max_concurrent_steps", "tasker.dynamic_concurrency", "tasker.adaptive_batching", "tasker.max_batch_duration")


class Trouble(Exception):
    """What was measured means nothing: a task failed, rows are missing, or the end didn't come."""


def installed(what):
    return subprocess.run([os.environ.get("PG_CONFIG", "pg_config"), what], check=True, capture_output=True, text=True).stdout.strip()


class Server:
    """A new server in a folder of its own, on a Unix socket. Root may not run one: the user postgres does."""

    def __init__(self):
        self.bin = installed("--bindir")
        self.folder = tempfile.mkdtemp(prefix="tasker-bench.", dir=os.environ.get("TASKER_BENCH_FOLDER", "/tmp"))
        self.become = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
        self.data = os.path.join(self.folder, "data")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        self.env.update(PGHOST=self.folder, PGPORT="5432", PGUSER="postgres", PGDATABASE="postgres", LC_ALL="C.UTF-8")

    def program(self, name, *arguments, **more):
        return subprocess.run([os.path.join(self.bin, name), *arguments], env=self.env, check=True, capture_output=True, text=True, **more).stdout

    def control(self, name, *arguments):
        with open(os.path.join(self.folder, "out"), "w") as out:  # a pipe would stay open as long as the server runs
            subprocess.run([*self.become, os.path.join(self.bin, name), "-D", self.data, *arguments], env=self.env, check=True, cwd="/",
                           stdout=out, stderr=subprocess.STDOUT)

    def start(self, segments=0):
        """With so many files of the log that were written before: a server that has run for a while has them, and creating them costs more than what is measured."""
        self.control("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            conf.write(CONFIGURATION + f"unix_socket_directories = '{self.folder}'\n")
        self.control("pg_ctl", "-l", os.path.join(self.folder, "server.log"), "-w", "start")
        if segments:
            self.sql("postgres", f"SELECT count(*) FROM (SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal() FROM generate_series(1, {segments})) AS s; CHECKPOINT;")

    def stop(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            try:
                self.control("pg_ctl", "-m", "fast", "-t", "30", "-w", "stop")
            except subprocess.CalledProcessError:
                self.control("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder)

    # ---- SQL

    def sql(self, database, text, user="postgres", **variables):
        """Rows of strings of the last statement."""
        arguments = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-F", "\t", "-f", "-"]
        for name, value in variables.items():
            arguments += ["-v", f"{name}={value}"]
        out = self.program("psql", *arguments, input=text)
        return [line.split("\t") for line in out.splitlines()]

    def value(self, database, text, **more):
        return self.sql(database, text, **more)[-1][0]

    def number(self, database, text, **more):
        return float(self.value(database, text, **more) or 0)

    def script(self, database, name, **more):
        with open(os.path.join(HERE, name)) as file:
            return self.sql(database, file.read(), **more)

    def until(self, database, question, seconds=900, pause=0.1):
        end = time.monotonic() + seconds
        while self.value(database, f"SELECT {question};") != "t":
            if time.monotonic() > end:
                raise Trouble(f"not within {seconds} s in {database}: {question}")
            time.sleep(pause)

    @contextlib.contextmanager
    def sessions(self, database, texts, user="postgres"):
        """One psql each, which has run its text when the block begins and stays connected until its end; a text ending in \\watch goes on all the time."""
        running = [subprocess.Popen([os.path.join(self.bin, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database], env=self.env,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in texts]
        try:
            for psql, text in zip(running, texts):
                psql.stdin.write(f"\\echo ready\n{text}\n" if "\\watch" in text else f"{text}\n\\echo ready\n")
                psql.stdin.flush()
                if "\\watch" in text:
                    psql.stdout.readline()
                    psql.stdout.close()  # what it says next ends it if it is much: readers write to \o /dev/null
                else:
                    while psql.stdout.readline() not in ("ready\n", ""):
                        pass
            yield
            if any(psql.poll() is not None for psql in running):
                raise Trouble(f"a session in {database} ended too early: {texts[0]}")
        finally:
            for psql in running:
                psql.kill()
                psql.wait()

    def set(self, **settings):
        """Server settings, in force when this returns. None: as configured."""
        for name, value in settings.items():
            self.sql("postgres", f"ALTER SYSTEM SET tasker.{name} = '{value}';" if value is not None else f"ALTER SYSTEM RESET tasker.{name};")
        self.sql("postgres", "SELECT pg_reload_conf();")
        for name, value in settings.items():
            wanted = f"setting = '{value}'" if value is not None else "source = 'default'"
            self.until("postgres", f"EXISTS (SELECT FROM pg_settings WHERE name = 'tasker.{name}' AND {wanted})")

    # ---- pgbench

    def pgbench(self, database, name, *arguments, user="postgres", clients=4, **variables):
        for key, value in variables.items():
            arguments += ("-D", f"{key}={value}")
        return self.program("pgbench", "-n", "-c", str(clients), "-j", str(min(clients, 2)), "-U", user, "-f", os.path.join(HERE, name), *arguments, database)

    def rate(self, *arguments, **more):
        return float(re.search(r"tps = ([0-9.]+)", self.pgbench(*arguments, **more)).group(1))

    def commit_ms(self, database, runs):
        """The median of bare inserts with their commits, one after the other, as the server sees them."""
        self.sql(database, f"CALL bench.time_commits({runs});", user="bench")
        return self.number(database, "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY 1000 * seconds) FROM bench.seconds WHERE kind = 'commit';")

    # ---- databases

    def create(self, name, held=False):
        """A database with tasker and the workflows. Held: tasks can be created, none starts until release_hold."""
        self.drop(name)
        self.sql("postgres", f"CREATE DATABASE {name};")
        hold = "UPDATE tasker.home SET held_reason = 'benchmark';" if held else ""
        self.sql(name, f"BEGIN; CREATE EXTENSION tasker; {hold} COMMIT;")
        self.script(name, "setup.sql")

    def drop(self, name):
        self.sql("postgres", f"DROP DATABASE IF EXISTS {name};")

    def executors_gone(self):
        """Their counters reach the statistics when they leave."""
        self.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker executor';")
        self.until("postgres", "NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor')")

    def check(self, database):
        faults = self.sql(database, "SELECT * FROM tasker.check();")
        if faults:
            raise Trouble(f"tasker.check() in {database}: {faults[:5]}")

    # ---- processes

    def cpu_microseconds(self):
        """Of all processes of the server, those that have gone included; without its clients."""
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            postmaster, ticks = file.readline().strip(), 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if pid == postmaster:
                ticks += sum(int(v) for v in fields[11:15])
            elif fields[1] == postmaster:
                ticks += sum(int(v) for v in fields[11:13])
        return 1e6 * ticks / os.sysconf("SC_CLK_TCK")

    def processes(self):
        """Our processes: pid to kind."""
        return {int(pid): kind.removeprefix("tasker ") for pid, kind in
                self.sql("postgres", "SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'tasker%';")}

    def memory(self):
        """Of each of our processes (pid, kind): kB of private memory."""
        return {(pid, kind): kb for pid, kind in self.processes().items() if (kb := status_of(pid, "RssAnon")) is not None}


def status_of(pid, name):
    """A number of /proc/PID/status; None when the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))
    except (OSError, StopIteration):
        return None


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return sum(int(v) for v in stat.read().rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


COUNTERS = """
SELECT pg_current_wal_lsn() - '0/0', (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
  pg_snapshot_xmax(pg_current_snapshot())::text, sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_hot_upd), sum(n_tup_del) FROM pg_stat_all_tables WHERE schemaname IN ('tasker', 'public', 'floor');
"""


def counters(server, database, end=False):
    """What the server has counted so far. No checkpoint at the beginning: after one the log gets whole pages, and they would be charged to the first who touches them."""
    cpu = server.cpu_microseconds()
    time.sleep(1.1)  # a session reports its counters at most once a second
    names = ["WAL bytes", "commits", "transaction ids", "inserts", "updates", "HOT updates", "deletes"]
    out = dict(zip(names, (float(v or 0) for v in server.sql(database, COUNTERS)[-1])))
    if end:
        server.sql(database, "CHECKPOINT;")
    out["multixacts"] = server.number(database, "SELECT next_multixact_id FROM pg_control_checkpoint();")  # as of the last checkpoint
    out["µs of CPU"] = cpu if end else server.cpu_microseconds()
    return out


def per_step(before, after, steps):
    return {name: (after[name] - before[name]) / steps for name in before}
