#!/bin/bash
# A disk from a board's root file system: assemble.sh <board> <root folder> <output folder>
# Nothing is mounted: file systems are filled by the programs that make them.
set -euo pipefail
. "$(dirname "$0")/../tools.sh"
board=$1 tree=$2 out=$3
. "$root/board/$board/board.conf"
common=$root/board/common
: "${SOURCE_DATE_EPOCH:=1700000000}"
# FAT keeps local time.
export SOURCE_DATE_EPOCH MTOOLS_SKIP_CHECK=1 TZ=UTC
# MiB. The slots' size cannot be changed any more once cards are in use; updates have to fit.
GAP=4 BOOT=64 SLOT=256
kernel=$(ls "$tree/usr/lib/modules")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- The initial RAM disk: busybox, our program, and the modules for reaching root.
initrd=$work/initrd
mkdir -p "$initrd"/{bin,etc/outpost,dev,proc,sys,"lib/modules/$kernel"}
cp "$tree/usr/bin/busybox" "$initrd/bin/busybox"
install -m 755 "$common/init/init" "$initrd/init"
install -m 644 "$common"/init/*.sh "$initrd/etc/outpost/"
[ -z "${RESET_PIN:-}" ] || echo "$RESET_PIN" >"$initrd/etc/outpost/reset-pin"
install -m 644 "$common/init/modules" "$initrd/etc/modules"
(
    cd "$tree/usr/lib/modules/$kernel"
    "$root/scripts/image/modules.sh" . <"$common/init/modules" | cpio --quiet -pdm "$initrd/lib/modules/$kernel"
    cp modules.builtin modules.order "$initrd/lib/modules/$kernel/"
)
depmod -b "$initrd" "$kernel"
find "$initrd" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$initrd" && find . | LC_ALL=C sort | cpio --quiet --reproducible -R 0:0 -H newc -o) | gzip -9n >"$work/initrd.img"

# --- Slot A: root with its kernel.
slot=$work/slot
cp -a "$tree" "$slot"
mkdir -p "$slot/boot/trees"
install -m 644 "$tree.boot/kernel" "$work/initrd.img" "$slot/boot/"
find "$tree.boot/trees" -type f -exec cp {} "$slot/boot/trees/" \;
find "$slot/boot" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# As large as what is in it, so that an update writes no more than it has to: files in whole blocks, inodes, and room for
# folders and tables.
files=$(find "$slot" | wc -l)
blocks=$(find "$slot" -type f -printf '%s\n' | awk '{ n += int(($1 + 4095) / 4096) } END { print n }')
blocks=$((blocks + files / 8 + (files + 64) / 16 + 1024 + blocks / 100))
[ $((blocks / 256)) -le $SLOT ] || { echo "The system is larger than a slot of $SLOT MiB." >&2; exit 1; }
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -b 4096 -d "$slot" -L outpost-root -m 0 -N $((files + 64)) \
    -O '^has_journal,^resize_inode,^metadata_csum_seed,^orphan_file' -U 5a5a5a5a-0000-4000-8000-000000000002 \
    -E hash_seed=5a5a5a5a-0000-4000-8000-000000000003,root_owner=0:0 "$work/slot.img" "$blocks"
# mke2fs copies the times of the files as they were made here; two builds of the same are to be the same.
"$root/scripts/image/clamp.sh" "$work/slot.img" "$SOURCE_DATE_EPOCH"
echo "  slot: $((blocks / 256)) of $SLOT MiB"

# --- The boot partition.
boot=$work/boot.img
truncate -s "${BOOT}M" "$boot"
mkfs.vfat -F 32 -n OUTPOSTBOOT -i 4f55544f --invariant "$boot" >/dev/null
sed -e "s/@CONSOLE@/$CONSOLE/" -e "s/@KERNEL_AT@/$KERNEL_AT/g" -e "s/@PACKED_AT@/$PACKED_AT/g" -e "s/@INITRD_AT@/$INITRD_AT/g" \
    -e "s/@BOOT_COMMAND@/$BOOT_COMMAND/" "$common/boot/boot.cmd" >"$work/boot.cmd"
mkimage -A "${ARCH/arm[he]*/arm}" -T script -C none -n outpost -d "$work/boot.cmd" "$work/boot.scr" >/dev/null
cp "$common/outpost.toml.example" "$work/"
place=("$work/boot.scr" "$work/outpost.toml.example")
[ ! -f "$root/board/$board/config.txt" ] || place+=("$root/board/$board/config.txt")
[ ! -f "$tree.boot/u-boot.bin" ] || place+=("$tree.boot/u-boot.bin")
for file in ${FIRMWARE:-}; do place+=("$tree.boot/$file"); done
for file in "$tree.boot"/trees/*; do [ ! -f "$file" ] || place+=("$file"); done
mkdir "$work/place"
cp "${place[@]}" "$work/place/"
touch -d "@$SOURCE_DATE_EPOCH" "$work"/place/*
mcopy -m -i "$boot" "$work"/place/* ::/

# --- The disk. Slot B and the data partition are made by the first start (board/common/init/init), which knows an
# image by its signature.
mkdir -p "$out"
disk=$out/outpost-$board.img
rm -f "$disk"
truncate -s "$((GAP + BOOT + SLOT))M" "$disk"
sfdisk -q "$disk" <<T
label: dos
label-id: 0x4f54554f
unit: sectors
1: start=$((GAP * 2048)), size=$((BOOT * 2048)), type=c, bootable
2: start=$(((GAP + BOOT) * 2048)), size=$((SLOT * 2048)), type=83
T
dd if="$boot" of="$disk" bs=1M seek=$GAP conv=notrunc,sparse status=none
dd if="$work/slot.img" of="$disk" bs=1M seek=$((GAP + BOOT)) conv=notrunc,sparse status=none
python3 "$root/scripts/image/slots.py" "$disk" BOOT_ORDER='A B' BOOT_A_LEFT=3 BOOT_B_LEFT=0
[ ! -f "$tree.boot/bios.bin" ] || cp "$tree.boot/bios.bin" "$out/outpost-$board.bios"
cp "$tree/usr/share/outpost-packages" "$out/outpost-$board.packages"
