#!/bin/sh
# The reset button's reading (board/common/init/button.sh) against a made-up /sys/class/gpio: tests/image/button.sh
# mishaps.mjs has a kernel's real one, whose pin is always low; the boards' pins with their pull-ups no emulator has.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
GPIO=$(mktemp -d) PIN_FILE=$GPIO/pin failed=0 count=0
trap 'rm -rf "$GPIO"' EXIT
sleep() { :; }
. "$here/board/common/init/button.sh"
expects() { # expects <held|not> <words>
    count=$((count + 1))
    if button_held; then is=held; else is=not; fi
    if [ $is = "$1" ]; then echo "  ok    $2"; else echo "  FAIL  $2"; failed=$((failed + 1)); fi
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
echo 1 >"$GPIO/gpio533/value"
expects not "a button that is not pressed"
echo 0 >"$GPIO/gpio533/value"
expects held "a button that is held"
sleep() { [ $tenths -lt 49 ] || echo 1 >"$GPIO/gpio533/value"; }
expects not "a button that is let go after 4.9 s"
echo "$((count - failed)) passed, $failed failed"
[ $failed = 0 ]
