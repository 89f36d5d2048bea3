#!/bin/sh
# The reset button's reading (board/common/init/button.sh) against a made-up /sys/class/gpio: tests/image/button.sh
# mishaps.mjs has a kernel's real one; the boards' pins with their pull-ups no emulator has.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
GPIO=$(mktemp -d) PIN_FILE=$GPIO/pin failed=0 count=0 said= noticed=
trap 'rm -rf "$GPIO"' EXIT
sleep() { :; }
incident() { said=$1; }
. "$here/board/common/init/button.sh"
button_noticed() { noticed=yes; }
expects() { # expects <asks|not> <words>, and noticed, said
    count=$((count + 1))
    said= noticed=
    if button_asks; then is=asks; else is=not; fi
    if [ "$is" = "$1" ] && [ "$noticed/$said" = "${3:-/}" ]; then
        echo "  ok    $2"
    else
        echo "  FAIL  $2: $is $noticed/$said"
        failed=$((failed + 1))
    fi
}
expects not "a board without a pin"
echo 21 pinctrl-bcm2835 pinctrl-bcm2711 >"$PIN_FILE"
expects not "no controller"
mkdir -p "$GPIO/gpiochip504" "$GPIO/gpiochip512" "$GPIO/gpio533" "$GPIO/gpio525"
echo raspberrypi-exp-gpio >"$GPIO/gpiochip504/label" && echo 504 >"$GPIO/gpiochip504/base"
echo 0 >"$GPIO/gpio525/value"
expects not "another controller's pin of that number is low"
echo pinctrl-bcm2711 >"$GPIO/gpiochip512/label" && echo 512 >"$GPIO/gpiochip512/base"
expects not "a pin that cannot be read"
level=$GPIO/gpio533/value
echo 1 >"$level"
expects not "a button that is not pressed"
echo 0 >"$level"
sleep() { [ $tenths -lt 49 ] || echo 1 >"$level"; }
expects not "a button that is let go after 4.9 s"
echo 0 >"$level"
sleep() { [ $tenths -lt 50 ] || echo 1 >"$level"; }
expects asks "a button that is held for 5 s and let go" yes/
echo 0 >"$level"
sleep() { [ $tenths -lt 349 ] || echo 1 >"$level"; }
expects asks "a button that is let go at the last moment" yes/
echo 0 >"$level"
sleep() { :; }
expects not "a pin that is always low" yes/button
sleep() { [ $tenths -lt 60 ] || rm -f "$level"; }
expects not "a pin that cannot be read any more while it is held" yes/
echo "$((count - failed)) passed, $failed failed"
[ $failed = 0 ]
