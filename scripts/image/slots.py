"""Writes the record of slots into a disk, as U-Boot keeps its variables: a CRC-32 and texts that end with a zero byte, in
512 bytes at 512 KiB (board/common/boot/boot.cmd). slots.py <disk> NAME=value…"""
import sys, zlib

AT, SIZE = 0x80000, 512
texts = b"".join(word.encode() + b"\0" for word in sys.argv[2:]) + b"\0"
assert len(texts) <= SIZE - 4, "the record is too long"
texts = texts.ljust(SIZE - 4, b"\0")
with open(sys.argv[1], "r+b") as disk:
    disk.seek(AT)
    disk.write(zlib.crc32(texts).to_bytes(4, "little") + texts)
