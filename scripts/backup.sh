#!/bin/sh
# Backs up what cannot be made again: jobs, what was kept of their work, profiles; and Redis, if it is named.
#
#   scripts/backup.sh --volume DIRECTORY --to DIRECTORY [--redis URL]
#
# --volume: the shared volume (/shared), or the directory that holds job-state on one machine. Servers may run: files of
# jobs are replaced whole, never changed. Clones (repos/) are not in it: they are fetched again. Redis is asked first, so
# that the volume is never older than it. Makes DIRECTORY/agenticore-TIME/ and prints it.
set -eu
fail() { echo "backup.sh: $*" >&2; exit 1; }
volume= to= redis=
while [ $# -gt 0 ]; do
  case $1 in
    --volume | --to | --redis) [ $# -ge 2 ] || { echo "backup.sh: $1 needs a value" >&2; exit 2; }
      case $1 in --volume) volume=${2%/} ;; --to) to=${2%/} ;; *) redis=$2 ;; esac; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "backup.sh: unknown word $1: known are --volume, --to, --redis" >&2; exit 2 ;;
  esac
done
[ -n "$volume" ] && [ -n "$to" ] || { echo "backup.sh wants --volume DIRECTORY and --to DIRECTORY" >&2; exit 2; }
[ -d "$volume/job-state" ] || fail "there is no $volume/job-state: --volume is where the shared volume is mounted"
backup=$to/agenticore-$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$backup" ] || fail "$backup is there already; try again in a second"
umask 077
mkdir -p "$backup"
trap '[ -f "$backup/SHA256SUMS" ] || rm -rf "$backup"' EXIT
if [ -n "$redis" ]; then
  command -v redis-cli >/dev/null || fail "redis-cli is not here; install it, or leave --redis out"
  echo "asking Redis for its data …" >&2
  redis-cli -u "$redis" --no-auth-warning --rdb "$backup/redis.rdb" >/dev/null 2>&1 && [ -s "$backup/redis.rdb" ] ||
    fail "Redis gave no copy of its data: is the address right, and may this user do REPLCONF and PSYNC?"
fi
echo "packing the volume …" >&2
parts=$(cd "$volume" && for part in job-state profiles agentihooks-bundle; do [ ! -d "$part" ] || echo "$part"; done)
# 1: a file changed or went while it was read. Those are jobs that go on; they are whole before or after.
code=0
# shellcheck disable=SC2086
tar -C "$volume" --warning=no-file-changed --warning=no-file-removed -czf "$backup/volume.tar.gz" $parts || code=$?
[ "$code" -le 1 ] || fail "tar failed ($code)"
(cd "$backup" && sha256sum -- *.gz *.rdb 2>/dev/null > SHA256SUMS || sha256sum -- *.gz > SHA256SUMS)
echo "$backup"
