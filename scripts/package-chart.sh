#!/usr/bin/env bash
# Packages the chart: scripts/package-chart.sh VERSION DIRECTORY [DIGEST [REPOSITORY]]
# VERSION is without a v. DIGEST (sha256:…) is that of the `claude` image vVERSION in REPOSITORY (tccw/agenticore):
# the chart then uses that very image, until somebody names another repository or tag.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
version=${1:?"a version, such as 0.2.0"} directory=${2:?"a directory for the package"} digest=${3:-} repository=${4:-tccw/agenticore}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || { echo "VERSION must be X.Y.Z, not $version" >&2; exit 2; }
[[ -z $digest || $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "DIGEST must be sha256:…, not $digest" >&2; exit 2; }
copy=$(mktemp -d); trap 'rm -rf "$copy"' EXIT
cp -r "$here/charts/agenticore" "$copy/agenticore"
for values in values.yaml files/defaults.yaml; do
  sed -i -e "s|^  tag: latest$|  tag: v$version|" -e "s|^  repository: tccw/agenticore$|  repository: $repository|" "$copy/agenticore/$values"
done
sed -i "s|^appVersion: .*|appVersion: v$version|" "$copy/agenticore/Chart.yaml"
if [ -n "$digest" ]; then
  sed -i "s|agenticore/pinned-image: \"\"|agenticore/pinned-image: \"$repository:v$version@$digest\"|" "$copy/agenticore/Chart.yaml"
fi
"${HELM:-helm}" package "$copy/agenticore" --version "$version" --app-version "v$version" --destination "$directory"
