# Waking up: of those who wait for a task, and of the dispatcher, whatever way the creating transaction ended.
use strict;
use warnings;

use IPC::Run;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

# The sweep is far off: what runs here was woken.
my $t = TaskerNode->start('wait', conf => "max_prepared_transactions = 5\ntasker.sweep_interval = 1h\n");
my $node = $t->node;
$t->alice(join '; ', definition('chain', 'a:step; b:step < a'), definition('nap', 'a:step_sleep'), definition('bad', 'a:step_do', retryable => 'false'));

sub waiter {
  my ($id, $timeout) = @_;
  my $w = { out => '', err => '' };
  $w->{h} = IPC::Run::start([ 'psql', '-XAtq', '-U', 'alice', '-d', $node->connstr('postgres'), '-v', 'VERBOSITY=verbose', '-c', "SELECT tasker.wait_for_task($id, '$timeout'), clock_timestamp()" ],
    '<', '/dev/null', '>', \$w->{out}, '2>', \$w->{err});
  return $w;
}
sub waiting { my ($n) = @_; $t->wait_for("SELECT count(*) >= $n FROM pg_stat_activity WHERE query LIKE 'SELECT tasker.wait_for_task%' AND wait_event_type IS NOT NULL AND state = 'active'", 20) // die 'nobody waits' }
sub done { my ($w) = @_; $w->{h}->finish; chomp $w->{out}; return split /\|/, $w->{out} }

# Waiters are woken, soon after the commit.
my @delays;
for (1 .. 10) {
  my $id = $t->alice(q{SELECT tasker.create_task('t', 'nap', '{"sleep": 1}')});
  my $w = waiter($id, '20 s');
  waiting(1);
  my ($state, $woken) = done($w);
  is($state, 'complete', 'woken') or diag($w->{err});
  push @delays, $t->sql("SELECT round(1000 * extract(epoch FROM '$woken' - finished_at), 1) FROM tasker.tasks WHERE task_id = $id");
}
@delays = sort { $a <=> $b } @delays;
note("ms from the end of a task to its waiter: median $delays[5], worst $delays[-1] (the commit included)");
cmp_ok($delays[5], '<', 500, 'well before the re-check of a second');

# A dispatcher that sleeps for long is woken by what is due before it would wake by itself.
$t->wait_ok(q{SELECT (SELECT sum(tasks) FROM tasker.task_outcomes WHERE state = 'complete') = count(*) FROM tasker.tasks WHERE state = 'complete'}, 'it has written what it counted, and sleeps', 20);
my $later = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => clock_timestamp() + interval '1.5 s')});
$t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $later", 'a task of later runs', 20);
cmp_ok($t->sql("SELECT extract(epoch FROM started_at - run_at) FROM tasker.tasks WHERE task_id = $later"), '<', 2, 'in its time');

# Many on one task, one of them with less patience; other ends than complete.
my $id = $t->alice(q{SELECT tasker.create_task('t', 'nap', '{"sleep": 3}')});
my @waiters = map { waiter($id, '20 s') } 1 .. 12;
my $impatient = waiter($id, '0.2 s');
is((done($impatient))[0], '', 'NULL at the timeout');
is((done($_))[0], 'complete', 'one of twelve') for @waiters;
$id = $t->alice(q{SELECT tasker.create_task('t', 'bad', '{"a": "SELECT 1/0"}')});
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'error', 'a task that fails');
$id = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '1 hour')});
my $w = waiter($id, '20 s');
waiting(1);
$t->alice("SELECT tasker.cancel_task($id)");
is((done($w))[0], 'cancelled', 'a task that is cancelled');
is($t->alice("SELECT tasker.wait_for_task($id)"), 'cancelled', 'one that is over already');

# A waiter can be cancelled like any query.
$id = $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => now() + interval '1 hour')});
$w = waiter($id, '1 h');
waiting(1);
my $begun = time;
$t->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT tasker.wait_for_task%' AND pid <> pg_backend_pid()});
done($w);
like($w->{err}, qr/57014/, 'pg_cancel_backend ends a wait');
cmp_ok(time - $begun, '<', 5, 'at once');
$t->alice("SELECT tasker.cancel_task($id)");

# Where waiting could only hang, it is refused.
my %refused = (
  'of a task of this transaction' => [ q{DO $$ BEGIN PERFORM tasker.wait_for_task(tasker.create_task('t', 'chain'), '5 s'); END $$}, '55000' ],
  'in REPEATABLE READ' => [ "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tasker.wait_for_task($id, '5 s')", '55000' ],
  'of an unknown task' => [ q{SELECT tasker.wait_for_task(999999, '5 s')}, '02000' ]);
