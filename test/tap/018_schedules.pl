# Schedules over processes, servers, databases and tickers: every fire time gets its one task, whoever ticks and whatever dies.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;
use Time::HiRes qw(time);

my $begun = time;
my $t = TaskerNode->start('schedules', conf => "fsync = on\n");
my $node = $t->node;
$t->alice(definition('quick', 'a:step') . '; ' . definition('gated', 'a:step_do'));

# Whoever may write tasker's tables can turn a schedule's clock back: fire times become due without waiting for them. In one transaction with
# a tick, so that the dispatcher cannot be faster.
sub back { my ($name, $interval) = @_; return "UPDATE tasker.schedule_rows SET fires_after = date_trunc('minute', clock_timestamp()) - interval '$interval' - interval '30 s' WHERE schedule_name ~ '^$name'" }
# The dispatcher is told to look.
sub due { my ($name, $interval) = @_; $t->sql(back($name, $interval) . q{; SELECT tasker.pause_schedule('nudge'), tasker.resume_schedule('nudge')}) }
sub tick { my ($name, $interval) = @_; return $t->sql('BEGIN; ' . back($name, $interval) . '; SELECT tasker.tick_schedules(); COMMIT') }
sub schedule {
  my ($name, $task, $more, $db) = @_;
  return $t->alice("SELECT tasker.schedule_task('$name', '* * * * *', 't', '$task'" . ($more ? ", $more" : '') . ')', $db);
}
# Fires of these schedules: how many, with how many tasks; and that a task has one fire, by its own word.
my $whole = q{SELECT count(*) FILTER (WHERE f.outcome <> 'created' OR t.task_id IS NULL OR t.correlation_id <> s.schedule_name || '@' || to_char(f.fire_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    count(*) - count(DISTINCT f.task_id), (SELECT count(*) FROM tasker.tasks x WHERE x.reason ~ '^schedule NAME') - count(*)
  FROM tasker.schedule_fires f JOIN tasker.schedule_rows s USING (schedule_id) LEFT JOIN tasker.tasks t USING (task_id) WHERE s.schedule_name ~ '^NAME'};
sub whole_ok { my ($name, $what, $db) = @_; is($t->sql($whole =~ s/NAME/$name/gr, $db), '0|0|0', $what) }
sub history { my ($name, $what) = @_; return $t->sql("SELECT $what FROM tasker.schedule_history WHERE schedule_name ~ '^$name'") }

# ---- what takes a real minute begins now, and is looked at in the end ----

# The dispatcher's own timer. A database whose only work is a schedule of next year keeps its dispatcher; one without any loses it.
schedule('minutely', 'quick', "overlap => 'allow'");
$t->alice(q{SELECT tasker.schedule_task('nudge', '0 0 1 1 *', 't', 'quick')});
$t->sql("CREATE DATABASE $_") for qw(app bare);
$t->install($_) for qw(app bare);
$t->alice(definition('quick', 'a:step'), 'app');
$t->alice(q{SELECT tasker.schedule_task('yearly', format('0 0 %s * *', extract(day FROM now() - interval '2 days')), 't', 'quick', '{}', 'Asia/Kathmandu')}, 'app');
$t->wait_ok("SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher'", 'a dispatcher in each database', 40);

# A server without tasker's workers, where pg_cron ticks for this database and for another one.
my $cron;
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
if (-e qx($pg_config --sharedir) =~ s/\s+\z//r . '/extension/pg_cron.control') {
  $cron = PostgreSQL::Test::Cluster->new('cron');
  $cron->init;
  $cron->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\ncron.use_background_workers = on\nmax_connections = 50\n");
  $cron->start;
  $cron->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE DATABASE app');
  for my $db (qw(postgres app)) {
    $cron->safe_psql($db, q{CREATE EXTENSION tasker; SELECT tasker.grant_access('alice', l) FROM unnest(ARRAY['author', 'submitter']) AS l});
    $cron->safe_psql($db, q{SELECT tasker.define_task('{"namespace": "t", "name": "quick", "steps": [{"name": "a", "handler": {"type": "noop"}}]}');
      SELECT tasker.schedule_task('minutely', '* * * * *', 't', 'quick', overlap => 'allow')}, extra_params => [ '-U', 'alice' ]);
  }
  my ($rc, $out, $err) = $cron->psql('postgres', 'SELECT tasker.install_cron_tick()');
  like($err, qr/pg_cron is not installed in this database\nHINT:  Run CREATE EXTENSION pg_cron\./, 'without the extension pg_cron');
  $cron->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
  ($rc, $out, $err) = $cron->psql('app', 'SELECT tasker.install_cron_tick()');
  like($err, qr/Its database is "postgres"\. There, call SELECT cron\.schedule_in_database\('tasker', '\* \* \* \* \*', 'SELECT tasker\.tick_schedules\(\)', 'app'\)/, 'in another database than pg_cron\'s');
  ($rc, $out, $err) = $cron->psql('postgres', q{SELECT tasker.install_cron_tick('nowhere')});
  like($err, qr/database "nowhere" does not exist/, 'for a database that is not there');
  is($cron->safe_psql('postgres', q{SELECT tasker.install_cron_tick() > 0, tasker.install_cron_tick('app') > 0, tasker.install_cron_tick() > 0}), 't|t|t', 'jobs, once or twice');
  is($cron->safe_psql('postgres', 'SELECT jobname, schedule, command, database FROM cron.job ORDER BY 1'),
    "tasker|* * * * *|SELECT tasker.tick_schedules()|postgres\ntasker app|* * * * *|SELECT tasker.tick_schedules()|app", 'one for each database');
} else {
  note 'pg_cron is not installed for this server: what it does is not tested here';
}
my ($no_cron, undef, $why) = $t->try_sql('SELECT tasker.install_cron_tick()');
like($why, qr/pg_cron does not run on this server\nHINT:  Add pg_cron to shared_preload_libraries and restart/, 'without pg_cron');

# ---- many ticks at once ----

schedule("race-$_", 'quick', "overlap => 'allow', catch_up => '2 hours'") for 1 .. 10;
$t->sql(back('race', '30 min'));
{
  my @clients = map { IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'postgres', map { ('-c', 'SELECT tasker.tick_schedules()') } 1 .. 10 ], '<', '/dev/null', '>', \my $out, '2>', \my $err) } 1 .. 6;
  $_->finish for @clients;
  $t->sql('SELECT tasker.tick_schedules()');
}
cmp_ok(history('race', 'count(*)'), '>=', 300, 'all fire times of ten schedules');
whole_ok('race', 'each has its one task, however many tick');
is($t->sql(q{SELECT DISTINCT owner, created_by FROM tasker.tasks WHERE reason ~ '^schedule race'}), 'alice|alice', 'which belong to who made the schedule');
$t->all_done('they run', 90);
$t->alice(q{SELECT tasker.unschedule_task(schedule_name) FROM tasker.schedules WHERE schedule_name ~ '^race'});

