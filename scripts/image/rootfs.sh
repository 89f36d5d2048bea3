#!/bin/bash
# A board's root file system from Debian's packages, without running any of their programs: rootfs.sh <board> <folder>
# MIRROR is where they come from, if not from where apt takes them.
# Packages are only unpacked; what their scripts would do is done by the host's programs for the foreign folder.
set -euo pipefail
. "$(dirname "$0")/../tools.sh"
. "$root/board/$1/board.conf"
tree=$2
common=$root/board/common
# For outpost.toml: time zones, and SSH where keys are named.
EXTRA_PACKAGES=tzdata,dropbear-bin${EXTRA_PACKAGES:+,$EXTRA_PACKAGES}
: "${SUITE:=bookworm}" "${SOURCE_DATE_EPOCH:=1700000000}"

packages=base-files,base-passwd,busybox-static,libc-bin,systemd,systemd-sysv,systemd-timesyncd,systemd-resolved,udev,dbus,kmod
packages+=,mount,util-linux,e2fsprogs,dash,libubootenv-tool,rauc,rauc-service,$KERNEL,$BOOT_PACKAGES
[ -z "${WIRELESS:-}" ] || packages+=,iwd,firmware-brcm80211,wireless-regdb
rm -rf "$tree"
mmdebstrap --quiet --mode=root --variant=extract --architectures="$ARCH" --include="$packages" \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --extract-hook='for deb in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb -W "$deb"; done | LC_ALL=C sort >"$1/usr/share/outpost-packages"' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/lintian/*' --dpkgopt='path-exclude=/usr/share/bash-completion/*' \
    --dpkgopt='path-exclude=/usr/share/zsh/*' \
    --components=main,non-free-firmware "$SUITE" "$tree" ${MIRROR:+"$MIRROR"}
kernel=$(ls "$tree/usr/lib/modules")
modules=$tree/usr/lib/modules/$kernel

# --- What is for the boot partition, or for the emulator, leaves the tree.
rm -rf "$tree.boot"
mkdir -p "$tree.boot/trees"
[ -z "${UBOOT_CONFIG:-}" ] || "$root/scripts/image/uboot.sh" "$UBOOT_CONFIG" "$tree.boot/u-boot.bin"
[ -z "${UBOOT:-}" ] || install -m 644 "$tree/$UBOOT" "$tree.boot/u-boot.bin"
[ -z "${BIOS:-}" ] || install -m 644 "$tree/$BIOS" "$tree.boot/bios.bin"
# U-Boot waits two seconds for a key, and noise on a serial line is one. 0 is no wait.
for file in "$tree.boot"/{u-boot,bios}.bin; do
    [ ! -f "$file" ] || LC_ALL=C sed -i 's/bootdelay=2/bootdelay=0/' "$file"
done
for file in ${FIRMWARE:-}; do install -m 644 "$tree/usr/lib/raspi-firmware/$file" "$tree.boot/$file"; done
for pattern in ${DEVICE_TREES:-}; do
    for file in "$tree"/usr/lib/linux-image-*/$pattern; do [ ! -f "$file" ] || install -m 644 "$file" "$tree.boot/trees/"; done
done
for file in ${MUST_HAVE:-}; do [ -f "$tree.boot/trees/$file" ] || { echo "There is no device tree $file." >&2; exit 1; }; done
# Of the firmware for Wi-Fi, the chips of these boards.
if [ -n "${WIRELESS:-}" ]; then
    find "$tree/usr/lib/firmware" \( -type f -o -type l \) ! -name '*4343[0-9]*' ! -name '*4345[5-6]*' ! -name 'regulatory.db*' -delete
    find "$tree/usr/lib/firmware" -type d -empty -delete
fi
# A kernel of 32 bits is packed, and unpacks itself.
if [ "$BOOT_COMMAND" = bootz ]; then
    cp "$tree/boot/vmlinuz-$kernel" "$tree.boot/kernel"
else
    gzip -9nc "$tree/boot/vmlinuz-$kernel" >"$tree.boot/kernel"
fi
rm -rf "$tree"/usr/lib/{u-boot,raspi-firmware} "$tree"/usr/lib/linux-image-* "$tree"/boot/*

# --- People. Nobody can log in with a password.
cp "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
cp "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
sed -i 's/^root:\*:/root:x:/; s#:/bin/bash$#:/usr/sbin/nologin#' "$tree/etc/passwd"
printf 'root:*:19000::::::\n' >"$tree/etc/shadow"
chmod 640 "$tree/etc/shadow"
: >"$tree/etc/gshadow"
install -m 644 "$common/sysusers.conf" "$tree/usr/lib/sysusers.d/00-outpost-box.conf"
install -m 644 "$root/systemd/sysusers.d/outpost.conf" "$tree/usr/lib/sysusers.d/outpost.conf"
systemd-sysusers --root="$tree"

# --- Kernel modules: those of the list and what they need.
depmod -b "$tree" "$kernel"
cat "$common/modules.list" ${WIRELESS:+"$common/wireless.list"} | "$root/scripts/image/modules.sh" "$modules" >"$tree.keep"
(cd "$modules" && find kernel -name '*.ko*' | LC_ALL=C sort | comm -23 - "$tree.keep" | xargs -r rm -f)
find "$modules/kernel" -type d -empty -delete
rm "$tree.keep"
depmod -b "$tree" "$kernel"

# --- What a box never runs.
ln -sfn dash "$tree/usr/bin/sh"
rm -rf "$tree"/var/cache/* "$tree"/var/lib/{dpkg,apt} "$tree"/etc/{apt,init.d,kernel} "$tree"/etc/{rc?.d,cron.*} \
    "$tree"/usr/{share,lib/*}/perl* "$tree"/usr/bin/perl* "$tree"/usr/lib/*/gconv "$tree"/usr/share/{i18n,gcc,gdb,polkit-1,initramfs-tools} \
    "$tree"/usr/share/zoneinfo/{right,posix} "$tree"/usr/lib/udev/hwdb.d "$tree"/usr/lib/systemd/boot
