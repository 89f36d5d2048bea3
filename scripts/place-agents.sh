#!/bin/bash
# Copies the agents that were built for any kind of machine to where a server offers them: scripts/place-agents.sh <folder>
set -euo pipefail
. "$(dirname "$0")/tools.sh"
found=0
for agent in "$root"/dist/*/outpost-agent; do
    [ -f "$agent" ] || continue
    install -D -m 755 "$agent" "$1/$(basename "$(dirname "$agent")")/outpost-agent"
    found=$((found + 1))
done
[ "$found" -gt 0 ] || { echo "There is no agent in dist: make cross" >&2; exit 1; }
