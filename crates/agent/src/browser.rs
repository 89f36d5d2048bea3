//! Opening an address in the browser of whoever sits at the device.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use crate::account::{Account, AccountError};
use crate::pty;

/// Longest address.
const LONGEST: usize = 4096;
/// Programs that open one, the best first.
const OPENERS: [&str; 3] = ["xdg-open", "x-www-browser", "sensible-browser"];
/// What of a session's environment a browser needs to find its screen.
const NEEDED: [&str; 6] = [
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_CURRENT_DESKTOP",
];
/// A program that runs so long has not failed: some open the address and end, others are the browser.
const PROOF: Duration = Duration::from_secs(3);
/// Largest environment of a process that is looked through.
const LARGEST: u64 = 1 << 20;

/// Why an address was not opened.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// Not of the web.
    #[error("only addresses that begin with https:// or http:// are opened")]
    Address,
    /// Nobody's session to open it in.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The user has no graphical session.
    #[error("{0} has no graphical session on this device")]
    NoSession(String),
    /// Nothing there opens addresses.
    #[error("there is no browser on this device")]
    NoBrowser,
    /// It did not start.
    #[error("the browser did not start: {0}")]
    Start(#[from] std::io::Error),
    /// It ended at once.
    #[error("the browser did not open the page ({0})")]
    Failed(std::process::ExitStatus),
}

/// Opens an address in the session of the user who is logged in, never as root.
///
/// # Errors
/// [`BrowserError`].
pub async fn open(url: &str) -> Result<(), BrowserError> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web || url.len() > LONGEST || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BrowserError::Address);
    }
    let account = if geteuid().is_root() { Account::logged_in()? } else { Account::own()? };
    let uid = account.uid.as_raw();
    let session = tokio::task::spawn_blocking(move || session_of(uid)).await.ok().flatten();
    let session = session.ok_or_else(|| BrowserError::NoSession(account.name.clone()))?;
    for program in OPENERS {
        let mut command = Command::new(program);
        command
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .envs(account.environment())
            .envs(&session)
            .current_dir(account.start_folder());
        pty::detach(&mut command, Some(&account));
        let mut child = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            spawned => spawned?,
        };
        return match timeout(PROOF, child.wait()).await {
            Ok(ended) => {
                let status = ended?;
                if status.success() { Ok(()) } else { Err(BrowserError::Failed(status)) }
            }
            Err(_) => {
                // Nobody is left behind as a zombie.
                tokio::spawn(async move { child.wait().await });
                Ok(())
            }
        };
    }
    Err(BrowserError::NoBrowser)
}

/// The environment of a graphical session of a user, as one of its processes has it.
fn session_of(uid: u32) -> Option<BTreeMap<String, String>> {
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|entry| {
        entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            && entry.metadata().is_ok_and(|about| about.uid() == uid)
    });
    processes.into_iter().find_map(|entry| {
        let mut environment = Vec::new();
        let file = fs::File::open(entry.path().join("environ")).ok()?;
        file.take(LARGEST).read_to_end(&mut environment).ok()?;
        needed(&environment)
    })
}

/// What is needed of an environment, if it is that of a session with a screen of this machine.
fn needed(environment: &[u8]) -> Option<BTreeMap<String, String>> {
    let pairs = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    let found: BTreeMap<String, String> = pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, value)| NEEDED.contains(name) && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // What `ssh -X` brings is a screen elsewhere.
    let is_here = found.get("DISPLAY").is_some_and(|display| display.starts_with(':'));
    (is_here || found.contains_key("WAYLAND_DISPLAY")).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_addresses_of_the_web_are_opened() {
        for bad in ["file:///etc/passwd", "javascript:alert(1)", "https://x y", "-h", "", "https://x\n"] {
            assert!(matches!(open(bad).await, Err(BrowserError::Address)), "{bad:?}");
        }
    }

    #[test]
    fn sessions_are_known_by_their_screens() {
        let found = needed(b"HOME=/root\0DISPLAY=:0\0XAUTHORITY=/x\0SECRET=1\0").expect("a session");
        assert_eq!(found.len(), 2);
        assert_eq!((found["DISPLAY"].as_str(), found["XAUTHORITY"].as_str()), (":0", "/x"));
        assert!(needed(b"WAYLAND_DISPLAY=wayland-0\0").is_some());
        assert!(needed(b"DISPLAY=localhost:10.0\0").is_none(), "a screen elsewhere");
        assert!(needed(b"DISPLAY=\0TERM=x\0").is_none());
    }
}
