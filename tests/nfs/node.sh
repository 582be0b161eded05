#!/bin/bash
# On each machine: a pod on the shared volume. Node 1 plays the scenario; node 2 can be killed by a file.
set -u
mkdir -p /mnt/home /mnt/tmp /mnt/bin
cp /mnt/share/bin/* /mnt/bin/
# The agent tells when it was started, for who measures it.
printf '#!/bin/sh\n: > /mnt/begun\nexec /mnt/bin/scripted-agent "$@"\n' > /mnt/bin/agent; chmod +x /mnt/bin/agent
export HOME=/mnt/home TMPDIR=/mnt/tmp AGENTICORE_HOST=0.0.0.0 AGENTICORE_PORT=8200 AGENTICORE_POD_NAME=node-$NODE \
  AGENTICORE_SHARED_FS_ROOT=/mnt/share/shared AGENTICORE_JOBS_DIR=/mnt/share/shared/job-state \
  AGENTICORE_REPOS_ROOT=/mnt/share/shared/repos AGENTICORE_WORKTREE_ROOT=/mnt/worktrees \
  AGENTICORE_CLAUDE_BINARY=/mnt/bin/agent AGENTICORE_ALLOW_LOCAL_REPOS=true REDIS_URL=redis://10.77.0.1:6379
serve() { /mnt/bin/agenticore serve 2> /mnt/log & server=$!; }
serve
if [ "$NODE" = 1 ]; then
  bash /mnt/share/scenario.sh
  touch /mnt/share/done
else
  while [ ! -e /mnt/share/done ]; do
    if [ -e /mnt/share/kill-2 ]; then kill -9 $server; wait $server; rm /mnt/share/kill-2; fi
    sleep 0.5
  done
fi
kill $server; wait $server
echo "node$NODE: server ended with $?"; tail -n 20 /mnt/log
