SUMMARY = "Program of the initial RAM disk: finds, prepares and mounts the card"
SECTION = "base"

inherit outpost_source

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    common=${S}/board/common/init
    install -D -m 0755 $common/init ${D}/init
    for file in $common/*.sh; do
        [ ! -f $file ] || install -D -m 0644 $file ${D}${sysconfdir}/outpost/$(basename $file)
    done
    # Drivers are in the kernel of these boards; those in the list that are modules are not needed to reach the card.
    install -D -m 0644 $common/modules ${D}${sysconfdir}/modules
    # The pin of the reset button.
    if [ -n "${OUTPOST_BOARD}" ]; then
        pin=$(sed -n 's/^RESET_PIN="\(.*\)"$/\1/p' ${S}/board/${OUTPOST_BOARD}/board.conf)
        [ -n "$pin" ] || bbfatal "There is no RESET_PIN in board/${OUTPOST_BOARD}/board.conf."
        echo "$pin" >${D}${sysconfdir}/outpost/reset-pin
    fi
    install -d ${D}/dev ${D}/proc ${D}/sys
}

PACKAGE_ARCH = "${MACHINE_ARCH}"
FILES:${PN} += "/init /dev /proc /sys"
RDEPENDS:${PN} = "busybox"
# /bin/busybox, which busybox has as /usr/bin/busybox, behind the link /bin.
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} = "file-rdeps"
