#!/usr/bin/env bash
# One real job on a small repository of its own, and what came of it. Touches nothing but
# target/ and a temporary directory, which it removes.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in cargo git; do
  command -v "$tool" >/dev/null || { echo "the demo needs $tool: install it first" >&2; exit 1; }
done
say() { printf '\n== %s\n' "$*"; }

say "building (the first time takes about a minute)"
cargo build --release --bins --examples
built=${CARGO_TARGET_DIR:-$PWD/target}/release

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
work=$place/work remote=$place/project.git
commit() { git -C "$work" -c user.name=demo -c user.email=demo@localhost commit -q -m "$1"; }
git init -q --bare -b main "$remote"
git init -q -b main "$work"
printf '# A small project\n' > "$work/README.md"
git -C "$work" add -A && commit "first commit"
git -C "$work" push -q "$remote" main

login=${AGENTICORE_CLAUDE_CONFIG_DIR:-$HOME/.claude}/.credentials.json
if command -v claude >/dev/null &&
   { [ -n "${ANTHROPIC_API_KEY:-}${ANTHROPIC_AUTH_TOKEN:-}${CLAUDE_CODE_OAUTH_TOKEN:-}" ] || [ -s "$login" ]; }; then
  say "the agent is the real Claude Code CLI: $(claude --version)"
  agent=claude
  task='Add a file hello.txt that greets the reader in one line, and mention it in README.md.'
else
  say "the agent is a SCRIPTED STAND-IN, because there is no \`claude\` on PATH with a login"
  agent=$built/examples/scripted-agent
  task='Add a greeting [[write hello.txt Hello, reader.]] [[bash echo "See hello.txt." >> README.md]] [[say I added hello.txt and mentioned it in README.md.]]'
fi

say "running one job: fetch, worktree, agent, commit, push"
env HOME="$place" AGENTICORE_CLAUDE_CONFIG_DIR="$(dirname "$login")" \
    AGENTICORE_CLAUDE_BINARY="$agent" AGENTICORE_ALLOW_LOCAL_REPOS=true AGENTICORE_REPOS_ROOT="$place/repos" \
    AGENTICORE_WORKTREE_ROOT="$place/worktrees" TMPDIR="$place" \
    "$built/agenticore" run --local "$task" --repo "$remote"

branch=$(git -C "$remote" for-each-ref --format='%(refname:short)' 'refs/heads/agenticore-*')
say "the branch it pushed: $branch"
git -C "$remote" --no-pager log --oneline "main..$branch"
say "and the change in it"
git -C "$remote" --no-pager diff "main...$branch"
say "done; its repository is removed again. Next: put $built/agenticore on your PATH, and read README.md on a server"
