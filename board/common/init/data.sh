# The data partition, /var of the running system. A chapter of init.
#
# What a power cut left is put in order by the journal; what else is damaged is repaired, asking nobody. Where that does not
# help, the partition is set aside: nothing is written to it any more, /var is in memory, the box comes up empty and says so.
# Whoever wants the data back takes the card to a computer; whoever does not asks for a factory reset.

# Which file system the partition has, as the card itself says: ext4's UUID, 0x68 into its superblock.
data_uuid() { blockdev --flushbufs /dev/${part}4 && dd if=/dev/${part}4 bs=1 skip=1128 count=16 2>/dev/null | hexdump -e '16/1 "%02x"'; }

data_make() {
    before=$(data_uuid)
    inside /sbin/mke2fs -q -F -t ext4 -L outpost-data -m 1 -E nodiscard /dev/${part}4 || return 1
    sync
    [ "$(data_uuid)" != "$before" ]
}

data_aside() { # data_aside <why>
    mount -t tmpfs -o mode=0755,nodev,nosuid,noexec,size=40% outpost-aside /new/var
    : >/run/outpost-box/data-aside
    incident set-aside "The data on the card cannot be used: $1. It has been set aside and is left as it is. What is done here now is forgotten at the next start. A factory reset makes a new data partition."
}

# Folders that are found again without their names stand in lost+found.
data_is_headless() { [ ! -e /new/var/lib/outpost-box/machine-id ] && [ -n "$(ls /new/var/lost+found 2>/dev/null)" ]; }

# Puts a file system in order and mounts it; what for it cannot be is in why, and in repaired whether it was damaged.
data_try() { # data_try <device> <what ext4 does at an error>
    why= repaired=
    inside /sbin/e2fsck -p $1 >/dev/kmsg 2>&1
    if [ $? -ge 4 ]; then
        inside /sbin/e2fsck -y $1 >/run/e2fsck 2>&1
        tail -n 20 /run/e2fsck >/dev/kmsg
        rm /run/e2fsck
        repaired=yes
    fi
    if ! mount -t ext4 -o noatime,nodev,nosuid,noexec,commit=30,errors=$2 $1 /new/var 2>/dev/kmsg; then
        why="its file system is destroyed"
    elif data_is_headless; then
        umount /new/var
        why="its folders have lost their names"
    fi
    [ -z "$why" ]
}

data_mount() {
    # An error that shows up later starts the box again, so that it is repaired here.
    if [ -z "$failing" ] && ! data_try /dev/${part}4 panic; then
        failing="The file system cannot be repaired on this card."
    fi
    if [ -n "$failing" ]; then
        if card_spare && data_try $spare remount-ro; then
            : >/run/outpost-box/data-aside
            incident card "$failing The data is there, but what is done now is forgotten at the next start. Download a copy of everything, and take it to a new card."
        else
            card_release
            data_aside "${why:-the card is failing}"
        fi
    elif [ -n "$repaired" ]; then
        incident repaired "The file system of the data partition was damaged and has been repaired. Single files may be missing."
    fi
}
