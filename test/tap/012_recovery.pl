# What is killed comes back, once, with growing patience; what was hit pays, and nobody beside it.
use strict;
use warnings;

use IPC::Run;
use List::Util qw(max min);
use PostgreSQL::Test::Utils qw(slurp_file);
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

# One executor, so that everything goes through one session; batches as long as they may be.
my $t = TaskerNode->start('recovery', conf => "tasker.max_executors = 1\ntasker.max_batch_duration = 200ms\n");
my $node = $t->node;
my ($rc) = $t->try_sql(q{SET tasker.fault = 'none:error'});
my $faults = $rc == 0;

$t->sql(<<'SQL');
CREATE TABLE acc.parent (id integer PRIMARY KEY);
CREATE TABLE acc.child (late integer REFERENCES acc.parent DEFERRABLE INITIALLY DEFERRED, once integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO acc.child (once) VALUES (1);
CREATE TABLE acc.skew (id integer PRIMARY KEY, n integer);
INSERT INTO acc.skew VALUES (1, 0), (2, 0);
GRANT ALL ON acc.parent, acc.child, acc.skew TO alice;
-- Does what context.a says before its effect: what a transaction has written by then is its neighbours'.
CREATE FUNCTION acc.step_after(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  IF step.context ? 'a' THEN EXECUTE step.context ->> 'a'; END IF;
  RETURN acc.note(step);
END $$;
SQL

sub ids { return join ',', @_ }
sub set { my ($what) = @_; $t->sql("ALTER SYSTEM SET $what"); $t->sql('SELECT pg_reload_conf()') }
# One task for each SQL given ('' for none), in one transaction; their ids.
sub create {
  my ($name, @what) = @_;
  my $values = join ', ', map { "($_, \$sql\$$what[$_]\$sql\$)" } 0 .. $#what;
  return split /\n/, $t->sql("SET ROLE alice; SELECT tasker.create_task('t', '$name', CASE what WHEN '' THEN '{}' ELSE jsonb_build_object('a', what) END) FROM (VALUES $values) AS v (n, what) ORDER BY n");
}
# So many quick runs that its steps share transactions.
sub warm {
  my ($name) = @_;
  $t->alice("SELECT count(tasker.create_task('t', '$name')) FROM generate_series(1, 40)");
  $t->wait_for('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live)', 60) // die "$name: not warm";
}
# state and attempts of first and second steps, and how many there are
sub ends {
  return $t->sql("SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT step_no || ':' || state || ':' || attempts || 'x' || count(*) AS x FROM tasker.workflow_steps WHERE task_id IN (@{[ids(@_)]})
    GROUP BY step_no, state, attempts) AS s");
}
sub failures { return $t->sql("SELECT string_agg(concat_ws(':', task_id, step_no, metadata #>> '{error,sqlstate}', metadata #>> '{error,category}', metadata #>> '{error,retryable}'), ' ')
  FROM tasker.workflow_step_transitions WHERE to_state = 'error' AND task_id IN (@{[ids(@_)]})") }
# Log lines that match, as epochs.
sub times_of {
  my ($from, $pattern) = @_;
  my @stamps = map { /^(\S+ \S+ UTC)/ } grep { /$pattern/ } split /\n/, $t->log_since($from);
  return () if !@stamps;
  return split /\n/, $t->sql('SELECT round(extract(epoch FROM v::timestamptz), 3) FROM unnest(ARRAY[' . join(', ', map { "'$_'" } @stamps) . ']) AS v');
}
sub gaps { return map { sprintf '%.2f', $_[$_] - $_[ $_ - 1 ] } 1 .. $#_ }

my %quick = (backoff => '{"base_seconds": 0.1, "multiplier": 1, "jitter": 0}');
$t->alice(join '; ', definition('after', 'a:step_after; b:step < a', %quick), definition('work', 'a:step_do; b:step < a', %quick));

# A signal hits the step that runs: neighbours that have finished in the same transaction, and those still to come, do not
# notice, whether it rolls back a savepoint or takes the whole transaction with it.
for my $function ('pg_cancel_backend', 'pg_terminate_backend') {
  my ($pid, $xid, @ids);
  for my $try (1 .. 5) {
    warm('after');
    $t->close_gates(1);
    @ids = create('after', ('') x 8, 'SELECT acc.pass(1)', ('') x 8);
    $pid = $t->wait_at_gate(1);
    # A batch that is held up for over a second is split: then it is too late, and another one is tried.
    $xid = $t->sql("SELECT backend_xid FROM pg_stat_activity WHERE pid = $pid");
    last if $xid;
    $t->open_gates(1);
    $t->all_done("$function: too late");
  }
  ok($xid, "$function: neighbours have written in the transaction of the step that runs");
  is($t->sql("SELECT $function($pid)"), 't', "$function sent");
  $t->open_gates(1);
  $t->all_done("$function: every task ends");
  is(ends(@ids), '1:complete:1x16 1:complete:2x1 2:complete:1x17', "$function: one attempt of one step");
  is(failures(@ids), "$ids[8]:1:@{[$function eq 'pg_cancel_backend' ? '57014' : '57P01']}:cancelled:true", "$function: a retryable failure, and no other in the history");
  my $shared = $t->sql("SELECT count(*) FROM acc.ledger WHERE txid = '$xid' AND task_id IN (@{[ids(@ids)]})");
  if ($function eq 'pg_cancel_backend') { cmp_ok($shared, '>', 0, "$function: what the neighbours had done is kept") }
  else { is($shared, 0, "$function: the transaction is gone, and was done again") }
  is($t->sql("SELECT count(*) FROM tasker.workflow_steps WHERE task_id IN (@{[ids(@ids)]}) AND step_no = 1 AND result IS DISTINCT FROM jsonb_build_object('attempt', attempts)"), 0, "$function: every result is there");
  $t->ledger_exact("$function: ledger");
}

# A signal between handlers hits nobody: not the record that is being written, nor the step that comes next.
sub pause { return "1413829461, hashtext('$_[0]')" }
sub paused { return "FROM pg_locks WHERE locktype = 'advisory' AND classid = 1413829461 AND objid = (hashtext('$_[0]')::bigint & 4294967295)::oid AND NOT granted" }
SKIP: {
  skip 'the library has no fault points (build with FAULTS=1)', 1 if !$faults;
  my $holder = $node->background_psql('postgres');
  for my $point (qw(record.before commit.before commit.after)) {
    for my $function ('pg_cancel_backend', 'pg_terminate_backend') {
      warm('work');
      my $from = $t->log_offset;
      $holder->query_safe("SELECT pg_advisory_lock(@{[pause($point)]})");
      # Another word for the same: a point that is armed as before has been hit already.
      my $armed = $function eq 'pg_cancel_backend' ? "$point:pause" : "$point:pause:1";
      set("tasker.fault = '$armed'");
      $t->wait_for("SELECT current_setting('tasker.fault') = '$armed'", 10) // die 'not armed';
      my @ids = create('work', ('') x 8);
      $t->wait_ok("SELECT EXISTS (SELECT @{[paused($point)]})", "$point: an executor pauses", 20) // die;
      my $pid = $t->sql("SELECT pid @{[paused($point)]} LIMIT 1");
      is($t->sql("SELECT $function($pid)"), 't', "$point: $function sent");
      if ($function eq 'pg_cancel_backend') { is($t->sql("SELECT pid @{[paused($point)]}"), $pid, "$point: it stays where it is") }
      else { $t->wait_ok("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "$point: it goes", 10) }
      set("tasker.fault = ''");
      $holder->query_safe("SELECT pg_advisory_unlock(@{[pause($point)]})");
      $t->all_done("$point: $function: every task ends");
      is(ends(@ids), '1:complete:1x8 2:complete:1x8', "$point: $function: no attempt is charged");
      is(failures(@ids), '', "$point: $function: no failure in the history");
      unlike($t->log_since($from), qr/could not run steps/, "$point: $function: nothing went wrong") if $function eq 'pg_cancel_backend';
      $t->ledger_exact("$point: $function: ledger");
    }
  }
  $holder->quit;
}

# The processes of a server that dies or stops end in any order. A dispatcher that sees its executor gone first, in the middle
# of a step, takes that for no termination.
{
  my $born = $t->sql('SELECT pg_postmaster_start_time()');
  my ($id) = create('work', "SELECT pg_sleep(60) WHERE pg_postmaster_start_time() = '$born'");
  $t->wait_ok("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep')", 'postmaster killed: a step runs');
  my ($executor) = $t->pids('executor');
  my ($dispatcher) = $t->pids('dispatcher');
  my $went;
  kill STOP => $dispatcher;
  $t->kill_postmaster(sub {
    my $until = time + 30;
    until ($went = !-e "/proc/$executor" || slurp_file("/proc/$executor/stat") =~ /\) Z /) { last if time > $until }
    kill CONT => $dispatcher;
  });
  ok($went, 'postmaster killed: the executor went before the dispatcher');
  $t->all_done('postmaster killed: every task ends');
  is(ends($id), '1:complete:1x1 2:complete:1x1', 'postmaster killed: no attempt is charged');
  is(failures($id), '', 'postmaster killed: no failure in the history');
  $t->ledger_exact('postmaster killed: ledger');
}

# What fails only at the commit is the failure of the steps that did it.
warm('work');
my @what = ('') x 32;
$what[9] = 'INSERT INTO acc.child (late) VALUES (99)';
$what[20] = 'INSERT INTO acc.child (once) VALUES (1)';
my @ids = create('work', @what);
$t->all_done('deferred constraints: every task ends');
is(ends(@ids), '1:complete:1x30 1:error:1x2 2:complete:1x30 2:pending:0x2', 'deferred constraints: thirty are complete at their first attempt, two are not');
is(failures(@ids), "$ids[9]:1:23503:validation:false $ids[20]:1:23505:validation:false", 'deferred constraints: each is blamed for what it did');
is($t->alice("SELECT string_agg(task_id || ' ' || step_name || ' ' || (error ->> 'message'), E'\\n' ORDER BY task_id) FROM tasker.dead_letters WHERE task_id IN (@{[ids(@ids)]})"),
  qq{$ids[9] a insert or update on table "child" violates foreign key constraint "child_late_fkey"\n$ids[20] a duplicate key value violates unique constraint "child_once_key"}, 'both are dead letters');
$t->ledger_exact('deferred constraints: ledger');

# Two serializable transactions that each read what the other writes: the step is told when it has finished.
$t->sql(<<'SQL');
CREATE FUNCTION acc.step_skew(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  PERFORM n FROM acc.skew WHERE id = 2;
  UPDATE acc.skew SET n = n + 1 WHERE id = 1;
  PERFORM acc.pass(1);
  RETURN '{}';
END $$
SQL
$t->alice(definition('skew', 'a:step_skew', own_transaction => 'true', isolation => '"serializable"', %quick));
$t->close_gates(1);
my ($id) = create('skew', '');
$t->wait_at_gate(1);
$t->sql('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT n FROM acc.skew WHERE id = 1; UPDATE acc.skew SET n = n + 1 WHERE id = 2; COMMIT');
$t->open_gates(1);
$t->all_done('write skew: the task ends');
is(ends($id), '1:complete:2x1', 'write skew: complete at the second attempt');
is(failures($id), "$id:1:40001:conflict:true", 'write skew: a serialization failure, retried');
is($t->sql('SELECT n FROM acc.skew ORDER BY id'), "1\n1", 'write skew: each update is there once');
$t->ledger_exact('write skew: ledger');

# A session that runs a task itself, and is terminated: the background goes on with it.
$t->sql('CREATE FUNCTION acc.step_gate(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS $$ SELECT acc.note(step); SELECT acc.pass(2); SELECT jsonb_build_object() $$');
$t->alice(definition('by_hand', 'a:step_gate; b:step < a', %quick));
$t->close_gates(2);
my $by_hand = $t->alice(q{SELECT tasker.create_task('t', 'by_hand', run_at => clock_timestamp() + interval '1 hour')});
my ($out, $err) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'alice', '-c', "CALL tasker.run_task($by_hand, skip_waits => true)" ],
  '<', '/dev/null', '>', \$out, '2>', \$err, IPC::Run::timeout(60));
my $caller = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE 'CALL tasker.run_task%' AND wait_event = 'advisory'";
$t->wait_ok("SELECT EXISTS (SELECT $caller)", 'run_task: its session is in the step', 20);
is($t->sql("SELECT pg_terminate_backend(pid, 10000) $caller"), 't', 'run_task: its session is terminated');
$session->finish;
like($err, qr/terminating connection/, 'run_task: and told so');
$t->open_gates(2);
$t->sql("UPDATE tasker.tasks SET run_at = clock_timestamp() WHERE task_id = $by_hand");
$t->alice("SELECT tasker.pause_task($by_hand)");
$t->alice("SELECT tasker.resume_task($by_hand)");
$t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $by_hand", 'run_task: the task is completed by the background', 20);
$t->ledger_exact('run_task: ledger');

# Launcher and dispatcher are ended again and again: each comes back, no oftener than it was ended, and work goes on.
for my $kind (qw(launcher dispatcher)) {
  my $from = $t->log_offset;
  my @took;
  for my $n (1 .. 5) {
    $t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker $kind')", 20) // die "no $kind";
    my ($old) = $t->pids($kind);
    my ($task) = create('work', '');
    my $begun = time;
    $t->sql("SELECT pg_terminate_backend($old)");
    $t->wait_ok("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker $kind' AND pid <> $old)", "$kind $n is followed by another one", 20) // last;
    push @took, sprintf '%.2f', time - $begun;
    $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $task", "$kind $n: a task that was created meanwhile runs", 20);
  }
  is(scalar(() = $t->log_since($from) =~ /background worker "tasker $kind" \(PID \d+\) exited/g), 5, "$kind: it ended as often as it was ended");
  note("$kind: back after @took s");
}
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps WHERE task_id > ' . $id), 1, 'and no attempt is charged for that');

# Those that fail at each start wait longer each time.
my ($from, $until, $took);
SKIP: {
  skip 'the library has no fault points (build with FAULTS=1)', 1 if !$faults;
  my @old = $t->pids('dispatcher');
  $from = $t->log_offset;
  set(q{tasker.fault = 'dispatcher.start:error'});
  $t->wait_for(q{SELECT current_setting('tasker.fault') <> ''}, 10) // die 'not armed';
  $t->sql("SELECT pg_terminate_backend($_)") for @old;
  ($id) = create('work', '');
  $until = time + 30;
  my @starts;
  do { $t->wait_for('SELECT true', 1); @starts = times_of($from, qr/fault point dispatcher\.start/) } until @starts >= 4 || time > $until;
  my @gaps = gaps(@starts);
  note("a dispatcher that fails at each start is started again after @gaps s");
  is(scalar @starts, 4, 'four starts have failed');
  cmp_ok($gaps[$_], '>', 1.5 * $gaps[ $_ - 1 ], "each pause is longer than the one before: $gaps[$_] s") for 1 .. $#gaps;
  like($t->sql('SELECT reasons FROM tasker.health_status()'), qr/dispatcher of this database has failed \d times in a row/, 'health says so');
  is($t->sql("SELECT state FROM tasker.tasks WHERE task_id = $id"), 'pending', 'nothing runs meanwhile');
  set(q{tasker.fault = ''});
  $took = $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $id", 'once the fault is mended, it recovers', 30);
  note(sprintf 'work went on %.1f s after the fault was mended', $took) if defined $took;
  unlike($t->sql('SELECT reasons FROM tasker.health_status()'), qr/in a row/, 'and health has nothing more to say');

  # The launcher is PostgreSQL's to start again: once a second.
  $from = $t->log_offset;
  set(q{tasker.fault = 'launcher.start:error'});
  $t->wait_for(q{SELECT current_setting('tasker.fault') <> ''}, 10) // die 'not armed';
  $t->sql("SELECT pg_terminate_backend($_)") for $t->pids('launcher');
  $until = time + 20;
  do { $t->wait_for('SELECT true', 1); @starts = times_of($from, qr/fault point launcher\.start/) } until @starts >= 4 || time > $until;
  @gaps = gaps(@starts);
  note("a launcher that fails at each start is started again after @gaps s");
  cmp_ok(min(@gaps), '>', 0.9, 'not oftener');
  ($id) = create('work', '');
  $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $id", 'a dispatcher needs no launcher to go on', 20);
  set(q{tasker.fault = ''});
  $t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker launcher') AND (SELECT status <> 'unhealthy' FROM tasker.health_status())}, 'the launcher is back', 20);

  # Executors that end at their start, and such that take steps but cannot finish any.
  for my $fault ('executor.start:error', 'commit.before:fatal') {
    my ($point) = split /:/, $fault;
    $t->sql(q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
    $from = $t->log_offset;
    set("tasker.fault = '$fault'");
    $t->wait_for("SELECT current_setting('tasker.fault') = '$fault'", 10) // die 'not armed';
    ($id) = create('work', '');
    $until = time + 30;
    do { $t->wait_for('SELECT true', 1); @starts = times_of($from, qr/fault point \Q$point\E/) } until @starts >= 4 || time > $until;
    @gaps = gaps(@starts);
    note("executors that fail at $point are started again after @gaps s");
    is(scalar @starts, 4, "$point: four executors have failed");
    cmp_ok($gaps[$_], '>', 1.5 * $gaps[ $_ - 1 ], "$point: each pause is longer than the one before: $gaps[$_] s") for 1 .. $#gaps;
    set(q{tasker.fault = ''});
    $took = $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $id", "$point: once the fault is mended, they recover", 30);
    note(sprintf '%s: work went on %.1f s after the fault was mended', $point, $took) if defined $took;
    is(ends($id), '1:complete:1x1 2:complete:1x1', "$point: and no attempt is charged");
    # What has worked is trusted again: the first pause is short.
    $t->sql(q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
    $from = $t->log_offset;
    set("tasker.fault = '$fault:1'");
    $t->wait_for("SELECT current_setting('tasker.fault') = '$fault:1'", 10) // die 'not armed';
    ($id) = create('work', '');
    $until = time + 30;
    do { $t->wait_for('SELECT true', 1); @starts = times_of($from, qr/fault point \Q$point\E/) } until @starts >= 2 || time > $until;
    cmp_ok((gaps(@starts))[0], '<', 4, "$point: the pause is short again") if is(scalar @starts, 2, "$point: two more have failed");
    set(q{tasker.fault = ''});
    $t->all_done("$point: and recovered");
    $t->ledger_exact("$point: ledger");
  }
}
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11/, 'nothing crashed');
$node->stop;

# A worker table that others have filled: one warning, and work goes on with what there is.
$t = TaskerNode->start('full', conf => "max_worker_processes = 8\nmax_parallel_workers = 8\ntasker.reserved_worker_slots = 0\ntasker.max_executors = 8\ntasker.executor_idle_timeout = 1s\n");
$node = $t->node;
$t->alice(definition('nap', 'a:step_sleep'));
sub nap { my ($n, $sleep) = @_; return split /\n/, $t->alice(qq{SELECT tasker.create_task('t', 'nap', '{"sleep": $sleep}') FROM generate_series(1, $n)}) }
sub warnings_since { return scalar(() = $t->log_since($_[0]) =~ /WARNING:  tasker: no free background worker slot/g) }
my $force = $t->sql(q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
my @holders;
# Parallel workers of that many sessions sleep.
sub hold {
  my ($n) = @_;
  push @holders, map { IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET $force = on", '-c', 'SELECT pg_sleep(3600)' ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') } 1 .. $n;
  $t->wait_for("SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'parallel worker'", 20) // die 'slots are not held';
}
sub let_go {
  my ($n) = @_;
  $t->sql("SELECT pg_cancel_backend(leader_pid) FROM pg_stat_activity WHERE backend_type = 'parallel worker' LIMIT $n");
}
sub executors { return $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tasker executor'}) }

nap(1, 0);
$t->all_done('the dispatcher is there');
$t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor')}, 'and no executor', 20);
my $taken = $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('tasker launcher', 'tasker dispatcher', 'logical replication launcher')});
my $free = 8 - $taken;
$from = $t->log_offset;
hold($free);
@ids = nap(20, 0.1);
$until = time + 10;
$t->wait_for('SELECT true', 1) until warnings_since($from) > 0 || time > $until;
is(executors(), 0, 'all slots are held by others: no executor');
is($t->sql("SELECT count(*) FROM tasker.tasks WHERE live"), 20, 'and nothing runs');
let_go(1);
$took = $t->all_done('with one slot work goes on', 60);
note(sprintf '20 steps of 0.1 s took %.1f s from one slot becoming free', $took) if defined $took;
cmp_ok($took, '<', 10, 'at the pace of one executor') if defined $took;
is(warnings_since($from), 1, 'one warning');
like($t->log_since($from), qr/WARNING:  tasker: no free background worker slot\n.*DETAIL:  .*\n.*HINT:  Raise max_worker_processes\./, 'which says what to do');
is($t->sql("SELECT count(*), max(attempts), min(state) FROM tasker.workflow_steps WHERE task_id IN (@{[ids(@ids)]})"), '20|1|complete', 'all complete at their first attempt');

# Room again: more executors come while there is work.
@ids = nap(40, 0.5);
let_go($free - 1);
$t->wait_ok(q{SELECT count(*) >= 3 FROM pg_stat_activity WHERE backend_type = 'tasker executor'}, 'when slots become free, more executors come', 15);
$t->all_done('and work ends', 60);
is(warnings_since($from), 1, 'still one warning');
$t->ledger_exact('full table: ledger');
$_->finish for @holders;

# A table that is too small from the start.
$node->append_conf('postgresql.conf', "max_worker_processes = @{[$taken + 1]}\ntasker.reserved_worker_slots = 2\n");
$from = $t->log_offset;
$node->restart;
@ids = nap(10, 0.1);
$took = $t->all_done('with a table that has room for one executor work goes on', 60);
note(sprintf '10 steps of 0.1 s took %.1f s with one executor', $took) if defined $took;
is(warnings_since($from), 1, 'one warning says that it is too small');
like($t->sql('SELECT reasons FROM tasker.health_status()'), qr/max_worker_processes/, 'and health does');
$t->ledger_exact('small table: ledger');
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11/, 'nothing crashed');
$node->stop;
done_testing();
