# shellcheck shell=bash
# Another major of PostgreSQL in a Debian of its own: `in_chroot 17 scripts/check …` runs that script there. Sourced
# by scripts/check, after lib.sh. The Debian is made once and kept in TASKER_CHROOTS.

CHROOTS=${TASKER_CHROOTS:-/var/cache/tasker-chroots}

suite_with() {  # major → the Debian that has it
  case $1 in
    15) echo bookworm ;;
    17) echo trixie ;;
    18) echo forky ;;
    *) die "no Debian is known to have PostgreSQL $1: 15, 17 and 18 can be tested" ;;
  esac
}

# The mirror this machine itself uses, from its own apt sources.
host_mirror() {
  local mirror
  # shellcheck disable=SC2016  # apt expands these
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "Debian" && $1 !~ /security/ { print $1; exit }')
  [ -n "$mirror" ] || die "found no Debian mirror in this machine's apt sources"
  echo "$mirror"
}

make_chroot() {  # suite
  local suite=$1 root=$CHROOTS/$1 script=/usr/share/debootstrap/scripts/$1 log
  if [ -e "$root/etc/debian_version" ]; then return; fi
  install_packages debootstrap
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid  # a suite younger than this debootstrap
  mkdir -p "$CHROOTS"
  log=$CHROOTS/$suite.log
  say "making a Debian $suite in $root"
  rm -rf --one-file-system "$root.part"
  # No --merged-usr and no --include: what tasker needs, scripts/setup installs in there.
  debootstrap --variant=minbase "$suite" "$root.part" "$(host_mirror)" "$script" >"$log" 2>&1 || { tail -20 "$log" >&2; die "debootstrap failed"; }
  # How this machine's apt reaches the mirror: proxies, logins, trust.
  local part
  for part in apt.conf apt.conf.d auth.conf auth.conf.d; do
    [ ! -e "/etc/apt/$part" ] || cp -r --remove-destination "/etc/apt/$part" "$root.part/etc/apt/"
  done
  # A chroot starts no services.
  printf '#!/bin/sh\nexit 101\n' >"$root.part/usr/sbin/policy-rc.d"
  chmod +x "$root.part/usr/sbin/policy-rc.d"
  mv "$root.part" "$root"
}

in_chroot() {  # major, script, arguments…
  local major=$1 suite root
  shift
  suite=$(suite_with "$major")
  root=$CHROOTS/$suite
  [ "$(id -u)" -eq 0 ] || die "--pg $major needs root: it runs in a chroot"
  # One at a time makes or uses it: two runs would install packages at the same time.
  mkdir -p "$CHROOTS"
  exec 8>"$CHROOTS/$suite.lock"
  flock -n 8 || { say "waiting for another run in $root"; flock 8; }
  make_chroot "$suite"
  say "PostgreSQL $major in $root"
  # The name resolution of the host, which may have changed since.
  cp --remove-destination -L /etc/resolv.conf /etc/hosts "$root/etc/"
  mkdir -p "$root/usr/src/tasker"
  rsync_tree "$root/usr/src/tasker/"
  # A mount and process namespace of its own: however this ends, no mount and no server stays behind.
  # shellcheck disable=SC2016
  exec unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    root=$1 major=$2 script=$3
    shift 3
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI="${CI:-}" http_proxy="${http_proxy:-}" \
      TASKER_PG="$major" bash "/usr/src/tasker/$script" "$@"' in_chroot "$root" "$major" "$@"
}
