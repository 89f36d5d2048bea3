//! An archive of entries of a folder, written as it is read: nothing of it is held but the directory's beginning.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use nix::fcntl::OFlag;
use outpost_wire::files::{Name, to_text};
use outpost_wire::zip::{Directory, LARGE, Method, Written};

use super::work::Work;

/// Bytes of the directory kept in memory; more goes to a file without a name.
const DIRECTORY_IN_MEMORY: usize = 256 << 10;
/// Entries that could not be read and are named.
const MOST_UNREAD: usize = 200;
/// Bytes read at a time.
const PIECE: usize = 64 << 10;
/// The last entry of an archive that is not complete.
const UNREAD: &[u8] = b"NOT INCLUDED.txt";

/// Why an archive was not finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// Where it is written to.
    #[error("writing the archive: {0}")]
    Write(#[from] io::Error),
    /// The work was ended.
    #[error("{0}")]
    Stopped(String),
}

/// Counts what passes.
struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.count += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The directory while it grows.
#[derive(Default)]
struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Spool {
    fn add(&mut self, record: &[u8]) -> io::Result<()> {
        self.length += record.len() as u64;
        self.memory.extend(record);
        if self.memory.len() > DIRECTORY_IN_MEMORY {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(
                    File::options()
                        .read(true)
                        .write(true)
                        .mode(0o600)
                        .custom_flags(OFlag::O_TMPFILE.bits())
                        .open(std::env::temp_dir())?,
                ),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }

    fn pour(mut self, out: &mut impl Write) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
            io::copy(file, out)?;
        }
        out.write_all(&self.memory)
    }
}

struct Archive<'a, W: Write> {
    out: Counted<W>,
    directory: Spool,
    entries: u64,
    work: &'a mut Work,
    unread: Vec<String>,
    more_unread: u64,
}

/// Writes an archive of entries of a folder; returns how many could not be read. Links stay links; devices, pipes
/// and sockets are passed over.
pub(super) fn write(
    folder: &Path,
    names: &[Name],
    out: impl Write,
    work: &mut Work,
) -> Result<u64, ArchiveError> {
    let mut archive = Archive {
        out: Counted { inner: out, count: 0 },
        directory: Spool::default(),
        entries: 0,
        work,
        unread: Vec::new(),
        more_unread: 0,
    };
    for name in names {
        let name = OsStr::from_bytes(name.as_bytes());
        archive.tree(folder.join(name), name.as_bytes().to_vec())?;
    }
    let unread = archive.unread.len() as u64 + archive.more_unread;
    if unread > 0 {
        archive.apology()?;
    }
    archive.end()?;
    Ok(unread)
}

impl<W: Write> Archive<'_, W> {
    /// An entry and all below it.
    fn tree(&mut self, path: PathBuf, name: Vec<u8>) -> Result<(), ArchiveError> {
        let mut left = vec![(path, name)];
        while let Some((path, name)) = left.pop() {
            self.work.at(|| to_text(&name)).map_err(ArchiveError::Stopped)?;
            let kind = match fs::symlink_metadata(&path) {
                Ok(kind) => kind,
                Err(error) => {
                    self.cannot_read(&name, &error);
                    continue;
                }
            };
            let entry = |name: Vec<u8>, method| Written {
                name,
                mode: kind.mode(),
                changed: kind.mtime(),
                method,
                large: kind.is_file() && kind.len() >= LARGE,
                offset: 0,
                crc: 0,
                packed: 0,
                size: 0,
            };
            if kind.is_dir() {
                let mut within = name.clone();
                within.push(b'/');
                self.entry(entry(within.clone(), Method::Stored), &[][..], &name)?;
                match fs::read_dir(&path) {
                    Ok(entries) => left.extend(
                        entries
                            .filter_map(Result::ok)
                            .map(|one| (one.path(), [&within[..], one.file_name().as_bytes()].concat())),
                    ),
                    Err(error) => self.cannot_read(&name, &error),
                }
            } else if kind.is_symlink() {
                match fs::read_link(&path) {
                    Ok(target) => {
                        let target = target.as_os_str().as_bytes();
                        self.entry(entry(name.clone(), Method::Stored), target, &name)?;
                    }
                    Err(error) => self.cannot_read(&name, &error),
                }
            } else if kind.is_file() {
                // Not through a link that somebody put there meanwhile.
                let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
                match File::options().read(true).custom_flags(flags.bits()).open(&path) {
                    Ok(file) => self.entry(entry(name.clone(), Method::Deflated), file, &name)?,
                    Err(error) => self.cannot_read(&name, &error),
                }
            }
        }
        Ok(())
    }

    fn cannot_read(&mut self, name: &[u8], error: &io::Error) {
        if self.unread.len() < MOST_UNREAD {
            self.unread.push(format!("{}: {error}\n", to_text(name)));
        } else {
            self.more_unread += 1;
        }
    }

    /// Says within the archive what it lacks.
    fn apology(&mut self) -> Result<(), ArchiveError> {
        let mut text =
            String::from("These could not be read and are not, or not whole, in this archive:\n\n");
        text.extend(self.unread.drain(..));
        if self.more_unread > 0 {
            text.push_str(&format!("and {} more\n", self.more_unread));
        }
        let entry = Written {
            name: UNREAD.to_vec(),
            mode: 0o100_644,
            changed: 0,
            method: Method::Deflated,
            large: false,
            offset: 0,
            crc: 0,
            packed: 0,
            size: 0,
        };
        self.entry(entry, text.as_bytes(), UNREAD)
    }

    /// One entry. What cannot be read to its end stays as far as it was read, and is named.
    fn entry(&mut self, mut entry: Written, content: impl Read, name: &[u8]) -> Result<(), ArchiveError> {
        entry.offset = self.out.count;
        self.out.write_all(&entry.local_header())?;
        let (start, mut crc) = (self.out.count, Crc::new());
        // The small form has room for no more than this, should the file grow meanwhile.
        let mut content = content.take(if entry.large { u64::MAX } else { LARGE });
        let mut buffer = vec![0; PIECE];
        let mut failed = None;
        let mut next = |work: &mut Work, buffer: &mut [u8]| -> Result<usize, ArchiveError> {
            let read = match content.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(usize::MAX),
                Err(error) => {
                    failed = Some(error);
                    0
                }
            };
            crc.update(&buffer[..read]);
            entry.size += read as u64;
            work.moved(read as u64).map_err(ArchiveError::Stopped)?;
            Ok(read)
        };
        match entry.method {
            Method::Stored => loop {
                match next(self.work, &mut buffer)? {
                    0 => break,
                    usize::MAX => {}
                    read => self.out.write_all(&buffer[..read])?,
                }
            },
            Method::Deflated => {
                let mut packer = DeflateEncoder::new(&mut self.out, Compression::fast());
                loop {
                    match next(self.work, &mut buffer)? {
                        0 => break,
                        usize::MAX => {}
                        read => packer.write_all(&buffer[..read])?,
                    }
                }
                packer.finish()?;
            }
        }
        if let Some(error) = failed {
            self.cannot_read(name, &error);
        }
        entry.crc = crc.sum();
        entry.packed = self.out.count - start;
        self.out.write_all(&entry.descriptor())?;
        self.directory.add(&entry.central())?;
        self.entries += 1;
        Ok(())
    }

    fn end(mut self) -> Result<(), ArchiveError> {
        let directory =
            Directory { offset: self.out.count, length: self.directory.length, entries: self.entries };
        self.directory.pour(&mut self.out)?;
        self.out.write_all(&directory.end())?;
        self.out.flush()?;
        Ok(())
    }
}

