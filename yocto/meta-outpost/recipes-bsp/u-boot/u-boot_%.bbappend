# Noise on a serial line is no key that stops the start.
FILESEXTRAPATHS:prepend:outpost := "${THISDIR}/files:"
SRC_URI:append:outpost = " file://outpost.cfg"
