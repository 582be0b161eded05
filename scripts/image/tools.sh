#!/bin/sh
# Installs into the `claude` image what the work needs besides the binary and Claude Code.
set -eu
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
  bash ca-certificates coreutils curl diffutils file findutils gawk git git-lfs grep gzip jq less openssh-client patch \
  procps python3 python3-venv ripgrep sed tar unzip xz-utils
# Debian sets git-lfs's filters for the whole system. The server sets them where they are wanted: with
# AGENTICORE_LFS=skip they would fail for want of a login.
git lfs uninstall --system
# GitHub's own, so that git@github.com:… is not refused (https://api.github.com/meta publishes them).
printf '%s\n' \
  'github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl' \
  'github.com ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=' \
  >> /etc/ssh/ssh_known_hosts
if [ -n "${AGENTIHOOKS_VERSION:-}" ]; then
  python3 -m venv /opt/agentihooks
  /opt/agentihooks/bin/pip install -q --no-cache-dir --no-compile --disable-pip-version-check "agentihooks==$AGENTIHOOKS_VERSION"
  ln -s /opt/agentihooks/bin/agentihooks /usr/local/bin/agentihooks
fi
# The name of uid 1000; other uids have none, and need none but for ssh.
printf '%s\n' 'agenticore:x:1000:0:agenticore:/home/agenticore:/bin/bash' >> /etc/passwd
rm -rf /var/lib/apt/lists/* /var/log/* /root/.cache /tmp/*
