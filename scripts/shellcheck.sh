#!/usr/bin/env bash
# Looks at each shell script by shellcheck, which it installs from the distribution where it is missing and may.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v shellcheck >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "shellcheck is missing, and installing it needs root: install it, then run this again" >&2; exit 1; }
  echo "installing shellcheck …" >&2
  apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends shellcheck >&2
fi
# Without the history (an archive of the sources) the same files by their names.
mapfile -t scripts < <({ git ls-files '*.sh' .ci/run 2>/dev/null || find .ci/run scripts tests -name '*.sh' -o -path .ci/run; } | sort -u)
[ ${#scripts[@]} -gt 0 ] || { echo "expected shell scripts, found none" >&2; exit 1; }
shellcheck -x -S warning "${scripts[@]}"
