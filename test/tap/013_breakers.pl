# Circuit breakers at work: failures open one, its steps wait without an attempt, exactly one at a time probes, and all
# go on when it closes; whatever happens to the probe, to the processes, and to the server.
use strict;
use warnings;

use IPC::Run;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

# A small buffer: more steps wait than the dispatcher keeps in memory.
my $t = TaskerNode->start('breakers', conf => "tasker.max_executors = 4\ntasker.executor_idle_timeout = 10s\ntasker.ready_buffer = 1000\n");
my $node = $t->node;
$t->sql(<<'SQL');
CREATE ROLE olga LOGIN; CREATE ROLE bob LOGIN;
SELECT tasker.grant_access('olga', 'operator'), tasker.grant_access('bob', 'submitter');
CREATE TABLE acc.outside (system text PRIMARY KEY, down boolean NOT NULL DEFAULT false, gate integer);
INSERT INTO acc.outside SELECT unnest(ARRAY['bank', 'mail', 'fax', 'phone']);
GRANT SELECT ON acc.outside TO PUBLIC;
-- Calls the system of the step's name: waits at its gate, if it has one, and fails when it is down by then.
CREATE FUNCTION acc.step_outside(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step), acc.pass(o.gate) FROM acc.outside AS o WHERE o.system = step.step_name;
  IF (SELECT o.down FROM acc.outside AS o WHERE o.system = step.step_name) THEN RAISE EXCEPTION '% does not answer', step.step_name USING ERRCODE = '08006'; END IF;
  RETURN '{}';
END $$;
SQL
my %keys = (max_attempts => 100, backoff => '{"base_seconds": 0.01, "multiplier": 1, "jitter": 0}');
$t->alice(definition($_, "$_:step_outside", %keys, dependent_system => qq("$_"))) for qw(bank mail fax phone);

