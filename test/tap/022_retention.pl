# The dispatcher removes finished tasks by itself: while steps run, by the rules of namespaces, whole or not at all whatever
# dies, and without a query while nothing can be due.
use strict;
use warnings;

use IPC::Run;
use TaskerNode;
use Test::More;

my $t = TaskerNode->start('retention', conf => "tasker.max_executors = 3\n");
my $node = $t->node;
sub set { my ($name, $value) = @_; $t->sql("ALTER SYSTEM SET $name = '$value'"); $t->sql('SELECT pg_reload_conf()'); defined $t->wait_for("SELECT setting = '$value' FROM pg_settings WHERE name = '$name'", 20) or die "$name is not $value" }
sub create { my ($ns, $n, $context) = @_; return split /\n/, $t->alice("SELECT tasker.create_tasks('$ns', 'chain', array_fill('" . ($context // '{}') . "'::jsonb, ARRAY[$n]), idempotency_keys => (SELECT array_agg('$ns ' || gen_random_uuid()) FROM generate_series(1, $n)), tags => ARRAY['x'])") }
my $all = q{SELECT sum(n) FROM (SELECT count(*) AS n FROM tasker.tasks UNION ALL SELECT sum(tasks) FROM tasker.task_summaries) AS x};
# No row speaks of a task that is gone, in any table.
my $rest = join ' UNION ALL ', map { "SELECT '$_', task_id FROM tasker.$_" } split /\n/, $t->sql(q{SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'task_id'
  WHERE c.relnamespace = 'tasker'::regnamespace AND c.relkind = 'r' AND c.relname <> 'tasks' ORDER BY 1});
sub whole_ok { my ($what) = @_; is($t->sql("SELECT * FROM ($rest) AS x (relation, task_id) WHERE task_id NOT IN (SELECT task_id FROM tasker.tasks) LIMIT 5") . $t->sql('SELECT * FROM tasker.check()'), '', $what) }

$t->alice(definition('chain', 'a:step_do; b:step < a; c:- < a, b; d:- < c') =~ s/"t"/"$_"/r) for qw(gone kept other);
create('gone', 300);
create('kept', 50);
$t->all_done('tasks of two namespaces');
$t->ledger_exact('once each');

# ---- open dead letters stay ----
my $permanent = q({"a": "SELECT tasker.raise_permanent(''no'')"});
my ($open, $closed) = create('gone', 2, $permanent);
$t->all_done('two of them fail');
$t->alice("SELECT tasker.note_dead_letter($closed, 'a', 'wont_fix')");
is($t->sql('SELECT count(*) FROM tasker.tasks'), 352, 'all are kept for ninety days');

# ---- a rule of a namespace ----
$t->sql(q{SELECT tasker.set_retention('gone', '0')});
$t->wait_ok("SELECT count(*) = 51 FROM tasker.tasks", 'a rule removes what is due by it', 30);
is($t->sql("SELECT string_agg(DISTINCT n.name, ' ') FROM tasker.tasks JOIN tasker.named_tasks d USING (named_task_id) JOIN tasker.task_namespaces n USING (task_namespace_id) WHERE task_id <> $open"), 'kept', 'and not in other namespaces');
is($t->sql("SELECT status FROM tasker.dead_letters"), 'open', 'an open dead letter stays');
$t->wait_ok(q{SELECT removed_tasks = 301 AND held_back = 1 AND oldest_finished_at IS NOT NULL AND passed_at IS NOT NULL AND has_rule AND retention = '0' FROM tasker.retention_status WHERE namespace = 'gone'}, 'the view tells', 20);
is($t->sql(q{SELECT removed_tasks, retention, has_rule FROM tasker.retention_status WHERE namespace = 'kept'}), '0|90 days|f', 'of each namespace');
is($t->sql($all), 352, 'removed and kept are all');
whole_ok('nothing is left of those that are gone');
$t->alice("SELECT tasker.note_dead_letter($open, 'a', 'resolved')");
$t->wait_ok("SELECT count(*) = 50 FROM tasker.tasks", 'closed, it goes too', 30);

# ---- while steps run ----
$t->sql(q{SELECT tasker.set_retention('gone', '1 s')});
create('gone', 400) for 1 .. 5;
$t->close_gates(1);
create('gone', 1, '{"a": "SELECT acc.pass(1)"}');
create('other', 100);
$t->wait_ok(q{SELECT count(*) >= 1900 FROM acc.ledger WHERE step_name = 'b' AND task_id NOT IN (SELECT task_id FROM tasker.tasks)}, 'what has finished goes while others run', 60);
$t->wait_at_gate(1);
$t->wait_ok(q{SELECT count(*) = 1 FROM tasker.tasks WHERE live}, 'a step that takes long', 60);
$t->wait_ok(q{SELECT count(*) FILTER (WHERE live) = 1 AND count(*) = 151 FROM tasker.tasks}, 'is not touched, and all others are gone', 60);
$t->open_gates(1);
$t->wait_ok(q{SELECT count(*) = 150 FROM tasker.tasks}, 'its task goes when it is over', 60);
is($t->sql(q{SELECT count(*), count(DISTINCT (task_id, step_name)) FROM acc.ledger WHERE step_name <> 'a'}), $t->sql(q{SELECT (300 + 50 + 2000 + 1 + 100) || '|' || (300 + 50 + 2000 + 1 + 100)}), 'every step had its effect once');
whole_ok('whole');

# ---- a key is free again ----
my ($first) = split /\n/, $t->alice(q{SELECT tasker.create_task('gone', 'chain', idempotency_key => 'again')});
is($t->alice(q{SELECT tasker.create_task('gone', 'chain', idempotency_key => 'again')}), $first, 'a key gives its task');
$t->wait_ok("SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE task_id = $first)", 'until that is removed', 30);
cmp_ok($t->alice(q{SELECT tasker.create_task('gone', 'chain', idempotency_key => 'again')}), '>', $first, 'then it makes another one');
$t->wait_ok('SELECT count(*) = 150 FROM tasker.tasks', 'which goes as well', 30);

# ---- idle ----
$t->sql(q{SELECT tasker.set_retention('gone', NULL)});
$t->wait_ok(q{SELECT removed_tasks > 0 AND retention = '90 days' FROM tasker.retention_status WHERE namespace = 'gone'}, 'back to the setting', 20);
my $passed = $t->sql('SELECT max(passed_at) FROM tasker.retention_marks');
# Twenty passes of the dispatcher with work of another kind: tasks are created and run.
create('other', 1) for 1 .. 20;
$t->all_done('twenty tasks one after the other');
is($t->sql('SELECT max(passed_at) FROM tasker.retention_marks'), $passed, 'no walk while nothing can be due');

# ---- killed in the middle of it ----
my ($faults) = $t->try_sql(q{SET tasker.fault = 'none:error'});
if ($faults == 0) {
  for my $fault (qw(retention.rows_removed:kill retention.commit:kill retention.rows_removed:fatal retention.rows_removed:error)) {
    create('gone', 120);
    $t->all_done("$fault: tasks");
    my $sum = $t->sql($all);
    unlink glob $node->data_dir . '/pg_stat_tmp/tasker_fault_*';
    my $offset = $t->log_offset;
    set('tasker.fault', $fault);
    $t->sql(q{SELECT tasker.set_retention('gone', '0')});
    my $met = $fault =~ /kill/ ? qr/terminated by signal 9/ : qr/fault point retention\./;
    ok($t->wait_log($offset, $met), "$fault: met");
    $t->wait_for('SELECT true', 30);
    is($t->sql($all), $sum, "$fault: each task is there or counted");
    whole_ok("$fault: and none in part");
    $t->sql('ALTER SYSTEM RESET tasker.fault');
    $t->sql('SELECT pg_reload_conf()');
    $t->wait_ok(q{SELECT count(*) = 0 FROM tasker.tasks JOIN tasker.named_tasks d USING (named_task_id) JOIN tasker.task_namespaces n USING (task_namespace_id) WHERE n.name = 'gone'}, "$fault: the rest goes afterwards", 90);
    is($t->sql($all), $sum, "$fault: and is counted");
    whole_ok("$fault: whole");
    $t->sql(q{SELECT tasker.set_retention('gone', NULL)});
  }

  # A repeated key, while the task of that key is removed: it has a task all the same.
  my ($old) = split /\n/, $t->alice(q{SELECT tasker.create_task('gone', 'chain', idempotency_key => 'race')});
  $t->all_done('a task with a key');
  my $holder = $node->background_psql('postgres');
  $holder->query_safe(q{SELECT pg_advisory_lock(1413829461, hashtext('create.keys_claimed'))});
  my ($out, $err) = ('', '');
  my $creator = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'postgres', '-c', q{SET tasker.fault = 'create.keys_claimed:pause'}, '-c', q{SET SESSION AUTHORIZATION alice},
    '-c', q{SELECT tasker.create_task('gone', 'chain', idempotency_key => 'race')} ], '<', '/dev/null', '>', \$out, '2>', \$err);
  $t->wait_ok(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1413829461 AND NOT granted)}, 'somebody has found the key taken', 20);
  is($t->sql(q{SELECT tasker.remove_finished_tasks('0', 'gone')}), 1, 'and its task is removed');
  $holder->query_safe(q{SELECT pg_advisory_unlock_all()});
  $creator->finish;
  chomp $out;
  cmp_ok($out, '>', $old, 'he gets a new one') or diag($err);
  is($t->sql(q{SELECT k.task_id FROM tasker.idempotency_keys AS k WHERE k.idempotency_key = 'race'}), $out, 'which has the key');
  $holder->quit;
} else {
  note 'the library has no fault points (build with FAULTS=1)';
}

# ---- the setting ----
set('tasker.retention', 0);
$t->wait_ok('SELECT count(*) = 0 FROM tasker.tasks', 'a new setting is followed at once', 60);
set('tasker.retention', -1);
create('kept', 10);
$t->all_done('tasks that are kept');
is($t->sql('SELECT count(*) FROM tasker.tasks'), 10, '-1 keeps them');
is($t->sql(q{SELECT DISTINCT retention IS NULL FROM tasker.retention_status}), 't', 'for ever');
whole_ok('whole at the end');

# ---- by hand, without the preload ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($t->sql(q{SELECT tasker.remove_finished_tasks('0')}), 10, 'by hand it works without the preload');
whole_ok('whole');

$node->stop;
done_testing();
