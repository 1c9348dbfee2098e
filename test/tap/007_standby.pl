# A streaming standby runs nothing, shows everything, refuses writes with 25006, and goes on when it is promoted.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('primary', init => { allows_streaming => 1 }, conf => "wal_keep_size = 64MB\n");
my $primary = $t->node;
$t->alice(join '; ', definition('chain', 'a:step; b:step < a'), definition('nap', 'a:step_sleep; b:step_sleep < a'),
  definition('flaky', 'a:step_flaky; b:step < a', backoff => '{"base_seconds": 2, "multiplier": 1, "jitter": 0}'));

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $s = bless { node => $standby, db => 'postgres' }, 'TaskerNode';

# Finished work, work under way, timers.
$t->alice(q{SELECT count(tasker.create_task('t', 'chain')) FROM generate_series(1, 20)});
$t->all_done('the primary runs tasks');
my $finished = $t->sql('SELECT max(task_id) FROM tasker.tasks');
$t->alice(q{SELECT count(tasker.create_task('t', 'nap', '{"sleep": 0.2}')) FROM generate_series(1, 60)});
my $later = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '3 s')});
my $flaky = $t->alice(q{SELECT tasker.create_task('t', 'flaky', '{"good": 2}')});
$t->wait_ok("SELECT state = 'error' FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1", 'a backoff runs', 20);
$primary->wait_for_catchup($standby);

# The standby.
is($s->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'tasker%'}), '0', 'no worker on the standby');
is($s->alice("SELECT count(*) FROM tasker.task_status WHERE task_id <= $finished AND state = 'complete'"), $finished, 'task_status on the standby');
cmp_ok($s->alice('SELECT count(*) FROM tasker.step_status'), '>', 160, 'step_status');
for my $view ('ready_steps', 'blocked_steps', 'running_steps', 'dead_letters', 'step_dag_relationships', 'task_history') {
  my ($rc, undef, $err) = $s->try_sql("SELECT count(*) FROM tasker.$view", user => 'alice');
  is($rc, 0, "$view can be read") or diag($err);
}
my ($rc, $health, $err) = $s->try_sql('SELECT status, reasons FROM tasker.health_status()');
is($rc, 0, 'health_status answers') or diag($err);
like($health, qr/standby/, 'and says that this is a standby') if $rc == 0;
for my $call (q{tasker.create_task('t', 'chain')}, "tasker.cancel_task($later)", "tasker.pause_task($later)", q{tasker.define_task('{"name": "x", "steps": [{"name": "a", "handler": {"type": "noop"}}]}')},
  "tasker.annotate_task($later, 'note', '{}')") {
  ($rc, undef, $err) = $s->try_sql([ '\set VERBOSITY verbose', "SELECT $call" ], user => 'alice');
  ok($rc != 0, "$call is refused");
  like($err, qr/25006/, 'with 25006');
}
for my $call (q{trip_breaker('bank')}, q{reset_breaker('bank')}, q{configure_breaker('bank')}) {
  (undef, undef, $err) = $s->try_sql([ '\set VERBOSITY verbose', "SELECT tasker.$call" ]);
  like($err, qr/25006/, "$call, too");
}
($rc, undef, $err) = $s->try_sql('SELECT count(*) FROM tasker.circuit_breakers', user => 'alice');
is($rc, 0, 'circuit_breakers can be read') or diag($err);

# The primary dies in the middle; the standby is promoted and goes on by itself.
$t->wait_ok(q{SELECT count(*) > 3 FROM acc.ledger JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = 'nap'}, 'naps are under way');
$primary->kill9;
my $promoted = time;
$standby->promote;
is($s->alice(q{SELECT tasker.create_task('t', 'chain') > 0}), 't', 'promoted, it takes tasks');
$s->all_done('and runs what the primary left', 60);
my $first = $s->first_step_after($promoted);
note("first step $first s after the promotion was asked for");
cmp_ok($first, '<', 10, 'soon');
$s->ledger_exact('after the promotion: ledger');
is($s->sql("SELECT max(attempts) FROM tasker.workflow_steps WHERE task_id <> $flaky"), 1, 'no attempt is charged for a failover');
is($s->sql("SELECT attempts, state FROM tasker.workflow_steps WHERE task_id = $flaky AND step_no = 1"), '2|complete', 'the backoff survived it');
is($s->sql(q{SELECT count(*) FROM tasker.tasks WHERE state <> 'complete'}), 0, 'all complete');

$standby->stop;
done_testing();
