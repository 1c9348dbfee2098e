# Steps of type http against a scripted server: what each outcome makes of a step, and how often the server was asked, with
# idempotency 'key' and 'none'; kills, crashes, cancels, limits, rights and secrets.
use strict;
use warnings;

use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time usleep);

my $t = TaskerNode->start('http', conf => "tasker.predictive_retry = off\ntasker.breaker_failure_threshold = 0\ntasker.sweep_interval = 1h\nfsync = on\n");
my $node = $t->node;

# ---- the server, and how often it was asked -----------------------------------------------------------------------

my ($in, $out, $err) = ('', '', '');
my $folder = PostgreSQL::Test::Utils::tempdir;
my $server = IPC::Run::start([ 'python3', 'test/http/server.py', $folder ], '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(600));
sub answer {
  $server->pump until $out =~ s/^(.*)\n//;
  return JSON::PP->new->allow_nonref->decode($1);
}
my $ports = answer();
sub hits { $in .= "hits $_[0]\n"; return answer() }
sub hits_at_least { my ($name, $count) = @_; my $until = time + 20; usleep 20_000 while hits($name) < $count && time < $until }
sub hits_reach { my ($name, $count, $what) = @_; my $until = time + 20; usleep 20_000 while hits($name) < $count && time < $until; is(hits($name), $count, $what) }

sub server { my ($name, $port, $options) = @_; $t->sql("CREATE SERVER $name FOREIGN DATA WRAPPER tasker_http OPTIONS (url 'http://127.0.0.1:$port'" . ($options // ", allow_private 'on'") . "); GRANT USAGE ON FOREIGN SERVER $name TO alice") }
server('local', $ports->{http});
server('alone', $ports->{alone});
server('trapped', $ports->{trap}, '');
server('silent', $ports->{silent});
server('nobody', 1);

# One step, "call"; the definition's name is the tag under which the server counts its requests.
my %defaults = (max_attempts => 2, backoff => { base_seconds => 0.05, multiplier => 1, jitter => 0 });
sub define {
  my ($name, $handler, %step) = @_;
  my %handler = (type => 'http', server => 'local', %$handler);
  $handler{query}{tag} = $name;
  my $deadline = delete $step{deadline_seconds};
  my $definition = encode_json({ namespace => 't', name => $name, ($deadline ? (deadline_seconds => $deadline) : ()), steps => [ { name => 'call', handler => \%handler, %defaults, %step } ] });
  $t->alice("SELECT tasker.define_task(\$def\$$definition\$def\$)");
}
sub create { my ($name, $options) = @_; return $t->alice("SELECT tasker.create_task('t', '$name', '{\"id\": 7}'" . ($options // '') . ')') }
sub ended { my ($id, $seconds) = @_; $t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", $seconds // 30) // do { $t->show_live; fail("task $id ends") } }
sub step { my ($id) = @_; return $t->alice("SELECT concat_ws('|', state, attempts, error ->> 'category', error ->> 'retryable') FROM tasker.step_status WHERE task_id = $id") }
sub column { my ($id, $column) = @_; return $t->alice("SELECT $column FROM tasker.step_status WHERE task_id = $id") }
sub under_way { return $t->sql('SELECT count(*) FROM tasker.transfers') }
sub run { my ($name, $handler, %step) = @_; define($name, $handler, %step); my $id = create($name); ended($id); return $id }

# ---- one call ------------------------------------------------------------------------------------------------------

my $id = run('post', { method => 'POST', path => '/echo/${/context/id}', query => { flag => '${/context/id}' }, headers => { 'X-Id' => 'n${/context/id}' }, body => { x => '${/context/id}', y => 'a${/context/id}' } });
is(step($id), 'complete|1', 'a call is made');
my $echo = decode_json(column($id, 'result'));
my %header = map { lc $_->[0] => $_->[1] } @{ $echo->{headers} };
is("$echo->{method} $echo->{target}", 'POST /echo/7?flag=7&tag=post', 'with path and query of the templates');
is_deeply(decode_json($echo->{body}), { x => 7, y => 'a7' }, 'and a body that keeps types');
is($header{'x-id'}, 'n7', 'and its headers');
is($header{'idempotency-key'}, $t->sql("SELECT lpad(to_hex(nonce), 16, '0') || '-$id-1--1-0' FROM tasker.home"), 'the idempotency key is that of the step');
is($header{'x-correlation-id'}, $t->alice("SELECT correlation_id FROM tasker.task_status WHERE task_id = $id"), 'the correlation id goes along');
like($header{traceparent}, qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'and a traceparent');
like($header{'user-agent'}, qr/^tasker\//, 'and who calls');
is($t->alice("SELECT string_agg(to_state || coalesce(' ' || (metadata ->> 'server'), ''), ', ' ORDER BY sort_key) FROM tasker.task_history WHERE task_id = $id AND step_name = 'call'"),
  'in_progress local, complete', 'the history tells begin and end');
is($t->sql("SELECT string_agg(state, ' ') FROM tasker.workers WHERE kind = 'courier'"), 'idle', 'the courier is among the workers');
is(column(run('pointer', { path => '/echo', result => '/method' }), 'result'), '"GET"', 'result is a pointer into the answer');
my $rerun = create('post');
ended($rerun);
$t->alice("SELECT tasker.rerun_task_from($rerun, 'call')");
ended($rerun);
my %keys = map { $_ => 1 } map { my $e = decode_json($_ || '{}'); map { $_->[1] } grep { lc $_->[0] eq 'idempotency-key' } @{ $e->{headers} // [] } }
  (column($rerun, 'result'), $t->alice("SELECT metadata ->> 'previous_result' FROM tasker.task_history WHERE task_id = $rerun AND metadata ? 'previous_result'"));
is(scalar keys %keys, 2, 'a rerun has a key of its own');

# ---- every outcome, with and without a key -------------------------------------------------------------------------

my %none = (method => 'POST', body => {});
my @outcomes = (
  # name, handler, keys of the step; then "state|attempts|category|retryable hits" with a key, and without.
  [ 'ok', { path => '/status/200' }, {}, 'complete|1 1', 'complete|1 1' ],
  [ 'expected', { path => '/status/404', expect => [404] }, {}, 'complete|1 1', 'complete|1 1' ],
  [ 'missing', { path => '/status/404' }, {}, 'error|1|client_error|false 1', 'error|1|client_error|false 1' ],
  [ 'conflict', { path => '/status/409' }, {}, 'error|2|conflict|true 2', 'error|2|conflict|true 2' ],
  [ 'timed', { path => '/status/408' }, {}, 'error|2|timeout|true 2', 'error|2|timeout|true 2' ],
  [ 'early', { path => '/status/425' }, {}, 'error|2|client_error|true 2', 'error|2|client_error|true 2' ],
  [ 'many', { path => '/status/429' }, {}, 'error|2|rate_limit|true 2', 'error|2|rate_limit|true 2' ],
  [ 'broken', { path => '/status/500' }, {}, 'error|2|server_error|true 2', 'error|2|server_error|true 2' ],
  [ 'busy', { path => '/status/503' }, {}, 'error|2|server_error|true 2', 'error|2|server_error|true 2' ],
  [ 'moved', { path => '/redirect' , query => { to => '/echo' } }, {}, 'error|1|client_error|false 1', 'error|1|client_error|false 1' ],
  [ 'reset', { server => 'alone', path => '/swallow' }, {}, 'error|2|connection|true 2', 'error|1|outcome_unknown|false 1' ],
  [ 'half', { path => '/half' }, {}, 'error|2|connection|true 2', 'error|1|outcome_unknown|false 1' ],
  [ 'slow', { path => '/delay/20000' }, { timeout_seconds => 0.3 }, 'error|2|timeout|true 2', 'error|1|outcome_unknown|false 1' ],
  [ 'silent', { server => 'silent', path => '/x' }, { timeout_seconds => 0.3 }, 'error|2|timeout|true 0', 'error|1|outcome_unknown|false 0' ],
  [ 'nobody', { server => 'nobody', path => '/x' }, {}, 'error|2|connection|true 0', 'error|2|connection|true 0' ],
  [ 'private', { server => 'trapped', path => '/x' }, {}, 'error|1|privilege|false 0', 'error|1|privilege|false 0' ],
  [ 'template', { path => '/echo/${/context/no}' }, {}, 'error|1|validation|false 0', 'error|1|validation|false 0' ],
  [ 'nowhere', { path => '/echo', result => '/no' }, {}, 'error|1|validation|false 1', 'error|1|validation|false 1' ],
  [ 'large', { path => '/huge', query => { bytes => 2_000_000 } }, {}, 'error|1|resource|false 1', 'error|1|resource|false 1' ],
);
my @begun;
for my $case (@outcomes) {
  my ($name, $handler, $step, @expected) = @$case;
  for my $way ([ 'key', {}, $expected[0] ], [ 'none', \%none, $expected[1] ]) {
    my ($kind, $more, $expected) = @$way;
    define("${name}_$kind", { %$handler, %$more, query => { %{ $handler->{query} // {} } } }, %$step);
    push @begun, [ create("${name}_$kind"), "${name}_$kind", $expected ];
  }
}
for (@begun) {
  my ($task, $name, $expected) = @$_;
  ended($task);
  is(step($task) . ' ' . hits($name), $expected, "outcome $name");
}
$in .= "trapped\n";
is(answer(), 0, 'nothing that is not public was dialled');
is(under_way(), 0, 'nothing is under way');
is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'and all invariants hold');
like(column($begun[21][0], "error ->> 'hint'"), qr/find out at the endpoint/, 'an unknown outcome says what to do');

# A request with a key is sent again by the client itself when a connection that was kept turns out to be dead: nothing was
# heard from it, and the key makes the second harmless. One without takes no kept connection. Nobody else calls this server,
# so each attempt finds one kept connection or none.
for (1, 2) {
  is(step(run("keeps$_", { server => 'alone', path => '/status/200' })), 'complete|1', 'a connection is kept');
  my ($more, $expected) = $_ == 1 ? (\%none, 'error|1|outcome_unknown|false 1') : ({}, 'error|2|connection|true 3');
  is(step(run("kept$_", { server => 'alone', path => '/swallow', %$more })) . ' ' . hits("kept$_"), $expected, 'reset on it, ' . ($_ == 1 ? 'without a key' : 'with one'));
}
is(column($begun[2 * 6][0], "error -> 'context' ->> 'status'"), 429, 'the status is in the context of the error');

# A second definition of retry: what the server asks for is taken as it is.
my $asked = run('after', { path => '/status/503', query => { retry_after => 2 } });
is($t->alice("SELECT string_agg(concat_ws(' ', metadata #>> '{error,retry,delay_seconds}', metadata #>> '{error,retry,requested_seconds}'), ',' ORDER BY sort_key)
  FROM tasker.task_history WHERE task_id = $asked AND to_state = 'error' AND step_name = 'call' AND metadata #> '{error,retry}' ? 'delay_seconds'"), '2.0 2.0', 'Retry-After is the delay');

# ---- cancels and deadlines -----------------------------------------------------------------------------------------

my $free = "SELECT NOT EXISTS (SELECT FROM tasker.transfers) AND NOT EXISTS (SELECT FROM tasker.workers WHERE kind = 'courier' AND state <> 'idle')";
define('cancelled', { path => '/delay/60000', %none }, timeout_seconds => 100);
$id = create('cancelled');
hits_reach('cancelled', 1, 'a long call is under way');
is(step($id), 'in_progress|1', 'and in progress');
is($t->alice("SELECT concat_ws(' ', r.step_name, r.attempt, r.worker, s.worker) FROM tasker.running_steps AS r JOIN tasker.step_status AS s USING (task_id) WHERE task_id = $id"), 'call 1 courier courier', 'and among those that run');
is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'all invariants hold meanwhile');
is($t->sql("BEGIN; DELETE FROM tasker.transfers; SELECT string_agg(DISTINCT check_name, ' ') FROM tasker.check(); ROLLBACK"), 'call_without_transfer', 'among them that each call is known');
$t->alice("SELECT tasker.cancel_task($id)");
my $took = $t->wait_for($free, 10);
cmp_ok($took // 99, '<', 3, 'cancelled, it is aborted');
is(step($id), 'cancelled|1', 'and stays cancelled');
define('late', { path => '/delay/60000' }, timeout_seconds => 100, deadline_seconds => 1.5);
$id = create('late');
ended($id);
is(step($id), 'error|1|timeout|false', 'the deadline ends a call');
$took = $t->wait_for($free, 10);
cmp_ok($took // 99, '<', 4, 'which is aborted too');
is(hits('late'), 1, 'after one request');

# ---- rights --------------------------------------------------------------------------------------------------------

define('revoked', { path => '/echo' });
$id = create('revoked', q{, run_at => now() + interval '1 s'});
$t->sql('REVOKE USAGE ON FOREIGN SERVER local FROM alice');
ended($id);
is(step($id) . ' ' . hits('revoked'), 'error|1|privilege|false 0', 'USAGE is asked for at each attempt');
my ($rc, undef, $message) = $t->try_sql(q{SELECT tasker.create_task('t', 'revoked')}, user => 'alice');
like($message, qr/role "alice" may not use server "local".*GRANT USAGE ON FOREIGN SERVER local/s, 'and when a task is created');
$t->sql('GRANT USAGE ON FOREIGN SERVER local TO alice');

# ---- limits --------------------------------------------------------------------------------------------------------

server('paced', $ports->{http}, q{, allow_private 'on', rate '5/s'});
define('paced', { server => 'paced', path => '/echo' });
my $begun = time;
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'paced', array_fill('{}'::jsonb, ARRAY[11]))});
$t->all_done('paced calls end');
$took = time - $begun;
cmp_ok($took, '>', 1.8, 'a rate is kept');
cmp_ok($took, '<', 8, 'and used');
is($t->sql("SELECT string_agg(DISTINCT attempts::text, '') FROM tasker.workflow_steps JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'paced'") . ' ' . hits('paced'),
  '1 11', 'each is made once');
# What waits for its turn outlives whoever holds it: the dispatcher, then the courier.
for my $kind ('dispatcher', 'courier') {
  my $before = hits('paced');
  $t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'paced', array_fill('{}'::jsonb, ARRAY[8]))});
  hits_at_least('paced', $before + 2);
  my ($pid) = $t->pids($kind);
  $t->sql("SELECT pg_terminate_backend($pid)");
  $t->all_done("paced calls end when the $kind is terminated");
  my $lost = $t->sql(q{SELECT coalesce(sum(attempts - 1), 0) FROM tasker.workflow_steps JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'paced'});
  cmp_ok($lost, '<=', $kind eq 'courier' ? 1 : 0, 'and none was begun in vain but what was under way');
  is($t->sql(q{SELECT count(*) FROM tasker.workflow_steps JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'paced' AND tasks.state <> 'complete'}), 0, 'all are complete');
}
server('narrow', $ports->{http}, q{, allow_private 'on', max_concurrency '2'});
define('narrow', { server => 'narrow', path => '/delay/300' });
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'narrow', array_fill('{}'::jsonb, ARRAY[8]))});
$t->all_done('calls of a narrow server end');
is($t->sql(q{SELECT max(n) FROM (SELECT a.task_id, count(*) AS n FROM tasker.workflow_steps a JOIN tasker.workflow_steps b ON b.started_at <= a.started_at AND b.finished_at > a.started_at
    JOIN tasker.tasks ta ON ta.task_id = a.task_id JOIN tasker.tasks tb ON tb.task_id = b.task_id AND tb.named_task_id = ta.named_task_id
    JOIN tasker.named_tasks n ON n.named_task_id = ta.named_task_id WHERE n.name = 'narrow' GROUP BY 1) x}), 2, 'max_concurrency holds: others do not begin');

# A breaker that is open keeps calls back.
$t->sql(q{SELECT tasker.trip_breaker('local', 'test')});
define('broke', { path => '/echo' });
$id = create('broke');
$t->wait_ok("SELECT blocking_reason LIKE 'circuit_open: local%' FROM tasker.step_status WHERE task_id = $id", 'an open breaker holds a call back');
is(hits('broke'), 0, 'nothing is sent');
$t->sql(q{SELECT tasker.reset_breaker('local')});
ended($id);
is(step($id) . ' ' . hits('broke'), 'complete|1 1', 'until it is closed');

# A half-open one lets one through.
$t->sql(q{SELECT tasker.configure_breaker('local', failure_threshold => 1, open_time => '1 s')});
run('opener', { path => '/status/500' }, max_attempts => 1);
$t->wait_ok(q{SELECT state = 'open' FROM tasker.circuit_breakers WHERE system = 'local'}, 'failed calls open a breaker');
define('probe', { path => '/delay/300' });
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'probe', array_fill('{}'::jsonb, ARRAY[5]))});
hits_reach('probe', 1, 'when it is half open one call is made');
$t->all_done('and when that works, the others');
is(hits('probe'), 5, 'each once');
$t->sql(q{SELECT tasker.configure_breaker('local')});

# Somebody holds the rows of one task: only that one waits, at the beginning of its call and at its end.
define('locked', { path => '/delay/200' });
define('free', { path => '/echo' });
my $holder = $node->background_psql('postgres');
my $later = create('locked', q{, run_at => now() + interval '1 s'});
$holder->query_safe("BEGIN; SELECT FROM tasker.tasks WHERE task_id = $later FOR UPDATE");
$begun = time;
$t->wait_for("SELECT run_at < now() - interval '0.5 s' FROM tasker.tasks WHERE task_id = $later", 10);
my $other = create('free');
ended($other, 5);
is(step($other) . '/' . step($later) . ' ' . hits('locked'), 'complete|1/pending|0 0', 'a locked task does not begin, another one does');
$holder->query_safe('COMMIT');
hits_reach('locked', 1, 'it begins when it is free');
$holder->query_safe("BEGIN; SELECT FROM tasker.tasks WHERE task_id = $later FOR UPDATE");
$t->wait_for("SELECT started_at < now() - interval '0.6 s' FROM tasker.workflow_steps WHERE task_id = $later", 10);
$other = create('free');
ended($other, 5);
is(step($other) . '/' . step($later), 'complete|1/in_progress|1', 'nor does it end, and others do');
$holder->query_safe('COMMIT');
ended($later);
is(step($later) . ' ' . hits('locked'), 'complete|1 1', 'until it is free');
$holder->quit;

# ---- secrets -------------------------------------------------------------------------------------------------------

my $canary = 'Canary5551212';
$t->sql("CREATE USER MAPPING FOR PUBLIC SERVER local OPTIONS (bearer '$canary')");
$t->sql("ALTER SYSTEM SET log_min_messages = 'debug5'; ALTER SYSTEM SET log_error_verbosity = 'verbose'; ALTER SYSTEM SET log_statement = 'all'");
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT current_setting('log_min_messages') = 'debug5'}, 'the log takes everything');
my $offset = $t->log_offset;
$id = run('canary', { path => '/echo' });
like(column($id, 'result'), qr/Bearer \[redacted\]/, 'the credentials were sent, and are not in the result');
run('canary_error', { path => '/status/500' });
run('canary_reset', { path => '/swallow', %none });
run('canary_template', { path => '/echo/${/context/no}' });
($rc, undef, $message) = $t->try_sql("CREATE USER MAPPING FOR alice SERVER local OPTIONS (bearer 'x$canary', token 'y$canary')");
unlike($message, qr/$canary/, 'no message of the validator has a value');
unlike(join("\n", grep { !/CREATE USER MAPPING/ } split /\n/, $t->log_since($offset)), qr/$canary/, 'nothing of ours in the log has the secret');
$t->sql('ALTER SYSTEM RESET ALL');
$t->sql('SELECT pg_reload_conf()');
unlike($t->sql(q{SELECT string_agg(a::text, '') FROM pg_stat_activity a WHERE backend_type LIKE 'tasker%'}), qr/$canary/, 'nor pg_stat_activity');
my $dump = '';
IPC::Run::run([ 'pg_dump', '--data-only', '-d', $node->connstr('postgres') ], '>', \$dump);
like($dump, qr/redacted/, 'the tables were dumped');
unlike($dump, qr/$canary/, 'nor any table');
$t->sql('DROP USER MAPPING FOR PUBLIC SERVER local');

# ---- a courier that ends --------------------------------------------------------------------------------------------

$t->sql("ALTER SYSTEM SET tasker.predictive_retry = off; ALTER SYSTEM SET tasker.breaker_failure_threshold = 1");
$t->sql('SELECT pg_reload_conf()');
my $round = 0;
# A call with a key and one without are under way when it happens: the first is made again, the second never.
sub lost {
  my ($what, $happens) = @_;
  $round++;
  define("key$round", { path => "/first/key$round/60000" }, timeout_seconds => 100);
  define("none$round", { path => "/first/none$round/60000", %none }, timeout_seconds => 100);
  my ($key, $none) = (create("key$round"), create("none$round"));
  hits_reach("key$round", 1, "$what: the first call is under way");
  hits_reach("none$round", 1, "$what: and the second");
  $happens->();
  $t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $key", "$what: a call with a key ends");
  $t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $none", "$what: one without ends");
  is(step($key) . ' ' . hits("key$round"), 'complete|2 2', "$what: with a key it is made again");
  is(step($none) . ' ' . hits("none$round"), 'error|1|outcome_unknown|false 1', "$what: without, its outcome is unknown and it is never made again");
  is($t->alice("SELECT metadata #>> '{error,category}' FROM tasker.task_history WHERE task_id = $key AND step_name = 'call' AND to_state = 'error'"), 'connection', "$what: the history tells of the lost attempt");
  is($t->sql("SELECT state FROM tasker.circuit_breakers WHERE system = 'local'"), 'closed', "$what: which says nothing about the server");
  is(under_way(), 0, "$what: nothing is left behind");
}
lost('terminated', sub { my ($pid) = $t->pids('courier'); $t->sql("SELECT pg_terminate_backend($pid)") });
lost('killed', sub { my ($pid) = $t->pids('courier'); kill 'KILL', $pid; $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 30) });
lost('stopped', sub { $node->stop('immediate'); $node->start });
lost('restarted', sub { $node->restart });
lost('dispatcher terminated and courier killed', sub {
  my ($dispatcher) = $t->pids('dispatcher');
  my ($courier) = $t->pids('courier');
  $t->sql("SELECT pg_terminate_backend($dispatcher), pg_terminate_backend($courier)");
});

# A dispatcher that goes takes no call with it.
define('alone', { path => '/delay/2000' });
$id = create('alone');
hits_reach('alone', 1, 'a call is under way');
my ($dispatcher) = $t->pids('dispatcher');
$t->sql("SELECT pg_terminate_backend($dispatcher)");
ended($id);
is(step($id) . ' ' . hits('alone'), 'complete|1 1', 'and ends, whatever happens to the dispatcher');

# ---- at each moment that matters -----------------------------------------------------------------------------------

SKIP: {
  my ($has) = $t->try_sql(q{SET tasker.fault = 'none:error'});
  skip 'the library has no fault points (build with FAULTS=1)', 1 if $has != 0;
  sub set_fault {
    my ($fault) = @_;
    $t->sql("ALTER SYSTEM SET tasker.fault = '$fault'");
    $t->try_sql('SELECT pg_reload_conf()');
    $t->wait_for("SELECT current_setting('tasker.fault') = '$fault'", 20) // die "not armed: $fault";
  }
  # point, action; then attempts and requests of a call with a key, state, attempts and requests of one without
  my @faults = (
    [ 'courier.begin', 'error', 'complete|1 1', 'complete|1 1' ],
    [ 'courier.begin', 'kill', 'complete|1 1', 'complete|1 1' ],
    [ 'courier.begun', 'error', 'complete|2 1', 'error|1|outcome_unknown|false 0' ],
    [ 'courier.begun', 'kill', 'complete|2 1', 'error|1|outcome_unknown|false 0' ],
    [ 'courier.end', 'error', 'complete|2 2', 'error|1|outcome_unknown|false 1' ],
    [ 'courier.end', 'kill', 'complete|2 2', 'error|1|outcome_unknown|false 1' ],
    [ 'courier.ended', 'error', 'complete|1 1', 'complete|1 1' ],
    [ 'courier.ended', 'kill', 'complete|1 1', 'complete|1 1' ],
  );
  for my $case (@faults) {
    my ($point, $action, @expected) = @$case;
    for my $kind ('key', 'none') {
      my $name = join '_', $point =~ s/\./_/r, $action, $kind;
      define($name, { path => '/echo', ($kind eq 'none' ? %none : ()) });
      unlink glob $node->data_dir . '/pg_stat_tmp/tasker_fault_*';
      set_fault("$point:$action:" . ($kind eq 'none' ? '01' : '1'));  # another text: a process counts hits by it
      my $task = create($name, ", run_at => clock_timestamp() + interval '500 ms'");  # not before this session is gone: a crash would end it
      $t->wait_for("SELECT state <> 'pending' FROM tasker.workflow_steps WHERE task_id = $task", 20);
      # The setting hits each new process once: a point in the end of a call must not hit the recovery's own.
      $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker courier') OR (SELECT NOT live FROM tasker.tasks WHERE task_id = $task)", 20);
      set_fault('');
      ended($task);
      is(step($task) . ' ' . hits($name), $expected[ $kind eq 'none' ], "$point $action with idempotency $kind");
    }
  }
  is(under_way(), 0, 'nothing is left behind');
  is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'and all invariants hold');
}

# ---- databases come and go ------------------------------------------------------------------------------------------

$t->sql('CREATE DATABASE other');
$t->install('other');
$t->sql("CREATE SERVER local FOREIGN DATA WRAPPER tasker_http OPTIONS (url 'http://127.0.0.1:$ports->{http}', allow_private 'on'); GRANT USAGE ON FOREIGN SERVER local TO alice", 'other');
$t->alice(q{SELECT tasker.define_task('{"name": "gone", "steps": [{"name": "call", "timeout_seconds": 100, "handler": {"type": "http", "server": "local", "path": "/delay/60000", "query": {"tag": "gone"}}}]}')}, 'other');
$t->alice(q{SELECT tasker.create_task('default', 'gone')}, 'other');
hits_reach('gone', 1, 'a call of another database is under way');
$begun = time;
($rc, undef, $message) = $t->try_sql('DROP DATABASE other');
is("$rc $message", '0 ', 'which can be dropped');
cmp_ok(time - $begun, '<', 4, 'at once');

$in = '';
$server->kill_kill;
done_testing();
