# shellcheck shell=bash
# What scripts/setup, check and demo share. Sourcing it changes nothing.
#
# Nothing here touches the machine beyond installing Debian packages: the tree is built in a copy, and installed
# into a private copy of the server's own files, by an unprivileged user. So checks of several checkouts can run
# side by side (give each its TASKER_WORK), no running server ever sees a half-tested library, and a server of
# the distribution stays as it was.
#
#   TASKER_WORK   work folder, default /var/tmp/tasker-<user>
#   TASKER_PG     major version of the server, default: the newest installed, else the distribution's
set -euo pipefail

TASKER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C.UTF-8

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "must install packages: run as root or install sudo"; fi
}

# ---- packages -------------------------------------------------------------------------------------------------

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_update() {  # once a run
  [ -n "${apt_updated:-}" ] && return
  say "updating the package lists"
  as_root apt-get -qq update >/dev/null || die "apt-get update failed"
  apt_updated=1
}

server_major() {
  if [ -n "${TASKER_PG:-}" ]; then echo "$TASKER_PG"; return; fi
  local newest
  newest=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sed 's|.*postgresql/\([0-9]*\)/.*|\1|' | sort -n | tail -1)
  # The package `postgresql` depends on the distribution's major and carries it in its version.
  [ -n "$newest" ] || newest=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Version: \([0-9]*\).*/\1/p' | head -1)
  [ -n "$newest" ] || die "no PostgreSQL package known: run apt-get update"
  echo "$newest"
}

packages_for() {  # major
  echo g++ make rsync procps shellcheck
  echo "postgresql-$1 postgresql-server-dev-$1 libcurl4-openssl-dev nlohmann-json3-dev"
  # googletest, and what its scripted HTTP server is made of; pgTAP and its runner; what PostgreSQL::Test needs; a scheduler
  # that works with us side by side
  echo libgtest-dev python3 openssl
  echo "postgresql-$1-pgtap libtap-parser-sourcehandler-pgtap-perl libipc-run-perl libio-pty-perl postgresql-$1-cron"
  # what external workers come through, and are written with
  echo pgbouncer python3-psycopg python3-psycopg2
}

install_packages() {  # package…
  local package missing=() log no_cluster=/etc/postgresql-common/createcluster.d/tasker-setup.conf
  for package in "$@"; do is_installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  apt_update
  say "installing ${missing[*]}"
  # The server's package would make and start a cluster that nobody asked for.
  as_root mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
  log=$(mktemp)
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      -o Dpkg::Options::=--force-confold install "${missing[@]}" >"$log" 2>&1 </dev/null; then
    as_root rm -f "$no_cluster"
    tail -30 "$log" >&2
    die "installation failed"
  fi
  as_root rm -f "$no_cluster"
  rm -f "$log"
}

setup() {
  command -v apt-get >/dev/null || die "sets up Debian machines only; see README.md for what others need"
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt_update
  PG_MAJOR=$(server_major)
  # shellcheck disable=SC2046
  install_packages $(packages_for "$PG_MAJOR")
}

# ---- the unprivileged half ------------------------------------------------------------------------------------

# By content, without times: a file that differs becomes new, whatever its age, and make sees it. What .gitignore
# names is neither copied nor deleted over there.
rsync_tree() { rsync -rlp --checksum --delete --exclude=/.git --filter=':- .gitignore' "$TASKER_ROOT/" "$1"; }

