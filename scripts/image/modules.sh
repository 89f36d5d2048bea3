#!/bin/bash
# The files of kernel modules and of what they need, from names on standard input: modules.sh <folder with modules.dep>
# A name that is built into the kernel, or that this kernel does not have, is passed over.
set -euo pipefail
awk '
    function plain(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
    NR == FNR { gsub(/-/, "_"); wanted[$1] = 1; next }
    { file = $1; sub(/:$/, "", file); if (plain(file) in wanted) { print file; for (i = 2; i <= NF; i++) print $i } }
' - "$1/modules.dep" | LC_ALL=C sort -u
