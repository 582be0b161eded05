#!/bin/sh
# Backs up what cannot be made again: jobs, what was kept of their work, profiles; and Redis, if it is named.
#
#   [REDIS_URL=redis://…] scripts/backup.sh --volume DIRECTORY --to DIRECTORY
#
# --volume: the shared volume (/shared), or the directory that holds job-state on one machine. Servers may run: files of
# jobs are replaced whole, never changed. Clones (repos/) are not in it: they are fetched again. Redis is asked first, so
# that the volume is never older than it. Makes DIRECTORY/agenticore-TIME/ and prints it. --redis URL: as REDIS_URL, for
# an address without a password.
set -eu
fail() { echo "backup.sh: $*" >&2; exit 1; }
volume='' to=''
scripts=$(cd "$(dirname "$0")" && pwd)
while [ $# -gt 0 ]; do
  case $1 in
    --volume | --to | --redis) [ $# -ge 2 ] || { echo "backup.sh: $1 needs a value" >&2; exit 2; }
      case $1 in --volume) volume=${2%/} ;; --to) to=${2%/} ;; *) export REDIS_URL="$2" ;; esac; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "backup.sh: unknown word $1: known are --volume, --to, --redis" >&2; exit 2 ;;
  esac
done
[ -n "$volume" ] && [ -n "$to" ] || { echo "backup.sh wants --volume DIRECTORY and --to DIRECTORY" >&2; exit 2; }
[ -d "$volume/job-state" ] || fail "there is no $volume/job-state: --volume is where the shared volume is mounted"
parts=
for part in job-state profiles agentihooks-bundle; do
  [ ! -L "$volume/$part" ] || fail "$volume/$part is a link, and its contents would not be saved: give --volume where they are"
  [ ! -d "$volume/$part" ] || parts="$parts $part"
done
backup=$to/agenticore-$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$backup" ] || fail "$backup is there already; try again in a second"
umask 077
mkdir -p "$backup"
trap '[ -f "$backup/SHA256SUMS" ] || rm -rf "$backup"' EXIT
trap 'exit 130' INT TERM HUP
if [ -n "${REDIS_URL:-}" ]; then
  echo "asking Redis for its data …" >&2
  said=$("$scripts/ask-redis.sh" --rdb "$backup/redis.rdb" 2>&1) && [ -s "$backup/redis.rdb" ] ||
    fail "Redis gave no copy of its data: $(printf '%s' "$said" | tail -n 1)"
fi
echo "packing the volume …" >&2
# 1: a file changed or went while it was read. Those are jobs that go on; they are whole before or after.
code=0
# shellcheck disable=SC2086
tar -C "$volume" --numeric-owner --warning=no-file-changed --warning=no-file-removed -czf "$backup/volume.tar.gz" $parts || code=$?
[ "$code" -le 1 ] || fail "tar failed ($code)"
jobs=$(tar -tzf "$backup/volume.tar.gz" | grep -c '^job-state/.*\.json$') || true
(cd "$backup" && if [ -f redis.rdb ]; then sha256sum -- volume.tar.gz redis.rdb; else sha256sum -- volume.tar.gz; fi > .sums && mv .sums SHA256SUMS)
if [ "$jobs" = 0 ]; then
  echo "WARNING: no job is in it. If there are jobs, their files are elsewhere: AGENTICORE_JOBS_DIR has to be on the volume" >&2
else
  echo "$jobs job files are in it" >&2
fi
echo "$backup"
