//! Keys and pointer of one viewer on an X server.

use std::collections::{BTreeSet, HashMap, VecDeque};

use x11rb::connection::Connection;
use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::xproto::{self, ConnectionExt as _, Keycode, Window};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use super::display::{Display, DisplayError};
use super::input::{Action, Hands};
use super::keys;

/// Types of events, as XTEST takes them.
const KEY_PRESS: u8 = xproto::KEY_PRESS_EVENT;
const KEY_RELEASE: u8 = xproto::KEY_RELEASE_EVENT;
const BUTTON_PRESS: u8 = xproto::BUTTON_PRESS_EVENT;
const BUTTON_RELEASE: u8 = xproto::BUTTON_RELEASE_EVENT;
const MOTION: u8 = xproto::MOTION_NOTIFY_EVENT;
/// Symbols of modifiers.
const SHIFT: u32 = 0xFFE1;
const LEVEL_3: u32 = 0xFE03;
/// Notches of the wheel acted out for one message.
const MOST_NOTCHES: u16 = 10;
/// Unused key numbers that are lent to characters the keyboard lacks. Several, as programs look a number up
/// only some time after it was pressed.
const MOST_LENT: usize = 8;

/// Connects to a display. Blocks while it does.
///
/// # Errors
/// [`DisplayError`].
pub fn connect(display: &Display) -> Result<Box<dyn Hands>, DisplayError> {
    let (connection, screen) = display.connect()?;
    let root = connection.setup().roots[screen].root;
    let name = &display.name;
    if connection.xtest_get_version(2, 2).map(|cookie| cookie.reply().is_err()).unwrap_or(true) {
        return Err(DisplayError::Lacks { name: name.clone(), what: "the XTEST extension" });
    }
    let keyboard = Keyboard::read(&connection).map_err(|error| DisplayError::refused(name, error))?;
    Ok(Box::new(Actor { connection, root, keyboard, pressed: BTreeSet::new(), buttons: BTreeSet::new() }))
}

/// Where a symbol is on the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    key: Keycode,
    shift: bool,
    level_3: bool,
}

/// The keys of the server and what they mean.
#[derive(Debug)]
struct Keyboard {
    places: HashMap<u32, Place>,
    symbols_per_key: u8,
    /// Key numbers without a meaning, those lent longest ago first.
    spare: VecDeque<(Keycode, Option<u32>)>,
}

impl Keyboard {
    fn read(connection: &RustConnection) -> Result<Keyboard, ReplyError> {
        let (first, last) = (connection.setup().min_keycode, connection.setup().max_keycode);
        let mapping = connection.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        Ok(Keyboard::of(first, mapping.keysyms_per_keycode, &mapping.keysyms))
    }

    fn of(first: Keycode, symbols_per_key: u8, symbols: &[u32]) -> Keyboard {
        let (mut places, mut spare) = (HashMap::new(), VecDeque::new());
        // Plain before shifted before third level, so that each symbol is found where it is reached most easily.
        for column in [0usize, 1, 4, 5] {
            for (number, levels) in symbols.chunks(usize::from(symbols_per_key).max(1)).enumerate() {
                let Some(key) = u8::try_from(number).ok().and_then(|number| first.checked_add(number)) else {
                    continue;
                };
                if column == 0 && levels.iter().all(|symbol| *symbol == 0) && spare.len() < MOST_LENT {
                    spare.push_back((key, None));
                }
                if let Some(symbol) = levels.get(column).filter(|symbol| **symbol != 0) {
                    let place = Place { key, shift: column % 2 == 1, level_3: column >= 4 };
                    places.entry(*symbol).or_insert(place);
                }
            }
        }
        Keyboard { places, symbols_per_key, spare }
    }

    /// Where a symbol is; one that is nowhere is lent a key number.
    fn place(&mut self, connection: &RustConnection, symbol: u32) -> Result<Option<Place>, ConnectionError> {
        if let Some(place) = self.places.get(&symbol) {
            return Ok(Some(*place));
        }
        let Some((key, earlier)) = self.spare.pop_front() else { return Ok(None) };
        if let Some(earlier) = earlier {
            self.places.remove(&earlier);
        }
        let symbols = vec![symbol; usize::from(self.symbols_per_key)];
        connection.change_keyboard_mapping(1, key, self.symbols_per_key, &symbols)?;
        self.spare.push_back((key, Some(symbol)));
        let place = Place { key, shift: false, level_3: false };
        self.places.insert(symbol, place);
        Ok(Some(place))
    }
}

struct Actor {
    connection: RustConnection,
    root: Window,
    keyboard: Keyboard,
    pressed: BTreeSet<Keycode>,
    buttons: BTreeSet<u8>,
}