# One that waits for another transaction takes nothing, and nothing is lost when that one is rolled back.
schedule('slow', 'quick', "overlap => 'allow', catch_up => '1 hour'");
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe(back('slow', '10 min'));
is($holder->query_safe(q{SELECT tasker.tick_schedules() >= 10}), 't', 'a tick that is not committed');
$t->sql(q{SET statement_timeout = '30 s'; SELECT tasker.tick_schedules()});
$holder->query_safe('ROLLBACK');
is(history('slow', 'count(*)'), 0, 'nobody waits for it, and nothing of it is left');
cmp_ok(tick('slow', '10 min'), '>=', 10, 'its fire times are fired by the next');
whole_ok('slow', 'once');
$t->alice(q{SELECT tasker.unschedule_task('slow')});

# ---- a body that is longer than its period ----

my %last = (skip => 'skipped', queue => 'queued', cancel_running => 'created', allow => 'created');
for my $overlap (sort keys %last) {
  $t->close_gates(7);
  schedule("long-$overlap", 'gated', qq('{"a": "SELECT acc.pass(7)"}', overlap => '$overlap'));
  $t->alice("SELECT tasker.run_schedule_now('long-$overlap')");
  $t->wait_at_gate(7);
  tick("long-$overlap", '1 min');
  $t->alice("SELECT tasker.run_schedule_now('long-$overlap')");
  is(history("long-$overlap", q{(array_agg(outcome ORDER BY fire_time DESC))[1]}), $last{$overlap}, "$overlap: the last is $last{$overlap}");
  $t->wait_ok("SELECT count(*) FILTER (WHERE task_state IN ('pending', 'in_progress')) " . ($overlap eq 'allow' ? '>= 3' : '= 1') . " FROM tasker.schedule_history WHERE schedule_name = 'long-$overlap'", "$overlap: as many run as may", 20);
  is(history("long-$overlap", q{count(*) FILTER (WHERE task_state = 'cancelled') > 0}), $overlap eq 'cancel_running' ? 't' : 'f', "$overlap: only cancel_running cancels");
  $t->open_gates(7);
  $t->wait_ok("SELECT queued_fires + running_tasks = 0 FROM tasker.schedules WHERE schedule_name = 'long-$overlap'", "$overlap: all of them end", 40);
  is(history("long-$overlap", q{count(*) FILTER (WHERE outcome = 'queued' OR outcome = 'failed')}), 0, "$overlap: none is left");
  $t->alice("SELECT tasker.unschedule_task('long-$overlap')");
}
$t->all_done('everything ends', 40);
$t->ledger_exact('what was cancelled has left nothing');

