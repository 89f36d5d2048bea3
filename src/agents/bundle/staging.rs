//! The folder that a bundle is put together in, and how it becomes the one in use.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use outpost_wire::id::Hash384;
use ring::digest;
use serde::Deserialize;

use super::import::ImportError;
use super::manifest::{BundleFile, FILE_NAME, FOLDER_PREFIX, Manifest, STAGING_PREFIX};
use super::parts::{self, NEEDED, Part};
use super::{LOCK_NAME, agents_folder};
use crate::clock;

/// Most files of a bundle. Version 1.1.55 gives 118.
const MOST_FILES: usize = 1024;

/// A file that was written.
struct Taken {
    part: Part,
    size: u64,
    sha256: String,
    sha384: Hash384,
}

/// A bundle in the making. Dropped without [`Staging::finish`], nothing of it stays.
pub(super) struct Staging {
    agents: PathBuf,
    folder: PathBuf,
    taken: BTreeMap<String, Taken>,
    /// Held as long as the import lasts.
    _lock: File,
}

/// An entry of `hashagents.json`.
#[derive(Deserialize)]
struct Listed {
    filename: String,
    hash: String,
    size: u64,
    mtime: Option<String>,
}

/// What is needed of `package.json`.
#[derive(Deserialize)]
struct Description {
    name: String,
    version: String,
}

fn writing(path: &Path) -> impl Fn(io::Error) -> ImportError + '_ {
    |reason| ImportError::Write { path: path.display().to_string(), reason }
}

impl Staging {
    /// Makes the folder. What an import that was interrupted left behind is removed.
    pub(super) fn begin(data_folder: &Path) -> Result<Staging, ImportError> {
        let agents = agents_folder(data_folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&agents).map_err(writing(&agents))?;
        let lock = lock(&agents)?;
        for left in folders(&agents, STAGING_PREFIX) {
            fs::remove_dir_all(&left).map_err(writing(&left))?;
        }
        let folder = agents.join(format!("{STAGING_PREFIX}{}", &Hash384::random().to_hex()[..8]));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(writing(&folder))?;
        Ok(Staging { agents, folder, taken: BTreeMap::new(), _lock: lock })
    }

