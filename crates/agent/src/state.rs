//! The state folder: the device's key, and the last server certificate that proved itself.
//!
//! Every file is written whole (temporary file, fsync, rename), so a power cut leaves the old or the new
//! one. A file that cannot be read is set aside under another name with a message: the key in it *is* the
//! device's identity on the server, and a new one makes a new device.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use outpost_wire::id::Hash384;

use crate::identity::{Identity, IdentityError};

const IDENTITY: &str = "identity.pem";
const TRUSTED_TLS: &str = "trusted-tls";
/// The settings file a service reads (same text as a `.msh` beside an executable).
pub const SETTINGS: &str = "outpost-agent.msh";

/// What went wrong with the state folder.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or the folder could not be read or written.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent has the folder.
    #[error("another agent is running with the state folder {}", .0.display())]
    InUse(PathBuf),
    /// No key could be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Where an agent keeps what must survive a restart.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// (server, certificate) as on disk.
    trusted: Mutex<Option<(Hash384, Hash384)>>,
    /// Held as long as an agent runs with this folder.
    lock: Option<Flock<File>>,
}

impl StateFolder {
    /// Opens the folder, making it (0700) when it is not there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| StateError::Io {
            action: "creating the state folder",
            path: path.clone(),
            source,
        })?;
        let trusted = read_trusted(&path.join(TRUSTED_TLS));
        Ok(Self { path, trusted: Mutex::new(trusted), lock: None })
    }

    /// Claims the folder for this process: two agents with one identity would replace each other on the
    /// server without end.
    pub fn lock(&mut self) -> Result<(), StateError> {
        let path = self.path.join("lock");
        let io = |source| StateError::Io { action: "locking", path: path.clone(), source };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.lock = Some(lock),
            Err((_, Errno::EWOULDBLOCK)) => return Err(StateError::InUse(self.path.clone())),
            Err((_, errno)) => return Err(io(errno.into())),
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity stored here, if there is one that can be read.
    pub fn stored_identity(&self) -> Result<Option<Identity>, StateError> {
        let path = self.path.join(IDENTITY);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Identity::from_pem(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { action: "reading", path, source }),
        }
    }

    /// The device's identity; made on the first run, or when the stored one is damaged (the damaged file
    /// stays beside it).
    pub fn identity(&self) -> Result<Identity, StateError> {
        match self.stored_identity() {
            Ok(Some(identity)) => return Ok(identity),
            Ok(None) => {}
            // Only damage is set aside: a file that may not be read now is still the identity.
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {
                self.set_aside(IDENTITY, &source.to_string())?;
            }
            Err(StateError::Identity(error)) => self.set_aside(IDENTITY, &error.to_string())?,
            Err(error) => return Err(error),
        }
        log::info!("making the key of this device (RSA, 2048 bits)");
        let identity = Identity::generate()?;
        self.write(IDENTITY, identity.to_pem().as_bytes())?;
        Ok(identity)
    }

    /// The TLS certificate that `server` last proved to be its own.
    pub fn trusted_tls(&self, server: &Hash384) -> Option<Hash384> {
        let trusted = self.trusted.lock().expect("no holder panics");
        trusted.filter(|(owner, _)| owner == server).map(|(_, hash)| hash)
    }

    /// Remembers the certificate that `server` proved; writes only when it changed.
    pub fn trust_tls(&self, server: Hash384, certificate: Hash384) -> Result<(), StateError> {
        let mut trusted = self.trusted.lock().expect("no holder panics");
        if *trusted != Some((server, certificate)) {
            let text = format!("{} {}\n", server.to_hex(), certificate.to_hex());
            self.write(TRUSTED_TLS, text.as_bytes())?;
            *trusted = Some((server, certificate));
        }
        Ok(())
    }

    /// Replaces `name` as a whole, readable by the owner only.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        write_atomically(&path, contents, 0o600).map_err(|source| StateError::Io {
            action: "writing",
            path,
            source,
        })
    }

    fn set_aside(&self, name: &str, why: &str) -> Result<(), StateError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.damaged-{seconds}"));
        fs::rename(&path, &aside).map_err(|source| StateError::Io {
            action: "setting aside",
            path: path.clone(),
            source,
        })?;
        log::error!(
            "{} is damaged ({why}); it is kept as {}. This device gets a new key and will appear as a new device",
            path.display(),
            aside.display()
        );
        Ok(())
    }
}

/// Writes a temporary file beside `path`, flushes it to the disk and renames it into place.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    let result = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // A left-over of an interrupted write keeps its old mode otherwise.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn read_trusted(path: &Path) -> Option<(Hash384, Hash384)> {
    let text = fs::read_to_string(path).ok()?;
    let (server, certificate) = text.trim().split_once(' ')?;
    // Damage costs one full authentication and is mended by it, so it is not worth a message.
    Some((Hash384::from_hex(server).ok()?, Hash384::from_hex(certificate).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_and_stays_private() {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateFolder::open(folder.path().join("state")).expect("open");
        let made = state.identity().expect("made");
        let read = StateFolder::open(state.path()).expect("open").identity().expect("read");
        assert_eq!(made.node(), read.node());
        let mode = fs::metadata(state.path().join(IDENTITY)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_identity_is_kept_beside_the_new_one() {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateFolder::open(folder.path()).expect("open");
        for damage in [&b"-----BEGIN nothing"[..], b"", &[0xFF, 0xFE, 0]] {
            fs::write(folder.path().join(IDENTITY), damage).expect("damage");
            state.identity().expect("a new one");
            let kept: Vec<_> = fs::read_dir(folder.path())
                .expect("list")
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().contains("damaged"))
                .collect();
            assert_eq!(kept.len(), 1);
            assert_eq!(fs::read(kept[0].path()).expect("kept"), damage);
            fs::remove_file(kept[0].path()).expect("clean");
        }
    }

    #[test]
    fn one_folder_is_for_one_agent() {
        let folder = tempfile::tempdir().expect("folder");
        let mut first = StateFolder::open(folder.path()).expect("open");
        first.lock().expect("lock");
        let mut second = StateFolder::open(folder.path()).expect("open");
        assert!(matches!(second.lock(), Err(StateError::InUse(_))));
        drop(first);
        second.lock().expect("free again");
    }

    #[test]
    fn trust_belongs_to_one_server() {
        let folder = tempfile::tempdir().expect("folder");
        let (server, other, certificate) = (Hash384::of(b"s"), Hash384::of(b"o"), Hash384::of(b"c"));
        StateFolder::open(folder.path()).expect("open").trust_tls(server, certificate).expect("write");
        let state = StateFolder::open(folder.path()).expect("open");
        assert_eq!(state.trusted_tls(&server), Some(certificate));
        assert_eq!(state.trusted_tls(&other), None);
    }
}
