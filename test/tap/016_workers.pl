# External workers: every step is completed once whoever is killed, leases end by themselves, workers are told of new
# steps, and all of it works through a pooler and without the preload. TASKER_WORKER_STEPS=20000 for the long run.
use strict;
use warnings;

use IPC::Run;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time usleep);

my $least = $ENV{TASKER_WORKER_STEPS} // 6000;
my ($width, $kills) = (200, 12);

my $WORK = <<'SQL';
CREATE ROLE wanda LOGIN;
SELECT tasker.grant_access('wanda', 'worker', q) FROM unnest(ARRAY['bulk', 'few', 'python', 'shell']) AS q;
GRANT SELECT ON acc.ledger TO wanda;
CREATE FUNCTION acc.any_live() RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT EXISTS (SELECT FROM tasker.tasks WHERE live)';
-- Works on a queue until no task is left: the row in the ledger and the completion are one transaction.
CREATE PROCEDURE acc.work(queue text, worker text, lease interval) LANGUAGE plpgsql AS $$
DECLARE
  claimed jsonb;
  c record;
BEGIN
  WHILE acc.any_live() LOOP
    SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') INTO claimed FROM tasker.claim_steps(queue, worker, 20, lease, '0.2 s') AS s;
    COMMIT;
    FOR c IN SELECT * FROM jsonb_to_recordset(claimed) AS x (task_id bigint, step_name text, attempt integer, claim_token uuid) LOOP
      BEGIN
        INSERT INTO acc.ledger (task_id, step_name, attempt, txid, who) VALUES (c.task_id, c.step_name, c.attempt, pg_current_xact_id(), worker);
        PERFORM tasker.complete_step(c.task_id, c.step_name, c.claim_token, to_jsonb(worker));
      EXCEPTION WHEN SQLSTATE 'TK003' THEN NULL; -- late: the row in the ledger is gone, too
      END;
      COMMIT;
    END LOOP;
  END LOOP;
