//! The official agents and their cores: a bundle taken from MeshCentral's package into the data folder.

mod import;
mod manifest;
mod parts;
mod staging;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use import::{ImportError, import_archive, import_path};
pub use manifest::{BundleFile, Manifest};
pub use parts::Part;

/// Name of the file that an import holds a lock on.
const LOCK_NAME: &str = ".import.lock";

/// Name of the folder of bundles in a data folder.
pub const FOLDER: &str = "agents";

/// Where bundles are kept in a data folder.
fn agents_folder(data_folder: &Path) -> PathBuf {
    data_folder.join(FOLDER)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a bundle that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Reading failed.
    #[error("{path} cannot be read: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: io::Error,
    },
    /// The manifest is not one.
    #[error("{path} is damaged ({reason}); import the agents again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// A bundle as it lies in the data folder.
#[derive(Debug)]
pub struct Bundle {
    /// What it has.
    pub manifest: Manifest,
    folder: PathBuf,
}

impl Bundle {
    /// The bundle of a data folder, if there is one.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn load(data_folder: &Path) -> Result<Option<Bundle>, BundleError> {
        let agents = agents_folder(data_folder);
        let path = agents.join(manifest::FILE_NAME);
        let shown = || path.display().to_string();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(reason) => return Err(BundleError::Read { path: shown(), reason }),
        };
        let mut text = String::new();
        file.take(manifest::LARGEST)
            .read_to_string(&mut text)
            .map_err(|reason| BundleError::Read { path: shown(), reason })?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|error| BundleError::Damaged { path: shown(), reason: error.to_string() })?;
        if !manifest.is_sound() {
            let reason = "it names files that no bundle has".to_owned();
            return Err(BundleError::Damaged { path: shown(), reason });
        }
        let folder = agents.join(&manifest.folder);
        Ok(Some(Bundle { manifest, folder }))
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file is.
    pub fn place(&self, file: &BundleFile) -> PathBuf {
        self.folder.join(&file.path)
    }

    /// The bytes of the file at a path of the package, if the bundle has it.
    ///
    /// # Errors
    /// When it cannot be read, or is not as long as it was.
    pub fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.manifest.file(path) else { return Ok(None) };
        let bytes = fs::read(self.place(file))?;
        if bytes.len() as u64 != file.size {
            return Err(io::Error::other(format!("{path} has changed since it was imported")));
        }
        Ok(Some(bytes))
    }
}

/// Removes the bundle of a data folder; `false` when there is none.
///
/// # Errors
/// [`ImportError::Busy`] and failures to write.
pub fn remove(data_folder: &Path) -> Result<bool, ImportError> {
    let agents = agents_folder(data_folder);
    if !agents.is_dir() {
        return Ok(false);
    }
    let _lock = staging::lock(&agents)?;
    let path = agents.join(manifest::FILE_NAME);
    let was_there = match fs::remove_file(&path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(reason) => return Err(ImportError::Write { path: path.display().to_string(), reason }),
    };
    for folder in staging::folders(&agents, manifest::FOLDER_PREFIX) {
        fs::remove_dir_all(&folder)
            .map_err(|reason| ImportError::Write { path: folder.display().to_string(), reason })?;
    }
    Ok(was_there)
}

/// What tells one manifest file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
}

/// The bundle in use. A bundle that is imported or removed by somebody else (the command line) is noticed.
#[derive(Debug)]
pub struct CurrentBundle {
    data_folder: PathBuf,
    seen: Mutex<(Option<Stamp>, Option<Arc<Bundle>>)>,
    changes: watch::Sender<u64>,
}

impl CurrentBundle {
    /// The bundle of a data folder, which may come and go.
    pub fn new(data_folder: &Path) -> CurrentBundle {
        CurrentBundle {
            data_folder: data_folder.to_owned(),
            seen: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// The bundle, as it is now: one look at the manifest's file, which is read again when it has changed.
    pub fn get(&self) -> Option<Arc<Bundle>> {
        let path = agents_folder(&self.data_folder).join(manifest::FILE_NAME);
        let stamp = fs::metadata(&path)
            .ok()
            .map(|meta| Stamp { modified: (meta.mtime(), meta.mtime_nsec()), inode: meta.ino() });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 == stamp {
            return seen.1.clone();
        }
        let bundle = match Bundle::load(&self.data_folder) {
            Ok(bundle) => bundle.map(Arc::new),
            Err(error) => {
                log::error!("the official agents cannot be used: {error}");
                None
            }
        };
        if let Some(bundle) = &bundle {
            log::info!("official agents of MeshCentral {} are there", bundle.manifest.version);
        }
        *seen = (stamp, bundle.clone());
        drop(seen);
        self.changes.send_modify(|count| *count += 1);
        bundle
    }

    /// Tells when the bundle has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
pub(crate) mod tests;
