//! Memory that pictures are read from while somebody else writes them: an X server, a graphics driver.
#![allow(unsafe_code, reason = "mapping memory that another process shares")]

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

/// A piece of a file or device, mapped to be read.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<std::ffi::c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` bytes, at least one, from `offset` on, which is a multiple of a page.
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: impl AsFd, offset: i64, length: usize) -> nix::Result<Mapping> {
        let length = NonZeroUsize::new(length).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: a new mapping at a place that the system chooses; nothing else is at its address.
        let address =
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, offset)? };
        Ok(Mapping { address, length })
    }

    /// Copies bytes out, as many of `into` as there are from `at` on. Others may be writing, so no reference to
    /// them is given: at worst the copy is a picture half old and half new.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        let length = into.len().min(self.length.get().saturating_sub(at));
        if length == 0 {
            return;
        }
        // SAFETY: `at + length` bytes are mapped and readable, and `into` is elsewhere and as long. What is mapped
        // stays: a memfd that nobody cuts short, or a device's buffer that the mapping keeps alive.
        unsafe {
            let source = self.address.as_ptr().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(source, into.as_mut_ptr(), length);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this very mapping, which nobody uses any more.
        let _ = unsafe { munmap(self.address, self.length.get()) };
    }
}

/// Memory of our own with a file descriptor, which another process may be given.
#[derive(Debug)]
pub struct SharedMemory {
    mapping: Mapping,
    file: OwnedFd,
}

impl SharedMemory {
    /// Memory of this many bytes, at least one.
    ///
    /// # Errors
    /// The system's.
    pub fn new(length: usize) -> nix::Result<SharedMemory> {
        let length = length.max(1);
        let file = memfd_create(c"screen", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(file.as_fd(), i64::try_from(length).map_err(|_| nix::Error::EFBIG)?)?;
        Ok(SharedMemory { mapping: Mapping::new(file.as_fd(), 0, length)?, file })
    }

    /// Its file descriptor, for the other process.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Copies bytes out.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        self.mapping.read(at, into);
    }
}
