# Steps that share a transaction: whatever one of them does, the others do not notice.
use strict;
use warnings;

use TaskerNode;
use Test::More;

# One executor, so that everything goes through one session; batches as long as they may be.
my $t = TaskerNode->start('neighbours', conf => "tasker.max_executors = 1\ntasker.max_batch_duration = 200ms\ndeadlock_timeout = 200ms\n");

$t->sql(<<'SQL');
CREATE ROLE carol;
GRANT carol TO alice;
CREATE TABLE acc.parent (id integer PRIMARY KEY);
CREATE TABLE acc.child (id integer REFERENCES acc.parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE acc.counter (id integer PRIMARY KEY, n integer DEFAULT 0);
INSERT INTO acc.counter SELECT generate_series(1, 4);
CREATE TABLE acc.seen (task_id bigint, what jsonb);
GRANT ALL ON acc.parent, acc.child, acc.counter, acc.seen TO alice, carol;
-- Writes down what it finds on entry, then does what context.a says.
CREATE FUNCTION acc.step_probe(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  INSERT INTO acc.seen SELECT step.task_id, jsonb_build_object('users', session_user || '/' || current_user,
    'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name IN ('work_mem', 'search_path', 'transaction_isolation', 'transaction_read_only',
      'default_transaction_isolation', 'role', 'TimeZone', 'lock_timeout', 'statement_timeout')),
    'temp', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    'prepared', (SELECT count(*) FROM pg_prepared_statements), 'cursors', (SELECT count(*) FROM pg_cursors),
    'advisory', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'));
  IF step.context ? 'a' THEN EXECUTE step.context ->> 'a'; END IF;
  RETURN '{}';
END $$;
SQL

# A fresh name for each story, run so often that its steps share transactions.
sub warm {
  my ($name) = @_;
  $t->alice(definition($name, 'a:step_probe', backoff => '{"base_seconds": 0.1, "jitter": 0}'));
  $t->alice("SELECT count(tasker.create_task('t', '$name')) FROM generate_series(1, 60)");
  $t->all_done("$name: warmed up");
  my ($shared) = $t->sql("SELECT count(*) - count(DISTINCT txid) FROM acc.ledger JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = '$name'");
  cmp_ok($shared, '>', 20, "$name: steps share transactions");
}

# One task for each SQL given ('' for none), in one transaction; their ids.
sub create {
  my ($name, @what) = @_;
  my $values = join ', ', map { "($_, \$sql\$$what[$_]\$sql\$)" } 0 .. $#what;
  return split /\n/, $t->sql("SET ROLE alice; SELECT tasker.create_task('t', '$name', CASE what WHEN '' THEN '{}' ELSE jsonb_build_object('a', what) END) FROM (VALUES $values) AS v (n, what) ORDER BY n");
}

sub states { my $list = join ',', @_; return $t->sql("SELECT s.state, count(*), max(s.attempts) FROM tasker.workflow_steps s WHERE task_id IN ($list) GROUP BY 1 ORDER BY 1") }

# A deferred constraint that fails at commit has one culprit.
warm('deferred');
my @what = ('') x 60;
$what[16] = 'INSERT INTO acc.child VALUES (17)';
my @ids = create('deferred', @what);
$t->all_done('a deferred violation: every task ends');
is(states(@ids), "complete|59|1\nerror|1|1", '59 of 60 complete at their first attempt, one error');
is($t->sql("SELECT state, error ->> 'sqlstate', attempts FROM tasker.workflow_steps WHERE task_id = $ids[16]"), 'error|23503|1', 'blamed on the step that did it');
is($t->sql("SELECT count(*) FROM acc.ledger WHERE task_id IN (@{[join ',', @ids]})"), 59, '59 effects');
$t->ledger_exact('deferred: ledger');

# What a step leaves behind.
warm('leftovers');
@ids = create('leftovers', '', q{SET LOCAL work_mem = '77MB'}, '', q{SELECT set_config('work_mem', '78MB', true)}, q{SET work_mem = '79MB'}, q{SELECT set_config('search_path', 'nowhere', false)}, '',
  'CREATE TEMP TABLE x (i integer) ON COMMIT DROP', 'CREATE TEMP TABLE x (i integer) ON COMMIT DROP', '', 'CREATE TEMP TABLE y AS SELECT 1', 'CREATE TEMP TABLE y AS SELECT 1', '',
  'PREPARE p AS SELECT 1', 'PREPARE p AS SELECT 1', 'SELECT pg_advisory_lock(4711)', '', 'SELECT pg_advisory_xact_lock_shared(4712)',
  'SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY', '', 'SET ROLE carol', '', q{SET statement_timeout = '1ms'}, '', q{SET lock_timeout = 1},
  'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', q{SET TIME ZONE 'Asia/Tokyo'}, '', 'CREATE TEMP SEQUENCE z', '');
$t->all_done('leftovers: every task ends');
is(states(@ids), 'complete|' . @ids . '|1', 'each complete at its first attempt');
is($t->sql("SELECT count(DISTINCT what) FROM acc.seen WHERE task_id IN (@{[join ',', @ids]})"), 1, 'and each has found the session as all others did')
  or diag($t->sql("SELECT min(task_id), count(*), what FROM acc.seen WHERE task_id IN (@{[join ',', @ids]}) GROUP BY what ORDER BY 1"));
is($t->sql("SELECT DISTINCT what ->> 'users', what ->> 'temp', what ->> 'prepared', what ->> 'cursors' FROM acc.seen WHERE task_id IN (@{[join ',', @ids]})"), 'alice/alice|0|0|0', 'which is: clean');
is($t->sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no advisory lock outlives its step');
my @listen = create('leftovers', '', 'LISTEN gossip', '');
$t->all_done('LISTEN: every task ends');
is(states(@listen), "complete|2|1\nerror|1|1", 'LISTEN is refused, its neighbours run');
$t->ledger_exact('leftovers: ledger');

# SET CONSTRAINTS of one step against another that relies on INITIALLY DEFERRED.
warm('constraints');
my $late = 'DO $$ BEGIN INSERT INTO acc.child VALUES (%1$d); INSERT INTO acc.parent VALUES (%1$d); END $$';
@ids = create('constraints', map { $_ % 2 ? 'SET CONSTRAINTS ALL IMMEDIATE' : sprintf $late, 100 + $_ } 0 .. 19);
$t->all_done('SET CONSTRAINTS: every task ends');
is(states(@ids), 'complete|20|1', 'deferred stays deferred for the neighbours');
is($t->sql('SELECT count(*) FROM acc.child'), 10, 'their rows are there');
$t->ledger_exact('constraints: ledger');

# A cancel hits its step only.
warm('cancel');
@ids = create('cancel', ('') x 5, 'SELECT pg_sleep(60)', ('') x 10);
$t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep')}, 'a step sleeps among quick ones', 20);
$t->alice("SELECT tasker.cancel_task($ids[5])");
my $took = $t->all_done('the others go on', 20);
note(sprintf 'a cancelled step let its neighbours go on after %.2f s', $took) if defined $took;
is(states(@ids), "complete|15|1\ncancelled|1|0", 'one cancelled, fifteen complete at their first attempt');
$t->ledger_exact('cancel: ledger');

# A slow step is not waited for: what is finished commits without it, and that costs it no attempt.
warm('slow');
@ids = create('slow', ('') x 5, 'SELECT pg_sleep(6)', ('') x 5);
$took = $t->wait_ok("SELECT bool_and(state = 'complete') FROM tasker.workflow_steps WHERE task_id IN (@{[join ',', @ids[0 .. 4]]})", 'finished neighbours of a slow step commit', 5);
note(sprintf 'finished neighbours of a 6 s step were committed after %.2f s', $took) if defined $took;
$t->all_done('and the slow one ends, too');
is(states(@ids), 'complete|11|1', 'all at their first attempt');
$t->ledger_exact('slow: ledger');

# Deadlocks that only batching makes: each step touches one row, so that alone it cannot be part of one.
$t->sql('ALTER SYSTEM SET tasker.max_executors = 4');
$t->sql('SELECT pg_reload_conf()');
warm('deadlock');
my $from = $t->log_offset;
@ids = create('deadlock', map { sprintf 'UPDATE acc.counter SET n = n + 1 WHERE id = %d; SELECT pg_sleep(0.003)', 1 + ($_ * 7 + int($_ / 5)) % 4 } 0 .. 299);
$t->all_done('deadlocks: every task ends', 90);
my $deadlocks = () = $t->log_since($from) =~ /detected deadlock while waiting/g;
note("deadlocks in the log: $deadlocks");
is(states(@ids), 'complete|300|1', 'no attempt is charged for a deadlock with a neighbour');
is($t->sql('SELECT sum(n) FROM acc.counter'), 300, 'each update is there once');
$t->ledger_exact('deadlock: ledger');

# A slow step keeps nobody back who comes after it in its batch, while others could run them.
warm('slow');
@ids = create('slow', 'SELECT pg_sleep(8)', ('') x 10);
$took = $t->wait_ok("SELECT bool_and(state = 'complete') FROM tasker.workflow_steps WHERE task_id IN (@{[join ',', @ids[1 .. 10]]})", 'neighbours behind a slow step run', 5);
note(sprintf 'neighbours behind an 8 s step were committed after %.2f s', $took) if defined $took;
$t->all_done('and the slow one ends, too');
is(states(@ids), 'complete|11|1', 'all at their first attempt');
$t->ledger_exact('slow first: ledger');

# Settings of the role reach the user's code, never the record.
$t->sql(<<'SQL');
CREATE SCHEMA evil AUTHORIZATION alice;
SET ROLE alice;
CREATE TABLE evil.fired (who text);
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ INSERT INTO evil.fired VALUES (current_user); SELECT timestamptz '1970-01-01' $$;
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO evil.fired VALUES (current_user); SELECT false $$;
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
RESET ROLE;
ALTER ROLE alice SET default_transaction_read_only = on;
ALTER ROLE alice SET default_transaction_isolation = 'serializable';
ALTER ROLE alice SET default_transaction_deferrable = on;
ALTER ROLE alice SET search_path = evil, pg_catalog, public;
ALTER ROLE alice SET role = 'carol';
ALTER ROLE alice SET statement_timeout = '5ms';
ALTER ROLE alice SET row_security = off;
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'tasker executor';
SQL
$t->sql(q{ALTER ROLE alice SET session_replication_role = 'replica'});
@ids = create('cancel', ('') x 30);
$t->all_done('hostile role settings: every task ends');
is(states(@ids), 'complete|30|1', 'and is complete at its first attempt');
is($t->sql("SELECT DISTINCT what ->> 'users', what #>> '{settings,transaction_isolation}', what #>> '{settings,transaction_read_only}' FROM acc.seen WHERE task_id IN (@{[join ',', @ids]})"),
  'alice/alice|read committed|off', 'as the owner, read committed, writable');
is($t->sql('SELECT count(*) FROM evil.fired'), 0, 'nothing of the owner was called by the record');
is($t->sql("SELECT count(*) FROM tasker.workflow_steps WHERE finished_at < '2000-01-01'"), 0, 'nor did it lend its time');
$t->ledger_exact('role settings: ledger');

unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11|changed the identity/, 'nothing crashed');
$t->node->stop;
done_testing();
