//! A copy of everything: one `.tar.gz` with the store, certificates and keys, configuration, people's files, and
//! recordings where they are wanted; and putting it into another server.
//!
//! Official agents are left out: they are large, and nobody's own.

mod restore;
#[cfg(test)]
mod tests;
mod tickets;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agents::bundle;
use crate::clock;
use crate::config::Config;
use crate::store::{self, Engine, SCHEMA, StoreError};

pub use restore::{RestoreError, restore};
pub use tickets::Tickets;

/// The first entry, by which a copy is known.
const ABOUT: &str = "outpost-copy.json";
/// Parts of the archive.
const DATA: &str = "data";
const FILES: &str = "files";
const RECORDINGS: &str = "recordings";
/// Beginnings of names in the data folder that are not carried along.
const SNAPSHOT: &str = ".copy-";
const REPLACED: &str = "replaced-";

/// What a copy says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    product: String,
    /// Release that made it.
    version: String,
    /// Schema of its store.
    schema: u64,
    /// When, Unix ms.
    at: i64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read, or nobody takes what is written.
    #[error("the copy broke off: {0}")]
    Io(#[from] io::Error),
}

/// What is copied.
pub struct Source {
    engine: Arc<dyn Engine>,
    data: PathBuf,
    files: PathBuf,
    recordings: Option<PathBuf>,
}

impl Source {
    /// A server's data; with its recordings if they are wanted.
    pub fn new(config: &Config, engine: Arc<dyn Engine>, recordings: bool) -> Source {
        Source {
            engine,
            data: config.data_folder.clone(),
            files: config.files_folder.clone(),
            recordings: recordings.then(|| config.recordings_folder.clone()),
        }
    }

    /// Writes the copy. The server may run: the store is copied as it is at one moment, but for what it still keeps
    /// back for at most 5 s (last-seen, power history).
    ///
    /// # Errors
    /// [`BackupError`]; what was written until then is of no use.
    pub fn write(&self, to: impl Write) -> Result<(), BackupError> {
        let snapshot = Snapshot::of(&*self.engine, &self.data)?;
        // Quick: a small board sends as fast as it packs, and the most of it is packed or sealed already.
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(to, flate2::Compression::fast()));
        let about = About {
            product: "outpost".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            schema: SCHEMA,
            at: clock::now_ms(),
        };
        let about = serde_json::to_vec_pretty(&about).map_err(io::Error::from)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(about.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(clock::now_seconds()).unwrap_or(0));
        archive.append_data(&mut header, ABOUT, &about[..])?;
        add_file(&mut archive, &Path::new(DATA).join(store::FILE_NAME), &snapshot.0)?;
        for entry in sorted(&self.data)? {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_left_out = text == store::FILE_NAME
                || text == bundle::FOLDER
                || text.starts_with(SNAPSHOT)
                || text.starts_with(REPLACED);
            if !is_left_out {
                add(&mut archive, &Path::new(DATA).join(&name), &entry.path())?;
            }
        }
        for (part, folder) in [(FILES, Some(&self.files)), (RECORDINGS, self.recordings.as_ref())] {
            if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
                add(&mut archive, Path::new(part), folder)?;
            }
        }
        archive.into_inner()?.finish()?.flush()?;
        Ok(())
    }
}

/// A copy of the store beside it; it goes away with this.
struct Snapshot(PathBuf);

impl Snapshot {
    fn of(engine: &dyn Engine, folder: &Path) -> Result<Snapshot, BackupError> {
        let key: String =
            outpost_wire::random::bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        let snapshot = Snapshot(folder.join(format!("{SNAPSHOT}{key}")));
        engine.copy_to(&snapshot.0)?;
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

type Archive<W> = tar::Builder<flate2::write::GzEncoder<W>>;

/// What is in a folder, by name, so that two copies of the same are alike.
fn sorted(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

/// Adds a file, or a folder with all that is in it. What is neither, a link included, is none of the server's making.
fn add<W: Write>(archive: &mut Archive<W>, name: &Path, path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // It went away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if meta.is_dir() {
        archive.append_dir(name, path)?;
        for entry in sorted(path)? {
            add(archive, &name.join(entry.file_name()), &entry.path())?;
        }
        Ok(())
    } else if meta.is_file() {
        add_file(archive, name, path)
    } else {
        Ok(())
    }
}

/// Adds a file as long as it is now: one that grows is cut there, one that shrinks filled up.
fn add_file<W: Write>(archive: &mut Archive<W>, name: &Path, path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_size(meta.len());
    header.set_mode(meta.mode() & 0o700);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    archive.append_data(&mut header, name, file.take(meta.len()).chain(io::repeat(0)).take(meta.len()))
}
