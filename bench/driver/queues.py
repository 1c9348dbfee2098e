"""External steps: claims and completions beside a queue table that deletes what is done, as pgmq does."""
import statistics
from .drain import wait_for_end
from .table import at_least

WIDTH = 1000  # steps of a task: none of them a sink, so that no two workers meet in the row of the task
QUEUE = f"""
SELECT bench.define('queue', jsonb_build_array(bench.step('begin', '{{}}', '{{"handler": {{"type": "noop"}}}}'))
  || (SELECT jsonb_agg(bench.step('s' || i, '{{begin}}', '{{"handler": {{"type": "external", "queue": "bench"}}}}')) FROM generate_series(1, {WIDTH}) AS i)
  || bench.step('end', (SELECT array_agg('s' || i) FROM generate_series(1, {WIDTH}) AS i), '{{"handler": {{"type": "noop"}}}}'));
SELECT bench.define('work', jsonb_build_array(bench.step('begin', '{{}}', '{{"handler": {{"type": "noop"}}}}'),
  bench.step('s', '{{begin}}', '{{"handler": {{"type": "external", "queue": "bench"}}}}')));
"""
CLIENTS = 8
DRAIN = """DO $$ BEGIN WHILE EXISTS (SELECT FROM tasker.queue_items) LOOP
  PERFORM tasker.complete_step(c.task_id, c.step_name, c.claim_token) FROM tasker.claim_steps('bench', 'last', 100) AS c; COMMIT; END LOOP; END $$;"""
FLOOR = """CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, visible_at timestamptz NOT NULL DEFAULT now(), message jsonb NOT NULL);
  CREATE INDEX ON messages (visible_at); GRANT ALL ON messages TO bench;"""


def define_queue(server, database):
    server.sql(database, "SELECT tasker.grant_access('bench', 'worker', 'bench');")
    server.sql(database, QUEUE, user="bench")


def offer(server, database, steps, workflow="queue"):
    """So many steps, up to a full task, wait in the queue."""
    width = WIDTH if workflow == "queue" else 1
    tasks = -(-steps // width)
    server.sql(database, f"SELECT count(*) FROM tasker.create_tasks('bench', '{workflow}', array_fill('{{}}'::jsonb, ARRAY[{tasks}]));", user="bench")
    server.until(database, f"(SELECT count(*) FROM tasker.queue_items) = {tasks * width}")


def empty(server, database):
    server.sql(database, DRAIN)  # a claim that met others may have got less than it asked for
    wait_for_end(server, database)


def claim_rates(server, database, singles):
    """(one at a time from four connections, 100 at a time, ms of one at a time from one connection on average)."""
    batches = 10 * max(1, singles // 500)
    offer(server, database, 3 * singles + 4 * batches * 100)
    alone = server.rate(database, "claim_steps_single.pgbench", "-M", "prepared", "-t", str(singles), user="bench", clients=1)
    one = server.rate(database, "claim_steps_single.pgbench", "-M", "prepared", "-t", str(singles // 2), user="bench")
    batch = 100 * server.rate(database, "claim_steps_batch.pgbench", "-M", "prepared", "-t", str(batches), user="bench")
    empty(server, database)
    return one, batch, 1000 / alone


def queues(bench):
    """Claims and completions by external workers, beside messages in a table."""
    s = bench.server
    s.create("queues")
    define_queue(s, "queues")
    s.sql("queues", FLOOR)
    # Steps of different tasks, as a queue of work has them; and all before one join, whose row every completion changes.
    for what, workflow, name, size, transactions, goal in (("one at a time", "work", "single", 1, bench.size(1500, 150), at_least(2000)),
                                                           ("one at a time, before one join", "queue", "single", 1, bench.size(1000, 100), None),
                                                           ("100 at a time", "queue", "batch", 100, bench.size(100, 10), at_least(15000))):
        ours, floor = [], []
        clients = CLIENTS if size == 1 else 4
        for _ in range(bench.repeats):  # in turns
            steps = clients * transactions * size
            s.sql("queues", f"TRUNCATE messages; INSERT INTO messages (message) SELECT '{{}}' FROM generate_series(1, {steps}); ANALYZE messages;")
            offer(s, "queues", steps, workflow)
            # As drivers do it: prepared.
            floor.append(s.rate("queues", f"message_{name}.pgbench", "-M", "prepared", "-t", str(transactions), user="bench", clients=clients) * size)
            ours.append(s.rate("queues", f"claim_steps_{name}.pgbench", "-M", "prepared", "-t", str(transactions), user="bench", clients=clients) * size)
            empty(s, "queues")
        bench.row(f"external steps claimed and completed, {what}", statistics.median(ours), "steps/s", statistics.median(floor), goal, named="messages read with SKIP LOCKED, then deleted")
    s.check("queues")
    s.drop("queues")
