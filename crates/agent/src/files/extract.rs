//! An archive taken apart. It may come from anywhere: before a byte is written all of its directory is looked at, and
//! what is written goes through folders that are opened one below the other, never through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use outpost_wire::files::{Exists, to_text};
use outpost_wire::zip::{
    self, CENTRAL_LENGTH, Directory, END64_LENGTH, Entry, Found, LOCAL_LENGTH, LONGEST_TAIL, Method, ZipError,
};

use super::work::{Outcome, Work};

/// Most entries of one archive.
const MOST_ENTRIES: u64 = 200_000;
/// An archive that unpacks to more than this many times its size, and to more than [`HARMLESS`], is a bomb. Text
/// packs to a tenth, logs to a fiftieth; deflate can do a thousandth.
const HIGHEST_RATIO: u64 = 200;
/// Bytes that are unpacked whatever they were packed to.
const HARMLESS: u64 = 1 << 30;
/// What stays free on the disk.
const RESERVE: u64 = 64 << 20;
/// Bytes at a time.
const PIECE: usize = 64 << 10;
/// Longest target of a link in an archive.
const LONGEST_TARGET: u64 = 4096;
/// Other names tried for an entry whose name is taken.
const MOST_NAMES: u32 = 1000;

/// Why an archive was not taken apart.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExtractError {
    #[error(transparent)]
    Zip(#[from] ZipError),
    #[error("the archive has more than {MOST_ENTRIES} entries")]
    Entries,
    #[error(
        "the archive would unpack to more than {HIGHEST_RATIO} times its size, which is what a bomb does"
    )]
    Bomb,
    #[error("the archive needs {needed} MiB, and {free} MiB are free there")]
    Room { needed: u64, free: u64 },
    #[error("{0}: there is an entry of that name already")]
    Exists(String),
    #[error("{0}: {1}")]
    Entry(String, io::Error),
    #[error("{0}: its content is not what the archive says")]
    Content(String),
    #[error("reading the archive: {0}")]
    Read(io::Error),
    #[error("{0}")]
    Stopped(String),
}

/// An archive open for reading.
struct Archive {
    file: File,
    length: u64,
    directory: Directory,
}

impl Archive {
    fn open(path: &[u8]) -> Result<Archive, ExtractError> {
        let file = super::download::open(path).map_err(ExtractError::Read)?;
        let length = file.metadata().map_err(ExtractError::Read)?.len();
        let tail_length = length.min(LONGEST_TAIL as u64);
        let mut tail = vec![0; usize::try_from(tail_length).unwrap_or(LONGEST_TAIL)];
        file.read_exact_at(&mut tail, length - tail_length).map_err(ExtractError::Read)?;
        let directory = match zip::find_end(&tail)? {
            Found::Directory(directory) => directory,
            Found::End64At(at) => {
                let mut record = [0; END64_LENGTH];
                file.read_exact_at(&mut record, at).map_err(|_| ZipError::Damaged)?;
                zip::read_end64(&record)?
            }
        };
        if directory.offset.checked_add(directory.length).is_none_or(|end| end > length) {
            return Err(ZipError::Damaged.into());
        }
        if directory.entries > MOST_ENTRIES {
            return Err(ExtractError::Entries);
        }
        Ok(Archive { file, length, directory })
    }

    /// Its entries one after the other; nothing is kept of those that were seen.
    fn entries(&self) -> io::Result<Entries> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(self.directory.offset))?;
        Ok(Entries {
            reader: BufReader::with_capacity(PIECE, file.take(self.directory.length)),
            left: self.directory.entries,
        })
    }
}

struct Entries {
    reader: BufReader<io::Take<File>>,
    left: u64,
}

