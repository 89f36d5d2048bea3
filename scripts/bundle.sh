#!/bin/bash
# Makes a signed update of a board's image: scripts/bundle.sh <board> [--slot <file>] [--keys <folder>] [--out <file>]
# Into dist/image/outpost-<board>-<version>.raucb, from the very slot that is in dist/image/outpost-<board>.img: root file
# system, kernel, initial RAM disk and device trees. `--slot` takes the file system from elsewhere.
# Signed with signing.key and signing.pem of the folder; OUTPOST_SIGNING_KEY and OUTPOST_SIGNING_CERTIFICATE name others, which
# may be PKCS#11 URIs. SQUASHFS is what packs it (mksquashfs's options).
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

board=${1:-}
[ -f "board/$board/board.conf" ] || { echo "There is no board '$board'." >&2; exit 2; }
shift
slot= keys=${KEYS:-keys} out=
while [ $# -gt 0 ]; do
    case $1 in
    --slot) slot=$2 ;;
    --keys) keys=$2 ;;
    --out) out=$2 ;;
    *) echo "There is no option $1." >&2; exit 2 ;;
    esac
    shift 2
done

key=${OUTPOST_SIGNING_KEY:-$keys/signing.key} certificate=${OUTPOST_SIGNING_CERTIFICATE:-$keys/signing.pem}
[ -n "${OUTPOST_SIGNING_KEY:-}" ] || [ -f "$key" ] || { echo "There is no $key: make update-keys" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/outpost-bundle-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/content"
if [ -z "$slot" ]; then
    image=dist/image/outpost-$board.img
    [ -f "$image" ] || { echo "There is no $image: make image BOARD=$board" >&2; exit 1; }
    start=$(sfdisk -J "$image" | python3 -c 'import json, sys; print(json.load(sys.stdin)["partitiontable"]["partitions"][1]["start"])')
    # The file system is smaller than its partition: it ends where it says.
    blocks=$(dumpe2fs -h "$image?offset=$((start * 512))" 2>/dev/null | awk -F: '/^Block count/ { print $2 * 1 }')
    dd if="$image" of="$work/content/slot.ext4" bs=4096 skip=$((start / 8)) count="$blocks" conv=sparse status=none
else
    cp --sparse=always "$slot" "$work/content/slot.ext4"
fi
version=$(debugfs -R 'cat /usr/lib/os-release' "$work/content/slot.ext4" 2>/dev/null | sed -n 's/^VERSION_ID="\(.*\)"$/\1/p')
[ -n "$version" ] || { echo "The slot does not say its version." >&2; exit 1; }
cat >"$work/content/manifest.raucm" <<M
[update]
compatible=outpost-$board
version=$version

[bundle]
format=verity

[image.rootfs]
filename=slot.ext4
M
out=${out:-dist/image/outpost-$board-$version.raucb}
rm -f "$out"
rauc --cert="$certificate" --key="$key" ${KEYRING:+--keyring="$KEYRING"} \
    --mksquashfs-args="${SQUASHFS:--comp xz -b 256K} -all-root -no-progress" bundle "$work/content" "$out" >"$work/said" 2>&1 ||
    { cat "$work/said" >&2; exit 1; }
size=$(stat -c %s "$out")
printf '  %s, %d.%d MiB\n' "$out" $((size >> 20)) $(((size & 1048575) * 10 >> 20))
