#!/usr/bin/env bash
# Installs the real agentihooks from PyPI, which a test uses, into target/tools/. Run again it does nothing. Prints the
# directory of its command as the last line.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.17.0 # as in the Dockerfile
mkdir -p target/tools
exec 9>target/tools/.agentihooks.lock
flock 9
tools=$PWD/target/tools/agentihooks-$version
if [ ! -e "$tools/done" ]; then
  if ! python3 -m ensurepip --version >/dev/null 2>&1; then
    echo "installing python3-venv …" >&2
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends python3-venv >&2
  fi
  echo "fetching agentihooks $version from PyPI …" >&2
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "agentihooks==$version" >&2
  : >"$tools/done"
fi
echo "$tools/bin"
