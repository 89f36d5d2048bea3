# A button that asks for a factory reset: it connects a pin of the board (RESET_PIN of board.conf) to ground. It is held while the
# box is switched on, until the lamp blinks fast, and let go then. A chapter of init.
#
# That it is let go counts: config.txt gives the pin a pull-up, without which it is always low, and nobody shall lose data to
# a missing line there or to a wire.
GPIO=${GPIO:-/sys/class/gpio}
# The pin's number, and the names that the kernel has for the controller of the header's pins on these boards: they have other
# controllers, for LEDs and power.
PIN_FILE=${PIN_FILE:-/etc/outpost/reset-pin}
# Tenths of a second: how long it is held at least, and when it has to have been let go.
HELD=50 LET_GO=350

# Where the pins of the first controller with one of these names begin.
button_base() {
    for chip in $GPIO/gpiochip*; do
        label=$(cat $chip/label 2>/dev/null) || continue
        for name in "$@"; do [ "$label" != "$name" ] || { cat $chip/base && return 0; }; done
    done
    return 1
}

button_noticed() {
    for screen in /dev/console /dev/tty0; do echo "The reset button is held: let it go now, and the box is reset." >$screen; done 2>/dev/null
    inside /sbin/modprobe -q leds_gpio
    inside /usr/lib/outpost-box/outpost-led fault
}

button_asks() {
    read -r pin names 2>/dev/null <"$PIN_FILE" && base=$(button_base $names) || return 1
    line=$GPIO/gpio$((base + pin))
    [ -e $line ] || echo $((base + pin)) >$GPIO/export 2>/dev/null
    echo in >$line/direction 2>/dev/null
    tenths=0
    # What cannot be read is not pressed, and has not been let go.
    while value=$(cat $line/value 2>/dev/null) && [ "$value" = 0 ] && [ $tenths -lt $LET_GO ]; do
        tenths=$((tenths + 1))
        [ $tenths -ne $HELD ] || button_noticed
        sleep 0.1
    done
    echo $((base + pin)) >$GPIO/unexport 2>/dev/null
    if [ "$value" = 0 ]; then
        incident button "The pin of the reset button has been connected to ground ever since the box was switched on, so it is passed over."
    fi
    [ "$value" = 1 ] && [ $tenths -ge $HELD ]
}
