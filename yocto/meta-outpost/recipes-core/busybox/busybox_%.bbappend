# The initial RAM disk and the boxes' scripts stand on busybox alone.
FILESEXTRAPATHS:prepend:outpost := "${THISDIR}/files:"
SRC_URI:append:outpost = " file://outpost.cfg"
