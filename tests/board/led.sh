#!/bin/bash
# The activity LED, in a folder that looks like the kernel's.
set -euo pipefail
cd "$(dirname "$0")/../.."
script=$PWD/board/common/led/outpost-led
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OUTPOST_LEDS=$work/leds PATH=$work/bin:$PATH
passed=0
mkdir -p "$work/bin"
printf '#!/bin/sh\n[ -e %s/active ]\n' "$work" >"$work/bin/systemctl"
printf '#!/bin/sh\n[ "$*" = "-q ledtrig-timer" ] && touch %s/loaded\n' "$work" >"$work/bin/modprobe"
chmod 755 "$work/bin/systemctl" "$work/bin/modprobe"

is() { # is <what> <words of outpost-led> <trigger> <delay or brightness>
    local led=$OUTPOST_LEDS/${led:-ACT}
    # shellcheck disable=SC2086
    "$script" $2
    local found
    case $(cat "$led/trigger") in
    timer) found="timer $(cat "$led/delay_on") $(cat "$led/delay_off")" ;;
    *) found="$(cat "$led/trigger") $(cat "$led/brightness")" ;;
    esac
    if [ "$found" = "$3" ]; then passed=$((passed + 1)); else echo "FAIL $1: wanted '$3', found '$found'"; echo "$passed passed, 1 failed"; exit 1; fi
}
make() { mkdir -p "$OUTPOST_LEDS/$1"; echo mmc0 >"$OUTPOST_LEDS/$1/trigger"; echo "$2" >"$OUTPOST_LEDS/$1/max_brightness"; }

"$script" ready && passed=$((passed + 1)) # no LED is no failure
make PWR 255
"$script" ready
[ "$(cat "$OUTPOST_LEDS/PWR/trigger")" = mmc0 ] && passed=$((passed + 1))
make ACT 255
is "slow while it starts" starting "timer 1000 1000"
[ -e "$work/loaded" ] && passed=$((passed + 1)) # what blinks is a module
is "on when it is well" ready "none 255"
SERVICE_RESULT=watchdog is "fast when its watchdog bit" ended "timer 100 100"
SERVICE_RESULT=exit-code is "fast when it failed" ended "timer 100 100"
SERVICE_RESULT=success is "off when it was told to stop" ended "none 0"
touch "$work/active"
is "found late, the LED says what is true" starting "none 255"
rm -r "$OUTPOST_LEDS/ACT"
make led0 1
led=led0 is "by its older name, with another brightness" ready "none 1"
"$script" nonsense 2>/dev/null || passed=$((passed + 1))
echo "$passed passed, 0 failed"
