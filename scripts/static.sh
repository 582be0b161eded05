#!/usr/bin/env bash
# A fully static release binary in target/static/agenticore: musl where it can be had, else static
# glibc. Says which. Run with STATIC_LIBC=musl or =glibc to insist. `scripts/static.sh --tools` only installs what
# musl needs.
#
# musl: with rustup's target if it is installed or can be added; else on Debian, as root, with its
# rustc-web and rust-web-src, which build the standard library from source.
#
# ARCH=aarch64 (or x86_64) on a machine of the other kind: target/static/agenticore-ARCH, with rustup's target, its own
# linker, and Debian's cross compiler for the one C library; run once under qemu-user, if that is here.
set -euo pipefail
cd "$(dirname "$0")/.."
own_arch=$(uname -m)
arch=${ARCH:-$own_arch}
target=$arch-unknown-linux-musl
want=${STATIC_LIBC:-any}
only_tools=; [ "${1:-}" != --tools ] || only_tools=true
say() { printf '%s\n' "$*" >&2; }

finish() { # FILE DESCRIPTION
  mkdir -p target/static
  cp "$1" target/static/agenticore
  if command -v readelf >/dev/null && readelf -l target/static/agenticore | grep -q INTERP; then
    say "the binary is not static"; exit 1
  fi
  target/static/agenticore version >/dev/null
  say "target/static/agenticore: $2, $(stat -c %s target/static/agenticore) bytes"
}

by_cross() {
  local cc=$arch-linux-gnu-gcc package=gcc-${arch//_/-}-linux-gnu name=target/static/agenticore-$arch
  [ "$arch" != aarch64 ] || package=gcc-aarch64-linux-gnu
  local sysroot; sysroot=$(rustc --print sysroot)
  [ -d "$sysroot/lib/rustlib/$target/lib" ] || rustup target add "$target" >/dev/null 2>&1 || { say "no $target to be had here"; return 1; }
  if ! command -v "$cc" >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >&2 &&
      apt-get install -y -qq --no-install-recommends "$package" "libc6-dev-$([ "$arch" = aarch64 ] && echo arm64 || echo amd64)-cross" >&2 ||
      { say "no $cc to be had here"; return 1; }
  fi
  say "building for $target with $cc (some minutes) …"
  # glibc's headers would make calls of glibc's checked functions, which musl lacks.
  env "CC_${arch}_unknown_linux_musl=$cc" "CFLAGS_${arch}_unknown_linux_musl=-U_FORTIFY_SOURCE" \
    "CARGO_TARGET_${arch^^}_UNKNOWN_LINUX_MUSL_LINKER=rust-lld" \
    cargo build --locked --release --target "$target" --bin agenticore >&2 || return 1
  mkdir -p target/static && cp "target/$target/release/agenticore" "$name"
  if readelf -l "$name" | grep -q INTERP; then say "the binary is not static"; return 1; fi
  local qemu; qemu=$(command -v "qemu-$arch-static" || true)
  if [ -n "$qemu" ]; then "$qemu" "$name" version >/dev/null; else say "not run: qemu-$arch-static is not here"; fi
  say "$name: static, musl, $(stat -c %s "$name") bytes"
}

if [ "$arch" != "$own_arch" ]; then
  by_cross
  exit
fi

by_rustup() {
  local sysroot; sysroot=$(rustc --print sysroot)
  [ -d "$sysroot/lib/rustlib/$target/lib" ] || rustup target add "$target" >/dev/null 2>&1 || return 1
  command -v musl-gcc >/dev/null || { [ "$(id -u)" = 0 ] && apt-get install -y -qq musl-tools >&2; } || return 1
  [ -z "$only_tools" ] || return 0
  say "building with rustup's $target …"
  env "CC_${arch}_unknown_linux_musl=musl-gcc" cargo build --locked --release --target "$target" --bin agenticore >&2 || return 1
  finish "target/$target/release/agenticore" "static, musl"
}

by_debian() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  if ! [ -d /usr/lib/rustlib/src/rust/library/vendor ] || ! command -v musl-gcc >/dev/null; then
    say "installing Debian's rustc-web, rust-web-src and musl-tools …"
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src musl-tools gcc >&2 || return 1
  fi
  # std's unwinder wants a static libunwind; LLVM's is in a Debian package, and calls one function
  # of glibc's fortified stdio, which musl lacks.
  local library=$PWD/target/static/lib unwind fetched
  if [ ! -f "$library/libunwind.a" ]; then
    mkdir -p "$library"
    unwind=$(apt-cache search --names-only '^libunwind-[0-9]+-dev$' | cut -d' ' -f1 | sort -V | tail -n 1)
    [ -n "$unwind" ] || return 1
    fetched=$(mktemp -d)
    (cd "$fetched" && apt-get download -qq "$unwind" >&2 && dpkg -x ./*.deb .) || return 1
    find "$fetched" -name libunwind.a -type f -exec cp {} "$library/libunwind.a" \; -quit
    printf '%s\n' '#include <stdarg.h>' '#include <stdio.h>' \
      'int __fprintf_chk(FILE *to, int flag, const char *format, ...) { (void)flag; va_list rest; va_start(rest, format);' \
      'int wrote = vfprintf(to, format, rest); va_end(rest); return wrote; }' > "$fetched/fortify.c"
    musl-gcc -O2 -c "$fetched/fortify.c" -o "$fetched/fortify.o" && ar rs "$library/libunwind.a" "$fetched/fortify.o" 2>/dev/null
    rm -rf "$fetched"
  fi
  [ -z "$only_tools" ] || return 0
  say "building for $target with Debian's compiler, the standard library included (about three minutes) …"
  env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc "CC_${arch}_unknown_linux_musl=musl-gcc" CARGO_TARGET_DIR=target/musl \
    "CARGO_TARGET_${arch^^}_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc" \
    RUSTFLAGS="-C link-self-contained=no -C relocation-model=static -L native=$library" \
    /usr/bin/cargo build --locked -Z build-std=std,panic_unwind --release --target "$target" --bin agenticore >&2 || return 1
  finish "target/musl/$target/release/agenticore" "static, musl"
}

by_glibc() {
  say "building with a static glibc …"
  RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=target/glibc \
    cargo build --locked --release --target "$arch-unknown-linux-gnu" --bin agenticore >&2
  finish "target/glibc/$arch-unknown-linux-gnu/release/agenticore" "static, glibc (names are resolved only where its libnss is)"
}

if [ "$want" != glibc ]; then
  by_rustup || by_debian && exit 0
  [ "$want" = any ] || { say "no musl to be had here"; exit 1; }
fi
by_glibc
