#!/bin/bash
# Starts the image of the board qemu-arm64 in an emulator: a box to try. Its card, dist/image/qemu-card.img, stays as it is
# left; delete it for a new one. PORT is where it is reached, MEMORY in MiB. Stop it with Ctrl-A X.
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"
port=${PORT:-8443} memory=${MEMORY:-512}
image=dist/image/outpost-qemu-arm64.img card=${CARD:-dist/image/qemu-card.img}
[ -f "$image" ] && [ -f "${image%.img}.bios" ] || { echo "There is no $image: make image BOARD=qemu-arm64" >&2; exit 1; }
if [ ! -f "$card" ]; then
    cp --sparse=always "$image" "$card"
    # As a card is larger than its image.
    truncate -s 2G "$card"
fi
echo "The box will be at https://localhost:$port/ in about half a minute. Ctrl-A X switches it off."
exec qemu-system-aarch64 -machine virt -cpu cortex-a53 -smp 2 -m "$memory" -display none -serial mon:stdio \
    -bios "${image%.img}.bios" -drive "file=$card,if=none,id=card,format=raw" -device virtio-blk-pci,drive=card \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:443" -device virtio-net-pci,netdev=net -device virtio-rng-pci
