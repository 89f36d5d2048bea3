SUMMARY = "Signed update of the box"
LICENSE = "Apache-2.0"

inherit bundle

RAUC_BUNDLE_COMPATIBLE = "outpost-${MACHINE}"
RAUC_BUNDLE_VERSION = "${PV}"
RAUC_BUNDLE_DESCRIPTION = "Outpost ${PV}"
RAUC_BUNDLE_FORMAT = "verity"
RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_SLOT_rootfs = "outpost-image"
RAUC_SLOT_rootfs[fstype] = "ext4"
# As in outpost-image: part of the name of the file that is looked for.
IMAGE_NAME_SUFFIX = ""

# Who signs, from outside of the layer, and what it is checked with.
OUTPOST_UPDATE_KEY ?= ""
OUTPOST_UPDATE_CERTIFICATE ?= ""
OUTPOST_UPDATE_CA ?= ""
RAUC_KEY_FILE = "${OUTPOST_UPDATE_KEY}"
RAUC_CERT_FILE = "${OUTPOST_UPDATE_CERTIFICATE}"
RAUC_KEYRING_FILE = "${OUTPOST_UPDATE_CA}"

# nooelint: oelint.task.noanonpython
python () {
    missing = [name for name in ('OUTPOST_UPDATE_KEY', 'OUTPOST_UPDATE_CERTIFICATE', 'OUTPOST_UPDATE_CA') if not d.getVar(name)]
    if missing:
        raise bb.parse.SkipRecipe('%s not set: see yocto/README.md' % ', '.join(missing))
}
