//! What a graphics card puts out, asked of the kernel's modesetting interface (`drm.h`, `drm_mode.h`) without its C
//! library.
#![allow(unsafe_code, reason = "ioctls")]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::format::Format;
use super::mapping::Mapping;

/// Things of one kind that are asked for: more than any card has.
const MOST: usize = 256;
/// Client capabilities: all planes rather than overlays only, and the properties that say where they are.
const CAP_UNIVERSAL_PLANES: u64 = 2;
const CAP_ATOMIC: u64 = 3;
/// Kind of object whose properties are asked for.
const OBJECT_PLANE: u32 = 0xEEEE_EEEE;
/// A buffer's modifier is known.
const FB_MODIFIERS: u32 = 2;
const MODIFIER_LINEAR: u64 = 0;
const MODIFIER_INVALID: u64 = 0x00FF_FFFF_FFFF_FFFF;
/// Beginning and end of reading a shared buffer.
const SYNC_BEGIN: u64 = 1;
const SYNC_END: u64 = 5;

#[repr(C)]
#[derive(Default)]
pub struct RawVersion {
    numbers: [libc::c_int; 3],
    name_length: libc::size_t,
    name: usize,
    date_length: libc::size_t,
    date: usize,
    description_length: libc::size_t,
    description: usize,
}

#[repr(C)]
#[derive(Default)]
pub struct RawResources {
    /// Addresses of lists: framebuffers, CRTCs, connectors, encoders; then their lengths.
    lists: [u64; 4],
    counts: [u32; 4],
    bounds: [u32; 4],
}

#[repr(C)]
#[derive(Default)]
pub struct RawMode {
    clock: u32,
    width: u16,
    horizontal: [u16; 4],
    height: u16,
    vertical: [u16; 4],
    refresh: u32,
    flags: u32,
    kind: u32,
    name: [u8; 32],
}

#[repr(C)]
#[derive(Default)]
pub struct RawCrtc {
    connectors: u64,
    connector_count: u32,
    id: u32,
    framebuffer: u32,
    x: u32,
    y: u32,
    gamma: u32,
    is_valid: u32,
    mode: RawMode,
}

