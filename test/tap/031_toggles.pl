# Dynamic concurrency, adaptive batching and predictive retry, each switched off and on by a reload again and again while work
# runs: what they do follows within seconds, and the work does not notice.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('toggles',
  conf => "tasker.max_executors = 8\ntasker.max_concurrent_steps = 6\ntasker.min_concurrent_steps = 1\ntasker.concurrency_interval = 1s\ntasker.executor_idle_timeout = 60s\ntasker.max_batch_duration = 200ms\n");
$t->sql(<<'SQL');
-- Fails, as a connection would, until attempt context.good.
CREATE FUNCTION acc.step_cut(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  IF step.attempt < (step.context ->> 'good')::integer THEN RAISE EXCEPTION 'cut: attempt %', step.attempt USING ERRCODE = '08006'; END IF;
  RETURN '{}';
END $$;
CREATE INDEX ON acc.ledger (at);
SQL
$t->alice(definition('nap', 'a:step_sleep'));
$t->alice(definition('short', 'a:step_sleep'));
$t->alice(definition('cut', 'a:step_cut', max_attempts => 20, backoff => '{"base_seconds": 0.4, "multiplier": 1, "jitter": 0}'));

sub reload { my ($name, $value) = @_; $t->sql("ALTER SYSTEM SET tasker.$name = $value"); $t->sql('SELECT pg_reload_conf()') }
sub create { my ($name, $n, $context) = @_; $t->alice("SELECT count(*) FROM tasker.create_tasks('t', '$name', array_fill('$context'::jsonb, ARRAY[$n]))") }
# So many more that $n are live, however fast those before went.
sub keep { my ($name, $n, $context) = @_; my $lacking = $n - $t->sql('SELECT count(*) FROM tasker.tasks WHERE live'); create($name, $lacking, $context) if $lacking > 0 }
sub under_load { my ($what) = @_; cmp_ok($t->sql('SELECT count(*) FROM tasker.tasks WHERE live'), '>', 100, "$what: under load") }

# Switches it off and on three times; load() sees each time that there is work. off_ok and on_ok say, in SQL, what a reload at :at leads to.
sub toggle {
  my ($name, $load, $off_ok, $on_ok) = @_;
  my @workers = $t->sql(q{SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type IN ('tasker launcher', 'tasker dispatcher') ORDER BY 1});
  my $from = $t->log_offset;
  for my $turn (1 .. 3) {
    for my $switch ([ 'off', $off_ok ], [ 'on', $on_ok ]) {
      my ($value, $condition) = @$switch;
      $load->();
      my $at = $t->sql('SELECT clock_timestamp()');
      reload($name, $value);
      my $took = $t->wait_ok($condition =~ s/:at/timestamptz '$at'/gr, "$name is switched $value for the ${turn}th time, and that has been acted upon", 20);
      note(sprintf 'after %.2f s', $took) if defined $took;
      under_load("$name $value");
    }
  }
  $t->all_done("$name: every task ends", 90);
  $t->ledger_exact("$name: no step was lost, or had effects twice");
  is($t->sql(q{SELECT DISTINCT state FROM tasker.workflow_steps}), 'complete', "$name: all are complete");
  is_deeply([ $t->sql(q{SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type IN ('tasker launcher', 'tasker dispatcher') ORDER BY 1}) ], \@workers, "$name: launcher and dispatcher are the same");
  # A step's own error goes to its row, not to the log.
  unlike($t->log_since($from), qr/ (?:WARNING|ERROR|FATAL|PANIC):|could not|terminated by signal|exited with exit code [^01]/, "$name: nothing in the log");
}

# ---- how many executors: by load, little more than the least, against all that may be ----
my $executors = q{(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tasker executor')};
$t->sql(q{ALTER SYSTEM SET tasker.adaptive_batching = off});
$t->sql(q{ALTER SYSTEM SET tasker.predictive_retry = off});
$t->sql('SELECT pg_reload_conf()');
# What counts as load is the share of tasks that is live: four fifths.
sub keep_naps {
  my ($live, $all) = split /\|/, $t->sql('SELECT count(*) FILTER (WHERE live), count(*) FROM tasker.tasks');
  keep('nap', $live + 4 * $all - 5 * $live, '{"sleep": 0.02}');
}
keep('nap', 3000, '{"sleep": 0.02}');
$t->wait_ok("SELECT $executors BETWEEN 1 AND 3", 'by load, few executors run');
toggle('dynamic_concurrency', \&keep_naps, "SELECT $executors = 6 AND (SELECT value = 6 FROM tasker.recommended_concurrency() WHERE item = 'in_force')",
  "SELECT $executors BETWEEN 1 AND 3 AND (SELECT value BETWEEN 1 AND 3 FROM tasker.recommended_concurrency() WHERE item = 'in_force')");
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps'), 1, 'each step at its first attempt');

# ---- how many share a transaction: more than 32 of what is learnt to be short, against 32 at most ----
$t->sql(q{ALTER SYSTEM SET tasker.max_executors = 1});
$t->sql('SELECT pg_reload_conf()');
$t->sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
my $sizes = q{(SELECT count(*) AS n FROM acc.ledger WHERE at > :at GROUP BY txid HAVING min(at) > :at + interval '50 ms' ORDER BY min(at) DESC LIMIT 5)};
$t->sql(q{ALTER SYSTEM SET tasker.adaptive_batching = on});
$t->sql('SELECT pg_reload_conf()');
my $short = q{SELECT samples >= 100 AND batch_size > 32 FROM tasker.batch_statistics WHERE name = 'short'};
for (1 .. 20) {
  create('short', 200, '{"sleep": 0.001}');
  last if defined $t->wait_for($short, 3);
}
$t->wait_ok($short, 'learnt: short');
toggle('adaptive_batching', sub { keep('short', 4000, '{"sleep": 0.001}') }, "SELECT count(*) = 5 AND max(n) BETWEEN 2 AND 32 FROM $sizes AS s", "SELECT count(*) = 5 AND max(n) BETWEEN 33 AND 60 FROM $sizes AS s");
is($t->sql('SELECT max(attempts) FROM tasker.workflow_steps'), 1, 'each step at its first attempt');

# ---- when to try again: the plain backoff, against twice as long for a connection's error ----
my $decided = q{(SELECT metadata #> '{error,retry}' AS r FROM tasker.step_moves WHERE to_state = 'error' AND created_at > :at + interval '0.3 s' ORDER BY created_at DESC LIMIT 50)};
toggle('predictive_retry', sub { keep('cut', 1500, '{"good": 18}') },
  "SELECT count(*) = 50 AND bool_and(r -> 'factors' = '{}' AND r ->> 'delay_seconds' = '0.4') FROM $decided AS d",
  "SELECT count(*) = 50 AND bool_and((r #>> '{factors,error}')::float8 = 2 AND (r ->> 'delay_seconds')::float8 > 0.4) FROM $decided AS d");
is($t->sql(q{SELECT min(attempts), max(attempts) FROM tasker.workflow_steps JOIN tasker.tasks USING (task_id) JOIN tasker.named_tasks USING (named_task_id) WHERE name = 'cut'}), '18|18', 'each step at its eighteenth attempt');
# Whichever held, what was decided is what its factors say, and was kept to.
is($t->sql(q{SELECT count(*) FROM tasker.step_moves WHERE metadata #> '{error,retry}' IS NOT NULL AND metadata #> '{error,retry,factors}' = '{}' AND metadata #>> '{error,retry,delay_seconds}' <> '0.4'}), 0, 'a plain delay is the backoff');

$t->node->stop;
done_testing();
