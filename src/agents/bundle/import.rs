//! Taking a bundle out of MeshCentral's package: an npm tarball, or its folder.
//!
//! Everything is written to a folder of its own first and checked; only then the manifest is replaced. Whatever
//! goes wrong before leaves the bundle that was there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use super::manifest::Manifest;
use super::parts::{MODULE_FOLDERS, Part};
use super::staging::Staging;

/// Most entries of a package. Version 1.1.55 has 2656.
const MOST_ENTRIES: usize = 20_000;
/// Most bytes of a package, unpacked. Version 1.1.55 has 423 MB.
const MOST_BYTES: u64 = 2 << 30;
/// Longest path of an entry, in bytes.
const LONGEST_PATH: u64 = 4096;
/// Longest header that only describes the next entry, in bytes.
const LONGEST_EXTENSION: u64 = 64 << 10;

/// Why a package was not imported. Nothing was stored then.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Somebody else imports into the same data folder.
    #[error("another import is under way")]
    Busy,
    /// Not a gzip file at all.
    #[error("this is not an npm package (.tgz): it is not compressed with gzip")]
    NotGzip,
    /// The archive breaks off or contradicts itself.
    #[error("the archive is damaged or cut off after {after}: {reason}")]
    Damaged { after: String, reason: io::Error },
    /// An entry would be written somewhere else.
    #[error("{entry}: this path leads out of the package")]
    BadPath { entry: String },
    /// A link, a device, …
    #[error("{entry}: only files and folders may be in the package, this is a {kind}")]
    NotAFile { entry: String, kind: &'static str },
    /// Larger than any real one.
    #[error("{entry}: {size} bytes are too many; at most {limit} are taken")]
    TooLarge { entry: String, size: u64, limit: u64 },
    /// More entries, or bytes, than any real package.
    #[error("{entry}: the package has more than {limit} {what}")]
    TooMuch { entry: String, limit: u64, what: &'static str },
    /// Two entries with the same path.
    #[error("{entry} is there twice")]
    Twice { entry: String },
    /// Something that every package has.
    #[error("{entry} is missing in the package")]
    Missing { entry: String },
    /// Not the length or hash that the package's own list says.
    #[error("{entry} is not what {list} says: {what} differs", list = "agents/hashagents.json")]
    Differs { entry: String, what: &'static str },
    /// JSON with something else than expected.
    #[error("{entry} cannot be read: {reason}")]
    BadJson { entry: String, reason: String },
    /// Some other package.
    #[error("this is the package `{0}`, not `meshcentral`")]
    OtherPackage(String),
    /// No such folder or file, or no package in it.
    #[error("{0}: there is no MeshCentral package here (a .tgz file, or a folder with package.json)")]
    NoPackage(String),
    /// An agent that its headers make impossible to hash.
    #[error("{entry}: {reason}")]
    BadExecutable { entry: String, reason: outpost_wire::msh::MshError },
    /// The source cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Read { path: String, reason: io::Error },
    /// The data folder cannot be written.
    #[error("{path} cannot be written: {reason}")]
    Write { path: String, reason: io::Error },
}

/// Imports from a path: a `.tgz` file, a package's folder, or a folder that it is installed in.
///
/// # Errors
/// [`ImportError`].
pub fn import_path(source: &Path, data_folder: &Path) -> Result<Manifest, ImportError> {
    let read = |reason| ImportError::Read { path: source.display().to_string(), reason };
    if !source.exists() {
        return Err(ImportError::NoPackage(source.display().to_string()));
    }
    if source.is_dir() {
        let candidates = ["", "package", "node_modules/meshcentral"];
        let package = candidates.iter().map(|inner| source.join(inner));
        let package = package.into_iter().find(|folder| folder.join("package.json").exists());
        let package = package.ok_or_else(|| ImportError::NoPackage(source.display().to_string()))?;
        return import_folder(&package, data_folder);
    }
    import_archive(File::open(source).map_err(read)?, data_folder)
}

/// Imports an npm tarball while it is read; nothing of it is held in memory.
///
/// # Errors
/// [`ImportError`].
pub fn import_archive(source: impl Read, data_folder: &Path) -> Result<Manifest, ImportError> {
    let mut staging = Staging::begin(data_folder)?;
    let mut source = io::BufReader::with_capacity(64 << 10, source);
    let head = io::BufRead::fill_buf(&mut source)
        .map_err(|reason| ImportError::Damaged { after: "its beginning".into(), reason })?;
    if !head.starts_with(&[0x1f, 0x8b]) {
        return Err(ImportError::NotGzip);
    }
    let mut unpacked = Limited { source: GzDecoder::new(source), left: MOST_BYTES };
    let mut archive = Archive::new(&mut unpacked);
    let mut after = String::from("its beginning");
    let damaged = |after: &str, reason| ImportError::Damaged { after: after.into(), reason };
    let mut long_path = None;
    // Raw: headers that describe the next entry would be read into memory whatever they claim to have.
    let entries = archive.entries().map_err(|reason| damaged(&after, reason))?.raw(true);
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|reason| damaged(&after, reason))?;
        let kind = entry.header().entry_type();
        if let Some(path) = extension(&mut entry, kind, &after)? {
            long_path = path.or(long_path);
            continue;
        }
        let path = match long_path.take() {
            Some(path) => path,
            None => String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
        };
        if count >= MOST_ENTRIES {
            return Err(ImportError::TooMuch { entry: path, limit: MOST_ENTRIES as u64, what: "entries" });
        }
        let inner = inner_path(&path)?;
        match kind {
            EntryType::Directory => {}
            EntryType::Regular | EntryType::Continuous => {
                if let Some(part) = inner.and_then(Part::of) {
                    staging.take(inner.unwrap_or_default(), part, entry.size(), &mut entry).map_err(
                        |error| match error {
                            ImportError::Read { reason, .. } => damaged(&path, reason),
                            other => other,
                        },
                    )?;
                }
            }
            other => return Err(ImportError::NotAFile { entry: path, kind: kind_name(other) }),
        }
        after = path;
    }
    // The checksum of the compressed file stands at its very end.
    io::copy(&mut unpacked, &mut io::sink()).map_err(|reason| damaged(&after, reason))?;
    staging.finish()
}

