# Events over processes and crashes: each reaches its subscriber, in order, and a function in the database exactly once.
use strict;
use warnings;

use HttpCalls;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('events', conf => "fsync = on\ntasker.predictive_retry = off\ntasker.max_executors = 4\n");
my $node = $t->node;
$t->sql(<<'SQL');
CREATE SCHEMA ev AUTHORIZATION alice;
SET SESSION AUTHORIZATION alice;
CREATE TABLE ev.got (n bigint GENERATED ALWAYS AS IDENTITY, task_id bigint, event text, step_name text, sort_key integer, occurred_at timestamptz);
CREATE FUNCTION ev.receive(context jsonb, results jsonb) RETURNS void LANGUAGE sql AS $$
  INSERT INTO ev.got (task_id, event, step_name, sort_key, occurred_at)
  SELECT (e ->> 'task_id')::bigint, e ->> 'event', e ->> 'step_name', (e ->> 'sort_key')::integer, (e ->> 'occurred_at')::timestamptz
  FROM jsonb_array_elements(context -> 'events') WITH ORDINALITY AS v(e, n) ORDER BY n
$$;
SQL
$t->alice(definition('chain', 'a:step; b:step < a; c:step < a; d:step < b, c'));
$t->alice(q{SELECT tasker.subscribe('book', '{*}', 'function', 'ev.receive', max_attempts => 20)});

my $quiet = q{SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live) AND NOT EXISTS (SELECT FROM tasker.event_outbox o JOIN tasker.event_subscription_rows s USING (subscription_id) WHERE s.kind <> 'notify')};
# What the history tells and what arrived: every move once, nothing else.
my $exact = q{SELECT (SELECT count(*) FROM (SELECT task_id, event, step_name, sort_key FROM tasker.events WHERE namespace = 't' EXCEPT ALL SELECT task_id, event, step_name, sort_key FROM ev.got) x),
  (SELECT count(*) FROM (SELECT task_id, event, step_name, sort_key FROM ev.got EXCEPT ALL SELECT task_id, event, step_name, sort_key FROM tasker.events WHERE namespace = 't') x)};
# Of one task: the moves of a step one after the other, a child after its parents, the task's end last.
my $disorder = q{SELECT count(*) FROM ev.got a JOIN ev.got b ON b.task_id = a.task_id AND b.n > a.n
  AND (a.step_name IS NOT DISTINCT FROM b.step_name AND a.sort_key >= b.sort_key OR a.event = 'task.completed' AND b.step_name IS NOT NULL
    OR a.event = 'step.execution_requested' AND b.event = 'step.completed' AND (a.step_name, b.step_name) IN (('b', 'a'), ('c', 'a'), ('d', 'b'), ('d', 'c')))};

# ---- under load ----------------------------------------------------------------------------------------------------

$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'chain', array_fill('{}'::jsonb, ARRAY[300]))});
$t->wait_ok($quiet, 'all is delivered', 120);
is($t->sql($exact), '0|0', 'every event once');
is($t->sql($disorder), 0, 'in order');
is($t->sql(q{SELECT delivered - (SELECT count(*) FROM ev.got) FROM tasker.event_subscribers WHERE subscription_name = 'book'}), 0, 'and counted');
cmp_ok($t->sql(q{SELECT count(*) FROM tasker.tasks x JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = 'book'}), '<', 300, 'many at a time');

# ---- crashes in between --------------------------------------------------------------------------------------------

for my $round (1 .. 3) {
  my $before = $t->sql('SELECT count(*) FROM ev.got');
  $t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'chain', array_fill('{}'::jsonb, ARRAY[100]))});
  $t->wait_ok("SELECT count(*) > $before FROM ev.got", "round $round: deliveries go on");
  $node->stop('immediate');
  $node->start;
}
$t->wait_ok($quiet, 'all is delivered after the crashes', 120);
is($t->sql($exact), '0|0', 'every event once: the function and the record of its delivery are one transaction');
is($t->sql($disorder), 0, 'in order');
$t->sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = \'tasker dispatcher\'');
$t->alice(q{SELECT tasker.create_task('t', 'chain')});
$t->wait_ok($quiet, 'a new dispatcher delivers', 60);
is($t->sql($exact), '0|0', 'every event once');

# ---- listeners -----------------------------------------------------------------------------------------------------

