# Dynamic concurrency and adaptive batching, switched by a reload while work runs; what is learnt survives a restart.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('concurrency',
  conf => "tasker.max_executors = 8\ntasker.max_concurrent_steps = 6\ntasker.min_concurrent_steps = 1\ntasker.concurrency_interval = 1s\ntasker.executor_idle_timeout = 60s\ntasker.max_batch_duration = 200ms\n");
$t->alice(definition('nap', 'a:step_sleep'));
$t->alice(definition('quick', 'a:step'));

sub reload { my ($name, $value) = @_; $t->sql("ALTER SYSTEM SET tasker.$name = $value"); $t->sql('SELECT pg_reload_conf()'); $t->wait_for("SELECT current_setting('tasker.$name') = '$value'", 10) // die "no reload of $name" }
my $executors = q{FROM pg_stat_activity WHERE backend_type = 'tasker executor'};

# More than that stays open: by load, one more than the least may run.
$t->alice(q{SELECT count(tasker.create_task('t', 'nap', '{"sleep": 0.2}')) FROM generate_series(1, 600)});
$t->wait_ok(q{SELECT value = 2 AND explanation LIKE 'as the dispatcher%' FROM tasker.recommended_concurrency() WHERE item = 'in_force'}, 'the dispatcher has decided by load');
$t->wait_ok("SELECT count(*) = 2 $executors", 'two executors run');
$t->sql('SELECT count(*) FROM pg_sleep(0.3)');
is($t->sql("SELECT count(*) $executors"), 2, 'and no third, whatever waits');

reload('dynamic_concurrency', 'off');
$t->wait_ok("SELECT count(*) = 6 $executors", 'switched off: as many as max_concurrent_steps');
is($t->sql(q{SELECT count(*) > 0 FROM tasker.tasks WHERE live}), 't', 'under load');
reload('dynamic_concurrency', 'on');
$t->wait_ok("SELECT count(*) = 2 $executors", 'switched on again: the surplus leaves');
is($t->sql(q{SELECT count(*) > 0 FROM tasker.tasks WHERE live}), 't', 'under load');
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps'), 1, 'nobody was killed for it');

# The inputs cannot be had: three.
my $log = $t->log_offset;
reload('dynamic_concurrency', 'off');
$t->wait_ok("SELECT count(*) = 6 $executors", 'off once more');
# Decided at once, and not again for an hour.
$t->sql("ALTER SYSTEM SET tasker.$_") for q{fault = 'dispatcher.concurrency:error'}, q{concurrency_interval = '1h'}, 'dynamic_concurrency = on';
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT value = 3 FROM tasker.recommended_concurrency() WHERE item = 'in_force'}, 'an error of the assessment: the emergency number');
like($t->log_since($log), qr/could not assess the load/, 'and a line in the log');
$t->sql("ALTER SYSTEM RESET tasker.$_") for qw(fault concurrency_interval);
reload('dynamic_concurrency', 'off');
$t->all_done('the naps end', 120);
$t->ledger_exact;

# Batches: one executor, so that steps of one batch share a transaction.
reload('max_executors', 1);
reload('adaptive_batching', 'off');
$t->sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
my $sizes = q{SELECT count(*) AS n FROM acc.ledger l JOIN tasker.tasks t USING (task_id) JOIN tasker.named_tasks d USING (named_task_id) WHERE d.name = 'quick' GROUP BY l.txid};
sub biggest { return $t->sql("SELECT max(n) FROM ($sizes) x") }
sub create { $t->alice("SELECT count(tasker.create_task('t', 'quick')) FROM generate_series(1, $_[0])") }
create(1000);
$t->all_done('a thousand short steps end');
cmp_ok(biggest(), '<=', 32, 'switched off: at most 32 share a transaction');
cmp_ok(biggest(), '>', 1, 'and they do share');
create(3000);
reload('adaptive_batching', 'on');
create(1000);
$t->all_done('switched on under load: all end');
cmp_ok(biggest(), '>', 32, 'more of them share what is learnt to be short');
cmp_ok(biggest(), '<=', 60, 'at most 60');
$t->ledger_exact;

# A restart forgets nothing.
my $learnt = q{SELECT samples, batch_size, batch_size > 32 FROM tasker.batch_statistics WHERE name = 'quick'};
my $known = $t->sql($learnt);
like($known, qr/^100\|\d+\|t$/, 'learnt');
$t->wait_ok(q{SELECT cardinality(l.durations_ms) = 100 FROM tasker.batch_learnings l JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'quick'}, 'and written');
$t->node->restart;
is($t->sql($learnt), $known, 'a restart: still known, with nothing running');
create(1);
$t->all_done('one more');
like($t->sql($learnt), qr/^100\|\d+\|t$/, 'and learning goes on where it was');

done_testing;
