# Memory under pressure: executors that have grown are replaced between steps, whatever made them grow; and a kernel that refuses
# memory costs attempts and processes, never a step, and never the server.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;

# One executor at a time, so that everything that grows, grows in one place.
my $t = TaskerNode->start('memory', conf => "tasker.max_executors = 1\ntasker.executor_idle_timeout = 60s\ntasker.max_batch_duration = 200ms\ntasker.concurrency_interval = 1h\n");
my $node = $t->node;
$t->sql(<<'SQL');
GRANT SELECT ON pg_backend_memory_contexts TO alice;
GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO alice;
CREATE TABLE acc.grown (task_id bigint, pid integer, held bigint, at timestamptz DEFAULT clock_timestamp());
GRANT ALL ON acc.grown TO alice;
CREATE FUNCTION acc.measure(task_id bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO acc.grown SELECT $1, pg_backend_pid(), sum(total_bytes) FROM pg_backend_memory_contexts
$$;
-- The session remembers every name that it has looked for in vain: about a megabyte of them.
CREATE FUNCTION acc.step_looks(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step), acc.measure(step.task_id);
  PERFORM count(to_regclass('nobody_' || step.task_id || '_' || i)) FROM generate_series(1, 2500) AS i;
  RETURN '{}';
END $$;
-- Wants 400 MB, once its gate is open.
CREATE FUNCTION acc.step_huge(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step), acc.measure(step.task_id), acc.pass(1);
  RETURN to_jsonb(length(repeat('x', 400000000)));
END $$;
SQL
my $keys_retry = '{"base_seconds": 0.2, "multiplier": 1, "jitter": 0}';
$t->alice(definition($_->[0], "a:$_->[1]", max_attempts => 100, backoff => $keys_retry)) for [ 'looks', 'step_looks' ], [ 'huge', 'step_huge' ], [ 'quick', 'step' ];

sub reload { my ($name, $value) = @_; $t->sql("ALTER SYSTEM SET tasker.$name = '$value'"); $t->sql('SELECT pg_reload_conf()'); $t->wait_ok("SELECT current_setting('tasker.$name') = '$value'", "$name is $value", 10) }
sub executors_gone { $t->sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'tasker executor'}); $t->sql('TRUNCATE acc.grown') }
sub create { my ($name, $n) = @_; return split /\n/, $t->alice("SELECT tasker.create_tasks('t', '$name', array_fill('{}'::jsonb, ARRAY[$n]))") }
sub states { my $list = join ',', @_; return $t->sql("SELECT s.state, count(*), max(s.attempts) FROM tasker.workflow_steps s WHERE task_id IN ($list) GROUP BY 1 ORDER BY 1") }
my $postmaster = $t->sql('SELECT pg_postmaster_start_time()');
sub no_crash {
  my ($what) = @_;
  is($t->sql('SELECT pg_postmaster_start_time()'), $postmaster, "$what: the server is the same");
  unlike($t->log_since(0), qr/PANIC|TRAP:|terminated by signal|terminating any other active|changed the identity/, "$what: and no process crashed");
}

# ---- a session that grows is replaced between steps ----
my $MB = 1024 * 1024;
sub leaks {
  my ($name) = @_;
  reload('executor_max_memory', '1GB');
  executors_gone();
  my @ids = create($name, 60);
  $t->all_done("$name: sixty steps");
  is($t->sql('SELECT count(DISTINCT pid) FROM acc.grown'), 1, "$name: with much memory allowed, in one executor");
  my $held = $t->sql('SELECT max(held) FROM acc.grown');
  cmp_ok($held, '>', 40 * $MB, sprintf '%s: which has grown to %d MB', $name, $held / $MB);

  reload('executor_max_memory', '16MB');
  executors_gone();
  push @ids, create($name, 60);
  $t->all_done("$name: sixty more");
  my $seen = $t->sql('SELECT count(DISTINCT pid) FROM acc.grown');
  cmp_ok($seen, '>=', 4, "$name: with 16 MB allowed, in $seen executors");
  $held = $t->sql('SELECT max(held) FROM acc.grown');
  # Memory is measured once in eight steps.
  cmp_ok($held, '<=', 27 * $MB, sprintf '%s: no step began in one with more than %.1f MB', $name, $held / $MB);
  is(states(@ids), 'complete|120|1', "$name: each step complete at its first attempt");
  $t->ledger_exact("$name: ledger");
}
leaks('looks');

