#!/usr/bin/env bash
# Tests of the images, the chart, the manifests and Compose. `scripts/test-deploy.sh quick`: what runs anywhere as root
# in two minutes (CI does). Without a word: also the images, built and run, a registry, and Compose (half an hour the
# first time; root, Debian). DEPLOY_REPRODUCE=1 also builds the scratch image twice.
set -euo pipefail
cd "$(dirname "$0")/.."
part=${1:-all}
case $part in quick | all) ;; *) echo "scripts/test-deploy.sh takes quick, or nothing, not $part" >&2; exit 2 ;; esac
if [ "$(id -u)" != 0 ]; then echo "SKIPPED: the deployment tests need root" >&2; exit 1; fi
eval "$(scripts/deploy-tools.sh "$part")"
cargo build --bins
export AGENTICORE_BINARY=$PWD/target/debug/agenticore PYTHONWARNINGS=ignore::ResourceWarning
hadolint --ignore DL3008 --ignore DL3006 --ignore DL3059 Dockerfile
modules=(test_chart test_keda test_pods test_document test_systemd test_install test_network)
if [ "$part" = all ]; then
  if ! podman image exists localhost/debian:bookworm-slim; then
    base=target/tools/deploy/debian-bookworm.tar
    [ -f "$base" ] || tests/deploy/base-image.sh "$base"
    podman import -q "$base" localhost/debian:bookworm-slim
  fi
  modules+=(test_systemd_boot test_images test_compose test_bundle)
fi
log=$(mktemp)
status=0
(cd tests/deploy && python3 -m unittest -v "${modules[@]}") 2>&1 | tee "$log" || status=$?
# A closing line that can be counted.
total=$(sed -n 's/^Ran \([0-9]*\) tests.*/\1/p' "$log" | tail -n 1)
count() { sed -n "s/.*[( ]$1=\([0-9]*\).*/\1/p" "$log" | tail -n 1; }
failed=$(($(count failures || true) + $(count errors || true) + 0)) skipped=$(($(count skipped || true) + 0))
rm -f "$log"
echo "deploy: $((${total:-0} - failed - skipped)) passed, $failed failed, $skipped skipped"
exit "$status"
