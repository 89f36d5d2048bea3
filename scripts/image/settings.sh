#!/bin/bash
# Into a root file system: what makes the settings on the card (outpost.toml) true, and the LED: settings.sh <root folder>
# Used for the image from Debian's packages and by the Yocto layer alike. Units lie beside others in board/common/systemd.
set -euo pipefail
common=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/board/common
tree=$1

for file in "$common"/systemd/*.network; do
    install -D -m 644 "$file" "$tree/usr/lib/systemd/network/$(basename "$file")"
done
install -D -m 644 "$common/udev/70-outpost.rules" "$tree/usr/lib/udev/rules.d/70-outpost.rules"
install -D -m 755 "$common/led/outpost-led" "$tree/usr/lib/outpost-box/outpost-led"
# Read before the box's own list, which ends with `disable *`.
install -D -m 644 "$common/systemd/settings.preset" "$tree/usr/lib/systemd/system-preset/00-box-settings.preset"

# The system is read-only: what settings change is behind links. One that leads nowhere is the default.
mkdir -p "$tree/etc/iwd" "$tree/root"
ln -sfn ../run/outpost-box/localtime "$tree/etc/localtime"
rm -f "$tree/etc/timezone"
ln -sfn ../../run/outpost-box/iwd.conf "$tree/etc/iwd/main.conf"
ln -sfn ../var/lib/outpost-box/ssh "$tree/root/.ssh"

# Keys of [ssh] are root's; without a password nobody logs in otherwise.
sed -i 's#^\(root:.*\):[^:]*$#\1:/bin/sh#' "$tree/etc/passwd"
printf '/bin/sh\n' >"$tree/etc/shells"
