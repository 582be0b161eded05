#!/usr/bin/env bash
# All tests. Fetches the tools they need first, so that on a fresh machine nothing is done by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/test-tools.sh >/dev/null
scripts/mcp-clients.sh >/dev/null
scripts/agentihooks.sh >/dev/null
scripts/python-tools.sh >/dev/null
scripts/browser-tools.sh >/dev/null
if ! cargo nextest --version >/dev/null 2>&1; then exec cargo test --no-fail-fast "$@"; fi
status=0
cargo nextest run --no-fail-fast "$@" || status=$?
# It leaves out the examples in the documentation.
if [ $# = 0 ]; then cargo test --doc || status=$?; fi
exit "$status"
