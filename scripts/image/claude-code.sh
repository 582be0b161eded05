#!/bin/sh
# Fetches Claude Code's native binary, of one version, from the npm registry into /rootfs, and proves that it is the
# one that was meant. VERSION, and the SHA-512 of the archive for each architecture, stand here and nowhere else.
set -eu
version=2.1.330
case "$(dpkg --print-architecture)" in
  amd64) platform=linux-x64
    sum=f469fe57b0ed27c3359f3b4ff42783565f60dd1b6b7a923bace153c8f4519d97bc0facde6c81ca982ecebc16aeb9cb803f45f493ce520cdfcb3d56728ec19ecd ;;
  arm64) platform=linux-arm64
    sum=578c9a9c0639100e54a70c113ed8d27ea0db36a0255097959f7358670d808264478dda52b0bb470336f14577e40276e3c135f3134b9e763431518d360113dcb0 ;;
  *) echo "there is no Claude Code for $(dpkg --print-architecture)" >&2; exit 1 ;;
esac
name=claude-code-$platform
place=$(mktemp -d)
curl -fsSL --retry 3 --connect-timeout 20 -o "$place/archive.tgz" "${NPM_REGISTRY:?}/@anthropic-ai/$name/-/$name-$version.tgz"
echo "$sum  $place/archive.tgz" | sha512sum -c -
tar -xzf "$place/archive.tgz" -C "$place"
install -D -m 755 "$place/package/claude" /rootfs/usr/local/bin/claude
install -D -m 644 "$place/package/LICENSE.md" /rootfs/usr/local/share/doc/claude/LICENSE.md
rm -rf "$place"
