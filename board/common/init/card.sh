# A card at the end of its life takes no writes any more, or fails at some of them again and again. A chapter of init.
#
# The box comes up with its data all the same: what it would write to the data partition stays in memory, where the repair of
# its file system goes too. So a copy can be taken; what is done meanwhile is forgotten at the next start.

# A sector of its own, "outpost card <score> <chance>". It changes with every start: if that does not arrive, nothing does.
CARD=1028
# A start that finds that the file system had an error while it was in use adds 2 (each error started the box again, which
# repaired what could be repaired: data_mount), another takes 1 away: not every error gets as far as the card. At the third of
# three, or the fourth of six, it is enough.
ENOUGH=5

# ext4 notes an error in its superblock, 1 KiB into the partition: 2 in the byte at 0x3a (s_state).
data_had_error() {
    state=$(dd if=/dev/${part}4 bs=1 skip=1082 count=1 2>/dev/null | hexdump -e '1/1 "%u"')
    [ $((${state:-0} & 2)) -ne 0 ]
}

# Sets failing to a sentence, or to nothing, and forgets where the card keeps nothing at all. Once in a start.
card_judge() {
    failing= forgets=
    score=$(sector $CARD | sed -n 's/^outpost card \([0-9]\) .*/\1/p')
    score=${score:-0}
    if data_had_error; then
        score=$((score + 2))
    elif [ $score -gt 0 ]; then
        score=$((score - 1))
    fi
    if [ $score -ge $ENOUGH ]; then
        failing="Writing to the card has failed again and again."
        # The next start tries it again.
        score=0
    fi
    written="outpost card $score $(head -c 8 /dev/urandom | hexdump -e '8/1 "%02x"')"
    if ! { echo "$written" | write_sector $CARD && blockdev --flushbufs $device && [ "$(sector $CARD | head -n 1)" = "$written" ]; }; then
        failing="The card does not keep what is written to it."
        forgets=yes
    fi
}

# Sets spare to a device that has the data partition's content, and keeps in memory what is written to it.
card_spare() {
    changes=/run/outpost-box/changes
    inside /sbin/modprobe -a loop dm_snapshot 2>/dev/kmsg
    mkdir -p $changes
    mount -t tmpfs -o mode=0700,nodev,nosuid,noexec,size=40% outpost-changes $changes || return 1
    # As large as the memory that is set aside for it.
    truncate -s $(($(stat -f -c '%b * %S' $changes) + 0)) $changes/changes
    # Where the root file system looks, this mount is not.
    losetup /dev/loop0 $changes/changes &&
        inside /sbin/dmsetup create outpost-data --table "0 $(cat /sys/class/block/${part}4/size) snapshot /dev/${part}4 /dev/loop0 N 8" || return 1
    # The kernel's name: others come with udev.
    spare=/dev/dm-0
}

# Lets go of it, so that the partition can be made anew.
card_release() {
    [ -n "$failing" ] || return 0
    inside /sbin/dmsetup remove outpost-data
    losetup -d /dev/loop0
    umount $changes
} 2>/dev/kmsg
