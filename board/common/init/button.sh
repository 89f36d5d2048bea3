# A button that asks for a factory reset: a pin of the board (RESET_PIN of board.conf) that is connected to ground while the box
# is switched on, and stays so for five seconds. config.txt gives it a pull-up, without which it would always be low.
# A chapter of init.
GPIO=${GPIO:-/sys/class/gpio}
# The pin's number, and the names that the kernel has for the controller of the header's pins on these boards: they have other
# controllers, for LEDs and power.
PIN_FILE=${PIN_FILE:-/etc/outpost/reset-pin}
# Tenths of a second.
HELD=50

# Where the pins of the first controller with one of these names begin.
button_base() {
    for chip in $GPIO/gpiochip*; do
        label=$(cat $chip/label 2>/dev/null) || continue
        for name in "$@"; do [ "$label" != "$name" ] || { cat $chip/base && return 0; }; done
    done
    return 1
}

button_held() {
    read -r pin names 2>/dev/null <"$PIN_FILE" && base=$(button_base $names) || return 1
    line=$GPIO/gpio$((base + pin))
    [ -e $line ] || echo $((base + pin)) >$GPIO/export 2>/dev/null
    echo in >$line/direction 2>/dev/null
    tenths=0
    # What cannot be read is not pressed.
    while [ "$(cat $line/value 2>/dev/null)" = 0 ]; do
        tenths=$((tenths + 1))
        if [ $tenths -ge $HELD ]; then
            echo $((base + pin)) >$GPIO/unexport 2>/dev/null
            return 0
        fi
        sleep 0.1
    done
    echo $((base + pin)) >$GPIO/unexport 2>/dev/null
    return 1
}
