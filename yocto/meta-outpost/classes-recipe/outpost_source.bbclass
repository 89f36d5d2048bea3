# What every recipe made from the release's source shares: one file, made by `make dist`, with everything in it.
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# A vendor who publishes releases sets the address here, and SRC_URI[sha256sum] from the .sha256 beside it.
OUTPOST_SOURCE ?= "file://outpost-${PV}.tar.xz"
FILESEXTRAPATHS:prepend := "${OUTPOST_DIST}:"
SRC_URI = "${OUTPOST_SOURCE}"
S = "${UNPACKDIR}/outpost-${PV}"

# The crates are in the source. Its .cargo/config.toml says so too, but cargo is started in ${B} and does not look there.
CARGO_VENDORING_DIRECTORY = "${S}/vendor"
# Left to BitBake, which refuses programs that are stripped already.
export CARGO_PROFILE_RELEASE_STRIP = "none"