#[repr(C)]
#[derive(Default)]
pub struct RawFramebuffer {
    id: u32,
    width: u32,
    height: u32,
    pitch: u32,
    bits: u32,
    depth: u32,
    handle: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct RawFramebuffer2 {
    id: u32,
    width: u32,
    height: u32,
    format: u32,
    flags: u32,
    handles: [u32; 4],
    pitches: [u32; 4],
    offsets: [u32; 4],
    modifiers: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
pub struct RawMap {
    handle: u32,
    pad: u32,
    offset: u64,
}

#[repr(C)]
#[derive(Default)]
pub struct RawPrime {
    handle: u32,
    flags: u32,
    file: i32,
}

#[repr(C)]
#[derive(Default)]
pub struct RawClose {
    handle: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct RawCapability {
    capability: u64,
    value: u64,
}

#[repr(C)]
#[derive(Default)]
pub struct RawPlanes {
    list: u64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct RawPlane {
    id: u32,
    crtc: u32,
    framebuffer: u32,
    possible_crtcs: u32,
    gamma: u32,
    format_count: u32,
    formats: u64,
}

#[repr(C)]
#[derive(Default)]
pub struct RawProperties {
    ids: u64,
    values: u64,
    count: u32,
    object: u32,
    kind: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct RawProperty {
    values: u64,
    blobs: u64,
    id: u32,
    flags: u32,
    name: [u8; 32],
    value_count: u32,
    blob_count: u32,
}

nix::ioctl_readwrite!(version, b'd', 0x00, RawVersion);
nix::ioctl_write_ptr!(close_handle, b'd', 0x09, RawClose);
nix::ioctl_write_ptr!(set_capability, b'd', 0x0D, RawCapability);
nix::ioctl_none!(drop_master, b'd', 0x1F);
nix::ioctl_readwrite!(handle_to_file, b'd', 0x2D, RawPrime);
nix::ioctl_readwrite!(get_resources, b'd', 0xA0, RawResources);
nix::ioctl_readwrite!(get_crtc, b'd', 0xA1, RawCrtc);
nix::ioctl_readwrite!(get_property, b'd', 0xAA, RawProperty);
nix::ioctl_readwrite!(get_framebuffer, b'd', 0xAD, RawFramebuffer);
nix::ioctl_readwrite!(map_dumb, b'd', 0xB3, RawMap);
nix::ioctl_readwrite!(get_planes, b'd', 0xB5, RawPlanes);
nix::ioctl_readwrite!(get_plane, b'd', 0xB6, RawPlane);
nix::ioctl_readwrite!(get_properties, b'd', 0xB9, RawProperties);
nix::ioctl_readwrite!(get_framebuffer2, b'd', 0xCE, RawFramebuffer2);
nix::ioctl_write_ptr!(sync_buffer, b'b', 0x00, u64);

/// Why a buffer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// Not in rows.
    #[error(
        "the driver {driver} keeps it in tiles (modifier {modifier:#x}) that cannot be read; a session that draws into plain buffers helps (for wlroots WLR_DRM_NO_MODIFIERS=1, for KWin KWIN_DRM_USE_MODIFIERS=0, for Mutter MUTTER_DEBUG_USE_KMS_MODIFIERS=0), and so does a session of Xorg"
    )]
    Tiled {
        /// Name of the driver.
        driver: String,
        /// As in `drm_fourcc.h`.
        modifier: u64,
    },
    /// Video, or deeper than anything known here.
    #[error("the driver {driver} shows pixels of the unknown format {code:#x}")]
    Format {
        /// Name of the driver.
        driver: String,
        /// As in `drm_fourcc.h`.
        code: u32,
    },
    /// Not for us.
    #[error(
        "the driver {driver} does not let it be mapped ({reason}); a session of Xorg, or one without hardware acceleration, helps"
    )]
    Unmapped {
        /// Name of the driver.
        driver: String,
        /// The system's.
        reason: nix::Error,
    },
    /// No buffer.
    #[error("the driver {driver} does not say what it shows: {reason}")]
    Unknown {
        /// Name of the driver.
        driver: String,
        /// The system's.
        reason: nix::Error,
    },
}

/// A card with its own file, which is never its master: whoever draws must be able to become that.
#[derive(Debug)]
pub struct Card {
    file: File,
    driver: String,
    crtcs: Vec<u32>,
    planes: Vec<Plane>,
}

/// A plane over the picture of a CRTC.
#[derive(Debug, Clone)]
struct Plane {
    id: u32,
    /// Numbers of the properties that say where it is: `CRTC_X`, `_Y`, `_W`, `_H`, `SRC_X`, `_Y`, `_W`, `_H`.
    place: [u32; 8],
}

/// What a CRTC puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Its number.
    pub crtc: u32,
    /// The framebuffer's number.
    pub framebuffer: u32,
    /// Where the visible part of it begins.
    pub x: usize,
    /// From the top.
    pub y: usize,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

/// Something shown over it: a cursor, an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// The CRTC it is on.
    pub crtc: u32,
    /// The framebuffer's number.
    pub framebuffer: u32,
    /// Where its left edge is on the CRTC; it may be outside.
    pub x: i64,
    /// Its upper edge.
    pub y: i64,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
    /// Where in the framebuffer it begins.
    pub from: (usize, usize),
}

impl Card {
    /// All cards that can put something out.
    pub fn all() -> Vec<Card> {
        paths()
            .iter()
            .filter_map(|path| Card::open(path).ok())
            .filter(|card| !card.crtcs.is_empty())
            .collect()
    }