$t->alice(q{SELECT tasker.subscribe('listen', '{task.completed}', 'notify', 'done')});
my $listener = $node->background_psql('postgres', extra_params => [ '-U', 'alice' ]);
$listener->query_safe('LISTEN done');
my $id = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
my $heard = '';
my $until = time + 30;
$heard .= $listener->query_safe('SELECT pg_sleep(0.02)') . ($listener->{stderr} // '') while $heard !~ /notification "done"/ && time < $until;
like($heard, qr/notification "done" received/, 'a listener is told');
unlike($heard, qr/with payload/, 'without payload');
is($t->alice(q{SELECT task_id FROM tasker.take_events('listen')}), $id, 'and takes what there is');
$listener->quit;
$t->alice(q{SELECT tasker.unsubscribe('listen'), tasker.unsubscribe('book')});

# ---- who may be told, while executors live that have decided it before ------------------------------------------------

$t->sql(q{CREATE ROLE bob LOGIN; SELECT tasker.grant_access('bob', 'author')});
$node->safe_psql('postgres', q{SELECT tasker.subscribe('nosy', '{task.completed}', 'notify', 'nosy')}, extra_params => [ '-U', 'bob' ]);
sub told {
  my ($expected, $what) = @_;
  my $task = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
  $t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $task", 30);
  return is($t->sql("SELECT count(*) FROM tasker.event_outbox WHERE task_id = $task"), $expected, $what);
}
told(0, 'nobody is told of the tasks of others');
for my $change ([ 'GRANT alice TO bob', 'REVOKE alice FROM bob', 'a role' ], [ q{SELECT tasker.grant_access('bob', 'monitor')}, q{SELECT tasker.revoke_access('bob', 'monitor')}, 'a level' ]) {
  my ($grant, $revoke, $of) = @$change;
  $t->sql($grant);
  told(1, "who becomes a member of $of is");
  $t->sql($revoke);
  told(0, 'and is not when that is over');
}
$node->safe_psql('postgres', q{SELECT tasker.unsubscribe('nosy')}, extra_params => [ '-U', 'bob' ]);

# ---- webhooks ------------------------------------------------------------------------------------------------------

my $http = HttpCalls->new($t);
$http->endpoint('hooks', 'http://127.0.0.1:1');  # nobody listens there
$t->alice(q{SELECT tasker.subscribe('hook', '{task.completed}', 'webhook', 'hooks', path => '/echo', max_attempts => 1)});
$id = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
$t->wait_ok(q{SELECT state = 'dead' FROM tasker.event_subscribers WHERE subscription_name = 'hook'}, 'an endpoint that cannot be reached makes the subscription dead', 60);
my $delivery = $t->sql(q{SELECT delivery_task_id FROM tasker.event_subscribers WHERE subscription_name = 'hook'});
like($t->sql(q{SELECT last_error FROM tasker.event_subscribers WHERE subscription_name = 'hook'}), qr/^delivery task $delivery: deliver: /, 'and it says why');
my $next = $t->alice(q{SELECT tasker.create_task('t', 'chain')});
$t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $next", 30);
is($t->sql(q{SELECT in_flight || ' ' || pending FROM tasker.event_subscribers WHERE subscription_name = 'hook'}), '1 1', 'events wait meanwhile');
$t->sql("ALTER SERVER hooks OPTIONS (SET url 'http://127.0.0.1:" . $http->port('http') . q{'); SELECT tasker.reset_breaker('hooks')});
is($t->alice(q{SELECT tasker.resume_subscription('hook')}), 't', 'it is resumed');
$t->wait_ok($quiet, 'and all is delivered', 60);
is($http->hits('echo'), 2, 'with two calls');
my @posts = map { decode_json($_) } split /\n/, $t->sql(q{SELECT s.result FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_id) JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = 'hook' ORDER BY s.task_id});
my %first = map { lc $_->[0] => $_->[1] } @{ $posts[0]{headers} };
is($first{'idempotency-key'}, $t->sql("SELECT lpad(to_hex(nonce), 16, '0') || '-$delivery-1--1-0' FROM tasker.home"), 'the first is the one that had failed, with its key');
is_deeply([ sort { $a <=> $b } map { map { $_->{task_id} } @{ decode_json($_->{body})->{events} } } @posts ], [ $id, $next ], 'and each event came once');
is($t->sql(q{SELECT delivered || ' ' || failures || ' ' || state FROM tasker.event_subscribers WHERE subscription_name = 'hook'}), '2 1 active', 'all is counted');
is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'and all invariants hold');
$http->stop;

done_testing();
