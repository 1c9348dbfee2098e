# Pauses by scope outlive the server, its workers and a dump: what they hold does not start before they end.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('pauses', conf => "fsync = on\n");
$t->alice(definition('chain', 'a:step; b:step < a') . '; ' . definition('free', 'a:step'));

sub started { return $t->sql("SELECT count(*) FROM acc.ledger WHERE task_id IN ($_[0])") }
# The dispatcher has looked at everything that was there before this task.
sub witness {
  my ($what) = @_;
  my $id = $t->alice(q{SELECT tasker.create_task('t', 'free')});
  $t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", "$what: what is not held runs", 40);
}

my %how = (
  fast => sub { $t->node->stop('fast'); $t->node->start },
  immediate => sub { $t->node->stop('immediate'); $t->node->start },
  'kill -9' => sub { $t->kill_postmaster },
  'dispatcher killed' => sub { my ($pid) = $t->pids('dispatcher'); kill 9, $pid; $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 30) },
  'dispatcher terminated' => sub { my ($pid) = $t->pids('dispatcher'); kill 15, $pid; $t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND pid <> $pid)", 30) },
);

is($t->sql(q{SELECT tasker.pause_tasks('t', 'chain', 'night')}), 't', 'paused');
my @ids;
for my $mode (sort keys %how) {
  push @ids, $t->alice(q{SELECT tasker.create_task('t', 'chain')}), $t->alice(q{SELECT tasker.create_task('t', 'chain', run_at => clock_timestamp() + interval '200 ms')});
  $how{$mode}->();
  # Its time has come, and more than one sweep has passed it over.
  $t->wait_ok("SELECT clock_timestamp() > max(run_at) FROM tasker.tasks", "$mode: the delayed one is due", 10);
  witness("$mode: first");
  witness("$mode: second");
  is(started(join ', ', @ids), 0, "$mode: what is held has not started");
  is($t->sql('SELECT namespace, name, paused_by, reason FROM tasker.paused_scopes'), 't|chain|postgres|night', "$mode: the order stands");
}

# A dump takes the order, its history and the notes with it; the copy is held, and when that ends the order still holds.
my $fails = $t->alice(definition('fails', 'a:step_flaky', max_attempts => 1) . q{; SELECT tasker.create_task('t', 'fails', '{"good": 9}')});
$fails = (split /\n/, $fails)[-1];
$t->wait_ok("SELECT state = 'error' FROM tasker.tasks WHERE task_id = $fails", 'a dead letter', 30);
$t->alice("SELECT tasker.note_dead_letter($fails, 'a', 'wont_fix', 'known')");
$t->sql(q{SELECT tasker.pause_tasks('t', 'free'); SELECT tasker.resume_tasks('t', 'free', 'over')});
my $dump = $t->node->basedir . '/dump.sql';
$t->node->command_ok([ 'pg_dump', '-f', $dump, '-d', $t->node->connstr('postgres') ], 'a dump');
$t->sql('CREATE DATABASE copy');
$t->node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $t->node->connstr('copy') ], 'is restored');
my $kept = q{SELECT p.pause_id, p.name, p.reason, p.resumed_by, p.resume_reason FROM tasker.scope_pauses p ORDER BY 1};
is($t->sql($kept, 'copy'), $t->sql($kept), 'with the orders');
is($t->sql('SELECT status, note, noted_by FROM tasker.dead_letters', 'copy'), 'wont_fix|known|alice', 'and the notes');
is($t->sql('SELECT tasker.has_open_dead_letter(task_id) FROM tasker.dead_letters', 'copy'), 'f', 'as they were');
$t->sql(q{SELECT tasker.release_hold('a test')}, 'copy');
my $free = $t->alice(q{SELECT tasker.create_task('t', 'free')}, 'copy');
$t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $free", 'the copy runs what is not held', 40, 'copy');
is($t->sql(q{SELECT count(*) FROM acc.ledger WHERE task_id IN (} . join(', ', @ids) . ')', 'copy'), 0, 'and nothing else');
is($t->sql(q{SELECT tasker.pause_tasks('t', 'free')}, 'copy'), 't', 'its own orders get new ids');
is($t->sql(q{SELECT tasker.resume_tasks('t', 'free'); SELECT tasker.resume_tasks('t', 'chain')}, 'copy'), "t\nt", 'resumed there');
$t->all_done('the copy ends', 60, 'copy');
is(started(join ', ', @ids), 0, 'the original still waits');

is($t->sql(q{SELECT tasker.resume_tasks('t', 'chain', 'morning')}), 't', 'resumed');
$t->all_done('everything that was held ends', 60);
$t->ledger_exact('ledger');

$t->node->stop;
done_testing();
