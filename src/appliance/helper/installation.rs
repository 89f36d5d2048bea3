//! Installing a bundle into the slot that does not run.
//!
//! Whichever way it comes, the bundle is brought to one place that only root reaches before anybody looks into it: what
//! was checked is then what is installed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::machine::Machine;
use super::outcome::{self, Update};
use super::{Answers, Refused, rauc, sticks};
use crate::appliance::protocol::{BundleName, Cause, Reply, Slot, StagedName, StickName};
use crate::clock;

/// Where the bundle lies while it is installed, in the folder of root's state.
const INCOMING: &str = "incoming.raucb";
/// Held by whoever installs.
const LOCK: &str = "install.lock";

/// Room that stays free on the data partition, in bytes: the server must be able to go on writing.
pub(super) const RESERVE: u64 = 32 << 20;

/// A bundle in root's folder; it goes away with this.
struct Incoming(PathBuf);

impl Incoming {
    /// Removes what is there. Whoever stages may have staged a folder.
    fn clear(&self) -> io::Result<()> {
        let removed = match fs::symlink_metadata(&self.0) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&self.0),
            Ok(_) => fs::remove_file(&self.0),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            log::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

fn lock_file(machine: &Machine) -> io::Result<File> {
    let path = machine.run.join(LOCK);
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The right to install, for one at a time.
fn lock(machine: &Machine) -> Result<Flock<File>, Refused> {
    let file = lock_file(machine).map_err(|error| Refused::failed("nothing can be installed", error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => Refused::new(Cause::Busy, "Another installation is running"),
        error => Refused::failed("nothing can be installed", error),
    })
}

/// Whether somebody installs.
pub(super) fn is_running(machine: &Machine) -> bool {
    lock_file(machine).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn incoming(machine: &Machine) -> Result<Incoming, Refused> {
    fs::create_dir_all(&machine.state)
        .map_err(|error| Refused::failed("the folder of updates cannot be made", error))?;
    let incoming = Incoming(machine.state.join(INCOMING));
    // A power cut leaves a bundle there.
    incoming.clear().map_err(|error| Refused::failed("an earlier update is in the way", error))?;
    Ok(incoming)
}

/// Installs what the server has taken in. The file is moved, so that it is gone afterwards in any case.
pub(super) fn of_staged(
    machine: &Machine,
    name: &StagedName,
    version: Option<&str>,
    answers: &mut Answers<'_>,
) -> Result<Reply, Refused> {
    let lock = lock(machine)?;
    let bundle = incoming(machine)?;
    fs::rename(machine.staging.join(name.as_str()), &bundle.0).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refused::new(Cause::NoFile, "There is no such file"),
        _ => Refused::failed("the file cannot be taken", error),
    })?;
    // Whoever staged it can no longer exchange it; now it is looked at, and no link is followed.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(&bundle.0)
        .map_err(|_| Refused::new(Cause::NoFile, "This is not a file"))?;
    let meta = file.metadata().map_err(|error| Refused::failed("the file cannot be read", error))?;
    // Another name of the file would be a way to change it.
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(Refused::new(Cause::NoFile, "This is not a file"));
    }
    drop(file);
    let reply = install(machine, &bundle, version, answers);
    drop(lock);
    reply
}

/// Installs what is on a stick, from a copy: a stick may be pulled out.
pub(super) fn of_stick(
    machine: &Machine,
    stick: &StickName,
    name: &BundleName,
    answers: &mut Answers<'_>,
) -> Result<Reply, Refused> {
    let lock = lock(machine)?;
    let bundle = incoming(machine)?;
    answers.progress(0, "Copying from the stick");
    sticks::copy(machine, stick, name, &bundle.0)?;
    let reply = install(machine, &bundle, None, answers);
    drop(lock);
    reply
}

fn install(
    machine: &Machine,
    bundle: &Incoming,
    version: Option<&str>,
    answers: &mut Answers<'_>,
) -> Result<Reply, Refused> {
    let booted = machine.booted()?;
    let seen = rauc::status(machine)?;
    answers.progress(0, "Checking the signature");
    let about = rauc::info(machine, &bundle.0)?;
    // The installer would refuse it as well, later and in other words.
    if about.compatible != seen.compatible {
        let (is, wanted) = (&about.compatible, &seen.compatible);
        let message = format!("The update is for another kind of box ({is}; this one takes {wanted})");
        return Err(Refused::new(Cause::OtherBoard, message));
    }
    // What names bundles is not signed: an old one must not come under a new one's name.
    if let Some(wanted) = version.filter(|wanted| *wanted != about.version) {
        let message = format!("The update is release {}, not {wanted}", about.version);
        return Err(Refused::new(Cause::OtherVersion, message));
    }
    rauc::install(machine, &bundle.0, |percent, step| answers.progress(percent, step))?;
    let slot = match booted {
        Slot::A => Slot::B,
        Slot::B => Slot::A,
    };
    let update = Update {
        from_slot: booted,
        from_version: env!("CARGO_PKG_VERSION").to_owned(),
        to_slot: slot,
        to_version: about.version.clone(),
        at: clock::now_seconds(),
    };
    // The slot starts all the same; only the page would not know what became of it.
    if let Err(error) = outcome::note(machine, &update) {
        log::error!("the installation could not be noted: {error}");
    }
    Ok(Reply::Installed { version: about.version, slot })
}
