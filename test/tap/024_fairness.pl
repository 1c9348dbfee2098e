# Who is next: what waits ages, so that nothing starves; namespaces have turns; owners share the executors that there are.
use strict;
use warnings;

use TaskerNode;
use Test::More;

# One executor, and no step shares a transaction: the dispatcher decides on each.
my $t = TaskerNode->start('fairness',
  conf => "tasker.max_executors = 1\ntasker.dynamic_concurrency = off\ntasker.max_concurrent_steps = 16\ntasker.max_batch_duration = 0\ntasker.sweep_interval = 1h\ntasker.priority_ageing = 0\n");
for my $user (qw(bob carol)) {
  $t->sql("CREATE ROLE $user LOGIN");
  $t->sql("SELECT tasker.grant_access('$user', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l");
}
my $nap = definition('nap', 'a:step_sleep');
(my $elsewhere = $nap) =~ s/"namespace": "t"/"namespace": "other"/;
$t->alice($_) for $nap, $elsewhere, definition('gate', 'a:step_do');

sub as { my ($user, $query, $db) = @_; my ($rc, $out, $err) = $t->try_sql($query, user => $user, db => $db); die $err if $rc; return split /\n/, $out }
# nap(user, seconds, how many, namespace =>, priority =>, db =>) → ids
sub nap {
  my ($user, $sleep, $n, %o) = @_;
  return as($user, sprintf(q{SELECT tasker.create_task('%s', 'nap', '{"sleep": %s}', priority => %d) FROM generate_series(1, %d)}, $o{namespace} // 't', $sleep, $o{priority} // 0, $n), $o{db});
}
sub set {
  my ($name, $value) = @_;
  $t->sql("ALTER SYSTEM SET $name = '$value'");
  $t->sql('SELECT pg_reload_conf()');
  defined $t->wait_for("SELECT setting = '$value' FROM pg_settings WHERE name = '$name'", 20) or die "$name is not $value";
}
# A step that occupies the executor until gate 1 is opened: what is created meanwhile waits in the dispatcher.
sub occupy {
  $t->close_gates(1);
  as('alice', q{SELECT tasker.create_task('t', 'gate', '{"a": "SELECT acc.pass(1)"}')});
  $t->wait_at_gate(1);
}
# Which of these tasks began first, second, …
sub order { my %name = @_; return join ' ', map { $name{$_} // () } split /\n/, $t->sql('SELECT task_id FROM acc.ledger ORDER BY at') }
sub began { my ($db, @ids) = @_; return $t->sql('SELECT count(*) FROM acc.ledger WHERE task_id IN (' . join(', ', @ids) . ')', $db) }

# ---- What a level of priority is worth
for my $case ([ 0, 0, 'urgent old' ], [ 3600000, 3600000, 'urgent old' ], [ 100, 100, 'old urgent' ], [ 0, 100, 'old urgent' ], [ 100, 3600000, 'urgent old' ]) {
  my ($before, $after, $expected) = @$case;
  set('tasker.priority_ageing', $before);
  occupy();
  my ($old) = nap('alice', 0, 1);
  $t->wait_for("SELECT clock_timestamp() > created_at + interval '2 s' FROM tasker.tasks WHERE task_id = $old", 10);
  my ($urgent) = nap('alice', 0, 1, priority => 3);
  set('tasker.priority_ageing', $after) if $after != $before;
  $t->open_gates(1);
  $t->all_done('all end');
  is(order($old => 'old', $urgent => 'urgent'), $expected, "three levels against 2 s of waiting, where one is worth $after ms" . ($after == $before ? '' : ", told while they wait"));
}

# ---- Higher ones keep coming
set('tasker.priority_ageing', 0);
my $low;
# Hundreds of priority 5 wait (seconds of work), until the condition holds or $bound of them have begun.
sub feed {
  my ($bound, $condition) = @_;
  my $begun = $t->sql('SELECT count(*) FROM acc.ledger');
  while (1) {
    my ($waiting, $now, $over) = split /\|/, $t->sql("SELECT (SELECT count(*) FROM tasker.tasks WHERE live), (SELECT count(*) FROM acc.ledger), ($condition)");
    return $now - $begun if $over eq 't' || $now - $begun > $bound;
    nap('alice', 0.01, 200, priority => 5) if $waiting < 400;
  }
}
occupy();
nap('alice', 0.01, 400, priority => 5);
($low) = nap('alice', 0, 1);
$t->open_gates(1);
feed(100, 'false');
is(began(undef, $low), 0, 'without ageing a hundred of higher priority went before it');
set('tasker.priority_ageing', 100);
my $steps = feed(1000, "EXISTS (SELECT FROM acc.ledger WHERE task_id = $low)");
is(began(undef, $low), 1, 'with ageing it begins while higher ones keep coming');
note("$steps steps after ageing was switched on");
$t->all_done('all end');
cmp_ok($t->sql("SELECT count(*) FROM tasker.tasks t JOIN acc.ledger l USING (task_id), acc.ledger mine WHERE mine.task_id = $low AND t.created_at < mine.at AND l.at > mine.at"), '>', 5, 'of which many wait');

# ---- Namespaces
set('tasker.priority_ageing', 30000);
nap('alice', 0.01, 20, namespace => 'other');
$t->all_done('what these take is known');
occupy();
my %of = map { $_ => 't' } nap('alice', 0.01, 60, priority => 1000);
$of{$_} = 'other' for nap('alice', 0.01, 10, namespace => 'other');
$t->open_gates(1);
$t->all_done('all end');
my @order = split / /, order(%of);
my ($last) = grep { $order[$_] eq 'other' } reverse 0 .. $#order;
is(scalar @order, 70, 'everything ran');
cmp_ok($last, '<', 28, "a namespace with ten steps has its turns beside one with sixty of higher priority");
note('the last of ten was number ' . ($last + 1));

# ---- Owners, one executor: whoever has waited longest is next
occupy();
my @who = ([ 'alice', undef, 0 ], [ 'bob', undef, 0 ], [ 'carol', undef, 0 ]);
my @ids = map { [ nap($_->[0], 0.05, 40, db => $_->[1]) ] } @who;
$t->open_gates(1);
$t->all_done('all end');
my $mine = 'VALUES ' . join ', ', map { my $who = $_; map { "($who, $_)" } @{ $ids[$who] } } 0 .. $#who;
my @counts = split /\n/, $t->sql(<<"SQL");
WITH begun AS (SELECT who, at, row_number() OVER (PARTITION BY who ORDER BY at) AS n FROM ($mine) AS v(who, task_id) JOIN (SELECT task_id, at FROM acc.ledger) AS l USING (task_id))
SELECT count(*) FROM begun WHERE at <= (SELECT min(at) FROM begun WHERE n = 40) GROUP BY who
SQL
note("when the first of three has begun its 40 steps: @counts");
note($t->sql(q{SELECT string_agg(left(who, 1), '' ORDER BY at) FROM acc.ledger WHERE task_id >= } . $ids[0][0]));
my @here = sort { $a <=> $b } @counts;
is(scalar @here, 3, 'three owners');
cmp_ok($here[0], '>=', 5, 'owners with one executor: nobody is left out');
cmp_ok($here[2] - $here[0], '<=', 10, 'and they are no more than a turn or two apart');

# ---- Owners, four executors: as even as they can be
set('tasker.max_executors', 4);
sub busy { my ($user, $n) = @_; return "(SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND usename = '$user' AND wait_event = 'PgSleep')" }
my @long = nap('alice', 0.2, 400);
$t->wait_ok('SELECT ' . busy('alice', 4), 'alone alice has all four', 20);
push @long, nap('bob', 0.2, 400);
$t->wait_ok('SELECT ' . busy('alice', 2) . ' AND ' . busy('bob', 2), 'two and two, once bob has as much to do', 20);
is($t->sql('SELECT count(*) > 400 FROM tasker.tasks WHERE live'), 't', 'while both have steps that wait');
$t->sql("SELECT tasker.cancel_task(ARRAY[@{[join ', ', @long]}])");
$t->all_done('all end');
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps'), 1, 'nobody paid with an attempt for giving way');
$t->ledger_exact;

$t->node->stop;
done_testing();
