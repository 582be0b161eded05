#!/bin/sh
# Brings what this bundle holds to a place without a network. It reaches only what it is told of.
#
#   ./install.sh --check                       the files are those of the bundle
#   ./install.sh --load podman|docker|containerd
#                                              the images, on this machine (containerd: of Kubernetes, k8s.io)
#   ./install.sh --registry HOST[:PORT]/PATH [--plain-http] [--out DIRECTORY]
#                                              the images, to REGISTRY/agenticore; and in DIRECTORY (./agenticore-files)
#                                              the chart's values.yaml, k8s/ and compose/ with that name in them
#   ./install.sh --binary [--prefix DIRECTORY] bin/agenticore alone (/usr/local)
#
# Each checks the sums first. --registry wants skopeo or podman, and a login there (skopeo login, podman login).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "install.sh: $*" >&2; exit 1; }
usage() { echo "install.sh: $*; see ./install.sh --help" >&2; exit 2; }
do='' engine='' registry='' plain='' out=agenticore-files prefix=/usr/local
while [ $# -gt 0 ]; do
  case $1 in
    --check | --binary) do=${1#--}; shift ;;
    --load) [ $# -ge 2 ] || usage "--load needs podman, docker or containerd"; do=load engine=$2; shift 2 ;;
    --registry) [ $# -ge 2 ] || usage "--registry needs HOST/PATH"; do=registry registry=${2%/}; shift 2 ;;
    --plain-http) plain=true; shift ;;
    --out) [ $# -ge 2 ] || usage "--out needs a directory"; out=$2; shift 2 ;;
    --prefix) [ $# -ge 2 ] || usage "--prefix needs a directory"; prefix=$2; shift 2 ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown word $1" ;;
  esac
done
[ -n "$do" ] || usage "say what to do: --check, --load, --registry or --binary"

echo "checking the sums …" >&2
[ -f "$here/SHA256SUMS.all" ] || fail "expected SHA256SUMS.all in $here; unpack the bundle again"
wrong=$(cd "$here" && sha256sum -c --quiet SHA256SUMS.all 2>/dev/null | head -n 3) || true
(cd "$here" && sha256sum -c --quiet SHA256SUMS.all >/dev/null 2>&1) || fail "not what the bundle held: ${wrong:-a file is missing}; copy it again"
version=v$(cat "$here/VERSION")
digest=$(cat "$here/DIGEST")
name=tccw/agenticore

load() { # TAG
  case $engine in
    podman)
      # podman calls what it takes from a layout by the directory's name: here one that every path has.
      id=$(cd "$here" && podman pull -q "oci:images:$name:$1" | tail -n 1)
      podman tag "$id" "docker.io/$name:$1"
      podman untag "$id" localhost/images:latest 2>/dev/null || true ;;
    docker)
      command -v skopeo >/dev/null || fail "--load docker wants skopeo"
      skopeo copy -q "oci:$here/images:$name:$1" "docker-daemon:$name:$1" ;;
    containerd)
      # Under the name that the kubelet asks for.
      tar -C "$here/images" -cf - . | ctr -n k8s.io images import --base-name "docker.io/$name" - >/dev/null ;;
    *) usage "--load knows podman, docker and containerd, not $engine" ;;
  esac
}

push() { # TAG
  if command -v skopeo >/dev/null; then
    skopeo copy -q --preserve-digests ${plain:+--dest-tls-verify=false} "oci:$here/images:$name:$1" "docker://$registry/agenticore:$1"
  elif command -v podman >/dev/null; then
    engine=podman load "$1"
    podman push -q ${plain:+--tls-verify=false} "docker.io/$name:$1" "docker://$registry/agenticore:$1"
  else
    fail "--registry wants skopeo or podman"
  fi
}

case $do in
  check) echo "all files are those of the bundle, $version" ;;
  binary) exec "$here/bin/install.sh" --prefix "$prefix" ;;
  load)
    command -v "$([ "$engine" = containerd ] && echo ctr || echo "$engine")" >/dev/null || fail "$engine is not here"
    for tag in "$version" "$version-scratch"; do load "$tag"; echo "loaded docker.io/$name:$tag"; done ;;
  registry)
    case $registry in *://*) usage "--registry is HOST/PATH without https://" ;; */*) ;; *) usage "--registry needs HOST/PATH, such as registry.corp/tools" ;; esac
    [ ! -e "$out" ] || fail "$out is there already: remove it, or give --out another directory"
    mkdir -p "$out" || fail "cannot make $out"
    for tag in "$version" "$version-scratch"; do push "$tag"; echo "pushed $registry/agenticore:$tag"; done
    cp -r "$here/k8s" "$here/compose" "$here"/chart/*.tgz "$out/"
    sed -i "s|agenticore:latest|$registry/agenticore:$version|g" "$out/k8s/statefulset.yaml"
    sed -i "s|\${AGENTICORE_IMAGE:-[^}]*}|$registry/agenticore:$version|" "$out"/compose/*.yml
    printf 'image:\n  repository: %s\n  tag: %s\n  digest: %s\n' "$registry/agenticore" "$version" "$digest" > "$out/values.yaml"
    echo "in $out: helm install agenticore $out/$(basename "$here"/chart/*.tgz) -f $out/values.yaml" ;;
esac
