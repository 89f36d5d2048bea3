//! Which screen is shown: the session in front of whoever sits at the device.

use std::os::fd::AsFd;

use nix::unistd::geteuid;

use super::display::{self, Display, DisplayError};
use super::{console, servers, virtual_terminal};
use crate::settings::DisplayChoice;

/// Something that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An X server.
    X(Display),
    /// What the graphics hardware puts out, whoever draws it: a Wayland session, a kiosk, a text console.
    Console,
}

impl Target {
    /// For people.
    pub fn name(&self) -> &str {
        match self {
            Target::X(display) => &display.name,
            Target::Console => "console",
        }
    }

    /// The X server.
    ///
    /// # Errors
    /// [`DisplayError::NeedsX`] when it is none.
    pub fn x(&self) -> Result<&Display, DisplayError> {
        match self {
            Target::X(display) => Ok(display),
            Target::Console => Err(DisplayError::NeedsX),
        }
    }
}

/// What the choice is made by.
#[derive(Debug, Default)]
pub struct Seat {
    /// The X server that the agent was started on, if it was.
    own: Option<Display>,
    /// The virtual terminal in front.
    front: Option<u32>,
    /// Whether a program draws there, rather than the kernel its text.
    is_graphical: bool,
    /// The X servers that run, by name.
    servers: Vec<Display>,
    hardware: Hardware,
}

/// Whether the hardware's picture can be read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Hardware {
    /// There is none.
    #[default]
    None,
    /// There is, for root only.
    Closed,
    /// It can.
    Open,
}

impl Seat {
    /// How it is now.
    pub fn read() -> Seat {
        let name = std::env::var("DISPLAY").ok().filter(|name| !name.is_empty());
        let own = name.map(|name| Display { name, authority: display::own_authority(), terminal: None });
        let front = virtual_terminal::number_in_front();
        let is_graphical = virtual_terminal::in_front()
            .is_some_and(|terminal| virtual_terminal::is_graphical(terminal.as_fd()));
        let hardware = match (console::has_hardware(), geteuid().is_root()) {
            (false, _) => Hardware::None,
            (true, false) => Hardware::Closed,
            (true, true) => Hardware::Open,
        };
        Seat { own, front, is_graphical, servers: servers::running(), hardware }
    }

    /// What is shown.
    ///
    /// # Errors
    /// [`DisplayError`]: switched off, or nothing there.
    pub fn choose(&self, choice: &DisplayChoice) -> Result<Target, DisplayError> {
        let x = |display: &Display| Ok(Target::X(display.clone()));
        match choice {
            DisplayChoice::Off => return Err(DisplayError::Off),
            DisplayChoice::Console => return self.console(),
            DisplayChoice::Named(name) => {
                let known = self.servers.iter().find(|server| server.name == *name);
                let unknown =
                    Display { name: name.clone(), authority: display::own_authority(), terminal: None };
                return x(known.unwrap_or(&unknown));
            }
            DisplayChoice::Front => {}
        }
        if let Some(own) = &self.own {
            return x(own);
        }
        let in_front =
            self.servers.iter().find(|server| server.terminal.is_some() && server.terminal == self.front);
        let elsewhere = self.servers.iter().min_by_key(|server| server.terminal.is_some());
        let without_terminal = elsewhere.filter(|server| server.terminal.is_none());
        let is_open = self.hardware == Hardware::Open;
        if let Some(server) = in_front {
            x(server)
        } else if is_open && self.is_graphical {
            // A compositor or a kiosk draws there.
            Ok(Target::Console)
        } else if let Some(server) = without_terminal {
            // Text in front says less than a desktop that needs no hardware: Xvnc on a server.
            x(server)
        } else if is_open {
            Ok(Target::Console)
        } else if let Some(server) = elsewhere {
            x(server)
        } else {
            self.console()
        }
    }

