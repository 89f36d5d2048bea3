SUMMARY = "What a board starts by: boot script or firmware's files, record of slots"
SECTION = "bootloaders"

inherit outpost_source deploy nopackages

DEPENDS += "python3-native u-boot-mkimage-native"
PROVIDES = "u-boot-default-script"

do_configure[noexec] = "1"
do_install[noexec] = "1"

do_compile() {
    common=${S}/board/common
    if [ "${OUTPOST_LOADER}" = uboot ]; then
        sed -e 's/@CONSOLE@/${OUTPOST_CONSOLE}/' -e 's/@KERNEL_AT@/${OUTPOST_KERNEL_AT}/g' \
            -e 's/@PACKED_AT@/${OUTPOST_PACKED_AT}/g' -e 's/@INITRD_AT@/${OUTPOST_INITRD_AT}/g' \
            -e 's/@BOOT_COMMAND@/${OUTPOST_BOOT_COMMAND}/' $common/boot/boot.cmd >${B}/boot.cmd
        if grep -q '@[A-Z_]*@' ${B}/boot.cmd; then
            bbfatal "boot.cmd has placeholders that this recipe does not know: $(grep -o '@[A-Z_]*@' ${B}/boot.cmd)"
        fi
        mkimage -A ${UBOOT_ARCH} -T script -C none -n outpost -d ${B}/boot.cmd ${B}/boot.scr
    else
        install -m 0644 $common/tryboot/config.txt ${B}/outpost-config.txt
        echo "${OUTPOST_CONSOLE} outpost.slot=A rauc.slot=A panic=10 quiet" >${B}/outpost-cmdline-a.txt
    fi
    # A sector with CRC, as U-Boot keeps its variables; a fresh card has no slot B.
    truncate -s 1M ${B}/record.img
    python3 ${S}/scripts/image/slots.py ${B}/record.img BOOT_ORDER='A B' BOOT_A_LEFT=3 BOOT_B_LEFT=0
    dd if=${B}/record.img of=${B}/outpost-slots.bin bs=512 skip=1024 count=1
}

do_deploy() {
    for file in boot.scr outpost-config.txt outpost-cmdline-a.txt outpost-slots.bin; do
        [ ! -f ${B}/$file ] || install -m 0644 ${B}/$file ${DEPLOYDIR}/$file
    done
    install -m 0644 ${S}/board/common/outpost.toml.example ${DEPLOYDIR}/outpost.toml.example
}
addtask deploy after do_compile before do_build

B = "${WORKDIR}/build"
UBOOT_ARCH = "${@'arm64' if d.getVar('TARGET_ARCH') == 'aarch64' else 'arm'}"
PACKAGE_ARCH = "${MACHINE_ARCH}"
COMPATIBLE_MACHINE = "^rpi$"
