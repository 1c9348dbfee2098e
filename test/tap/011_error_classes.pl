# Every class of error, raised for real where one server can: how it is classified, how often it is tried, how long it
# waits in between, where the step and its task end, and that every attempt is in the history with all that was said.
use strict;
use warnings;

use JSON::PP;
use List::Util qw(max min);
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('errors', conf => "tasker.max_executors = 8\ntasker.predictive_retry = off\ndeadlock_timeout = 100ms\n");
my $node = $t->node;
my $json = JSON::PP->new->canonical->allow_nonref;

$t->sql(<<'SQL');
CREATE TABLE acc.parent (id integer PRIMARY KEY, n integer DEFAULT 0 CHECK (n >= 0), must text NOT NULL DEFAULT '');
INSERT INTO acc.parent SELECT generate_series(1, 4);
CREATE TABLE acc.child (id integer REFERENCES acc.parent, late integer REFERENCES acc.parent DEFERRABLE INITIALLY DEFERRED,
  once integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO acc.child (once) VALUES (1);
CREATE TABLE acc.secret ();
CREATE TABLE acc.locked ();
CREATE TABLE acc.kept (n integer);
GRANT ALL ON acc.parent, acc.child, acc.locked, acc.kept TO alice;
-- Does what context.sql says, after its effect, until attempt context.good.
CREATE FUNCTION acc.step_fail(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  IF step.attempt < coalesce((step.context ->> 'good')::integer, 1000) THEN EXECUTE step.context ->> 'sql'; END IF;
  RETURN '{}';
END $$;
CREATE FUNCTION acc.step_fail_soon(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql SET lock_timeout = '50ms' AS 'BEGIN RETURN acc.step_fail(step); END';
CREATE FUNCTION acc.step_gone(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS 'SELECT acc.note($1)';
CREATE FUNCTION acc.step_commit(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  COMMIT;
  RETURN '{}';
END $$;
CREATE FUNCTION acc.step_large(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS $$ SELECT acc.note($1); SELECT to_jsonb(repeat('x', 1100000)) $$;
CREATE PROCEDURE acc.half(context jsonb, results jsonb) LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO acc.kept VALUES (1);
  COMMIT;
  INSERT INTO acc.kept VALUES (2);
  RAISE EXCEPTION 'in the second half';
END $$;
-- A cancel does not stop it.
CREATE FUNCTION acc.deaf() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    BEGIN
      PERFORM pg_sleep(60);
    EXCEPTION WHEN query_canceled THEN NULL;
    END;
  END LOOP;
END $$;
CREATE FUNCTION acc.endless(n integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1 + acc.endless(n + 1); END';
CREATE FUNCTION acc.spill() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET work_mem = '64kB' SET temp_file_limit = '64kB'
  AS 'SELECT count(*) FROM (SELECT g FROM generate_series(1, 200000) AS g ORDER BY g DESC OFFSET 1) AS s';
SQL

# SQL that raises this SQLSTATE with all that RAISE can say, and what must come of it.
sub raise { my ($state) = @_; return "DO \$\$ BEGIN RAISE EXCEPTION USING ERRCODE = '$state', MESSAGE = 'told $state', DETAIL = 'detail of $state', HINT = 'hint for $state'; END \$\$" }
sub raised { my ($state, %o) = @_; return (state => $state, sql => raise($state), message => "told $state", detail => "detail of $state", hint => "hint for $state", %o) }

my $flat = { base_seconds => 0.05, multiplier => 1, jitter => 0 };
my $stack = qr/PL\/pgSQL function acc\.step_fail\(tasker\.step_call\) line \d+ at EXECUTE/;

# name: of the definition; state, category: what is recorded; sql: what the first step does, until attempt `good` if that
# is given; retry: is another attempt made; keys: of the step. Three attempts are the default. Strings must be equal,
# patterns must match; an empty string is the default for detail and hint, the stack of the handler that for context.
my @cases = (
  { name => 'serialization', class => 'serialization failure', state => '40001', category => 'conflict', retry => 1, good => 2, gate => 1,
    sql => 'SELECT sum(n) FROM acc.parent; SELECT acc.pass(1); UPDATE acc.parent SET n = n + 1 WHERE id = 1',
    keys => { own_transaction => JSON::PP::true, isolation => 'serializable' }, message => 'could not serialize access due to concurrent update' },
  { name => 'serialization_lost', class => 'serialization failure, each time', category => 'conflict', retry => 1, raised('40001') },
  { name => 'deadlock', class => 'deadlock', state => '40P01', category => 'conflict', retry => 1, good => 2, gate => 2,
    sql => 'UPDATE acc.parent SET n = n + 1 WHERE id = 2; SELECT acc.pass(2); UPDATE acc.parent SET n = n + 1 WHERE id = 3',
    message => 'deadlock detected', detail => qr/waits for ShareLock/, hint => qr/server log/, context => qr/while updating tuple.*$stack/s },
  { name => 'lock_timeout', class => 'lock timeout', state => '55P03', category => 'conflict', retry => 1, good => 3, function => 'acc.step_fail_soon',
    sql => 'INSERT INTO acc.locked DEFAULT VALUES', message => 'canceling statement due to lock timeout' },
  { name => 'nowait', class => 'lock timeout, NOWAIT', state => '55P03', category => 'conflict', retry => 1, sql => 'LOCK acc.locked IN ROW EXCLUSIVE MODE NOWAIT',
    message => 'could not obtain lock on relation "acc.locked"' },
  { name => 'step_timeout', class => 'step timeout', state => '57014', category => 'timeout', retry => 1, keys => { timeout_seconds => 0.2 },
    sql => 'SELECT pg_sleep(60)', message => 'step "a" ran longer than 200 ms', hint => qr/timeout_seconds/ },
  { name => 'deaf', class => 'step timeout, deaf', state => '57014', category => 'timeout', retry => 1, keys => { timeout_seconds => 0.2, max_attempts => 1 },
    sql => 'SELECT acc.deaf()', message => 'the step ran past its timeout and did not answer to a cancel', context => '' },
  { name => 'statement_timeout', class => 'statement timeout', category => 'timeout', retry => 1, raised('57014') },
  { name => 'connection', class => 'connection', category => 'connection', retry => 1, raised('08006') },
  { name => 'remote_shutdown', class => 'connection, server stops', category => 'connection', retry => 1, raised('57P01') },
  { name => 'disk_full', class => 'insufficient resources, disk', category => 'resource', retry => 1, raised('53100') },
  { name => 'temp_files', class => 'insufficient resources, temp files', state => '53400', category => 'resource', retry => 1, sql => 'SELECT acc.spill()',
    message => qr{^temporary file size exceeds "?temp_file_limit"? \(64kB\)$} },
  { name => 'io', class => 'operating system', category => 'resource', retry => 1, raised('58030') },
  { name => 'internal', class => 'internal error', category => 'server_error', retry => 1, raised('XX000') },
  { name => 'division', class => 'data, division by zero', state => '22012', category => 'validation', sql => 'SELECT 1 / 0', message => 'division by zero', context => qr/SQL statement "SELECT 1 \/ 0".*$stack/s },
  { name => 'syntax_of_value', class => 'data, not a number', state => '22P02', category => 'validation', sql => q{SELECT 'x'::integer}, message => 'invalid input syntax for type integer: "x"' },
  { name => 'unique', class => 'integrity, unique', state => '23505', category => 'validation', sql => 'INSERT INTO acc.parent VALUES (1)',
    message => qr/unique constraint "parent_pkey"/, detail => 'Key (id)=(1) already exists.' },
  { name => 'check', class => 'integrity, check', state => '23514', category => 'validation', sql => 'INSERT INTO acc.parent VALUES (10, -1)',
    message => qr/check constraint "parent_n_check"/, detail => qr/Failing row/ },
  { name => 'not_null', class => 'integrity, not null', state => '23502', category => 'validation', sql => 'INSERT INTO acc.parent VALUES (10, 0, NULL)', message => qr/null value in column "must"/,
    detail => qr/Failing row/ },
  { name => 'foreign_key', class => 'integrity, foreign key', state => '23503', category => 'validation', sql => 'INSERT INTO acc.child (id) VALUES (99)',
    message => qr/"child_id_fkey"/, detail => 'Key (id)=(99) is not present in table "parent".' },
  { name => 'late_foreign_key', class => 'integrity at commit, foreign key', state => '23503', category => 'validation', sql => 'INSERT INTO acc.child (late) VALUES (99)',
    message => qr/"child_late_fkey"/, detail => 'Key (late)=(99) is not present in table "parent".', context => qr// },
  { name => 'late_unique', class => 'integrity at commit, unique', state => '23505', category => 'validation', sql => 'INSERT INTO acc.child (once) VALUES (1)',
    message => qr/"child_once_key"/, detail => 'Key (once)=(1) already exists.', context => qr// },
  { name => 'two_rows', class => 'cardinality', state => '21000', category => 'validation', sql => 'SELECT (SELECT generate_series(1, 2))', message => qr/more than one row/ },
  { name => 'strict', class => 'INTO STRICT', state => 'P0002', category => 'validation', sql => 'DO $$ DECLARE x integer; BEGIN SELECT 1 INTO STRICT x WHERE false; END $$',
    message => 'query returned no rows' },
  { name => 'assert', class => 'ASSERT', state => 'P0004', category => 'code', sql => q{DO $$ BEGIN ASSERT false, 'never'; END $$}, message => 'never' },
  { name => 'syntax', class => 'syntax', state => '42601', category => 'code', sql => 'SELEC 1', message => 'syntax error at or near "SELEC"' },
  { name => 'privilege', class => 'privilege, no grant', state => '42501', category => 'privilege', sql => 'SELECT FROM acc.secret', message => 'permission denied for table secret' },
  { name => 'login', class => 'privilege, password', category => 'privilege', raised('28P01') },
  { name => 'no_table', class => 'undefined object, table', state => '42P01', category => 'code', sql => 'SELECT FROM nowhere', message => 'relation "nowhere" does not exist' },
  { name => 'no_column', class => 'undefined object, column', state => '42703', category => 'code', sql => 'SELECT missing FROM acc.parent', message => 'column "missing" does not exist' },
  { name => 'no_schema', class => 'undefined object, schema', state => '3F000', category => 'code', sql => 'CREATE TABLE nowhere.x ()', message => 'schema "nowhere" does not exist' },
  { name => 'no_function', class => 'undefined object, handler dropped', state => '42883', category => 'code', function => 'acc.step_gone', message => qr/function acc\.step_gone.* does not exist/, hint => qr/./, context => '' },
  { name => 'listen', class => 'not supported', state => '0A000', category => 'code', sql => 'LISTEN gossip', message => 'a step cannot LISTEN', hint => qr/./ },
  { name => 'read_only', class => 'transaction state', state => '25006', category => 'code', sql => 'SET LOCAL transaction_read_only = on; INSERT INTO acc.kept VALUES (3)',
    message => qr/cannot execute INSERT in a read-only transaction/ },
  { name => 'commit', class => 'COMMIT in a step', state => '2D000', category => 'code', function => 'acc.step_commit', message => 'invalid transaction termination', hint => qr/"atomic": false/,
    context => qr/acc\.step_commit.*COMMIT/ },
  { name => 'large', class => 'result too large', state => '54000', category => 'resource', function => 'acc.step_large', message => qr/^the result of step "a" is 11\d{5} bytes, the limit is 1048576$/,
    hint => qr/max_result_size/, context => '' },
  { name => 'recursion', class => 'limit of the server', state => '54001', category => 'resource', sql => 'SELECT acc.endless(1)', message => 'stack depth limit exceeded', hint => qr/max_stack_depth/,
    context => qr/acc\.endless/ },
  { name => 'plain', class => 'plain RAISE', state => 'P0001', category => 'unknown', retry => 1, sql => q{DO $$ BEGIN RAISE EXCEPTION 'plainly'; END $$}, message => 'plainly' },
  { name => 'unlisted', class => 'unlisted', category => 'unknown', retry => 1, raised('ZZ999') },
  { name => 'procedure', class => 'procedure, atomic false', state => 'P0001', category => 'unknown', retry => 1, procedure => 'acc.half', message => 'in the second half',
    context => qr/acc\.half/ },

  # What handlers ask for. Their context stands in the place of PostgreSQL's.
  { name => 'retryable', class => 'raise_retryable', state => 'TK001', category => 'unknown', retry => 1, sql => q{SELECT tasker.raise_retryable('later')}, message => 'later', context => {} },
  { name => 'retry_after', class => 'raise_retryable, in 0.3 s', state => 'TK001', category => 'unknown', retry => 1, sql => q{SELECT tasker.raise_retryable('later', retry_after => '0.3 s', context => '{"order": 7}')},
    message => 'later', context => { order => 7 }, delays => [ 0.3, 0.3 ], requested => 0.3 },
  { name => 'retry_long_after', class => 'raise_retryable, in a day', state => 'TK001', category => 'unknown', retry => 1, waits => 1, sql => q{SELECT tasker.raise_retryable('tomorrow', '1 day')},
    message => 'tomorrow', context => {}, delays => [300], requested => 86400 },
  { name => 'five_attempts', class => 'raise_retryable, max_attempts 5', state => 'TK001', category => 'unknown', retry => 1, attempts => 5, sql => q{SELECT tasker.raise_retryable('again', max_attempts => 5)},
    message => 'again', context => {} },
  { name => 'last_attempt', class => 'raise_retryable, max_attempts 1', state => 'TK001', category => 'unknown', retry => 1, attempts => 1, sql => q{SELECT tasker.raise_retryable('enough', max_attempts => 1)},
    message => 'enough', context => {} },
  { name => 'permanent', class => 'raise_permanent', state => 'TK002', category => 'unknown', sql => q{SELECT tasker.raise_permanent('no', 'card_declined', '{"order": 7}')}, message => 'no',
    context => { order => 7, reason => 'card_declined' } },
  { name => 'permanent_list', class => 'raise_permanent, a list', state => 'TK002', category => 'unknown', sql => q{SELECT tasker.raise_permanent('no', 'three of them', '[1, 2, 3]')}, message => 'no',
    context => { reason => 'three of them', value => [ 1, 2, 3 ] } },
  { name => 'permanent_query', class => 'raise_permanent in a query', state => 'TK002', category => 'unknown', query => q{SELECT tasker.raise_permanent('no way')}, message => 'no way',
    context => { reason => 'unspecified' } },
  { name => 'tk001', class => 'RAISE TK001', category => 'unknown', retry => 1, raised('TK001') },
  { name => 'tk001_detail', class => 'RAISE TK001 with DETAIL', state => 'TK001', category => 'unknown', retry => 1, attempts => 2, message => 'by hand', context => { order => 8 },
    sql => q{DO $$ BEGIN RAISE 'by hand' USING ERRCODE = 'TK001', DETAIL = '{"retry_after_seconds": 0.2, "max_attempts": 2, "context": {"order": 8}}'; END $$}, delays => [0.2], requested => 0.2 },
  { name => 'tk002', class => 'RAISE TK002', category => 'unknown', raised('TK002') },

  # Signals from outside.
  { name => 'cancelled', class => 'pg_cancel_backend', state => '57014', category => 'cancelled', retry => 1, good => 2, gate => 3, sql => 'SELECT acc.pass(3)',
    message => 'canceling statement due to user request' },
  { name => 'terminated', class => 'pg_terminate_backend', state => '57P01', category => 'cancelled', retry => 1, good => 2, gate => 4, sql => 'SELECT acc.pass(4)',
    message => 'the executor was terminated while it ran the step', context => '' },

  # What the definition says.
  { name => 'third_time', class => 'plain, third time good', category => 'unknown', retry => 1, good => 3, raised('P0001') },
  { name => 'one_attempt', class => 'plain, max_attempts 1', category => 'unknown', retry => 1, attempts => 1, keys => { max_attempts => 1 }, raised('P0001') },
  { name => 'not_retryable', class => 'plain, retryable false', category => 'unknown', keys => { retryable => JSON::PP::false }, raised('P0001') },
  { name => 'growing', class => 'plain, backoff 0.2 x 2', category => 'unknown', retry => 1, attempts => 5, delays => [ 0.2, 0.4, 0.5, 0.5 ],
    keys => { max_attempts => 5, backoff => { base_seconds => 0.2, multiplier => 2, max_seconds => 0.5, jitter => 0 } }, raised('P0001') },
  { name => 'seconds', class => 'plain, backoff 1 x 1.5', category => 'unknown', retry => 1, delays => [ 1, 1.5 ], keys => { backoff => { base_seconds => 1, multiplier => 1.5, jitter => 0 } }, raised('P0001') },
  { name => 'jittered', class => 'plain, jitter 0.5', category => 'unknown', retry => 1, attempts => 9, spread => 0.5,
    keys => { max_attempts => 9, backoff => { base_seconds => 0.2, multiplier => 1, jitter => 0.5 } }, raised('P0001') },
  { name => 'retry_class', class => 'retry_on 23', state => '23505', category => 'validation', retry => 1, keys => { retry_on => ['23'] }, sql => 'INSERT INTO acc.parent VALUES (1)', message => qr/parent_pkey/,
    detail => qr/already exists/ },
  { name => 'retry_code', class => 'retry_on 40001, fail_on 40', category => 'conflict', retry => 1, keys => { retry_on => ['40001'], fail_on => ['40'] }, raised('40001') },
  { name => 'fail_class', class => 'retry_on 40001, fail_on 40', category => 'conflict', keys => { retry_on => ['40001'], fail_on => ['40'] }, raised('40P01') },
  { name => 'fail_code', class => 'fail_on P0001', category => 'unknown', keys => { fail_on => ['P0001'] }, raised('P0001') },
  { name => 'fail_other', class => 'fail_on 08', category => 'unknown', retry => 1, keys => { fail_on => ['08'] }, raised('P0001') },
);

# Last, since it takes the server with it.
my $crash = { name => 'crash', class => 'crash of the server process', state => '57P02', category => 'crashed', sql => q{COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'},
  message => 'the step crashed its server process', hint => qr/retry_step/, context => '' };

for my $c (@cases, $crash) {
  $c->{attempts} //= $c->{good} // ($c->{waits} || !$c->{retry} ? 1 : $c->{keys}{max_attempts} // 3);
  $c->{end} = $c->{good} ? 'complete' : 'error';
  $c->{delays} //= [ (0.05) x ($c->{attempts} - 1) ] unless $c->{spread};
}

# a fails, b follows it.
sub define {
  my ($c) = @_;
  my $handler = $c->{query} ? { type => 'sql', query => $c->{query} } : $c->{procedure} ? { type => 'sql', procedure => $c->{procedure}, atomic => JSON::PP::false }
    : { type => 'sql', function => $c->{function} // 'acc.step_fail' };
  my %keys = (backoff => $flat, %{ $c->{keys} // {} });
  my $definition = { namespace => 't', name => $c->{name}, steps => [ { name => 'a', handler => $handler, %keys }, { name => 'b', handler => { type => 'sql', function => 'acc.step' }, depends_on => ['a'] } ] };
  return 'SELECT tasker.define_task($def$' . $json->encode($definition) . '$def$)';
}

sub create {
  my ($c) = @_;
  my %context = map { ($_ => $c->{$_}) } grep { exists $c->{$_} } qw(sql good);
  return "SELECT tasker.create_task('t', '$c->{name}', \$context\$" . $json->encode(\%context) . '$context$)';
}

sub define_and_create {
  $t->alice(join '; ', map { define($_) } @_);
  $t->sql('DROP FUNCTION IF EXISTS acc.step_gone(tasker.step_call)');
  my @ids = split /\n/, $t->alice(join '; ', map { create($_) } @_);
  $_->{id} = shift @ids for @_;
}

# What its owner can read of a task: its end, the end of both steps, and every move of the first.
my $read = <<'SQL';
SELECT json_object_agg(t.task_id, json_build_object('task', t.state, 'task_error', t.error, 'a', a.state, 'b', b.state, 'b_blocked', b.blocking_reason, 'attempts', a.attempts, 'error', a.error,
  'next', extract(epoch FROM a.next_attempt_at), 'dead', (SELECT json_agg(d.error) FROM tasker.dead_letters d WHERE d.task_id = t.task_id AND d.step_name = 'a'),
  'moves', (SELECT json_agg(json_build_object('to', h.to_state, 'metadata', h.metadata, 'at', extract(epoch FROM h.created_at),
      'due', extract(epoch FROM (h.metadata #>> '{error,retry,next_attempt_at}')::timestamptz)) ORDER BY h.sort_key) FROM tasker.task_history h
    WHERE h.task_id = t.task_id AND h.step_name = 'a')))
FROM tasker.task_status t JOIN tasker.step_status a USING (task_id) JOIN tasker.step_status b USING (task_id) WHERE a.step_name = 'a' AND b.step_name = 'b'
SQL

sub same {
  my ($got, $wanted, $what) = @_;
  return is_deeply($got, $wanted, $what) if ref $wanted eq 'HASH';
  return ref $wanted ? like($got, $wanted, $what) : is($got, $wanted, $what);
}

# Locks that others hold; gates, so that each collision happens at the right moment.
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK acc.locked');
$t->close_gates(1 .. 4);
define_and_create(@cases);

# A row that the step has read in its snapshot is changed before it gets to write.
$t->wait_at_gate(1);
$t->sql('UPDATE acc.parent SET n = n + 1 WHERE id = 1');
$t->open_gates(1);

# The other one waits first and looks for deadlocks last, so that the step is the one to find it.
$t->wait_at_gate(2);
my $other = $node->background_psql('postgres');
$other->query_safe(q{SET deadlock_timeout = '60s'; BEGIN; UPDATE acc.parent SET n = n + 1 WHERE id = 3});
$other->query_until(qr/begun/, "\\echo begun\nUPDATE acc.parent SET n = n + 1 WHERE id = 2;\n");
$t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event_type = 'Lock' AND query LIKE 'UPDATE acc.parent%')}, 'the other one waits', 20);
$t->open_gates(2);
$other->query_safe('COMMIT');
$other->quit;

for my $signal ([ 3, 'pg_cancel_backend' ], [ 4, 'pg_terminate_backend' ]) {
  my ($gate, $function) = @$signal;
  my $pid = $t->wait_at_gate($gate);
  is($t->sql("SELECT $function($pid)"), 't', "$function sent");
  $t->open_gates($gate);
}

my ($waiting) = map { $_->{id} } grep { $_->{waits} } @cases;
$t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live AND task_id <> $waiting) AND EXISTS (SELECT FROM tasker.workflow_steps WHERE task_id = $waiting AND attempts = 1)",
  'every task ends, but for the one that waits', 90);
$locker->query_safe('ROLLBACK');
$locker->quit;

my (@rows, @lateness);
sub check {
  my ($c, $f) = @_;
  my $name = "$c->{class} ($c->{name})";
  my @errors = map { $_->{metadata}{error} } grep { $_->{to} eq 'error' } @{ $f->{moves} };
  my $failures = $c->{good} ? $c->{attempts} - 1 : $c->{attempts};
  my $dead = $c->{end} eq 'error' && !$c->{waits};

  my $ends = $c->{waits} ? 'error|in_progress|pending|dependencies: a' : $dead ? 'error|error|pending|parent_failed: a' : 'complete|complete|complete|';
  is(join('|', map { $_ // '' } @$f{qw(a task b b_blocked)}), $ends, "$name: step, task and the step beneath");
  is($f->{attempts}, $c->{attempts}, "$name: attempts");
  is($f->{task_error}, $dead ? "a: $errors[-1]{message}" : undef, "$name: the task says which step and why");
  is(scalar @{ $f->{dead} // [] }, $dead ? 1 : 0, $dead ? "$name: a dead letter" : "$name: no dead letter");
  is_deeply($f->{dead}[0], $f->{error}, "$name: with the error of the step") if $dead;
  is_deeply($f->{error}, $c->{good} ? undef : $errors[-1], "$name: the step shows its last error");

  # One failure in the history for each attempt, with everything that was said.
  is(join(' ', map { $_->{to} } @{ $f->{moves} }), join(' pending ', ('in_progress error') x $failures, $c->{good} ? 'in_progress complete' : ()), "$name: every move is in the history");
  is(join(' ', map { $_->{attempt} } @errors), join(' ', 1 .. $failures), "$name: every failed attempt has its error");
  for my $e (@errors) {
    my $n = "$name: attempt $e->{attempt}";
    is(join('|', @$e{qw(sqlstate category)}, $e->{retryable} ? 1 : 0), join('|', @$c{qw(state category)}, $c->{retry} ? 1 : 0), "$n: sqlstate, category, retryable");
    same($e->{$_}, $c->{$_} // '', "$n: $_") for qw(message detail hint);
    same($e->{context}, $c->{context} // $stack, "$n: context");
  }

  # Delays: asked for, or backoff of the definition; written down, and kept.
  my @delays = map { $_->{retry}{delay_seconds} } grep { %{ $_->{retry} } } @errors;
  if ($c->{spread}) {
    my $base = $c->{keys}{backoff}{base_seconds};
    is(scalar @delays, $c->{attempts} - 1, "$name: a delay before each attempt");
    is(scalar(grep { $_ < $base * (1 - $c->{spread}) || $_ > $base * (1 + $c->{spread}) } @delays), 0, "$name: all within the jitter") or diag("@delays");
    cmp_ok(scalar(keys %{ { map { $_ => 1 } @delays } }), '>', 1, "$name: and not all the same");
  } else {
    is("@delays", "@{$c->{delays}}", "$name: delays");
  }
  my @starts = map { $_->{at} } grep { $_->{to} eq 'in_progress' } @{ $f->{moves} };
  my @ends = map { $_->{at} } grep { $_->{to} eq 'error' } @{ $f->{moves} };
  my @due = map { $_->{due} } grep { $_->{to} eq 'error' } @{ $f->{moves} };
  for my $i (0 .. $#delays) {
    my $retry = $errors[$i]{retry};
    is_deeply($retry->{factors}, {}, "$name: no factors without predictive retry");
    is($retry->{requested_seconds}, $c->{requested}, "$name: what was asked for is there");
    cmp_ok(abs($due[$i] - $ends[$i] - $delays[$i]), '<', 0.005, "$name: the next attempt is due that long after the failure");
    next if !defined $starts[ $i + 1 ];
    cmp_ok($starts[ $i + 1 ], '>=', $due[$i], "$name: and not made before");
    push @lateness, $starts[ $i + 1 ] - $due[$i];
  }
  cmp_ok(abs($f->{next} - $ends[-1] - $delays[-1]), '<', 0.005, "$name: next_attempt_at") if $c->{waits};
  push @rows, [ $c->{class}, $c->{state}, $c->{category}, $c->{retry} ? 'yes' : 'no', $f->{attempts}, join(' ', @delays) || '-', "step $f->{a}, task $f->{task}" . ($dead ? ', dead letter' : '') ];
}
my $found = $json->decode($t->alice($read));
check($_, $found->{ $_->{id} }) for @cases;

is($t->sql('SELECT string_agg(n::text, $$ $$) FROM acc.kept'), '1 1 1', 'a procedure keeps what it committed, at every attempt, and nothing else');
is($t->sql('SELECT n FROM acc.parent WHERE id = 1') . $t->sql('SELECT count(*) FROM acc.locked'), '10', 'only the others have written');
cmp_ok(max(@lateness), '<', 10, 'no retry comes late');
note(sprintf '%d retries, the latest %.3f s after it was due', scalar @lateness, max(@lateness));
$t->alice("SELECT tasker.cancel_task($waiting)");
$t->ledger_exact('effects of failed attempts are gone, those of others are there once');


$t->sql(q{GRANT pg_execute_server_program TO alice});
define_and_create($crash);
$t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $crash->{id}", 'a step that crashes its server process ends', 60);
check($crash, $json->decode($t->alice($read))->{ $crash->{id} });
$t->ledger_exact('effects of crashed attempts are gone');

# Predictive retry bends the same backoff by factors, which are written down.
$t->sql('ALTER SYSTEM SET tasker.predictive_retry = on');
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT current_setting('tasker.predictive_retry') = 'on'}, 'predictive retry is on');
my $second = { base_seconds => 4, multiplier => 1, jitter => 0 };
my @predicted = (
  { name => 'p_plain', error => 1, keys => { backoff => $second }, raised('P0001') },
  { name => 'p_timeout', error => 1.5, keys => { backoff => $second }, raised('57014') },
  { name => 'p_connection', error => 2, keys => { backoff => $second }, raised('08006') },
  { name => 'p_validation', error => 0.5, keys => { backoff => $second, retry_on => ['22'] }, raised('22012') },
  { name => 'p_code', error => 0.1, keys => { backoff => $second, retry_on => ['42'] }, raised('42601') },
  { name => 'p_long', error => 2, keys => { backoff => { base_seconds => 280, multiplier => 1, jitter => 0 } }, raised('08006') },
  { name => 'p_jitter', error => 1, keys => { backoff => { base_seconds => 4, multiplier => 1, jitter => 0.25 } }, raised('P0001') },
  { name => 'p_asked', asked => 2.5, state => 'TK001', sql => q{SELECT tasker.raise_retryable('later', '2.5 s')}, keys => { backoff => $second } });
define_and_create(@predicted);
my $list = join ',', map { $_->{id} } @predicted;
$t->wait_ok("SELECT bool_and(attempts = 1) FROM tasker.workflow_steps WHERE step_no = 1 AND task_id IN ($list)", 'each has failed once', 30);
$found = $json->decode($t->alice($read));
my @factors;
sub check_factors {
  my ($c, $retry) = @_;
  my $factors = $retry->{factors};
  push @factors, [ $c->{name}, $c->{state}, $retry->{base_seconds}, join(' ', map { "$_ $factors->{$_}" } sort keys %$factors) || '-', $retry->{delay_seconds} ];
  if ($c->{asked}) {
    is($retry->{delay_seconds}, $c->{asked}, "$c->{name}: a delay that was asked for is not bent");
    is_deeply($factors, {}, "$c->{name}: by no factor");
    return;
  }
  is($retry->{base_seconds}, $c->{keys}{backoff}{base_seconds}, "$c->{name}: the backoff of the definition");
  is(join(' ', sort keys %$factors), 'error history hour jitter pressure', "$c->{name}: every factor is told");
  is($factors->{error}, $c->{error}, "$c->{name}: the factor of its category");
  ok((grep { $_ == $factors->{pressure} } 0.8, 1, 1.5, 2.5), "$c->{name}: a factor of pressure");
  my $product = $retry->{base_seconds};
  $product *= $_ for values %$factors;
  my ($shortest, $longest) = (min(1, $retry->{base_seconds}), max(300, $retry->{base_seconds}));
  $product = min(max($product, $shortest), $longest);
  # Factors and delay are rounded to thousandths.
  cmp_ok(abs($retry->{delay_seconds} - $product), '<', 0.01, "$c->{name}: delay is backoff times factors, from 1 s to 300 s");
}
check_factors($_, $found->{ $_->{id} }{error}{retry}) for @predicted;
$t->alice("SELECT tasker.cancel_task(ARRAY[$list], 'seen enough')");

# A step whose second attempts have gone well is tried again sooner. What is known is written every few seconds.
my $known = { name => 'p_known', error => 1, good => 2, keys => { backoff => { base_seconds => 2, multiplier => 1, jitter => 0 } }, raised('P0001') };
define_and_create($known);
$t->alice(create($known)) for 1 .. 5;
$t->all_done('second attempts go well', 30);
my $until = time + 30;
my $retry;
do {
  $known->{id} = $t->alice(create($known));
  $t->wait_for("SELECT attempts = 1 FROM tasker.workflow_steps WHERE step_no = 1 AND task_id = $known->{id}", 10) // die 'it has not failed';
  $retry = $json->decode($t->alice("SELECT error -> 'retry' FROM tasker.step_status WHERE step_name = 'a' AND task_id = $known->{id}"));
  $t->alice("SELECT tasker.cancel_task($known->{id})");
} until $retry->{factors}{history} != 1 || time > $until;
is($retry->{factors}{history}, 0.8, 'p_known: history shortens the pause');
check_factors($known, $retry);
$t->ledger_exact('predictive retry: ledger');

sub table {
  my ($head, @lines) = @_;
  my @width = map { my $i = $_; max(map { length $_->[$i] } $head, @lines) } 0 .. $#$head;
  return join "\n", map { my $row = $_; (join '  ', map { sprintf "%-$width[$_]s", $row->[$_] } 0 .. $#$row) =~ s/ +$//r } $head, @lines;
}
note(table([ 'class', 'sqlstate', 'category', 'retryable', 'attempts', 'delays (s)', 'final state' ], @rows));
note(table([ 'predictive', 'sqlstate', 'backoff (s)', 'factors', 'delay (s)' ], @factors));

unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11|could not run steps/, 'nothing else crashed');
$node->stop;
done_testing();
