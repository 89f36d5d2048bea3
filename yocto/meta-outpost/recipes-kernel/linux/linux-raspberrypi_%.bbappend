# What updates and the box's sandbox need of the kernel.
FILESEXTRAPATHS:prepend:outpost := "${THISDIR}/files:"
SRC_URI:append:outpost = " file://outpost.cfg"
