//! Keys and pointer of one viewer as a keyboard and a pointing device of the kernel's (`linux/uinput.h`), for
//! everything that is not X.
//!
//! A character is typed by the key that the console's keyboard map has it on, which is the system's layout on the
//! distributions we know, else as on a US keyboard. One that no key has is typed by its number: on a text console
//! with Alt and the number block, elsewhere the way of GTK and IBus, Ctrl+Shift+U; programs that know neither get
//! nothing useful, and there is no way that all know.
#![allow(unsafe_code, reason = "ioctls")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::libc;

use super::display::DisplayError;
use super::input::{Action, Hands};
use super::key_codes;
use super::screen::Screen;
use super::virtual_terminal;

const PATH: &str = "/dev/uinput";
/// Types of events, and codes of some.
const SYN: u16 = 0;
const KEY: u16 = 1;
const REL: u16 = 2;
const ABS: u16 = 3;
const WHEEL: u16 = 8;
const WHEEL_FINE: u16 = 11;
const BUTTONS: [u16; 3] = [0x110, 0x112, 0x111];
/// Positions go from nought to this over the whole desktop.
const EXTENT: i32 = 65_535;
/// Kind of bus: virtual.
const BUS_VIRTUAL: u16 = 6;
/// Notches of the wheel acted out for one message.
const MOST_NOTCHES: i16 = 10;
/// Between the keys of a character that is typed by its number: input methods lose them when they come at once.
const KEYSTROKE: Duration = Duration::from_millis(2);

#[repr(C)]
pub struct Setup {
    bus: u16,
    vendor: u16,
    product: u16,
    version: u16,
    name: [u8; 80],
    effects: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct Axis {
    code: u16,
    value: i32,
    least: i32,
    most: i32,
    fuzz: i32,
    flat: i32,
    resolution: i32,
}

nix::ioctl_none!(create_device, b'U', 1);
nix::ioctl_write_ptr!(set_up, b'U', 3, Setup);
nix::ioctl_write_ptr!(set_up_axis, b'U', 4, Axis);
nix::ioctl_write_int!(set_event, b'U', 100);
nix::ioctl_write_int!(set_key, b'U', 101);
nix::ioctl_write_int!(set_relative, b'U', 102);

/// Makes a keyboard and a pointing device for a viewer of `screen`.
///
/// # Errors
/// [`DisplayError::Input`] with what would help.
pub fn create(screen: &Arc<Screen>) -> Result<Box<dyn Hands>, DisplayError> {
    let failed = |error: std::io::Error| {
        DisplayError::Input(match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!(
                    "{PATH} is missing; `modprobe uinput` helps, and uinput in /etc/modules-load.d keeps it"
                )
            }
            _ => format!("{PATH}: {error}"),
        })
    };
    let keyboard = Device::keyboard().map_err(failed)?;
    let pointer = Device::pointer().map_err(failed)?;
    let layout = virtual_terminal::in_front().as_ref().map(layout).unwrap_or_default();
    Ok(Box::new(Touching {
        screen: Arc::downgrade(screen),
        keyboard,
        pointer,
        layout,
        pressed: BTreeSet::new(),
        buttons: BTreeSet::new(),
    }))
}

/// A key and whether it needs Shift and AltGr.
type Place = (u16, bool, bool);

/// Where the console's keyboard map has characters, plain before shifted before AltGr.
fn layout(terminal: &File) -> BTreeMap<char, Place> {
    let mut layout = BTreeMap::new();
    for table in 0..4u8 {
        for key in 1..=127u8 {
            let meaning = virtual_terminal::meaning(terminal.as_fd(), table, key);
            if let Some(character) = meaning.and_then(character) {
                let place = (u16::from(key), table & 1 != 0, table & 2 != 0);
                layout.entry(character).or_insert(place);
            }
        }
    }
    layout
}

/// The character that an entry of the keyboard map stands for (`linux/keyboard.h`).
fn character(meaning: u16) -> Option<char> {
    const LATIN: u16 = 0;
    const LETTER: u16 = 11;
    let character = match meaning >> 8 {
        LATIN | LETTER => char::from(meaning as u8),
        // Keys of the kernel's own have a type below 0xF0, all others are Unicode in disguise.
        kind if kind >= 0x10 => char::from_u32(u32::from(meaning ^ 0xF000))?,
        _ => return None,
    };
    (!character.is_control()).then_some(character)
}