END
$$;
SQL
sub external { my ($name, $queue, $n, $more) = @_;
  return "SELECT tasker.define_task(jsonb_build_object('namespace', 't', 'name', '$name', 'steps', (SELECT jsonb_agg(jsonb_build_object('name', 's' || i, 'max_attempts', 50,"
    . "'handler', jsonb_build_object('type', 'external', 'queue', '$queue')) || '" . ($more // '{}') . "') FROM generate_series(1, $n) AS i)))" }
my $CLAIM = q{SELECT task_id || ' ' || step_name || ' ' || claim_token FROM tasker.claim_steps};

my $t = TaskerNode->start('workers', conf => "max_worker_processes = 16\n");
$t->sql($WORK);
$t->alice(external('wide', 'bulk', $width) . ';' . external('few', 'few', 1) . ';' . external('python', 'python', 1) . ';' . external('shell', 'shell', 1));
sub wanda { my ($query) = @_; return $t->node->safe_psql('postgres', $query, extra_params => [ '-U', 'wanda' ]) }

# ---- every step once, whoever is killed
{
  my $tasks = 0;
  my $offer = sub { my ($n) = @_; $t->alice("SELECT count(tasker.create_task('t', 'wide')) FROM generate_series(1, $n)"); $tasks += $n };
  $offer->($least / $width);
  my (%workers, $number);
  my $hire = sub {
    my $name = 'w' . ++$number;
    my ($out, $err) = ('', '');
    $workers{$name} = IPC::Run::start([ 'psql', '-XAtq', '-d', $t->node->connstr('postgres'), '-U', 'wanda', '-c', "CALL acc.work('bulk', '$name', '3 s')" ], '<', '/dev/null', '>', \$out, '2>', \$err);
  };
  $hire->() for 1 .. 4;
  my ($killed, $next, $begun) = (0, $least / 14, time);
  while (($killed < $kills || $t->sql('SELECT acc.any_live()') eq 't') && time - $begun < 300) {
    my $done = $t->sql('SELECT count(*) FROM acc.ledger');
    # However fast they are, the workers have work until the last kill.
    $offer->(10) if $killed < $kills && $done > $tasks * $width - 2000;
    # A worker's session goes in whatever it does; twice all of them at once; once the dispatcher.
    if ($killed < $kills && $done >= $next) {
      my $all = $killed % 5 == 4 ? '' : 'ORDER BY random() LIMIT 1';
      if ($t->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'wanda' $all") ne '') {
        $t->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher'") if $killed == 6;
        $killed++;
        $next = $done + $least / 14;
      }
    }
    for my $name (keys %workers) {
      next if eval { $workers{$name}->pump_nb; $workers{$name}->pumpable };
      eval { $workers{$name}->finish };
      delete $workers{$name};
      $hire->();
    }
    usleep(50_000);
  }
  eval { $_->finish } for values %workers;
  my $steps = $tasks * $width;
  is($killed, $kills, 'workers were killed');
  note(sprintf '%d steps in %.1f s', $steps, time - $begun);
  is($t->sql("SELECT count(*), count(DISTINCT (task_id, step_name)) FROM acc.ledger"), "$steps|$steps", 'every step is in the ledger, once');
  is($t->sql("SELECT count(*), count(DISTINCT metadata ->> 'claim_token') FROM tasker.workflow_step_transitions WHERE to_state = 'complete'"), "$steps|$steps", '… and completed by a token of its own');
  is($t->sql("SELECT state, count(*) FROM tasker.tasks GROUP BY 1"), "complete|$tasks", 'every task is complete');
  is($t->sql('SELECT count(*) FROM acc.ledger l JOIN tasker.workflow_steps s USING (task_id) JOIN tasker.named_steps d ON d.name = l.step_name AND d.step_no = s.step_no'
    . ' JOIN tasker.tasks t ON t.task_id = s.task_id AND t.named_task_id = d.named_task_id WHERE l.attempt <> s.attempts'), 0, '… in the attempt that wrote the ledger');
  is($t->sql('SELECT (SELECT count(*) FROM tasker.leases), (SELECT count(*) FROM tasker.queue_items), (SELECT count(*) FROM tasker.timers)'), '0|0|0', 'nothing is left behind');
  is($t->sql('SELECT * FROM tasker.check()'), '', 'the tables agree');
  # Claims begin where the last ones ended; what is offered before that place is found all the same.
  $t->alice(external('urgent', 'bulk', 1) . q{; SELECT tasker.create_task('t', 'urgent', priority => 5)});
  my ($task, $step, $token) = split / /, wanda("$CLAIM('bulk', 'w', 1, '30 s', '10 s')");
  is($token && wanda("SELECT tasker.complete_step($task, '$step', '$token')"), 't', 'an urgent step comes, too');
  $t->all_done('it ends', 10);
}

# ---- a system that fails: its breaker opens, and what waits for it spends no attempts
{
  $t->alice(external('depot', 'few', 1, '{"dependent_system": "depot", "backoff": {"base_seconds": 300}}') . q{; SELECT count(tasker.create_task('t', 'depot')) FROM generate_series(1, 12)});
  $t->wait_ok('SELECT count(*) = 12 FROM tasker.queue_items', 'breaker: all are offered', 20);
  my $threshold = $t->sql('SHOW tasker.breaker_failure_threshold');
  for (1 .. $threshold) {
    my ($task, $step, $token) = split / /, wanda("$CLAIM('few', 'w')");
    wanda("SELECT tasker.fail_step($task, '$step', '$token', 'the depot does not answer')");
  }
  $t->wait_ok(q{SELECT state = 'open' FROM tasker.circuit_breakers WHERE system = 'depot'}, "breaker: open after $threshold failures", 20);
  is(wanda("$CLAIM('few', 'w', 20)"), '', 'breaker: nothing can be claimed');
  my $rest = 12 - $threshold;
  my $held = q{FROM tasker.step_status WHERE step_name = 's1' AND attempts = 0 AND state = 'pending' AND task_id IN (SELECT task_id FROM tasker.task_status WHERE name = 'depot')};
  is($t->alice("SELECT count(*), count(*) FILTER (WHERE blocking_reason LIKE 'circuit_open: depot%') $held"), "$rest|$rest", 'breaker: the others say why, and have made no attempt');
  $t->sql(q{SELECT tasker.reset_breaker('depot')});
  $t->wait_ok("SELECT count(*) = 0 $held AND blocking_reason LIKE 'circuit_open%'", 'breaker: closed by hand', 20);
  my $done = 0;
  for (split /\n/, wanda("$CLAIM('few', 'w', 20, '30 s', '10 s')")) {
    my ($task, $step, $token) = split / /;
    $done++ if wanda("SELECT tasker.complete_step($task, '$step', '$token')") eq 't';
  }
  is($done, $rest, 'breaker: then they are done');
  is($t->alice(q{SELECT max(attempts) FROM tasker.step_status WHERE task_id IN (SELECT task_id FROM tasker.task_status WHERE name = 'depot')}), 1, 'breaker: no step has made more than one attempt');
  $t->alice(q{SELECT tasker.cancel_task(task_id) FROM tasker.task_status WHERE name = 'depot' AND state IN ('pending', 'in_progress')});
}

# ---- a lease ends: the dispatcher's timer brings the step to who waits for it
{
  $t->alice(q{SELECT tasker.create_task('t', 'few')});
  my $first = wanda("$CLAIM('few', 'one', 1, '1 s', '20 s')");
  my $begun = time;
  my $second = wanda("$CLAIM('few', 'two', 1, '30 s', '30 s')");
  my $took = time - $begun;
  cmp_ok($took, '<', 10, sprintf('the next worker gets it when the lease ends (%.2f s)', $took));
  isnt($second, $first, '… with another token');
  my ($task, $step, $token) = split / /, $second;
  my ($old) = (split / /, $first)[2];
  my ($rc, undef, $err) = $t->try_sql("SELECT tasker.complete_step($task, '$step', '$old')", user => 'wanda');
  like($err, qr/the claim of step "s1" of task $task is not valid/, 'the first one is too late');
  # Over a restart
  $t->node->restart;
  is(wanda("SELECT tasker.complete_step($task, '$step', '$token')"), 't', 'a token outlives a restart');
  $t->all_done('the task ends');
  $t->alice(q{SELECT tasker.create_task('t', 'few')});
  wanda("$CLAIM('few', 'one', 1, '2 s', '20 s')");
  $t->node->stop('immediate');
  $t->node->start;
  ($task, $step, $token) = split / /, wanda("$CLAIM('few', 'two', 1, '30 s', '30 s')");
  is(wanda("SELECT tasker.complete_step($task, '$step', '$token')"), 't', 'a lease ends after a crash, too');
  $t->all_done('the task ends');
}

# ---- NOTIFY: without a payload, few for many; and a waiting claim wakes
{
  my $offered = q{DO $$ BEGIN FOR i IN 1 .. 1000 LOOP EXIT WHEN (SELECT count(*) FROM tasker.queue_items) = 50; PERFORM pg_sleep(0.02); END LOOP; END $$};
  my (undef, $out) = $t->try_sql([ 'LISTEN tasker_queue_few', q{SELECT count(*) FROM tasker.create_tasks('t', 'few', array_fill('{}'::jsonb, ARRAY[50]))}, $offered, 'SELECT count(*) FROM tasker.queue_items' ], user => 'alice');
  my $told = () = $out =~ /Asynchronous notification "tasker_queue_few"/g;
  cmp_ok($told, '>=', 1, 'a listener is told of new steps');
  cmp_ok($told, '<', 25, '… not of each');
  unlike($out, qr/with payload/, '… and of nothing but that');
  wanda(q{WITH c AS (SELECT * FROM tasker.claim_steps('few', 'w', 100)) SELECT count(*) FROM tasker.complete_steps((SELECT array_agg(task_id) FROM c), (SELECT array_agg(step_name) FROM c), (SELECT array_agg(claim_token) FROM c))});
  $t->all_done('fifty at once');
  my ($claimed, $err) = ('', '');
  my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $t->node->connstr('postgres'), '-U', 'wanda', '-c', "$CLAIM('few', 'w', 1, '30 s', '50 s')" ], '<', '/dev/null', '>', \$claimed, '2>', \$err);
  $t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'wanda' AND query LIKE '%claim_steps%' AND wait_event_type = 'Extension')}, 'a claim waits');
  my $begun = time;
  $t->alice(q{SELECT tasker.create_task('t', 'few')});
  $waiting->finish;
  cmp_ok(time - $begun, '<', 5, sprintf('… and wakes (%.3f s)', time - $begun));
  my ($task, $step, $token) = split / /, $claimed;
  chomp $token;
  is(wanda("SELECT tasker.complete_step($task, '$step', '$token')"), 't', '… with a step');
  $t->all_done('it ends');
}

