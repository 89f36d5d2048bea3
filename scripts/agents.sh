#!/bin/bash
# Fetches MeshCentral's package of a version from npm's registry and imports its agents into a data folder.
#   scripts/agents.sh <version> <data folder>
set -euo pipefail

version=$1
data=$2
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent "meshcentral@$version" > /dev/null)
"$root/target/release/outpost" agents import "$work/meshcentral-$version.tgz" --datapath "$data"
