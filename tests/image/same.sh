#!/bin/bash
# An image made twice from the same is the same, byte for byte: same.sh <board>, whose image is in dist/image.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=dist/image/outpost-$1.img
work=$(mktemp -d "${TMPDIR:-/tmp}/outpost-same-XXXXXX")
trap 'rm -rf "$work"' EXIT
cp --sparse=always "$image" "$work/first.img"
# Its time is that of a commit, maybe of an earlier one; the superblock of the slot, at 68 MiB, has it.
SOURCE_DATE_EPOCH=$(od -An -tu4 -j $(((68 << 20) + 1024 + 48)) -N 4 "$image" | tr -d ' ')
export SOURCE_DATE_EPOCH
# In another place and another time zone.
TMPDIR=$work TZ=Asia/Tokyo scripts/image.sh --raw "$1"
cmp "$work/first.img" "$image" || { echo "0 passed, 1 failed"; exit 1; }
echo "1 passed, 0 failed"