# ---- the examples
SKIP: {
  my @driver = grep { system("python3 -c 'import $_' 2>/dev/null") == 0 } qw(psycopg psycopg2);
  skip 'no psycopg', 3 unless @driver;
  my ($out, $err) = ('', '');
  my $worker = IPC::Run::start([ 'python3', 'examples/workers/worker.py', 'python', $t->node->connstr('postgres') . ' user=wanda' ], '<', '/dev/null', '>', \$out, '2>', \$err);
  my $task = $t->alice(q{SELECT tasker.create_task('t', 'python', '{"order": 7}')});
  $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $task", 'worker.py completes a step', 60) or diag($err);
  is($t->sql("SELECT result ->> 'order' FROM tasker.workflow_steps WHERE task_id = $task"), 7, '… with a result made of the context');
  $t->node->restart;
  $task = $t->alice(q{SELECT tasker.create_task('t', 'python', '{"order": 8}')});
  $t->wait_ok("SELECT state = 'complete' FROM tasker.tasks WHERE task_id = $task", '… and another one after the server was away', 60) or diag($err);
  $worker->signal('TERM');
  $worker->finish;
  is($worker->result(0), 0, 'SIGTERM ends it well') or diag($err);
}
{
  my ($out, $err) = ('', '');
  my $command = q{read -r step; case $step in *'"bad"'*) echo 'no good' >&2; exit 1;; *) echo '{"seen": true}';; esac};
  my $worker = IPC::Run::start([ 'env', 'PGHOST=' . $t->node->host, 'PGPORT=' . $t->node->port, 'PGUSER=wanda', 'PGDATABASE=postgres', 'examples/workers/worker.sh', 'shell', 'bash', '-c', $command ], '<', '/dev/null', '>', \$out, '2>', \$err);
  my $task = $t->alice(q{SELECT tasker.create_task('t', 'shell')});
  my $bad = $t->alice(q{SELECT tasker.create_task('t', 'shell', '{"order": "bad"}')});
  $t->wait_ok("SELECT bool_and(NOT live) FROM tasker.tasks WHERE task_id IN ($task, $bad)", 'worker.sh ends its steps', 60) or diag($err);
  is($t->sql("SELECT state, result FROM tasker.workflow_steps WHERE task_id = $task"), 'complete|{"seen": true}', '… one with the result that was printed');
  is($t->sql("SELECT state, error ->> 'message' FROM tasker.workflow_steps WHERE task_id = $bad"), 'error|no good', '… one with the error that was');
  $worker->signal('TERM');
  eval { $worker->finish };
}

