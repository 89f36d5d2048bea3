SUMMARY = "Initial RAM disk of the box"
LICENSE = "Apache-2.0"

inherit core-image

PACKAGE_INSTALL = "outpost-init busybox ${ROOTFS_BOOTSTRAP_INSTALL}"
IMAGE_FSTYPES = "cpio.gz"
IMAGE_NAME_SUFFIX = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
IMAGE_ROOTFS_SIZE = "8192"
IMAGE_ROOTFS_EXTRA_SPACE = "0"
NO_RECOMMENDATIONS = "1"
# It is put into images, and not one itself.
export IMAGE_BASENAME = "outpost-initramfs"
