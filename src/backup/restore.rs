//! Putting a copy of everything into a server that is stopped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::{ABOUT, About, DATA, FILES, RECORDINGS, REPLACED};
use crate::clock;
use crate::config::Config;
use crate::store::{self, READS, RedbEngine, StoreError};

/// Longest description of a copy, in bytes, and deepest path, in steps.
const LONGEST_ABOUT: u64 = 64 << 10;
const DEEPEST: usize = 48;
/// Where a part is unpacked, beside the folder it is for.
const UNPACKED: &str = ".unpacked";

/// Why a copy is not taken.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is something else.
    #[error("this is no copy of an Outpost server: {0}")]
    Foreign(String),
    /// It is of a later release.
    #[error(
        "this copy was made by Outpost {version}, whose store this release cannot read; update Outpost first"
    )]
    Newer { version: String },
    /// It is not whole, or has something in it that it must not have.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
    /// Its store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("the copy could not be put in place: {0}")]
    Io(#[from] io::Error),
}

/// Takes a copy. Everything is unpacked and looked at first; then it takes the place of what is there, which is kept in a
/// folder `replaced-…` beside it. Gives the release that made the copy.
///
/// # Errors
/// [`RestoreError`]; what was there is as it was, but for a disk that fails in the last step.
pub fn restore(config: &Config, from: impl Read) -> Result<String, RestoreError> {
    // Its lock says whether the server is stopped.
    let current = config.data_folder.join(store::FILE_NAME);
    if current.exists() {
        match RedbEngine::open(&current) {
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Newer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let folders =
        [(DATA, &config.data_folder), (FILES, &config.files_folder), (RECORDINGS, &config.recordings_folder)];
    let mut parts = Vec::new();
    for (name, folder) in folders {
        parts.push(Part::begin(name, folder)?);
    }
    let about = unpack(from, &mut parts)?;
    let store = parts[0].unpacked.join(store::FILE_NAME);
    if !store.is_file() {
        return Err(RestoreError::Damaged("it has no store".into()));
    }
    drop(RedbEngine::open(&store)?);
    let key = format!("{REPLACED}{}", clock::now_seconds());
    for part in &parts {
        part.put_in_place(&key)?;
    }
    Ok(about.version)
}

/// A part on its way: unpacked inside the folder it is for, so that what takes its place is on the same disk.
struct Part {
    name: &'static str,
    folder: PathBuf,
    unpacked: PathBuf,
    /// Whose everything is: who owns the folder, whoever restores.
    owner: (u32, u32),
}

impl Part {
    fn begin(name: &'static str, folder: &Path) -> io::Result<Part> {
        if !folder.is_dir() {
            make_folder(folder)?;
        }
        let meta = fs::metadata(folder)?;
        let unpacked = folder.join(UNPACKED);
        match fs::remove_dir_all(&unpacked) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        make_folder(&unpacked)?;
        Ok(Part { name, folder: folder.to_owned(), unpacked, owner: (meta.uid(), meta.gid()) })
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.owner.0), Some(self.owner.1))
    }

    /// Moves what is there aside, where something takes its place, and that in.
    fn put_in_place(&self, key: &str) -> io::Result<()> {
        let aside = self.folder.join(key);
        for entry in fs::read_dir(&self.unpacked)? {
            let entry = entry?;
            let place = self.folder.join(entry.file_name());
            if place.exists() {
                if !aside.is_dir() {
                    make_folder(&aside)?;
                    self.own(&aside)?;
                }
                fs::rename(&place, aside.join(entry.file_name()))?;
            }
            fs::rename(entry.path(), &place)?;
        }
        File::open(&self.folder)?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.unpacked);
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
}

fn unpack(from: impl Read, parts: &mut [Part]) -> Result<About, RestoreError> {
    let damaged = |error: io::Error| RestoreError::Damaged(error.to_string());
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(from));
    let mut about = None;
    for entry in archive.entries().map_err(|error| RestoreError::Foreign(error.to_string()))? {
        let mut entry = entry.map_err(|error| match about {
            None => RestoreError::Foreign(error.to_string()),
            Some(_) => damaged(error),
        })?;
        let path = entry.path().map_err(damaged)?.into_owned();
        if about.is_none() {
            about = Some(read_about(&path, entry)?);
            continue;
        }
        let steps: Vec<Component<'_>> = path.components().collect();
        let is_plain = steps.iter().all(|step| matches!(step, Component::Normal(_)));
        let kind = entry.header().entry_type();
        if !is_plain || steps.len() > DEEPEST || !(kind.is_file() || kind.is_dir()) {
            return Err(RestoreError::Damaged(format!("`{}` must not be in it", path.display())));
        }
        let part = parts.iter().find(|part| steps[0].as_os_str() == part.name);
        let Some(part) = part else {
            return Err(RestoreError::Damaged(format!("`{}` is not known", path.display())));
        };
        let place = steps[1..].iter().fold(part.unpacked.clone(), |place, step| place.join(step));
        if kind.is_dir() {
            make_folder(&place)?;
        } else {
            if let Some(folder) = place.parent() {
                make_folder(folder)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
            io::copy(&mut entry, &mut file).map_err(damaged)?;
            file.sync_all()?;
        }
        part.own(&place)?;
    }
    about.ok_or_else(|| RestoreError::Foreign("it is empty".into()))
}

fn read_about(path: &Path, entry: impl Read) -> Result<About, RestoreError> {
    if path != Path::new(ABOUT) {
        return Err(RestoreError::Foreign(format!("it does not begin with {ABOUT}")));
    }
    let mut json = Vec::new();
    entry
        .take(LONGEST_ABOUT)
        .read_to_end(&mut json)
        .map_err(|error| RestoreError::Foreign(error.to_string()))?;
    let about: About =
        serde_json::from_slice(&json).map_err(|error| RestoreError::Foreign(error.to_string()))?;
    if about.product != "outpost" {
        return Err(RestoreError::Foreign(format!("it is of `{}`", about.product)));
    }
    if about.schema > READS {
        return Err(RestoreError::Newer { version: about.version });
    }
    Ok(about)
}
