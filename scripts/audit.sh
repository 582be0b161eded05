#!/usr/bin/env bash
# What this depends on, by deny.toml: licences, sources, bans; and known holes, where the network has the list of them.
# Builds cargo-deny into target/tools/ the first time (minutes).
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.18.4
tools=$PWD/target/tools/cargo-deny-$version
if [ ! -x "$tools/bin/cargo-deny" ]; then
  echo "building cargo-deny $version (minutes, once) …" >&2
  cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny
fi
export PATH=$tools/bin:$PATH
cargo deny --all-features check licenses bans sources
if ! cargo deny --all-features check advisories; then
  echo "known holes: found one, or the list of them cannot be had from here; see above" >&2
  exit 1
fi
