#!/usr/bin/env bash
# Installs the Python libraries that tests read our answers with, each of one version, into target/tools/: those of whom
# the formats are. Run again it does nothing. Prints the path of their python as its last line.
set -euo pipefail
cd "$(dirname "$0")/.."
edition=3 # rises when a version below changes
libraries=(prometheus-client==0.26.0 schemathesis==4.32.5 standardwebhooks==1.1.0 opentelemetry-proto==1.45.2)
say() { printf '%s\n' "$*" >&2; }

mkdir -p target/tools
exec 9>target/tools/.python-tools.lock
flock 9
tools=$PWD/target/tools/python-$edition
if [ ! -e "$tools/done" ]; then
  if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -m ensurepip --version >/dev/null 2>&1; then
    say "installing python3-venv …"
    [ "$(id -u)" = 0 ] || { say "that needs root: install python3-venv yourself, or run this as root"; exit 1; }
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends python3-venv >&2
  fi
  say "fetching ${libraries[*]} from PyPI …"
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "${libraries[@]}" >&2
  : >"$tools/done"
fi
printf '%s\n' "$tools/bin/python3"
