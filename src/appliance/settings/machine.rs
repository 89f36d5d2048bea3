//! What only the running box can do, behind a trait: a test has a machine of its own.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};

use super::document::Problem;
use super::takeover::Request;

/// The server's account, and the folder of its data.
const SERVER: &str = "outpost";
const DATA: &str = "/var/lib/outpost";

/// The box, as far as settings change it.
pub trait Machine {
    /// Gives the running system a name.
    ///
    /// # Errors
    /// The kernel's.
    fn set_host_name(&self, name: &str) -> io::Result<()>;

    /// Lets the boot partition be written, or no longer.
    ///
    /// # Errors
    /// The kernel's: the partition is damaged, or write-protected.
    fn set_boot_writable(&self, writable: bool) -> io::Result<()>;

    /// Has the server's data take something over; gives what could not be done.
    ///
    /// # Errors
    /// Nobody could be asked.
    fn take_over(&self, request: &Request) -> io::Result<Vec<Problem>>;
}

/// The machine that this process runs on, as root.
#[derive(Debug)]
pub struct ThisBox {
    /// Where the boot partition is mounted.
    pub boot: PathBuf,
}

impl Machine for ThisBox {
    fn set_host_name(&self, name: &str) -> io::Result<()> {
        Ok(nix::unistd::sethostname(name)?)
    }

    fn set_boot_writable(&self, writable: bool) -> io::Result<()> {
        // What is not named would be taken away from the mount.
        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        if !writable {
            flags |= MsFlags::MS_RDONLY;
        }
        Ok(mount(None::<&Path>, &self.boot, None::<&Path>, flags, None::<&Path>)?)
    }

    /// Another process does it, as the server's user: root opens no file in a folder that is somebody else's.
    fn take_over(&self, request: &Request) -> io::Result<Vec<Problem>> {
        let user = nix::unistd::User::from_name(SERVER)?
            .ok_or_else(|| io::Error::other(format!("there is no user {SERVER}")))?;
        let data = Path::new(DATA);
        if !data.exists() {
            // As systemd makes it when the server starts.
            super::durable::make_folder(data)?;
            nix::unistd::chown(data, Some(user.uid), Some(user.gid))?;
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args(["box", "take-over", "--datapath", DATA])
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&serde_json::to_vec(request)?)?;
        }
        let answer = child.wait_with_output()?;
        if !answer.status.success() {
            return Err(io::Error::other(format!("the server's data cannot be changed ({})", answer.status)));
        }
        Ok(serde_json::from_slice(&answer.stdout)?)
    }
}
