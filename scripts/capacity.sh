#!/usr/bin/env bash
# Measures what a fleet holds on this machine, for the table in docs/operations.md: with 1, 2 and 4 pods, jobs a minute,
# memory of a server, Redis's memory and commands. The agent is the scripted one, so that what is measured is ours; jobs
# have a repository, and publish nothing.
#
#   scripts/capacity.sh [JOBS]          (400)
#
# CAPACITY_PODS: how many pods, one row each ("1 2 4"). CAPACITY_DIR: where the volume lies. AGENTICORE_BINARY: a binary
# that is there, instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-400}
target=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${AGENTICORE_BINARY:-}" ]; then
  echo "building (some minutes) …" >&2
  cargo build --quiet --release --bins
fi
cargo build --quiet --examples
binary=${AGENTICORE_BINARY:-$target/release/agenticore}
place=$(mktemp -d); volume=$(mktemp -d -p "${CAPACITY_DIR:-$place}")
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$place" "$volume"; }
trap finish EXIT
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
git init -q -b main "$place/repo"
seq 2000 | (cd "$place/repo" && split -l 1 -a 4 - file-)
git -C "$place/repo" add -A
git -C "$place/repo" -c user.name=x -c user.email=x@localhost commit -qm one
echo "| pods | jobs at once | jobs | jobs a minute | server, idle | server, busy | Redis a job | Redis commands a job |"
echo "|---|---|---|---|---|---|---|---|"
for pods in ${CAPACITY_PODS:-1 2 4}; do
  redis=$(port)
  mkdir -p "$place/redis-$pods"
  redis-server --port "$redis" --bind 127.0.0.1 --save "" --dir "$place/redis-$pods" >/dev/null & redis_pid=$!
  pids+=("$redis_pid")
  until redis-cli -p "$redis" ping >/dev/null 2>&1; do sleep 0.1; done
  servers=()
  for n in $(seq "$pods"); do
    own=$place/$pods-$n; mkdir -p "$own/home" "$own/tmp" "$volume/$pods/repos"
    first=${first:-$(port)}; [ "$n" = 1 ] && first=$(port) && at=$first || at=$(port)
    env -i PATH="$PATH" HOME="$own/home" TMPDIR="$own/tmp" REDIS_URL="redis://127.0.0.1:$redis" AGENTICORE_PORT="$at" AGENTICORE_POD_NAME="pod-$n" \
      AGENTICORE_SHARED_FS_ROOT="$volume/$pods" AGENTICORE_WORKTREE_ROOT="$own/worktrees" AGENTICORE_MAX_PARALLEL_JOBS=3 AGENTICORE_ALLOW_LOCAL_REPOS=true \
      AGENTICORE_CLAUDE_BINARY="$target/debug/examples/scripted-agent" "$binary" serve 2>"$own/log" &
    servers+=($!); pids+=($!)
  done
  until curl -sf "127.0.0.1:$first/ready" >/dev/null; do sleep 0.1; done
  memory() { for pid in "${servers[@]}"; do awk '/^VmRSS/ {print $2}' "/proc/$pid/status"; done | sort -n | tail -n 1; }
  idle=$(memory)
  before=$(redis-cli -p "$redis" info memory | tr -d '\r' | sed -n 's/^used_memory://p')
  commands=$(redis-cli -p "$redis" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
  begun=$(date +%s%N)
  body=$(printf '{"task": "[[say done]]", "repo_url": "%s"}' "$place/repo")
  for _ in $(seq "$jobs"); do curl -sf "127.0.0.1:$first/jobs" -d "$body" >/dev/null; done
  busy=0
  while [ "$(curl -sf "127.0.0.1:$first/jobs?limit=1000&view=summary" | grep -o '"status": *"succeeded"' | wc -l)" -lt "$jobs" ]; do
    now=$(memory); [ "$now" -le "$busy" ] || busy=$now
    sleep 0.5
  done
  took=$((($(date +%s%N) - begun) / 1000000))
  after=$(redis-cli -p "$redis" info memory | tr -d '\r' | sed -n 's/^used_memory://p')
  more=$(redis-cli -p "$redis" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
  echo "| $pods | $((pods * 3)) | $jobs | $((jobs * 60000 / took)) | $((idle / 1024)) MiB | $((busy / 1024)) MiB | $(((after - before) / jobs / 1024)) KiB | $(((more - commands) / jobs)) |"
  for pid in "${servers[@]}"; do kill "$pid"; done
  for pid in "${servers[@]}"; do wait "$pid" || true; done
  kill "$redis_pid"; wait "$redis_pid" 2>/dev/null || true
done