# Copies the tree to the work folder and goes on there, in the same script with the same arguments, as a user who
# may run a server (root may not). Returns only in that second run.
continue_in_copy() {  # script arguments…
  local script=scripts/${0##*/} user
  if [ -n "${TASKER_IN_COPY:-}" ]; then
    PG_MAJOR=$TASKER_PG
    private_server
    return
  fi
  TASKER_WORK=${TASKER_WORK:-/var/tmp/tasker-$(id -un)}
  user=$(id -un)
  [ "$user" != root ] || user=postgres
  # The name can be guessed, so what lies there must be ours.
  mkdir -p "$TASKER_WORK"
  case $(stat -c %U "$TASKER_WORK") in
    root | "$user") ;;
    *) die "$TASKER_WORK belongs to somebody else: set TASKER_WORK" ;;
  esac
  exec 9>"$TASKER_WORK/lock"
  flock -n 9 || { say "waiting for another run in $TASKER_WORK"; flock 9; }
  rsync_tree "$TASKER_WORK/tree/"
  chmod 755 "$TASKER_WORK" "$TASKER_WORK/tree"
  local as_user=()
  if [ "$(id -u)" -eq 0 ]; then
    chown -R --no-dereference "$user:" "$TASKER_WORK"
    as_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups --)
  fi
  "${as_user[@]}" test -r "$TASKER_WORK/tree/Makefile" || die "the user $user cannot reach $TASKER_WORK: set TASKER_WORK"
  cd "$TASKER_WORK/tree"
  # A clean environment: PG* and LD_* variables of the caller would change what is tested. Ours go along.
  local name ours=()
  for name in $(compgen -e TASKER_); do ours+=("$name=${!name}"); done
  exec "${as_user[@]}" env -i PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$TASKER_WORK" LC_ALL="$LC_ALL" \
    USER="$user" CI="${CI:-}" "${ours[@]}" TASKER_WORK="$TASKER_WORK" TASKER_PG="$PG_MAJOR" TASKER_IN_COPY="$(id -un)" "$script" "$@"
}

# A copy of the server's files under the work folder. PostgreSQL finds its library and share folders relative to
# its binaries, so this is a whole installation, and pg_config of the copy makes PGXS install into it.
private_server() {
  local prefix=$TASKER_WORK/pg$PG_MAJOR system=/usr
  [ -x "$system/lib/postgresql/$PG_MAJOR/bin/postgres" ] || die "PostgreSQL $PG_MAJOR is not installed"
  mkdir -p "$prefix"
  rsync -a --delete "$system/lib/postgresql/$PG_MAJOR/" --mkpath "$prefix/lib/postgresql/$PG_MAJOR/"
  rsync -a --delete "$system/share/postgresql/$PG_MAJOR/" --mkpath "$prefix/share/postgresql/$PG_MAJOR/"
  ln -sfn "$system/include" "$prefix/include"
  PG_BIN=$prefix/lib/postgresql/$PG_MAJOR/bin
  PG_CONFIG=$PG_BIN/pg_config
  # shellcheck disable=SC2034  # the check uses it
  PGXS_TEST=$prefix/lib/postgresql/$PG_MAJOR/lib/pgxs/src/test
  PATH=$PG_BIN:$PATH
  export PG_CONFIG PATH
}

build() {  # make variables… ; builds and installs into the private server
  local log=$TASKER_WORK/build.log
  say "building for PostgreSQL $PG_MAJOR${*:+ ($*)}"
  if ! make -s -j"$(nproc)" "$@" install >"$log" 2>&1; then
    grep -E 'error|Error|\*\*\*' "$log" | head -40 >&2 || true
    say "the whole log is in $log" >&2
    return 1
  fi
}

# ---- private servers ------------------------------------------------------------------------------------------

# A new server in its own folder, on a Unix socket in that folder, with no port on the network. Sets PGHOST and
# friends. The folder is short because the path of a socket may have 107 bytes only.
start_server() {  # configuration file
  SERVER_DIR=$(mktemp -d "${TMPDIR:-/tmp}/tasker.XXXXXX")
  initdb -D "$SERVER_DIR/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$SERVER_DIR/initdb.log"
  cat "$1" >>"$SERVER_DIR/data/postgresql.conf"
  {
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$SERVER_DIR'"
    echo "unix_socket_permissions = 0700"
  } >>"$SERVER_DIR/data/postgresql.conf"
  export PGHOST=$SERVER_DIR PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
  # The server must not inherit the lock of the work folder.
  if ! pg_ctl -D "$SERVER_DIR/data" -l "$SERVER_DIR/server.log" -w start >"$SERVER_DIR/pg_ctl.log" 9>&-; then
    tail -30 "$SERVER_DIR/server.log" >&2
    return 1
  fi
}

stop_server() {
  [ -n "${SERVER_DIR:-}" ] || return 0
  # fast, then by force: a worker that doesn't obey is a fault of its own, which suites look for elsewhere.
  pg_ctl -D "$SERVER_DIR/data" -m fast -t 30 -w stop >/dev/null 2>&1 || pg_ctl -D "$SERVER_DIR/data" -m immediate -w stop >/dev/null 2>&1 || true
  rm -rf "$SERVER_DIR"
  SERVER_DIR=
}
