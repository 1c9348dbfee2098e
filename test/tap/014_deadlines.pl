# The deadline of a task: the whole run, from run_at, pauses and restarts included. When it passes, what runs is interrupted,
# what could have run fails with category timeout, and the task is an error within a second.
use strict;
use warnings;

use List::Util qw(max min);
use TaskerNode;
use Test::More;
use Time::HiRes qw(time usleep);

# The sweep is far off: what ends here is ended by its timer.
my $t = TaskerNode->start('deadlines', conf => "tasker.max_executors = 4\ntasker.max_batch_duration = 200ms\ntasker.sweep_interval = 1h\n");
my $node = $t->node;
$t->sql(<<'SQL');
-- A cancel does not stop it.
CREATE FUNCTION acc.step_deaf(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  LOOP
    BEGIN
      PERFORM pg_sleep(60);
    EXCEPTION WHEN query_canceled THEN NULL;
    END;
  END LOOP;
END $$;
SQL

# A definition with a deadline of its own.
sub define {
  my ($name, $seconds, $steps, %keys) = @_;
  my $sql = definition($name, $steps, %keys);
  $sql =~ s/"steps":/"deadline_seconds": $seconds, "steps":/ or die if defined $seconds;
  $t->alice($sql);
}
sub create {
  my ($name, $context, %o) = @_;
  my $options = join '', map { ", $_ => $o{$_}" } sort keys %o;
  return $t->alice("SELECT tasker.create_task('t', '$name', '$context'$options)");
}
sub task { my ($id, $columns) = @_; return $t->alice("SELECT $columns FROM tasker.task_status WHERE task_id = $id") }
# name:state:attempts:blocking reason of each step
sub steps_of { my ($id) = @_; return $t->alice("SELECT string_agg(concat_ws(':', step_name, state, attempts, blocking_reason), ' ' ORDER BY step_name) FROM tasker.step_status WHERE task_id = $id") }
sub ended { my ($id, $what, $seconds) = @_; return $t->wait_ok("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", "$what: the task ends", $seconds // 30) }
sub timers { my ($id) = @_; return $t->sql("SELECT string_agg(kind, ' ' ORDER BY kind) FROM tasker.timers WHERE task_id = $id") }
sub moves { my ($id, $step) = @_; return $t->alice("SELECT string_agg(concat_ws(':', to_state, metadata ->> 'cause'), ' ' ORDER BY sort_key) FROM tasker.task_history WHERE task_id = $id AND step_name IS NOT DISTINCT FROM " . (defined $step ? "'$step'" : 'NULL')) }

# What is true of every task that ran out of time, and how long after its deadline that was.
my @late;
sub expired {
  my ($id, $what, %o) = @_;
  my $error = $t->alice("SELECT DISTINCT concat_ws('|', error ->> 'sqlstate', error ->> 'category', error ->> 'retryable', error -> 'retry', next_attempt_at) FROM tasker.step_status
    WHERE task_id = $id AND state = 'error'");
  is($error, '57014|timeout|false|{}', "$what: failed steps are errors of category timeout, for good");
  my $deadline = task($id, 'deadline_at');
  is(task($id, "state, completed_steps + failed_steps > 0, error"), "error|t|$o{first}: the deadline of the task passed at $deadline", "$what: the task is an error and says why");
  is($t->alice("SELECT count(*) FROM tasker.step_status WHERE task_id = $id AND state = 'error' AND error ->> 'message' = 'the deadline of the task passed at $deadline' AND error ->> 'hint' <> ''"),
    task($id, 'failed_steps'), "$what: and so does each step");
  is(task($id, 'started_at IS NULL'), $t->sql("SELECT CASE WHEN bool_or(started_at IS NOT NULL) THEN 'f' ELSE 't' END FROM tasker.workflow_steps WHERE task_id = $id"), "$what: started_at says whether anything ran");
  is($t->alice("SELECT count(*) FROM tasker.dead_letters WHERE task_id = $id"), task($id, 'failed_steps'), "$what: which is a dead letter");
  is(timers($id), '', "$what: no timer is left");
  like(moves($id), qr/(^| )error:deadline$/, "$what: the history of the task says so");
  my $late = task($id, 'round(extract(epoch FROM finished_at - deadline_at), 3)');
  cmp_ok($late, '>=', 0, "$what: not before the deadline");
  cmp_ok($late, '<', $o{bound} // 5, "$what: soon after it");
  push @late, $late if !$o{bound};
  note("$what: $late s after the deadline");
}

define('nap', 2, 'a:step_sleep; b:step < a; c:- < b', max_attempts => 5);
define('free', undef, 'a:step_sleep; b:step < a; c:- < b');
define('quick', undef, 'a:step_do; b:step < a');
define('wide', 4, 'a:step_sleep; b:step_sleep; c:step_sleep; d:step_sleep; e:step_sleep; f:step_sleep; g:step < a; h:step < a, b; i:- < g, h', max_attempts => 5);
define('flaky', 2, 'a:step_flaky; b:step < a', backoff => '{"base_seconds": 30, "jitter": 0}');
define('second', 2, 'a:step_do; b:step_sleep < a; c:step < b');
define('deaf', 3, 'a:step_deaf; b:step < a');

# A step that runs.
my $id = create('nap', '{"sleep": 60}');
is(task($id, 'extract(epoch FROM deadline_at - run_at)'), '2.000000', 'the deadline of the definition counts from run_at');
is(timers($id), 'deadline', 'and is a timer');
ended($id, 'running');
my $interrupted = $t->wait_ok(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep')}, 'running: the handler is interrupted', 10);
is(steps_of($id), 'a:error:1:not_retryable b:pending:0:parent_failed: a c:pending:0:parent_failed: a', 'running: the attempt is counted, what is beneath stays');
is(moves($id, 'a'), 'in_progress error:deadline', 'running: the history of the step');
is(moves($id), 'in_progress error:deadline', 'running: the history of the task');
is($t->sql("SELECT count(*) FROM acc.ledger WHERE task_id = $id"), 0, 'running: its effect is gone');
expired($id, 'running', first => 'a');
note(sprintf 'running: the handler was seen interrupted %.2f s after the task was seen to have ended', $interrupted) if defined $interrupted;

# Given at create: longer or shorter than that of the definition, or where that has none.
my %given = (shorter => create('nap', '{"sleep": 60}', deadline_seconds => 1), longer => create('nap', '{"sleep": 2.2}', deadline_seconds => 60), none => create('free', '{"sleep": 60}', deadline_seconds => 1.2));
is(task($given{shorter}, 'extract(epoch FROM deadline_at - run_at)') . ' ' . task($given{none}, 'extract(epoch FROM deadline_at - run_at)'), '1.000000 1.200000', 'deadline_seconds of create_task is what counts');
ended($_, 'given at create') for values %given;
expired($given{$_}, "given at create, $_", first => 'a') for qw(shorter none);
is(task($given{longer}, 'state'), 'complete', 'given at create, longer: it has the time');
is(timers($given{longer}), '', 'and leaves no timer');
for my $seconds (0, -1, q{'NaN'}) {
  my (undef, undef, $err) = $t->try_sql([ '\set VERBOSITY verbose', "SELECT tasker.create_task('t', 'free', deadline_seconds => $seconds)" ], user => 'alice');
  like($err, qr/22023: +deadline_seconds must be/, "deadline_seconds => $seconds is refused");
}

# More steps than executors: those that run, those that wait for one, those beneath.
$id = create('wide', '{"sleep": 60}');
$t->wait_ok(q{SELECT count(*) = 4 FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep'}, 'wide: four of six steps run', 20);
ended($id, 'wide');
my $wide = steps_of($id);
is(join(' ', sort map { s/^\w:// ? $_ : () } grep { /^[a-f]/ } split / (?=\w:)/, $wide), 'error:0:not_retryable error:0:not_retryable' . ' error:1:not_retryable' x 4, 'wide: an attempt is counted where one ran')
  or diag($wide);
like($wide, qr/g:pending:0:parent_failed.* h:pending:0:parent_failed.* i:pending:0:parent_failed/, 'wide: what is beneath stays pending');
expired($id, 'wide', first => 'a');

# A step that waits for its next attempt, and one that comes after others.
my $flaky = create('flaky', '{"good": 9}');
my $second = create('second', '{"sleep": 60}');
ended($_, 'later steps') for $flaky, $second;
is(steps_of($flaky), 'a:error:1:not_retryable b:pending:0:parent_failed: a', 'waiting for a retry: no further attempt is counted');
is(moves($flaky, 'a'), 'in_progress error pending:deadline error:deadline', 'waiting for a retry: both failures are in the history');
expired($flaky, 'waiting for a retry', first => 'a');
is(steps_of($second), 'a:complete:1 b:error:1:not_retryable c:pending:0:parent_failed: b', 'second step: the first one stays complete');
is($t->sql("SELECT string_agg(step_name, ' ') FROM acc.ledger WHERE task_id = $second"), 'a', 'second step: so does its effect');
expired($second, 'second step', first => 'b');

# Pauses are included; a start later on is not.
my $paused = create('nap', '{"sleep": 60}', run_at => q{now() + interval '0.5 s'});
$t->alice("SELECT tasker.pause_task($paused)");
my $delayed = create('nap', '{"sleep": 60}', run_at => q{now() + interval '1.5 s'});
my $far = create('nap', '{"sleep": 60}', run_at => q{now() + interval '1 day'});
is(task($delayed, 'extract(epoch FROM deadline_at - run_at), deadline_at - created_at > interval $$3.4 s$$'), '2.000000|t', 'a later start: the deadline counts from run_at');
is(timers($delayed), 'deadline run_at', 'a later start: two timers');
ended($_, 'paused and delayed') for $paused, $delayed;
is(steps_of($paused), 'a:error:0:not_retryable b:pending:0:parent_failed: a c:pending:0:parent_failed: a', 'paused: it never ran');
is(moves($paused), 'pending:paused error:deadline', 'paused: the history');
expired($paused, 'paused', first => 'a');
is(task($delayed, 'started_at >= run_at'), 't', 'a later start: it ran');
is(steps_of($delayed), 'a:error:1:not_retryable b:pending:0:parent_failed: a c:pending:0:parent_failed: a', 'a later start: one attempt');
expired($delayed, 'a later start', first => 'a');
is(task($far, 'state') . timers($far), 'pendingdeadline run_at', 'tomorrow: waits on');
$t->alice("SELECT tasker.cancel_task($far)");
is(timers($far), '', 'tomorrow: cancelled, no timer is left');

# A handler that does not answer: the task ends all the same, its process soon.
$id = create('deaf', '{}');
$t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep')}, 'deaf: it runs', 20);
my ($deaf) = $t->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'tasker executor' AND wait_event = 'PgSleep'});
ended($id, 'deaf');
my $gone = $t->wait_ok("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $deaf)", 'deaf: the process is ended', 15);
note(sprintf 'deaf: its process was gone %.1f s after the task had ended', $gone) if defined $gone;
is(steps_of($id), 'a:error:1:not_retryable b:pending:0:parent_failed: a', 'deaf: one attempt');
expired($id, 'deaf', first => 'a');

# Neighbours in the same transaction have no part in it.
sub warm { $t->alice(q{SELECT count(tasker.create_task('t', 'quick')) FROM generate_series(1, 60)}); $t->all_done('quick: warmed up') }
warm();
$t->sql('ALTER SYSTEM SET tasker.max_executors = 1');
$t->sql('SELECT pg_reload_conf()');
my @ids = split /\n/, $t->alice(q{SELECT tasker.create_task('t', 'quick', CASE n WHEN 6 THEN '{"a": "SELECT pg_sleep(60)"}' ELSE '{}' END::jsonb, deadline_seconds => CASE n WHEN 6 THEN 0.8 END) FROM generate_series(1, 16) n});
$t->all_done('neighbours: every task ends');
is($t->sql("SELECT string_agg(DISTINCT state || ':' || attempts, ' ') FROM tasker.workflow_steps WHERE task_id IN (@{[join ',', grep { $_ != $ids[5] } @ids]})"), 'complete:1', 'neighbours: complete at their first attempt');
is(steps_of($ids[5]), 'a:error:1:not_retryable b:pending:0:parent_failed: a', 'neighbours: one ran out of time');
expired($ids[5], 'among neighbours', first => 'a');
$t->sql('ALTER SYSTEM SET tasker.max_executors = 4');
$t->sql('SELECT pg_reload_conf()');

# What is over in time, whatever way, has no timer, and nothing happens to it at its deadline.
$t->close_gates(1);
my %over = map { $_ => create('quick', $_ eq 'complete' ? '{}' : $_ eq 'failed' ? '{"a": "SELECT 1 / 0"}' : '{"a": "SELECT acc.pass(1)"}', deadline_seconds => 2) } qw(complete failed cancelled resolved by_steps);
my $deadline = task($over{by_steps}, 'deadline_at');
$t->wait_at_gate(1);
$t->alice("SELECT tasker.cancel_task($over{cancelled}), tasker.resolve_task_manually($over{resolved}), tasker.resolve_step_manually($over{by_steps}, 'a')");
ended($over{$_}, "over in time: $_") for sort keys %over;
my %state = map { $_ => task($over{$_}, 'state, finished_at') } keys %over;
is(join(' ', map { (split /\|/, $state{$_})[0] } sort keys %state), 'complete cancelled complete error resolved_manually', 'over in time: five ends');
is($t->sql("SELECT count(*) FROM tasker.timers WHERE task_id IN (@{[join ',', values %over]})"), 0, 'over in time: no timer is left');
$t->open_gates(1);
is(task($over{by_steps}, 'finished_at < deadline_at'), 't', 'over in time: it was');
$t->wait_ok("SELECT clock_timestamp() > '$deadline'::timestamptz + interval '0.5 s'", 'the deadline of what is over passes', 10);
is(task($over{$_}, 'state, finished_at'), $state{$_}, "over in time: $_ stays what it is") for sort keys %over;

# Taken back before its deadline, a task keeps it; afterwards it has the same time again.
my $kept = create('quick', '{"a": "SELECT 1 / 0"}', deadline_seconds => 60);
ended($kept, 'taken back early');
$deadline = task($kept, 'deadline_at');
$t->close_gates(2);
my $again = create('quick', '{"a": "SELECT acc.pass(2)"}', deadline_seconds => 2);
ended($again, 'taken back');
expired($again, 'before it is taken back', first => 'a');
$t->alice("SELECT tasker.retry_task($kept)");
ended($kept, 'taken back early, again');
is(task($kept, 'deadline_at, state'), "$deadline|error", 'taken back early: the deadline stays');
is(timers($kept), '', 'taken back early: and leaves no timer');
my $called = $t->alice("SELECT tasker.retry_task($again); SELECT clock_timestamp()");
($called) = $called =~ /^(\d.*)$/m;
cmp_ok(abs(task($again, "extract(epoch FROM deadline_at - '$called') - 2")), '<', 0.5, 'taken back: the same span, from then');
is(timers($again), 'deadline', 'taken back: with a timer');
ended($again, 'taken back, closed gate');
expired($again, 'taken back, once more', first => 'a');
$t->alice("SELECT tasker.retry_task($again)");
$t->wait_at_gate(2);
$t->open_gates(2);
ended($again, 'taken back, open gate');
is(task($again, 'state, finished_at < deadline_at, error'), 'complete|t|', 'taken back: in time at last');
is(timers($again), '', 'taken back: no timer is left');

# Many at once.
my $many = 300;
@ids = split /\n/, $t->alice("SELECT tasker.create_task('t', 'free', run_at => now() + interval '1 s', deadline_seconds => 1.5) FROM generate_series(1, $many)");
$t->alice("SELECT count(tasker.pause_task(v)) FROM unnest('{@{[join ',', @ids]}}'::bigint[]) v");
$t->all_done('many: all end', 60);
my ($states, $worst) = split /\|/, $t->sql("SELECT string_agg(DISTINCT state::text, ' '), round(extract(epoch FROM max(finished_at - deadline_at)), 3) FROM tasker.tasks WHERE task_id IN (@{[join ',', @ids]})");
is($states, 'error', "many: $many tasks are errors");
cmp_ok($worst, '<', 10, 'many: soon');
note("many: $many deadlines at the same moment, the last one $worst s late");

# A dispatcher that is ended meanwhile, and servers that are down at the deadline.
my %down = (
  'dispatcher ended' => sub { $t->sql("SELECT pg_terminate_backend($_)") for $t->pids('dispatcher') },
  'server stopped' => sub { my ($until) = @_; $node->stop('fast'); usleep(20_000) while time < $until; $node->start },
  'server crashed' => sub { my ($until) = @_; $node->stop('immediate'); usleep(20_000) while time < $until; $node->start });
for my $what (sort keys %down) {
  my $running = create('free', '{"sleep": 60}', deadline_seconds => 3);
  my $waiting = create('flaky', '{"good": 9}', deadline_seconds => 3);
  $t->wait_ok("SELECT EXISTS (SELECT FROM acc.ledger) AND EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep') AND EXISTS (SELECT FROM tasker.workflow_steps WHERE task_id = $waiting AND state = 'error')",
    "$what: one step runs, one waits", 10);
  $down{$what}->($t->sql("SELECT extract(epoch FROM deadline_at) FROM tasker.tasks WHERE task_id = $waiting") + 0.2);
  my $from = $what =~ /server/ ? $t->ready_at : 0;
  ended($_, $what) for $running, $waiting;
  for my $one ($running, $waiting) {
    my $ended = $t->sql("SELECT round(extract(epoch FROM finished_at) - $from, 3) FROM tasker.tasks WHERE task_id = $one");
    cmp_ok($ended, '<', 5, "$what: soon after the start") if $from;
    note("$what: ended $ended s after the start") if $from;
    expired($one, $what, first => 'a', $from ? (bound => 60) : ());
  }
  like(steps_of($waiting), qr/^a:error:1:/, "$what: no further attempt");
}

$t->all_done('everything has ended');
is($t->sql('SELECT count(*) FROM tasker.timers'), 0, 'no timer is left of anything');
note(sprintf '%d deadlines: %.3f s late at least, %.3f s at most', scalar @late, min(@late), max(@late));
$t->ledger_exact('ledger');
unlike($t->log_since(0), qr/PANIC|TRAP:|signal 11/, 'nothing crashed');
$node->stop;
done_testing();
