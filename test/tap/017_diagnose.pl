# What only processes can show: diagnose_task tells of a dispatcher that stands still or fails to start, a full server, a
# crash, a missing preload and a standby. What a single session can provoke is in sql/diagnose.sql.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('diagnose', init => { allows_streaming => 1 }, conf => "max_connections = 20\nmax_wal_senders = 3\nwal_keep_size = 64MB\ntasker.crash_limit = 2\n");
my $node = $t->node;
$t->sql('GRANT pg_execute_server_program TO alice');
$t->alice(definition('one', 'a:step') . '; ' . definition('do', 'a:step_do', backoff => '{"base_seconds": 0, "jitter": 0}'));

# The findings of a task: "severity finding", the worst first.
sub findings { my ($id) = @_; return $t->alice("SELECT string_agg(d.severity || ' ' || d.finding, ', ') FROM tasker.diagnose_task($id) AS d") }
sub evidence { my ($id, $finding, $key) = @_; return $t->alice("SELECT d.evidence ->> '$key' FROM tasker.diagnose_task($id) AS d WHERE d.finding = '$finding'") }
sub appears { my ($id, $finding, $what) = @_; return $t->wait_ok("SELECT EXISTS (SELECT FROM tasker.diagnose_task($id) AS d WHERE d.finding = '$finding')", $what, 30) }
sub create { my ($context) = @_; return $t->alice("SELECT tasker.create_task('t', '" . ($context ? 'do' : 'one') . "', \$\$" . ($context // '{}') . '$$)') }
sub ends { my ($id, $what) = @_; is($t->alice("SELECT tasker.wait_for_task($id, '30 s')"), 'complete', $what) }

ends(create(), 'a task runs');

# The dispatcher stands still.
my ($dispatcher) = $t->pids('dispatcher');
kill 'STOP', $dispatcher;
my $id = create();
is(findings($id), 'info ready', 'a moment is nothing to worry about');
appears($id, 'not_dispatched', 'after five seconds it is');
is(findings($id), 'high not_dispatched', 'and nothing else');
is(evidence($id, 'not_dispatched', 'dispatcher_pid'), $dispatcher, 'its process is named');
kill 'CONT', $dispatcher;
ends($id, 'it goes on');

# It fails to start, again and again.
my ($no_faults) = $t->try_sql(q{SET tasker.fault = 'none:error'});
SKIP: {
  skip 'the library has no fault points (build with FAULTS=1)', 4 if $no_faults;
  $t->sql(q{ALTER SYSTEM SET tasker.fault = 'dispatcher.start:error'});
  $t->sql('SELECT pg_reload_conf()');
  $t->wait_for(q{SELECT current_setting('tasker.fault') = 'dispatcher.start:error'}, 10) // die 'not armed';
  $t->sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'tasker dispatcher'});
  $id = create();
  appears($id, 'not_dispatched', 'a dispatcher that does not start');
  is(findings($id), 'critical not_dispatched', 'is critical');
  like(evidence($id, 'not_dispatched', 'cause'), qr/^the dispatcher of this database failed to start \d+ times? in a row$|^no dispatcher runs for this database/, 'and the cause is told');
  $t->sql('ALTER SYSTEM RESET tasker.fault');
  $t->sql('SELECT pg_reload_conf()');
  ends($id, 'it goes on when the dispatcher starts');
}

# Connections.
$id = $t->alice(q{SELECT tasker.create_task('t', 'one', run_at => now() + interval '1 hour')});
is(findings($id), 'info blocked', 'room for connections');
my @sessions;
for (1 .. 16) {
  my ($in, $out) = ("SELECT 1;\n", '');
  my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'postgres' ], '<', \$in, '>', \$out);
  $session->pump until $out =~ /1/;
  push @sessions, $session;
}
is(findings($id), 'medium connection_pressure, info blocked', 'sixteen of twenty, and the one that asks');
is(evidence($id, 'connection_pressure', 'used_percent'), '85', 'with its share');
$_->finish for @sessions;
$t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.diagnose_task($id) AS d WHERE d.finding = 'connection_pressure')", 'gone with them', 20);

# A standby.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('diagnose_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', "SELECT string_agg(d.severity || ' ' || d.finding, ', ') FROM tasker.diagnose_task($id) AS d", extra_params => [ '-U', 'alice' ]),
  'high standby, info blocked', 'a standby says that it is one');
like($standby->safe_psql('postgres', "SELECT tasker.explain_task($id)"), qr/this server is a standby/, 'in words too');
$standby->stop;

# A step that takes its server process down.
$id = create(q({"a": "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'"}));
$t->wait_ok("SELECT state = 'error' FROM tasker.tasks WHERE task_id = $id", 'a step crashes its process', 60);
is(findings($id), 'high crashed', 'and the finding says so');
is(evidence($id, 'crashed', 'crashes'), '2', 'with the number of crashes');

# Without the preload.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$id = $t->alice(q{SELECT tasker.create_task('t', 'one')});
is(findings($id), 'critical no_preload', 'nothing runs in the background');
like($t->alice("SELECT tasker.explain_task($id)"), qr/CALL tasker\.run_task\($id\)/, 'what to do instead');
$t->alice("CALL tasker.run_task($id)");
is(findings($id), 'info complete', 'and it helps');

$node->stop;
done_testing();
