# Exactly once under fire: 6,000 steps with an effect each, while twelve processes are killed with SIGKILL.
use strict;
use warnings;

use IPC::Run;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $tasks = 1500;
my $steps = 4 * $tasks;
my $t = TaskerNode->start('kill', conf => "fsync = on\nsynchronous_commit = on\n");

# A diamond; three milliseconds a step, so that the kills fall among steps that share transactions.
$t->sql(q{CREATE FUNCTION acc.step_3ms(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS 'SELECT acc.note($1) FROM pg_sleep(0.003)'});
$t->alice(definition('diamond', 'a:step_3ms; b:step_3ms < a; c:step_3ms < a; d:step_3ms < b, c'));
$t->alice("SELECT count(tasker.create_task('t', 'diamond')) FROM generate_series(1, $tasks)");

sub done { my ($rc, $out) = $t->try_sql('SELECT count(*) FROM acc.ledger'); return $rc == 0 ? $out : -1 }

# Kills one process of the kind, once it is there; the server restarts all others.
sub kill_one {
  my ($kind) = @_;
  my $pid;
  my $until = time + 30;
  until ($pid) {
    die "no $kind to kill" if time > $until;
    my ($rc, $out) = $t->try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tasker $kind' ORDER BY random() LIMIT 1");
    $pid = $out if $rc == 0 && $out;
  }
  kill 9, $pid;
}

sub kill_client {
  my $node = $t->node;
  my ($in, $out) = ("SELECT 'pid', pg_backend_pid(); SELECT tasker.create_task('t', 'diamond'), pg_sleep(600);\n", '');
  my $client = IPC::Run::start([ 'psql', '-XAtq', '-U', 'alice', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', '/dev/null');
  $client->pump until $out =~ /pid\|(\d+)/;
  my ($pid) = $out =~ /pid\|(\d+)/;
  kill 9, $pid;
  $client->finish;
}

my @kills = (
  executor => launcher => dispatcher => executor => client => executor => immediate => executor => postmaster => dispatcher => executor => launcher =>);
my %shot;
my $begun = time;
my (@back, @first);
for my $n (1 .. @kills) {
  my $kind = $kills[ $n - 1 ];
  my $threshold = $n * $steps / 13;
  my $passed = $t->wait_for("SELECT count(*) >= $threshold FROM acc.ledger", 120);
  last unless ok(defined $passed, sprintf 'kill %d of %d (%s) falls after %d steps', $n, scalar @kills, $kind, $threshold);
  my $before = done();
  my $at = time;
  if ($kind eq 'client') { kill_client() }
  elsif ($kind eq 'immediate') { $t->node->stop('immediate'); $t->node->start }
  elsif ($kind eq 'postmaster') { $t->kill_postmaster }
  else { kill_one($kind) }
  $shot{$kind}++;
  my $again = $t->wait_for("SELECT count(*) > $before + 50 FROM acc.ledger", 60);
  next if !defined $again;
  push @back, sprintf '%s %.1f', $kind, time - $at;
  push @first, $t->first_step_after($t->ready_at);
}

$t->all_done('every task ends', 180);
my $seconds = time - $begun;
$t->ledger_exact('6,000 effects, none lost, none doubled');
is($t->sql('SELECT count(*), count(DISTINCT (task_id, step_name)) FROM acc.ledger'), "$steps|$steps", "$steps distinct effects");
is($t->sql('SELECT state, count(*) FROM tasker.tasks GROUP BY 1'), "complete|$tasks", "$tasks tasks complete, none of a killed client's");
is($t->sql(q{SELECT count(*) FROM tasker.workflow_step_transitions WHERE to_state = 'complete'}), $steps, 'one completion a step in the history');
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps'), 1, 'no attempt is charged for a kill')
  or diag($t->sql(q{SELECT h.* FROM tasker.workflow_step_transitions AS h WHERE EXISTS (SELECT FROM tasker.workflow_steps AS s WHERE s.task_id = h.task_id AND s.step_no = h.step_no AND s.attempts > 1)}));

my ($batches, $crashes) = split /\|/, $t->sql('SELECT (SELECT count(DISTINCT txid) FROM acc.ledger), (SELECT sum(crashes + old_crashes) FROM tasker.workflow_steps)');
cmp_ok($batches, '<', $steps, 'steps shared transactions');
note(sprintf '%d steps in %.1f s with %d kills -9 (%s): %d distinct effects, 0 lost, 0 doubled; %d commits, %d runs noted as crashed', $steps, $seconds,
  scalar @kills, join(', ', map { "$_ $shot{$_}" } sort keys %shot), $steps, $batches, $crashes);
note('seconds from kill to 50 more steps done: ' . join ', ', @back);
note('of those, from connections accepted to the first step: ' . join ' ', @first);
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11/, 'no process crashed of itself');

$t->node->stop;
done_testing();
