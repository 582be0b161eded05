#!/usr/bin/env bash
# One archive for a network that reaches nothing: target/bundle/agenticore-VERSION-bundle-linux-ARCH.tar, with both images
# (one OCI layout), the chart, the raw manifests, Compose, the static binary's release, the documentation, an SBOM, sums,
# and an install.sh that needs no network.
#
# Builds the images first (scripts/images.sh and its variables); and the binary; BUNDLE_BUILD=no takes those that are there. Wants skopeo.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
name=agenticore-$version-bundle-linux-$arch
out=target/bundle
if ! command -v skopeo >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { say "skopeo is not here: install it"; exit 1; }
  say "installing skopeo …"
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends skopeo >&2
fi
helm=${HELM:-helm}
command -v "$helm" >/dev/null || { say "helm is not here: install it, or set HELM"; exit 1; }
if [ "${BUNDLE_BUILD:-}" != no ]; then
  scripts/images.sh >/dev/null
  scripts/static.sh
fi
[ -x target/static/agenticore ] || { say "there is no target/static/agenticore: make static"; exit 1; }

rm -rf "$out" && mkdir -p "$out/$name/images" "$out/$name/chart" "$out/$name/bin"
place=$out/$name
storage=containers-storage
[ "${CONTAINER_ENGINE:-}" != docker ] || storage=docker-daemon
for suffix in "" -scratch; do
  say "taking localhost/agenticore:v$version$suffix …"
  skopeo copy -q "$storage:localhost/agenticore:v$version$suffix" "oci:$place/images:tccw/agenticore:v$version$suffix"
done
# The digest of the very bytes that install.sh loads and pushes.
digest=$(skopeo inspect --format '{{.Digest}}' "oci:$place/images:tccw/agenticore:v$version")
HELM=$helm scripts/package-chart.sh "$version" "$place/chart" "$digest" >/dev/null
cp -r k8s compose docs "$place/"
cp target/static/agenticore scripts/install.sh "$place/bin/"
(cd "$place/bin" && sha256sum -- agenticore install.sh > SHA256SUMS)
mkdir "$place/scripts" && cp scripts/backup.sh scripts/restore.sh scripts/ask-redis.sh "$place/scripts/"
cp LICENSE CHANGELOG.md README.md "$place/"
cp scripts/bundle-install.sh "$place/install.sh"
scripts/sbom.py "$(uname -m)-unknown-linux-musl" > "$place/sbom.cdx.json"
printf '%s\n' "$version" > "$place/VERSION"
printf '%s\n' "$digest" > "$place/DIGEST"
(cd "$place" && find . -type f ! -name SHA256SUMS.all -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum -- > SHA256SUMS.all)
when=$(git log -1 --format=%ct 2>/dev/null || echo 0)
# The layers are compressed already.
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" -cf "$out/$name.tar" "$name"
rm -r "${place:?}"
(cd "$out" && sha256sum -- "$name.tar" > SHA256SUMS)
say "$out/$name.tar: $(($(stat -c %s "$out/$name.tar") / 1048576)) MiB"
echo "$out/$name.tar"
