//! A framebuffer device (`/dev/fb0`, `linux/fb.h`), for machines without modesetting.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::libc;

use super::drm::{Buffer, BufferError, Output};
use super::format::Format;
use super::mapping::Mapping;

/// Where it is.
pub const PATH: &str = "/dev/fb0";

/// `struct fb_var_screeninfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variable {
    width: u32,
    height: u32,
    virtual_width: u32,
    virtual_height: u32,
    x: u32,
    y: u32,
    bits: u32,
    grayscale: u32,
    /// First bit, length, and which end is first, of each.
    red: [u32; 3],
    green: [u32; 3],
    blue: [u32; 3],
    alpha: [u32; 3],
    rest: [u32; 20],
}

/// `struct fb_fix_screeninfo`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Fixed {
    id: [u8; 16],
    start: libc::c_ulong,
    length: u32,
    kinds: [u32; 3],
    steps: [u16; 3],
    line: u32,
    registers: libc::c_ulong,
    registers_length: u32,
    acceleration: u32,
    capabilities: u16,
    reserved: [u16; 2],
}

nix::ioctl_read_bad!(get_variable, 0x4600, Variable);
nix::ioctl_read_bad!(get_fixed, 0x4602, Fixed);

/// The device.
#[derive(Debug)]
pub struct FramebufferDevice {
    file: File,
}

impl FramebufferDevice {
    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> std::io::Result<FramebufferDevice> {
        Ok(FramebufferDevice { file: File::open(Path::new(PATH))? })
    }

    fn variable(&self) -> Option<Variable> {
        let mut variable = Variable::default();
        // SAFETY: the request writes one structure.
        unsafe { get_variable(self.file.as_raw_fd(), &raw mut variable) }.ok()?;
        Some(variable)
    }

    /// What it shows now. Another mode is another buffer.
    pub fn output(&self) -> Option<Output> {
        let variable = self.variable()?;
        let framebuffer =
            variable.virtual_width ^ variable.virtual_height.rotate_left(14) ^ (variable.bits << 26);
        Some(Output {
            crtc: 0,
            framebuffer,
            x: variable.x as usize,
            y: variable.y as usize,
            width: variable.width as usize,
            height: variable.height as usize,
        })
    }

    /// Its memory.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn buffer(&self) -> Result<Buffer, BufferError> {
        let mut fixed = Fixed::default();
        // SAFETY: the request writes one structure.
        let told = unsafe { get_fixed(self.file.as_raw_fd(), &raw mut fixed) };
        let name = fixed.id.split(|byte| *byte == 0).next().unwrap_or_default();
        let driver = || String::from_utf8_lossy(name).into_owned();
        told.map_err(|reason| BufferError::Unknown { driver: driver(), reason })?;
        let unknown = BufferError::Unknown { driver: driver(), reason: nix::Error::ENODEV };
        let variable = self.variable().ok_or(unknown)?;
        let [red, _, blue] = [variable.red, variable.green, variable.blue];
        let format = Format::of_bits(variable.bits, red[0], red[1], blue[0])
            .ok_or(BufferError::Format { driver: driver(), code: variable.bits })?;
        let size = (variable.virtual_width as usize, variable.virtual_height as usize);
        let length = (fixed.line as usize * size.1).min(fixed.length as usize);
        let mapping = Mapping::new(self.file.as_fd(), 0, length)
            .map_err(|reason| BufferError::Unmapped { driver: driver(), reason })?;
        Ok(Buffer::new(mapping, fixed.line as usize, size, format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_wants_them() {
        assert_eq!(size_of::<Variable>(), 160);
        assert_eq!(size_of::<Fixed>(), if cfg!(target_pointer_width = "64") { 80 } else { 68 });
    }
}
