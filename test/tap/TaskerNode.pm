# A server with tasker preloaded, a role `alice` whose tasks run on it, and a ledger of what they did.
#
# The ledger has no unique key, so that an effect that happened twice shows as two rows: ledger_exact() is the oracle
# of every test here. Waiting is always for a condition, with a bound; nothing sleeps for a fixed time.
package TaskerNode;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(steps definition);

my $LEDGER = <<'SQL';
CREATE SCHEMA acc;
GRANT USAGE ON SCHEMA acc TO PUBLIC;
CREATE TABLE acc.ledger (task_id bigint, step_name text, attempt integer, txid xid8, who text, at timestamptz DEFAULT clock_timestamp());
GRANT SELECT, INSERT ON acc.ledger TO PUBLIC;
CREATE FUNCTION acc.note(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS $$
  INSERT INTO acc.ledger (task_id, step_name, attempt, txid, who)
  VALUES ($1.task_id, $1.step_name, $1.attempt, pg_current_xact_id(), session_user || '/' || current_user)
  RETURNING jsonb_build_object('attempt', attempt)
$$;
CREATE FUNCTION acc.step(step tasker.step_call) RETURNS jsonb LANGUAGE sql AS 'SELECT acc.note($1)';
-- Sleeps context.sleep seconds after its effect.
CREATE FUNCTION acc.step_sleep(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step), pg_sleep((step.context ->> 'sleep')::float8);
  RETURN '{}';
END $$;
-- Fails after its effect until attempt context.good.
CREATE FUNCTION acc.step_flaky(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  IF step.attempt < (step.context ->> 'good')::integer THEN RAISE EXCEPTION 'not yet: attempt %', step.attempt; END IF;
  RETURN '{}';
END $$;
-- Does what context.<step name> says, after its effect: SQL run with EXECUTE.
CREATE FUNCTION acc.step_do(step tasker.step_call) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM acc.note(step);
  IF step.context ? step.step_name THEN EXECUTE step.context ->> step.step_name; END IF;
  RETURN '{}';
END $$;
-- Waits until the test opens this gate (close_gates, open_gates).
CREATE FUNCTION acc.pass(gate integer) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1, $1)';
SQL


my $RIGHTS = <<'SQL';
DO $$ BEGIN
  IF to_regproc('tasker.grant_access') IS NOT NULL THEN
    PERFORM tasker.grant_access('alice', l) FROM unnest(ARRAY['author', 'submitter', 'viewer']) AS l;
  ELSE
    GRANT USAGE ON SCHEMA tasker TO alice;
    GRANT SELECT ON ALL TABLES IN SCHEMA tasker TO alice;
    GRANT EXECUTE ON ALL ROUTINES IN SCHEMA tasker TO alice;
  END IF;
END $$;
GRANT USAGE ON TYPE tasker.step_call TO alice;
SQL

# Steps of a completed task with no effect or more than one, effects without a completed step, tasks still live.
my $ORACLE = <<'SQL';
WITH steps AS (
  SELECT s.task_id, d.name, s.state::text, s.attempts FROM tasker.workflow_steps s JOIN tasker.tasks t USING (task_id)
  JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
  WHERE d.handler ->> 'function' LIKE 'acc.step%'),
done AS (SELECT task_id, step_name, count(*) AS n, max(attempt) AS attempt FROM acc.ledger GROUP BY 1, 2)
SELECT CASE WHEN s.state = 'complete' AND e.n IS NULL THEN 'lost' WHEN s.state = 'complete' AND e.n > 1 THEN 'doubled'
  WHEN s.state = 'complete' THEN 'effect of another attempt' ELSE 'effect without completion' END,
  coalesce(s.task_id, e.task_id), coalesce(s.name, e.step_name), s.state, s.attempts, e.n, e.attempt
FROM steps s FULL JOIN done e ON e.task_id = s.task_id AND e.step_name = s.name
WHERE s.state = 'complete' AND (e.n IS DISTINCT FROM 1 OR e.attempt <> s.attempts) OR s.state IS DISTINCT FROM 'complete' AND e.n > 0
UNION ALL SELECT 'still live', t.task_id, NULL, t.state::text, NULL, NULL, NULL FROM tasker.tasks t WHERE t.live
ORDER BY 2, 3 LIMIT 20
SQL

# start('name', conf => '…', init => {…}, bare => 1): bare leaves the extension to the test.
sub start {
  my ($class, $name, %o) = @_;
  my $node = PostgreSQL::Test::Cluster->new($name);
  $node->init(%{ $o{init} // {} });
  # What Cluster->init sets for tests of the server itself; TEMP_CONFIG brings the preload.
  $node->append_conf('postgresql.conf', "restart_after_crash = on\nmax_connections = 50\nshared_buffers = 32MB\n" . ($o{conf} // ''));
  $node->start;
  my $self = bless { node => $node, db => 'postgres' }, $class;
  $self->sql('CREATE ROLE alice LOGIN');
  $self->install unless $o{bare};
  return $self;
}

sub node { return $_[0]->{node} }

# Extension, rights of alice and ledger in one database.
sub install {
  my ($self, $db) = @_;
  $self->sql('CREATE EXTENSION tasker', $db);
  $self->sql($LEDGER, $db);
  $self->sql($RIGHTS, $db);
}

sub sql { my ($self, $query, $db) = @_; return $self->node->safe_psql($db // $self->{db}, $query) }
sub alice { my ($self, $query, $db) = @_; return $self->node->safe_psql($db // $self->{db}, $query, extra_params => [ '-U', 'alice' ]) }
# Whatever happens: (exit code, stdout, stderr). One statement, or several in an array, each in its own transaction.
# Not through standard input, which a psql that cannot connect leaves unread.
sub try_sql {
  my ($self, $query, %o) = @_;
  my ($out, $err) = ('', '');
  my @statements = map { ('-c', $_) } ref $query ? @$query : $query;
  IPC::Run::run([ 'psql', '-XAtq', '-d', $self->node->connstr($o{db} // $self->{db}), '-U', $o{user} // 'postgres', @statements ], '<', '/dev/null', '>', \$out, '2>', \$err);
  my $rc = $? >> 8;
  chomp($out, $err);
  return ($rc, $out, $err);
}

# Seconds until the query says t (errors, as of a server that restarts, count as no); undef at the bound.
sub wait_for {
  my ($self, $query, $seconds, $db) = @_;
  my $begun = time;
  while (1) {
    my ($rc, $out) = $self->try_sql($query, db => $db);
    return time - $begun if $rc == 0 && defined $out && $out eq 't';
    return undef if time - $begun > $seconds;
    usleep(20_000);
  }
}

sub wait_ok {
  my ($self, $query, $what, $seconds, $db) = @_;
  my $took = $self->wait_for($query, $seconds // 30, $db);
  ok(defined $took, $what) or $self->show_live($db);
  return $took;
}

sub all_done { my ($self, $what, $seconds, $db) = @_; return $self->wait_ok('SELECT NOT EXISTS (SELECT FROM tasker.tasks WHERE live)', $what // 'every task ends', $seconds // 60, $db) }

sub show_live {
  my ($self, $db) = @_;
  my (undef, $out) = $self->try_sql([ split /;\n/, <<'SQL' ], db => $db);
SELECT t.task_id, t.state, t.live, t.runnable, t.paused, t.failing, t.sinks_left, d.name, s.state, s.attempts, s.moves, s.crashes, s.waiting_on, s.next_attempt_at, s.error ->> 'message'
FROM tasker.tasks t JOIN tasker.workflow_steps s USING (task_id) JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.step_no = s.step_no
WHERE t.live ORDER BY 1, s.step_no LIMIT 20;
SELECT pid, backend_type, datname, usename, state, wait_event, query FROM pg_stat_activity WHERE backend_type LIKE 'tasker%';
SELECT * FROM tasker.home;
SQL
  diag($out || 'no connection');
}

sub ledger_exact {
  my ($self, $what, $db) = @_;
  my $rows = $self->sql($ORACLE, $db);
  $rows .= $self->sql('SELECT * FROM tasker.check()', $db) if $self->sql(q{SELECT to_regproc('tasker.check') IS NOT NULL}, $db) eq 't';
  is($rows, '', $what // 'the ledger is exact');
}

# pids of our processes: kind is launcher, dispatcher or executor.
sub pids { my ($self, $kind, $db) = @_; return split /\n/, $self->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tasker $kind'" . (defined $db ? " AND datname = '$db'" : '') . ' ORDER BY random()') }

# When the server last said that it accepts connections (epoch), from its log.
sub ready_at {
  my ($self) = @_;
  my @lines = grep { /database system is ready to accept connections/ } split /\n/, slurp_file($self->node->logfile);
  my ($stamp) = $lines[-1] =~ /^(\S+ \S+ UTC)/;
  return $self->sql("SELECT extract(epoch FROM '$stamp'::timestamptz)");
}

# Seconds from then to the first step begun after it.
sub first_step_after { my ($self, $epoch, $db) = @_; return $self->sql("SELECT round(extract(epoch FROM min(at)) - $epoch, 3) FROM acc.ledger WHERE at > to_timestamp($epoch)", $db) }

# Kills the postmaster, does what is to be done among its orphans, and starts it again as soon as they have let go of the shared memory.
sub kill_postmaster {
  my ($self, $meanwhile) = @_;
  my $node = $self->node;
  my $pid = $node->{_pid};
  $node->kill9;
  delete $self->{gatekeeper};
  $meanwhile->() if $meanwhile;
  my $until = time + 60;
  while (1) {
    # Gone, not a zombie that its parent has not looked after yet: the lock file knows no difference.
    if (!kill 0, $pid) {
      $node->{_pid} = undef;
      return if $node->start(fail_ok => 1);
    }
    die 'the server does not start' if time > $until;
    usleep(50_000);
  }
}

# Gates are advisory locks that a session of the test holds: a step that calls acc.pass(n) waits until gate n is opened.
sub close_gates {
  my ($self, @gates) = @_;
  $self->{gatekeeper} //= $self->node->background_psql($self->{db});
  $self->{gatekeeper}->query_safe("SELECT pg_advisory_lock(1, $_)") for @gates;
}
sub open_gates { my ($self, @gates) = @_; $self->{gatekeeper}->query_safe("SELECT pg_advisory_unlock(1, $_)") for @gates }

# pid of the process that waits at the gate, once one does.
sub wait_at_gate {
  my ($self, $gate, $seconds) = @_;
  my $waiting = "FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objid = $gate AND objsubid = 2 AND NOT granted";
  defined $self->wait_for("SELECT EXISTS (SELECT $waiting)", $seconds // 20) or do { $self->show_live; die "nobody waits at gate $gate" };
  return $self->sql("SELECT pid $waiting LIMIT 1");
}

sub log_offset { return -s $_[0]->node->logfile }
sub log_since { my ($self, $offset) = @_; return slurp_file($self->node->logfile, $offset) }
# Whether the log has said it since then, within the bound.
sub wait_log {
  my ($self, $offset, $met, $seconds) = @_;
  my $until = time + ($seconds // 30);
  while ($self->log_since($offset) !~ $met) {
    return 0 if time > $until;
    usleep(20_000);
  }
  return 1;
}

# steps('a:step; b:step_sleep < a; c:- < a, b', key => value …) → the steps of a definition; - is a noop.
sub steps {
  my ($text, %keys) = @_;
  my $extra = join '', map { qq(, "$_": $keys{$_}) } sort keys %keys;
  return join ', ', map {
    my ($name, $handler, $parents) = /^\s*(\w+):([\w-]+)(?:\s*<\s*(.*?))?\s*$/ or die "not a step: $_";
    my $parents_json = join ', ', map { qq("$_") } split /,\s*/, $parents // '';
    my $handler_json = $handler eq '-' ? '{"type": "noop"}' : qq({"type": "sql", "function": "acc.$handler"});
    qq({"name": "$name", "handler": $handler_json, "depends_on": [$parents_json]$extra})
  } split /;/, $text;
}

# SQL that defines it in namespace t.
sub definition {
  my ($name, $steps, %keys) = @_;
  return 'SELECT tasker.define_task($def${"namespace": "t", "name": "' . $name . '", "steps": [' . steps($steps, %keys) . ']}$def$)';
}

1;
