#!/bin/bash
# Submit, clone, worktree, lock, cancel (with Redis away too) and takeover, between two machines over NFS.
set -u
one=http://10.77.0.11:8200 two=http://10.77.0.12:8200
fail() { echo "FAIL: $*"; touch /mnt/share/done; exit 1; }
wait_for() { # SECONDS WHAT COMMAND…
  local until=$((SECONDS + $1)) what=$2; shift 2
  until "$@" 2>/dev/null; do [ $SECONDS -lt $until ] || fail "still not: $what"; sleep 0.3; done
}
status() { curl -sm10 "$1/jobs/$2" | jq -r .job.status; }
field() { curl -sm10 "$1/jobs/$2" | jq -r ".job.$3"; }
submit() { curl -sm20 "$1/jobs" -d "{\"task\": \"$2\", \"repo_url\": \"/mnt/share/remote.git\"}" | jq -r .job.id; }
is() { [ "$(status "$1" "$2")" = "$3" ]; }
ready() { curl -sm5 "$1/ready" | grep -q '"ready":true'; }
wait_for 60 "both pods are ready" ready $one; wait_for 60 "node 2 is ready" ready $two

ids=(); for n in 1 2 3 4 5 6 7 8; do ids+=("$(submit $one "[[write n-$n.txt $n]] [[sleep 500]]")"); done
for id in "${ids[@]}"; do wait_for 120 "job $id succeeds" is $two "$id" succeeded; done
pods=$(for id in "${ids[@]}"; do field $one "$id" pod_name; done | sort | uniq -c | tr -s ' \n' ' ')
branches=$(git -C /mnt/share/remote.git for-each-ref refs/heads | wc -l)
[ "$branches" = 9 ] || fail "$branches branches"
echo "ok: eight jobs on one repository, by$pods, each with its branch"

# A job on node 2 alone: node 1 begins nothing for a while.
curl -sm10 -X POST "$one/admin/drain?timeout=600" >/dev/null
id=$(submit $one "[[sleep 600000]]"); wait_for 60 "it runs on node 2" is $one "$id" running
began=$SECONDS; curl -sm20 -X DELETE "$one/jobs/$id" | jq -e '.job.status == "cancelled"' >/dev/null || fail cancel
gone() { [ "$(ls /mnt/share/shared/job-state/open | wc -l)" = 0 ] && curl -sm5 $two/admin/drain | jq -e '.running == []' >/dev/null; }
wait_for 60 "the cancelled job is gone on node 2" gone
echo "ok: cancelled from the other node, gone after $((SECONDS - began)) s"

id=$(submit $one "[[sleep 600000]]"); wait_for 60 "it runs on node 2" is $one "$id" running
# Redis takes connections and answers nobody, for a while.
exec 4<>/dev/tcp/10.77.0.1/6379; printf 'CLIENT PAUSE 25000 ALL\r\n' >&4; paused=$SECONDS
began=$SECONDS; curl -sm30 -X DELETE "$one/jobs/$id" | jq -e '.job.status == "cancelled"' >/dev/null || fail "cancel without Redis"
nothing() { curl -sm5 $two/admin/drain | jq -e '.running == []' >/dev/null; }
wait_for 60 "it is gone on node 2, without Redis" nothing
echo "ok: cancelled from the other node with Redis away, gone after $((SECONDS - began)) s"
kept=$(submit $one "[[write kept.txt 1]]")
[ $((SECONDS - paused)) -lt 24 ] || fail "Redis was back before all this was over"
wait_for 90 "what was submitted meanwhile is done" is $one "$kept" succeeded
is $one "$id" cancelled || fail "the cancel did not stay"
echo "ok: submitted while Redis was away, done when it was back; the cancel stayed"

id=$(submit $one "[[write taken.txt 1]] [[sleep 8000]]"); wait_for 60 "it runs on node 2" is $one "$id" running
curl -sm10 -X DELETE "$one/admin/drain" >/dev/null
began=$SECONDS; touch /mnt/share/kill-2
taken() { [ "$(field $one "$id" pod_name)" = node-1 ]; }
wait_for 60 "node 1 takes it over" taken
echo "ok: taken over $((SECONDS - began)) s after the kill was asked for"
wait_for 60 "it succeeds" is $one "$id" succeeded
[ "$(field $one "$id" attempt) $(field $one "$id" deaths)" = "2 1" ] || fail "attempt and deaths"
/mnt/bin/agenticore doctor > /mnt/doctor 2>&1 || { cat /mnt/doctor; fail doctor; }
echo "ok: doctor: $(tail -n 1 /mnt/doctor)"

# From the command to the agent's start in a large repository, its cache warm, beside fetch and worktree add by hand:
# both with the clone on NFS and the files on this machine. Node 2 is dead by now, so each job is node 1's.
large=/mnt/share/large.git hand=/mnt/share/hand.git
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
start() { # REPOSITORY: prints the milliseconds until the agent began
  local began id; rm -f /mnt/begun; began=$(milliseconds)
  id=$(curl -sm60 "$one/jobs" -d "{\"task\": \"[[sleep 1]]\", \"repo_url\": \"$1\"}" | jq -r .job.id)
  wait_for 300 "the agent of $id began" test -e /mnt/begun
  echo $(($(stat -c %.3Y /mnt/begun | tr -d .) - began))
  wait_for 300 "job $id succeeds" is $one "$id" succeeded
}
by_hand() { # N: prints the milliseconds of fetch and worktree add
  local began; began=$(milliseconds)
  git -C $hand fetch -q origin && git -C $hand worktree add -q -b "hand-$1" "/mnt/hand-$1" origin/main || fail "by hand"
  echo $(($(milliseconds) - began)); rm -rf "/mnt/hand-$1"; git -C $hand worktree prune
}
git clone -q --no-checkout $large $hand || fail "the clone by hand"
first=$(start $large) runner=() bare=() small=()
for n in 1 2 3; do bare+=("$(by_hand $n)"); runner+=("$(start $large)") small+=("$(start /mnt/share/remote.git)"); done
echo "ok: 40000 files, 10000 branches over NFS: the agent began after $(median "${runner[@]}") ms (the first, with its clone:" \
  "$first ms); fetch and worktree add by hand: $(median "${bare[@]}") ms;" \
  "in a repository of one file the agent began after $(median "${small[@]}") ms"
echo "ok: all of it"
