# Executors are shared: whoever has none gets one soon, however busy the others are, in whatever database.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('sharing', conf => "tasker.max_executors = 4\ntasker.executor_idle_timeout = 1s\n", bare => 1);
my $nap = definition('nap', 'a:step_sleep');
for my $db (qw(one two)) {
  $t->sql("CREATE DATABASE $db");
  $t->install($db);
  $t->alice($nap, $db);
}
$t->sql('CREATE ROLE bob LOGIN');
$t->sql(q{SELECT tasker.grant_access('bob', 'submitter')}, 'one');

sub create { my ($user, $db, $sleep, $n) = @_; my (undef, $out, $err) = $t->try_sql(qq{SELECT tasker.create_task('t', 'nap', '{"sleep": $sleep}') FROM generate_series(1, $n)}, user => $user, db => $db); diag($err) if $err; return split /\n/, $out }
sub waited { my ($db, $id) = @_; return $t->sql("SELECT round(extract(epoch FROM l.at - t.created_at), 2) FROM acc.ledger l JOIN tasker.tasks t USING (task_id) WHERE task_id = $id", $db) }
sub asleep { my ($db, $n) = @_; $t->wait_for("SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND datname = '$db' AND wait_event = 'PgSleep'", 20) // die "not busy: $db" }

# alice in database one has all four busy, with a long queue of half-second steps.
create('alice', 'one', 0.5, 160);
for my $newcomer ([ 'alice', 'two' ], [ 'bob', 'one' ], [ 'alice', 'two' ]) {
  asleep('one', 4);  # nobody is idle, so that a busy one has to give way
  my ($user, $db) = @$newcomer;
  my ($id) = create($user, $db, 0, 1);
  $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $id", "$user in $db gets its turn beside a long queue", 5, $db) // next;
  my $waited = waited($db, $id);
  note("$user in $db waited $waited s for an executor while another owner had all of them in use");
  cmp_ok($waited, '<', 2.5, 'soon');
}
is($t->sql(q{SELECT count(*) > 0 FROM tasker.tasks WHERE live}, 'one'), 't', 'the queue is not over yet');
$t->all_done('one: ends', 60, 'one');
$t->ledger_exact('one: ledger', 'one');
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps', 'one'), 1, 'nobody paid with an attempt for giving way');

# Idle ones give way for a second and third executor, too.
$t->sql('ALTER SYSTEM SET tasker.executor_idle_timeout = 60');
$t->sql('SELECT pg_reload_conf()');
create('alice', 'two', 0.3, 8);
$t->all_done('two: ends', 30, 'two');
create('bob', 'one', 3, 4);
my $took = $t->wait_ok(q{SELECT count(*) = 4 FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND usename = 'bob' AND wait_event = 'PgSleep'}, 'idle executors of others give way to the fourth of bob', 10);
note(sprintf 'four executors for bob after %.2f s', $took) if defined $took;
$t->all_done('one: ends again', 30, 'one');
$t->ledger_exact('two: ledger', 'two');

$t->node->stop;
done_testing();
