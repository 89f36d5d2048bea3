//! What the kernel says of a virtual terminal: whether a program draws on it, and what its keys mean.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's word on which one is in front; it can be waited for.
pub const FRONT: &str = "/sys/class/tty/tty0/active";

/// Numbers of `linux/kd.h`.
const KDGETMODE: u64 = 0x4B3B;
const KD_GRAPHICS: nix::libc::c_int = 1;
const KDGKBENT: u64 = 0x4B46;

nix::ioctl_read_bad!(get_mode, KDGETMODE, nix::libc::c_int);
nix::ioctl_readwrite_bad!(get_entry, KDGKBENT, Entry);

/// `struct kbentry`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Entry {
    table: u8,
    index: u8,
    value: u16,
}

/// The number of the one in front; `None` on a device without any.
pub fn number_in_front() -> Option<u32> {
    std::fs::read_to_string(FRONT).ok()?.trim().strip_prefix("tty")?.parse().ok()
}

/// The one in front, where we may open it.
pub fn in_front() -> Option<File> {
    File::open(format!("/dev/tty{}", number_in_front()?)).ok()
}

/// Whether a program draws on a terminal, rather than the kernel its text.
pub fn is_graphical(terminal: BorrowedFd<'_>) -> bool {
    let mut mode = 0;
    // SAFETY: the request writes one int, which `mode` is.
    unsafe { get_mode(terminal.as_raw_fd(), &raw mut mode) }.is_ok() && mode == KD_GRAPHICS
}

/// What a key of the kernel's keyboard map means with the modifiers of a table (bit 0 Shift, bit 1 AltGr): the
/// `K(type, value)` of `linux/keyboard.h`, or Unicode XOR 0xF000.
pub fn meaning(terminal: BorrowedFd<'_>, table: u8, key: u8) -> Option<u16> {
    let mut entry = Entry { table, index: key, value: 0 };
    // SAFETY: the request reads and writes one entry, which this is.
    unsafe { get_entry(terminal.as_raw_fd(), &raw mut entry) }.ok()?;
    Some(entry.value)
}
