#!/usr/bin/env bash
# Installs what the tests need and a fresh machine may lack: git, openssl, setpriv, npm, redis-server, nginx, git-lfs,
# git-crypt, zsh, fish and prometheus from the distribution, and the real Claude Code CLI, of one version, from npm into target/tools/.
# Run again it does nothing. Prints the path of the CLI as its last line.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.1.330
say() { printf '%s\n' "$*" >&2; }

missing=()
for pair in git:git openssl:openssl setpriv:util-linux unshare:util-linux npm:npm bash:bash cc:gcc make:make redis-server:redis-server fusermount3:fuse3 pkg-config:pkg-config nginx:nginx-light git-lfs:git-lfs git-crypt:git-crypt zsh:zsh fish:fish promtool:prometheus; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
pkg-config --exists fuse3 2>/dev/null || missing+=(libfuse3-dev)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]} …"
  [ "$(id -u)" = 0 ] || { say "that needs root: install them yourself, or run this as root"; exit 1; }
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

case "$(uname -m)" in
  x86_64) platform=linux-x64 ;;
  aarch64) platform=linux-arm64 ;;
  *) say "no Claude Code CLI for $(uname -m)"; exit 1 ;;
esac
# The package of the platform is the program itself; the one of that name is only its launcher.
package=@anthropic-ai/claude-code-$platform
tools=target/tools/claude-$version
claude=$tools/node_modules/$package/claude
if [ ! -x "$claude" ]; then
  say "fetching the Claude Code CLI $version from npm (about 180 MB) …"
  mkdir -p "$tools"
  npm install --silent --no-audit --no-fund --no-save --force --prefix "$tools" "$package@$version" >&2
fi
said=$("$claude" --version)
case "$said" in
  "$version "*) ;;
  *) say "the CLI says it is \"$said\", not $version"; exit 1 ;;
esac
printf '%s\n' "$PWD/$claude"