# ---- the same with a handler in C ----
my $C = <<'C';
#include "postgres.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(leak);
/* A handler: its effect, then a megabyte that nobody gives back. */
Datum leak(PG_FUNCTION_ARGS)
{
	Datum step = PG_GETARG_DATUM(0);
	Oid type = HeapTupleHeaderGetTypeId(DatumGetHeapTupleHeader(step));

	SPI_connect();
	if (SPI_execute_with_args("SELECT acc.note($1), acc.measure(($1).task_id)", 1, &type, &step, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "no effect");
	SPI_finish();
	memset(MemoryContextAlloc(TopMemoryContext, 1024 * 1024), 1, 1024 * 1024);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}
C


sub compile {
  my $dir = PostgreSQL::Test::Utils::tempdir;
  PostgreSQL::Test::Utils::append_to_file("$dir/leak.c", $C);
  my %config = map { $_ => (split /\n/, `$ENV{PG_CONFIG} --$_`)[0] // '' } qw(cc cflags cflags_sl includedir-server);
  my $cc = $ENV{CC} || $config{cc};
  return (undef, "no C compiler ($cc)") unless PostgreSQL::Test::Utils::run_log([ 'sh', '-c', "command -v $cc" ]);
  my $headers = $config{'includedir-server'};
  return (undef, "no headers of the server in $headers") unless -e "$headers/postgres.h";
  die 'the leaking handler does not compile' if system "$cc $config{cflags} $config{cflags_sl} -I $headers -shared -o $dir/leak.so $dir/leak.c";
  return "$dir/leak.so";
}

SKIP: {
  local $ENV{PG_CONFIG} = $ENV{PG_CONFIG} || 'pg_config';
  my ($library, $missing) = compile();
  skip $missing, 1 unless $library;
  $t->sql("CREATE FUNCTION acc.step_leak(step tasker.step_call) RETURNS jsonb LANGUAGE c AS '$library', 'leak'");
  $t->alice(definition('leak', 'a:step_leak'));
  leaks('leak');
}
no_crash('leaks');

# ---- the kernel refuses ----
SKIP: {
  skip 'no prlimit', 1 unless PostgreSQL::Test::Utils::run_log([ 'prlimit', '--version' ]);
  # May hold so many MB of addresses more than now; undef: as many as it likes.
  sub confine {
    my ($pid, $more) = @_;
    my ($pages) = split / /, slurp_file("/proc/$pid/statm");
    my $soft = defined $more ? int($pages * 4096 + $more * $MB) : 'unlimited';
    PostgreSQL::Test::Utils::system_or_bail('prlimit', "--pid=$pid", "--as=$soft:");
  }

  # A step that wants too much has failed for want of memory; nothing else notices.
  reload('executor_max_memory', '1GB');
  executors_gone();
  my @before = create('quick', 20);
  $t->all_done('quick steps');
  $t->close_gates(1);
  my ($huge) = create('huge', 1);
  my @after = create('quick', 100);
  my $pid = $t->wait_at_gate(1);
  confine($pid, 100);
  my $from = $t->log_offset;
  $t->open_gates(1);
  my $failed = "FROM tasker.step_moves WHERE task_id = $huge AND to_state = 'error'";
  $t->wait_ok("SELECT EXISTS (SELECT $failed)", 'refused memory, the step fails');
  is($t->sql("SELECT metadata #>> '{error,sqlstate}', metadata #>> '{error,category}', metadata #>> '{error,retryable}' $failed"), '53200|resource|true',
    'out of memory, a matter of resources, tried again');
  $t->wait_ok("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'its executor is replaced');
  $t->wait_ok("SELECT bool_and(state = 'complete') FROM tasker.workflow_steps WHERE task_id IN (@{[join ',', @after]})", 'its neighbours are complete');
  is(states(@after), 'complete|100|1', 'each at its first attempt');
  confine($_, undef) for $t->pids('executor');
  $t->all_done('the limit lifted, it is complete');
  my ($attempts) = $t->sql("SELECT attempts FROM tasker.workflow_steps WHERE task_id = $huge");
  cmp_ok($attempts, '>=', 2, "at attempt $attempts");
  no_crash('a step');

  # Executors that can have nothing any more: wherever it strikes.
  for my $more (0, 1, 8, 16, 24) {
    executors_gone();
    $t->close_gates(1);
    $t->sql(q{CREATE OR REPLACE FUNCTION acc.step_huge(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
      BEGIN PERFORM acc.note(step), acc.measure(step.task_id), acc.pass(1); RETURN '{}'; END $$});
    my @ids = (create('huge', 1), create('looks', 40), create('quick', 200));
    $pid = $t->wait_at_gate(1);
    confine($pid, $more);
    $from = $t->log_offset;
    $t->open_gates(1);
    $t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live) OR EXISTS (SELECT FROM tasker.workflow_steps WHERE attempts > 1 OR error ->> 'sqlstate' = '53200')"
      . " OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "$more MB left: it strikes", 30);
    $t->all_done("$more MB left to an executor: every task ends");
    like(states(@ids), qr/^complete\|241\|\d+$/, "$more MB: all complete");
    $t->wait_ok("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "$more MB: the executor is replaced");
    my $lines = () = $t->log_since($from) =~ /could not run steps/g;
    cmp_ok($lines, '<=', 5, "$more MB: told in $lines lines");
    note("$more MB: most attempts, tasks with more than one, executors: ", $t->sql("SELECT max(attempts), count(*) FILTER (WHERE attempts > 1), (SELECT count(DISTINCT pid) FROM acc.grown) FROM tasker.workflow_steps WHERE task_id IN (@{[join ',', @ids]})"));
    no_crash("$more MB");
  }

  # The dispatcher: it goes and comes again, and nothing is lost.
  for my $more (0, 1) {
    my ($dispatcher) = $t->pids('dispatcher');
    confine($dispatcher, $more);
    $from = $t->log_offset;
    $t->alice(q{SELECT count(tasker.create_task('t', 'quick')) FROM generate_series(1, 3000)});
    $t->alice(definition("later$_", 'a:step; b:step < a; c:step < b')) for 1 .. 40;
    $t->alice(qq{SELECT count(tasker.create_task('t', 'later' || (1 + n % 40))) FROM generate_series(1, 400) AS n});
    $t->all_done("$more MB left to the dispatcher: every task ends");
    note("dispatcher $dispatcher, then ", $t->pids('dispatcher'), '; out of memory in the log: ', scalar(() = $t->log_since($from) =~ /out of memory/g));
    is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps s JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name LIKE \'later%\''), 1, 'each at its first attempt');
    no_crash("dispatcher, $more MB");
    $t->sql("SELECT pg_terminate_backend($dispatcher, 10000)");
    $t->wait_ok("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND pid <> $dispatcher)", 'a dispatcher is there');
  }
  $t->ledger_exact('refused memory: ledger');
}

$node->stop;
done_testing();
