SUMMARY = "Which updates a box takes, and into which slots"
SECTION = "base"

inherit outpost_source

# Certificates of whoever signs updates, from outside of the layer: `make update-keys` makes them for trying, a vendor has
# his own. Never a private key.
OUTPOST_UPDATE_CA ?= ""

do_configure[noexec] = "1"
do_compile[noexec] = "1"

# nooelint: oelint.task.noanonpython
python () {
    if not d.getVar('OUTPOST_UPDATE_CA'):
        raise bb.parse.SkipRecipe('OUTPOST_UPDATE_CA is not set: the path of the certificates that updates are checked with')
}

do_install() {
    install -d ${D}${sysconfdir}/rauc
    sed 's/@BOARD@/${MACHINE}/' ${S}/board/common/rauc/system.conf >${D}${sysconfdir}/rauc/system.conf
    if [ "${OUTPOST_LOADER}" = tryboot ]; then
        printf '\n[handlers]\npost-install=/usr/lib/outpost-box/tryboot-stage\n' >>${D}${sysconfdir}/rauc/system.conf
    fi
    if grep -q 'PRIVATE KEY' ${OUTPOST_UPDATE_CA}; then
        bbfatal "There is a private key in OUTPOST_UPDATE_CA."
    fi
    install -m 0644 ${OUTPOST_UPDATE_CA} ${D}${sysconfdir}/rauc/keyring.pem
}
do_install[file-checksums] += "${@d.getVar('OUTPOST_UPDATE_CA') + ':True' if d.getVar('OUTPOST_UPDATE_CA') else ''}"

PACKAGE_ARCH = "${MACHINE_ARCH}"
RPROVIDES:${PN} = "virtual-rauc-conf"
