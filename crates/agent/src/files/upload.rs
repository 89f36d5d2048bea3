//! A file being written by a client: in its place, on from where it broke off, or beside the one it replaces.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use outpost_wire::files::{HashKind, UploadMode, to_text};
use outpost_wire::id::hex_upper;
use ring::digest;
use serde_json::Value;

use super::work::Work;

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// How a file under way gets to its place.
enum Place {
    /// It is there already.
    There,
    /// It stands beside until it is whole.
    Beside { whole: PathBuf, expected: Option<String>, kind: HashKind },
}

/// A file under way.
pub(super) struct Upload {
    file: File,
    /// Where it is written.
    path: PathBuf,
    place: Place,
    written: u64,
    hash: Option<(HashKind, digest::Context)>,
    /// What the client calls it.
    pub(super) reqid: Value,
}

/// Why a file could not be put in its place.
pub(super) struct NotPlaced {
    pub(super) words: String,
    /// Somebody else changed it meanwhile.
    pub(super) conflict: bool,
}

impl Upload {
    /// Opens the file: anew, to go on at its end, or beside the one it is to replace.
    pub(super) fn begin(
        path: &[u8],
        mode: UploadMode,
        hash: Option<HashKind>,
        reqid: Value,
    ) -> Result<Upload, (Value, String)> {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let shown = shown(&path);
        let fail = |error: io::Error| format!("{shown}: {error}");
        let opened = match mode {
            UploadMode::Anew => ordinary(File::options().create(true).write(true).truncate(true), &path)
                .map(|file| (file, path, Place::There, 0))
                .map_err(fail),
            UploadMode::Append { from: None } => ordinary(File::options().create(true).append(true), &path)
                .map(|file| (file, path, Place::There, 0))
                .map_err(fail),
            UploadMode::Append { from: Some(from) } => (|| {
                let mut file = ordinary(File::options().write(true).read(true), &path)?;
                if file.metadata()?.len() < from {
                    return Err(io::Error::other("less of it is there than was said"));
                }
                file.set_len(from)?;
                file.seek(io::SeekFrom::End(0))?;
                Ok((file, path, Place::There, from))
            })()
            .map_err(fail),
            UploadMode::Replace { expected } => {
                // A link stays one: what it leads to is replaced.
                let whole = fs::canonicalize(&path).unwrap_or(path);
                beside(&whole)
                    .map(|(beside, file)| {
                        let kind = hash.unwrap_or(HashKind::Sha384);
                        (file, beside, Place::Beside { whole, expected, kind }, 0)
                    })
                    .map_err(fail)
            }
        };
        let (file, path, place, from) = match opened {
            Ok(opened) => opened,
            Err(words) => return Err((reqid, words)),
        };
        let hash = hash.map(|kind| (kind, context(kind)));
        let mut upload = Upload { file, path, place, written: 0, hash, reqid };
        if from > 0
            && let Some((_, context)) = &mut upload.hash
            && let Err(error) = feed(&upload.file, from, context)
        {
            return Err((upload.reqid.clone(), fail(error)));
        }
        Ok(upload)
    }

    pub(super) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)?;
        self.written += block.len() as u64;
        if let Some((_, context)) = &mut self.hash {
            context.update(block);
        }
        Ok(())
    }

    /// Its path as text.
    pub(super) fn path(&self) -> String {
        shown(match &self.place {
            Place::There => &self.path,
            Place::Beside { whole, .. } => whole,
        })
    }

    /// Puts it in its place; returns what the event log says of it, and its hash where one was asked for.
    pub(super) fn finish(mut self) -> Result<(String, Option<(HashKind, String)>), NotPlaced> {
        let text = format!("Upload: \"{}\", Size: {}", self.path(), self.written);
        let hash = self.hash.take().map(|(kind, context)| (kind, hex_upper(context.finish().as_ref())));
        let Place::Beside { whole, expected, kind } = &self.place else { return Ok((text, hash)) };
        let placed = place(&self.file, &self.path, whole, expected.as_deref(), *kind);
        if placed.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        // What was written is in its place; nothing is left to be taken away.
        self.place = Place::There;
        placed.map(|()| (text, hash))
    }

    /// Removes what there is of it.
    pub(super) fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path());
        }
    }
}

