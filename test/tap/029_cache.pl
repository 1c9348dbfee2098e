# The cache of costly answers among sessions: one works an answer out and the others wait; the next one takes over from one
# who is cancelled or terminated; nobody waits longer than he said; switched by reload while everybody asks and steps run; what a
# dropped database leaves; without the preload.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $t = TaskerNode->start('cache');
$t->sql(q{CREATE ROLE mona LOGIN; CREATE ROLE otto LOGIN; SELECT tasker.grant_access(r::regrole, 'operator') FROM unnest(ARRAY['mona', 'otto']) AS r});
$t->alice($_) for definition('work', 'a:step; b:step < a');

# Answers are of whole hours: this does not begin at the end of one.
$t->sql(q{SELECT pg_sleep(extract(epoch FROM date_trunc('hour', x) + interval '1 hour' - x)) FROM clock_timestamp() AS x}) if $t->sql(q{SELECT extract(minute FROM clock_timestamp()) >= 59}) eq 't';
my $REPORT = q{SELECT r ->> 'cached', r ->> 'generated_at' FROM tasker.performance_report(namespace => 't') AS r};
# The tables that a report reads are closed to everybody by a session of the test: who works one out waits for a lock.
my $closer = $t->node->background_psql('postgres');
sub close_tables { $closer->query_safe('BEGIN'); $closer->query_safe('LOCK TABLE tasker.task_outcomes IN ACCESS EXCLUSIVE MODE') }
sub open_tables { $closer->query_safe('COMMIT') }

