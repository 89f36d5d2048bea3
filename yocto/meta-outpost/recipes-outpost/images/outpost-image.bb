SUMMARY = "The box: card image and the slot that updates replace"
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_INSTALL = "\
    packagegroup-core-boot \
    outpost \
    outpost-box \
    rauc \
    rauc-service \
    outpost-rauc-conf \
    e2fsprogs-e2fsck \
    e2fsprogs-mke2fs \
    util-linux-addpart \
    libdevmapper \
    kernel-modules \
    ${MACHINE_EXTRA_RRECOMMENDS} \
"
IMAGE_FEATURES = "read-only-rootfs"
IMAGE_LINGUAS = ""
# Names of hardware for people, some 20 MiB. The other image has none either.
BAD_RECOMMENDATIONS = "udev-hwdb"
IMAGE_NAME_SUFFIX = ""

# The slot is written whole by an update, so it may be as large as it is and no larger.
IMAGE_ROOTFS_MAXSIZE = "${@int(d.getVar('OUTPOST_SLOT')) * 1024}"
IMAGE_ROOTFS_EXTRA_SPACE = "0"
IMAGE_OVERHEAD_FACTOR = "1.05"
# Fewer inodes than mke2fs makes in an image of this size: they alone would take more than the overhead.
EXTRA_IMAGECMD:ext4 = "-L outpost-root -m 0 -b 4096 -i 8192 -O ^has_journal,^resize_inode,^metadata_csum_seed,^orphan_file"
# Multiples of it are where partitions begin, in KiB.
OUTPOST_GAP_KIB = "${@int(d.getVar('OUTPOST_GAP')) * 1024}"
# What wic runs, without the loaders of other machines.
WKS_FILE_DEPENDS = "${WKS_FILE_DEPENDS_DEFAULT}"
# The card has the slot in it.
# nooelint: oelint.vars.mispell
IMAGE_TYPEDEP:wic = "ext4"
WICVARS:append = " OUTPOST_BOOT OUTPOST_SLOT OUTPOST_GAP_KIB"
do_image_wic[depends] += "outpost-boot:do_deploy outpost-initramfs:do_image_complete"
do_rootfs[depends] += "virtual/kernel:do_deploy outpost-boot:do_deploy outpost-initramfs:do_image_complete"

# Kernel and RAM disk are part of the slot, so that an update brings its own.
outpost_kernel() {
    install -d ${IMAGE_ROOTFS}/boot/firmware
    if [ "${KERNEL_IMAGETYPE}" = zImage ]; then
        install -m 0644 ${DEPLOY_DIR_IMAGE}/zImage ${IMAGE_ROOTFS}/boot/kernel
    else
        gzip -9nc ${DEPLOY_DIR_IMAGE}/${KERNEL_IMAGETYPE} >${IMAGE_ROOTFS}/boot/kernel
    fi
    install -m 0644 ${DEPLOY_DIR_IMAGE}/outpost-initramfs-${MACHINE}.cpio.gz ${IMAGE_ROOTFS}/boot/initrd.img
    if [ "${OUTPOST_LOADER}" = tryboot ]; then
        install -d ${IMAGE_ROOTFS}/boot/trees
        install -m 0644 ${DEPLOY_DIR_IMAGE}/bcm2712-rpi-5-b.dtb ${IMAGE_ROOTFS}/boot/trees/
        install -m 0644 ${DEPLOY_DIR_IMAGE}/outpost-config.txt ${IMAGE_ROOTFS}/boot/config.txt
    fi
}
# What scripts/image/rootfs.sh does for the other image.
outpost_system() {
    install -d ${IMAGE_ROOTFS}/var ${IMAGE_ROOTFS}/root
    printf 'tmpfs /tmp tmpfs mode=1777,nosuid,nodev,size=25%% 0 0\n' >${IMAGE_ROOTFS}${sysconfdir}/fstab
    sed -i 's#^\(root:.*\):[^:]*$#\1:/bin/sh#' ${IMAGE_ROOTFS}${sysconfdir}/passwd
    printf '/bin/sh\n' >${IMAGE_ROOTFS}${sysconfdir}/shells
    # These two are tzdata's, so that no other package may have them.
    ln -sfn ../run/outpost-box/localtime ${IMAGE_ROOTFS}${sysconfdir}/localtime
    rm -f ${IMAGE_ROOTFS}${sysconfdir}/timezone
    # Where Debian has it, and the first start looks for it.
    [ -e ${IMAGE_ROOTFS}${bindir}/addpart ] || ln -s ../sbin/addpart ${IMAGE_ROOTFS}${bindir}/addpart
    : >${IMAGE_ROOTFS}${sysconfdir}/machine-id
    echo outpost >${IMAGE_ROOTFS}${sysconfdir}/hostname
    # Keys for updates come from outside of the layer: they are somebody's own.
    echo 'OUTPOST_UPDATE_KEYS=own' >>${IMAGE_ROOTFS}${nonarch_libdir}/os-release
    # Packages enable their services, rauc-mark-good and dropbear's socket among them: only the box's own list counts.
    systemctl --root=${IMAGE_ROOTFS} preset-all
    for unit in systemd-logind.service getty@tty1.service getty.target serial-getty@.service systemd-machine-id-commit.service \
        systemd-remount-fs.service systemd-fsck-root.service systemd-firstboot.service systemd-networkd-wait-online.service; do
        ln -sfn /dev/null ${IMAGE_ROOTFS}${sysconfdir}/systemd/system/$unit
    done
}
# After what the classes do: they apply presets too, which fails where a unit is masked already.
ROOTFS_POSTPROCESS_COMMAND:append = " outpost_kernel outpost_system"

# What wic has no words for: the signature that the first start knows an image by, and the record of slots.
IMAGE_CMD:wic:append() {
    printf '%s' "${OUTPOST_SIGNATURE}" | dd of="$out.wic" bs=1 seek=440 conv=notrunc
    dd if=${DEPLOY_DIR_IMAGE}/outpost-slots.bin of="$out.wic" bs=512 seek=1024 conv=notrunc
}
