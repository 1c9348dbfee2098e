# Waits and signals over crashes, restarts, prepared transactions and pauses: late at worst, never twice, never lost.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('waits', conf => "fsync = on\nmax_prepared_transactions = 5\ntasker.sweep_interval = 3600\ntimezone = 'Asia/Tokyo'\n");
sub define {
  my ($name, $handler, $more) = @_;
  $more //= '';
  $t->alice(qq(SELECT tasker.define_task('{"namespace": "t", "name": "$name", "steps": [{"name": "w", "handler": $handler$more},
    {"name": "a", "depends_on": ["w"], "handler": {"type": "sql", "function": "acc.step"}}]}')));
}
define('soon', '{"type": "wait", "seconds": 1.2}');
define('until', '{"type": "wait", "until": "${/context/at}"}');
define('ask', '{"type": "signal", "name": "go"}');
define('ask_soon', '{"type": "signal", "name": "go"}', ', "timeout_seconds": 0.5');

sub create { my ($name, $context) = @_; return $t->alice("SELECT tasker.create_task('t', '$name', '" . ($context // '{}') . "')") }
sub waiting { my ($id, $what) = @_; $t->wait_ok("SELECT EXISTS (SELECT FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1 AND state = 'in_progress')", "$what: it waits", 30) }
sub over { my ($id, $what, $state) = @_; $state //= 'complete'; $t->wait_ok("SELECT state = '$state' FROM tasker.tasks WHERE task_id = $id", "$what: the task is $state", 30) }
# How often each step moved on, and how late the wait ended.
sub moves { my ($id) = @_; return $t->sql("SELECT string_agg(step_no || to_state::text, ' ' ORDER BY step_no, sort_key) FROM tasker.workflow_step_transitions WHERE task_id = $id") }
my $once = '1in_progress 1complete 2in_progress 2complete';

my %how = (
  fast => sub { $t->node->stop('fast'); $t->node->start },
  immediate => sub { $t->node->stop('immediate'); $t->node->start },
  'kill -9' => sub { $t->kill_postmaster },
  'dispatcher killed' => sub { my ($pid) = $t->pids('dispatcher'); kill 9, $pid; $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 30) },
  'dispatcher terminated' => sub { my ($pid) = $t->pids('dispatcher'); kill 15, $pid; $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 30) },
);
for my $mode (sort keys %how) {
  my $soon = create('soon');
  my $ask = create('ask');
  my $early = create('ask', '{"early": true}');
  waiting($_, $mode) for $soon, $ask;
  $how{$mode}->();
  over($soon, "$mode: wait");
  $t->alice("SELECT tasker.send_signal($ask, 'go', '\"late\"')");
  $t->alice("SELECT tasker.send_signal($early, 'go', '\"late\"')");
  over($ask, "$mode: signal");
  over($early, "$mode: signal");
  is(moves($_), $once, "$mode: each step once") for $soon, $ask;
  is($t->sql("SELECT extract(epoch FROM finished_at - started_at) >= 1.2 FROM tasker.workflow_steps WHERE task_id = $soon AND step_no = 1"), 't', "$mode: it waited as long as it should");
}

# A server that was down over the time starts what waits late.
my $at = $t->sql(q{SELECT clock_timestamp() + interval '600 ms'});
my $id = create('until', qq({"at": "$at"}));
waiting($id, 'down');
$t->node->stop('fast');
my $began = time;
while (time - $began < 1) { select undef, undef, undef, 0.05 }
$t->node->start;
over($id, 'down: the time passed meanwhile');
is(moves($id), $once, 'down: once');

# A time without a zone is the server's, whatever the session says.
$id = (split /\n/, $t->alice(q{SET timezone = 'UTC'; SELECT tasker.create_task('t', 'until', '{"at": "2020-01-01 12:00"}')}))[-1];
over($id, 'zone');
is($t->alice("SELECT result ->> 'waited_until' FROM tasker.step_status WHERE task_id = $id AND step_name = 'w'"), '2020-01-01T03:00:00Z', 'a time without zone is read in the zone of the server');
# A deadline ends a wait.
$id = $t->alice(q{SELECT tasker.create_task('t', 'until', '{"at": "2100-01-01T00:00:00Z"}', deadline_seconds => 0.5)});
over($id, 'deadline', 'error');
is($t->alice("SELECT state, attempts, error ->> 'category' FROM tasker.step_status WHERE task_id = $id AND step_name = 'w'"), 'error|1|timeout', 'a deadline ends a wait, whose attempt is counted once');

# On time while the server is up, many at once.
my @ids = split /\n/, $t->alice("SELECT tasker.create_task('t', 'soon') FROM generate_series(1, 300)");
my $list = join ', ', @ids;
$t->wait_ok("SELECT count(*) = 300 FROM tasker.tasks WHERE task_id IN ($list) AND state = 'complete'", '300 waits at once end', 60);
my ($late) = $t->sql("SELECT round(max(extract(epoch FROM finished_at - started_at) - 1.2)::numeric, 3) FROM tasker.workflow_steps WHERE task_id IN ($list) AND step_no = 1");
note("300 waits of 1.2 s ended at most $late s late");

# COMMIT PREPARED brings no hint, only a sweep.
$id = create('ask');
waiting($id, 'prepared');
$t->alice("BEGIN; SELECT tasker.send_signal($id, 'go', '\"prepared\"'); PREPARE TRANSACTION 'signal'");
is($t->sql("SELECT count(*) FROM tasker.signals WHERE task_id = $id"), 0, 'a prepared signal is not sent yet');
$t->alice("COMMIT PREPARED 'signal'");
over($id, 'prepared');
is($t->alice("SELECT result FROM tasker.step_status WHERE task_id = $id AND step_name = 'w'"), '"prepared"', 'prepared: its payload');

# Timers run on in a pause; what follows does not start.
$id = create('soon');
waiting($id, 'paused');
$t->alice("SELECT tasker.pause_task($id)");
$t->wait_ok("SELECT state = 'complete' FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1", 'paused: the wait is over', 30);
is($t->sql("SELECT count(*) FROM acc.ledger WHERE task_id = $id"), 0, 'paused: nothing follows');
$t->alice("SELECT tasker.resume_task($id)");
over($id, 'paused: resumed');

# A row that is locked when its time comes: a little later.
$id = create('soon');
waiting($id, 'locked');
my $holder = $t->node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT 1 FROM tasker.tasks WHERE task_id = $id FOR UPDATE; SELECT 1 FROM tasker.workflow_steps WHERE task_id = $id FOR UPDATE");
my $other = create('soon');
over($other, 'locked: another one is not held up');
is($t->sql("SELECT state FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1"), 'in_progress', 'locked: it still waits');
$holder->query_safe('COMMIT');
$holder->quit;
over($id, 'locked: then it goes on');

# A session that has offered a step, taken a signal or cancelled, and does not commit: the others go on.
define('work', '{"type": "external", "queue": "q"}');
for my $what ('work', 'ask') {
  my $session = $t->node->background_psql('postgres', extra_params => [ '-U', 'alice' ]);
  my ($held) = split /\n/, $session->query_safe("BEGIN; SELECT tasker.create_task('t', '$what')");
  $session->query_safe("SELECT tasker.send_signal($held, 'go')") if $what eq 'ask';
  $session->query_safe("CALL tasker.run_task($held)");
  # The dispatcher has been told of the task, which it does not see yet.
  my $free = create('soon');
  over($free, "$what: held open");
  $session->query_safe('COMMIT');
  $session->quit;
  if ($what eq 'ask') { over($held, "$what: then it goes on") }
  else { $t->wait_ok("SELECT EXISTS (SELECT FROM tasker.queue_items WHERE task_id = $held)", "$what: then it is offered", 30) }
}
# The same for a task that is there already: the session's rows are in the dispatcher's way.
{
  my $held = $t->alice("SELECT tasker.create_task('t', 'work', run_at => clock_timestamp() + interval '1 s')");
  my $session = $t->node->background_psql('postgres', extra_params => [ '-U', 'alice' ]);
  $session->query_safe("BEGIN; CALL tasker.run_task($held, skip_waits => true)");
  $t->wait_ok("SELECT clock_timestamp() > run_at FROM tasker.tasks WHERE task_id = $held", 'offered: its time has come', 10);
  my $free = create('soon');
  over($free, 'offered in an open transaction');
  $session->query_safe('COMMIT');
  $session->quit;
  $t->wait_ok("SELECT EXISTS (SELECT FROM tasker.queue_items WHERE task_id = $held)", 'offered: once it is committed', 30);
}
# What is cancelled, or out of time, leaves no lease.
$t->alice("SELECT tasker.cancel_task(task_id) FROM tasker.task_status WHERE name = 'work' AND state IN ('pending', 'in_progress')");
$t->sql('DELETE FROM tasker.queue_items');
$id = create('work');
$t->wait_ok("SELECT EXISTS (SELECT FROM tasker.queue_items WHERE task_id = $id)", 'lease: it is offered', 30);
is($t->sql("SELECT task_id FROM tasker.claim_steps('q', 'w')"), $id, 'lease: it is claimed');
$t->alice("SELECT tasker.cancel_task($id)");
is($t->sql('SELECT count(*) FROM tasker.leases'), 0, 'lease: none is left when its task is cancelled');
$id = $t->alice("SELECT tasker.create_task('t', 'work', deadline_seconds => 1)");
$t->wait_ok("SELECT EXISTS (SELECT FROM tasker.queue_items WHERE task_id = $id)", 'lease: another is offered', 30);
is($t->sql("SELECT task_id FROM tasker.claim_steps('q', 'w')"), $id, 'lease: and claimed');
over($id, 'lease: its time is up', 'error');
is($t->sql('SELECT count(*) FROM tasker.leases'), 0, 'lease: none is left when its task ran out of time');
$t->alice("SELECT tasker.cancel_task(task_id) FROM tasker.task_status WHERE name = 'work' AND state IN ('pending', 'in_progress')");

# A timeout that passes while a signal comes: one of the two.
my %ended;
for my $n (1 .. 20) {
  $id = create('ask_soon');
  waiting($id, "race $n") if $n == 1;
  $t->wait_for("SELECT clock_timestamp() >= started_at + interval '480 ms' FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1 AND started_at IS NOT NULL", 30);
  $t->try_sql("SELECT tasker.send_signal($id, 'go')", user => 'alice');
  $t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", 30) // die 'it hangs';
  $ended{ $t->sql("SELECT state FROM tasker.tasks WHERE task_id = $id") }++;
}
is(($ended{complete} // 0) + ($ended{error} // 0), 20, 'signals beside their timeouts: each task ends one way');

is($t->sql('SELECT count(*) FROM tasker.timers'), 0, 'no timer is left');
is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'check() finds nothing');
$t->ledger_exact('ledger');
done_testing();
