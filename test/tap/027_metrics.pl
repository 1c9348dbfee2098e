# Counters and histograms: what plain SQL counts, and never less than was told before, whatever is restarted, killed, removed or
# counted again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time usleep);

my $t = TaskerNode->start('metrics', conf => "tasker.max_executors = 3\n", init => { allows_streaming => 1 });
my $node = $t->node;
$t->alice(join '; ', definition('chain', 'a:step; b:step_do < a; c:- < b'), definition('flaky', 'a:step_flaky', backoff => '{"base_seconds": 0}'), definition('bad', 'a:step_do', retryable => 'false'));

# ---- the oracle: every figure from the transitions, none where there is no task of it ----
my $truth = <<'SQL';
WITH runs AS (
  SELECT n.name, w.to_state, (p.metadata ->> 'attempt')::integer AS attempt, extract(epoch FROM w.created_at - p.created_at)::float8 AS seconds
  FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.workflow_step_transitions AS w USING (task_id)
  JOIN tasker.workflow_step_transitions AS p ON p.task_id = w.task_id AND p.step_no = w.step_no AND p.element = w.element AND p.sort_key = w.sort_key - 10 AND p.to_state = 'in_progress'
  JOIN tasker.named_steps AS d ON d.named_task_id = n.named_task_id AND d.step_no = w.step_no
  WHERE d.handler_type <> 'noop' AND w.to_state IN ('complete', 'error'))
SELECT 'tasker_step_attempts_total', r.name || ' ' || CASE r.to_state WHEN 'complete' THEN 'success' ELSE 'failure' END, count(*)::float8 FROM runs AS r GROUP BY r.name, r.to_state
UNION ALL SELECT 'tasker_step_retries_total', r.name, count(*) FROM runs AS r WHERE r.attempt > 1 GROUP BY r.name
UNION ALL SELECT 'tasker_tasks_created_total', n.name, count(*) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) GROUP BY n.name
UNION ALL SELECT 'tasker_tasks_ended_total', n.name || ' ' || w.to_state, count(*) FROM tasker.tasks AS t JOIN tasker.named_tasks AS n USING (named_task_id) JOIN tasker.task_transitions AS w USING (task_id)
  WHERE w.to_state NOT IN ('pending', 'in_progress') GROUP BY n.name, w.to_state
UNION ALL SELECT 'tasker_step_duration_seconds_bucket', b.le, count(*) FROM runs AS r CROSS JOIN (SELECT m.labels ->> 'le' AS le FROM tasker.metrics AS m WHERE m.name = 'tasker_step_duration_seconds_bucket') AS b
  WHERE r.to_state = 'complete' AND r.seconds <= b.le::float8 GROUP BY b.le
UNION ALL SELECT 'tasker_step_duration_seconds_count', '', count(*) FROM runs AS r WHERE r.to_state = 'complete' HAVING count(*) > 0
SQL
my $told = <<'SQL';
SELECT m.name, concat_ws(' ', m.labels ->> 'name', m.labels ->> 'outcome', m.labels ->> 'state', m.labels ->> 'le'), m.value
FROM tasker.metrics AS m WHERE m.name IN ('tasker_step_attempts_total', 'tasker_step_retries_total', 'tasker_tasks_created_total', 'tasker_tasks_ended_total', 'tasker_step_duration_seconds_bucket', 'tasker_step_duration_seconds_count') AND m.value > 0
SQL
sub exact_ok {
  my ($what) = @_;
  $t->wait_ok("SELECT NOT EXISTS ((($truth) EXCEPT ALL ($told)) UNION ALL (($told) EXCEPT ALL ($truth)))", $what, 30)
    or diag($t->sql("(SELECT 'true', * FROM (($truth) EXCEPT ALL ($told)) AS x) UNION ALL (SELECT 'told', * FROM (($told) EXCEPT ALL ($truth)) AS x) ORDER BY 2, 3, 1"));
}

