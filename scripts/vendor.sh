#!/usr/bin/env bash
# Every crate's sources in DIRECTORY (target/vendor), and what builds with them and no network:
#
#   scripts/vendor.sh [DIRECTORY]       then, elsewhere: cargo build --release --offline --locked --config DIRECTORY/config.toml
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$(realpath -m "${1:-target/vendor}")
mkdir -p "$(dirname "$directory")"
cargo vendor --locked --quiet --versioned-dirs "$directory" >/dev/null
printf '[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "%s"\n' "$directory" > "$directory/config.toml"
echo "$directory: $(find "$directory" -mindepth 1 -maxdepth 1 -type d | wc -l) crates; build with: cargo build --release --offline --locked --config $directory/config.toml"
