#!/usr/bin/env bash
# Every crate's sources in DIRECTORY (target/vendor), and what builds with them and no network:
#
#   scripts/vendor.sh [DIRECTORY]       then, elsewhere: cargo build --release --offline --locked --config DIRECTORY/config.toml
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in -*) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
directory=$(realpath -m -- "${1:-$top/target/vendor}")
cd "$top"
# cargo removes whatever else lies there.
if [ -e "$directory" ] && ! grep -qsxF "directory = \"$directory\"" "$directory/config.toml" && [ -n "$(ls -A "$directory")" ]; then
  echo "$directory holds something else: give vendor.sh a directory that is not there yet" >&2
  exit 1
fi
mkdir -p "$(dirname "$directory")"
cargo vendor --locked --quiet --versioned-dirs "$directory" >/dev/null
printf '[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "%s"\n' "$directory" > "$directory/config.toml"
echo "$directory: $(find "$directory" -mindepth 1 -maxdepth 1 -type d | wc -l) crates; build with: cargo build --release --offline --locked --config $directory/config.toml"