    fn console(&self) -> Result<Target, DisplayError> {
        match self.hardware {
            Hardware::Open => Ok(Target::Console),
            Hardware::Closed => Err(DisplayError::NeedsRoot),
            Hardware::None => Err(DisplayError::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(name: &str, terminal: Option<u32>) -> Display {
        Display { name: name.into(), authority: None, terminal }
    }

    #[test]
    fn the_session_in_front_is_shown() {
        use Hardware::{Closed, None as Without, Open};
        // (what, front, graphical, servers, hardware, shown)
        type Case =
            (&'static str, Option<u32>, bool, &'static [(&'static str, Option<u32>)], Hardware, &'static str);
        let cases: &[Case] = &[
            ("a desktop", Some(7), true, &[(":0", Some(7))], Open, ":0"),
            ("the second of two users", Some(3), true, &[(":0", Some(2)), (":1", Some(3))], Open, ":1"),
            (
                "a log-in screen in front of a session",
                Some(1),
                true,
                &[(":0", Some(1)), (":1", Some(2))],
                Open,
                ":0",
            ),
            ("a desktop without hardware nodes", Some(7), true, &[(":0", Some(7))], Without, ":0"),
            ("Wayland", Some(2), true, &[], Open, "console"),
            (
                "Wayland beside an X session of somebody else",
                Some(2),
                true,
                &[(":0", Some(3))],
                Open,
                "console",
            ),
            ("Wayland beside Xvnc", Some(2), true, &[(":5", None)], Open, "console"),
            ("Wayland, not as root", Some(2), true, &[], Closed, "needs root"),
            ("Wayland, not as root, Xvnc", Some(2), true, &[(":5", None)], Closed, ":5"),
            ("text in front of a desktop", Some(1), false, &[(":0", Some(7))], Open, "console"),
            ("text in front of a desktop, not as root", Some(1), false, &[(":0", Some(7))], Closed, ":0"),
            ("text and Xvnc", Some(1), false, &[(":1", None)], Open, ":1"),
            ("text, Xvnc and a desktop behind", Some(1), false, &[(":0", Some(7)), (":1", None)], Open, ":1"),
            ("text only", Some(1), false, &[], Open, "console"),
            ("no virtual terminals, a kiosk", None, false, &[], Open, "console"),
            ("a container with Xvfb", None, false, &[(":99", None)], Without, ":99"),
            ("nothing", None, false, &[], Without, "nothing"),
        ];
        for (what, front, is_graphical, servers, hardware, shown) in cases {
            let servers = servers.iter().map(|(name, terminal)| display(name, *terminal)).collect();
            let (front, is_graphical, hardware) = (*front, *is_graphical, *hardware);
            let seat = Seat { own: None, front, is_graphical, servers, hardware };
            let chosen = match seat.choose(&DisplayChoice::Front) {
                Ok(target) => target.name().to_owned(),
                Err(DisplayError::NeedsRoot) => "needs root".into(),
                Err(DisplayError::None) => "nothing".into(),
                Err(other) => panic!("{what}: {other}"),
            };
            assert_eq!(chosen, *shown, "{what}");
        }
    }

    #[test]
    fn a_choice_in_the_settings_comes_first() {
        let seat = Seat {
            own: Some(display(":9", None)),
            front: Some(7),
            is_graphical: true,
            servers: vec![display(":0", Some(7)), display(":1", None)],
            hardware: Hardware::Open,
        };
        let chosen = |choice: DisplayChoice| seat.choose(&choice).map(|target| target.name().to_owned()).ok();
        assert_eq!(chosen(DisplayChoice::Front).as_deref(), Some(":9"), "the one it was started on");
        assert_eq!(chosen(DisplayChoice::Named(":1".into())).as_deref(), Some(":1"));
        assert_eq!(chosen(DisplayChoice::Named(":7".into())).as_deref(), Some(":7"), "perhaps it comes");
        assert_eq!(chosen(DisplayChoice::Console).as_deref(), Some("console"));
        assert_eq!(chosen(DisplayChoice::Off), None);
    }
}