# ---- downtime ----

for my $mode (qw(fast immediate)) {
  schedule("down-$mode-late", 'quick', "overlap => 'allow', catch_up => '1 hour'");
  schedule("down-$mode-never", 'quick', "overlap => 'allow'");
  # Of a server that is down nobody can turn the clock; it goes down right after.
  $t->sql(back("down-$mode", '40 min'));
  $node->stop($mode);
  $node->start;
  $t->wait_ok("SELECT count(*) >= 40 FROM tasker.schedule_history WHERE schedule_name = 'down-$mode-late' AND ticked_by = 'dispatcher'", "$mode: catch_up fires what was missed", 40);
  $t->wait_ok("SELECT missed_at IS NOT NULL AND next_fire_at > clock_timestamp() - interval '3 min' FROM tasker.schedules WHERE schedule_name = 'down-$mode-never'", "$mode: without it that is passed over, and said", 20);
  whole_ok("down-$mode", "$mode: once each");
  cmp_ok(history("down-$mode-never", 'count(*)'), '<', 20, "$mode: what is long over is not fired");
  $t->alice("SELECT tasker.unschedule_task('down-$mode-late'), tasker.unschedule_task('down-$mode-never')");
}

# ---- an owner who is gone stops nobody ----

$t->sql(q{CREATE ROLE bob LOGIN; SELECT tasker.grant_access('bob', 'submitter')});
$t->try_sql(q{SELECT tasker.schedule_task('a-bob', '* * * * *', 't', 'quick', overlap => 'allow', catch_up => '1 hour')}, user => 'bob');
schedule('b-alice', 'quick', "overlap => 'allow', catch_up => '1 hour'");
$t->sql(q{SELECT tasker.revoke_access('bob', 'submitter'); DROP ROLE bob});
due('[ab]-', '5 min');
$t->wait_ok(q{SELECT count(*) FILTER (WHERE outcome = 'created') >= 5 FROM tasker.schedule_history WHERE schedule_name = 'b-alice'}, 'alice goes on', 20);
like(history('a-bob', q{DISTINCT outcome || ' ' || message}), qr/^failed 42704: role with OID \d+, the owner of the schedule, does not exist$/, 'bob is gone, and it says so');
$t->sql(q{SELECT tasker.unschedule_task(s) FROM unnest(ARRAY['a-bob', 'b-alice']) AS s});

