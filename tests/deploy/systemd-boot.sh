#!/bin/bash
# Boots this machine's own systemd in namespaces, over a copy of the root directory that goes away with it, and runs
# one script in it: systemd-boot.sh UNIT BINARY SCRIPT DIRECTORY (of what the script needs and leaves, at /try).
# Root, and cgroups of version 1 or 2.
set -euo pipefail
if [ "${1:-}" != --inside ]; then
  top=$(mktemp -d /var/tmp/systemd-boot.XXXXXX)
  trap 'rmdir "$top"' EXIT
  timeout 120 unshare -p -m -u -i -n -C --fork --mount-proc --propagation private "$0" --inside "$top" "$@"
  exit
fi
top=$2 unit=$3 binary=$4 script=$5 directory=$6
mount -t tmpfs tmpfs "$top"
mkdir "$top"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
cd "$top/root"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mount -t sysfs sysfs sys -o ro
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd systemd sys/fs/cgroup/systemd
  for controller in cpu cpuacct memory pids; do
    mkdir "sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" "$controller" "sys/fs/cgroup/$controller" || rmdir "sys/fs/cgroup/$controller"
  done
fi
# Nothing of this machine's own starts there.
rm -f etc/systemd/system/*.wants/*
mkdir -p try etc/agenticore etc/systemd/system/multi-user.target.wants
mount --bind "$directory" try
cp "$unit" etc/systemd/system/agenticore.service
install -m 755 "$binary" usr/local/bin/agenticore
cp "$script" usr/local/bin/try-it
chmod 755 usr/local/bin/try-it
cat > etc/systemd/system/try.service <<'U'
[Service]
Type=oneshot
Environment=HOME=/root
StandardOutput=file:/try/said
StandardError=file:/try/said
ExecStart=/usr/local/bin/try-it
ExecStopPost=/bin/systemctl exit 0
U
ln -s ../try.service etc/systemd/system/multi-user.target.wants/try.service
ip link set lo up
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --system \
  --unit=multi-user.target --log-target=null --show-status=false