    fn open(path: &Path) -> nix::Result<Card> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path);
        let file = file.map_err(|error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let number = file.as_raw_fd();
        // SAFETY: no arguments. Whoever opens a card that nobody draws on becomes its master; that is not for us.
        // The error says that we were not.
        let _ = unsafe { drop_master(number) };
        let mut card = Card { driver: driver(&file), file, crtcs: Vec::new(), planes: Vec::new() };
        let mut crtcs = [0u32; MOST];
        let mut resources = RawResources { counts: [0, MOST as u32, 0, 0], ..RawResources::default() };
        resources.lists[1] = crtcs.as_mut_ptr() as u64;
        // SAFETY: the kernel writes at most as many numbers as the count says, which the list has room for.
        unsafe { get_resources(number, &raw mut resources)? };
        card.crtcs = crtcs[..(resources.counts[1] as usize).min(MOST)].to_vec();
        for capability in [CAP_UNIVERSAL_PLANES, CAP_ATOMIC] {
            // SAFETY: one structure that is only read. Drivers that lack it have no such planes to show.
            let _ = unsafe { set_capability(number, &RawCapability { capability, value: 1 }) };
        }
        let mut ids = [0u32; MOST];
        let mut planes = RawPlanes { list: ids.as_mut_ptr() as u64, count: MOST as u32 };
        // SAFETY: as above.
        if unsafe { get_planes(number, &raw mut planes) }.is_ok() {
            let ids = &ids[..(planes.count as usize).min(MOST)];
            card.planes = ids.iter().filter_map(|id| card.above(*id)).collect();
        }
        Ok(card)
    }

    /// The plane of this number, if it is not a primary one and says where it is.
    fn above(&self, id: u32) -> Option<Plane> {
        const PRIMARY: u64 = 1;
        const NAMES: [&str; 8] = ["CRTC_X", "CRTC_Y", "CRTC_W", "CRTC_H", "SRC_X", "SRC_Y", "SRC_W", "SRC_H"];
        let mut place = [0; 8];
        let mut is_primary = true;
        for (property, value) in self.properties(id) {
            let mut raw = RawProperty { id: property, ..RawProperty::default() };
            // SAFETY: one structure; its lists have no room, so none is written.
            if unsafe { get_property(self.file.as_raw_fd(), &raw mut raw) }.is_err() {
                continue;
            }
            let name = raw.name.split(|byte| *byte == 0).next().unwrap_or_default();
            if name == b"type" {
                is_primary = value == PRIMARY;
            }
            if let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) {
                place[at] = property;
            }
        }
        (!is_primary && !place.contains(&0)).then_some(Plane { id, place })
    }

    fn properties(&self, plane: u32) -> Vec<(u32, u64)> {
        let (mut ids, mut values) = ([0u32; MOST], [0u64; MOST]);
        let mut properties = RawProperties {
            ids: ids.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: MOST as u32,
            object: plane,
            kind: OBJECT_PLANE,
        };
        // SAFETY: the kernel writes at most as many numbers and values as the count says.
        if unsafe { get_properties(self.file.as_raw_fd(), &raw mut properties) }.is_err() {
            return Vec::new();
        }
        let count = (properties.count as usize).min(MOST);
        ids[..count].iter().copied().zip(values[..count].iter().copied()).collect()
    }

    /// What is put out now.
    pub fn outputs(&self) -> Vec<Output> {
        let output = |crtc: &u32| {
            let mut raw = RawCrtc { id: *crtc, ..RawCrtc::default() };
            // SAFETY: one structure; its list of connectors has no room.
            unsafe { get_crtc(self.file.as_raw_fd(), &raw mut raw) }.ok()?;
            (raw.is_valid != 0 && raw.framebuffer != 0).then(|| Output {
                crtc: *crtc,
                framebuffer: raw.framebuffer,
                x: raw.x as usize,
                y: raw.y as usize,
                width: raw.mode.width.into(),
                height: raw.mode.height.into(),
            })
        };
        self.crtcs.iter().filter_map(output).collect()
    }

    /// What is shown over it now, the lowest first; what is stretched is left out.
    pub fn overlays(&self) -> Vec<Overlay> {
        let overlay = |plane: &Plane| {
            let mut raw = RawPlane { id: plane.id, ..RawPlane::default() };
            // SAFETY: one structure; its list of formats has no room.
            unsafe { get_plane(self.file.as_raw_fd(), &raw mut raw) }.ok()?;
            if raw.crtc == 0 || raw.framebuffer == 0 {
                return None;
            }
            let properties = self.properties(plane.id);
            let value = |at: usize| {
                properties.iter().find(|(id, _)| *id == plane.place[at]).map_or(0, |(_, value)| *value)
            };
            let (width, height) = (value(2), value(3));
            // Places in the buffer are fractions of 65,536.
            if (value(6) >> 16, value(7) >> 16) != (width, height) {
                return None;
            }
            Some(Overlay {
                crtc: raw.crtc,
                framebuffer: raw.framebuffer,
                x: value(0).cast_signed(),
                y: value(1).cast_signed(),
                width: usize::try_from(width).ok()?,
                height: usize::try_from(height).ok()?,
                from: ((value(4) >> 16) as usize, (value(5) >> 16) as usize),
            })
        };
        self.planes.iter().filter_map(overlay).collect()
    }

    /// A framebuffer, to be read as it changes.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn buffer(&self, id: u32) -> Result<Buffer, BufferError> {
        let driver = || self.driver.clone();
        let unknown = |reason| BufferError::Unknown { driver: driver(), reason };
        let file = self.file.as_raw_fd();
        let mut raw = RawFramebuffer2 { id, ..RawFramebuffer2::default() };
        // SAFETY: one structure.
        let (format, has_alpha) = match unsafe { get_framebuffer2(file, &raw mut raw) } {
            Ok(_) => Format::of_fourcc(raw.format)
                .ok_or(BufferError::Format { driver: driver(), code: raw.format }),
            // Kernels before 5.7.
            Err(nix::Error::ENOTTY | nix::Error::EINVAL) => {
                let mut old = RawFramebuffer { id, ..RawFramebuffer::default() };
                // SAFETY: one structure.
                unsafe { get_framebuffer(file, &raw mut old) }.map_err(unknown)?;
                (raw.width, raw.height) = (old.width, old.height);
                (raw.handles[0], raw.pitches[0]) = (old.handle, old.pitch);
                match (old.bits, old.depth) {
                    (32, 24) => Ok((Format::Xrgb8888, false)),
                    (32, 32) => Ok((Format::Xrgb8888, true)),
                    (32, 30) => Ok((Format::Xrgb2101010, false)),
                    (24, 24) => Ok((Format::Rgb888, false)),
                    (16, 16) => Ok((Format::Rgb565, false)),
                    (bits, _) => Err(BufferError::Format { driver: driver(), code: bits }),
                }
            }
            Err(reason) => return Err(unknown(reason)),
        }
        .inspect_err(|_| self.close(&raw.handles))?;
        let handle = raw.handles[0];
        let modifier = if raw.flags & FB_MODIFIERS != 0 { raw.modifiers[0] } else { MODIFIER_LINEAR };
        let mapped = if handle == 0 {
            // Handles are for masters and administrators.
            Err(unknown(nix::Error::EACCES))
        } else if modifier != MODIFIER_LINEAR && modifier != MODIFIER_INVALID {
            Err(BufferError::Tiled { driver: driver(), modifier })
        } else {
            let length = raw.offsets[0] as usize + raw.pitches[0] as usize * raw.height as usize;
            self.map(handle, length).map_err(|reason| BufferError::Unmapped { driver: driver(), reason })
        };
        self.close(&raw.handles);
        let (mapping, shared) = mapped?;
        Ok(Buffer {
            mapping,
            shared,
            offset: raw.offsets[0] as usize,
            pitch: raw.pitches[0] as usize,
            width: raw.width as usize,
            height: raw.height as usize,
            format,
            has_alpha,
        })
    }

    /// Maps a buffer the way of simple ones, else by its file.
    fn map(&self, handle: u32, length: usize) -> nix::Result<(Mapping, Option<OwnedFd>)> {
        let mut raw = RawMap { handle, ..RawMap::default() };
        // SAFETY: one structure.
        let simple = unsafe { map_dumb(self.file.as_raw_fd(), &raw mut raw) }
            .and_then(|_| i64::try_from(raw.offset).map_err(|_| nix::Error::EOVERFLOW))
            .and_then(|offset| Mapping::new(self.file.as_fd(), offset, length));
        if let Ok(mapping) = simple {
            return Ok((mapping, None));
        }
        let mut prime = RawPrime { handle, flags: libc::O_CLOEXEC.unsigned_abs(), file: -1 };
        // SAFETY: one structure.
        unsafe { handle_to_file(self.file.as_raw_fd(), &raw mut prime)? };
        // SAFETY: the kernel has just opened this file for us.
        let shared = unsafe { OwnedFd::from_raw_fd(prime.file) };
        Ok((Mapping::new(shared.as_fd(), 0, length)?, Some(shared)))
    }

    /// Gives handles back; what is mapped stays.
    fn close(&self, handles: &[u32]) {
        for handle in handles.iter().filter(|handle| **handle != 0).collect::<BTreeSet<_>>() {
            // SAFETY: one structure that is only read.
            let _ = unsafe { close_handle(self.file.as_raw_fd(), &RawClose { handle: *handle, pad: 0 }) };
        }
    }
}