/// A device of ours. It goes when this is dropped, and the kernel lets go of its keys then.
struct Device(File);

impl Device {
    fn open() -> std::io::Result<Device> {
        OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).open(PATH).map(Device)
    }

    fn keyboard() -> std::io::Result<Device> {
        let device = Device::open()?;
        let file = device.0.as_raw_fd();
        // SAFETY: numbers only.
        unsafe {
            set_event(file, KEY.into())?;
            for code in key_codes::all() {
                set_key(file, code.into())?;
            }
        }
        device.finish("Outpost keyboard")
    }

    fn pointer() -> std::io::Result<Device> {
        let device = Device::open()?;
        let file = device.0.as_raw_fd();
        // SAFETY: numbers, and structures that are only read.
        unsafe {
            for event in [KEY, REL, ABS] {
                set_event(file, event.into())?;
            }
            for button in BUTTONS {
                set_key(file, button.into())?;
            }
            for axis in [WHEEL, WHEEL_FINE] {
                set_relative(file, axis.into())?;
            }
            for code in [0, 1] {
                set_up_axis(file, &Axis { code, most: EXTENT, ..Axis::default() })?;
            }
        }
        device.finish("Outpost pointer")
    }

    fn finish(self, name: &str) -> std::io::Result<Device> {
        let mut setup =
            Setup { bus: BUS_VIRTUAL, vendor: 0, product: 0, version: 1, name: [0; 80], effects: 0 };
        setup.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: a structure that is only read, and no argument.
        unsafe {
            set_up(self.0.as_raw_fd(), &raw const setup)?;
            create_device(self.0.as_raw_fd())?;
        }
        Ok(self)
    }

    /// Sends events that belong together.
    fn send(&mut self, events: &[(u16, u16, i32)]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for (kind, code, value) in events.iter().chain([&(SYN, 0, 0)]) {
            // The kernel puts the time there.
            bytes.extend([0; size_of::<libc::timeval>()]);
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
        }
        self.0.write_all(&bytes)
    }
}

struct Touching {
    screen: Weak<Screen>,
    keyboard: Device,
    pointer: Device,
    layout: BTreeMap<char, Place>,
    pressed: BTreeSet<u16>,
    buttons: BTreeSet<u16>,
}

impl Touching {
    fn key(&mut self, code: u16, down: bool) -> std::io::Result<()> {
        if down {
            self.pressed.insert(code);
        } else {
            self.pressed.remove(&code);
        }
        self.keyboard.send(&[(KEY, code, down.into())])
    }

    fn strike(&mut self, code: u16) -> std::io::Result<()> {
        self.keyboard.send(&[(KEY, code, 1)])?;
        self.keyboard.send(&[(KEY, code, 0)])
    }

    /// Does something with exactly these modifiers held, whatever the viewer holds.
    fn with(
        &mut self,
        modifiers: &[u16],
        act: impl FnOnce(&mut Self) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        const ALL: [u16; 7] = [42, 54, 29, 97, 56, 100, 125];
        let wrong: Vec<u16> =
            ALL.into_iter().filter(|code| self.pressed.contains(code) != modifiers.contains(code)).collect();
        for code in &wrong {
            self.keyboard.send(&[(KEY, *code, modifiers.contains(code).into())])?;
        }
        let done = act(self);
        for code in wrong.iter().rev() {
            self.keyboard.send(&[(KEY, *code, self.pressed.contains(code).into())])?;
        }
        done
    }

