# U-Boot: which slot starts. The choice is one sector of 512 bytes at 512 KiB (LBA 0x400), outside every file system:
# an order, and for each slot how often it may still be tried. A slot that comes up sets its count back
# (outpost-confirm.service); one that does not runs out of tries, and the other one starts.
setenv state ${scriptaddr}; setexpr state ${scriptaddr} + 0x10000
${devtype} dev ${devnum}
setenv BOOT_ORDER; setenv BOOT_A_LEFT; setenv BOOT_B_LEFT
if ${devtype} read ${state} 0x400 1 && env import -c ${state} 0x200 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then true; else echo "Outpost: the record of slots is damaged, starting afresh"; fi
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
setenv slot
for name in ${BOOT_ORDER}; do
  if test "x${slot}" = "x"; then
    if test "x${name}" = "xA"; then
      if test ${BOOT_A_LEFT} -gt 0; then setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; setenv slot A; setenv part 2; fi
    else
      if test ${BOOT_B_LEFT} -gt 0; then setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; setenv slot B; setenv part 3; fi
    fi
  fi
done
if test "x${slot}" = "x"; then
  echo "Outpost: no slot has tries left, all get new ones"
  setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3
  env export -c -s 0x200 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; ${devtype} write ${state} 0x400 1; reset
fi
env export -c -s 0x200 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
${devtype} write ${state} 0x400 1
echo "Outpost: slot ${slot}"
# Another disk may have a boot partition of the same name: the kernel is told which one this is.
setenv disk; part uuid ${devtype} ${devnum}:2 disk
setenv bootargs "@CONSOLE@ outpost.disk=${disk} outpost.slot=${slot} rauc.slot=${slot} panic=10 quiet"
if load ${devtype} ${devnum}:${part} @PACKED_AT@ boot/kernel && load ${devtype} ${devnum}:${part} @INITRD_AT@ boot/initrd.img; then
  setenv initrd_size 0x${filesize}
  if test -n "${fdt_addr}"; then setenv tree ${fdt_addr}; else setenv tree ${fdtcontroladdr}; fi
  # A kernel of 32 bits unpacks itself, and is where it starts; U-Boot on those boards could not unpack it.
  if test @PACKED_AT@ = @KERNEL_AT@ || unzip @PACKED_AT@ @KERNEL_AT@; then
    @BOOT_COMMAND@ @KERNEL_AT@ @INITRD_AT@:${initrd_size} ${tree}
  fi
fi
echo "Outpost: slot ${slot} cannot be loaded"; reset
