# A step that kills its own server process ends as an error after tasker.crash_limit; its neighbours pay for nothing.
# Cancelling or terminating an executor's backend ends one attempt of one step, and nothing else.
use strict;
use warnings;

use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('crash', conf => "fsync = on\n");

# The shell of COPY TO PROGRAM is a child of the backend: this step crashes its server process.
$t->sql(q{GRANT pg_execute_server_program TO alice});
my $crash = q{COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'};
my %quick = (backoff => '{"base_seconds": 0.2, "multiplier": 1, "jitter": 0}');
$t->alice(join '; ', definition('work', 'a:step_do; b:step < a', %quick), definition('nap', 'a:step_sleep; b:step < a', %quick));

# So many quick runs that the steps share transactions.
$t->alice(q{SELECT count(tasker.create_task('t', 'work')) FROM generate_series(1, 60)});
$t->all_done('warm-up');
cmp_ok($t->sql('SELECT count(DISTINCT txid) FROM acc.ledger'), '<', 120, 'steps share transactions');

my $from = $t->log_offset;
my $begun = time;
my @ids = split /\n/, $t->alice(qq{SELECT tasker.create_task('t', 'work', CASE n WHEN 17 THEN jsonb_build_object('a', \$\$$crash\$\$) ELSE '{}' END) FROM generate_series(1, 40) n});
my $culprit = $ids[16];
$t->all_done('every task ends, the one that crashes the server too', 60);
note(sprintf '3 crashes and 39 bystanders took %.1f s', time - $begun);
is($t->sql("SELECT s.state, s.error ->> 'category', s.error ->> 'retryable', s.crashes, t.state, s.attempts FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_id) WHERE task_id = $culprit AND step_no = 1"),
  'error|crashed|false|3|error|1', 'the culprit is an error of category crashed after three crashes');
is(scalar(() = $t->log_since($from) =~ /was terminated by signal 9/g), 3, 'it crashed the server three times, not more');
is($t->sql("SELECT count(*), max(s.attempts), max(s.crashes), max(s.old_crashes), min(t.state::text) FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_id) WHERE task_id = ANY ('{@{[join ',', grep { $_ != $culprit } @ids]}}')"),
  '78|1|0|0|complete', 'its neighbours are not charged: one attempt, no crash, complete');
$t->ledger_exact('crashes: ledger');

# retry_step gives it another life.
$t->alice("SELECT tasker.retry_step($culprit, 'a')");
$t->all_done('a crashed step that is retried crashes again and ends again', 60);
is($t->sql("SELECT state FROM tasker.workflow_steps WHERE task_id = $culprit AND step_no = 1"), 'error', 'and is an error again');

# A lower limit holds at the next crash.
$t->sql('ALTER SYSTEM SET tasker.crash_limit = 1');
$t->sql('SELECT pg_reload_conf()');
$from = $t->log_offset;
my $id = $t->alice(qq{SELECT tasker.create_task('t', 'work', jsonb_build_object('a', \$\$$crash\$\$))});
$t->all_done('crash_limit = 1', 60);
is($t->sql("SELECT error ->> 'category', crashes FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1"), 'crashed|1', 'one crash is enough with crash_limit = 1');
is(scalar(() = $t->log_since($from) =~ /was terminated by signal 9/g), 1, 'and it is not run again');

# A restart of the server in the middle of a step is not the step's fault.
$id = $t->alice(q{SELECT tasker.create_task('t', 'nap', '{"sleep": 1}')});
$t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'tasker executor')}, 'a step sleeps', 20);
my ($launcher) = $t->pids('launcher');
kill 9, $launcher;
$t->wait_for(qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'tasker launcher' AND pid <> $launcher}, 30);
$t->all_done('a bystander of a crash runs again', 30);
is($t->sql("SELECT state, attempts, crashes, old_crashes FROM tasker.workflow_steps WHERE task_id = $id AND step_no = 1"), 'complete|1|0|0', 'a bystander that was told to quit is not charged');
$t->ledger_exact('bystander: ledger');

# pg_cancel_backend and pg_terminate_backend on one of four executors that each run a step.
for my $function ('pg_cancel_backend', 'pg_terminate_backend') {
  @ids = split /\n/, $t->alice(q{SELECT tasker.create_task('t', 'nap', '{"sleep": 2}') FROM generate_series(1, 4)});
  my $list = join ',', @ids;
  # Those whose executor is known to run them now: the dispatcher has said so in pg_stat_activity.
  $t->wait_ok(q{SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'tasker executor'}, "$function: four steps run", 20);
  my $victim = $t->sql(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'tasker executor' LIMIT 1});
  is($t->sql("SELECT $function($victim)"), 't', "$function sent");
  $t->all_done("$function: every task ends", 30);
  is($t->sql("SELECT string_agg(attempts::text, ',' ORDER BY attempts), count(*) FILTER (WHERE state = 'complete') FROM tasker.workflow_steps WHERE step_no = 1 AND task_id IN ($list)"), '1,1,1,2|4',
    "$function: one attempt of one step, the others untouched");
  is($t->sql("SELECT metadata #>> '{error,category}', metadata #>> '{error,retryable}' FROM tasker.workflow_step_transitions WHERE to_state = 'error' AND task_id IN ($list)"), 'cancelled|true',
    "$function: a retryable failure in the history");
  is($t->sql("SELECT max(attempts) FROM tasker.workflow_steps WHERE step_no = 2 AND task_id IN ($list)"), '1', "$function: children ran once");
  $t->ledger_exact("$function: ledger");
}

# A cancel that hits an idle executor does nothing.
$t->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
$id = $t->alice(q{SELECT tasker.create_task('t', 'work')});
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'complete', 'a cancel between steps is forgotten');
is($t->sql("SELECT max(attempts) FROM tasker.workflow_steps WHERE task_id = $id"), 1, 'and hits no later step');

$t->node->stop;
done_testing();
