#!/usr/bin/env bash
# A release into a registry: both images, then the chart that names the `claude` image by its digest.
#
#   scripts/publish.sh REGISTRY        make publish REGISTRY=ghcr.io/the-cloud-clock-work
#
# Makes REGISTRY/agenticore:vVERSION (and VERSION, latest; each with -scratch) and oci://REGISTRY/charts/agenticore.
# Log in to it first (docker login, helm registry login). Refused with changes that are not committed, without a section
# of CHANGELOG.md, and unless BUILDER and BASE are pinned by digest (see scripts/images.sh for more variables).
# HELM: the helm to use. INSECURE_REGISTRY=true: a registry that speaks http.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:-}
[ -n "$registry" ] || { echo "publish wants a registry: make publish REGISTRY=ghcr.io/OWNER" >&2; exit 2; }
case $registry in -* | *://*) echo "REGISTRY is HOST/OWNER, such as ghcr.io/OWNER, not $registry" >&2; exit 2 ;; esac
registry=${registry%/}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -q "^## $version\b" CHANGELOG.md || { echo "CHANGELOG.md has no section \`## $version\`: write it first" >&2; exit 1; }
if [ -n "$(git status --porcelain 2>/dev/null)" ] && [ "${RELEASE_DIRTY:-}" != 1 ]; then
  echo "this checkout has changes that are not committed: commit them first, or set RELEASE_DIRTY=1 to try it" >&2
  exit 1
fi
helm=${HELM:-helm}
command -v "$helm" >/dev/null || { echo "helm is not here: install it, or set HELM" >&2; exit 1; }
plain=(); [ "${INSECURE_REGISTRY:-}" != true ] || plain=(--plain-http)

# The images first: a chart that is there names images that are there.
pushed=$(scripts/images.sh --push "$registry/agenticore")
digest=$(printf '%s\n' "$pushed" | sed -n "s|^$registry/agenticore:v$version@||p")
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "the digest of $registry/agenticore:v$version is not among what was pushed" >&2; exit 1; }
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
HELM=$helm scripts/package-chart.sh "$version" "$place" "$digest" "$registry/agenticore" >&2
"$helm" push "$place/agenticore-$version.tgz" "oci://$registry/charts" "${plain[@]}" >&2
printf '%s\n' "$pushed"
echo "oci://$registry/charts/agenticore --version $version"
