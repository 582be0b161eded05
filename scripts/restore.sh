#!/bin/sh
# Restores a volume from what backup.sh made.
#
#   scripts/restore.sh --from BACKUP --volume DIRECTORY [--redis URL [--prefix agenticore]]
#
# No server may use the volume: scale to 0 first. With --redis, pods that are alive are found there, and nothing is done.
# What lies on the volume is moved aside (job-state.before-TIME), never removed. Redis itself may be empty, or of another
# minute: servers put back into it what the volume knows. See docs/operations.md.
set -eu
fail() { echo "restore.sh: $*" >&2; exit 1; }
from= volume= redis= prefix=agenticore
while [ $# -gt 0 ]; do
  case $1 in
    --from | --volume | --redis | --prefix) [ $# -ge 2 ] || { echo "restore.sh: $1 needs a value" >&2; exit 2; }
      case $1 in --from) from=${2%/} ;; --volume) volume=${2%/} ;; --redis) redis=$2 ;; *) prefix=$2 ;; esac; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "restore.sh: unknown word $1: known are --from, --volume, --redis, --prefix" >&2; exit 2 ;;
  esac
done
[ -n "$from" ] && [ -n "$volume" ] || { echo "restore.sh wants --from BACKUP and --volume DIRECTORY" >&2; exit 2; }
[ -f "$from/volume.tar.gz" ] && [ -f "$from/SHA256SUMS" ] || fail "expected volume.tar.gz and SHA256SUMS in $from: give it a directory that backup.sh printed"
(cd "$from" && sha256sum -c --quiet SHA256SUMS >/dev/null 2>&1) || fail "the files in $from are not those that were backed up: their sums differ"
[ -d "$volume" ] || fail "there is no directory $volume: mount the volume there"
if [ -n "$redis" ]; then
  command -v redis-cli >/dev/null || fail "redis-cli is not here; install it, or leave --redis out"
  alive=$(redis-cli -u "$redis" --no-auth-warning --scan --pattern "$prefix:pod:*:state" 2>/dev/null) || fail "Redis does not answer"
  [ -z "$alive" ] || fail "pods are alive ($(echo "$alive" | sed 's/.*:pod:\(.*\):state/\1/' | tr '\n' ' ')): stop them first (kubectl scale statefulset/agenticore --replicas=0), and wait until they are gone"
fi
lock=$volume/job-state/.lock
if [ -e "$lock" ] && ! flock -n "$lock" true; then fail "a server uses $volume/job-state: stop it first"; fi
when=$(date -u +%Y%m%dT%H%M%SZ)
for part in $(tar -tzf "$from/volume.tar.gz" | cut -d/ -f1 | sort -u); do
  if [ -e "$volume/$part" ]; then
    # Mounted for reading by pods, or a volume of its own: it cannot be moved as a whole.
    mv "$volume/$part" "$volume/$part.before-$when" || fail "cannot move $volume/$part aside"
    echo "moved aside: $volume/$part.before-$when" >&2
  fi
done
echo "unpacking …" >&2
tar -C "$volume" -xzf "$from/volume.tar.gz"
echo "restored $(find "$volume/job-state" -name '*.json' | wc -l) job files; start the servers now. Once all is well, remove $volume/*.before-$when"
