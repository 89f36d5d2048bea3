# Factory reset: a new data partition; the system stays, and the card stays the same. A chapter of init.
#
# Asked for by a file on the boot partition (factory-reset or factory-reset.txt), which is removed afterwards, by a file on
# the data partition (the app), by the button (button.sh), or, where that one is set aside, by the sector. The sector says that a reset is under way, from
# its beginning to its end, so that a power cut in between starts it over.
REQUEST=1027

boot_mount() {
    mount -t vfat -o ro,nodev,nosuid,noexec,umask=0077 /dev/${part}1 /new/boot/firmware 2>/dev/kmsg ||
        incident boot-partition "The boot partition cannot be read. Settings on it are not seen."
}

# The file on the boot partition that asks for a reset.
asking() { for file in /new/boot/firmware/[Ff][Aa][Cc][Tt][Oo][Rr][Yy]-[Rr][Ee][Ss][Ee][Tt] /new/boot/firmware/[Ff][Aa][Cc][Tt][Oo][Rr][Yy]-[Rr][Ee][Ss][Ee][Tt].[Tt][Xx][Tt]; do [ -f "$file" ] && echo "$file"; done; }

reset_now() { # reset_now <by what>
    say "factory reset, asked for $1"
    # Such a card has what it had. Whoever gives it away must know.
    if [ -n "$forgets" ]; then
        incident card "The box was to be reset, asked for $1, but its card does not keep what is written to it: nothing has been erased."
        return
    fi
    echo "outpost factory reset" | write_sector $REQUEST
    if ! data_make; then
        incident card "The box was to be reset, asked for $1, but no new data partition can be made on this card: not everything has been erased. The next start tries again."
        return
    fi
    failing=
    # A file that cannot be removed must not wipe the data at every start: it is remembered as done.
    files=$(asking)
    if [ -n "$files" ]; then
        mount -o remount,rw /new/boot/firmware 2>/dev/kmsg
        asking | while read -r file; do rm -f "$file"; done
        sync
        mount -o remount,ro /new/boot/firmware 2>/dev/kmsg
    fi
    left=$(asking)
    if [ -n "$left" ]; then
        mkdir -p /run/fresh
        mount -t ext4 /dev/${part}4 /run/fresh && mkdir -p /run/fresh/lib && mkdir -m 700 /run/fresh/lib/outpost-box && : >/run/fresh/lib/outpost-box/reset-file-stays
        umount /run/fresh
        incident boot-partition "The file that asked for the factory reset cannot be removed from the boot partition. It is passed over until it is gone."
    fi
    sync
    clear_sector $REQUEST
    incident reset "The box has been reset, asked for $1. All data is new."
}
clear_sector() { dd if=/dev/zero of=$device bs=512 seek=$1 count=1 conv=fsync,notrunc 2>/dev/null; }

# Before data is mounted: a reset that was under way.
reset_finish() {
    [ "$(sector $REQUEST | head -n 1)" != "outpost factory reset" ] || reset_now "on this card"
}

# With data mounted, or set aside.
reset_asked() {
    by=
    stays=/new/var/lib/outpost-box/reset-file-stays
    if [ -e /new/var/lib/outpost-box/factory-reset ]; then
        by="in the app"
    elif [ -n "$(asking)" ]; then
        [ -e $stays ] || by="by a file on the boot partition"
    else
        rm -f $stays
    fi
    [ -n "$by" ] || ! button_asks || by="by the button"
    [ -n "$by" ] || return 0
    umount /new/var
    card_release
    rm -f /run/outpost-box/data-aside /run/outpost-box/incidents
    reset_now "$by"
    data_mount
}
