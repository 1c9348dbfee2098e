# HTTP calls where things go wrong: answers that are no HTTP, connections and certificates that fail, aborts, kills, limits,
# private addresses, and secrets. How many requests the server really had is asked of the server.
use strict;
use warnings;

use HttpCalls;
use IPC::Run;
use JSON::PP;
use List::Util qw(min);
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time usleep);

my $t = TaskerNode->start('httpfail', conf => "tasker.predictive_retry = off\ntasker.breaker_failure_threshold = 0\ntasker.sweep_interval = 1h\nfsync = on\n");
my $node = $t->node;
my $h = HttpCalls->new($t);
my $url = 'http://127.0.0.1:' . $h->port('http');
my %none = (method => 'POST', body => {});
my %key = (method => 'POST', body => {}, idempotency => 'key');
$h->endpoint('local', $url);

# ---- what comes back, and what goes along ---------------------------------------------------------------------------

my $id = $h->run('text', { path => '/status/200', query => { type => 'text/plain', body => 'all is well' } });
is($h->column($id, 'result'), '{"text": "all is well", "content_type": "text/plain"}', 'a text is a result');
$id = $h->run('binary', { path => '/bytes', query => { hex => 'fffe00', type => 'application/octet-stream' } });
is($h->column($id, 'result'), '{"base64": "//4A", "content_type": "application/octet-stream"}', 'so are bytes');
$id = $h->run('nothing', { path => '/status/204' });
is($h->column($id, 'state, result'), 'complete|null', 'and nothing at all');

$t->alice(q{SELECT tasker.define_task('{"namespace": "t", "name": "encoded", "steps": [{"name": "call", "handler": {"type": "http", "server": "local", "path": "/echo/${/context/name}",
  "query": {"tag": "encoded", "list": [1, "${/context/name}"], "left_out": null}, "headers": {"X-Text": "<${/context/name}>"}}}]}')});
