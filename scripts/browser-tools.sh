#!/usr/bin/env bash
# Installs what the page is tested with: Chromium from the distribution, and playwright-core and axe-core from npm, each
# of one version, into target/tools/. Run again it does nothing. Prints their directory as its last line.
set -euo pipefail
cd "$(dirname "$0")/.."
edition=1 # rises when a version below changes
playwright=1.65.1 axe=4.14.1
say() { printf '%s\n' "$*" >&2; }

mkdir -p target/tools
exec 9>target/tools/.browser-tools.lock
flock 9
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]} …"
  [ "$(id -u)" = 0 ] || { say "that needs root: install them yourself, or run this as root"; exit 1; }
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
tools=$PWD/target/tools/browser-$edition
if [ ! -e "$tools/done" ]; then
  say "fetching playwright-core $playwright and axe-core $axe from npm …"
  rm -rf "$tools"
  mkdir -p "$tools"
  echo '{"private": true, "type": "module"}' >"$tools/package.json"
  npm install --silent --no-audit --no-fund --prefix "$tools" "playwright-core@$playwright" "axe-core@$axe" >&2
  : >"$tools/done"
fi
printf '%s\n' "$tools"
