# Calls of a TaskerNode's steps to a scripted server (test/http/server.py), which counts what it was asked.
#
# A definition made here has one step, "call"; its name is the tag under which the server counts its requests.
package HttpCalls;

use strict;
use warnings;

use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $PATIENCE = 60;  # seconds for one answer of the server to a command

sub new {
  my ($class, $t) = @_;
  my $self = bless { t => $t, in => '', out => '', err => '', timeout => IPC::Run::timeout($PATIENCE) }, $class;
  $self->{server} = IPC::Run::start([ 'python3', 'test/http/server.py', PostgreSQL::Test::Utils::tempdir ], '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timeout});
  $self->{ports} = $self->answer;
  return $self;
}

sub answer {
  my ($self) = @_;
  $self->{timeout}->start($PATIENCE);
  $self->{server}->pump until $self->{out} =~ s/^(.*)\n//;
  my $line = $1;
  return JSON::PP->new->utf8->allow_nonref->decode($line);
}
# One command of the server, as its own text has them.
sub ask { my ($self, $command) = @_; $self->{in} .= "$command\n"; return $self->answer }
sub hits { my ($self, $name) = @_; return $self->ask("hits $name") }
sub port { my ($self, $name) = @_; return $self->{ports}{$name} // die "no port $name" }
# Seconds until the answer is at least that; undef at the bound.
sub reach {
  my ($self, $command, $least, $seconds) = @_;
  my $begun = time;
  while ($self->ask($command) < $least) {
    return undef if time - $begun > ($seconds // 20);
    usleep(10_000);
  }
  return time - $begun;
}
sub reach_ok { my ($self, $command, $least, $what, $seconds) = @_; my $took = $self->reach($command, $least, $seconds); ok(defined $took, $what) or $self->{t}->show_live; return $took }

sub stop { my ($self) = @_; $self->{timeout}->start($PATIENCE); $self->{server}->kill_kill }

# ---- endpoints, definitions and tasks ------------------------------------------------------------------------------

# options: SQL after the url; by default a private address may be called.
sub endpoint {
  my ($self, $name, $url, $options) = @_;
  $options //= q{, allow_private 'on'};
  $self->{t}->sql("CREATE SERVER $name FOREIGN DATA WRAPPER tasker_http OPTIONS (url '$url'$options); GRANT USAGE ON FOREIGN SERVER $name TO alice");
}

sub define {
  my ($self, $name, $handler, %step) = @_;
  my %handler = (type => 'http', server => 'local', %$handler);
  $handler{query} = { %{ $handler{query} // {} }, tag => $name } unless exists $handler{query} && exists $handler{query}{tag};
  my $deadline = delete $step{deadline_seconds};
  my $steps = delete $step{more} // [];
  my $definition = encode_json({
    namespace => 't', name => $name, ($deadline ? (deadline_seconds => $deadline) : ()),
    steps => [ { name => 'call', handler => \%handler, max_attempts => 2, backoff => { base_seconds => 0.05, multiplier => 1, jitter => 0 }, %step }, @$steps ] });
  $self->{t}->alice("SELECT tasker.define_task(\$def\$$definition\$def\$)");
}
sub create { my ($self, $name, $options) = @_; return $self->{t}->alice("SELECT tasker.create_task('t', '$name', '{\"id\": 7}'" . ($options // '') . ')') }
sub ended {
  my ($self, $id, $seconds) = @_;
  return if defined $self->{t}->wait_for("SELECT NOT live FROM tasker.tasks WHERE task_id = $id", $seconds // 60);
  $self->{t}->show_live;
  fail("task $id ends");
}
sub run { my ($self, $name, $handler, %step) = @_; $self->define($name, $handler, %step); my $id = $self->create($name); $self->ended($id); return $id }

# ---- what came of it -----------------------------------------------------------------------------------------------

sub column { my ($self, $id, $column) = @_; return $self->{t}->alice("SELECT $column FROM tasker.step_status WHERE task_id = $id AND step_name = 'call'") }
sub step { my ($self, $id) = @_; return $self->column($id, "concat_ws('|', state, attempts, error ->> 'category', error ->> 'retryable')") }

1;