$id = $t->alice(q{SELECT tasker.create_task('t', 'encoded', '{"name": "a/b c&d=e"}')});
$h->ended($id);
my ($request) = @{ $h->ask('asked encoded') };
like($request->{target}, qr{^/echo/a%2Fb%20c%26d%3De\?}i, 'a path is encoded as a path');
is(lc join(' ', sort grep { !/^tag/ } split /&/, $request->{target} =~ s/^[^?]*\?//r), 'list=1 list=a%2fb%20c%26d%3de', 'a query as a query, arrays repeated, null left out');
is($request->{headers}{'x-text'}, '<a/b c&d=e>', 'and a header not at all');

# Over attempts and retries one key and one trace, with another span each; after a rerun another key.
$h->define('over', { path => '/sequence/over', query => { codes => '503,500,404,200' } }, max_attempts => 3);
$id = $h->create('over');
$h->ended($id);
is($h->step($id), 'error|3|client_error|false', 'three attempts');
$t->alice("SELECT tasker.retry_task($id)");
$h->ended($id);
is($h->step($id), 'complete|4', 'a retry succeeds');
$t->alice("SELECT tasker.rerun_task_from($id, 'call')");
$h->ended($id);
my @requests = @{ $h->ask('asked over') };
my @keys = map { $_->{headers}{'idempotency-key'} } @requests;
is(scalar @requests, 5, 'five requests');
like($keys[0], qr/^[0-9a-f]+-$id-1--1-0$/, 'the key names the step');
is(join(' ', @keys[ 1 .. 3 ]), join(' ', ($keys[0]) x 3), 'its attempts and retries have the same');
isnt($keys[4], $keys[0], 'a rerun has its own');
my @traces = map { [ split /-/, $_->{headers}{traceparent} ] } @requests;
is(scalar(keys %{ { map { $_->[1] => 1 } @traces } }), 1, 'one trace');
is(scalar(keys %{ { map { $_->[2] => 1 } @traces } }), 5, 'with a span for each request');
is(scalar(keys %{ { map { $_->{headers}{'x-correlation-id'} => 1 } @requests } }), 1, 'and one correlation id');

# ---- credentials ----------------------------------------------------------------------------------------------------

my %secret = (bearer => 'Canary-bearer-7411', basic => 'Canary-basic-7412', owner => 'Canary-owner-7413', public => 'Canary-public-7414');
# Not for the log, which is searched for them below.
sub mapping { my ($sql) = @_; $t->sql("SET log_statement = 'none'; SET log_min_messages = 'fatal'; SET log_min_error_statement = 'panic'; $sql") }
$h->endpoint('closed', $url);
$h->define('credentials', { server => 'closed', path => '/echo' });
sub sent {
  my ($header) = @_;
  $id = $h->create('credentials');
  $h->ended($id);
  return $h->ask('asked credentials')->[-1]{headers}{$header} // 'none';
}
is(sent('authorization'), 'none', 'without a mapping there are no credentials');
mapping("CREATE USER MAPPING FOR PUBLIC SERVER closed OPTIONS (header_name 'X-Api-Key', header_value '$secret{public}')");
is(sent('x-api-key'), $secret{public}, q{PUBLIC's mapping is used});
like($h->column($id, 'result'), qr/\["X-Api-Key", "\[redacted\]"\]/i, 'and not repeated in the result');
mapping("CREATE USER MAPPING FOR alice SERVER closed OPTIONS (bearer '$secret{bearer}')");
is(sent('authorization'), "Bearer $secret{bearer}", q{the owner's mapping goes before it});
is($h->ask('asked credentials')->[-1]{headers}{'x-api-key'}, undef, 'alone');
mapping("ALTER USER MAPPING FOR alice SERVER closed OPTIONS (DROP bearer, ADD username 'al', ADD password '$secret{basic}')");
is(sent('authorization'), 'Basic ' . encode_base64_line("al:$secret{basic}"), 'a change counts from the next attempt on');
like($h->column($id, 'result'), qr/Basic \[redacted\]/, 'in its encoded form it is not repeated either');
mapping("ALTER USER MAPPING FOR alice SERVER closed OPTIONS (DROP username, DROP password, ADD header_name 'X-Token', ADD header_value '$secret{owner}')");
is(sent('x-token'), $secret{owner}, 'a header of any name');
sub encode_base64_line { require MIME::Base64; return MIME::Base64::encode_base64($_[0], '') }

# To another host without them.
$h->endpoint('moving', $url, q{, allow_private 'on', allow_redirects 'on'});
mapping("CREATE USER MAPPING FOR alice SERVER moving OPTIONS (bearer '$secret{bearer}')");
for my $case ([ same => $url, "Bearer $secret{bearer}" ], [ other => 'http://localhost:' . $h->port('http'), 'none' ]) {
  my ($where, $to, $expected) = @$case;
  $id = $h->run("moved_$where", { server => 'moving', path => '/redirect', query => { to => "$to/echo?tag=landed_$where" } });
  is($h->step($id), 'complete|1', "a redirect to the $where host is followed");
  is($h->ask("asked landed_$where")->[0]{headers}{authorization} // 'none', $expected, "with the credentials for the $where host");
}

# ---- outcomes -------------------------------------------------------------------------------------------------------

my $pem = slurp_file($h->{ports}{ca});
$h->endpoint('tls', 'https://127.0.0.1:' . $h->port('https'), ", allow_private 'on', ca '$pem'");
$h->endpoint("tls_$_", 'https://127.0.0.1:' . $h->port($_), ", allow_private 'on', ca '$pem'") for qw(wrong expired self);
$h->endpoint('tls_unknown', 'https://127.0.0.1:' . $h->port('https'));
$h->endpoint('tls_none', 'https://127.0.0.1:' . $h->port('rude'), ", allow_private 'on', ca '$pem'");
$h->endpoint('h2', 'https://127.0.0.1:' . $h->port('h2'), ", allow_private 'on', ca '$pem'");
$h->endpoint('hasty', $url, q{, allow_private 'on', timeout '1'});
sub hex_of { return unpack 'H*', $_[0] }
my $lost = [ 'error|2|connection|true 2', 'error|1|outcome_unknown|false 1' ];
my $late = [ 'error|2|timeout|true 2', 'error|1|outcome_unknown|false 1' ];
my $untrusted = [ ('error|1|connection|false 0') x 2 ];
my $unconnected = [ ('error|2|connection|true 0') x 2 ];
my @outcomes = (
  # name, handler, keys of the step; then "state|attempts|category|retryable requests" with a key, and without
  [ tls => { server => 'tls', path => '/echo' }, {}, [ ('complete|1 1') x 2 ] ],
  [ tls_self => { server => 'tls_self', path => '/echo' }, {}, $untrusted ],
  [ tls_wrong => { server => 'tls_wrong', path => '/echo' }, {}, $untrusted ],
  [ tls_expired => { server => 'tls_expired', path => '/echo' }, {}, $untrusted ],
  [ tls_unknown => { server => 'tls_unknown', path => '/echo' }, {}, $untrusted ],
  [ tls_none => { server => 'tls_none', path => '/echo' }, {}, $unconnected ],
  [ drip => { path => '/drip', query => { bytes => 200, every => 100 } }, { timeout_seconds => 1 }, $late ],
  [ slow => { path => '/hold/never' }, { timeout_seconds => 1 }, $late ],
  [ hasty => { server => 'hasty', path => '/hold/never' }, {}, $late ],
  [ head_only => { path => '/headonly' }, {}, $lost ],
  [ half => { path => '/half' }, {}, $lost ],
  [ garbage => { path => '/raw', query => { hex => hex_of("\x00\x01 this is no HTTP\r\n\r\n") } }, {}, $lost ],
  [ old => { path => '/raw', query => { hex => hex_of('<html>HTTP/0.9</html>') } }, {}, $lost ],
  [ bad_header => { path => '/raw', query => { hex => hex_of("HTTP/1.1 200 OK\r\nContent-Length: twelve\r\n\r\n") } }, {}, $lost ],
  [ bad_chunk => { path => '/raw', query => { hex => hex_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") } }, {}, $lost ],
  [ endless => { path => '/endless' }, {}, [ ('error|1|resource|false 1') x 2 ] ],
  # An answer that says what happened is believed, whether its body came whole or not.
  [ half_500 => { path => '/half', query => { status => 500 } }, {}, [ ('error|2|server_error|true 2') x 2 ] ],
  [ half_400 => { path => '/half', query => { status => 400 } }, {}, [ ('error|1|client_error|false 1') x 2 ] ],
  [ no_json => { path => '/status/200', query => { body => '{"a":' }, result => '/a' }, {}, [ ('error|1|validation|false 1') x 2 ] ],
  (map { my $code = $_; [ "code_$code" => { path => "/status/$code" }, {}, [ ('error|1|client_error|false 1') x 2 ] ] } qw(300 304 400 401 403 405 410 418 422 451 499)),
  (map { my $code = $_; [ "code_$code" => { path => "/status/$code" }, {}, [ ('error|2|server_error|true 2') x 2 ] ] } qw(501 502 504 507 599)),
  (map { my $code = $_; [ "code_$code" => { path => "/status/$code" }, {}, [ ('complete|1 1') x 2 ] ] } qw(201 202 203 299)),
  [ not_expected => { path => '/status/200', expect => [ 201 ] }, {}, [ ('error|1|client_error|false 1') x 2 ] ],
  # What a 303 says is that the POST was served: what it points to was not to be had.
  [ see_other => { server => 'moving', path => '/redirect', query => { status => 303, to => 'http://127.0.0.1:1/' } }, {}, [ 'error|2|connection|true 2', 'error|1|outcome_unknown|false 1' ] ],
  [ around => { server => 'moving', path => '/loop' }, {}, [ 'error|1|client_error|false -', 'error|1|outcome_unknown|false -' ] ],
);
my @begun;
for my $case (@outcomes) {
  my ($name, $handler, $step, $expected) = @$case;
  for my $kind (0, 1) {
    my $full = $name . ($kind ? '_none' : '_key');
    $h->define($full, { %$handler, $kind ? %none : %key }, %$step);
    push @begun, [ $h->create($full), $full, $expected->[$kind] ];
  }
}
for (@begun) {
  my ($task, $name, $expected) = @$_;
  $h->ended($task);
  is($h->step($task) . ' ' . ($expected =~ /-$/ ? '-' : $h->hits($name)), $expected, "outcome $name") or diag($h->column($task, 'error'));
}
is($t->sql('SELECT count(*) FROM tasker.transfers'), 0, 'nothing is under way');

$id = $h->run('h2', { server => 'h2', path => '/echo' });
is($h->column($id, 'result'), '{"http": 2}', 'HTTP/2 where the server offers it');
$h->ask('h2 reset');
$id = $h->run('h2_reset', { server => 'h2', path => '/echo', %none });
is($h->step($id), 'error|1|outcome_unknown|false', 'HTTP/2: a reset after sending');

# A kept connection that turns out to be dead: without a key nothing is sent over one.
for my $way ('stale', 'hangup') {
  $h->define("kept_$way", { path => "/$way", %none });
  my @got = map { my $task = $h->create("kept_$way"); $h->ended($task); $h->step($task) } 1 .. 5;
  is(join(' ', @got, $h->hits("kept_$way")), 'complete|1 complete|1 complete|1 complete|1 complete|1 5', "$way: five calls without a key are five requests");
}

# What the server asks for: a date, and more than is granted.
sub asked_for {
  my ($name, $retry_after, $status) = @_;
  $h->define($name, { path => '/status/' . ($status // 429), query => { retry_after => $retry_after } });
  my $task = $h->create($name);
  $t->wait_ok("SELECT state = 'error' FROM tasker.step_status WHERE task_id = $task", "$name: the first attempt failed", 30);
  my $seconds = $t->alice("SELECT error #>> '{retry,delay_seconds}' FROM tasker.step_status WHERE task_id = $task");
  $t->alice("SELECT tasker.cancel_task($task)");
  return $seconds;
}
my $at = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + 100));
my $seconds = asked_for('date', $at);
cmp_ok($seconds, '<=', 100, 'Retry-After as a date');
cmp_ok($seconds, '>', 60, 'is taken as it is');
is(asked_for('far', 100_000) + 0, 300, 'at most 300 seconds are waited');
is(asked_for('busy', 20, 503) + 0, 20, 'after a 503 too');
is($h->step($h->run('words', { path => '/status/429', query => { retry_after => 'in a moment' } })), 'error|2|rate_limit|true', 'what is no delay is none');

# ---- aborts ---------------------------------------------------------------------------------------------------------

# What ends a step ends its call: the server sees the connection close.
my %abort = (
  cancelled => sub { $t->alice("SELECT tasker.cancel_task($_[0])") },
  expired => sub { $t->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $_[0]", 30) // die 'the deadline does not come' },
);
my %state = (cancelled => 'cancelled|1', expired => 'error|1|timeout|false');
for my $how (sort keys %abort) {
  for my $kind (\%key, \%none) {
    my $name = $how . ($kind == \%key ? '_key' : '_none');
    $h->define($name, { path => "/hold/$name", %$kind }, timeout_seconds => 300, ($how eq 'expired' ? (deadline_seconds => 3) : ()));
    $id = $h->create($name);
    $h->reach_ok("hits $name", 1, "$name: a call is under way");
    is($h->ask("aborted $name"), 0, "$name: which waits");
    $abort{$how}->($id);
    my $took = $h->reach("aborted $name", 1, 20);
    cmp_ok($took // 99, '<', 2, "$name: the connection is closed");
    note(sprintf '%s: after %.3f s', $name, $took // 99);
    $t->wait_ok('SELECT NOT EXISTS (SELECT FROM tasker.transfers)', "$name: and the call is over", 10);
    like($h->step($id), qr/^\Q$state{$how}\E/, "$name: the step stays what it is");
    is($h->hits($name), 1, "$name: after one request");
  }
}

# A pause takes nothing back and starts nothing.
$h->define('paused', { path => '/hold/paused' }, timeout_seconds => 300,
  more => [ { name => 'next', depends_on => ['call'], handler => { type => 'http', server => 'local', path => '/echo', query => { tag => 'paused_next' } } } ]);
$id = $h->create('paused');
$h->reach_ok('hits paused', 1, 'paused: a call is under way');
$t->alice("SELECT tasker.pause_task($id)");
$h->ask('open paused');
$t->wait_ok("SELECT state = 'complete' FROM tasker.step_status WHERE task_id = $id AND step_name = 'call'", 'paused: it ends', 20);
my $other = $h->create('text');
$h->ended($other);
is($h->hits('paused_next'), 0, 'paused: the next one does not begin');
$t->alice("SELECT tasker.resume_task($id)");
$h->ended($id);
is($h->step($id) . ' ' . $h->hits('paused') . ' ' . $h->hits('paused_next'), 'complete|1 1 1', 'resumed: it does');

# ---- what is not there any more -------------------------------------------------------------------------------------

$h->endpoint('gone', $url);
$h->define('gone', { server => 'gone', path => '/echo' });
$id = $h->create('gone');
$h->ended($id);
my $started = $h->create('gone', q{, run_at => now() + interval '1 s'});
$t->sql('DROP SERVER gone CASCADE');
$h->ended($started);
my $verdict = $h->step($started);
like($verdict, qr/^error\|1\|\w+\|false$/, 'a server that was dropped ends a step');
like($h->column($started, "error ->> 'message'"), qr/server "gone" does not exist/, 'which says so');
is($h->hits('gone'), 1, 'and nothing is sent');

# ---- addresses that are not public ----------------------------------------------------------------------------------

my $trap = $h->port('trap');
my @spellings = (
  "127.0.0.1:$trap", "localhost:$trap", "127.1:$trap", "2130706433:$trap", "0x7f000001:$trap", "0177.0.0.1:$trap", "0.0.0.0:$trap", "[::1]:$trap", "[::]:$trap",
  "[::ffff:127.0.0.1]:$trap", "[::ffff:7f00:1]:$trap", "[64:ff9b::7f00:1]:$trap", "LOCALHOST:$trap", '10.0.0.1', '172.16.0.1', '192.168.1.1', '169.254.169.254', '[fd00::1]', '[fe80::1]', '100.64.0.1');
my ($refused, @dialled) = 0;
for my $n (0 .. $#spellings) {
  my ($rc, undef, $message) = $t->try_sql("CREATE SERVER private$n FOREIGN DATA WRAPPER tasker_http OPTIONS (url 'http://$spellings[$n]', connect_timeout '5')");
  if ($rc != 0) { like($message, qr/url/, "$spellings[$n] is no url"); next }
  $t->sql("GRANT USAGE ON FOREIGN SERVER private$n TO alice");
  $h->define("private$n", { server => "private$n", path => '/', %key });
  push @dialled, [ $spellings[$n], $h->create("private$n") ];
}
for (@dialled) {
  my ($spelling, $task) = @$_;
  $h->ended($task);
  is($h->step($task), 'error|1|privilege|false', "$spelling is not dialled") or diag($h->column($task, 'error'));
}
is($h->ask('trapped'), 0, 'nobody reached the listener');
cmp_ok(scalar @dialled, '>=', 10, 'most spellings are names a server may have');
# The same listener is there for who may dial it: else the zero above says nothing.
$h->endpoint('allowed', "http://127.0.0.1:$trap");
$id = $h->run('allowed', { server => 'allowed', path => '/' });
is($h->step($id) . ' ' . $h->ask('trapped'), 'complete|1 1', 'which answers those that may');
$t->sql('GRANT USAGE ON FOREIGN DATA WRAPPER tasker_http TO alice');
my ($rc, undef, $message) = $t->try_sql("CREATE SERVER mine FOREIGN DATA WRAPPER tasker_http OPTIONS (url '$url', allow_private 'on')", user => 'alice');
like($message, qr/allow_private.*superuser|superuser.*allow_private/s, 'only superusers allow it');

# ---- limits ---------------------------------------------------------------------------------------------------------

$h->endpoint('narrow', $url, q{, allow_private 'on', max_concurrency '3'});
$h->define('narrow', { server => 'narrow', path => '/hold/narrow' }, timeout_seconds => 300);
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'narrow', array_fill('{}'::jsonb, ARRAY[20]))});
$h->reach_ok('hits narrow', 3, 'three calls of a narrow server begin');
# Others are not held up by them, and once they are done the rest had every chance.
$h->ended($h->create('text')) for 1 .. 3;
is($h->hits('narrow'), 3, 'no more than that');
is($t->sql(q{SELECT count(*) FILTER (WHERE s.state = 'in_progress'), count(*) FILTER (WHERE s.state = 'pending' AND attempts = 0) FROM tasker.workflow_steps s JOIN tasker.tasks USING (task_id)
  JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'narrow'}), '3|17', 'the others have not begun');
$h->ask('open narrow');
$t->all_done('calls of a narrow server end');
is($h->ask('peak narrow') . ' ' . $h->hits('narrow'), '3 20', 'three at a time at most, each once');

$t->sql('ALTER SYSTEM SET tasker.http_max_concurrency = 4');
$t->sql('SELECT pg_reload_conf()');
$h->endpoint('wide', $url, q{, allow_private 'on', max_concurrency '100'});
$h->define('wide', { server => 'wide', path => '/delay/50' });
$t->wait_ok(q{SELECT current_setting('tasker.http_max_concurrency') = '4'}, 'the limit of the database is known', 20);
$h->ended($h->create('wide')) for 1 .. 2;
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'wide', array_fill('{}'::jsonb, ARRAY[40]))});
$t->all_done('calls of a wide server end');
is($h->ask('peak wide') . ' ' . $h->hits('wide'), '4 42', 'the database has a limit for all of its servers');
$t->sql('ALTER SYSTEM RESET tasker.http_max_concurrency');
$t->sql('SELECT pg_reload_conf()');

$h->endpoint('paced', $url, q{, allow_private 'on', rate '10/s'});
$h->define('paced', { server => 'paced', path => '/echo' });
$t->alice(q{SELECT count(*) FROM tasker.create_tasks('t', 'paced', array_fill('{}'::jsonb, ARRAY[31]))});
$t->all_done('paced calls end');
is($h->hits('paced'), 31, 'paced: each is made once');
# Ten a second, evenly: 1.5 s lie between any sixteen, less what a busy machine delays the first.
my @at = split /\n/, $t->sql(q{SELECT extract(epoch FROM s.started_at) FROM tasker.workflow_steps s JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'paced' ORDER BY 1});
my @spans = map { $at[ $_ + 15 ] - $at[$_] } 0 .. $#at - 15;
cmp_ok(min(@spans), '>', 1.2, 'paced: the rate is kept, evenly');
cmp_ok($at[-1] - $at[0], '<', 12, 'paced: and used');
note(sprintf 'paced: 31 calls at 10/s in %.2f s, 16 in a row in %.2f s at least', $at[-1] - $at[0], min(@spans));

# ---- kills ----------------------------------------------------------------------------------------------------------

my $calls = 400;  # of each kind
$h->endpoint('busy', $url, q{, allow_private 'on', max_concurrency '8'});
my %kind = (k => \%key, n => \%none);
$h->define("kill_$_", { server => 'busy', path => '/delay/80', query => { tag => "kill_$_\${/context/n}" }, %{ $kind{$_} } }, max_attempts => 20) for sort keys %kind;
# In turns, so that every kill meets both kinds.
$t->alice("SELECT count(tasker.create_task('t', 'kill_' || kind, jsonb_build_object('n', n))) FROM (SELECT n, kind FROM generate_series(1, $calls) AS n, unnest(ARRAY['k', 'n']) AS kind ORDER BY n, kind) AS turns");
sub kill_process {
  my ($kind, $signal) = @_;
  my $pid;
  my $until = time + 60;
  until ($pid) {
    die "no $kind to kill" if time > $until;
    my ($rc, $out) = $t->try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tasker $kind'");
    $pid = $out if $rc == 0 && $out =~ /^\d+$/;
    usleep(10_000) unless $pid;
  }
  kill $signal, $pid;
  $t->wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 60) // die "$kind $pid stays";
}
my @kills = (
  'courier killed' => sub { kill_process('courier', 'KILL') },
  'courier terminated' => sub { kill_process('courier', 'TERM') },
  'dispatcher killed' => sub { kill_process('dispatcher', 'KILL') },
  'stopped at once' => sub { $node->stop('immediate'); $node->start },
  'dispatcher terminated' => sub { kill_process('dispatcher', 'TERM') },
  'postmaster killed' => sub { $t->kill_postmaster },
  'stopped' => sub { $node->stop('fast'); $node->start },
);
my $of = q{tasker.tasks JOIN tasker.named_tasks USING (named_task_id) WHERE name LIKE 'kill\_%'};
while (my ($what, $do) = splice @kills, 0, 2) {
  # In the middle of calls: some more have ended since the last time, and some are under way.
  my $before = $t->sql("SELECT count(*) FROM $of AND NOT live");
  $t->wait_ok("SELECT (SELECT count(*) FROM $of AND NOT live) >= $before + 25 AND EXISTS (SELECT FROM tasker.transfers)", "$what: in the middle of calls", 60);
  $do->();
}
$t->all_done('every call ends', 180);
my %requests = %{ $h->ask('all kill_') };
my %count;
my @wrong;
for my $row (split /\n/, $t->sql(q{SELECT right(name, 1) || (t.context ->> 'n'), s.state, s.attempts, coalesce(s.error ->> 'category', '') FROM tasker.tasks t JOIN tasker.named_tasks USING (named_task_id)
    JOIN tasker.workflow_steps s USING (task_id) WHERE name LIKE 'kill\_%'})) {
  my ($tag, $state, $attempts, $category) = split /\|/, $row, -1;
  my $had = $requests{"kill_$tag"} // 0;
  my $unknown = $state eq 'error' && $category eq 'outcome_unknown';
  # With a key: complete, and asked at least once. Without: asked exactly once, or at most once and nobody knows.
  my $right = $tag =~ /^k/ ? $state eq 'complete' && $had >= 1 && $had <= $attempts : $attempts == 1 && ($state eq 'complete' ? $had == 1 : $unknown && $had <= 1);
  push @wrong, "$row: $had requests" unless $right;
  $count{ substr($tag, 0, 1) . ($state eq 'complete' ? ' complete' : ' unknown') }++;
  $count{again}++ if $tag =~ /^k/ && $attempts > 1;
  $count{'never left'}++ if $unknown && $had == 0;
}
is(join("\n", @wrong), '', 'each call is made once or more often, and those without a key at most once');
is(($count{'k complete'} // 0) + ($count{'n complete'} // 0) + ($count{'n unknown'} // 0), 2 * $calls, 'none is lost');
cmp_ok($count{'n unknown'} // 0, '>', 0, 'some ended with an unknown outcome');
cmp_ok($count{again} // 0, '>', 0, 'some were made again');
my (@twice, %whose);
for my $n (1 .. $calls) {
  my %keys = map { $_->{headers}{'idempotency-key'} => 1 } @{ $h->ask("asked kill_k$n") };
  push @twice, $n if keys %keys != 1;
  $whose{$_}++ for keys %keys;
}
is(join(' ', @twice), '', 'under one and the same key');
is(scalar(keys %whose), $calls, 'which no other call has');
is($t->sql('SELECT count(*) FROM tasker.transfers'), 0, 'nothing is left behind');
is($t->sql('SELECT count(*) FROM tasker.check()'), 0, 'and all invariants hold');
note(join ', ', map { "$_: $count{$_}" } sort keys %count);

# ---- secrets --------------------------------------------------------------------------------------------------------

$t->sql("ALTER SYSTEM SET log_min_messages = 'debug5'");
$t->sql("ALTER SYSTEM SET log_statement = 'all'");
$t->sql("ALTER SYSTEM SET log_error_verbosity = 'verbose'");
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT current_setting('log_min_messages') = 'debug5'}, 'the log takes everything', 20);
$t->sql('ALTER SERVER closed OPTIONS (ADD timeout \'0.5\')');
$h->endpoint('closed_dead', 'http://127.0.0.1:1');
$h->endpoint('closed_tls', 'https://127.0.0.1:' . $h->port('self'));
my @options = ("bearer '$secret{bearer}'", "username 'al', password '$secret{basic}'", "header_name 'X-Token', header_value '$secret{owner}'");
my @cases = ([ 'closed', '/echo' ], [ 'closed', '/status/500' ], [ 'closed', '/swallow' ], [ 'closed', '/hold/never' ], [ 'closed', '/echo/${/context/no}' ], [ 'closed_dead', '/' ], [ 'closed_tls', '/' ]);
for my $n (0 .. $#options) {
  mapping("DROP USER MAPPING IF EXISTS FOR alice SERVER $_; CREATE USER MAPPING FOR alice SERVER $_ OPTIONS ($options[$n])") for qw(closed closed_dead closed_tls);
  my @tasks;
  for my $c (0 .. $#cases) {
    $h->define("secret_${n}_$c", { server => $cases[$c][0], path => $cases[$c][1] });
    push @tasks, $h->create("secret_${n}_$c");
  }
  $h->ended($_) for @tasks;
}
# In a call that is under way.
$t->sql(q{ALTER SERVER closed OPTIONS (SET timeout '300')});
$h->define('secret_now', { server => 'closed', path => '/hold/secret' });
$id = $h->create('secret_now');
$h->reach_ok('hits secret_now', 1, 'a call with credentials is under way');
my $sent = join ' ', map { values %{ $_->{headers} } } @{ $h->ask('asked secret_now') };
like($sent, qr/\Q$secret{owner}\E/, 'the server has them');
my $found = join '|', map { quotemeta } values %secret, map { substr encode_base64_line("al:$_"), 0, -4 } $secret{basic};
unlike($t->sql(q{SELECT string_agg(a::text, E'\n') FROM pg_stat_activity AS a}), qr/$found/, 'pg_stat_activity does not');
my ($courier) = $t->pids('courier');
unlike(join('', map { slurp_file("/proc/$courier/$_") } qw(cmdline environ)), qr/$found/, 'nor the command line or environment of the courier') if -r "/proc/$courier/environ";
$h->ask('open secret');
$h->ended($id);
my @relations = split /\n/, $t->sql(q{SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'tasker'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') ORDER BY 1});
cmp_ok(scalar @relations, '>', 20, 'tables and views are looked through');
is(join(' ', grep { $t->sql("SELECT coalesce(string_agg(x::text, E'\\n'), '') FROM $_ AS x") =~ /$found/ } @relations), '', 'no table or view has them');
is(join(' ', grep { $t->alice("SELECT coalesce(string_agg(x::text, E'\\n'), '') FROM tasker.$_ AS x") =~ /$found/ } qw(step_status task_status task_history dead_letters running_steps)), '', 'nor for the owner');
# The files of the database: only the catalogue of user mappings (and the log of changes, which repeats it) has them.
$t->sql('CHECKPOINT');
my $mappings = $t->sql(q{SELECT string_agg(pg_relation_filepath(oid), ' ') FROM pg_class WHERE oid IN (SELECT unnest(ARRAY[oid, reltoastrelid]) FROM pg_class WHERE relname = 'pg_user_mapping')});
my $files = '';
IPC::Run::run([ 'grep', '-rlaE', $found, $node->data_dir, '--exclude-dir=pg_wal' ], '>', \$files, '2>', '/dev/null');
my $data = $node->data_dir;
is(join(' ', grep { my $file = $_; !grep { $file eq $_ } split / /, $mappings } map { s{^\Q$data\E/}{}r } split /\n/, $files), '', 'nor any other file of the server');
like($files, qr/\d/, 'where they are kept, they are found');
my @leaks = grep { /$found/ } split /\n/, $t->log_since(0);
is(scalar @leaks, 0, 'nothing in the log') or diag(join "\n", @leaks[ 0 .. min(4, $#leaks) ]);
like($t->log_since(0), qr/DEBUG:  .*\n(?s:.*)statement: /, 'which had everything');
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11|signal 6/, 'no process crashed of itself');

$h->stop;
$node->stop;
done_testing();