    fn type_character(&mut self, character: char) -> std::io::Result<()> {
        if let Some(code) = key_codes::of_control(character) {
            return self.strike(code);
        }
        let on_us = || key_codes::on_us_keyboard(character).map(|(code, shift)| (code, shift, false));
        // Where there is a map, a US key may mean something else.
        let place = if self.layout.is_empty() { on_us() } else { self.layout.get(&character).copied() };
        if let Some((code, shift, level_3)) = place {
            let modifiers: Vec<u16> = [(key_codes::LEFT_SHIFT, shift), (key_codes::RIGHT_ALT, level_3)]
                .into_iter()
                .filter_map(|(code, needed)| needed.then_some(code))
                .collect();
            return self.with(&modifiers, |hands| hands.strike(code));
        }
        let number = u32::from(character);
        if is_text_in_front() {
            return self.with(&[key_codes::LEFT_ALT], |hands| {
                key_codes::of_decimal(number).into_iter().try_for_each(|code| hands.strike(code))
            });
        }
        let u = key_codes::on_us_keyboard('u').expect("it is there").0;
        self.with(&[key_codes::LEFT_CTRL, key_codes::LEFT_SHIFT], |hands| hands.strike(u))?;
        self.with(&[], |hands| {
            for code in key_codes::of_hex(number).into_iter().chain([key_codes::SPACE]) {
                std::thread::sleep(KEYSTROKE);
                hands.strike(code)?;
            }
            Ok(())
        })
    }

    fn carry_out(&mut self, action: &Action) -> std::io::Result<()> {
        match *action {
            Action::Key { down, extended, code } => match key_codes::code(code, extended) {
                Some(code) => self.key(code, down),
                None => Ok(()),
            },
            Action::Character(character) => self.type_character(character),
            Action::Move { x, y } => {
                let Some(screen) = self.screen.upgrade() else { return Ok(()) };
                screen.pointed();
                let bounds = screen.state().framebuffer.bounds();
                let on_axis = |at: i16, length: usize| {
                    let last = i32::try_from(length.saturating_sub(1)).unwrap_or(1).max(1);
                    (i64::from(at.clamp(0, i16::MAX)) * i64::from(EXTENT) / i64::from(last))
                        .clamp(0, i64::from(EXTENT)) as i32
                };
                self.pointer.send(&[(ABS, 0, on_axis(x, bounds.width)), (ABS, 1, on_axis(y, bounds.height))])
            }
            Action::Button { number, down } => {
                let Some(code) = BUTTONS.get(usize::from(number).wrapping_sub(1)).copied() else {
                    return Ok(());
                };
                if down {
                    self.buttons.insert(code);
                } else {
                    self.buttons.remove(&code);
                }
                self.pointer.send(&[(KEY, code, down.into())])
            }
            Action::Wheel(notches) => {
                let notches = i32::from(notches.clamp(-MOST_NOTCHES, MOST_NOTCHES));
                self.pointer.send(&[(REL, WHEEL, notches), (REL, WHEEL_FINE, notches * 120)])
            }
            Action::CtrlAltDel => self
                .with(&[key_codes::LEFT_CTRL, key_codes::LEFT_ALT], |hands| hands.strike(key_codes::DELETE)),
        }
    }
}

impl Hands for Touching {
    fn act(&mut self, action: &Action) -> bool {
        if let Err(error) = self.carry_out(action) {
            log::warn!("{PATH}: {error}");
            return false;
        }
        // Whoever touches something expects to see what it does.
        if let Some(screen) = self.screen.upgrade() {
            screen.poke();
        }
        true
    }

    fn let_go(&mut self) {
        let up = |codes: BTreeSet<u16>| codes.into_iter().map(|code| (KEY, code, 0)).collect::<Vec<_>>();
        let _ = self.keyboard.send(&up(std::mem::take(&mut self.pressed)));
        let _ = self.pointer.send(&up(std::mem::take(&mut self.buttons)));
    }
}

fn is_text_in_front() -> bool {
    virtual_terminal::in_front().is_some_and(|terminal| !virtual_terminal::is_graphical(terminal.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_wants_them() {
        assert_eq!((size_of::<Setup>(), size_of::<Axis>()), (92, 28));
    }

    #[test]
    fn entries_of_the_keyboard_map_are_read() {
        assert_eq!(character(0x0B61), Some('a'), "a letter");
        assert_eq!(character(0x0031), Some('1'));
        assert_eq!(character(0x00E9), Some('é'));
        assert_eq!(character(0xF000 ^ 0x20AC), Some('€'));
        // Function keys, Shift, nothing.
        assert_eq!((character(0x0100), character(0x0700), character(0x0200)), (None, None, None));
    }
}
