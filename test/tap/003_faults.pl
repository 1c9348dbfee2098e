# Every fault point × every action, under a mixed workload: the ledger is exact afterwards and nothing is stuck.
use strict;
use warnings;

use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $bound = 15;  # seconds from disarming to the end of the last task
my $t = TaskerNode->start('faults', conf => "fsync = on\n");
my $node = $t->node;
my ($rc, undef, $unknown) = $t->try_sql(q{SET tasker.fault = 'none:error'});
plan skip_all => 'the library has no fault points (build with FAULTS=1)' if $rc != 0;

# Retries are many and quick: an armed point may fail an attempt in each new process.
my %keys = (max_attempts => 40, backoff => '{"base_seconds": 0.05, "multiplier": 1, "jitter": 0}');
$t->alice(join '; ',
  definition('chain', 'a:step; b:step < a; c:step < b; d:step < c', %keys),
  definition('diamond', 'a:step; b:step < a; c:step < a; d:step < b, c; e:- < d', %keys),
  definition('flaky', 'a:step_flaky; b:step < a', %keys));

my @points = qw(create.after_insert run.before_handler run.after_handler record.before record.after commit.before commit.after
  dispatcher.pass dispatcher.start launcher.start executor.start);
my @kinds = qw(chain diamond flaky);
my $round = 0;

# Creates the tasks of this round that are not there yet, whatever fails on the way; says how many are.
sub create {
  my @calls = map { my $kind = $_; map { qq(SELECT tasker.create_task('t', '$kind', '{"good": 2}', idempotency_key => 'r$round-$_')) } 1 .. 4 } @kinds;
  my (undef, undef, $stderr) = $t->try_sql(\@calls, user => 'alice');
  return $stderr // '';
}

# After each start of the server: runs enough that steps share transactions again, so that the points are hit in batches too.
sub warm {
  $t->alice(join '; ', map { qq(SELECT count(tasker.create_task('t', '$_', '{"good": 1}')) FROM generate_series(1, 15)) } @kinds);
  $t->wait_for('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live)', 30) // die 'not warm';
}

sub arm {
  my ($fault) = @_;
  $t->sql("ALTER SYSTEM SET tasker.fault = '$fault'");
  $t->try_sql('SELECT pg_reload_conf()');  # a kill may hit at once and take this session with it
  # The postmaster has read it when a new session sees it.
  $t->wait_for("SELECT current_setting('tasker.fault') = '$fault'", 10) // die "not armed: $fault";
}

my @table;
for my $point (@points) {
  for my $action (qw(error fatal kill)) {
    $round++;
    unlink glob $node->data_dir . '/pg_stat_tmp/tasker_fault_*';
    warm() if $action eq 'error';
    my $from = $t->log_offset;
    # The faults of a start are met by the process that follows the present one.
    my ($starter) = $point =~ /^(dispatcher|launcher|executor)\.start/;
    my @old;
    if ($starter) {
      $t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker $starter')", 20) // die "no $starter";
      @old = $t->pids($starter);
    }
    arm("$point:$action");
    kill 'TERM', @old;
    my $told = create();

    # Disarmed once it has hit; an error inside a run is caught and leaves no line, so there the end of the work is awaited.
    my $silent = $action eq 'error' && $point =~ /^(run|record|commit)/;
    my $seen = sub { $told =~ /fault point|server closed|terminat/ || $t->log_since($from) =~ /fault point \Q$point\E|was terminated by signal 9/ };
    my $until = time + 10;
    if ($silent) { $t->wait_for('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live)', 10) }
    else { $t->wait_for('SELECT true', 10) until $seen->() || time > $until }
    ok($silent || $seen->(), "$point:$action was hit");
    $t->wait_for('SELECT true', 30) // die "the server did not come back after $point:$action";
    my $disarmed = time;
    arm('');
    create() for 1 .. 2;

    my $took = $t->wait_for('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live)', $bound);
    ok(defined $took, "$point:$action: every task ends within $bound s") or $t->show_live;
    my ($tasks, $attempts, $crashes) = split /\|/, $t->sql("SELECT count(DISTINCT t.task_id) FILTER (WHERE t.state = 'complete'), max(s.attempts), sum(s.crashes)
      FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_id) WHERE t.idempotency_key LIKE 'r$round-%'");
    is($tasks, 4 * @kinds, "$point:$action: all tasks complete");
    my $exact = $t->ledger_exact("$point:$action: ledger");
    push @table, sprintf '%-20s %-5s  %5s s  attempts ≤ %2s  crashes %s  %s', $point, $action, defined $took ? sprintf '%.2f', time - $disarmed : 'stuck', $attempts, $crashes,
      $exact ? 'exact' : 'NOT EXACT';
  }
}

cmp_ok($t->sql('SELECT count(*) - count(DISTINCT txid) FROM acc.ledger'), '>', 200, 'steps shared transactions meanwhile');
note("point                action  recovered\n" . join "\n", @table);
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11|signal 6/, 'nothing crashed of itself');
$node->stop;
done_testing();
