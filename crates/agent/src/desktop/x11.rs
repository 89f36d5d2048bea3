//! Following the screen of an X server: it tells what changes (DAMAGE), and only that is fetched and compared.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use x11rb::connection::{Connection, RequestConnection};
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::xproto::{self, ConnectionExt as _, ImageFormat, Window};
use x11rb::protocol::{Event, damage, randr, shm, xfixes};
use x11rb::rust_connection::RustConnection;

use super::display::{Display, DisplayError};
use super::mapping::SharedMemory;
use super::screen::{LARGEST, Lost, Screen, Source, Watch};
use super::tiles::{PIXEL, Rect, TILE};

/// Changed rectangles that are fetched one by one; more are fetched as the rectangle around them.
const MOST_PARTS: usize = 24;
/// How often the keyboard's lights are looked at while there is something to do.
const LIGHTS: Duration = Duration::from_millis(500);

/// Why the server does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the connection to the display was lost: {0}")]
    Connection(#[from] ConnectionError),
    #[error("the display refused a request: {0}")]
    Reply(#[from] ReplyError),
    #[error("the display refused a request: {0}")]
    Id(#[from] ReplyOrIdError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Memory(#[from] nix::Error),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Lost {
        Lost::Source(failure.to_string())
    }
}

/// Begins to follow an X server. Blocks while it connects.
///
/// # Errors
/// [`DisplayError`].
pub fn open(display: &Display) -> Result<Box<dyn Source>, DisplayError> {
    let (connection, number) = display.connect()?;
    Ok(Box::new(Follower::new(connection, number, &display.name)?))
}

/// An X server that is followed.
struct Follower {
    connection: RustConnection,
    root: Window,
    size: (u16, u16),
    damage: damage::Damage,
    region: xfixes::Region,
    /// The server writes pictures here, where it can.
    segment: Option<(shm::Seg, SharedMemory)>,
    has_monitors: bool,
    has_shm: bool,
    /// Parts to be looked at.
    dirty: Vec<Rect>,
    /// What is compared.
    pixels: Vec<u8>,
}

impl Follower {
    fn new(connection: RustConnection, number: usize, name: &str) -> Result<Follower, DisplayError> {
        let lacks = |what| DisplayError::Lacks { name: name.to_owned(), what };
        let root = &connection.setup().roots[number];
        let formats = &connection.setup().pixmap_formats;
        let bits = formats.iter().find(|format| format.depth == root.root_depth).map(|f| f.bits_per_pixel);
        if !matches!(root.root_depth, 24 | 32) || bits != Some(32) {
            return Err(lacks("a colour depth of 24 bits"));
        }
        if connection.setup().image_byte_order != xproto::ImageOrder::LSB_FIRST {
            return Err(lacks("pixels in the byte order of this agent"));
        }
        let has = |name: &'static str| connection.extension_information(name).ok().flatten().is_some();
        if !has(damage::X11_EXTENSION_NAME) || !has(xfixes::X11_EXTENSION_NAME) {
            return Err(lacks("the DAMAGE and XFIXES extensions"));
        }
        let (has_shm, has_monitors) = (has(shm::X11_EXTENSION_NAME), has(randr::X11_EXTENSION_NAME));
        let (root, size) = (root.root, (root.width_in_pixels, root.height_in_pixels));
        let mut follower = Follower {
            connection,
            root,
            size,
            damage: 0,
            region: 0,
            segment: None,
            has_monitors,
            has_shm,
            dirty: Vec::new(),
            pixels: Vec::new(),
        };
        follower.prepare().map_err(|error| DisplayError::refused(name, error))?;
        Ok(follower)
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let connection = &self.connection;
        xfixes::query_version(connection, 5, 0)?.reply()?;
        damage::query_version(connection, 1, 1)?.reply()?;
        xfixes::select_cursor_input(connection, self.root, xfixes::CursorNotifyMask::DISPLAY_CURSOR)?;
        if self.has_monitors {
            let version = randr::query_version(connection, 1, 5)?.reply()?;
            self.has_monitors = (version.major_version, version.minor_version) >= (1, 5);
            randr::select_input(connection, self.root, randr::NotifyMask::SCREEN_CHANGE)?;
        }
        if self.has_shm {
            let version = shm::query_version(connection)?.reply()?;
            // Passing memory as a file descriptor came with 1.2.
            self.has_shm = (version.major_version, version.minor_version) >= (1, 2);
        }
        (self.damage, self.region) = (connection.generate_id()?, connection.generate_id()?);
        xfixes::create_region(connection, self.region, &[])?;
        damage::create(connection, self.damage, self.root, damage::ReportLevel::NON_EMPTY)?;
        connection.flush()?;
        Ok(())
    }

    fn take_events(&mut self, screen: &Screen) -> Result<(), Failure> {
        let mut damaged = false;
        while let Some(event) = self.connection.poll_for_event()? {
            match event {
                Event::DamageNotify(_) => damaged = true,
                Event::XfixesCursorNotify(_) => self.cursor(screen)?,
                Event::RandrScreenChangeNotify(_) => {
                    let root = self.connection.get_geometry(self.root)?.reply()?;
                    self.resized(screen, (root.width, root.height))?;
                }
                _ => {}
            }
        }
        if damaged {
            damage::subtract(&self.connection, self.damage, x11rb::NONE, self.region)?;
            let parts = xfixes::fetch_region(&self.connection, self.region)?.reply()?;
            let whole = Rect { x: 0, y: 0, width: self.size.0.into(), height: self.size.1.into() };
            let part = |rect: &xproto::Rectangle| {
                let clamp = |at: i16| usize::try_from(at).unwrap_or(0);
                let (x, y) = (clamp(rect.x), clamp(rect.y));
                let right = clamp(rect.x.saturating_add_unsigned(rect.width));
                let bottom = clamp(rect.y.saturating_add_unsigned(rect.height));
                let part = Rect { x, y, width: right.saturating_sub(x), height: bottom.saturating_sub(y) };
                part.intersection(&whole)
            };
            self.dirty.extend(parts.rectangles.iter().filter_map(part));
            if self.dirty.len() > MOST_PARTS {
                self.dirty = around(&self.dirty).into_iter().collect();
            }
        }
        Ok(())
    }

    /// The screen has this size now; everything is to be looked at.
    fn resized(&mut self, screen: &Screen, size: (u16, u16)) -> Result<(), Failure> {
        let largest = LARGEST as u16;
        let size = (size.0.clamp(1, largest), size.1.clamp(1, largest));
        self.size = size;
        let (width, height) = (usize::from(size.0), usize::from(size.1));
        if let Some((segment, _)) = self.segment.take() {
            shm::detach(&self.connection, segment)?;
        }
        if self.has_shm {
            self.segment = self.share(width * height * PIXEL)?;
        }
        let monitors = self.monitors()?;
        let whole = Rect { x: 0, y: 0, width, height };
        self.dirty = vec![whole];
        screen.laid_out((width, height), &monitors);
        Ok(())
    }

    /// Memory shared with the server; `None` where it takes none, as on another machine.
    fn share(&self, length: usize) -> Result<Option<(shm::Seg, SharedMemory)>, Failure> {
        let memory = SharedMemory::new(length)?;
        let segment = self.connection.generate_id()?;
        // The server writes, so it may not be read-only for it.
        let attached = shm::attach_fd(&self.connection, segment, memory.file()?, false);
        Ok(match attached.map(|cookie| cookie.check()) {
            Ok(Ok(())) => Some((segment, memory)),
            _ => None,
        })
    }

    fn monitors(&self) -> Result<Vec<Rect>, Failure> {
        if !self.has_monitors {
            return Ok(Vec::new());
        }
        let monitors = randr::get_monitors(&self.connection, self.root, true)?.reply()?.monitors;
        let rect = |monitor: &randr::MonitorInfo| Rect {
            x: usize::try_from(monitor.x).unwrap_or(0),
            y: usize::try_from(monitor.y).unwrap_or(0),
            width: monitor.width.into(),
            height: monitor.height.into(),
        };
        Ok(monitors.iter().map(rect).collect())
    }

    /// Fetches what is dirty and compares it with what was there.
    fn capture(&mut self, screen: &Screen) -> Result<(), Failure> {
        let mut changed = false;
        for part in std::mem::take(&mut self.dirty) {
            let (x, y) = (part.x as i16, part.y as i16);
            let (width, height) = (part.width as u16, part.height as u16);
            let Some((segment, memory)) = &self.segment else {
                let format = ImageFormat::Z_PIXMAP;
                let image = self.connection.get_image(format, self.root, x, y, width, height, !0)?.reply()?;
                if image.data.len() >= part.width * part.height * PIXEL {
                    changed |= screen.state().framebuffer.update(part, &image.data);
                }
                continue;
            };
            let (root, format) = (self.root, ImageFormat::Z_PIXMAP.into());
            shm::get_image(&self.connection, root, x, y, width, height, !0, format, *segment, 0)?.reply()?;
            // A row of tiles at a time stays in the processor's cache, and viewers need not wait for all of it.
            let mut y = part.y;
            while y < part.y + part.height {
                let end = ((y / TILE + 1) * TILE).min(part.y + part.height);
                let band = Rect { y, height: end - y, ..part };
                self.pixels.resize(band.width * band.height * PIXEL, 0);
                memory.read((y - part.y) * part.width * PIXEL, &mut self.pixels);
                changed |= screen.state().framebuffer.update(band, &self.pixels);
                y = end;
            }
        }
        if changed {
            screen.publish();
        }
        Ok(())
    }

    fn cursor(&self, screen: &Screen) -> Result<(), Failure> {
        let cursor = xfixes::get_cursor_image_and_name(&self.connection)?.reply()?;
        let shape = shape(&String::from_utf8_lossy(&cursor.name));
        let mut state = screen.state();
        if state.cursor != shape {
            state.cursor = shape;
            drop(state);
            screen.publish();
        }
        Ok(())
    }

    fn lights(&self, screen: &Screen) -> Result<(), Failure> {
        let on = self.connection.get_keyboard_control()?.reply()?.led_mask;
        // X counts Caps, Num, Scroll; viewers Num, Scroll, Caps.
        let lights = (u8::from(on & 2 != 0)) | (u8::from(on & 4 != 0) << 1) | (u8::from(on & 1 != 0) << 2);
        let mut state = screen.state();
        if state.lights != lights {
            state.lights = lights;
            drop(state);
            screen.publish();
        }
        Ok(())
    }
}

impl Source for Follower {
    fn size(&self) -> (usize, usize) {
        (self.size.0.into(), self.size.1.into())
    }

    fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Lost> {
        self.resized(&*watch.screen()?, self.size)?;
        self.cursor(&*watch.screen()?)?;
        let (mut last, mut lights_at) = (None::<Instant>, None::<Instant>);
        loop {
            let wait = {
                let screen = watch.screen()?;
                self.take_events(&screen)?;
                if lights_at.is_none_or(|at| at.elapsed() >= LIGHTS) {
                    lights_at = Some(Instant::now());
                    self.lights(&screen)?;
                }
                let due = screen.interval().map(|interval| {
                    last.map_or(Duration::ZERO, |last: Instant| interval.saturating_sub(last.elapsed()))
                });
                match due.filter(|_| !self.dirty.is_empty()) {
                    Some(due) if due.is_zero() => {
                        last = Some(Instant::now());
                        self.capture(&screen)?;
                        // Whatever happened meanwhile is taken first.
                        continue;
                    }
                    due => due,
                }
            };
            self.connection.flush().map_err(Failure::from)?;
            watch.wait(Some(self.connection.stream().as_fd()), wait)?;
        }
    }
}

/// The rectangle around all.
fn around(parts: &[Rect]) -> Option<Rect> {
    let x = parts.iter().map(|part| part.x).min()?;
    let y = parts.iter().map(|part| part.y).min()?;
    let right = parts.iter().map(|part| part.x + part.width).max()?;
    let bottom = parts.iter().map(|part| part.y + part.height).max()?;
    Some(Rect { x, y, width: right - x, height: bottom - y })
}

/// Number of a cursor's shape (tunnel-protocols §4.4) by the names of the freedesktop themes and of X's own font.
fn shape(name: &str) -> u8 {
    match name {
        "left_ptr_watch" | "progress" | "half-busy" => 1,
        "crosshair" | "cross" | "tcross" => 2,
        "hand" | "hand1" | "hand2" | "pointer" | "pointing_hand" => 3,
        "question_arrow" | "help" | "whats_this" => 4,
        "xterm" | "text" | "ibeam" | "vertical-text" => 5,
        "no-drop" | "dnd-no-drop" => 6,
        "fleur" | "move" | "all-scroll" | "size_all" | "grabbing" | "closedhand" => 7,
        "nesw-resize" | "ne-resize" | "sw-resize" | "top_right_corner" | "bottom_left_corner"
        | "size_bdiag" => 8,
        "ns-resize" | "n-resize" | "s-resize" | "top_side" | "bottom_side" | "sb_v_double_arrow"
        | "v_double_arrow" | "size_ver" => 9,
        "nwse-resize"
        | "nw-resize"
        | "se-resize"
        | "top_left_corner"
        | "bottom_right_corner"
        | "size_fdiag" => 10,
        "ew-resize" | "w-resize" | "e-resize" | "left_side" | "right_side" | "sb_h_double_arrow"
        | "h_double_arrow" | "size_hor" => 11,
        "alias" | "link" | "dnd-link" => 12,
        "watch" | "wait" => 13,
        "none" => 14,
        "not-allowed" | "crossed_circle" | "forbidden" => 15,
        "col-resize" | "split_h" => 16,
        "row-resize" | "split_v" => 17,
        "copy" | "dnd-copy" => 18,
        "zoom-in" => 19,
        "zoom-out" => 20,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_parts_become_the_one_around_them() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(around(&[rect(5, 5, 10, 10), rect(100, 0, 1, 20)]), Some(rect(5, 0, 96, 20)));
        assert_eq!(around(&[]), None);
    }

    #[test]
    fn cursors_are_known_by_their_names() {
        assert_eq!((shape("xterm"), shape("hand2"), shape("left_ptr"), shape("")), (5, 3, 0, 0));
    }
}
