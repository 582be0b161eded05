#!/usr/bin/env bash
# A fleet over real NFS: an NFSv4.1 server and a Redis here, and two User-Mode-Linux machines, each with
# a kernel NFS client of its own, attribute caching on. `make nfs`; needs root on Debian, installs
# what it needs, touches no network but its own namespace, and ends by itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "SKIPPED: make nfs needs root" >&2; exit 1; }
packages=(user-mode-linux nfs-ganesha nfs-ganesha-vfs nfs-common iproute2 busybox kmod ethtool curl jq redis-server git)
dpkg -s "${packages[@]}" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >&2
cargo build --release --bins --examples

place=$(mktemp -d) net=agenticore-nfs-$$ started=()
clean_up() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in $(ip netns pids "$net" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
  sleep 0.3; ip netns del "$net" 2>/dev/null || true; rm -rf "$place"
}
trap clean_up EXIT
ip netns add "$net"
ip -n "$net" link set lo up
ip -n "$net" link add bridge type bridge
ip -n "$net" addr add 10.77.0.1/24 dev bridge
ip -n "$net" link set bridge up

mkdir -p "$place/export" "$place/modules/lib" /var/run/ganesha /var/lib/nfs/ganesha
ln -sfn /usr/lib/uml/modules "$place/modules/lib/modules"
cat > "$place/ganesha.conf" <<CONF
NFS_CORE_PARAM { Protocols = 4; NFS_Port = 2049; Bind_addr = 10.77.0.1; Enable_RQUOTA = false; }
NFSV4 { Grace_Period = 5; Lease_Lifetime = 10; Graceless = true; RecoveryBackend = fs; }
EXPORT { Export_Id = 1; Path = $place/export; Pseudo = /share; Access_Type = RW; Squash = No_Root_Squash;
         Transports = TCP; SecType = sys; FSAL { Name = VFS; } }
LOG { Default_Log_Level = WARN; }
CONF
ip netns exec "$net" ganesha.nfsd -F -f "$place/ganesha.conf" -L "$place/ganesha.log" -p "$place/ganesha.pid" & started+=($!)
ip netns exec "$net" redis-server --bind 10.77.0.1 --protected-mode no --save '' --appendonly yes --dir "$place" >/dev/null & started+=($!)
for _ in $(seq 100); do ip netns exec "$net" bash -c 'exec 3<>/dev/tcp/10.77.0.1/2049' 2>/dev/null && break; sleep 0.1; done

git init -q --bare -b main "$place/export/remote.git"
git init -q -b main "$place/tree"
echo one > "$place/tree/README.md"
git -C "$place/tree" add -A
git -C "$place/tree" -c user.name=t -c user.email=t@localhost commit -q -m one
git -C "$place/tree" push -q "$place/export/remote.git" main
# A large one for the cost of a job's start: 40 000 files, 10 000 branches.
git init -q --bare -b main "$place/export/large.git"
{ echo 'commit refs/heads/main'; echo 'committer t <t@localhost> 1700000000 +0000'; echo 'data 3'; echo one
  awk 'BEGIN { for (n = 0; n < 40000; n++) { text = "file " n "\n"
    printf "M 100644 inline d%d/e%d/f%d.txt\ndata %d\n%s\n", n % 40, n % 1000, n, length(text), text } }'
  awk 'BEGIN { for (n = 0; n < 10000; n++) printf "reset refs/heads/b%d\nfrom refs/heads/main\n\n", n }'
} | git -C "$place/export/large.git" fast-import --quiet
git -C "$place/export/large.git" pack-refs --all
mkdir -p "$place/export/shared" "$place/export/bin"
cp target/release/agenticore target/release/examples/scripted-agent "$place/export/bin/"
cp tests/nfs/node.sh tests/nfs/scenario.sh "$place/export/"

cat > "$place/init.sh" <<INIT
#!/bin/bash
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /mnt; mkdir -p /mnt/share
export NODE=\$(sed 's/.*node=\([0-9]*\).*/\1/' /proc/cmdline)
hostname node\$NODE; ip link set lo up; ip link set vec0 up; ip addr add 10.77.0.1\$NODE/24 dev vec0
modprobe -d $place/modules nfsv4
mount -t nfs -o vers=4.1,hard,nolock 10.77.0.1:/share /mnt/share || mount -t nfs -o vers=4.1,hard 10.77.0.1:/share /mnt/share
grep /mnt/share /proc/mounts
bash /mnt/share/node.sh
/usr/bin/busybox halt -f
INIT
chmod +x "$place/init.sh"
nodes=()
ip netns exec "$net" ethtool -K bridge tx off sg off tso off gso off gro off >/dev/null 2>&1 || true
for n in 1 2; do
  ip -n "$net" tuntap add "tap$n" mode tap
  ip -n "$net" link set "tap$n" master bridge up
  # The machines take single frames only; larger ones would be dropped, and sent again, slowly.
  ip netns exec "$net" ethtool -K "tap$n" tx off sg off tso off gso off gro off >/dev/null 2>&1 || true
  ip netns exec "$net" timeout 800 linux.uml mem=1200M umid="a$$-$n" root=/dev/root rootfstype=hostfs rootflags=/ ro \
    init="$place/init.sh" node="$n" "vec0:transport=tap,ifname=tap$n,depth=64,mac=02:00:00:00:77:0$n" \
    con=null con0=null,fd:1 con1=null,fd:1 quiet </dev/null > "$place/node$n.log" 2>&1 & nodes+=($!)
done
for pid in "${nodes[@]}"; do wait "$pid" || true; done
sed 's/\r$//' "$place/node1.log" | grep -E "^(ok|FAIL|mount|10\.77)" || true
if ! grep -q "^ok: all of it" "$place/node1.log"; then
  for n in 1 2; do echo "== node $n"; tail -n 40 "$place/node$n.log"; done
  exit 1
fi