impl Entries {
    fn next(&mut self) -> Result<Option<Entry>, ExtractError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let mut record = vec![0; CENTRAL_LENGTH];
        self.reader.read_exact(&mut record).map_err(|_| ZipError::Damaged)?;
        let rest = zip::entry_rest(&record)?;
        record.resize(CENTRAL_LENGTH + rest, 0);
        self.reader.read_exact(&mut record[CENTRAL_LENGTH..]).map_err(|_| ZipError::Damaged)?;
        Ok(Some(zip::read_entry(&record)?))
    }
}

/// Takes an archive apart into a folder; returns what the event log says of it.
pub(super) fn unzip(
    archive: &[u8],
    folder: &[u8],
    exists: Exists,
    work: &mut Work,
) -> Result<Outcome, String> {
    let shown = to_text(archive);
    extract(archive, folder, exists, work)
        .map_err(|error| match error {
            ExtractError::Stopped(words) => words,
            error => format!("{shown}: {error}"),
        })
        .map(|left_out| {
            let mut outcome = Outcome::from(format!(
                "Unzip: \"{shown}\" to \"{}\", {} element(s)",
                to_text(folder),
                work.items()
            ));
            outcome.fields.insert("leftout".into(), left_out.into());
            outcome
        })
}

/// Returns how many links were left out because they lead out of the folder.
fn extract(archive: &[u8], folder: &[u8], exists: Exists, work: &mut Work) -> Result<u64, ExtractError> {
    let archive = Archive::open(archive)?;
    let target = Path::new(OsStr::from_bytes(folder));
    let root: OwnedFd =
        File::open(target).map_err(|error| ExtractError::Entry(to_text(folder), error))?.into();
    let total = inspect(&archive, &root)?;
    work.expect(total);
    let mut entries = archive.entries().map_err(ExtractError::Read)?;
    let mut left_out = 0;
    while let Some(entry) = entries.next()? {
        work.at(|| to_text(&entry.path.join(&b'/'))).map_err(ExtractError::Stopped)?;
        if !put(&archive, &root, &entry, exists, work)? {
            left_out += 1;
        }
    }
    Ok(left_out)
}

/// Looks at all of the directory before anything is written; returns the bytes of all content.
fn inspect(archive: &Archive, root: &OwnedFd) -> Result<u64, ExtractError> {
    let mut entries = archive.entries().map_err(ExtractError::Read)?;
    let (mut total, mut packed) = (0u64, 0u64);
    while let Some(entry) = entries.next()? {
        total = total.checked_add(entry.size).ok_or(ExtractError::Bomb)?;
        packed = packed.checked_add(entry.packed).ok_or(ExtractError::Bomb)?;
    }
    // Entries that share their data are how a small archive is said to hold a lot.
    if packed > archive.length || (total > HARMLESS && total / HIGHEST_RATIO > archive.length) {
        return Err(ExtractError::Bomb);
    }
    if let Ok(disk) = nix::sys::statvfs::fstatvfs(root) {
        #[allow(clippy::unnecessary_cast)] // 32 bits wide on small systems
        let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
        if total > free.saturating_sub(RESERVE) {
            return Err(ExtractError::Room { needed: total >> 20, free: free >> 20 });
        }
    }
    Ok(total)
}

fn name(part: &[u8]) -> &OsStr {
    OsStr::from_bytes(part)
}

