# Limits on steps: never more at once, never more in a second than may be, by the clocks of the steps themselves; several
# limits at a time; by key; children of a batch; changed, paused, cancelled and restarted while steps wait.
use strict;
use warnings;

use HttpCalls;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('limits', conf => "tasker.max_executors = 8\ntasker.dynamic_concurrency = off\ntasker.max_concurrent_steps = 16\ntasker.max_batch_duration = 30ms\ntasker.sweep_interval = 1h\n");
$t->sql(q{CREATE ROLE bob LOGIN; SELECT tasker.grant_access('bob', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l});
# Says itself from when to when it ran.
$t->sql(<<'SQL');
CREATE TABLE acc.runs (task_id bigint, step_name text, customer text, began timestamptz, ended timestamptz, txid xid8 DEFAULT pg_current_xact_id());
GRANT SELECT, INSERT ON acc.runs TO PUBLIC;
CREATE FUNCTION acc.step_timed(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  began CONSTANT timestamptz := clock_timestamp();
BEGIN
  PERFORM acc.note(step), pg_sleep((step.context ->> 'sleep')::float8);
  INSERT INTO acc.runs VALUES (step.task_id, step.step_name, step.context ->> 'customer', began, clock_timestamp());
  RETURN '{}';
END $$;
SQL
$t->alice($_) for definition('nap', 'a:step_timed'), definition('doze', 'a:step_timed'), definition('quick', 'a:step_timed'), definition('gate', 'a:step_do'),
  definition('chain', 'a:step_timed; b:step_timed < a; c:step_timed < b'), definition('flaky', 'a:step_flaky', backoff => '{"base_seconds": 0.01, "multiplier": 1, "jitter": 0}');

my %ids;  # by label, of everything
# create('nap', 10, context, user): ids
sub create {
  my ($name, $n, $context, $user) = @_;
  my ($rc, $out, $err) = $t->try_sql("SELECT tasker.create_task('t', '$name', '$context') FROM generate_series(1, $n)", user => $user // 'alice');
  die $err if $rc;
  return split /\n/, $out;
}
sub limit { my ($arguments) = @_; return $t->sql("SELECT tasker.set_step_limit('t', $arguments)") }
sub of { return 'task_id IN (' . join(', ', @_) . ')' }
# The most that ran at once, of the runs that the condition picks.
sub most {
  my ($which) = @_;
  return $t->sql(<<"SQL");
WITH r AS (SELECT * FROM acc.runs WHERE $which), e AS (SELECT began AS at, 1 AS d FROM r UNION ALL SELECT ended, -1 FROM r)
SELECT max(n) FROM (SELECT sum(d) OVER (ORDER BY at, d) AS n FROM e) AS x
SQL
}
sub waiting { my ($n, $what, $where) = @_; return $t->wait_ok("SELECT coalesce(sum(waiting), 0) = $n FROM tasker.step_limits" . ($where ? " WHERE $where" : ''), $what, 30) }
sub done { my ($what, @ids) = @_; return $t->wait_ok('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live AND ' . of(@ids) . ')', $what, 60) }

# ---- Without limits, for comparison
my @ids = create('nap', 8, '{"sleep": 1}');
done('without a limit all end', @ids);
cmp_ok(most(of(@ids)), '>', 3, 'without a limit many run at once');
is($t->sql('SELECT count(*) FROM tasker.step_limits'), 0, 'and there is no limit');

# ---- Two at once, of two owners
is(limit(q{'nap', 'a', max_running => 2}), 't', 'a limit of two');
@ids = (create('nap', 12, '{"sleep": 0.05}'), create('nap', 12, '{"sleep": 0.05}', 'bob'));
my @free = create('doze', 6, '{"sleep": 0.05}');
done('what is under no limit goes on', @free);
done('two at once: all end', @ids);
is(most(of(@ids)), 2, 'two at once, never more, by their own clocks');
is($t->sql('SELECT count(DISTINCT who) FROM acc.ledger WHERE ' . of(@ids)), 2, 'of both owners');
is($t->sql(q{SELECT running || ' ' || waiting FROM tasker.step_limits}), '0 0', 'and nobody runs or waits in the end');

# ---- More than may begin in a second: short steps, that would share transactions
@ids = create('quick', 60, '{"sleep": 0}');
done('they are known to be quick', @ids);
is(limit(q{'quick', per_second => 20, burst => 5}), 't', 'a rate');
@ids = create('quick', 45, '{"sleep": 0}');
done('a rate: all end', @ids);
my $runs = 'FROM acc.runs WHERE ' . of(@ids);
my ($busiest, $took) = split /\|/, $t->sql("SELECT max(n), extract(epoch FROM max(began) - min(began)) FROM (SELECT began, count(*) OVER (ORDER BY began RANGE BETWEEN CURRENT ROW AND '1 s' FOLLOWING) AS n $runs) AS x");
# The burst and a second's worth; one begins a moment after it was told to.
cmp_ok($busiest, '<=', 27, 'a rate: no second has more');
cmp_ok($took, '>=', 1.9, 'a rate: 45 take (45 - 5) / 20 seconds');
cmp_ok($took, '<', 8, 'a rate: and not much longer');
note("$busiest in the busiest second, $took s");
is(limit(q{'quick'}), 't', 'the rate is taken away');

# ---- Two limits at a time: the step's own and the namespace's
is(limit(q{max_running => 4}), 't', 'four in the namespace');
@ids = create('nap', 10, '{"sleep": 0.05}');
@free = create('doze', 20, '{"sleep": 0.05}');
done('two limits: all end', @ids, @free);
is(most(of(@ids)), 2, 'two limits: the step keeps its own');
is(most(of(@ids, @free)), 4, 'two limits: and all of them the namespace\'s');
is(limit('max_running => NULL'), 't', 'the namespace is free again');

# ---- Raised while steps wait
is(limit(q{'nap', 'a', max_running => 0}), 't', 'closed');
@ids = create('nap', 9, '{"sleep": 0.2}');
waiting(9, 'closed: all wait');
is($t->alice("SELECT blocking_reason FROM tasker.get_step_readiness_status($ids[0])"), 'concurrency_limit: step t.nap.a: 0 of 0 run, 9 wait', 'closed: and say so');
is($t->sql('SELECT count(*) FROM acc.ledger WHERE ' . of(@ids)), 0, 'closed: none has begun');
is(limit(q{'nap', 'a', max_running => 5}), 't', 'raised');
done('raised: all end', @ids);
is(most(of(@ids)), 5, 'raised: five at once');

# ---- Cancelled, paused, failed
limit(q{'nap', 'a', max_running => 0});
@ids = create('nap', 6, '{"sleep": 0}');
waiting(6, 'all wait');
$t->sql("SELECT tasker.cancel_task(ARRAY[$ids[0], $ids[1]])");
is($t->sql(q{SELECT tasker.pause_tasks('t', 'nap')}), 't', 'a pause while they wait');
waiting(0, 'what is paused waits for no limit');
limit(q{'nap', 'a', max_running => 1, per_second => 0.001, burst => 4});
$t->sql(q{SELECT tasker.resume_tasks('t', 'nap')});
done('the rest ends, with a token for each of the rest', @ids);
is($t->sql('SELECT count(*) FROM acc.ledger WHERE ' . of(@ids)), 4, 'and nothing that was cancelled has run');
is(most(of(@ids)), 1, 'one by one');
limit(q{'nap', 'a', max_running => 0});
@ids = create('nap', 5, '{"sleep": 0}');
waiting(5, 'again all wait');
$t->sql("SELECT tasker.cancel_task(ARRAY[$ids[0], $ids[1], $ids[2]])");
limit(q{'nap', 'a', per_second => 0.001, burst => 2});
done('tokens are for those that were not cancelled', @ids);
limit(q{'nap', 'a'});
limit(q{'flaky', max_running => 1});
@ids = create('flaky', 6, '{"good": 2}');
done('what fails comes again under its limit', @ids);
is($t->sql('SELECT min(attempts) || max(attempts)::text FROM tasker.workflow_steps WHERE ' . of(@ids)), '22', 'with two attempts each');
limit(q{'flaky'});

# ---- Children that a batch would run itself
@ids = create('chain', 40, '{"sleep": 0}');
done('chains are known to be quick', @ids);
sub together { my (@of) = @_; return $t->sql('SELECT count(*) FROM (SELECT FROM acc.runs WHERE ' . of(@of) . ' GROUP BY task_id HAVING count(DISTINCT txid) = 1) AS x') }
@ids = create('chain', 20, '{"sleep": 0}');
done('chains', @ids);
cmp_ok(together(@ids), '>', 0, 'children run in the batch of their parents');
limit(q{'chain', 'b', max_running => 0});
@ids = create('chain', 20, '{"sleep": 0}');
waiting(20, 'children under a limit wait for it');
is($t->sql("SELECT string_agg(DISTINCT step_name, '') FROM acc.runs WHERE " . of(@ids)), 'a', 'none has run in a batch');
limit(q{'chain', 'b', max_running => 1});
done('and go on', @ids);
is(most(of(@ids) . q{ AND step_name = 'b'}), 1, 'one at a time');
limit(q{'chain', 'b'});

# ---- By key
limit(q{'nap', key => '/customer', max_running => 0});
@ids = map { create('nap', 4, qq({"sleep": 0.05, "customer": "$_"})) } qw(red green blue);
waiting(12, 'by key: all wait');
limit(q{'nap', key => '/customer', max_running => 1});
@free = create('nap', 6, '{"sleep": 0.1}');
done('by key: all end', @ids, @free);
is(most(of(@ids) . " AND customer = '$_'"), 1, "by key: one at a time of $_") for qw(red green blue);
cmp_ok(most(of(@ids)), '>', 1, 'by key: but of several');
cmp_ok(most(of(@free)), '>', 1, 'by key: and any of those without');
limit(q{'nap', key => '/customer'});

# ---- The dispatcher comes anew; an executor is lost; the server is restarted
limit(q{'gate', 'a', max_running => 2});
$t->close_gates(1);
@ids = create('gate', 6, '{"a": "SELECT acc.pass(1)"}');
my $state = q{SELECT running || ' ' || waiting FROM tasker.step_limits};
my $at_gate = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objid = 1 AND objsubid = 2 AND NOT granted};
sub stands { my ($what) = @_; $t->wait_ok("SELECT ($state) = '2 4' AND ($at_gate) = 2", $what) or note($t->sql($state) . ', at the gate ' . $t->sql($at_gate)) }
stands('two run, four wait');
my ($dispatcher) = $t->pids('dispatcher');
kill 15, $dispatcher;
$t->wait_ok("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND pid <> $dispatcher)", 'a new dispatcher');
my ($witness) = create('doze', 1, '{"sleep": 0}');
done('it works', $witness);
stands('and has counted those that run');
my $lost = $t->wait_at_gate(1);
kill 15, $lost;
$t->wait_ok("SELECT ($at_gate) = 2 AND NOT EXISTS (SELECT FROM pg_locks WHERE pid = $lost)", 'an executor is lost: its place is taken');
$t->open_gates(1);
done('all end', @ids);
limit(q{'gate', 'a', max_running => 0});
@ids = create('gate', 3, '{}');
waiting(3, 'three wait');
(delete $t->{gatekeeper})->quit;
$t->node->restart;
waiting(3, 'after a restart they wait again');
is($t->sql('SELECT count(*) FROM acc.ledger WHERE ' . of(@ids)), 0, 'and none has run');
limit(q{'gate', 'a'});
done('and run without the limit', @ids);

# ---- Calls
my $h = HttpCalls->new($t);
$h->endpoint('local', 'http://127.0.0.1:' . $h->port('http'));
$h->define('slow', { path => '/delay/300' });
limit(q{'slow', max_running => 0});
@ids = create('slow', 5, '{}');
waiting(5, 'calls wait, too');
is($h->hits('slow'), 0, 'and nobody was asked');
limit(q{'slow', max_running => 1});
done('calls one by one', @ids);
is($h->hits('slow'), 5, 'each once');
is(
  $t->sql('SELECT count(*) FROM tasker.workflow_steps a JOIN tasker.workflow_steps b ON a.task_id < b.task_id AND a.started_at < b.finished_at AND b.started_at < a.finished_at'
      . ' WHERE a.' . of(@ids) . ' AND b.' . of(@ids)),
  0, 'no two at a time');
limit(q{'slow'});
$h->stop;

# ---- What nobody needs is free
is($t->sql('SELECT count(*) FROM tasker.step_limits'), 0, 'no limit is left');
$t->all_done('nothing is left over');
$t->ledger_exact;
$t->node->stop;
done_testing();
