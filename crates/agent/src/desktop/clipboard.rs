//! The clipboard of an X display: taken from whoever owns it, and owned until somebody else copies something.

use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, SELECTION_NOTIFY_EVENT,
    SelectionNotifyEvent, SelectionRequestEvent, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::display::{Display, DisplayError, Failure};

/// Longest text, in bytes (agent-protocol §9).
pub const LONGEST: usize = 65_535;
/// How long the owner of the clipboard may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a waiting thread looks up.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection with a window, as selections are between windows.
struct Clipboard {
    connection: RustConnection,
    window: Window,
    clipboard: Atom,
    primary: Atom,
    utf8: Atom,
    targets: Atom,
    property: Atom,
}

impl Clipboard {
    fn open(connection: RustConnection, screen: usize) -> Result<Clipboard, Failure> {
        let window = connection.generate_id()?;
        let root = connection.setup().roots[screen].root;
        let look = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        connection.create_window(0, window, root, 0, 0, 1, 1, 0, WindowClass::INPUT_ONLY, 0, &look)?;
        let atom = |name: &str| -> Result<Atom, Failure> {
            Ok(connection.intern_atom(false, name.as_bytes())?.reply()?.atom)
        };
        let (clipboard, utf8) = (atom("CLIPBOARD")?, atom("UTF8_STRING")?);
        let (targets, property) = (atom("TARGETS")?, atom("OUTPOST_CLIPBOARD")?);
        let primary = AtomEnum::PRIMARY.into();
        Ok(Clipboard { connection, window, clipboard, primary, utf8, targets, property })
    }

    /// The text of the clipboard, else of what is marked; `None` when there is none.
    fn read(&self) -> Result<Option<String>, Failure> {
        for selection in [self.clipboard, self.primary] {
            if self.connection.get_selection_owner(selection)?.reply()?.owner == x11rb::NONE {
                continue;
            }
            self.connection.convert_selection(
                self.window,
                selection,
                self.utf8,
                self.property,
                x11rb::CURRENT_TIME,
            )?;
            self.connection.flush()?;
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                match self.connection.poll_for_event()? {
                    Some(Event::SelectionNotify(notice)) if notice.property == x11rb::NONE => break,
                    Some(Event::SelectionNotify(_)) => {
                        let length = u32::try_from(LONGEST.div_ceil(4)).unwrap_or(u32::MAX);
                        let (window, property) = (self.window, self.property);
                        let kind = AtomEnum::ANY;
                        let reply =
                            self.connection.get_property(true, window, property, kind, 0, length)?.reply()?;
                        // Texts that come in parts are longer than any that is passed on.
                        if reply.type_ == self.utf8 || reply.type_ == u32::from(AtomEnum::STRING) {
                            let text = String::from_utf8_lossy(&reply.value).into_owned();
                            return Ok(Some(text).filter(|text| !text.is_empty()));
                        }
                        break;
                    }
                    Some(_) => {}
                    None => std::thread::sleep(PAUSE),
                }
            }
        }
        Ok(None)
    }

    /// Becomes the owner of the clipboard.
    fn own(&self) -> Result<bool, Failure> {
        for selection in [self.clipboard, self.primary] {
            self.connection.set_selection_owner(self.window, selection, x11rb::CURRENT_TIME)?;
        }
        Ok(self.connection.get_selection_owner(self.clipboard)?.reply()?.owner == self.window)
    }

    /// Gives `text` to whoever pastes, until somebody else owns the clipboard.
    fn serve(&self, text: &str) -> Result<(), Failure> {
        loop {
            match self.connection.wait_for_event()? {
                Event::SelectionClear(cleared) if cleared.selection == self.clipboard => return Ok(()),
                Event::SelectionRequest(request) => self.give(&request, text)?,
                _ => {}
            }
        }
    }

    fn give(&self, request: &SelectionRequestEvent, text: &str) -> Result<(), Failure> {
        // Clients of old name no property; the target stands in for it (ICCCM §2.2).
        let property = if request.property == x11rb::NONE { request.target } else { request.property };
        let string = u32::from(AtomEnum::STRING);
        let given = if request.target == self.targets {
            let offered = [self.targets, self.utf8, string];
            let kind = AtomEnum::ATOM;
            self.connection.change_property32(
                PropMode::REPLACE,
                request.requestor,
                property,
                kind,
                &offered,
            )?;
            true
        } else if request.target == self.utf8 || request.target == string {
            let (to, kind) = (request.requestor, request.target);
            self.connection.change_property8(PropMode::REPLACE, to, property, kind, text.as_bytes())?;
            true
        } else {
            false
        };
        let notice = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time: request.time,
            requestor: request.requestor,
            selection: request.selection,
            target: request.target,
            property: if given { property } else { x11rb::NONE },
        };
        self.connection.send_event(false, request.requestor, EventMask::NO_EVENT, notice)?;
        self.connection.flush()?;
        Ok(())
    }
}

fn open(display: &Display) -> Result<Clipboard, DisplayError> {
    let (connection, screen) = display.connect()?;
    Clipboard::open(connection, screen).map_err(|error| DisplayError::refused(&display.name, error))
}

/// The text that was copied or marked on a display. Blocks.
///
/// # Errors
/// [`DisplayError`].
pub fn read(display: &Display) -> Result<Option<String>, DisplayError> {
    open(display)?.read().map_err(|error| DisplayError::refused(&display.name, error))
}

/// Has a text be what is pasted on a display. Blocks until it is; a thread then serves it.
///
/// # Errors
/// [`DisplayError`].
pub fn write(display: &Display, text: String) -> Result<(), DisplayError> {
    let clipboard = open(display)?;
    if !clipboard.own().map_err(|error| DisplayError::refused(&display.name, error))? {
        return Err(DisplayError::refused(&display.name, "another program keeps the clipboard"));
    }
    let name = display.name.clone();
    let serving = std::thread::Builder::new().name("clipboard".into()).spawn(move || {
        if let Err(error) = clipboard.serve(&text) {
            log::debug!("clipboard of {name}: {error}");
        }
    });
    serving.map(|_| ()).map_err(|error| DisplayError::refused(&display.name, error))
}