/// Makes an entry; `false` when it was left out.
fn put(
    archive: &Archive,
    root: &OwnedFd,
    entry: &Entry,
    exists: Exists,
    work: &mut Work,
) -> Result<bool, ExtractError> {
    let shown = to_text(&entry.path.join(&b'/'));
    let failed = |error: Errno| ExtractError::Entry(shown.clone(), error.into());
    let (last, above) = entry.path.split_last().expect("a path has a part");
    let mut folder = root.try_clone().map_err(ExtractError::Read)?;
    for part in above {
        folder = step(&folder, part).map_err(failed)?;
    }
    if entry.folder {
        step(&folder, last).map_err(failed)?;
        return Ok(true);
    }
    const KIND: u32 = 0o170_000;
    const LINK: u32 = 0o120_000;
    const FILE: u32 = 0o100_000;
    let kind = entry.mode.map_or(FILE, |mode| mode & KIND);
    let link = if kind == LINK { Some(target(archive, entry, work)?) } else { None };
    if (kind != 0 && kind != FILE && kind != LINK)
        || link.as_ref().is_some_and(|target| !stays_within(above.len(), target))
    {
        return Ok(false);
    }
    let make = |called: &[u8]| match &link {
        Some(target) => symlinkat(name(target), folder.as_fd(), name(called)).map(|()| None),
        None => {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            // Neither set-user-id nor writable for everybody, whatever the archive says.
            let mode = entry.mode.map_or(0o644, |mode| (mode & 0o755) | 0o600);
            openat(folder.as_fd(), name(called), flags, Mode::from_bits_truncate(mode)).map(Some)
        }
    };
    let mut called = last.clone();
    let mut made = make(&called);
    if matches!(made, Err(Errno::EEXIST)) {
        match exists {
            Exists::Refuse => return Err(ExtractError::Exists(shown)),
            Exists::Skip => return Ok(true),
            Exists::Overwrite => {
                unlinkat(folder.as_fd(), name(last), UnlinkatFlags::NoRemoveDir).map_err(failed)?;
                made = make(last);
            }
            Exists::Both => {
                for number in 2..MOST_NAMES {
                    called = super::changes::numbered(last, number);
                    made = make(&called);
                    if !matches!(made, Err(Errno::EEXIST)) {
                        break;
                    }
                }
            }
        }
    }
    let Some(file) = made.map_err(failed)? else { return Ok(true) };
    let mut file = File::from(file);
    let written = content(archive, entry, &shown, work, |piece| {
        file.write_all(piece).map_err(|error| ExtractError::Entry(shown.clone(), error))
    });
    if written.is_err() {
        // Half a file is worse than none.
        let _ = unlinkat(folder.as_fd(), name(&called), UnlinkatFlags::NoRemoveDir);
    }
    written.map(|()| true)
}