# ---- what was told, and the highest it ever was ----
my (%highest, @lowered, $looks);
sub look {
  my ($rc, $out) = $t->try_sql(q{SELECT m.name || m.labels, m.value FROM tasker.metrics AS m WHERE m.type IN ('counter', 'histogram')});
  return if $rc;  # a server that restarts
  my %now = map { split /\|/ } split /\n/, $out;
  $looks++;
  push @lowered, map { "$_: " . ($now{$_} // 'gone') . " after $highest{$_}" } grep { !exists $now{$_} || $now{$_} < $highest{$_} } keys %highest;
  %highest = %now;
}
sub never_lower_ok {
  my ($what) = @_;
  look();
  is(join("\n", splice @lowered), '', $what);
}
sub total { my ($name) = @_; return $t->sql("SELECT coalesce(sum(value), 0) FROM tasker.metrics WHERE name = '$name'") }
sub create { my ($name, $n, $context) = @_; $t->alice("SELECT tasker.create_tasks('t', '$name', array_fill('" . ($context // '{}') . "'::jsonb, ARRAY[$n]))") }
# Looks again and again while tasks run.
sub look_until_done {
  my ($what) = @_;
  my $until = time + 90;
  while (1) {
    look();
    my ($rc, $live) = $t->try_sql('SELECT count(*) FROM tasker.tasks WHERE live');
    return pass($what) if $rc == 0 && $live eq '0';
    if (time > $until) { fail($what); $t->show_live; return }
    usleep(20_000);
  }
}
sub work { create('chain', 150); create('flaky', 20, '{"good": 2}'); create('bad', 5, '{"a": "SELECT 1/0"}') }

never_lower_ok('counters are there before anything has run');
is(total('tasker_step_attempts_total'), 0, 'with zeros');
work();
look_until_done('work of all kinds');
exact_ok('the figures are those of the transitions');
never_lower_ok('never lower while it ran');

# ---- restart ----
$node->restart;
never_lower_ok('nor after a restart');
exact_ok('which loses nothing of what was told');
work();
look_until_done('work after it');
exact_ok('counts go on from there');

# ---- what a crash has cost is missing; what was told is not taken back ----
my $attempts = total('tasker_step_attempts_total');
$t->close_gates(1);
create('chain', 1, '{"b": "SELECT acc.pass(1)"}');
my $pid = $t->wait_at_gate(1);
work();
$t->wait_ok('SELECT count(*) = 1 FROM tasker.tasks WHERE live', 'all but one have ended', 60);
look();
my $offset = $t->log_offset;
kill 'KILL', $pid;
$t->{gatekeeper} = undef;
ok($t->wait_log($offset, qr/terminated by signal 9/), 'an executor is killed');
$t->wait_ok('SELECT true', 'and the server is back', 60);
look_until_done('the work goes on');
never_lower_ok('nor after the kill of an executor');
work();
look_until_done('work after that');
$t->wait_ok("SELECT sum(value) >= $attempts + 345 FROM tasker.metrics WHERE name = 'tasker_step_attempts_total'", 'and counts go on');
cmp_ok(total('tasker_step_attempts_total'), '<=', $t->sql("SELECT sum(v) FROM ($truth) AS x (m, l, v) WHERE m = 'tasker_step_attempts_total'"), 'none is counted twice');

work();
look();
$t->kill_postmaster;
look_until_done('the server is killed, and its work goes on');
never_lower_ok('nor after a crash of the server');

# ---- in the middle of writing them ----
my ($faults) = $t->try_sql(q{SET tasker.fault = 'none:error'});
SKIP: {
  skip 'the library has no fault points (build with FAULTS=1)', 1 if $faults != 0;
  for my $action (qw(error kill)) {
    unlink glob $node->data_dir . '/pg_stat_tmp/tasker_fault_*';
    $offset = $t->log_offset;
    $t->sql("ALTER SYSTEM SET tasker.fault = 'history.taken:$action'");
    $t->sql('SELECT pg_reload_conf()');
    my $before = total('tasker_step_attempts_total');
    my $made = $t->sql("SELECT sum(v) FROM ($truth) AS x (m, l, v) WHERE m = 'tasker_step_attempts_total'");
    work();
    my $met = $action eq 'kill' ? qr/terminated by signal 9/ : qr/fault point history\.taken/;
    my $until = time + 60;
    while ($t->log_since($offset) !~ $met && time < $until) { look(); usleep(20_000) }
    like($t->log_since($offset), $met, "$action: met");
    defined $t->wait_for('SELECT true', 60) or die 'the server is not back';
    $t->sql('ALTER SYSTEM RESET tasker.fault');
    $t->sql('SELECT pg_reload_conf()');
    look_until_done("$action: all ends");
    never_lower_ok("$action: nothing is lower");
    if ($action eq 'error') {
      $made = $t->sql("SELECT sum(v) FROM ($truth) AS x (m, l, v) WHERE m = 'tasker_step_attempts_total'") - $made;
      $t->wait_ok("SELECT sum(value) >= $before + $made FROM tasker.metrics WHERE name = 'tasker_step_attempts_total'", 'error: what could not be written is written later', 30);
    }
  }
}

# ---- copies ----
my $totals = q{SELECT m.name, m.labels, m.value FROM tasker.metrics AS m WHERE m.type IN ('counter', 'histogram') AND m.name NOT LIKE 'tasker_breaker%' ORDER BY m.name, m.labels};
$t->sql('SELECT tasker.rebuild_analytics()');  # writes what is in memory still
my $settled = $t->sql($totals);
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $totals), $settled, 'a standby tells the same');
is($standby->safe_psql('postgres', q{SELECT string_agg(m.name || ' ' || m.value, ', ' ORDER BY m.name) FROM tasker.metrics AS m WHERE m.name IN ('tasker_standby', 'tasker_dispatcher_running')}),
  'tasker_dispatcher_running 0, tasker_standby 1', 'and that it is one');
$standby->stop;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump');
$t->sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'is restored');
is($t->sql($totals, 'copy'), $settled, 'with all that was counted');
is($t->sql(q{SELECT m.value FROM tasker.metrics AS m WHERE m.name = 'tasker_held'}, 'copy'), 1, 'and tells that it is held');

# ---- removed, trimmed, counted again, defined anew ----
$t->sql(q{UPDATE tasker.step_history SET hour = hour - interval '100 days'});
$t->sql(q{UPDATE tasker.task_outcomes SET hour = hour - interval '100 days'});
$t->sql('SELECT tasker.rebuild_analytics()');
never_lower_ok('nor after analytics were counted again');
$t->sql(q{SELECT tasker.note_dead_letter(task_id, step_name, 'wont_fix') FROM tasker.dead_letters});
$t->sql(q{SELECT tasker.set_retention('t', '0')});
$t->wait_ok('SELECT count(*) = 0 FROM tasker.tasks', 'retention removes every task', 60);
never_lower_ok('nor after retention');
$t->alice(q{SELECT tasker.retire_task_definition('t', 'bad', '0.1.0')});
never_lower_ok('nor after a definition is retired');
is($t->sql('SELECT tasker.check()'), '', 'the tables are whole');
cmp_ok($looks, '>', 20, 'they were looked at often');
done_testing();
