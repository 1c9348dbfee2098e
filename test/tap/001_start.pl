# CREATE EXTENSION is enough: workers start by themselves, in several databases, after every restart, and leave nothing.
use strict;
use warnings;

use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('start', bare => 1, conf => "tasker.executor_idle_timeout = 2s\n");
my @databases = qw(one two three);
my @again;

$t->sql("CREATE DATABASE $_") for @databases, 'plain';
for my $db (@databases) {
  $t->install($db);
  $t->alice(definition('chain', 'a:step; b:step < a; c:step < b') . '; ' . definition('slow', 'a:step_sleep; b:step_sleep < a'), $db);
  $t->alice(q{SELECT tasker.create_task('t', 'chain') FROM generate_series(1, 5)}, $db);
}
for my $db (@databases) {
  $t->all_done("$db: tasks run without a word of configuration", 30, $db);
  $t->ledger_exact("$db: ledger", $db);
  is($t->sql('SELECT string_agg(DISTINCT who, chr(44)) FROM acc.ledger', $db), 'alice/alice', "$db: steps run as their owner");
}
is(scalar($t->pids('launcher')), 1, 'one launcher');
is($t->sql(q{SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher'}), 'one,three,two',
  'a dispatcher where the extension is, none elsewhere');

# A database without the extension is visited and left; templates are not touched, so that copying them works at once.
my ($rc, undef, $stderr) = $t->try_sql('CREATE DATABASE four TEMPLATE template1');
is($rc, 0, 'template1 is free') or diag($stderr);
($rc, undef, $stderr) = $t->try_sql('CREATE DATABASE five TEMPLATE plain');
is($rc, 0, 'a database without the extension is free') or diag($stderr);

# Restart with work in hand: fast, then immediate. The first step of each database soon after the server is up.
for my $mode ('fast', 'immediate') {
  $t->alice(q{SELECT tasker.create_task('t', 'slow', '{"sleep": 0.1}') FROM generate_series(1, 40)}, $_) for @databases;
  $t->wait_ok(q{SELECT EXISTS (SELECT FROM tasker.tasks WHERE live AND state = 'in_progress')}, "$_, $mode: work is under way", 30, $_) for @databases;
  $t->node->stop($mode);
  $t->node->start;
  for my $db (@databases) {
    $t->all_done("$db, after a restart ($mode): every task ends", 60, $db);
    $t->ledger_exact("$db, after a restart ($mode): ledger", $db);
    my $first = $t->first_step_after($t->ready_at, $db);
    note("$db, $mode: first step ${first} s after connections were accepted");
    cmp_ok($first, '<', 10, "$db, $mode: soon");
  }
  is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps', 'one'), '1', "$mode: no attempt is charged for a restart");
}

# Whoever terminates them, and however often: they come back, soon, and the last time as soon as the first.
for my $kinds ((['dispatcher']) x 8, ['launcher'], ['dispatcher'], [ 'launcher', 'dispatcher' ], ['dispatcher'], [ 'executor', 'dispatcher' ]) {
  my $list = join ', ', map { "'tasker $_'" } @$kinds;
  $t->sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type IN ($list) AND coalesce(datname, 'one') = 'one'");
  my $begun = time;
  my $id = $t->alice(q{SELECT tasker.create_task('t', 'chain')}, 'one');
  is($t->alice("SELECT tasker.wait_for_task($id, '15 s')", 'one'), 'complete', "terminated: @$kinds, a task runs all the same");
  push @again, time - $begun;
}
note('seconds to a complete task after a termination: ' . join ' ', map { sprintf '%.2f', $_ } @again);
cmp_ok($again[7], '<', 5, 'the eighth time as soon as the first');

# Executors leave when idle; what stays asleep holds nothing.
$t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor')}, 'idle executors leave', 20);
is($t->sql(q{SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_locks l USING (pid) WHERE a.backend_type LIKE 'tasker%'
  AND (a.xact_start IS NOT NULL OR a.backend_xmin IS NOT NULL OR l.locktype <> 'virtualxid')}), '0', 'idle workers hold no transaction, snapshot or lock');

# After a minute without work the dispatchers leave too, and one comes back for the next task.
my $took = $t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher')}, 'idle dispatchers leave', 100);
note(sprintf 'idle dispatchers left after %.0f s more', $took) if defined $took;
is($t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'tasker%'}), '1', 'only the launcher is left');
my $id = $t->alice(q{SELECT tasker.create_task('t', 'chain')}, 'two');
is($t->alice("SELECT tasker.wait_for_task($id, '20 s')", 'two'), 'complete', 'a task wakes a database without a dispatcher');
note('from creation to first step, dispatcher and executor started for it: ' . $t->sql("SELECT round(1000 * extract(epoch FROM min(l.at) - min(t.created_at))) FROM acc.ledger l JOIN tasker.tasks t USING (task_id) WHERE task_id = $id", 'two') . ' ms');

$t->sql('DROP EXTENSION tasker CASCADE', $_) for @databases;
$t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type IN ('tasker dispatcher', 'tasker executor'))}, 'nothing is left behind by DROP EXTENSION', 20);
$t->sql("DROP DATABASE $_") for @databases;
unlike($t->log_since(0), qr/PANIC|TRAP:|segmentation|signal 11/i, 'a quiet log');

$t->node->stop;
done_testing();