/// The files of cards.
pub fn paths() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev/dri").into_iter().flatten().filter_map(Result::ok);
    let is_card = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("card"))
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_card).collect();
    paths.sort();
    paths
}

fn driver(file: &File) -> String {
    let mut name = [0u8; 64];
    let mut raw =
        RawVersion { name_length: name.len(), name: name.as_mut_ptr() as usize, ..RawVersion::default() };
    // SAFETY: the kernel writes at most as many bytes as the length says; the other texts have no room.
    let length = match unsafe { version(file.as_raw_fd(), &raw mut raw) } {
        Ok(_) => raw.name_length.min(name.len()),
        Err(_) => 0,
    };
    String::from_utf8_lossy(&name[..length]).into_owned()
}

/// A picture in memory that changes.
#[derive(Debug)]
pub struct Buffer {
    mapping: Mapping,
    /// The buffer's file, which wants to be told of reading.
    shared: Option<OwnedFd>,
    offset: usize,
    pitch: usize,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// How they lie.
    pub format: Format,
    /// Whether what is below shines through.
    pub has_alpha: bool,
}

impl Buffer {
    /// One that is mapped otherwise.
    pub fn new(mapping: Mapping, pitch: usize, (width, height): (usize, usize), format: Format) -> Buffer {
        Buffer { mapping, shared: None, offset: 0, pitch, width, height, format, has_alpha: false }
    }