# ---- through a pooler in transaction mode: claim and completion over different connections of the server
SKIP: {
  my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
  skip 'pgbouncer is not installed', 3 unless $pgbouncer;
  my $folder = PostgreSQL::Test::Utils::tempdir_short();
  my ($host, $port) = ($t->node->host, $t->node->port);
  PostgreSQL::Test::Utils::append_to_file("$folder/users", qq("wanda" ""\n));
  PostgreSQL::Test::Utils::append_to_file("$folder/ini", <<"INI");
[databases]
postgres = host=$host port=$port
[pgbouncer]
listen_addr =
unix_socket_dir = $folder
listen_port = 6432
auth_type = trust
auth_file = $folder/users
pool_mode = transaction
default_pool_size = 4
server_round_robin = 1
logfile = $folder/log
INI
  my ($out, $err) = ('', '');
  my $pooler = IPC::Run::start([ $pgbouncer, "$folder/ini" ], '<', '/dev/null', '>', \$out, '2>', \$err);
  my $ask = sub { my $o = ''; IPC::Run::run([ 'psql', '-XAtq', '-h', $folder, '-p', 6432, '-U', 'wanda', '-d', 'postgres', map { ('-c', $_) } @_ ], '<', '/dev/null', '>', \$o, '2>&1'); chomp $o; return $o };
  my $until = time + 20;
  usleep(50_000) while $ask->('SELECT 1') ne '1' && time < $until;
  $t->alice(q{SELECT tasker.create_task('t', 'few')});
  my ($claim, $pid) = split /\|/, $ask->(q{SELECT task_id || ' ' || step_name || ' ' || claim_token, pg_backend_pid() FROM tasker.claim_steps('few', 'pooled', 1, '30 s', '20 s')});
  my ($task, $step, $token) = split / /, $claim;
  # The one connection there is gets busy, so that the completion comes over another.
  my ($ignored, $also) = ('', '');
  my $open = IPC::Run::start([ 'psql', '-XAtq', '-h', $folder, '-p', 6432, '-U', 'wanda', '-d', 'postgres', '-c', 'SELECT pg_sleep(600)' ], '<', '/dev/null', '>', \$ignored, '2>', \$also);
  $t->wait_ok("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'PgSleep')", 'the connection of the claim is busy');
  my ($done, $other) = split /\|/, $ask->("SELECT tasker.complete_step($task, '$step', '$token'), pg_backend_pid()");
  is($done, 't', 'claimed and completed through the pooler');
  isnt($other, $pid, '… over different connections');
  $open->kill_kill;
  $pooler->signal('INT');
  eval { $pooler->finish };
  $t->all_done('through the pooler');
}