# Small boards take a second for twenty of these: programs that look at each start whether there is something to make units
# for (of them, fstab's is wanted), and rules that udev tries on each of hundreds of devices.
find "$tree/usr/lib/systemd/system-generators" -type f ! -name systemd-fstab-generator -delete
find "$tree/usr/lib/udev/rules.d" -name '*.rules' ! -name 50-firmware.rules ! -name 50-udev-default.rules ! -name '*-dm.rules' \
    ! -name 60-block.rules ! -name 60-persistent-storage.rules ! -name 60-serial.rules ! -name 73-special-net-names.rules \
    ! -name 75-net-description.rules ! -name 80-drivers.rules ! -name 80-net-setup-link.rules ! -name 95-dm-notify.rules \
    ! -name 99-systemd.rules -delete

# --- Ours.
install -D -m 755 "$root/dist/$TARGET/outpost" "$tree/usr/lib/outpost/outpost"
"$root/scripts/place-agents.sh" "$tree/usr/lib/outpost/agents"
ln -sfn ../lib/outpost/outpost "$tree/usr/bin/outpost"
for unit in "$root/systemd/outpost.service" "$common"/systemd/*.{service,socket,path,timer}; do
    [ ! -f "$unit" ] || install -m 644 "$unit" "$tree/usr/lib/systemd/system/"
done
for folder in "$common"/systemd/*.d; do
    for file in "$folder"/*.conf; do install -D -m 644 "$file" "$tree/usr/lib/systemd/system/$(basename "$folder")/$(basename "$file")"; done
done
install -D -m 755 "$common/confirm.sh" "$tree/usr/lib/outpost-box/confirm"
for name in journald system resolved timesyncd; do
    install -D -m 644 "$common/systemd/$name.conf" "$tree/usr/lib/systemd/$name.conf.d/10-outpost.conf"
done
install -D -m 644 "$common/systemd/tmpfiles.conf" "$tree/usr/lib/tmpfiles.d/outpost-box.conf"
install -D -m 644 "$common/systemd/box.preset" "$tree/usr/lib/systemd/system-preset/00-outpost-box.preset"
install -m 644 "$common/systemd/fstab" "$tree/etc/fstab"
install -m 644 "$common/systemd/fw_env.config" "$tree/etc/fw_env.config"
mkdir -p "$tree/etc/rauc"
sed "s/@BOARD@/$1/" "$common/rauc/system.conf" >"$tree/etc/rauc/system.conf"
# What signs updates is known by certificates only: ca.pem, and ca-*.pem while an authority is being replaced.
cat "$KEYS"/ca*.pem >"$tree/etc/rauc/keyring.pem"
! grep -q 'PRIVATE KEY' "$tree/etc/rauc/keyring.pem" || { echo "There is a private key among $KEYS/ca*.pem." >&2; exit 1; }
echo outpost >"$tree/etc/hostname"
printf '127.0.0.1 localhost outpost\n::1 localhost outpost\n' >"$tree/etc/hosts"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
: >"$tree/etc/machine-id"
printf 'NAME="Outpost"\nID=outpost\nID_LIKE=debian\nVERSION_ID="%s"\nPRETTY_NAME="Outpost %s%s"\nVARIANT_ID=%s\nOUTPOST_UPDATE_KEYS=%s\n' \
    "$VERSION" "$VERSION" "${DEVELOPMENT:+ (development)}" "$1" "${DEVELOPMENT:-own}" >"$tree/usr/lib/os-release"
"$root/scripts/image/settings.sh" "$tree"
systemctl --root="$tree" preset-all >/dev/null 2>&1 || true
for unit in systemd-logind.service getty@tty1.service getty.target systemd-networkd-wait-online.service \
    systemd-hwdb-update.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-boot-update.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-update-utmp.service systemd-machine-id-commit.service ldconfig.service systemd-binfmt.service \
    systemd-firstboot.service systemd-remount-fs.service systemd-fsck-root.service systemd-repart.service \
    systemd-network-generator.service systemd-user-sessions.service systemd-update-done.service getty-static.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket systemd-journald-audit.socket \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
    ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
# Enabled means linked; a preset that was not applied would be an image without a server.
[ -L "$tree/etc/systemd/system/multi-user.target.wants/outpost.service" ] || { echo "outpost.service is not enabled" >&2; exit 1; }
rm -rf "$tree/var" "$tree/boot"
mkdir -p "$tree"/{var,boot/firmware,proc,sys,dev,run,tmp,root}
find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