# ---- a copy is held ----

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('app') ], 'a dump of a database with a schedule and without tasks');
$t->sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'is restored');
is($t->sql('SELECT schedule_name, owner, timezone FROM tasker.schedules', 'copy'), 'yearly|alice|Asia/Kathmandu', 'with its schedules');
my ($rc, undef, $held) = $t->try_sql('SELECT tasker.tick_schedules()', db => 'copy');
like($held, qr/this database is held: its schedules were made in another database/, 'which do not fire there');
$t->sql(q{UPDATE tasker.schedule_rows SET fires_after = now() - interval '3 days', cron = '* * * * *'}, 'copy');
$t->sql(q{SELECT tasker.release_hold('a test')}, 'copy');
$t->wait_ok('SELECT count(*) > 0 FROM tasker.schedule_history', 'before the hold ends', 30, 'copy');
is($t->sql(q{SELECT count(*) FROM tasker.schedule_history WHERE created_at < (SELECT max(created_at) FROM tasker.schedule_rows)}, 'copy'), 0, 'and not earlier');
$t->alice(q{SELECT tasker.unschedule_task('yearly'); SELECT tasker.schedule_task('new', '0 0 1 1 *', 't', 'quick')}, 'copy');

# ---- killed at each moment ----

my ($faults) = $t->try_sql(q{SET tasker.fault = 'none:error'});
if ($faults == 0) {
  my $round = 0;
  for my $fault (qw(schedule.taken:kill:3 schedule.created:kill:3 schedule.commit:kill schedule.commit:error schedule.commit:fatal)) {
    my $name = 'killed-' . ++$round;
    schedule($name, 'quick', "overlap => 'allow', catch_up => '1 hour'");
    unlink glob $node->data_dir . '/pg_stat_tmp/tasker_fault_*';
    my $offset = $t->log_offset;
    $t->sql("ALTER SYSTEM SET tasker.fault = '$fault'");
    $t->sql('SELECT pg_reload_conf()');
    $t->wait_for("SELECT current_setting('tasker.fault') = '$fault'", 20) // die "not armed: $fault";
    due($name, '10 min');
    my $met = $fault =~ /kill/ ? qr/terminated by signal 9/ : qr/fault point schedule\.commit/;
    ok($t->wait_log($offset, $met), "$fault: met");
    $t->wait_for('SELECT true', 30);
    $t->sql('ALTER SYSTEM RESET tasker.fault');
    $t->sql('SELECT pg_reload_conf()');
    $t->wait_ok("SELECT count(*) >= 10 FROM tasker.schedule_history WHERE schedule_name = '$name' AND outcome = 'created'", "$fault: all its fire times are fired", 60);
    whole_ok($name, "$fault: once each");
    $t->alice("SELECT tasker.unschedule_task('$name')");
  }
} else {
  note 'the library has no fault points (build with FAULTS=1)';
}

# ---- what took a minute ----

$t->wait_ok(q{SELECT count(*) > 0 FROM tasker.schedule_history WHERE schedule_name = 'minutely' AND ticked_by = 'dispatcher'}, 'the dispatcher fires by its own timer', 70);
is(history('minutely', q{count(*) FILTER (WHERE ticked_by = 'dispatcher' AND created_at < fire_time)}), 0, 'never too early');
whole_ok('minutely', 'and once');
if ($cron) {
  for my $db (qw(postgres app)) {
    my $until = time + 80;
    my $fired = q{SELECT count(*) >= 1 FROM tasker.schedule_history WHERE outcome = 'created' AND ticked_by = 'postgres'};
    while ($cron->safe_psql($db, $fired) ne 't' && time < $until) { select undef, undef, undef, 0.2 }
    is($cron->safe_psql($db, $fired), 't', "pg_cron ticks in $db");
    is($cron->safe_psql($db, q{SELECT DISTINCT owner, state FROM tasker.task_status}), 'alice|pending', 'for alice');
  }
  is($cron->safe_psql('postgres', q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), 0, 'no job has failed')
    or diag($cron->safe_psql('postgres', 'SELECT * FROM cron.job_run_details'));
  $cron->stop;
}
$t->wait_ok("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND datname = 'bare')", 'a database without schedules has no dispatcher', 90);
is($t->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher' AND datname = 'app'"), 1, 'one whose schedule fires next month has its own');
note sprintf 'took %d s', time - $begun;

$node->stop;
done_testing();
