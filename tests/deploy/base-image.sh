#!/usr/bin/env bash
# A Debian base image without any registry: tests/deploy/base-image.sh FILE.tar writes one that `podman import` and
# `docker import` take, like debian:bookworm-slim. Where a registry can be reached nobody needs it.
set -euo pipefail
out=$1 sources=$(mktemp); trap 'rm -f "$sources"' EXIT
for suites in "debian bookworm bookworm-updates" "debian-security bookworm-security"; do
  set -- $suites
  printf 'Types: deb\nURIs: http://deb.debian.org/%s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n' \
    "$1" "${*:2}"
done > "$sources"
SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=minbase --mode=root --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt=force-unsafe-io \
  --customize-hook='rm -rf "$1/etc/apt/sources.list" "$1/etc/resolv.conf" "$1/etc/hostname" "$1"/etc/apt/sources.list.d/0000*' \
  --customize-hook="upload $sources /etc/apt/sources.list.d/debian.sources" \
  --customize-hook='chmod 644 "$1/etc/apt/sources.list.d/debian.sources"' bookworm "$out" "$sources"
