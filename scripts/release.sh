#!/usr/bin/env bash
# A release of this checkout in target/release-files/: the static binary with the unit, install.sh, licence, changelog and
# an SBOM (CycloneDX) in one archive, and SHA256SUMS beside it. The version is Cargo.toml's; CHANGELOG.md has to have a
# section for it. For x86-64 and arm64 alike where a cross compiler is to be had (it is said if not); RELEASE_ARCHES=own:
# for this machine's processor alone.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -q "^## $version\b" CHANGELOG.md || { echo "CHANGELOG.md has no section \`## $version\`: write it first" >&2; exit 1; }
if [ -n "$(git status --porcelain 2>/dev/null)" ] && [ "${RELEASE_DIRTY:-}" != 1 ]; then
  echo "this checkout has changes that are not committed: commit them first, or set RELEASE_DIRTY=1 to try it" >&2
  exit 1
fi
out=target/release-files
rm -rf "$out" && mkdir -p "$out"
when=$(git log -1 --format=%ct 2>/dev/null || echo 0)

archive() { # ARCH BINARY
  local name=agenticore-$version-linux-$1
  mkdir "$out/$name"
  cp LICENSE CHANGELOG.md scripts/install.sh deploy/systemd/agenticore.service "$out/$name/"
  cp "$2" "$out/$name/agenticore"
  scripts/sbom.py "$1-unknown-linux-musl" > "$out/$name/sbom.cdx.json"
  (cd "$out/$name" && sha256sum -- * > SHA256SUMS)
  # The same files give the same archive.
  tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" -cf - "$name" | gzip -n9 > "$out/$name.tar.gz"
  cp "$out/$name/sbom.cdx.json" "$out/$name.sbom.cdx.json"
  rm -r "${out:?}/$name"
}

own=$(uname -m)
case $own in
  x86_64) other=aarch64 ;;
  *) other=x86_64 ;;
esac
scripts/static.sh
archive "$own" target/static/agenticore
if [ "${RELEASE_ARCHES:-both}" = both ] && ARCH=$other scripts/static.sh; then
  archive "$other" "target/static/agenticore-$other"
else
  echo "not in it: linux-$other; run this on such a machine, or where a cross compiler is to be had" >&2
fi
(cd "$out" && sha256sum -- *.tar.gz *.json > SHA256SUMS)
echo "in $out:" >&2
cat "$out/SHA256SUMS"
