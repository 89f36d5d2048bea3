SUMMARY = "Remote-management server that lives in a small box"
DESCRIPTION = "Terminals, desktops and files of many machines in a browser. Agents and tools of MeshCentral work with it as they are."
SECTION = "net"

inherit outpost_source cargo systemd useradd

CARGO_BUILD_FLAGS += "--package outpost"
# The page is in the source as built (web/dist); no Node.js here.

USERADD_PACKAGES = "${PN}"
# As systemd/sysusers.d/outpost.conf says.
GROUPADD_PARAM:${PN} = "--system --gid 880 outpost"
USERADD_PARAM:${PN} = "--system --uid 880 --gid outpost --home-dir /var/lib/outpost --no-create-home --shell /sbin/nologin outpost"

SYSTEMD_SERVICE:${PN} = "outpost.service"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/outpost ${D}${nonarch_libdir}/outpost/outpost
    install -d ${D}${bindir}
    ln -s ../lib/outpost/outpost ${D}${bindir}/outpost
    install -D -m 0644 ${S}/systemd/outpost.service ${D}${systemd_system_unitdir}/outpost.service
    install -D -m 0644 ${S}/systemd/sysusers.d/outpost.conf ${D}${nonarch_libdir}/sysusers.d/outpost.conf
    install -D -m 0644 ${S}/NOTICE ${D}${docdir}/outpost/NOTICE
}

FILES:${PN} += "${nonarch_libdir}/outpost ${nonarch_libdir}/sysusers.d"
# What Add Device offers. Without it, only machines that have an agent already can come.
RRECOMMENDS:${PN} = "outpost-agents"