    /// Writes an entry of `size` bytes.
    pub(super) fn take(
        &mut self,
        path: &str,
        part: Part,
        size: u64,
        source: &mut impl Read,
    ) -> Result<(), ImportError> {
        let entry = || path.to_owned();
        if size > part.largest() {
            return Err(ImportError::TooLarge { entry: entry(), size, limit: part.largest() });
        }
        if self.taken.contains_key(path) {
            return Err(ImportError::Twice { entry: entry() });
        }
        if self.taken.len() == MOST_FILES {
            return Err(ImportError::TooMuch { entry: entry(), limit: MOST_FILES as u64, what: "files" });
        }
        let place = self.folder.join(path);
        if let Some(parent) = place.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(writing(parent))?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)
            .map_err(writing(&place))?;
        let mut sha256 = digest::Context::new(&digest::SHA256);
        let mut sha384 = digest::Context::new(&digest::SHA384);
        let mut buffer = vec![0; 64 << 10];
        let mut source = source.take(size);
        let mut written = 0;
        loop {
            let read = source
                .read(&mut buffer)
                .map_err(|reason| ImportError::Read { path: path.to_owned(), reason })?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            sha384.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(writing(&place))?;
            written += read as u64;
        }
        if written != size {
            let reason = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early");
            return Err(ImportError::Read { path: path.to_owned(), reason });
        }
        file.sync_all().map_err(writing(&place))?;
        let sha384 = Hash384::try_from(sha384.finish().as_ref()).expect("48 bytes");
        let sha256 = super::hex(sha256.finish().as_ref());
        self.taken.insert(path.to_owned(), Taken { part, size, sha256, sha384 });
        Ok(())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ImportError> {
        let place = self.folder.join(path);
        let bytes = fs::read(&place)
            .map_err(|reason| ImportError::Read { path: place.display().to_string(), reason })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ImportError::BadJson { entry: path.to_owned(), reason: error.to_string() })
    }

    /// Checks that everything is there and as the package says, and puts it in the place of the old bundle.
    pub(super) fn finish(self) -> Result<Manifest, ImportError> {
        if let Some(missing) = NEEDED.iter().find(|path| !self.taken.contains_key(**path)) {
            return Err(ImportError::Missing { entry: (*missing).to_owned() });
        }
        let modules = "agents/modules_meshcore/";
        if !self.taken.keys().any(|path| path.starts_with(modules)) {
            return Err(ImportError::Missing { entry: modules.to_owned() });
        }
        let description: Description = self.json("package.json")?;
        if description.name != "meshcentral" {
            return Err(ImportError::OtherPackage(description.name.chars().take(64).collect()));
        }
        let version = description.version;
        if version.is_empty()
            || version.len() > 32
            || !version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
        {
            let reason = "its version is not one".to_owned();
            return Err(ImportError::BadJson { entry: "package.json".into(), reason });
        }
        let built = self.compare_with_list()?;
        let mut files = Vec::with_capacity(self.taken.len());
        for (path, taken) in &self.taken {
            let executable_hash =
                (taken.part == Part::Agent).then(|| self.executable_hash(path)).transpose()?;
            files.push(BundleFile {
                path: path.clone(),
                part: taken.part,
                ids: parts::architectures(path),
                size: taken.size,
                sha256: taken.sha256.clone(),
                executable_hash,
                file_hash: (taken.part == Part::Agent).then_some(taken.sha384),
                built: built.get(path).copied(),
            });
        }
        let folder = format!("{FOLDER_PREFIX}{version}-{}", &Hash384::random().to_hex()[..8]);
        let manifest = Manifest { version, imported: clock::now_ms(), folder, files };
        self.publish(manifest)
    }

    /// Every agent that the package lists has to be there, with that length and hash. When each was built.
    fn compare_with_list(&self) -> Result<BTreeMap<String, i64>, ImportError> {
        let list: BTreeMap<String, Listed> = self.json("agents/hashagents.json")?;
        let mut built = BTreeMap::new();
        let mut agents = 0;
        for listed in list.values() {
            let path = format!("agents/{}", listed.filename);
            let Some(taken) = self.taken.get(&path) else {
                return Err(ImportError::Missing { entry: path.escape_debug().to_string() });
            };
            let differs = |what| Err(ImportError::Differs { entry: path.clone(), what });
            if taken.size != listed.size {
                return differs("its length");
            }
            if Hash384::from_hex(&listed.hash).ok() != Some(taken.sha384) {
                return differs("its hash");
            }
            agents += 1;
            if let Some(time) = listed.mtime.as_deref().and_then(clock::seconds_of_iso8601) {
                built.insert(path, time);
            }
        }
        if agents == 0 {
            let reason = "it lists no agent".to_owned();
            return Err(ImportError::BadJson { entry: "agents/hashagents.json".into(), reason });
        }
        Ok(built)
    }

    fn executable_hash(&self, path: &str) -> Result<Hash384, ImportError> {
        let place = self.folder.join(path);
        let mut file = File::open(&place)
            .map_err(|reason| ImportError::Read { path: place.display().to_string(), reason })?;
        outpost_wire::msh::executable_hash(&mut file)
            .map_err(|reason| ImportError::BadExecutable { entry: path.to_owned(), reason })
    }

    fn publish(self, manifest: Manifest) -> Result<Manifest, ImportError> {
        let target = self.agents.join(&manifest.folder);
        sync_folder(&self.folder)?;
        fs::rename(&self.folder, &target).map_err(writing(&target))?;
        let file_name = self.agents.join(FILE_NAME);
        let new = self.agents.join(format!("{FILE_NAME}.new"));
        let written = (|| {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .map_err(writing(&new))?;
            serde_json::to_writer_pretty(&mut file, &manifest)
                .map_err(io::Error::from)
                .map_err(writing(&new))?;
            file.sync_all().map_err(writing(&new))?;
            sync_folder(&self.agents)?;
            fs::rename(&new, &file_name).map_err(writing(&file_name))
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            let _ = fs::remove_dir_all(&target);
            return Err(error);
        }
        sync_folder(&self.agents)?;
        // What is being sent from the old bundle goes on: its files are open.
        for old in folders(&self.agents, FOLDER_PREFIX).filter(|old| *old != target) {
            if let Err(error) = fs::remove_dir_all(&old) {
                log::warn!("{} could not be removed: {error}", old.display());
            }
        }
        Ok(manifest)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{} could not be removed: {error}", self.folder.display());
            }
            _ => {}
        }
    }
}

/// Takes the lock that one import, or removal, at a time holds.
pub(super) fn lock(agents: &Path) -> Result<File, ImportError> {
    let path = agents.join(LOCK_NAME);
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(writing(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ImportError::Busy),
        Err(fs::TryLockError::Error(reason)) => Err(writing(&path)(reason)),
    }
}

/// Folders whose names begin so.
pub(super) fn folders(agents: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(agents).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn sync_folder(folder: &Path) -> Result<(), ImportError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(writing(folder))
}
