#!/bin/sh
# Installs agenticore from an unpacked release, or from a release's archive, on this machine. Needs no network.
#
#   ./install.sh [--prefix DIRECTORY] [ARCHIVE]
#
# ARCHIVE: agenticore-VERSION-linux-ARCH.tar.gz; a file SHA256SUMS beside it is checked. Without one: the files beside
# this script. --prefix: where bin/agenticore goes (/usr/local).
set -eu
prefix=/usr/local archive=
fail() { echo "install.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) [ $# -ge 2 ] || fail "--prefix needs a directory"; prefix=$2; shift 2 ;;
    --prefix=*) prefix=${1#--prefix=}; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "install.sh: unknown flag $1: known is --prefix" >&2; exit 2 ;;
    *) [ -z "$archive" ] || { echo "install.sh: one archive, not two" >&2; exit 2; }; archive=$1; shift ;;
  esac
done

if [ -n "$archive" ]; then
  [ -f "$archive" ] || fail "there is no $archive"
  place=$(cd "$(dirname "$archive")" && pwd) name=$(basename "$archive")
  [ -f "$place/SHA256SUMS" ] || fail "expected $place/SHA256SUMS beside the archive; fetch it from the same release"
  line=$(grep -E "^[0-9a-f]{64}  $name\$" "$place/SHA256SUMS") || fail "$place/SHA256SUMS does not name $name"
  (cd "$place" && printf '%s\n' "$line" | sha256sum -c - >/dev/null 2>&1) || fail "$name is not what SHA256SUMS says: fetch it again"
  from=$(mktemp -d)
  trap 'rm -rf "$from"' EXIT
  tar -xzf "$place/$name" -C "$from" --strip-components=1
else
  from=$(cd "$(dirname "$0")" && pwd)
fi
[ -f "$from/SHA256SUMS" ] || fail "expected SHA256SUMS beside the binary in $from; unpack the release again"
(cd "$from" && sha256sum -c --quiet SHA256SUMS >/dev/null 2>&1) || fail "the files in $from are not those of the release: unpack it again"
[ -f "$from/agenticore" ] || fail "expected the binary agenticore in $from"
version=$("$from/agenticore" version) || fail "this binary does not run on this machine ($(uname -m)); it is for another one"

# A new file under the name: a server that runs keeps the old one.
mkdir -p "$prefix/bin" || fail "cannot make $prefix/bin: run this as root, or give --prefix"
new=$prefix/bin/.agenticore.new.$$
cp "$from/agenticore" "$new" || fail "cannot write to $prefix/bin: run this as root, or give --prefix"
chmod 755 "$new"
mv -f "$new" "$prefix/bin/agenticore"
echo "installed $version as $prefix/bin/agenticore"
for tool in git claude; do
  command -v "$tool" >/dev/null 2>&1 || echo "note: $tool is not on PATH here; jobs need it"
done
