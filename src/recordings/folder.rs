//! A folder of recordings: its space, and what is in it.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use super::catalogue::Recording;
use super::{PART, SUFFIX, is_name};

/// Names tried when there is a recording of the same second, user, device and tunnel.
const MOST_TRIES: u32 = 20;

/// A folder of recordings.
pub struct Folder {
    path: PathBuf,
    /// Bytes of all files, those that are being written included.
    used: AtomicU64,
    known: Mutex<HashMap<String, Recording>>,
}

impl Folder {
    /// A folder, made when something is recorded.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, used: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all its files, as far as is known.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// So many bytes more are about to be written.
    pub(super) fn grow(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that its disk has for us.
    pub(super) fn free(&self) -> io::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.path)?;
        #[allow(clippy::useless_conversion, reason = "narrower on 32-bit systems")]
        Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
    }

    /// Makes a file for a recording that will have this name, or one like it, once it is whole. Only its owner may
    /// read it, and it is locked.
    pub(super) fn create(&self, name: &str) -> io::Result<(File, PathBuf, String)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        self.measure()?;
        let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
        for n in 0..MOST_TRIES {
            let name = if n == 0 { name.to_owned() } else { format!("{stem}-{n}{SUFFIX}") };
            let part = self.path.join(format!("{name}{PART}"));
            if self.path.join(&name).exists() {
                continue;
            }
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&part) {
                Ok(file) => {
                    file.lock()?;
                    return Ok((file, part, name));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Names, sizes and times of change (Unix ms) of the files that end like this.
    fn files(&self, suffix: &str) -> io::Result<Vec<(String, u64, u64)>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A link may lead anywhere.
            let Ok(data) = entry.metadata() else { continue };
            if !data.is_file() || !name.ends_with(suffix) {
                continue;
            }
            let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let changed = changed.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            files.push((name, data.len(), changed));
        }
        Ok(files)
    }

    /// Counts again what it has.
    pub(super) fn measure(&self) -> io::Result<()> {
        let all = self.files(SUFFIX)?.into_iter().chain(self.files(PART)?);
        self.used.store(all.map(|(_, size, _)| size).sum(), Ordering::Relaxed);
        Ok(())
    }

    /// What is being written, or was left behind.
    pub(super) fn parts(&self) -> io::Result<Vec<PathBuf>> {
        let parts = self.files(PART)?.into_iter();
        let ours = parts.filter(|(name, ..)| name.strip_suffix(PART).is_some_and(is_name));
        Ok(ours.map(|(name, ..)| self.path.join(name)).collect())
    }

    /// All recordings that are whole, newest first.
    pub(super) fn list(&self) -> io::Result<Vec<Recording>> {
        let files = self.files(SUFFIX)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(files.len());
        for (name, size, changed) in files.into_iter().filter(|(name, ..)| is_name(name)) {
            let same = known.remove(&name).filter(|known| known.size == size && known.changed == changed);
            let recording = match same {
                Some(same) => same,
                // One that vanishes meanwhile, or cannot be read, is not worth the whole list.
                None => match Recording::read(&self.path, &name, size, changed) {
                    Ok(recording) => recording,
                    Err(error) => {
                        log::warn!("the recording {name} cannot be read: {error}");
                        continue;
                    }
                },
            };
            found.insert(name, recording);
        }
        let mut list: Vec<Recording> = found.values().cloned().collect();
        list.sort_by(|a, b| (b.start, &b.name).cmp(&(a.start, &a.name)));
        *known = found;
        Ok(list)
    }

    /// The recording of this name.
    pub(super) fn one(&self, name: &str) -> io::Result<Option<Recording>> {
        if !is_name(name) {
            return Ok(None);
        }
        let data = match fs::symlink_metadata(self.path.join(name)) {
            Ok(data) if data.is_file() => data,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let changed = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(changed.as_millis()).unwrap_or(u64::MAX);
        Recording::read(&self.path, name, data.len(), changed).map(Some)
    }
}
