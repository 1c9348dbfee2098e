# DDL over a busy engine: dropping, renaming, copying and dumping databases, the extension and owners.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('ddl', conf => "tasker.max_executors = 6\n");
my $definitions = definition('nap', 'a:step_sleep; b:step < a', backoff => '{"base_seconds": 0.2, "multiplier": 1, "jitter": 0}');

# A database with work under way.
sub busy {
  my ($db, $sleep, $tasks) = @_;
  $t->sql("CREATE DATABASE $db");
  $t->install($db);
  $t->alice($definitions, $db);
  more($db, $sleep, $tasks);
}

sub more {
  my ($db, $sleep, $tasks) = @_;
  $t->alice(qq{SELECT count(tasker.create_task('t', 'nap', '{"sleep": $sleep}')) FROM generate_series(1, $tasks)}, $db);
  runs($db);
}

sub runs {
  my ($db) = @_;
  $t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND datname = '$db' AND wait_event = 'PgSleep')", 30) // die "no step runs in $db";
}

# Runs a command that must end in 10 s.
sub quickly {
  my ($command, $db) = @_;
  my $begun = time;
  my ($rc, undef, $err) = $t->try_sql($command, db => $db);
  my $took = time - $begun;
  ok($rc == 0 && $took < 10, sprintf '%s while steps run: %.2f s', ref $command ? $command->[0] : $command, $took) or diag($err);
  note(sprintf '%s: %.2f s', ref $command ? $command->[0] : $command, $took);
}

# DROP EXTENSION, then everything again from nothing.
busy('first', 30, 8);
quickly('DROP EXTENSION tasker CASCADE', 'first');
is($t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'first' AND backend_type = 'tasker executor'}), 0, 'its executors are gone');
$t->sql('DROP SCHEMA acc CASCADE', 'first');
$t->install('first');
$t->alice($definitions, 'first');
more('first', 0.1, 4);
$t->all_done('created again, it runs', 30, 'first');
$t->ledger_exact('created again: ledger', 'first');

# Rolled back, it is as if nothing had been.
more('first', 0.3, 12);
quickly([ 'BEGIN', 'DROP EXTENSION tasker CASCADE', 'ROLLBACK' ], 'first');
$t->all_done('a DROP EXTENSION that is rolled back: work goes on', 30, 'first');
$t->ledger_exact('rolled back: ledger', 'first');

# Who may not drop it does not stop it either.
more('first', 1, 4);
my @before = sort $t->pids('executor', 'first');
for my $command ('DROP EXTENSION tasker CASCADE', 'DROP DATABASE first', 'ALTER DATABASE first RENAME TO mine', 'ALTER EXTENSION tasker UPDATE') {
  my ($rc) = $t->try_sql($command, user => 'alice', db => $command =~ /DATABASE/ ? 'postgres' : 'first');
  isnt($rc, 0, "alice may not: $command");
}
# Another one may have come meanwhile for what was waiting.
my %now = map { $_ => 1 } $t->pids('executor', 'first');
is_deeply([ grep { !$now{$_} } @before ], [], 'and no executor has left for that');
$t->all_done('nor does a step notice', 30, 'first');
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps', 'first'), 1, 'no attempt is charged so far');

# ALTER EXTENSION and ALTER DATABASE.
more('first', 0.3, 12);
quickly('ALTER EXTENSION tasker UPDATE', 'first');
runs('first');
quickly('ALTER DATABASE first RENAME TO second', 'postgres');
$t->all_done('renamed: work goes on under the new name', 30, 'second');
$t->ledger_exact('renamed: ledger', 'second');
is($t->sql(q{SELECT count(*) FROM tasker.tasks WHERE state <> 'complete'}, 'second'), 0, 'every task is complete');

# A copy of a busy database is held; its original goes on.
more('second', 0.3, 20);
my $from = $t->log_offset;
quickly('CREATE DATABASE copy TEMPLATE second', 'postgres');
my $copied = $t->sql('SELECT count(*) FROM acc.ledger', 'copy');
cmp_ok($t->sql('SELECT count(*) FROM tasker.tasks WHERE live', 'copy'), '>', 0, 'the copy has live tasks');
$t->all_done('the original goes on', 60, 'second');
$t->ledger_exact('the original: ledger', 'second');
held('copy', $copied, qr/is held: this database is a copy of another one/, $from);

