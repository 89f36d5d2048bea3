#!/bin/bash
# cargo, wherever scripts/setup.sh found or put it.
set -eu
. "$(dirname "$0")/tools.sh"
cd "$root"
exec cargo "$@"