# ---- without the preload: no waiting, and a claim itself takes back and offers
{
  my $bare = TaskerNode->start('no_preload', bare => 1, conf => "shared_preload_libraries = ''\n");
  $bare->install;
  $bare->sql($WORK);
  $bare->alice(external('chain', 'few', 1) . ';' . external('two', 'few', 2));
  my $as = sub { return $bare->node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'wanda' ]) };
  my $id = $bare->alice(q{SELECT tasker.create_task('t', 'two')});
  my $begun = time;
  is($as->("SELECT count(*) FROM tasker.claim_steps('bulk', 'w', 1, '30 s', '30 s')"), 0, 'without the preload nothing comes of an empty queue');
  cmp_ok(time - $begun, '<', 20, '… and nobody waits');
  my ($first) = split /\n/, $as->("$CLAIM('few', 'one', 1, '0.2 s')");
  like($first, qr/^$id s1 /, 'a claim finds what is ready');
  my ($second) = split /\n/, $as->("$CLAIM('few', 'one', 5)");
  like($second, qr/^$id s2 /, '… and not what is claimed');
  $bare->wait_ok('SELECT bool_or(lease_until < clock_timestamp()) FROM tasker.leases', 'a lease ends');
  my ($again) = split /\n/, $as->("$CLAIM('few', 'one', 5)");
  like($again, qr/^$id s1 /, '… and a claim takes the step back and gives it again');
  for ($again, $second) {
    my ($task, $step, $token) = split / /;
    is($as->("SELECT tasker.complete_step($task, '$step', '$token')"), 't', "$step is completed");
  }
  is($bare->sql("SELECT state FROM tasker.tasks WHERE task_id = $id"), 'complete', 'the task is complete');
  $id = $bare->alice(q{SELECT tasker.create_task('t', 'chain')});
  my ($task, $step, $token) = split / /, $as->("$CLAIM('few', 'one')");
  is($as->("SELECT tasker.fail_step($task, '$step', '$token', 'no', false)"), 't', 'a step fails for good');
  is($bare->sql("SELECT state FROM tasker.tasks WHERE task_id = $id"), 'error', '… and the task with it');
}

done_testing();