# Sessions that ask, each once, all at the same time.
sub ask {
  my ($n, $user, %o) = @_;
  return map {
    my $asked = { out => '', err => '' };
    my @first = map { ('-c', $_) } @{ $o{first} // [] };
    my @last = map { ('-c', $_) } @{ $o{last} // [] };
    $asked->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $t->node->connstr('postgres') . " application_name=$user", '-U', $user, @first, '-c', $REPORT, @last ],
      '<', '/dev/null', '>', \$asked->{out}, '2>', \$asked->{err}, IPC::Run::timeout(90));
    $asked
  } 1 .. $n;
}
sub answers { return map { $_->{run}->finish; (split /\n/, $_->{out})[0] // '' } @_ }
sub cached { my ($word, @answers) = @_; return scalar grep { /^$word\|/ } @answers }
sub moments { my %all = map { /\|(.*)/ ? ($1 => 1) : () } @_; return scalar keys %all }

my $WORKER = q{SELECT pid FROM pg_stat_activity WHERE application_name = 'mona' AND wait_event = 'relation'};
my $WAITERS = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mona' AND state = 'active' AND wait_event_type = 'Extension'};
# Who works it out, once he does and so many wait for him.
sub stands {
  my ($waiters, $what, $but) = @_;
  $t->wait_ok("SELECT ($WAITERS) = $waiters AND (SELECT count(*) = 1 FROM ($WORKER) AS x WHERE pid <> " . ($but // 0) . ')', $what) or note($t->sql('SELECT pid, state, wait_event_type, query FROM pg_stat_activity'));
  return $t->sql($WORKER);
}
sub status { my ($column) = @_; return $t->sql("SELECT $column FROM tasker.cache_status WHERE function = 'performance_report' AND role = 'mona'::regrole") }

is($t->sql('SELECT DISTINCT strategy FROM tasker.cache_status'), 'distributed_atomic', 'one cache for the server');

# ---- All ask at once: one works it out
close_tables();
my @all = ask(12, 'mona');
stands(11, 'one works it out, eleven wait');
is(status('state'), 'computing', 'and the view says so');
open_tables();
my @said = answers(@all);
is(cached('false', @said), 1, 'one has worked it out');
is(cached('true', @said), 11, 'eleven got his answer');
is(moments(@said), 1, 'all of them the same');
is(status(q{misses || ' ' || hits || ' ' || waited || ' ' || state}), '1 11 11 fresh', 'and it was counted');
my @later = answers(ask(1, 'mona'));
is(cached('true', @later), 1, 'a later session finds it');
is(moments(@said, @later), 1, 'that one');
is(cached('false', answers(ask(1, 'otto'))), 1, 'another role is not answered with it');

# ---- Who works it out is terminated, then cancelled
$t->sql('SELECT tasker.clear_cache()');
close_tables();
# Afterwards these sessions stay: what ends with them is not what is tested.
$t->close_gates(9);
@all = ask(6, 'mona', last => ['SELECT acc.pass(9)']);
my $first = stands(5, 'one works it out again');
sub took_over {
  my ($pid, $ended) = @_;
  my $waits = "FROM pg_locks WHERE pid = $pid AND NOT granted";
  $t->wait_for("SELECT waitstart IS NOT NULL $waits", 10);
  return $t->sql("SELECT extract(epoch FROM waitstart - '$ended') $waits");
}
my $ended = $t->sql("SELECT clock_timestamp() FROM pg_terminate_backend($first)");
my $second = stands(4, 'terminated: the next one takes over', $first);
my @took = took_over($second, $ended);
$ended = $t->sql("SELECT clock_timestamp() FROM pg_cancel_backend($second)");
my $third = stands(3, 'cancelled: the next one takes over', $second);
# Who waits also looks every five seconds whether there is still somebody to wait for.
push @took, took_over($third, $ended);
cmp_ok($_, '<', 4, "at once ($_ s)") for @took;
isnt($third, $first, 'another one');
open_tables();
$t->open_gates(9);
@said = answers(@all);
is((grep { $_ eq '' } @said), 2, 'two got nothing');
is(cached('false', @said), 1, 'one has worked it out');
is(cached('true', @said), 3, 'three got it');

# ---- Who waits can be cancelled, and keeps to his statement_timeout
$t->sql('SELECT tasker.clear_cache()');
close_tables();
my @worker = ask(1, 'mona');
stands(0, 'one works it out');
my @hasty = ask(1, 'mona', first => ['SET statement_timeout = 200']);
$_->{run}->finish for @hasty;
like($hasty[0]{err}, qr/canceling statement due to statement timeout/, 'who waits keeps to his statement_timeout');
my @patient = ask(2, 'mona');
stands(2, 'two wait');
$t->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'mona' AND wait_event_type = 'Extension' ORDER BY backend_start LIMIT 1});
stands(1, 'one of them is cancelled');
# By hand while it is under way: what is worked out then is of before, and not kept.
my $before = $t->sql('SELECT clock_timestamp()');
$t->sql('SELECT tasker.clear_cache()');
$t->wait_ok("SELECT (SELECT count(*) FROM ($WORKER) AS x) = 2", 'cleared meanwhile: who waited works it out anew');
open_tables();
@said = answers(@worker, @patient);
is(cached('false', @said), 2, 'both have worked it out');
like(join(' ', map { $_->{err} } @patient), qr/canceling statement due to user request/, 'and the cancelled one said why');
is(status("generated_at > '$before'"), 't', 'and the later one is kept');

# ---- What is not committed is nobody else's
my $LIVE = 'SELECT active_tasks_count FROM tasker.get_analytics_metrics()';
$t->sql('SELECT tasker.clear_cache()');
my $writer = $t->node->background_psql('postgres');
$writer->query_safe('BEGIN');
$writer->query_safe(q{SELECT tasker.grant_access('postgres', 'submitter')});
my $task = $writer->query_safe(q{SET LOCAL tasker.allow_superuser_tasks = on; SELECT tasker.create_task('t', 'work', run_at => '2999-01-01')});
is($writer->query_safe($LIVE), 1, 'who has written sees what he has written');
is($t->sql($LIVE), 0, 'nobody else does');
$writer->query_safe('ROLLBACK');
is($t->sql($LIVE), 0, 'nor afterwards');
$writer->quit;

# ---- Switched by reload while everybody asks and steps run
my $ids = $t->alice(q{SELECT count(tasker.create_task('t', 'work')) FROM generate_series(1, 300)});
my $folder = PostgreSQL::Test::Utils::tempdir;
my $script = "$folder/ask.sql";
append_to_file($script, join("\n", ($REPORT . ';', $LIVE . ';', 'SELECT count(*) FROM tasker.get_slowest_steps();', q{SELECT tasker.analyze_template('t', 'work') ->> 'name';}) x 150));
my @askers = map {
  my $asked = { out => '', err => '' };
  $asked->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $t->node->connstr('postgres'), '-U', $_, '-f', $script ],
    '<', '/dev/null', '>', \$asked->{out}, '2>', \$asked->{err}, IPC::Run::timeout(180));
  $asked
} qw(mona mona otto otto);
for my $on (('off', 'on') x 4) {
  $t->sql("ALTER SYSTEM SET tasker.intelligent_cache = $on");
  $t->sql('SELECT pg_reload_conf()');
  $t->wait_ok("SELECT current_setting('tasker.intelligent_cache') = '$on'", "switched $on");
  $t->alice(q{SELECT count(tasker.create_task('t', 'work')) FROM generate_series(1, 20)});
}
for my $asker (@askers) {
  ok($asker->{run}->finish, 'everybody was answered');
  is($asker->{err}, '', 'without a word of error');
  is(scalar(split /\n/, $asker->{out}), 600, 'each time');
}
$t->all_done('all steps ran');
$t->ledger_exact;
$t->sql('ALTER SYSTEM SET tasker.intelligent_cache = off');
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT current_setting('tasker.intelligent_cache') = 'off'}, 'off');
is(cached('false', answers(ask(1, 'mona'), ask(1, 'mona'))), 2, 'off: each works it out');
is($t->sql('SELECT DISTINCT strategy FROM tasker.cache_status'), 'off', 'and the view says so');
cmp_ok(status('sum(hits)'), '>', 10, 'what was learnt is kept');
$t->sql('ALTER SYSTEM RESET tasker.intelligent_cache');
$t->sql('SELECT pg_reload_conf()');
$t->wait_ok(q{SELECT current_setting('tasker.intelligent_cache') = 'on'}, 'on again');

