SUMMARY = "What makes a system a box: units, network, journal, settings, LED"
DESCRIPTION = "The very files of board/common in the release's source, which the card image from Debian's packages has too."
SECTION = "base"

inherit outpost_source

do_configure[noexec] = "1"
do_compile[noexec] = "1"

box = "${nonarch_libdir}/outpost-box"

do_install() {
    common=${S}/board/common
    units=${D}${systemd_system_unitdir}
    for unit in $common/systemd/*.service $common/systemd/*.socket $common/systemd/*.path $common/systemd/*.timer; do
        [ ! -f $unit ] || install -D -m 0644 $unit $units/$(basename $unit)
    done
    for folder in $common/systemd/*.d; do
        for file in $folder/*.conf; do
            install -D -m 0644 $file $units/$(basename $folder)/$(basename $file)
        done
    done
    for name in journald system resolved timesyncd; do
        install -D -m 0644 $common/systemd/$name.conf ${D}${nonarch_libdir}/systemd/$name.conf.d/10-outpost.conf
    done
    install -D -m 0644 $common/systemd/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/outpost-box.conf
    install -D -m 0644 $common/systemd/box.preset ${D}${nonarch_libdir}/systemd/system-preset/00-outpost-box.preset
    install -D -m 0644 $common/systemd/fw_env.config ${D}${sysconfdir}/fw_env.config
    install -D -m 0755 $common/confirm.sh ${D}${box}/confirm

    # Files for settings on the card; it also writes some of other packages, which are the image's matter here.
    install -d ${D}${sysconfdir}
    : >${D}${sysconfdir}/passwd
    ${S}/scripts/image/settings.sh ${D}
    rm ${D}${sysconfdir}/passwd ${D}${sysconfdir}/shells ${D}${sysconfdir}/localtime

    if [ "${OUTPOST_LOADER}" = tryboot ]; then
        install -D -m 0755 $common/tryboot/outpost-tryboot ${D}${box}/tryboot
        # RAUC calls it by this name, without words.
        ln -s tryboot ${D}${box}/tryboot-stage
        install -m 0644 $common/tryboot/outpost-tryboot-settle.service $common/tryboot/outpost-tryboot-commit.service $units/
        install -D -m 0644 $common/tryboot/confirm.conf $units/outpost-confirm.service.d/tryboot.conf
        echo 'enable outpost-tryboot-settle.service' >${D}${nonarch_libdir}/systemd/system-preset/00-box-tryboot.preset
    fi
}

PACKAGE_ARCH = "${MACHINE_ARCH}"
FILES:${PN} += "${nonarch_libdir} /root"
CONFFILES:${PN} = ""
# What the units start.
RDEPENDS:${PN} = "busybox dropbear libubootenv-bin outpost rauc tzdata util-linux-mount"
RRECOMMENDS:${PN} = "iwd wireless-regdb-static"