impl Actor {
    fn release(&mut self) -> Result<(), ConnectionError> {
        for key in std::mem::take(&mut self.pressed) {
            self.fake(KEY_RELEASE, key, 0, 0)?;
        }
        for button in std::mem::take(&mut self.buttons) {
            self.fake(BUTTON_RELEASE, button, 0, 0)?;
        }
        for (key, symbol) in std::mem::take(&mut self.keyboard.spare) {
            if symbol.is_some() {
                let none = vec![0; usize::from(self.keyboard.symbols_per_key)];
                self.connection.change_keyboard_mapping(1, key, self.keyboard.symbols_per_key, &none)?;
            }
        }
        // A server may leave out what it has not read when the connection closes, so it is waited for.
        let _ = self.connection.get_input_focus()?.reply();
        Ok(())
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) -> Result<(), ConnectionError> {
        self.connection.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, self.root, x, y, 0)?;
        Ok(())
    }

    fn key(&mut self, key: Keycode, down: bool) -> Result<(), ConnectionError> {
        if down {
            self.pressed.insert(key);
        } else {
            // Letting go of what nobody holds is passed on too: it clears a key that got stuck.
            self.pressed.remove(&key);
        }
        self.fake(if down { KEY_PRESS } else { KEY_RELEASE }, key, 0, 0)
    }

    fn carry_out(&mut self, action: &Action) -> Result<(), ConnectionError> {
        match *action {
            Action::Key { down, extended, code } => {
                let Some(symbol) = keys::symbol(code, extended) else { return Ok(()) };
                if let Some(place) = self.keyboard.place(&self.connection, symbol)? {
                    self.key(place.key, down)?;
                }
            }
            Action::Character(character) => {
                if let Some(place) = self.keyboard.place(&self.connection, keys::symbol_of(character))? {
                    self.strike(place)?;
                }
            }
            Action::Move { x, y } => self.fake(MOTION, 0, x, y)?,
            Action::Button { number, down } => {
                if down {
                    self.buttons.insert(number);
                } else {
                    self.buttons.remove(&number);
                }
                self.fake(if down { BUTTON_PRESS } else { BUTTON_RELEASE }, number, 0, 0)?;
            }
            Action::Wheel(notches) => {
                let button = if notches > 0 { 4 } else { 5 };
                for _ in 0..notches.unsigned_abs().min(MOST_NOTCHES) {
                    self.fake(BUTTON_PRESS, button, 0, 0)?;
                    self.fake(BUTTON_RELEASE, button, 0, 0)?;
                }
            }
            Action::CtrlAltDel => {
                let combination: Vec<Keycode> = [0x11, 0x12, 0x2E]
                    .into_iter()
                    .filter_map(|code| keys::symbol(code, false))
                    .filter_map(|symbol| self.keyboard.places.get(&symbol).map(|place| place.key))
                    .collect();
                for key in &combination {
                    self.fake(KEY_PRESS, *key, 0, 0)?;
                }
                for key in combination.iter().rev() {
                    self.fake(KEY_RELEASE, *key, 0, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Presses and lets go of the key of a character, with the modifiers it needs and without a Shift that it
    /// does not: the viewer's keyboard may have the character elsewhere than this one.
    fn strike(&mut self, place: Place) -> Result<(), ConnectionError> {
        let key_of = |symbol: u32| self.keyboard.places.get(&symbol).map(|place| place.key);
        let (shift, level_3) = (key_of(SHIFT), key_of(LEVEL_3));
        let mut changed: Vec<(Keycode, bool)> = Vec::new();
        for (modifier, needed) in [(shift, place.shift), (level_3, place.level_3)] {
            if let Some(modifier) = modifier
                && self.pressed.contains(&modifier) != needed
            {
                changed.push((modifier, needed));
            }
        }
        for (modifier, needed) in &changed {
            self.fake(if *needed { KEY_PRESS } else { KEY_RELEASE }, *modifier, 0, 0)?;
        }
        self.fake(KEY_PRESS, place.key, 0, 0)?;
        self.fake(KEY_RELEASE, place.key, 0, 0)?;
        for (modifier, needed) in changed.iter().rev() {
            self.fake(if *needed { KEY_RELEASE } else { KEY_PRESS }, *modifier, 0, 0)?;
        }
        Ok(())
    }
}

impl Hands for Actor {
    fn act(&mut self, action: &Action) -> bool {
        if self.carry_out(action).and_then(|()| self.connection.flush()).is_err() {
            return false;
        }
        // The server's own words (changed keyboards) are not needed, but must not pile up.
        while let Ok(Some(_)) = self.connection.poll_for_event() {}
        true
    }

    fn let_go(&mut self) {
        let _ = self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_where_they_are_reached_most_easily() {
        // Four keys with six symbols each: a, 2 with a quotation mark and a third level, nothing, and A alone.
        #[rustfmt::skip]
        let symbols = [
            0x61, 0x41, 0, 0, 0, 0,
            0x32, 0x22, 0, 0, 0xB2, 0,
            0, 0, 0, 0, 0, 0,
            0x41, 0, 0, 0, 0, 0,
        ];
        let keyboard = Keyboard::of(8, 6, &symbols);
        let at = |symbol: u32| keyboard.places.get(&symbol).copied();
        assert_eq!(at(0x61), Some(Place { key: 8, shift: false, level_3: false }));
        assert_eq!(at(0x22), Some(Place { key: 9, shift: true, level_3: false }));
        assert_eq!(at(0xB2), Some(Place { key: 9, shift: false, level_3: true }));
        assert_eq!(at(0x41), Some(Place { key: 11, shift: false, level_3: false }), "plain is preferred");
        assert_eq!(keyboard.spare, [(10, None)]);
        assert_eq!(Keyboard::of(8, 0, &[]).places.len(), 0);
    }
}
