# What is read when hints are lost: the tasks that may have lost one, and not all that an old snapshot keeps in the index.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('sweeps', conf => "autovacuum = off\ntasker.sweep_interval = 1h\n");
$t->alice(definition('one', 'a:step'));
sub create { my ($n) = @_; $t->alice("SELECT count(*) FROM tasker.create_tasks('t', 'one', array_fill('{}'::jsonb, ARRAY[$n]))"); $t->all_done("$n tasks end") }
sub entries { return $t->sql(q{SELECT idx_tup_read FROM pg_stat_all_indexes WHERE schemaname = 'tasker' AND indexrelname = 'tasks_runnable'}) }
# A process tells what it has read once in a second at most, and after a transaction: the dispatcher writes its figures every five
# seconds while something ends.
sub told {
  my ($begun, @seen) = ($t->sql('SELECT clock_timestamp()'));
  for (1 .. 20) {
    create(1);
    my $now = $t->sql('SELECT clock_timestamp()');
    $t->wait_for("SELECT clock_timestamp() > '$now'::timestamptz + interval '1.1 s'", 10);
    push @seen, entries();
    return $seen[-1] if @seen > 1 && $seen[-1] == $seen[-2] && $t->sql("SELECT clock_timestamp() > '$begun'::timestamptz + interval '7 s'") eq 't';
  }
  die "not told: @seen";
}

my $holder = $t->node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query_safe('SELECT count(*) FROM tasker.tasks');
create(4000);
my $before = told();
create(1500);
my $read = told() - $before;
cmp_ok($read, '>', 500, 'hints were lost: tasks were read from the index');
cmp_ok($read, '<', 2000, 'but not those that are done, which the snapshot keeps there');
note("$read entries of the index read for 1,500 tasks beside 4,000 that are done");
$holder->query_safe('COMMIT');
$holder->quit;
$t->ledger_exact;

$t->node->stop;
done_testing();
