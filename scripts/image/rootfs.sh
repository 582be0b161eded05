#!/bin/sh
# Lays out, in /rootfs, what the images hold of ours: /rootfs/both for each, /rootfs/scratch for the one that has
# nothing else. Owners and modes are made here, because a COPY of a whole tree keeps them everywhere.
set -eu
both=/rootfs/both scratch=/rootfs/scratch
install -d -m 755 "$both/usr/local/bin" "$scratch/etc/ssl/certs"
install -m 755 target/static/agenticore "$both/agenticore"
ln -s /agenticore "$both/usr/local/bin/agenticore"
# Any uid in group 0 may write, and so may the next one: what is made inside belongs to group 0 as well.
for place in /shared /app/worktrees /data /home/agenticore /home/agenticore/.agenticore/jobs /home/agenticore/agenticore-repos; do
  install -d -o 1000 -g 0 -m 2775 "$both$place"
done
chown 1000:0 "$both/home/agenticore/.agenticore" && chmod 2775 "$both/home/agenticore/.agenticore"
install -d -m 1777 "$scratch/tmp"
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'agenticore:x:1000:0:agenticore:/home/agenticore:/sbin/nologin' \
  'nobody:x:65534:65534:nobody:/:/sbin/nologin' > "$scratch/etc/passwd"
printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > "$scratch/etc/group"
install -m 644 /etc/ssl/certs/ca-certificates.crt "$scratch/etc/ssl/certs/ca-certificates.crt"
