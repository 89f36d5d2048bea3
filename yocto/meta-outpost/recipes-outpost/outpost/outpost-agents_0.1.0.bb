SUMMARY = "Outpost's agents for the machines that a box manages"
DESCRIPTION = "Static programs for four kinds of processors, as `make cross` builds them: they are given to devices, and do not run on the box."
SECTION = "net"

inherit outpost_source

OUTPOST_AGENTS_SOURCE ?= "file://outpost-agents-${PV}.tar.xz"
SRC_URI += "${OUTPOST_AGENTS_SOURCE}"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    for agent in ${UNPACKDIR}/outpost-agents-${PV}/*/outpost-agent; do
        target=$(basename $(dirname $agent))
        install -D -m 0755 $agent ${D}${nonarch_libdir}/outpost/agents/$target/outpost-agent
    done
}

FILES:${PN} += "${nonarch_libdir}/outpost/agents"

# Programs for other machines than the one that is built for.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_SYSROOT_STRIP = "1"
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} = "arch already-stripped"
EXCLUDE_FROM_SHLIBS = "1"