/// The path inside the package: npm puts everything into one folder. None for that folder itself.
fn inner_path(path: &str) -> Result<Option<&str>, ImportError> {
    let bad = || ImportError::BadPath { entry: path.escape_debug().to_string() };
    let unfit = path.is_empty()
        || path.starts_with('/')
        || path.contains(['\\', '\0', '\u{fffd}'])
        || path.split('/').any(|part| part == "..");
    if unfit {
        return Err(bad());
    }
    let path = path.trim_start_matches("./");
    Ok(path.split_once('/').map(|(_, inner)| inner).filter(|inner| !inner.is_empty()))
}

/// Reads a header that only describes the next entry; the path if it says one.
fn extension<R: Read>(
    entry: &mut Entry<'_, R>,
    kind: EntryType,
    after: &str,
) -> Result<Option<Option<String>>, ImportError> {
    if !matches!(
        kind,
        EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink
    ) {
        return Ok(None);
    }
    let limit = if kind == EntryType::GNULongName { LONGEST_PATH } else { LONGEST_EXTENSION };
    if entry.size() > limit {
        let size = entry.size();
        return Err(ImportError::TooLarge { entry: format!("the header after {after}"), size, limit });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|reason| ImportError::Damaged { after: after.into(), reason })?;
    Ok(Some(match kind {
        EntryType::GNULongName => {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
        }
        EntryType::XHeader => tar::PaxExtensions::new(&bytes)
            .flatten()
            .find(|field| field.key_bytes() == b"path")
            .map(|field| String::from_utf8_lossy(field.value_bytes()).into_owned()),
        _ => None,
    }))
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        _ => "special entry",
    }
}

/// A reader that ends with an error when there is more than there should be.
struct Limited<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {MOST_BYTES} bytes")))?;
        Ok(read)
    }
}

fn import_folder(package: &Path, data_folder: &Path) -> Result<Manifest, ImportError> {
    let mut staging = Staging::begin(data_folder)?;
    for folder in ["", "agents"].into_iter().map(str::to_owned).chain(module_folders()) {
        let Some(meta) = plain(package, &folder)? else { continue };
        if !meta.is_dir() {
            return Err(ImportError::NotAFile { entry: folder, kind: "file in place of a folder" });
        }
        let place = package.join(&folder);
        let read = |reason| ImportError::Read { path: place.display().to_string(), reason };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&place).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            if let Some(name) = name.to_str() {
                names.push(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
            }
            if names.len() > MOST_ENTRIES {
                let limit = MOST_ENTRIES as u64;
                return Err(ImportError::TooMuch { entry: folder, limit, what: "entries" });
            }
        }
        names.sort();
        for path in names {
            let Some(part) = Part::of(&path) else { continue };
            let Some(meta) = plain(package, &path)? else { continue };
            if !meta.is_file() {
                return Err(ImportError::NotAFile { entry: path, kind: "folder in place of a file" });
            }
            let source = package.join(&path);
            let read = |reason| ImportError::Read { path: source.display().to_string(), reason };
            let mut file = File::open(&source).map_err(read)?;
            staging.take(&path, part, meta.len(), &mut file)?;
        }
    }
    staging.finish()
}

fn module_folders() -> impl Iterator<Item = String> {
    MODULE_FOLDERS.iter().map(|folder| format!("agents/{folder}"))
}

/// What is at a path of the package, if anything; links are refused.
fn plain(package: &Path, inner: &str) -> Result<Option<std::fs::Metadata>, ImportError> {
    let path = package.join(inner);
    match path.symlink_metadata() {
        // Whoever gives the folder may give it by a link.
        Ok(_) if inner.is_empty() => path
            .metadata()
            .map(Some)
            .map_err(|reason| ImportError::Read { path: path.display().to_string(), reason }),
        Ok(meta) if meta.is_symlink() => {
            Err(ImportError::NotAFile { entry: inner.to_owned(), kind: "symbolic link" })
        }
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(ImportError::Read { path: path.display().to_string(), reason }),
    }
}