    /// Reads the bytes of pixels of one row.
    pub fn read(&self, x: usize, y: usize, into: &mut [u8]) {
        self.mapping.read(self.offset + y * self.pitch + x * self.format.bytes(), into);
    }

    /// Says that reading begins.
    pub fn begin(&self) {
        self.sync(SYNC_BEGIN);
    }

    /// Says that reading is over.
    pub fn end(&self) {
        self.sync(SYNC_END);
    }

    fn sync(&self, what: u64) {
        if let Some(shared) = &self.shared {
            // SAFETY: one number that is only read. What it fails with is a picture that is somewhat old.
            let _ = unsafe { sync_buffer(shared.as_raw_fd(), &raw const what) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_wants_them() {
        // The lengths are part of the requests' numbers (`drm_mode.h`).
        assert_eq!(size_of::<RawResources>(), 64);
        assert_eq!((size_of::<RawMode>(), size_of::<RawCrtc>()), (68, 104));
        assert_eq!((size_of::<RawFramebuffer>(), size_of::<RawFramebuffer2>()), (28, 104));
        assert_eq!((size_of::<RawPlanes>(), size_of::<RawPlane>()), (16, 32));
        assert_eq!((size_of::<RawProperties>(), size_of::<RawProperty>()), (32, 64));
        assert_eq!((size_of::<RawMap>(), size_of::<RawPrime>()), (16, 12));
    }
}
