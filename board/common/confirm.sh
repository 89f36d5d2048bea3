#!/bin/sh
# Judges the slot that has been started: outpost-confirm.service.
#
# A slot whose server is well gets its tries back (the record that board/common/boot/boot.cmd reads). One whose server does
# not get well in time, or that keeps ending, is given up for the other slot, if that one has tries left: why is written to
# the data partition, its own tries go to none, and the box is started again. Without another slot the box stays up and
# says so: it may get well yet, and somebody may want to look.
#
# It stands on systemd, busybox and the record of slots only, and on nothing of the server that it judges.

# A confirmed slot's tries. More than an update gets at first (3, which RAUC writes): somebody who plugs a box in and out a
# few times must not be given an older system for it.
CONFIRMED=9
# Seconds without a break for which one and the same process has to be ready.
STEADY=10
# Seconds after which a server that has not been ready is given up; the second while it makes its first keys, which takes
# the smallest boards minutes (TimeoutStartSec= of outpost.service).
LIMIT=150
LIMIT_FIRST=600
# How often it may end.
ENDS=3

state=/var/lib/outpost-box
read -r own </run/outpost-box/slot
case $own in A) other=B ;; *) other=A ;; esac

say() { echo "outpost-confirm: $*"; }
now() { read -r up _ </proc/uptime; echo "${up%%.*}"; }

# Whether the other slot would be started if this one had no tries.
other_can() {
    left=$(fw_printenv -n "BOOT_${other}_LEFT" 2>/dev/null) || return 1
    case " $(fw_printenv -n BOOT_ORDER 2>/dev/null) " in *" $other "*) ;; *) return 1 ;; esac
    [ "${left:-0}" -gt 0 ] 2>/dev/null
}

give_up() { # give_up <why>
    if ! other_can; then
        say "slot $own: $1; slot $other cannot be started either, so this one stays"
        return 1
    fi
    say "slot $own: $1; going back to slot $other"
    busybox mkdir -p -m 700 $state
    printf '%s\n' "$1" >$state/rollback.new
    sync_disk
    busybox mv $state/rollback.new $state/rollback
    sync_disk
    fw_setenv "BOOT_${own}_LEFT" 0
    sync_disk
    # `systemctl reboot` asks logind first, which a box does not have.
    systemctl start --no-block --job-mode=replace-irreversibly reboot.target
    exit 0
}
sync_disk() { busybox sync; }

version=$(. /etc/os-release && echo "$VERSION_ID")
limit=$LIMIT
[ -e /var/lib/outpost/agentserver-cert-private.key ] || limit=$LIMIT_FIRST
began=$(now) since= process= failed= how=
while :; do
    ActiveState= MainPID= NRestarts= Result= ExecMainCode= ExecMainStatus=
    while IFS='=' read -r name value; do
        case $name in
        ActiveState | MainPID | NRestarts | Result | ExecMainStatus) eval "$name=\$value" ;;
        esac
    done <<S
$(systemctl show outpost.service -p ActiveState,MainPID,NRestarts,Result,ExecMainStatus)
S
    at=$(now)
    # How it ended last is forgotten while it is started again.
    [ "$Result" = success ] || how=" ($Result, status $ExecMainStatus)"
    if [ "$ActiveState" = active ] && [ "$MainPID" = "$process" ]; then
        if [ $((at - since)) -ge $STEADY ]; then
            fw_setenv "BOOT_${own}_LEFT" $CONFIRMED
            sync_disk
            say "slot $own works: version $version"
            exit 0
        fi
    elif [ "$ActiveState" = active ]; then
        process=$MainPID since=$at
    else
        process=
        if [ -z "$failed" ]; then
            if [ "${NRestarts:-0}" -ge $ENDS ]; then
                give_up "version $version: its server ended $NRestarts times$how" || failed=yes
            elif [ $((at - began)) -ge "$limit" ]; then
                give_up "version $version: its server was not ready after $limit s" || failed=yes
            fi
        fi
    fi
    if [ -n "$failed" ]; then busybox sleep 15; else busybox sleep 2; fi
done
