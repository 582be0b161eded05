#!/usr/bin/env bash
# Builds the version before this one, for `make versions`: the newest release tag, or, while nothing is released, the
# commit that the promise of upgrades began at. Prints where the binary is. Needs the history.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=${1:-$(git describe --tags --abbrev=0 --match 'v*' 'HEAD^' 2>/dev/null || echo bb2acb088751)}
git cat-file -e "$commit^{commit}" 2>/dev/null || { echo "this checkout has no history of $commit: clone it whole (git fetch --unshallow)" >&2; exit 1; }
commit=$(git rev-parse --short=12 "$commit^{commit}")
binary=$PWD/target/older/$commit
if [ ! -x "$binary" ]; then
  echo "building $commit …" >&2
  sources=$(mktemp -d)
  trap 'rm -rf "$sources"' EXIT
  git archive "$commit" | tar -x -C "$sources"
  CARGO_TARGET_DIR=$PWD/target/older/build cargo build --quiet --locked --manifest-path "$sources/Cargo.toml" --bin agenticore >&2
  cp target/older/build/debug/agenticore "$binary.new"
  mv "$binary.new" "$binary"
fi
echo "$binary"