/// The folder of that name in another, made where it is missing. Links are no folders here.
fn step(folder: &OwnedFd, part: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(folder.as_fd(), name(part), flags, Mode::empty()) {
        Err(Errno::ENOENT) => {
            mkdirat(folder.as_fd(), name(part), Mode::from_bits_truncate(0o755))?;
            openat(folder.as_fd(), name(part), flags, Mode::empty())
        }
        // ELOOP and ENOTDIR say little to a person.
        Err(Errno::ELOOP) => Err(Errno::ENOTDIR),
        Err(Errno::ENOTDIR) if fstatat(folder.as_fd(), name(part), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => {
            Err(Errno::ENOTDIR)
        }
        opened => opened,
    }
}

/// Whether a link that lies so many folders deep leads to something in the same tree.
fn stays_within(depth: usize, target: &[u8]) -> bool {
    let mut depth = i64::try_from(depth).unwrap_or(i64::MAX);
    for part in Path::new(name(target)).components() {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    !target.is_empty()
}

fn target(archive: &Archive, entry: &Entry, work: &mut Work) -> Result<Vec<u8>, ExtractError> {
    if entry.size > LONGEST_TARGET {
        return Err(ZipError::Damaged.into());
    }
    let mut target = Vec::new();
    content(archive, entry, "", work, |piece| {
        target.extend(piece);
        Ok(())
    })?;
    Ok(target)
}

/// Hands on the content of an entry, not a byte more than the directory says, and checks it.
fn content(
    archive: &Archive,
    entry: &Entry,
    shown: &str,
    work: &mut Work,
    mut take: impl FnMut(&[u8]) -> Result<(), ExtractError>,
) -> Result<(), ExtractError> {
    let mut local = [0; LOCAL_LENGTH];
    archive.file.read_exact_at(&mut local, entry.offset).map_err(|_| ZipError::Damaged)?;
    let start = entry.offset.checked_add(zip::data_after(&local)?).ok_or(ZipError::Damaged)?;
    let packed = Section { file: &archive.file, at: start, left: entry.packed };
    let mut reader: Box<dyn Read + '_> = match entry.method {
        Method::Stored => Box::new(packed),
        Method::Deflated => Box::new(DeflateDecoder::new(packed)),
    };
    let (mut crc, mut size) = (Crc::new(), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(ExtractError::Content(shown.to_owned())),
        };
        size += read as u64;
        if size > entry.size {
            return Err(ExtractError::Content(shown.to_owned()));
        }
        crc.update(&buffer[..read]);
        take(&buffer[..read])?;
        work.moved(read as u64).map_err(ExtractError::Stopped)?;
    }
    if size == entry.size && crc.sum() == entry.crc {
        Ok(())
    } else {
        Err(ExtractError::Content(shown.to_owned()))
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use outpost_wire::zip::Written;

    use super::*;

    /// Name, mode, content, and a size that may be a lie.
    type Packed<'a> = (&'a [u8], u32, &'a [u8], Option<u64>);

    /// An archive of these entries; a size other than that of the content is a lie.
    fn archive(entries: &[Packed<'_>]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, mode, content, lie) in entries {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
            packer.write_all(content).expect("packed");
            let packed = packer.finish().expect("packed");
            let mut crc = Crc::new();
            crc.update(content);
            let entry = Written {
                name: name.to_vec(),
                mode: *mode,
                changed: 0,
                method: Method::Deflated,
                large: false,
                offset: out.len() as u64,
                crc: crc.sum(),
                packed: packed.len() as u64,
                size: lie.unwrap_or(content.len() as u64),
            };
            out.extend(entry.local_header());
            out.extend(packed);
            out.extend(entry.descriptor());
            directory.extend(entry.central());
        }
        let end = Directory {
            offset: out.len() as u64,
            length: directory.len() as u64,
            entries: entries.len() as u64,
        };
        [out, directory, end.end()].concat()
    }

    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir(folder.path().join("into")).expect("made");
            Bench { folder }
        }
        fn unzip(&self, archive: &[u8], exists: Exists) -> Result<Outcome, String> {
            let (from, into) = (self.folder.path().join("a.zip"), self.at(""));
            fs::write(&from, archive).expect("written");
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            unzip(&bytes(&from), &bytes(&into), exists, &mut Work::unwatched())
        }
        fn at(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join("into").join(name)
        }
        fn count(&self) -> usize {
            fs::read_dir(self.at("")).expect("read").count()
        }
    }

    #[test]
    fn a_path_that_leads_out_writes_nothing_at_all() {
        for bad in [&b"../evil"[..], b"/tmp/evil", b"a/../../evil"] {
            let bench = Bench::new();
            let archive = archive(&[(b"good", 0o100_644, b"x", None), (bad, 0o100_644, b"evil", None)]);
            let error = bench.unzip(&archive, Exists::Overwrite).expect_err("refused");
            assert!(error.contains("leads out"), "{error}");
            assert_eq!(bench.count(), 0, "not even the good one");
            assert!(!bench.folder.path().join("evil").exists());
        }
    }

    #[test]
    fn links_neither_lead_out_nor_are_they_followed() {
        let bench = Bench::new();
        let outside = bench.folder.path().join("outside");
        fs::create_dir(&outside).expect("made");
        let archive = archive(&[
            (b"up", 0o120_777, b"../outside", None),
            (b"abs", 0o120_777, b"/etc", None),
            (b"near", 0o120_777, b"sub/file", None),
            (b"sub/file", 0o100_644, b"x", None),
        ]);
        let outcome = bench.unzip(&archive, Exists::Refuse).expect("taken apart");
        assert_eq!(outcome.fields["leftout"], 2);
        assert_eq!(fs::read_to_string(bench.at("near")).expect("read"), "x");
        // A link that is there already is no way out either.
        std::os::unix::fs::symlink(&outside, bench.at("way")).expect("linked");
        let through = super::tests::archive(&[(b"way/evil", 0o100_644, b"x", None)]);
        assert!(bench.unzip(&through, Exists::Overwrite).is_err());
        let over = super::tests::archive(&[(b"way", 0o100_644, b"x", None)]);
        bench.unzip(&over, Exists::Overwrite).expect("the link itself is replaced");
        assert_eq!(fs::read_dir(&outside).expect("read").count(), 0);
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let bench = Bench::new();
        let zeros = vec![0; 4 << 20];
        // Truth: small enough not to matter.
        bench.unzip(&archive(&[(b"zeros", 0o100_644, &zeros, None)]), Exists::Refuse).expect("harmless");
        let huge = archive(&[(b"huge", 0o100_644, b"x", Some(2 << 30))]);
        assert!(bench.unzip(&huge, Exists::Refuse).expect_err("refused").contains("bomb"));
        // One that says it is small, and is not.
        let liar = archive(&[(b"liar", 0o100_644, &zeros, Some(1000))]);
        let error = bench.unzip(&liar, Exists::Refuse).expect_err("refused");
        assert!(error.contains("not what the archive says"), "{error}");
        assert!(!bench.at("liar").exists() && !bench.at("huge").exists());
        // Entries that share their data.
        let mut shared = archive(&[(b"a", 0o100_644, &zeros, None)]);
        let end = zip::find_end(&shared[shared.len() - 22..]).expect("an end");
        let Found::Directory(directory) = end else { panic!("small") };
        let record = shared[usize::try_from(directory.offset).expect("small")..]
            [..usize::try_from(directory.length).expect("small")]
            .to_vec();
        shared.truncate(usize::try_from(directory.offset).expect("small"));
        for _ in 0..1000 {
            shared.extend(&record);
        }
        shared.extend(Directory { length: directory.length * 1000, entries: 1000, ..directory }.end());
        assert!(bench.unzip(&shared, Exists::Overwrite).expect_err("refused").contains("bomb"));
        let many = Directory { offset: 0, length: 0, entries: 1 << 40 }.end();
        assert!(bench.unzip(&many, Exists::Refuse).expect_err("refused").contains("entries"));
        assert_eq!(bench.count(), 1);
    }

    #[test]
    fn what_is_there_is_treated_as_asked() {
        let bench = Bench::new();
        let archive = archive(&[(b"f.txt", 0o104_777, b"new", None)]);
        fs::write(bench.at("f.txt"), "old").expect("written");
        assert!(bench.unzip(&archive, Exists::Refuse).expect_err("refused").contains("already"));
        bench.unzip(&archive, Exists::Skip).expect("skipped");
        assert_eq!(fs::read_to_string(bench.at("f.txt")).expect("read"), "old");
        bench.unzip(&archive, Exists::Both).expect("both");
        assert_eq!(fs::read_to_string(bench.at("f (2).txt")).expect("read"), "new");
        bench.unzip(&archive, Exists::Overwrite).expect("replaced");
        assert_eq!(fs::read_to_string(bench.at("f.txt")).expect("read"), "new");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(bench.at("f.txt")).expect("there").permissions(),
        );
        assert_eq!(mode & 0o7022, 0, "neither set-user-id nor writable for all: {mode:o}");
    }

    #[test]
    fn what_is_no_archive_is_said() {
        let bench = Bench::new();
        for bad in [&b""[..], b"PK", &[0; 100_000]] {
            assert!(bench.unzip(bad, Exists::Refuse).expect_err("refused").contains("no ZIP"));
        }
        let good = archive(&[(b"a", 0o100_644, b"x", None)]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xFF;
            let _ = bench.unzip(&bad, Exists::Overwrite);
        }
    }
}
