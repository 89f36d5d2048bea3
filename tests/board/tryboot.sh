#!/bin/bash
# The slots of a Raspberry Pi 5 in a folder: the boot partition's files, the record of slots as a file of texts, and what the
# firmware would read. Needs busybox.
set -euo pipefail
cd "$(dirname "$0")/../.."
script=$PWD/board/common/tryboot/outpost-tryboot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
export OUTPOST_ROOT=$work/root PATH=$work/bin:$PATH RECORD=$work/record
boot=$OUTPOST_ROOT/boot/firmware

mkdir -p "$work/bin"
cat >"$work/bin/fw_printenv" <<'P'
#!/bin/sh
# fw_printenv -n NAME
grep "^$2=" "$RECORD" | cut -d= -f2- | grep .
P
cat >"$work/bin/fw_setenv" <<'P'
#!/bin/sh
# fw_setenv NAME VALUE
sed -i "s/^$1=.*/$1=$2/" "$RECORD"
P
chmod 755 "$work"/bin/*

fresh() { # a box that runs slot A, and an update in slot B
    rm -rf "$OUTPOST_ROOT"
    mkdir -p "$boot/slot-a" "$OUTPOST_ROOT/run/outpost-box/staged/boot/trees"
    echo A >"$OUTPOST_ROOT/run/outpost-box/slot"
    cp board/common/tryboot/config.txt "$boot/config.txt"
    echo "console=tty0 outpost.slot=A rauc.slot=A panic=10 quiet" >"$boot/slot-a/cmdline.txt"
    echo old >"$boot/slot-a/kernel.img"
    staged=$OUTPOST_ROOT/run/outpost-box/staged/boot
    echo kernel >"$staged/kernel"; echo disk >"$staged/initrd.img"; echo tree >"$staged/trees/bcm2712-rpi-5-b.dtb"
    sed 's/^enable_uart=1/enable_uart=0/' board/common/tryboot/config.txt >"$staged/config.txt"
    printf 'BOOT_ORDER=B A\nBOOT_A_LEFT=9\nBOOT_B_LEFT=3\n' >"$RECORD"
}
is() { # is <what> <wanted> <found>
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else echo "FAIL $1: wanted '$2', found '$3'"; echo "$passed passed, 1 failed"; exit 1; fi
}
starts() { sed -n 's/^os_prefix=//p' "$boot/$1"; }

fresh
"$script" stage >/dev/null
is "the try is of the new slot" slot-b/ "$(starts tryboot.txt)"
is "without it the old one starts" slot-a/ "$(starts config.txt)"
is "the update brings its own settings" enable_uart=0 "$(grep enable_uart "$boot/tryboot.txt")"
is "kernel, RAM disk and trees are the update's" "kernel disk tree" "$(cd "$boot/slot-b" && echo $(cat kernel.img initrd.img bcm2712-rpi-5-b.dtb))"
is "the command line names the slot" "console=tty0 outpost.slot=B rauc.slot=B panic=10 quiet" "$(cat "$boot/slot-b/cmdline.txt")"
is "the restart is a try" "0 tryboot" "$(cat "$OUTPOST_ROOT/run/systemd/reboot-param")"
is "the running slot's files are as they were" old "$(cat "$boot/slot-a/kernel.img")"

# It starts, and is found good.
echo B >"$OUTPOST_ROOT/run/outpost-box/slot"
"$script" settle
is "a try that runs is no failure" 3 "$(fw_printenv -n BOOT_B_LEFT)"
"$script" commit >/dev/null
is "found good, it is the one that starts" slot-b/ "$(starts config.txt)"
is "and nothing is tried any more" no "$([ -e "$boot/tryboot.txt" ] && echo yes || echo no)"
"$script" commit
is "twice is once" slot-b/ "$(starts config.txt)"

# It does not start: the firmware goes back by itself.
fresh
"$script" stage >/dev/null
"$script" settle >/dev/null
is "the record says that it failed" 0 "$(fw_printenv -n BOOT_B_LEFT)"
is "the old one goes on" slot-a/ "$(starts config.txt)"

# RAUC's handler has no words, only a name.
fresh
ln -s "$script" "$work/tryboot-stage"
"$work/tryboot-stage" >/dev/null
is "called by its name" slot-b/ "$(starts tryboot.txt)"

# Nothing new: nothing is touched.
fresh
printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=9\nBOOT_B_LEFT=0\n' >"$RECORD"
"$script" stage >/dev/null
is "nothing to try" no "$([ -e "$boot/tryboot.txt" ] && echo yes || echo no)"
# A slot that is not the one in tryboot.txt is never made the one that starts.
echo B >"$OUTPOST_ROOT/run/outpost-box/slot"
printf 'os_prefix=slot-a/\n' >"$boot/tryboot.txt"
"$script" commit >/dev/null && found=yes || found=no
is "a stranger's try is refused" no "$found"
echo "$passed passed, 0 failed"
