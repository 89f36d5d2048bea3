# The table of partitions, in the first sector of the disk. A chapter of init.
#
# It is small and everything hangs on it: without its last entry the data would be there and not be found. So it is kept a
# second time, as it is, and is put back when it is broken. On a computer, the first sector of a card that does not start
# any more can be put back by hand: dd if=CARD of=CARD bs=512 skip=1025 count=1

# The signature that every image has; a card that has been started has another.
FRESH=4f54554f
# In sectors of 512 bytes: partitions begin at multiples of 4 MiB, and data has 64 MiB or more.
ALIGN=8192
LEAST=131072
COPY=1025
CHECKSUM=1026

sector() { dd if=$device bs=512 skip=$1 count=1 2>/dev/null; }
# write_sector <number>: from standard input, onto the card before it returns.
write_sector() { dd of=$device bs=512 seek=$1 count=1 conv=sync,fsync,notrunc 2>/dev/null; }
number_at() { hexdump -s $2 -n 4 -e '1/4 "%u"' $1; }
signature() { sector 0 | dd bs=1 skip=440 count=4 2>/dev/null | hexdump -e '1/4 "%08x"'; }

# Whether a sector in a file is a table with our four partitions, in order, on this disk.
table_is_whole() { # table_is_whole <file>
    [ "$(hexdump -s 510 -n 2 -e '2/1 "%02x"' $1)" = 55aa ] || return 1
    after=2048
    for at in 446 462 478 494; do
        [ "$(hexdump -s $((at + 4)) -n 1 -e '1/1 "%02x"' $1)" != 00 ] || return 1
        begins=$(number_at $1 $((at + 8))) length=$(number_at $1 $((at + 12)))
        [ "$begins" -ge $after ] && [ "$length" -gt 0 ] || return 1
        after=$((begins + length))
    done
    [ $after -le "$(cat /sys/class/block/$disk/size)" ]
}

# Whether the disk holds a copy that can be believed; it is in /run/table.copy then.
table_remembered() {
    sector $COPY >/run/table.copy
    [ "$(sector $CHECKSUM | head -n 1)" = "outpost table $(sha256sum </run/table.copy | cut -c 1-64)" ] && table_is_whole /run/table.copy
}

table_restore() {
    sector 0 >/run/table.now
    if ! table_is_whole /run/table.now && table_remembered; then
        write_sector 0 </run/table.copy
        blockdev --rereadpt $device
        within [ -b /dev/${part}4 ]
        incident repaired "The table of partitions at the beginning of the card was damaged and has been put back. Nothing was lost."
    fi
    rm -f /run/table.now /run/table.copy
}

# Keeps the copy. A table that is whole and another than the copy was changed by somebody: it is the one to keep.
table_remember() {
    sector 0 >/run/table.now
    if table_is_whole /run/table.now && ! { table_remembered && cmp -s /run/table.now /run/table.copy; }; then
        write_sector $COPY </run/table.now
        echo "outpost table $(sha256sum </run/table.now | cut -c 1-64)" | write_sector $CHECKSUM
    fi
    rm -f /run/table.now /run/table.copy
}

# --- The first start adds slot B (3) and data (4) to the card's end, and a signature of its own. The kernel knows of them
# first (table_make). The card does by one write of its first sector (table_write), after the data's file system has been
# made: a power cut before it starts over, and after it nothing is formatted again.
table_make() {
    total=$(cat /sys/class/block/$disk/size)
    start=$(cat /sys/class/block/${part}2/start) length=$(cat /sys/class/block/${part}2/size)
    second=$((start + length))
    data=$(((second + length + ALIGN - 1) / ALIGN * ALIGN))
    size=$(((total - data) / ALIGN * ALIGN))
    # What an entry of the table can say.
    [ $size -gt 4294959104 ] && size=4294959104
    [ $size -lt $LEAST ] && die "this card is too small: $((total / 2048)) MiB"
    say "first start: $((size / 2048)) MiB for data"
    inside /usr/bin/addpart $device 3 $second $length
    inside /usr/bin/addpart $device 4 $data $size
}

bytes() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
entry() { printf "\\x00\\xfe\\xff\\xff\\x83\\xfe\\xff\\xff$(bytes $1)$(bytes $2)"; }
table_write() {
    sector 0 >/run/table.now
    {
        dd if=/run/table.now bs=1 count=440 2>/dev/null
        # Two cards in one machine must not be taken for each other.
        dd if=/dev/urandom bs=4 count=1 2>/dev/null
        dd if=/run/table.now bs=1 skip=444 count=34 2>/dev/null
        entry $second $length
        entry $data $size
        printf '\x55\xaa'
    } >/run/table.new
    [ "$(stat -c %s /run/table.new)" = 512 ] && table_is_whole /run/table.new || die "the partition table cannot be made"
    write_sector 0 </run/table.new
    rm /run/table.now /run/table.new
}
