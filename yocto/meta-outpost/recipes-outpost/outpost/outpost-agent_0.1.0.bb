SUMMARY = "Agent of Outpost: lets this machine be managed"
DESCRIPTION = "For images of machines that are managed, not for the box that manages them."
SECTION = "net"

inherit outpost_source cargo systemd

CARGO_BUILD_FLAGS += "--package outpost-agent"

SYSTEMD_SERVICE:${PN} = "outpost-agent.service"
# It needs the settings of a server first (outpost-agent.msh in /var/lib/outpost-agent).
SYSTEMD_AUTO_ENABLE:${PN} = "disable"

do_install() {
    # Where the unit and the install script look for it; an installation by hand replaces it.
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/outpost-agent ${D}/usr/local/lib/outpost-agent/outpost-agent
    install -D -m 0644 ${S}/systemd/outpost-agent.service ${D}${systemd_system_unitdir}/outpost-agent.service
}

FILES:${PN} += "/usr/local/lib/outpost-agent"