# ---- A database of its own, dropped and made again
$t->sql('CREATE DATABASE other');
$t->install('other');
is($t->sql($REPORT =~ s/namespace => 't'//r, 'other') =~ /^false/, 1, 'another database asks for itself');
is($t->sql($REPORT =~ s/namespace => 't'//r, 'other') =~ /^true/, 1, 'and finds it');
is($t->sql('SELECT count(*) FROM tasker.cache_status WHERE misses > 0', 'other'), 1, 'it sees its own alone');
$t->sql('DROP EXTENSION tasker CASCADE; DROP SCHEMA acc CASCADE', 'other');
$t->install('other');
is($t->sql('SELECT count(*) FROM tasker.cache_status WHERE misses > 0', 'other'), 0, 'of a dropped extension nothing is known');
$t->sql('DROP DATABASE other');

# ---- Restarted; then without the preload
$t->node->restart;
is(cached('false', answers(ask(1, 'mona'))), 1, 'a restart forgets');
is(cached('true', answers(ask(1, 'mona'))), 1, 'and begins again');
$t->node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$t->node->restart;
my ($rc, $out) = $t->try_sql([ $REPORT, $REPORT, 'SELECT DISTINCT strategy FROM tasker.cache_status', q{SELECT tasker.clear_cache()}, $REPORT ], user => 'mona');
my @lines = split /\n/, $out;
is(join(' ', map { s/\|.*//r } @lines), 'false true local_only 1 false', 'without the preload each session has its own');
is(cached('false', answers(ask(1, 'mona'))), 1, 'and no other has it');
$closer->quit;
$t->node->stop;
done_testing();
