#!/usr/bin/env python3
"""A worker of one queue, in Python: claims steps, does them, completes them.

  worker.py QUEUE [CONNECTION]      CONNECTION as psql takes it; default: PGHOST and friends

Works with psycopg 3 (Debian: python3-psycopg) and psycopg2 (python3-psycopg2). What a step is to do is do_step(); replace
it. It gets a connection for writes of its own: they commit together with the completion, or not at all, so that they
happen exactly once. SIGTERM lets the step in hand end, then stops; a lost connection is made again.
"""
import json, os, signal, socket, sys, threading, time

try:
    import psycopg as driver
except ImportError:
    import psycopg2 as driver

LEASE = 30  # seconds; extended while a step goes on
stopping = threading.Event()


def do_step(step, connection):
    """The work of one step. The result is JSON; an exception fails the step, to be tried again."""
    return {"done_by": socket.gethostname(), "order": step["context"].get("order"), "config": step["config"].get("config")}


class Permanent(Exception):
    """Raised by do_step: trying again would not help."""


def query(connection, text, values=()):
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


def keep_lease(where, step, done):
    """Extends the lease from a connection of its own until the step is done. A claim that is void ends the step's chances:
    its completion is refused, whatever was written for it goes."""
    while not done.wait(LEASE / 3):
        try:
            connection = driver.connect(where, client_encoding="UTF8")
            query(connection, "SELECT tasker.extend_lease(%s, %s, %s::uuid, make_interval(secs => %s))", (*step["key"], LEASE))
            connection.commit()
            connection.close()
        except driver.OperationalError:
            pass  # the server is away: there is time for two more tries
        except driver.Error as error:
            print(f"worker: {error}", file=sys.stderr, flush=True)
            return


def run(where, connection, step):
    step["key"] = (step["task_id"], step["step_name"], str(step["claim_token"]))
    done = threading.Event()
    keeper = threading.Thread(target=keep_lease, args=(where, step, done), daemon=True)
    keeper.start()
    try:
        result = do_step(step, connection)
        query(connection, "SELECT tasker.complete_step(%s, %s, %s::uuid, %s::jsonb)", (*step["key"], json.dumps(result)))
    except driver.OperationalError:
        raise  # not the step's fault: its lease ends, and it is done again
    except Exception as error:
        connection.rollback()  # what it wrote is gone
        if getattr(error, "sqlstate", getattr(error, "pgcode", None)) == "TK003":
            print(f"worker: {error}", file=sys.stderr, flush=True)  # somebody else's by now
        else:
            query(connection, "SELECT tasker.fail_step(%s, %s, %s::uuid, %s, %s)", (*step["key"], str(error) or repr(error), not isinstance(error, Permanent)))
    finally:
        done.set()
    connection.commit()


def main():
    queue, where = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            connection = driver.connect(where, client_encoding="UTF8")
            while not stopping.is_set():
                steps = query(connection, "SELECT * FROM tasker.claim_steps(%s, %s, 1, make_interval(secs => %s), '5 s')", (queue, worker, LEASE))
                connection.commit()  # the claim: from here on the step is ours
                for step in steps:
                    run(where, connection, step)
        except driver.OperationalError as error:
            print(f"worker: {error}", file=sys.stderr, flush=True)
            stopping.wait(1)  # and again


if __name__ == "__main__":
    main()