impl Drop for Upload {
    /// What stood beside is of no use to anybody; what stood in its place may be gone on with.
    fn drop(&mut self) {
        if let Place::Beside { .. } = self.place {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn ordinary(options: &mut fs::OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not an ordinary file")) }
}

/// A file for the owner alone, in the folder of another one, under a name that nobody guesses.
pub(super) fn beside(whole: &Path) -> io::Result<(PathBuf, File)> {
    let name: [u8; 8] = outpost_wire::random::bytes();
    let beside = whole.with_file_name(format!(".outpost-{}", hex_upper(&name)));
    let file = File::options().create_new(true).write(true).mode(0o600).open(&beside)?;
    Ok((beside, file))
}

/// Puts a whole file where another may be, with that one's owner and mode.
fn place(
    file: &File,
    path: &Path,
    whole: &Path,
    expected: Option<&str>,
    kind: HashKind,
) -> Result<(), NotPlaced> {
    let shown = shown(whole);
    let fail = |error: io::Error| NotPlaced { words: format!("{shown}: {error}"), conflict: false };
    let old = match fs::symlink_metadata(whole) {
        Ok(old) if old.is_file() => Some(old),
        Ok(_) => return Err(fail(io::Error::other("not an ordinary file"))),
        Err(_) => None,
    };
    if let Some(expected) = expected {
        let now = hash(whole.as_os_str().as_bytes(), kind, &mut Work::unwatched()).ok();
        if now.as_deref() != Some(expected) {
            return Err(NotPlaced { words: format!("{shown}: it was changed meanwhile"), conflict: true });
        }
    }
    match &old {
        Some(old) => {
            if crate::host::is_root() {
                std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid())).map_err(fail)?;
            }
            file.set_permissions(old.permissions()).map_err(fail)?;
        }
        None => file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(fail)?,
    }
    file.sync_all().map_err(fail)?;
    fs::rename(path, whole).map_err(fail)
}

fn context(kind: HashKind) -> digest::Context {
    digest::Context::new(match kind {
        HashKind::Sha384 => &digest::SHA384,
        HashKind::Sha256 => &digest::SHA256,
    })
}

/// Feeds the beginning of a file to a hash.
fn feed(file: &File, length: u64, context: &mut digest::Context) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        match file.read_at(&mut buffer[..wanted], at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                context.update(&buffer[..read]);
                at += read as u64;
            }
        }
    }
    Ok(())
}

fn shown(path: &std::path::Path) -> String {
    to_text(path.as_os_str().as_bytes())
}

/// Hash of a file, upper-case hexadecimal digits.
pub(super) fn hash(path: &[u8], kind: HashKind, work: &mut Work) -> Result<String, String> {
    let shown = to_text(path);
    let mut file = super::download::open(path).map_err(|error| format!("{shown}: {error}"))?;
    if let Ok(size) = file.metadata() {
        work.expect(size.len());
    }
    let mut context = context(kind);
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer).map_err(|error| format!("{shown}: {error}"))? {
            0 => return Ok(hex_upper(context.finish().as_ref())),
            read => {
                context.update(&buffer[..read]);
                work.moved(read as u64)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(path: &Path, mode: UploadMode, kind: Option<HashKind>) -> Upload {
        Upload::begin(path.as_os_str().as_bytes(), mode, kind, Value::Null)
            .map_err(|(_, error)| error)
            .expect("begun")
    }

    fn sha(path: &Path, kind: HashKind) -> Result<String, String> {
        hash(path.as_os_str().as_bytes(), kind, &mut Work::unwatched())
    }

    #[test]
    fn a_file_is_written_continued_and_discarded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let append = UploadMode::Append { from: None };
        let mut upload = begun(&path, UploadMode::Anew, None);
        upload.write(b"hello ").expect("written");
        drop(upload);
        let mut upload = begun(&path, append.clone(), None);
        upload.write(b"world").expect("written");
        assert!(upload.finish().map_err(|error| error.words).expect("done").0.ends_with("f\", Size: 5"));
        assert_eq!(fs::read(&path).expect("read"), b"hello world");
        assert_eq!(sha(&path, HashKind::Sha384).expect("a hash").len(), 96);
        drop(begun(&path, UploadMode::Anew, None));
        assert_eq!(fs::read(&path).expect("read"), b"", "anew");
        begun(&path, append, None).discard();
        assert!(!path.exists());
        assert!(sha(&path, HashKind::Sha384).is_err());
        for bad in [Path::new("/dev/null"), folder.path()] {
            let begun = Upload::begin(bad.as_os_str().as_bytes(), UploadMode::Anew, None, Value::Null);
            assert!(begun.is_err());
        }
    }

    #[test]
    fn what_broke_off_goes_on_and_its_hash_is_that_of_the_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        fs::write(&path, "hello wXXX").expect("written");
        let mut upload = begun(&path, UploadMode::Append { from: Some(7) }, Some(HashKind::Sha256));
        upload.write(b"orld").expect("written");
        let (_, told) = upload.finish().map_err(|error| error.words).expect("done");
        assert_eq!(fs::read(&path).expect("read"), b"hello world");
        // sha256sum of "hello world"
        let known = "B94D27B9934D3E08A52E52D7DA7DABFAC484EFE37A5380EE9088F7ACE2EFCDE9";
        assert_eq!(told, Some((HashKind::Sha256, known.to_owned())));
        assert_eq!(sha(&path, HashKind::Sha256).as_deref(), Ok(known));
        let far = UploadMode::Append { from: Some(100) };
        assert!(Upload::begin(path.as_os_str().as_bytes(), far, None, Value::Null).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("f"), folder.path().join("link"));
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink("f", &link).expect("linked");
        let replace = |expected: Option<String>| UploadMode::Replace { expected };
        let old = sha(&path, HashKind::Sha256).expect("a hash");
        let mut upload = begun(&link, replace(Some(old.clone())), Some(HashKind::Sha256));
        upload.write(b"new content").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"old", "until it is whole");
        assert!(upload.finish().is_ok());
        assert_eq!(fs::read(&link).expect("read"), b"new content");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink(), "a link stays one");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        let upload = begun(&path, replace(Some(old)), Some(HashKind::Sha256));
        assert!(upload.finish().is_err_and(|error| error.conflict));
        drop(begun(&path, replace(None), None));
        assert_eq!(fs::read(&path).expect("read"), b"new content");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 2, "nothing is left beside");
    }
}
