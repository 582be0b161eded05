#!/bin/sh
# Restores a volume from what backup.sh made.
#
#   [REDIS_URL=redis://…] scripts/restore.sh --from BACKUP --volume DIRECTORY [--prefix agenticore]
#
# No server may use the volume: stop all of them first, and empty Redis only then. With REDIS_URL (or --redis URL) servers
# that are alive are looked for there, for as long as one tells of itself, and nothing is done if there is one. The back-up is
# unpacked beside what is there and only then put in its place; what was there is moved aside (job-state.before-TIME),
# never removed. See docs/operations.md.
set -eu
fail() { echo "restore.sh: $*" >&2; exit 1; }
from='' volume='' prefix=agenticore
scripts=$(cd "$(dirname "$0")" && pwd)
while [ $# -gt 0 ]; do
  case $1 in
    --from | --volume | --redis | --prefix) [ $# -ge 2 ] || { echo "restore.sh: $1 needs a value" >&2; exit 2; }
      case $1 in --from) from=${2%/} ;; --volume) volume=${2%/} ;; --redis) export REDIS_URL="$2" ;; *) prefix=$2 ;; esac; shift 2 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "restore.sh: unknown word $1: known are --from, --volume, --redis, --prefix" >&2; exit 2 ;;
  esac
done
[ -n "$from" ] && [ -n "$volume" ] || { echo "restore.sh wants --from BACKUP and --volume DIRECTORY" >&2; exit 2; }
[ -f "$from/volume.tar.gz" ] && [ -f "$from/SHA256SUMS" ] || fail "expected volume.tar.gz and SHA256SUMS in $from: give it a directory that backup.sh printed"
(cd "$from" && grep ' volume.tar.gz$' SHA256SUMS | sha256sum -c --quiet >/dev/null 2>&1) || fail "$from/volume.tar.gz is not what was backed up: its checksum differs"
tar -tzf "$from/volume.tar.gz" >/dev/null 2>&1 || fail "$from/volume.tar.gz cannot be read to its end: take another back-up"
[ -d "$volume" ] || fail "there is no directory $volume: mount the volume there"
command -v flock >/dev/null || fail "flock is not here; install util-linux"

if [ -n "${REDIS_URL:-}" ]; then
  ask() { "$scripts/ask-redis.sh" "$@" 2>&1; }
  alive() { ask --scan --pattern "$prefix:pod:*:state" | sed -n "s/^$prefix:pod:\(.*\):state\$/\1/p" | tr '\n' ' '; }
  said=$(ask PING) || fail "Redis: $said"
  [ "$said" = PONG ] || fail "Redis: $said"
  # A server tells of itself every few seconds: after Redis was emptied too.
  echo "looking for servers that are alive (7 s) …" >&2
  sleep 7
  alive=$(alive)
  if [ -n "$alive" ]; then
    left=0
    for pod in $alive; do
      ms=$(ask PTTL "$prefix:pod:$pod:state"); case $ms in *[!0-9]* | '') ms=0 ;; esac
      [ "$ms" -le "$left" ] || left=$ms
    done
    fail "servers are alive, or were a minute ago: $alive. Stop them. If all are stopped, try again in $((left / 1000 + 1)) s"
  fi
  [ -n "$(ask --scan --pattern "$prefix:*" --count 1000 | head -n 1)" ] ||
    echo "note: Redis holds nothing of the prefix $prefix in this database. If it is not new or emptied, the URL or --prefix is wrong, and servers that are alive were not seen" >&2
fi
lock=$volume/job-state/.lock
if [ -e "$lock" ] && ! flock -n "$lock" true; then fail "a server uses $volume/job-state: stop it first"; fi

when=$(date -u +%Y%m%dT%H%M%SZ)
new=$volume/.restore-$when
mkdir "$new" || fail "cannot write to $volume"
moved=
undo() {
  left=
  for part in $moved; do
    # Ours is in its place only once it is no longer beside it: what was there before is never taken for it.
    if [ ! -e "$new/$part" ] && [ -e "$volume/$part" ]; then mv "$volume/$part" "$new/$part" || left=$part; fi
    if [ -e "$volume/$part.before-$when" ]; then
      if [ -e "$volume/$part" ]; then left=$part; else mv "$volume/$part.before-$when" "$volume/$part" || left=$part; fi
    fi
  done
  if [ -n "$left" ]; then
    echo "restore.sh: $left could not be put back: what was there is $volume/$left.before-$when. Move it back yourself" >&2
  else
    rm -rf "$new"
    echo "restore.sh: $volume is as it was" >&2
  fi
}
trap undo EXIT
trap 'exit 130' INT TERM HUP
echo "unpacking …" >&2
tar -C "$new" --numeric-owner -xzf "$from/volume.tar.gz" || fail "the back-up cannot be unpacked into $volume: is there room, and may you write there?"
for part in "$new"/*; do
  part=${part##*/}
  moved="$moved $part"
  if [ -e "$volume/$part" ]; then
    mv "$volume/$part" "$volume/$part.before-$when" ||
      fail "cannot move $volume/$part aside. If it is mounted by itself, run this where only the whole volume is mounted"
    echo "moved aside: $volume/$part.before-$when" >&2
  fi
  mv "$new/$part" "$volume/$part"
done
trap - EXIT
rmdir "$new"
echo "restored $(find "$volume/job-state" -name '*.json' | wc -l) job files; start the servers now. Once all is well, remove $volume/*.before-$when"
