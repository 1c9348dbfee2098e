# Traces: one a task, a span an attempt, sent to a collector by the courier, in the form that OTLP/HTTP JSON asks for.
use strict;
use warnings;

use HttpCalls;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('traces', conf => "fsync = on\ntasker.predictive_retry = off\n");
my $folder = PostgreSQL::Test::Utils::tempdir;
my ($in, $out) = ('', '');
my $collector = IPC::Run::start([ 'python3', 'test/http/collector.py', $folder ], '<', \$in, '>', \$out, IPC::Run::timeout(600));
$collector->pump until $out =~ /^(\d+)\n/;
my $port = $1;
my $h = HttpCalls->new($t);
$h->endpoint('local', 'http://127.0.0.1:' . $h->port('http'));
$h->endpoint('collector', "http://127.0.0.1:$port");

sub answer_with { my ($status) = @_; open my $file, '>', "$folder/status" or die $!; print $file $status; close $file; return }

# ---- what arrived, each span checked ---------------------------------------------------------------------------------

my %problems;
sub problem { my ($what) = @_; $problems{$what}++; return }
sub check_keys {
  my ($what, $object, %types) = @_;
  for my $key (keys %$object) { problem("$what has a member $key") unless $types{$key} || $types{"$key?"} }
  for my $key (grep { !/\?$/ } keys %types) { problem("$what has no $key") unless exists $object->{$key} }
  return;
}
sub check_value {
  my ($value) = @_;
  my ($kind, @more) = keys %$value;
  problem('a value of several kinds') if @more;
  problem("a value of kind $kind") unless $kind =~ /^(string|int|bool)Value$/;
  problem('an intValue that is no string of digits') if $kind eq 'intValue' && $value->{intValue} !~ /^-?\d+$/;
  return;
}
sub check_attributes { my ($list) = @_; for (@$list) { check_keys('an attribute', $_, key => 1, value => 1); check_value($_->{value}) } return }
sub check_span {
  my ($span) = @_;
  check_keys('a span', $span, map { $_ => 1 } qw(traceId spanId parentSpanId? name kind startTimeUnixNano endTimeUnixNano attributes links? status));
  problem('traceId') unless $span->{traceId} =~ /^[0-9a-f]{32}$/ && $span->{traceId} !~ /^0+$/;
  problem('spanId') unless $span->{spanId} =~ /^[0-9a-f]{16}$/ && $span->{spanId} !~ /^0+$/;
  problem('parentSpanId') unless !exists $span->{parentSpanId} || $span->{parentSpanId} =~ /^[0-9a-f]{16}$/;
  problem('kind') unless $span->{kind} =~ /^[1-5]$/;
  problem("$_: not nanoseconds of our days") for grep { $span->{$_} !~ /^1[78]\d{17}$/ } qw(startTimeUnixNano endTimeUnixNano);
  problem('it ends before it starts') if $span->{endTimeUnixNano} < $span->{startTimeUnixNano};
  problem('status') if grep { !/^(code|message)$/ } keys %{ $span->{status} } or ($span->{status}{code} // 0) !~ /^[012]$/;
  check_attributes($span->{attributes});
  for my $link (@{ $span->{links} // [] }) { check_keys('a link', $link, traceId => 1, spanId => 1) }
  return;
}
# Spans that arrived, by span id.
sub spans {
  my %found;
  open my $file, '<', "$folder/requests" or return {};
  for my $line (<$file>) {
    my $request = decode_json($line);
    problem("path $request->{path}") if $request->{path} ne '/v1/traces';
    problem("type $request->{type}") if $request->{type} ne 'application/json';
    my $body = JSON::PP->new->utf8(0)->decode($request->{body});
    check_keys('the request', $body, resourceSpans => 1);
    for my $resource (@{ $body->{resourceSpans} }) {
      check_keys('a resource', $resource, resource => 1, scopeSpans => 1);
      check_attributes($resource->{resource}{attributes});
      for my $scope (@{ $resource->{scopeSpans} }) {
        check_keys('a scope', $scope, scope => 1, spans => 1);
        for my $span (@{ $scope->{spans} }) { check_span($span); $found{ $span->{spanId} } = $span }
      }
    }
  }
  close $file;
  return \%found;
}
sub attribute { my ($span, $key) = @_; my ($found) = grep { $_->{key} eq $key } @{ $span->{attributes} }; return $found && (values %{ $found->{value} })[0] }
# The root of a task's trace, and its attempts by name and number.
sub trace_of {
  my ($id) = @_;
  my $all = spans();
  my @own = grep { (attribute($_, 'tasker.task_id') // 0) == $id } values %$all;
  my ($root) = grep { !defined attribute($_, 'tasker.step') } @own;
  return ($root, { map { attribute($_, 'tasker.step') . ' ' . attribute($_, 'tasker.attempt') => $_ } grep { defined attribute($_, 'tasker.step') } @own });
}
sub arrives {
  my ($id, $what) = @_;
  $t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", 60);
  for (1 .. 600) {
    my ($root) = trace_of($id);
    return pass($what) if $root;
    $t->sql('SELECT pg_sleep(0.05)');
  }
  diag($t->sql('SELECT * FROM tasker.event_subscribers'));
  return fail($what);
}
my $drained = q{SELECT pending = 0 AND in_flight = 0 FROM tasker.event_subscribers WHERE subscription_name = 'spans'};

# ---- shapes ------------------------------------------------------------------------------------------------------------

$t->alice(definition('linear', 'a:step; b:step < a; c:step < b'));
$t->alice(definition('diamond', 'a:step; b:step < a; c:step < a; d:step < b, c'));
$t->alice(definition('parallel', 'a:step; b:step; c:step'));
$t->alice(definition('flaky', 'a:step_flaky; b:step < a', backoff => '{"base_seconds": 0.05, "multiplier": 1, "jitter": 0}'));
$t->alice(definition('leaky', 'a:step_do', max_attempts => 1));
$h->define('call', { path => '/echo' });
my $before = $t->alice(q{SELECT tasker.create_task('t', 'linear')});
$t->all_done('a task without anybody to be told');
my $ends = q{'{task.completed,task.failed,task.cancelled,task.resolved_manually}'};
like(($t->node->psql('postgres', q{SELECT tasker.subscribe('spans', '{step.completed}', 'traces', 'collector')}, extra_params => [ '-U', 'alice' ]))[2], qr/traces are sent when a task has ended/, 'only ends of tasks');
$t->alice("SELECT tasker.subscribe('spans', $ends, 'traces', 'collector', max_attempts => 2)");

my %edges = (linear => { b => ['a'], c => ['b'] }, diamond => { b => ['a'], c => ['a'], d => [ 'b', 'c' ] }, parallel => {});
for my $shape (sort keys %edges) {
  my $id = $t->alice("SELECT tasker.create_task('t', '$shape')");
  arrives($id, "$shape: its trace arrives");
  my ($root, $attempts) = trace_of($id);
  is($root->{name}, "t.$shape", "$shape: the task's own span");
  ok(!exists $root->{parentSpanId}, 'without a parent');
  is(scalar(keys %$attempts), $t->sql("SELECT count(*) FROM tasker.workflow_steps WHERE task_id = $id"), 'a span an attempt');
  is(scalar(grep { $_->{parentSpanId} ne $root->{spanId} || $_->{traceId} ne $root->{traceId} } values %$attempts), 0, 'beneath it, in one trace');
  for my $child (sort map { /^(\w)/ } keys %$attempts) {
    my @links = sort map { $_->{spanId} } @{ $attempts->{"$child 1"}{links} // [] };
    is_deeply(\@links, [ sort map { $attempts->{"$_ 1"}{spanId} } @{ $edges{$shape}{$child} // [] } ], "$child: linked to what it waited for");
  }
  is($t->sql("SELECT bool_and(abs(extract(epoch FROM s.started_at) * 1e6 - v.began) < 1 AND abs(extract(epoch FROM s.finished_at) * 1e6 - v.ended) < 1) FROM tasker.workflow_steps s"
    . " JOIN tasker.tasks t USING (task_id) JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no JOIN (VALUES "
    . join(', ', map { my $s = $attempts->{"$_ 1"}; "('$_', " . substr($s->{startTimeUnixNano}, 0, -3) . ', ' . substr($s->{endTimeUnixNano}, 0, -3) . ')' } map { /^(\w)/ } keys %$attempts)
    . ") v(name, began, ended) ON v.name = d.name WHERE s.task_id = $id"), 't', 'with real starts and ends');
}

# ---- attempts, errors, and the header of a call --------------------------------------------------------------------------

my $id = $t->alice(q{SELECT tasker.create_task('t', 'flaky', '{"good": 3}')});
arrives($id, 'attempts: they arrive');
my ($root, $attempts) = trace_of($id);
is_deeply([ sort keys %$attempts ], [ 'a 1', 'a 2', 'a 3', 'b 1' ], 'each its own span');
is_deeply([ map { $attempts->{"a $_"}{status}{code} } 1 .. 3 ], [ 2, 2, 1 ], 'with how it ended');
is(attribute($attempts->{'a 1'}, 'error.type'), 'P0001', 'and why');
is_deeply([ map { $_->{spanId} } @{ $attempts->{'b 1'}{links} } ], [ $attempts->{'a 3'}{spanId} ], 'the next step waited for the one that went well');

$id = $t->alice(q{SELECT tasker.create_task('t', 'leaky', '{"a": "DO $$ BEGIN RAISE ''no entry: password=hunter2-canary''; END $$", "secret": "canary-context"}')});
arrives($id, 'a failed task: it arrives');
($root, $attempts) = trace_of($id);
is($root->{status}{code}, 2, 'as an error');
like($attempts->{'a 1'}{status}{message}, qr/no entry: password=\[masked\]/, 'a secret in its message is masked');
unlike(slurp_file("$folder/requests"), qr/canary/, 'and nothing of it or of the context was sent');

$id = $t->alice(q{SELECT tasker.create_task('t', 'call', '{"id": 7}', correlation_id => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01')});
arrives($id, 'a call: it arrives');
($root, $attempts) = trace_of($id);
my $sent = $h->ask('asked call')->[-1]{headers}{traceparent};
is($sent, "00-$attempts->{'call 1'}{traceId}-$attempts->{'call 1'}{spanId}-01", 'its traceparent named this span');
is($root->{traceId} . $root->{parentSpanId}, '4bf92f3577b34da6a3ce929d0e0e473600f067aa0ba902b7', 'and the trace is that of the correlation id');
is($attempts->{'call 1'}{kind}, 3, 'a span of a client');
is((trace_of($before))[0], undef, 'nothing of a task that ended before');

# ---- a collector that refuses spans, one by one ----------------------------------------------------------------------------

$t->wait_ok($drained, 'all has arrived');
is($t->sql(q{SELECT last_error IS NULL FROM tasker.event_subscribers WHERE subscription_name = 'spans'}), 't', 'and nothing was refused');
PostgreSQL::Test::Utils::append_to_file("$folder/answer", '{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}');
$id = $t->alice(q{SELECT tasker.create_task('t', 'linear')});
arrives($id, 'spans that are refused: they arrive');
$t->wait_ok(q{SELECT last_error = 'the collector rejected 2 spans: too old' AND dropped = 0 AND failures = 0 AND state = 'active' FROM tasker.event_subscribers WHERE subscription_name = 'spans'},
  'and the subscription tells what the collector said');
unlink "$folder/answer";

# ---- a collector that is down --------------------------------------------------------------------------------------------

$t->wait_ok($drained, 'all has arrived');
answer_with(503);
$id = $t->alice(q{SELECT tasker.create_task('t', 'linear')});
$t->wait_ok(q{SELECT dropped = 1 AND failures = 1 AND state = 'active' AND last_error IS NOT NULL FROM tasker.event_subscribers WHERE subscription_name = 'spans'}, 'what fails for good is dropped and counted, and the export goes on', 90);
$t->alice(definition('nothing', 'a:-'));
$t->alice(q{SELECT tasker.pause_subscription('spans')});
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'nothing', array_fill('{}'::jsonb, ARRAY[10500]))});
$t->wait_ok(q{SELECT dropped = 501 AND pending = 10000 FROM tasker.event_subscribers WHERE subscription_name = 'spans'}, 'a bounded number waits: what comes then is dropped, and counted', 120);

# ---- places, exactly -----------------------------------------------------------------------------------------------------

# Tasks that nobody runs: each that is cancelled is one trace more. All places are taken.
my @spare = split /\n/, $t->alice(q{SELECT tasker.create_tasks('t', 'nothing', array_fill('{}'::jsonb, ARRAY[2000]), run_at => now() + interval '1 day')});
my ($dropped, $pending) = (501, 10000);
sub cancel { my $task = shift @spare // die 'no task is left'; return "PERFORM tasker.cancel_task($task);" }
sub as_alice { $t->alice("DO \$\$ BEGIN @_ END \$\$"); return }
sub undone { return "BEGIN @_ RAISE 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END;" }
sub drop_one { as_alice(cancel()); $dropped++; return }
sub figures {
  my ($what) = @_;
  my $figures = q{SELECT dropped || ' ' || pending FROM tasker.event_subscribers WHERE subscription_name = 'spans'};
  $t->wait_for("SELECT ($figures) = '$dropped $pending'", 20);
  is($t->sql($figures), "$dropped $pending", $what);
  return;
}

drop_one();
figures('what is dropped is told at once');
$t->alice('BEGIN; SELECT ' . (cancel() =~ s/PERFORM //r) . ' ROLLBACK');
as_alice(undone(cancel()) . cancel());
$dropped++;
figures('but not what is rolled back, whole or to a savepoint');
SKIP: {
  skip 'the library has no fault points (build with FAULTS=1)', 1 if ($t->try_sql(q{SET tasker.fault = 'none:error'}))[0] != 0;
  my ($holder, $client) = map { $t->node->background_psql('postgres') } 1 .. 2;
  # Drops until the dispatcher, which looks at what was dropped, is at the point; it goes on when the block has ended. A point is
  # armed by another word each time: one that is armed as before has been hit already.
  sub fault { my ($fault) = @_; $t->sql("ALTER SYSTEM SET tasker.fault = '$fault'"); $t->sql('SELECT pg_reload_conf()'); $t->wait_for("SELECT current_setting('tasker.fault') = '$fault'", 10) // die 'not armed' }
  my $stopped_at = sub {
    my ($point, $word, $do) = @_;
    $holder->query_safe("SELECT pg_advisory_lock(1413829461, hashtext('$point'))");
    fault("$point:$word");
    my $waits = q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1413829461 AND NOT granted)};
    my $until = time + 20;
    drop_one() while $t->sql($waits) ne 't' && time < $until;
    is($t->sql($waits), 't', "the dispatcher is at $point");
    $do->() if $do;
    fault('');
    $holder->query_safe('SELECT pg_advisory_unlock_all()');
  };
  $stopped_at->('events.commit', 'pause', \&drop_one);
  figures('what is dropped while the dispatcher looks is told as well');

  $t->sql(q{DELETE FROM tasker.event_outbox WHERE event_id = (SELECT min(event_id) FROM tasker.event_outbox)});
  $pending--;
  $stopped_at->('traces.counted', 'pause');
  figures('the places are counted again: one is free');
  $t->alice('BEGIN; SELECT ' . (cancel() =~ s/PERFORM //r) . ' ROLLBACK');
  as_alice(undone(cancel()));
  $client->query_safe('SET SESSION AUTHORIZATION alice');
  $client->query_safe('BEGIN');
  $client->query_safe("DO \$\$ BEGIN " . cancel() . ' END $$');
  $stopped_at->('traces.counted', 'pause:1', sub { $client->query_safe('COMMIT') });
  $pending++;
  figures('taken, by a transaction that ended while they were counted once more');
  drop_one();
  figures('it is the last one');
  $_->quit for $holder, $client;
}

# ---- and what waited goes out --------------------------------------------------------------------------------------------

answer_with(200);
$t->alice(q{SELECT tasker.resume_subscription('spans')});
$t->wait_ok($drained, 'then all that waited is delivered', 240);
my %tasks = map { attribute($_, 'tasker.task_id') => 1 } grep { $_->{name} eq 't.nothing' } values %{ spans() };
is(scalar(keys %tasks), 10000, 'and arrives');

# ---- how many such subscriptions -----------------------------------------------------------------------------------------

$t->alice("SELECT tasker.subscribe('spans' || n, $ends, 'traces', 'collector') FROM generate_series(2, 16) n");
like(($t->node->psql('postgres', "SELECT tasker.subscribe('spans17', $ends, 'traces', 'collector')", extra_params => [ '-U', 'alice' ]))[2],
  qr/a database has at most 16 subscriptions of kind traces/, 'there is a limit');
$t->alice(q{SELECT tasker.unsubscribe('spans' || n) FROM generate_series(2, 16) n});

# ---- kills ---------------------------------------------------------------------------------------------------------------

$t->alice("SELECT tasker.subscribe('spans', $ends, 'traces', 'collector', max_attempts => 20)");
my $last = $t->sql('SELECT max(task_id) FROM tasker.tasks');
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'nothing', array_fill('{}'::jsonb, ARRAY[500]))});
for my $kind (qw(courier dispatcher courier)) {
  my ($pid) = $t->pids($kind);
  next if !$pid;
  my $from = $t->log_offset;
  kill 9, $pid;
  $t->wait_log($from, qr/terminated by signal 9/);
  $t->wait_for(q{SELECT true}, 60);
}
$t->node->poll_query_until('postgres', 'SELECT true');
$t->wait_ok(qq{SELECT count(*) = 500 FROM tasker.tasks t JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = 'nothing' AND task_id > $last AND NOT live}, 'after kills the last tasks end');
$t->wait_ok($drained, 'and all of them is delivered', 120);
%tasks = map { attribute($_, 'tasker.task_id') => 1 } grep { $_->{name} eq 't.nothing' && attribute($_, 'tasker.task_id') > $last } values %{ spans() };
is(scalar(keys %tasks), 500, 'none is lost');
is_deeply(\%problems, {}, 'and every span is as the specification has it');

$h->stop;
$collector->kill_kill;
$t->node->stop;
done_testing();