sub olga { my ($query) = @_; my ($rc, $out, $err) = $t->try_sql("SELECT $query", user => 'olga'); diag($err) if $rc; return $out }
sub outside { my ($system, $set) = @_; $t->sql("UPDATE acc.outside SET $set WHERE system = '$system'") }
sub create { my ($system, $n, $user) = @_; my (undef, $out, $err) = $t->try_sql("SELECT tasker.create_tasks('t', '$system', array_fill('{}'::jsonb, ARRAY[$n]))", user => $user // 'alice'); diag($err) if $err; return split /\n/, $out }
sub breaker { my ($system, $columns) = @_; return $t->sql("SELECT $columns FROM tasker.circuit_breakers WHERE system = '$system'") }
# A condition on the breaker's row comes true.
sub breaker_ok { my ($system, $condition, $what, $seconds) = @_; return $t->wait_ok("SELECT $condition FROM tasker.circuit_breakers WHERE system = '$system'", $what, $seconds // 30) // diag($t->sql("SELECT * FROM tasker.circuit_breakers WHERE system = '$system'")) }
my $tasks_of = 'tasker.tasks t JOIN tasker.named_tasks n USING (named_task_id) JOIN tasker.workflow_steps s USING (task_id)';
sub attempts { my ($system) = @_; return $t->sql("SELECT coalesce(sum(s.attempts), 0) FROM $tasks_of WHERE n.name = '$system'") }
sub causes { my ($system, $cause) = @_; return $t->sql("SELECT count(*) FROM tasker.breaker_transitions b JOIN tasker.dependent_systems d USING (dependent_system_id) WHERE d.name = '$system' AND b.metadata ->> 'cause' = '$cause'") }
sub done_ok { my ($system, $what, $seconds) = @_; return $t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.tasks JOIN tasker.named_tasks n USING (named_task_id) WHERE live AND n.name = '$system')", $what, $seconds // 90) }

# ---- failures open it, and the rest waits ----
olga(q{tasker.configure_breaker('bank', failure_threshold => 3, open_time => '1 hour')});
outside('bank', 'down = true');
create('bank', 3000);
breaker_ok('bank', "state = 'open'", 'failures open the breaker');
breaker_ok('bank', 'waiting_steps = 1000', 'as many steps wait in memory as there is room for');
my $spent = attempts('bank');
cmp_ok($spent, '>=', 3, 'three failures did it');
cmp_ok($spent, '<=', 6, 'and what the other executors had begun');
is(breaker('bank', q{failure_threshold, failure_window, open_time, max_open_time, times_opened, reason, actor IS NULL, opened_at IS NOT NULL, open_until > now() + interval '59 min', probing_task_id IS NULL}),
  '3|00:01:00|01:00:00|00:10:00|1|3 failures in a row|t|t|t|t', 'the view tells all of it');
is($t->alice(q{SELECT count(*) FILTER (WHERE blocking_reason ~ '^circuit_open: bank until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$'), count(*) FROM tasker.step_status WHERE step_name = 'bank'}), '3000|3000', 'each step says so');
is($t->alice(q{SELECT count(*) FROM tasker.ready_steps}), '0', 'none counts as ready');

# Another system goes on as if nothing were.
create('mail', 300);
done_ok('mail', 'steps of another system run beside the waiting ones');
is(attempts('mail'), 300, 'each at the first attempt');

# Nothing is done for those that wait.
my ($dispatcher) = $t->pids('dispatcher');
sub cpu_ticks { open my $in, '<', "/proc/$dispatcher/stat" or die "no dispatcher $dispatcher"; my @field = split / /, (<$in> =~ s/^.*\) //r); return $field[11] + $field[12] }
my ($begun, $ticks) = (time, cpu_ticks());
$t->wait_for("SELECT clock_timestamp() > to_timestamp($begun) + interval '3 s'", 20);
$ticks = cpu_ticks() - $ticks;
cmp_ok($ticks, '<=', 20, 'the dispatcher rests: ' . $ticks . ' ticks in 3 s');
is(attempts('bank'), $spent, 'no attempt was spent meanwhile');

# ---- it survives ----
my $row = 'state, times_opened, opened_at, open_until, changed_at, reason';
my $before = breaker('bank', $row);
$t->kill_postmaster;
$t->wait_ok('SELECT true', 'the server is back', 60);
is(breaker('bank', $row), $before, 'open as before after kill -9 of the postmaster');
breaker_ok('bank', 'waiting_steps = 1000', 'and its steps wait', 60);
is(attempts('bank'), $spent, 'without an attempt');
($dispatcher) = $t->pids('dispatcher');
$t->sql("SELECT pg_terminate_backend($dispatcher)");
$t->wait_ok("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND pid <> $dispatcher", 'another dispatcher comes');
breaker_ok('bank', 'waiting_steps = 1000', 'and holds them too');
is(attempts('bank'), $spent, 'without an attempt, still');

# ---- probes fail, one at a time ----
is(olga(q{tasker.configure_breaker('bank', 3, open_time => '50 ms', max_open_time => '200 ms')}), 't', 'other settings');
is(olga(q{tasker.trip_breaker('bank', 'soon', '1 ms')}), 't', 'tripped for a moment');
breaker_ok('bank', 'times_opened >= 8', 'probes fail, and open it again and again', 60);
olga(q{tasker.trip_breaker('bank', 'look at it')});
breaker_ok('bank', "state = 'open' AND open_until = 'infinity'", 'until it is reset');
my $probes = causes('bank', 'probe_failed');
cmp_ok($probes, '>=', 7, 'at least seven');
$t->wait_ok(qq{SELECT NOT EXISTS (SELECT FROM tasker.running_steps)}, 'nothing runs');
is(attempts('bank') - $spent, $probes, 'each probe was one attempt, and nothing else ran');
is($t->sql(q{SELECT count(*) FROM tasker.breaker_transitions b WHERE b.from_state = 'open' AND b.to_state = 'half_open' AND NOT EXISTS (SELECT FROM tasker.breaker_transitions a
  WHERE a.dependent_system_id = b.dependent_system_id AND a.sort_key = b.sort_key + 1)}), '0', 'no half-open breaker was left alone');
my @open_times = split /\n/, $t->sql(q{SELECT round(extract(epoch FROM h.created_at - o.created_at) * 1000) FROM tasker.breaker_transitions o JOIN tasker.breaker_transitions h USING (dependent_system_id)
  WHERE o.metadata ->> 'cause' = 'probe_failed' AND h.sort_key = o.sort_key + 1 AND h.to_state = 'half_open' ORDER BY o.sort_key LIMIT 5});
note("open for @open_times ms");
cmp_ok($open_times[0], '>=', 100, 'the second time twice as long as the first');
cmp_ok($open_times[1], '>=', 200, 'then up to the most');
cmp_ok($open_times[4], '>=', 200, 'and no shorter');

# ---- whatever happens to the probe, another one follows, and never two at once ----
outside('bank', 'gate = 1');
$t->close_gates(1);
olga(q{tasker.trip_breaker('bank', 'try', '1 ms')});
my $running = q{SELECT string_agg(task_id::text, ' ') FROM tasker.running_steps};
# One, and only one, runs; not those of before.
sub one_probe {
  my ($system, $what, @others) = @_;
  my $not = join ', ', 0, @others;
  $t->wait_ok("SELECT count(*) = 1 AND bool_and(task_id NOT IN ($not)) FROM tasker.running_steps", $what, 30);
  breaker_ok($system, "state = 'half_open' AND probing_task_id = (SELECT task_id FROM tasker.running_steps) AND probing_step = '$system'", 'the view names it');
  return $t->sql($running);
}
my $probe = one_probe('bank', 'a step probes');
# New steps of the system come, executors are idle: they wait.
my $idle = q{SELECT count(*) FROM tasker.workers WHERE kind = 'executor' AND state = 'idle'};
create('mail', 40);
done_ok('mail', 'other systems keep the executors busy meanwhile');
is($t->sql($running), $probe, 'still the same probe, alone');
like($t->alice("SELECT blocking_reason FROM tasker.step_status WHERE step_name = 'bank' AND task_id <> $probe AND state = 'pending' LIMIT 1"), qr/^circuit_open: bank$/, 'the others wait for its end');
is($t->alice("SELECT state, blocking_reason IS NULL FROM tasker.step_status WHERE task_id = $probe"), 'in_progress|t', 'which runs');

my (undef, $seen) = $t->try_sql('SELECT count(probing_task_id), count(*) FROM tasker.circuit_breakers', user => 'bob');
is($seen, '0|4', 'bob does not see whose step it is');

my $pid = $t->wait_at_gate(1);
$t->sql("SELECT pg_terminate_backend($pid)");
my $second = one_probe('bank', 'the probe\'s process is terminated: another step probes', $probe);
$t->alice("SELECT tasker.cancel_task($second)");
my $third = one_probe('bank', 'the probe is cancelled: another step probes', $probe, $second);
($dispatcher) = $t->pids('dispatcher');
$t->sql("SELECT pg_terminate_backend($dispatcher)");
$t->wait_ok("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND pid <> $dispatcher", 'the dispatcher is terminated, another one comes');
breaker_ok('bank', 'waiting_steps >= 990', 'holds what waits');
is($t->sql($running), $third, 'and knows the probe');
is(causes('bank', 'probe_failed'), $probes, 'none of this counted against the system');

# ---- the system is back ----
outside('bank', 'down = false, gate = NULL');
$t->open_gates(1);
breaker_ok('bank', "state = 'closed'", 'the probe succeeds: closed');
done_ok('bank', 'and all steps run, those too that found no room in memory', 180);
is($t->sql("SELECT count(*) FILTER (WHERE t.state = 'complete'), count(*) FROM $tasks_of WHERE n.name = 'bank'"), '2999|3000', 'but for the cancelled one');
is(breaker('bank', 'state, consecutive_failures, times_opened, waiting_steps, opened_at IS NULL, open_until IS NULL, reason'), 'closed|0|0|0|t|t|the probe succeeded', 'nothing is left of it');

# ---- an operator's open transaction delays what is written, and nothing else ----
my $operator = $node->background_psql('postgres', extra_params => [ '-U', 'olga' ]);
$operator->query_safe(q{BEGIN; SELECT tasker.configure_breaker('mail', failure_threshold => 5, open_time => '1 hour')});
my $mail_spent = attempts('mail');
outside('mail', 'down = true');
create('mail', 50);
breaker_ok('mail', "state = 'closed' AND consecutive_failures >= 5 AND waiting_steps = 50 - (SELECT count(*) FROM tasker.workflow_steps WHERE state = 'error' AND next_attempt_at > clock_timestamp())",
  'five failures keep the rest back, though the row is locked');
create('fax', 20);
done_ok('fax', 'the dispatcher goes on');
$operator->query_safe('COMMIT');
breaker_ok('mail', "state = 'open' AND reason = '5 failures in a row'", 'written when the row is free');
cmp_ok(attempts('mail') - $mail_spent, '<=', 8, 'no attempt was spent meanwhile');
$operator->query_safe(q{BEGIN; SELECT tasker.reset_breaker('mail', 'mended')});
outside('mail', 'down = false');
$operator->query_safe('COMMIT');
done_ok('mail', 'reset, its steps go on');
$operator->quit;

# ---- a probe that cannot run, or whose owner cannot connect, makes room for another's ----
olga(q{tasker.trip_breaker('fax')});
my @unwanted = create('fax', 2);
breaker_ok('fax', 'waiting_steps = 2', 'two steps wait');
$t->alice("SELECT tasker.cancel_task($_)") for @unwanted;
create('fax', 3, 'bob');
breaker_ok('fax', 'waiting_steps = 5', 'their tasks are cancelled meanwhile; steps of bob wait');
my ($twice) = create('fax', 3);
breaker_ok('fax', 'waiting_steps = 8', 'and of alice');
$t->alice("SELECT tasker.pause_task($twice), tasker.resume_task($twice)");
create('mail', 1);
done_ok('mail', 'whoever looks at a waiting step again');
is(breaker('fax', 'waiting_steps'), '8', 'does not count it twice');
$t->sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO alice, olga');
olga(q{tasker.trip_breaker('fax', 'now', '1 ms')});
breaker_ok('fax', "state = 'closed'", 'a step of alice probes, though others came first');
$t->wait_ok(q{SELECT count(*) = 23 FROM tasker.tasks JOIN tasker.named_tasks n USING (named_task_id) WHERE n.name = 'fax' AND state = 'complete'}, 'hers complete');
is($t->sql("SELECT count(*) FROM $tasks_of WHERE n.name = 'fax' AND t.live AND s.attempts = 0"), '3', 'his wait, no attempt spent');
$t->sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
$t->sql("SELECT tasker.cancel_task(array_agg(t.task_id)) FROM $tasks_of WHERE n.name = 'fax' AND t.live");

# ---- more systems with settings of their own than memory has room for ----
my $offset = $t->log_offset;
$t->alice(q{SELECT tasker.define_task(jsonb_build_object('namespace', 't', 'name', 'many', 'steps', (SELECT jsonb_agg(jsonb_build_object('name', 'n' || n, 'dependent_system', 'many ' || n, 'handler', '{"type": "noop"}'::jsonb)) FROM generate_series(1, 300) AS n)))});
$t->alice(definition("last$_", 'bank:step_outside', %keys, dependent_system => qq("many $_"))) for 299, 300;
olga(q{count(tasker.configure_breaker('many ' || n, failure_threshold => 2, open_time => '1 hour')) FROM generate_series(1, 300) AS n});
create('fax', 1);
done_ok('fax', 'the dispatcher has looked at them');
like($t->log_since($offset), qr/WARNING:  tasker: too many circuit breakers/, 'it says that there are too many');
olga(q{tasker.trip_breaker('many 300')});
create('last300', 1);
breaker_ok('many 300', 'waiting_steps = 1', 'but who is open has room');
outside('bank', 'down = true');
create('last299', 1);
breaker_ok('many 299', "state = 'open' AND reason = '2 failures in a row'", 'and so has who fails, with its own settings');
outside('bank', 'down = false');
olga(q{tasker.reset_breaker('many ' || n) FROM unnest(ARRAY[299, 300]) AS n});
done_ok("last$_", "many $_ is reset, its step goes on") for 299, 300;

# ---- run_task probes, too; its session dies ----
outside('phone', 'gate = 1');
$t->close_gates(1);
olga(q{tasker.trip_breaker('phone', 'now', '1 ms')});
breaker_ok('phone', "state = 'half_open' AND open_until IS NULL", 'half-open, and nobody waits');
my $by_hand = $t->alice(q{SELECT tasker.create_task('t', 'phone', run_at => '2999-01-01')});
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'alice', '-c', "CALL tasker.run_task($by_hand, skip_waits => true)" ],
  '<', '/dev/null', '>', \my $out, '2>', \my $err);
breaker_ok('phone', "probing_task_id = $by_hand", 'a session probes');
$pid = $t->wait_at_gate(1);
create('phone', 3);
breaker_ok('phone', "waiting_steps = 3 AND probing_task_id = $by_hand", 'steps wait for it');
is($t->sql('SELECT count(*) FROM tasker.running_steps'), '0', 'and none runs');
$t->sql("SELECT pg_terminate_backend($pid)");
one_probe('phone', 'the session is terminated: a step probes', $by_hand);
outside('phone', 'gate = NULL');
$t->open_gates(1);
$session->finish;
like($err, qr/terminating connection/, 'the session was in the middle');
$t->alice("SELECT tasker.cancel_task($by_hand)");
done_ok('phone', 'and the rest follows');

$t->ledger_exact('all effects, once');

# ---- without the preload: what people say holds ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
(undef, $by_hand) = $t->try_sql(q{SELECT tasker.create_task('t', 'mail')}, user => 'alice');
olga(q{tasker.trip_breaker('mail', 'by hand', '1 hour')});
is(breaker('mail', 'state, consecutive_failures, waiting_steps IS NULL, failure_threshold, failure_window'), 'open|0|t|5|00:01:00', 'the view answers');
$t->alice("CALL tasker.run_task($by_hand)");
like($t->alice("SELECT state || ' ' || blocking_reason FROM tasker.step_status WHERE task_id = $by_hand"), qr/^pending circuit_open: mail until /, 'run_task leaves the step');
olga(q{tasker.trip_breaker('mail', 'by hand', '1 ms')});
breaker_ok('mail', "state = 'half_open'", 'its time is over');
$t->alice("CALL tasker.run_task($by_hand)");
is($t->alice("SELECT state FROM tasker.task_status WHERE task_id = $by_hand"), 'complete', 'and it runs');
is($t->sql('SELECT * FROM tasker.check()'), '', 'all is whole');
$node->stop;
done_testing();
