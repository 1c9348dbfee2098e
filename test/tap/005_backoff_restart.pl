# Timers outlive the server: a restart during a backoff or before a run_at changes neither the time nor the attempts.
use strict;
use warnings;

use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('timers', conf => "fsync = on\n");
my %keys = (backoff => '{"base_seconds": 4, "multiplier": 1, "jitter": 0}');
$t->alice(definition('flaky', 'a:step_flaky; b:step < a', %keys) . '; ' . definition('chain', 'a:step; b:step < a', %keys));

my %how = (
  fast => sub { $t->node->stop('fast'); $t->node->start },
  immediate => sub { $t->node->stop('immediate'); $t->node->start },
  'kill -9' => sub { $t->kill_postmaster },
  'executor killed' => sub { my ($pid) = $t->pids('executor'); kill 9, $pid; $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 30) },
);

for my $mode ('fast', 'immediate', 'kill -9', 'executor killed') {
  my $flaky = $t->alice(q{SELECT tasker.create_task('t', 'flaky', '{"good": 3}')});
  my $later = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '5 s')});
  my $far = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '1 day')});
  $t->wait_ok("SELECT state = 'error' AND attempts = 1 AND next_attempt_at > now() FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1", "$mode: a backoff runs", 20);
  my ($due) = $t->sql("SELECT next_attempt_at FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1");
  is($t->sql("SELECT next_attempt_at, state FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1"), "$due|error", "$mode: written down");
  is($t->sql("SELECT state, runnable, started_at IS NULL FROM tasker.tasks WHERE task_id = $later"), 'pending|f|t', "$mode: parked until run_at");

  my $down = time;
  $how{$mode}->();
  note(sprintf '%s: down for %.1f s', $mode, time - $down);

  # A second restart in the second backoff.
  $t->wait_ok("SELECT state = 'error' AND attempts = 2 FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1", "$mode: the second attempt is made", 30);
  $how{$mode}->() if $mode ne 'executor killed';
  $t->wait_ok("SELECT bool_and(NOT live) FROM tasker.tasks WHERE task_id IN ($flaky, $later)", "$mode: both end", 40);

  my ($attempts, $state, $late) = split /\|/, $t->sql(<<"SQL");
SELECT s.attempts, s.state, (SELECT round(extract(epoch FROM min(tr.created_at) FILTER (WHERE tr.metadata @> '{"attempt": 2}') - '$due'), 3)
  FROM tasker.workflow_step_transitions tr WHERE tr.task_id = s.task_id AND tr.step_no = 1 AND tr.to_state = 'in_progress')
FROM tasker.workflow_steps s WHERE s.task_id = $flaky AND s.step_no = 1
SQL
  is("$attempts|$state", '3|complete', "$mode: three attempts, as without a restart");
  cmp_ok($late, '>=', 0, "$mode: not before its time");
  cmp_ok($late, '<', 15, "$mode: the second attempt comes when the server is up and its time has come");
  my $start = $t->sql("SELECT round(extract(epoch FROM started_at - run_at), 3) FROM tasker.tasks WHERE task_id = $later");
  cmp_ok($start, '>=', 0, "$mode: run_at: not before its time");
  cmp_ok($start, '<', 15, "$mode: run_at: soon after");
  note("$mode: second attempt $late s after it was due, run_at task $start s");
  is($t->sql("SELECT max(attempts) FROM tasker.workflow_steps WHERE task_id IN ($later, $far) OR (task_id = $flaky AND step_no = 2)"), 1, "$mode: nothing else is charged");
  is($t->sql("SELECT state, live FROM tasker.tasks WHERE task_id = $far"), 'pending|t', "$mode: tomorrow's task waits");
  is($t->sql(q{SELECT count(*) FROM tasker.timers m WHERE NOT EXISTS (SELECT FROM tasker.tasks t WHERE t.task_id = m.task_id AND t.live)}), 0, "$mode: no timer is left behind");
  $t->alice("SELECT tasker.cancel_task($far)");
  $t->ledger_exact("$mode: ledger");
}

# Due while the server was down: late, once.
my $id = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '1 s')});
$t->node->stop('fast');
my $wait_until = time + 1.2;
Time::HiRes::usleep(50_000) while time < $wait_until;
$t->node->start;
$t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", 'due while the server was down: runs after the start', 20);
my $first = $t->sql("SELECT round(extract(epoch FROM started_at) - @{[$t->ready_at]}, 3) FROM tasker.tasks WHERE task_id = $id");
note("due while the server was down: ran $first s after it was up");
cmp_ok($first, '<', 10, 'soon');
$t->ledger_exact('late timer: ledger');

$t->node->stop;
done_testing();
