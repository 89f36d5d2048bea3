//! An X server, and connecting to it.

use std::fs;
use std::path::PathBuf;

use x11rb::connection::Connection;
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::reexports::x11rb_protocol::parse_display::parse_display;
use x11rb::rust_connection::{DefaultStream, RustConnection};

/// Largest file of authorisations that is read.
const LARGEST_AUTHORITY: u64 = 1 << 20;

/// An X server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Display {
    /// Its name, such as `:0`.
    pub name: String,
    /// The file that lets clients in, if it has one.
    pub authority: Option<PathBuf>,
    /// The virtual terminal it is on, if it is on one.
    pub terminal: Option<u32>,
}

/// Why there is no desktop.
#[derive(Debug, thiserror::Error)]
pub enum DisplayError {
    /// Switched off in the settings.
    #[error("Desktop sessions are switched off on this device")]
    Off,
    /// Nothing that could be shown.
    #[error(
        "No graphical session runs on this device, and it has no display hardware that could be read (/dev/dri, /dev/fb0)"
    )]
    None,
    /// There is something, but not for us.
    #[error(
        "No session of the X Window System runs on this device; other screens can be read only by an agent that runs as root"
    )]
    NeedsRoot,
    /// Windows of our own and the clipboard are a matter of X.
    #[error("the screen in front is not one of the X Window System, so nothing can be put on it")]
    NeedsX,
    /// The hardware's picture could not be read.
    #[error("the picture of the console: {0}")]
    Console(String),
    /// Keys and pointer could not be had.
    #[error("keyboard and pointer of the console: {0}")]
    Input(String),
    /// The one there is does not let us in.
    #[error("display {name}: {reason}")]
    Refused {
        /// Which.
        name: String,
        /// As the server or the system says.
        reason: String,
    },
    /// It lacks what is needed.
    #[error("display {name} lacks {what}")]
    Lacks {
        /// Which.
        name: String,
        /// What.
        what: &'static str,
    },
}

impl DisplayError {
    /// The display `name` refused something, for a reason given by the server or the system.
    pub fn refused(name: &str, reason: impl ToString) -> DisplayError {
        DisplayError::Refused { name: name.to_owned(), reason: reason.to_string() }
    }
}

/// Why a display does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("{0}")]
    Reply(#[from] ReplyError),
    #[error("{0}")]
    Id(#[from] ReplyOrIdError),
    #[error("{0}")]
    System(#[from] nix::Error),
}

impl Display {
    /// Connects.
    ///
    /// # Errors
    /// [`DisplayError::Refused`].
    pub fn connect(&self) -> Result<(RustConnection, usize), DisplayError> {
        let parsed =
            parse_display(Some(&self.name)).map_err(|error| DisplayError::refused(&self.name, error))?;
        let mut failure = "no address".to_owned();
        for address in parsed.connect_instruction() {
            let (stream, _) = match DefaultStream::connect(&address) {
                Ok(connected) => connected,
                Err(error) => {
                    failure = error.to_string();
                    continue;
                }
            };
            let (name, data) = self.authorisation(parsed.display).unwrap_or_default();
            let screen = usize::from(parsed.screen);
            return match RustConnection::connect_to_stream_with_auth_info(stream, screen, name, data) {
                Ok(connection) if connection.setup().roots.len() > screen => Ok((connection, screen)),
                Ok(_) => Err(DisplayError::refused(&self.name, "it has no such screen")),
                Err(error) => Err(DisplayError::refused(&self.name, error)),
            };
        }
        Err(DisplayError::refused(&self.name, failure))
    }

    /// Name and data of the authorisation for a display number.
    fn authorisation(&self, number: u16) -> Option<(Vec<u8>, Vec<u8>)> {
        let path = self.authority.as_ref()?;
        let size = fs::metadata(path).ok()?.len();
        let entries = authorities(&fs::read(path).ok().filter(|_| size <= LARGEST_AUTHORITY)?);
        let number = number.to_string().into_bytes();
        let fits = |entry: &&Authority| entry.number.is_empty() || entry.number == number;
        entries.iter().find(fits).map(|entry| (entry.name.clone(), entry.data.clone()))
    }
}

/// The authority file of our own environment.
pub fn own_authority() -> Option<PathBuf> {
    let named = std::env::var_os("XAUTHORITY").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".Xauthority")))
}

/// An entry of an authority file.
struct Authority {
    number: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
}

/// Entries of an authority file: a family, then address, display number, name and data, each with its length
/// (Xau's documentation). What follows a broken entry is left out.
fn authorities(mut bytes: &[u8]) -> Vec<Authority> {
    fn take(bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (field, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        *bytes = rest;
        Some(field.to_vec())
    }
    fn entry(bytes: &mut &[u8]) -> Option<Authority> {
        *bytes = bytes.get(2..)?;
        take(bytes)?;
        Some(Authority { number: take(bytes)?, name: take(bytes)?, data: take(bytes)? })
    }
    let mut entries = Vec::new();
    while let Some(authority) = entry(&mut bytes) {
        entries.push(authority);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_files_are_read_as_far_as_they_are_whole() {
        let mut file = vec![1, 0, 0, 3, b'b', b'o', b'x', 0, 1, b'7', 0, 18];
        file.extend(b"MIT-MAGIC-COOKIE-1");
        file.extend([0, 2, 0xAA, 0xBB]);
        let whole = file.len();
        file.extend([1, 0, 0, 200, b'x']);
        let entries = authorities(&file);
        assert_eq!(entries.len(), 1);
        assert_eq!((&entries[0].number[..], &entries[0].data[..]), (&b"7"[..], &[0xAA, 0xBB][..]));
        assert_eq!(authorities(&file[..whole - 1]).len(), 0);
        assert_eq!(authorities(&[]).len(), 0);
    }
}
