#!/usr/bin/env bash
# Builds both images, with docker (BuildKit), podman or buildah, whichever is there.
#
#   scripts/images.sh                      localhost/agenticore:VERSION, vVERSION, latest; each also with -scratch
#   scripts/images.sh --push REPOSITORY    a release: the same names in REPOSITORY, pushed, their digests printed.
#                                          Refused unless BUILDER and BASE are pinned by digest.
#
# Variables: CONTAINER_ENGINE, BUILDER and BASE (base images), NPM_REGISTRY, PIP_INDEX_URL, BUILD_CA (certificates
# that the builder's network wants), BUILD_APT (a sources.list), BUILD_CARGO (a cargo configuration), TARGETS,
# INSECURE_REGISTRY=true (a registry that speaks http), NO_CACHE=true.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
repository=localhost/agenticore push=
case "${1:-}" in
  '') ;;
  --push) push=true repository=${2:?"scripts/images.sh --push needs a REPOSITORY, such as docker.io/tccw/agenticore"} ;;
  *) say "scripts/images.sh knows --push REPOSITORY, not $1"; exit 2 ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision=$revision-dirty
# The time of the last commit, so that the same sources give the same layers.
timestamp=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
builder=${BUILDER:-$(sed -n 's/^ARG BUILDER=//p' Dockerfile)}
base=${BASE:-$(sed -n 's/^ARG BASE=//p' Dockerfile)}

if [ -n "$push" ]; then
  for pair in "BUILDER=$builder" "BASE=$base"; do
    if ! [[ ${pair#*=} =~ @sha256:[0-9a-f]{64}$ ]]; then
      say "a release needs base images pinned by digest, and ${pair%%=*} is ${pair#*=}: set ${pair%%=*}=NAME@sha256:…"
      exit 2
    fi
  done
fi

engine=${CONTAINER_ENGINE:-}
for candidate in docker podman buildah; do
  [ -n "$engine" ] && break
  case $candidate in
    docker) docker info >/dev/null 2>&1 && engine=docker ;;
    *) command -v $candidate >/dev/null && engine=$candidate ;;
  esac
done || true
[ -n "$engine" ] || { say "no container engine is here: install docker, podman or buildah"; exit 1; }

options=(--build-arg "BUILDER=$builder" --build-arg "BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
for name in NPM_REGISTRY PIP_INDEX_URL AGENTIHOOKS_VERSION; do
  [ -z "${!name:-}" ] || options+=(--build-arg "$name=${!name}")
done
for pair in ca:BUILD_CA apt:BUILD_APT cargo:BUILD_CARGO; do
  variable=${pair#*:}
  [ -z "${!variable:-}" ] || options+=(--secret "id=${pair%%:*},src=${!variable}")
done
[ "${NO_CACHE:-}" != true ] || options+=(--no-cache)
[ "${BUILD_NETWORK:-}" = "" ] || options+=(--network "$BUILD_NETWORK")
insecure=()
case $engine in
  docker) build=(docker build); export DOCKER_BUILDKIT=1 ;;
  podman) build=(podman build --format docker --timestamp "$timestamp") ;;
  buildah) build=(buildah build --format docker --timestamp "$timestamp") ;;
esac
if [ "${INSECURE_REGISTRY:-}" = true ] && [ "$engine" != docker ]; then
  insecure=(--tls-verify=false); build+=(--tls-verify=false)
fi

for target in ${TARGETS:-agenticore claude}; do
  suffix=; [ "$target" = claude ] || suffix=-scratch
  tags=("$repository:$version$suffix" "$repository:v$version$suffix" "$repository:latest$suffix")
  say "building $target as ${tags[*]} with $engine …"
  "${build[@]}" "${options[@]}" --target "$target" "${tags[@]/#/--tag=}" . >&2
  for tag in "${tags[@]}"; do
    if [ -z "$push" ]; then printf '%s\n' "$tag"; continue; fi
    case $engine in
      docker)
        docker push -q "$tag" >&2
        digest=$(docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tag" | grep "^$repository@" | head -n 1 | cut -d@ -f2) ;;
      *)
        note=$(mktemp)
        $engine push -q "${insecure[@]}" --digestfile "$note" "$tag" >&2
        digest=$(cat "$note"); rm -f "$note" ;;
    esac
    printf '%s@%s\n' "$tag" "$digest"
  done
done
