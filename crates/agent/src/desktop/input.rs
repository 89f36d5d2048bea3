//! Keys and pointer of one viewer, acted out by a thread of its own.

use std::sync::{Arc, mpsc};

use super::display::DisplayError;
use super::screen::Screen;
use super::seat::Target;
use super::{uinput, xtest};

/// Something a viewer did, on the whole desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A key of a US keyboard.
    Key {
        /// Pressed rather than let go.
        down: bool,
        /// The extended one of two keys with the same number.
        extended: bool,
        /// Windows virtual key code.
        code: u8,
    },
    /// A character was typed.
    Character(char),
    /// The pointer is here.
    Move {
        /// Left, in pixels of the desktop.
        x: i16,
        /// Top.
        y: i16,
    },
    /// A button: 1 left, 2 middle, 3 right.
    Button {
        /// Which.
        number: u8,
        /// Pressed rather than let go.
        down: bool,
    },
    /// The wheel, in notches; positive is up.
    Wheel(i16),
    /// The key combination of the same name.
    CtrlAltDel,
}

/// What acts on a screen.
pub trait Hands: Send + 'static {
    /// Carries an action out; `false` when that will not work any more.
    fn act(&mut self, action: &Action) -> bool;
    /// Lets go of everything that is pressed.
    fn let_go(&mut self);
}

/// Where a viewer's actions go. What is pressed is let go when this is dropped.
#[derive(Debug)]
pub struct Input(mpsc::Sender<Action>);

impl Input {
    /// Takes hold of keyboard and pointer of a screen. Blocks while it does.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub fn of(screen: &Arc<Screen>) -> Result<Input, DisplayError> {
        let mut hands = match &screen.target {
            Target::X(display) => xtest::connect(display)?,
            Target::Console => uinput::create(screen)?,
        };
        let (actions, taken) = mpsc::channel();
        let thread = move || {
            while let Ok(action) = taken.recv() {
                if !hands.act(&action) {
                    return;
                }
            }
            hands.let_go();
        };
        std::thread::Builder::new()
            .name("input".into())
            .spawn(thread)
            .map_err(|error| DisplayError::refused(screen.target.name(), error))?;
        Ok(Input(actions))
    }

    /// Has an action carried out.
    pub fn act(&self, action: Action) {
        let _ = self.0.send(action);
    }
}
