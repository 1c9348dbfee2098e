# The log: one line for each attempt that ended, where that is asked for; JSON on one line whatever the names; nothing secret; bounded under load.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('logs');
my $offset;

sub set {
  my ($name, $value) = @_;
  $t->sql("ALTER SYSTEM SET tasker.$name = $value");
  $t->sql('SELECT pg_reload_conf()');
  return;
}
# Messages of lines of these levels since the last mark, decoded.
sub lines {
  return map { /(LOG|WARNING):\s+(\{"event":.*\})\s*$/ ? { level => $1, %{ decode_json($2) } } : () } split /\n/, $t->log_since($offset);
}
# Until so many lines of steps are there.
sub wait_lines {
  my ($count, $what) = @_;
  my @found;
  my $ok = 0;
  for (1 .. 300) {
    @found = grep { $_->{event} =~ /^step\./ } lines();
    $ok = @found >= $count and last;
    $t->sql('SELECT pg_sleep(0.1)');
  }
  ok($ok, $what) or diag($t->log_since($offset));
  return @found;
}

sub class { my ($seconds) = @_; return $seconds <= 0.1 ? 'fast' : $seconds <= 1 ? 'moderate' : $seconds <= 5 ? 'slow' : 'very_slow' }

my %once = (backoff => '{"base_seconds": 0.05, "multiplier": 1, "jitter": 0}', max_attempts => 2);
$t->alice(definition('flow', 'quick:step; slow:step_sleep < quick'));
$t->alice(definition('flaky', 'again:step_flaky', %once));

$offset = $t->log_offset;
$t->alice(q{SELECT tasker.create_task('t', 'flow', '{"sleep": 0}')});
$t->all_done('without being asked');
is(scalar(grep { /step\.complete/ } $t->log_since($offset)), 0, 'nothing is written of steps unless that is asked for');

set(log_format => 'json');
set(log_steps => q{'all'});
$t->wait_ok(q{SELECT current_setting('tasker.log_steps') = 'all' AND current_setting('tasker.log_format') = 'json'}, 'switched on by reload');
$t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
$offset = $t->log_offset;
my $id = $t->alice(q{SELECT tasker.create_task('t', 'flow', '{"sleep": 0.3, "canary": "s3cr3t-canary"}', correlation_id => E'corr "1"\n')});
my @found = wait_lines(2, 'both steps are told');
my ($quick) = grep { $_->{step} eq 'quick' } @found;
my ($slow) = grep { $_->{step} eq 'slow' } @found;
is_deeply([ @{$quick}{qw(event level task_id namespace name version attempt correlation_id duration_class)} ],
  [ 'step.complete', 'LOG', $id, 't', 'flow', '0.1.0', 1, qq(corr "1"\n), class($quick->{duration_seconds}) ], 'what ended');
is_deeply([ @{$slow}{qw(event duration_class)} ], [ 'step.complete', class($slow->{duration_seconds}) ], 'and how long it took');
cmp_ok($slow->{duration_seconds}, '>=', 0.3, 'in seconds');
unlike($t->log_since($offset), qr/s3cr3t-canary/, 'nothing of a context is in the log');

$offset = $t->log_offset;
$id = $t->alice(q{SELECT tasker.create_task('t', 'flaky', '{"good": 9}')});
@found = wait_lines(2, 'failures are told');
is_deeply([ map { [ @{$_}{qw(event level attempt task_id)} ] } @found ], [ [ 'step.retry', 'LOG', 1, $id ], [ 'step.error', 'WARNING', 2, $id ] ], 'one to be retried, one for good');
is_deeply($found[1]{error}, { sqlstate => 'P0001', category => $found[1]{error}{category}, message => $found[1]{error}{message} }, 'with its error');
like($found[1]{error}{message}, qr/not yet: attempt 2/, 'in its words');
ok(defined $found[0]{retry_seconds} && !defined $found[1]{retry_seconds}, 'and when it is tried again');

set(log_steps => 'failures');
$t->wait_ok(q{SELECT current_setting('tasker.log_steps') = 'failures'}, 'only failures');
$t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
$offset = $t->log_offset;
$t->alice(q{SELECT tasker.create_task('t', 'flow', '{"sleep": 0}')});
$t->alice(q{SELECT tasker.create_task('t', 'flaky', '{"good": 2}')});
$t->all_done('all end');
@found = wait_lines(1, 'the failure is told');
is_deeply([ map { $_->{event} } @found ], ['step.retry'], 'and nothing that went well');

# A burst: lines are bounded, and none is left out untold.
$t->sql('CREATE FUNCTION acc.nothing(c tasker.step_call) RETURNS jsonb LANGUAGE sql AS $$SELECT NULL::jsonb$$; GRANT EXECUTE ON FUNCTION acc.nothing TO alice');
$t->alice(definition('burst', 'a:nothing'));
set(log_steps => q{'all'});
$t->wait_ok(q{SELECT current_setting('tasker.log_steps') = 'all'}, 'all again');
$t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker executor'});
$offset = $t->log_offset;
my $steps = 20000;
my $begun = time;
$t->alice("SELECT count(*) FROM tasker.create_tasks('t', 'burst', array_fill('{}'::jsonb, ARRAY[$steps]))");
$t->all_done('the burst ends', 120);
my $seconds = time - $begun + 2;
@found = grep { $_->{event} eq 'step.complete' } lines();
my $suppressed = 0;
$suppressed += $_->{suppressed} // 0 for @found;
# 100 a second in each of at most four processes, and one of a hundred above.
cmp_ok(scalar(@found), '<=', 4 * 100 * $seconds + $steps / 100, 'a bounded number of lines: ' . @found . " in $seconds s");
cmp_ok(scalar(@found), '<', $steps, 'fewer than steps');
cmp_ok(@found + $suppressed, '>', $steps - 4 * 100, 'those left out are counted, but for the last of each process');
cmp_ok(@found + $suppressed, '<=', $steps, 'and not twice');

# What workers say by themselves.
$offset = $t->log_offset;
$t->sql(q{UPDATE tasker.home SET held_reason = 'a "test"', held_at = clock_timestamp()});
$t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher'});
my @told;
for (1 .. 300) {
  @told = grep { $_->{event} eq 'worker.message' && $_->{worker} eq 'dispatcher' } lines();
  last if @told;
  $t->sql('SELECT pg_sleep(0.1)');
}
like($told[0]{message} // '', qr/held: a "test"/, 'a dispatcher\'s own line is JSON, too');
set(log_format => 'text');
$t->node->stop;
done_testing();