/// Writes an archive into a file beside the entries; returns what the event log says of it.
pub(super) fn zip(
    at: &[u8],
    names: &[Name],
    output: &Name,
    work: &mut Work,
) -> Result<super::work::Outcome, String> {
    let folder = PathBuf::from(OsStr::from_bytes(at));
    let target = folder.join(OsStr::from_bytes(output.as_bytes()));
    let shown = to_text(target.as_os_str().as_bytes());
    if fs::symlink_metadata(&target).is_ok() {
        return Err(format!("{shown}: there is an entry of that name already"));
    }
    let (beside, file) = super::upload::beside(&target).map_err(|error| format!("{shown}: {error}"))?;
    let written = write(&folder, names, io::BufWriter::with_capacity(PIECE, file), work)
        .map_err(|error| match error {
            ArchiveError::Stopped(words) => words,
            ArchiveError::Write(error) => format!("{shown}: {error}"),
        })
        // The name may have been taken meanwhile; a link to it fails then, a renaming would not.
        .and_then(|unread| {
            match fs::hard_link(&beside, &target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&beside, &target),
                linked => linked,
            }
            .map_err(|error| format!("{shown}: {error}"))?;
            Ok(unread)
        });
    let _ = fs::remove_file(&beside);
    let unread = written?;
    let mut outcome = super::work::Outcome::from(format!("Zip: \"{shown}\", {} element(s)", work.items()));
    outcome.fields.insert("unread".into(), unread.into());
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use outpost_wire::files::Exists;

    use super::*;

    #[test]
    fn an_archive_comes_apart_into_what_it_was_made_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("d/empty")).expect("made");
        fs::write(at("d/text"), "hello ".repeat(10_000)).expect("written");
        fs::write(at("d/nothing"), "").expect("written");
        fs::write(folder.path().join(OsStr::from_bytes(b"d/odd\xFF\nname")), "odd").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", at("d/link")).expect("linked");
        std::os::unix::fs::symlink("text", at("d/near")).expect("linked");
        nix::unistd::mkfifo(&at("d/pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        // More than the directory keeps in memory.
        fs::create_dir(at("many")).expect("made");
        for n in 0..4000 {
            fs::write(at(&format!("many/{n:050}")), "").expect("written");
        }
        let names = ["d", "many", "gone"].map(|name| Name::new(name).expect("a name"));
        let target = at("out.zip");
        let unread =
            write(folder.path(), &names, File::create(&target).expect("made"), &mut Work::unwatched())
                .expect("written");
        assert_eq!(unread, 1, "the one that is gone");
        let into = tempfile::tempdir().expect("a folder");
        super::super::extract::unzip(
            target.as_os_str().as_bytes(),
            into.path().as_os_str().as_bytes(),
            Exists::Refuse,
            &mut Work::unwatched(),
        )
        .expect("taken apart");
        let there = |name: &str| into.path().join(name);
        assert_eq!(fs::read(there("d/text")).expect("read"), "hello ".repeat(10_000).into_bytes());
        assert_eq!(fs::read(there("d/nothing")).expect("read"), b"");
        assert!(into.path().join(OsStr::from_bytes(b"d/odd\xFF\nname")).exists());
        assert!(there("d/empty").is_dir() && !there("d/pipe").exists());
        assert!(!there("d/link").exists(), "a link that leads out is left out");
        assert_eq!(fs::read_link(there("d/near")).expect("a link"), Path::new("text"));
        assert_eq!(fs::read_dir(there("many")).expect("read").count(), 4000);
        assert!(fs::read_to_string(there("NOT INCLUDED.txt")).expect("read").contains("gone"));
    }
}