# A dump restored elsewhere is held, too.
more('second', 0.3, 20);
my $dump = $t->node->basedir . '/second.dump';
$t->node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $t->node->connstr('second') ], 'pg_dump of a busy database');
$t->sql('CREATE DATABASE restored');
$from = $t->log_offset;
$t->node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $t->node->connstr('restored'), $dump ], 'pg_restore');
$copied = $t->sql('SELECT count(*) FROM acc.ledger', 'restored');
cmp_ok($t->sql('SELECT count(*) FROM tasker.tasks WHERE live', 'restored'), '>', 0, 'the dump has live tasks');
$t->all_done('the original goes on', 60, 'second');
held('restored', $copied, qr/is held: its tasks were created in another database/, $from);
is($t->sql('SELECT count(*) > 0 FROM tasker.task_transitions', 'restored'), 't', 'history came along');

# Held: nothing started, run_task refuses, release_hold lets it run.
sub held {
  my ($db, $effects, $reason, $offset) = @_;
  my $id = $t->sql('SELECT min(task_id) FROM tasker.tasks WHERE live', $db);
  my ($rc, undef, $err) = $t->try_sql("CALL tasker.run_task($id)", user => 'alice', db => $db);
  ok($rc != 0, "$db: run_task refuses");
  like($err, $reason, "$db: and says why");
  # The dispatcher has looked, said so, and started nothing.
  my $until = time + 20;
  $t->wait_for('SELECT true', 1) until $t->log_since($offset) =~ $reason || time > $until;
  like($t->log_since($offset), $reason, "$db: the log says so");
  is($t->sql('SELECT count(*) FROM acc.ledger', $db), $effects, "$db: nothing has run");
  is($t->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND datname = '$db'"), 0, "$db: no executor");
  is($t->sql(q{SELECT tasker.release_hold('a drill')}, $db), 't', "$db: released");
  $t->all_done("$db: then its tasks run", 60, $db);
  $t->ledger_exact("$db: ledger", $db);
}

# The owner of live tasks goes away: nobody else notices.
$t->sql('CREATE ROLE bob LOGIN');
$t->sql(q{DO $$ BEGIN IF to_regproc('tasker.grant_access') IS NOT NULL THEN PERFORM tasker.grant_access('bob', 'submitter');
  ELSE GRANT USAGE ON SCHEMA tasker TO bob; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA tasker TO bob; END IF; END $$}, 'second');
my ($rc, $ids, $err) = $t->try_sql(q{SELECT tasker.create_task('t', 'nap', '{"sleep": 20}') FROM generate_series(1, 2)}, user => 'bob', db => 'second');
is($rc, 0, 'bob has tasks') or diag($err);
my $bobs = join ',', split /\n/, $ids;
$t->wait_ok(q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND usename = 'bob' AND wait_event = 'PgSleep'}, 'which run', 20, 'second');
$t->alice(q{SELECT count(tasker.create_task('t', 'nap', '{"sleep": 0.3}')) FROM generate_series(1, 12)}, 'second');
quickly('DROP OWNED BY bob', 'second');
quickly('DROP ROLE bob', 'second');
$t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live AND task_id NOT IN ($bobs))", 'tasks of others run to their end', 30, 'second');
is($t->sql("SELECT count(*) FROM tasker.tasks WHERE state <> 'complete' AND task_id NOT IN ($bobs)", 'second'), 0, 'and are complete');
$t->wait_ok("SELECT count(*) = 2 FROM tasker.tasks WHERE state = 'error' AND task_id IN ($bobs)", 'tasks of a dropped owner end', 45, 'second');
is($t->sql("SELECT DISTINCT error ->> 'category' FROM tasker.workflow_steps WHERE state = 'error' AND task_id IN ($bobs)", 'second'), 'privilege', 'as privilege')
  or diag($t->sql("SELECT task_id, step_no, state, error FROM tasker.workflow_steps WHERE task_id IN ($bobs)", 'second'));

# DROP DATABASE, last.
more('second', 30, 8);
quickly('DROP DATABASE second', 'postgres');
quickly('DROP DATABASE copy', 'postgres');
# Those of other databases may idle on.
$t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type = 'tasker executor' AND NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = a.datid))},
  'no executor of theirs is left', 20);
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11/, 'nothing crashed');
$t->node->stop;
done_testing();
