#!/bin/bash
# npm in one of the project's folders: scripts/npm.sh <folder> <arguments>
set -eu
. "$(dirname "$0")/tools.sh"
cd "$root/$1"
shift
exec npm --no-fund --no-audit "$@"
