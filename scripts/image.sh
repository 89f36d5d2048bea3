#!/bin/bash
# Builds a card image for a board: scripts/image.sh <board>. Into dist/image: the image, compressed, with a block map
# for bmaptool and checksums. Needs neither root nor loop devices; who is not root needs subordinate user ids (/etc/subuid).
# `--raw` leaves out the compression, for who starts the image here.
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

raw=
[ "${1:-}" != --raw ] || { raw=yes; shift; }
board=${1:-}
[ -f "board/$board/board.conf" ] || {
    echo "There is no board '$board'. There are: $(cd board && ls -d */board.conf | sed 's#/.*##' | tr '\n' ' ')" >&2
    exit 2
}
. "board/$board/board.conf"
# A box offers agents for all kinds of machines, whatever it is itself.
if [ ! -x "dist/$TARGET/outpost" ]; then
    make --no-print-directory web
    scripts/cross.sh --agents "$TARGET"
elif [ "$(find dist -path 'dist/*-linux-musl*/outpost-agent' | wc -l)" -ne 4 ]; then
    scripts/cross.sh --agents
fi

if [ "$(id -u)" -ne 0 ] && [ -z "${OUTPOST_UNSHARED:-}" ]; then
    # Files of all owners are made in a user namespace.
    OUTPOST_UNSHARED=yes exec unshare --map-root-user --map-auto --mount "$0" ${raw:+--raw} "$board"
fi

# What updates are signed with. Whoever makes images for others makes keys first (make update-keys).
export KEYS=${KEYS:-keys} DEVELOPMENT=
[ -f "$KEYS/ca.pem" ] || scripts/update-keys.sh --development "$KEYS"
if openssl x509 -in "$KEYS/ca.pem" -noout -subject | grep -q development; then
    DEVELOPMENT=development
    echo "!! This image trusts development keys ($KEYS): for trying and testing, not for others. make update-keys KEYS=<folder>" >&2
fi

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
export VERSION SOURCE_DATE_EPOCH
out=dist/image
work=$(mktemp -d "${TMPDIR:-/tmp}/outpost-image-XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
image=$out/outpost-$board.img

echo "== Root file system for $board"
started=$SECONDS
scripts/image/rootfs.sh "$board" "$work/root"
echo "  $(du -sm --apparent-size "$work/root" | cut -f1) MiB in $((SECONDS - started)) s"
echo "== Disk"
started=$SECONDS
scripts/image/assemble.sh "$board" "$work/root" "$out"
echo "  $image, $(($(stat -c %s "$image") >> 20)) MiB in $((SECONDS - started)) s"
[ -z "$raw" ] || exit 0

echo "== Compressing"
started=$SECONDS
bmaptool --quiet create -o "$image.bmap" "$image"
xz -T0 -6 -k -f "$image"
(cd "$out" && sha256sum outpost-*.img.xz outpost-*.img.bmap >SHA256SUMS)
size=$(stat -c %s "$image.xz")
# The design's budget.
budget=$((56 << 20))
printf '  %s.xz, %d.%d MiB of %d in %d s\n' "$image" $((size >> 20)) $(((size & 1048575) * 10 >> 20)) $((budget >> 20)) $((SECONDS - started))
[ "$size" -le "$budget" ] || { echo "The image is larger than its budget." >&2; exit 1; }