for my $what (sort keys %refused) {
  my ($query, $state) = @{ $refused{$what} };
  $begun = time;
  my ($rc, undef, $err) = $t->try_sql([ '\set VERBOSITY verbose', $query ], user => 'alice');
  ok($rc != 0 && $err =~ /\Q$state\E/ && time - $begun < 4, "wait $what: $state at once") or diag($err);
}
$id = $t->alice(q{SELECT tasker.create_task('t', 'bad', '{"a": "SELECT tasker.wait_for_task(1)"}')});
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'error', 'a step that waits');
is($t->sql("SELECT error ->> 'sqlstate' FROM tasker.workflow_steps WHERE task_id = $id"), '55000', 'is refused too');

# Two-phase commit: started by COMMIT PREPARED, whoever says it, also after a restart.
my $prepare = sub {
  my ($name) = @_;
  return $t->alice("BEGIN; SELECT tasker.create_task('t', 'chain'); PREPARE TRANSACTION '$name'");
};
$id = $prepare->('one');
my $other = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
is($t->alice("SELECT tasker.wait_for_task($other, '20 s')"), 'complete', 'a prepared transaction holds up nobody');
is($t->sql("SELECT count(*) FROM acc.ledger WHERE task_id = $id"), 0, 'and its task does not run');
$begun = time;
$t->sql(q{COMMIT PREPARED 'one'});
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'complete', 'COMMIT PREPARED starts it');
note(sprintf 'from COMMIT PREPARED to complete %.0f ms', 1000 * (time - $begun));
$id = $prepare->('two');
$t->sql(q{ROLLBACK PREPARED 'two'});
is($t->sql("SELECT (SELECT count(*) FROM tasker.tasks WHERE task_id = $id) + (SELECT count(*) FROM tasker.workflow_steps WHERE task_id = $id)"), 0, 'ROLLBACK PREPARED leaves nothing');
$id = $prepare->('three');
$node->stop('immediate');
$node->start;
$other = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
is($t->alice("SELECT tasker.wait_for_task($other, '20 s')"), 'complete', 'the engine is back');
$t->sql(q{COMMIT PREPARED 'three'});
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'complete', 'prepared before a crash, committed after it');

# More tasks than hints, in one transaction: by one call each, and by one call.
$begun = time;
$t->alice(q{BEGIN; SELECT count(tasker.create_task('t', 'chain')) FROM generate_series(1, 300); COMMIT});
$t->all_done('300 tasks of one transaction run', 30);
note(sprintf '300 chains of two from one transaction: %.2f s', time - $begun);
is($t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'chain', array_fill('{}'::jsonb, ARRAY[1500]))}), 1500, 'create_tasks');
$t->all_done('1500 tasks of one call run', 60);

# An hour later is as good (here: as long as others need).
my $open = $node->background_psql('postgres', extra_params => [ '-U', 'alice' ]);
$open->query_safe('BEGIN');
$id = $open->query_safe(q{SELECT tasker.create_task('t', 'chain')});
$t->alice(q{SELECT count(tasker.create_task('t', 'chain')) FROM generate_series(1, 50)});
$t->all_done('others run and end beside an open transaction');
$open->query_safe('COMMIT');
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')"), 'complete', 'created first, committed last: it runs');

# Rollbacks.
my $before = $t->sql('SELECT count(*) FROM tasker.tasks');
$t->alice(q{BEGIN; SELECT count(tasker.create_task('t', 'chain', idempotency_key => n::text, tags => '{x}')) FROM generate_series(1, 300) n; ROLLBACK});
is($t->sql('SELECT count(*) FROM tasker.tasks'), $before, 'a rollback leaves no task');
is($t->sql('SELECT (SELECT count(*) FROM tasker.workflow_steps s LEFT JOIN tasker.tasks t USING (task_id) WHERE t.task_id IS NULL) + (SELECT count(*) FROM tasker.idempotency_keys) + (SELECT count(*) FROM tasker.task_labels)'), 0,
  'no step, key or label');
my @ids = split /\n/, $t->alice(q{BEGIN; SELECT tasker.create_task('t', 'chain'); SAVEPOINT s; SELECT tasker.create_task('t', 'chain'); ROLLBACK TO s; SELECT tasker.create_task('t', 'chain'); COMMIT});
is($t->alice("SELECT tasker.wait_for_task($_, '20 s')"), 'complete', 'beside a rolled back savepoint') for @ids[ 0, 2 ];
is($t->sql("SELECT count(*) FROM tasker.tasks WHERE task_id = $ids[1]"), 0, 'in it: nothing');

$t->all_done('everything has ended');
$t->ledger_exact('ledger');

# The counts of finished tasks were written batch by batch; the sweep adds them up, and they stay what they were.
my $counts = q{SELECT sum(tasks_complete) || ' ' || sum(steps_complete) FROM tasker.tallies};
my $counted = $t->sql($counts);
cmp_ok($t->sql('SELECT count(*) - count(DISTINCT named_task_id) FROM tasker.tallies'), '>', 10, 'many differences');
$t->sql('ALTER SYSTEM SET tasker.sweep_interval = 1');
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok('SELECT count(*) = count(DISTINCT named_task_id) FROM tasker.tallies', 'one row per definition after a sweep', 20);
is($t->sql($counts), $counted, 'with the same sums');
$node->stop;
done_testing();
