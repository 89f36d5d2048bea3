//! Records of ZIP archives (PKWARE's APPNOTE.TXT 6.3.10, section numbers from there): written one after the other
//! without knowing what comes, and read one after the other without keeping them.
//!
//! Archives are written as a stream: sizes and check sums follow the data (§4.3.9). The large forms (ZIP64) are used
//! only where a number needs them, so that old programs read ordinary archives.

/// Signatures (§4.3).
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";

/// Length of the fixed part of a local header.
pub const LOCAL_LENGTH: usize = 30;
/// Length of the fixed part of an entry of the directory.
pub const CENTRAL_LENGTH: usize = 46;
/// Length of the large end record.
pub const END64_LENGTH: usize = 56;
/// The end record and its longest comment, with the locator before it: the end of a file that has to be searched.
pub const LONGEST_TAIL: usize = 22 + 65_535 + 20;

const VERSION_PLAIN: u16 = 20;
const VERSION_LARGE: u16 = 45;
/// "Made by" Unix: the attributes are a mode.
const UNIX: u16 = 3 << 8;
const FLAG_ENCRYPTED: u16 = 1;
const FLAG_STREAMED: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const EXTRA_LARGE: u16 = 1;
const EXTRA_TIME: u16 = 0x5455;
const FULL: u32 = u32::MAX;
/// A file that may become this large gets the large form: below it deflate cannot grow data beyond four bytes' worth.
pub const LARGE: u64 = 0xF000_0000;

/// How an entry's data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Stored,
    /// Deflate.
    Deflated,
}

/// An entry being written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Bytes of its path in the archive; folders end with a slash.
    pub name: Vec<u8>,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Seconds since 1970.
    pub changed: i64,
    /// How its data is kept.
    pub method: Method,
    /// Whether sizes have eight bytes.
    pub large: bool,
    /// Where it begins in the archive.
    pub offset: u64,
    /// Check sum of its content.
    pub crc: u32,
    /// Bytes of data in the archive.
    pub packed: u64,
    /// Bytes of content.
    pub size: u64,
}

fn put16(out: &mut Vec<u8>, number: u16) {
    out.extend(number.to_le_bytes());
}
fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_le_bytes());
}
fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(FULL)
}

/// Date and time as MS-DOS has them (§4.4.6), in UTC: 1980 to 2107, to two seconds.
fn dos_time(unix: i64) -> (u16, u16) {
    // "2026-11-23T17:15:57Z"
    let text = crate::files::utc(unix.clamp(315_532_800, 4_354_819_198));
    let part =
        |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse().ok()).unwrap_or(0u16);
    let date = (part(0, 4).saturating_sub(1980) << 9) | (part(5, 7) << 5) | part(8, 10);
    ((part(11, 13) << 11) | (part(14, 16) << 5) | (part(17, 19) / 2), date)
}

impl Written {
    fn flags(&self) -> u16 {
        FLAG_STREAMED | if std::str::from_utf8(&self.name).is_ok() { FLAG_UTF8 } else { 0 }
    }

    fn start(&self, out: &mut Vec<u8>, version: u16) {
        let (time, date) = dos_time(self.changed);
        put16(out, version);
        put16(out, self.flags());
        put16(out, if self.method == Method::Deflated { 8 } else { 0 });
        put16(out, time);
        put16(out, date);
    }

    fn time(&self, out: &mut Vec<u8>) {
        put16(out, EXTRA_TIME);
        put16(out, 5);
        out.push(1);
        put32(out, u32::try_from(self.changed).unwrap_or(0));
    }

    /// What stands before the data (§4.3.7).
    pub fn local_header(&self) -> Vec<u8> {
        let mut out = LOCAL.to_vec();
        self.start(&mut out, if self.large { VERSION_LARGE } else { VERSION_PLAIN });
        put32(&mut out, 0);
        let size = if self.large { FULL } else { 0 };
        put32(&mut out, size);
        put32(&mut out, size);
        put16(&mut out, u16::try_from(self.name.len()).unwrap_or(0));
        put16(&mut out, 9 + if self.large { 20 } else { 0 });
        out.extend(&self.name);
        self.time(&mut out);
        if self.large {
            put16(&mut out, EXTRA_LARGE);
            put16(&mut out, 16);
            out.extend([0; 16]);
        }
        out
    }

    /// What stands after it (§4.3.9).
    pub fn descriptor(&self) -> Vec<u8> {
        let mut out = DESCRIPTOR.to_vec();
        put32(&mut out, self.crc);
        for size in [self.packed, self.size] {
            if self.large { put64(&mut out, size) } else { put32(&mut out, small(size)) }
        }
        out
    }

    /// Its entry in the directory (§4.3.12).
    pub fn central(&self) -> Vec<u8> {
        let mut large = Vec::new();
        for number in [self.size, self.packed, self.offset] {
            if number >= u64::from(FULL) {
                put64(&mut large, number);
            }
        }
        let version = if self.large || !large.is_empty() { VERSION_LARGE } else { VERSION_PLAIN };
        let mut out = CENTRAL.to_vec();
        put16(&mut out, UNIX | version);
        self.start(&mut out, version);
        put32(&mut out, self.crc);
        put32(&mut out, small(self.packed));
        put32(&mut out, small(self.size));
        put16(&mut out, u16::try_from(self.name.len()).unwrap_or(0));
        let extra = 9 + if large.is_empty() { 0 } else { 4 + large.len() };
        put16(&mut out, u16::try_from(extra).unwrap_or(0));
        put16(&mut out, 0); // comment
        put16(&mut out, 0); // disk
        put16(&mut out, 0); // internal attributes
        let folder = u32::from(self.name.ends_with(b"/")) << 4;
        put32(&mut out, (self.mode << 16) | folder);
        put32(&mut out, small(self.offset));
        out.extend(&self.name);
        self.time(&mut out);
        if !large.is_empty() {
            put16(&mut out, EXTRA_LARGE);
            put16(&mut out, u16::try_from(large.len()).unwrap_or(0));
            out.extend(large);
        }
        out
    }
}

/// The directory of an archive: where it is and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Where it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// How many entries it says it has.
    pub entries: u64,
}

impl Directory {
    /// The end of an archive, large form first where it is needed (§4.3.14 to §4.3.16).
    pub fn end(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let large =
            self.entries >= 0xFFFF || self.offset >= u64::from(FULL) || self.length >= u64::from(FULL);
        if large {
            out.extend(END64);
            put64(&mut out, 44);
            put16(&mut out, UNIX | VERSION_LARGE);
            put16(&mut out, VERSION_LARGE);
            put32(&mut out, 0);
            put32(&mut out, 0);
            put64(&mut out, self.entries);
            put64(&mut out, self.entries);
            put64(&mut out, self.length);
            put64(&mut out, self.offset);
            out.extend(LOCATOR64);
            put32(&mut out, 0);
            put64(&mut out, self.offset + self.length);
            put32(&mut out, 1);
        }
        out.extend(END);
        put32(&mut out, 0);
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX);
        put16(&mut out, entries);
        put16(&mut out, entries);
        put32(&mut out, small(self.length));
        put32(&mut out, small(self.offset));
        put16(&mut out, 0);
        out
    }
}

/// Why an archive cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// No end record.
    #[error("this is no ZIP archive, or it is cut off")]
    NoArchive,
    /// A record is not where it should be, or contradicts itself.
    #[error("the archive is damaged")]
    Damaged,
    /// Encrypted.
    #[error("the archive has a password")]
    Encrypted,
    /// Another way of packing.
    #[error("the archive is packed in a way (method {0}) that this agent does not know")]
    Method(u16),
    /// A path that leads out of the folder.
    #[error("the archive has a path that leads out of the folder")]
    LeadsOut,
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N], ZipError> {
    data.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(ZipError::Damaged)
}
fn get16(data: &[u8], at: usize) -> Result<u16, ZipError> {
    bytes(data, at).map(u16::from_le_bytes)
}
fn get32(data: &[u8], at: usize) -> Result<u32, ZipError> {
    bytes(data, at).map(u32::from_le_bytes)
}
fn get64(data: &[u8], at: usize) -> Result<u64, ZipError> {
    bytes(data, at).map(u64::from_le_bytes)
}

/// Where to go on looking for the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is here.
    Directory(Directory),
    /// Its place stands in the large end record here.
    End64At(u64),
}

/// Looks for the end record in the last [`LONGEST_TAIL`] bytes of a file.
///
/// # Errors
/// [`ZipError::NoArchive`] when there is none.
pub fn find_end(tail: &[u8]) -> Result<Found, ZipError> {
    let last = tail.len().checked_sub(22).ok_or(ZipError::NoArchive)?;
    let at = (0..=last)
        .rev()
        .find(|&at| {
            tail[at..].starts_with(&END)
                && get16(tail, at + 20).is_ok_and(|comment| at + 22 + usize::from(comment) == tail.len())
        })
        .ok_or(ZipError::NoArchive)?;
    if let Some(locator) = at.checked_sub(20).filter(|&locator| tail[locator..].starts_with(&LOCATOR64)) {
        return Ok(Found::End64At(get64(tail, locator + 8)?));
    }
    Ok(Found::Directory(Directory {
        entries: get16(tail, at + 10)?.into(),
        length: get32(tail, at + 12)?.into(),
        offset: get32(tail, at + 16)?.into(),
    }))
}

/// Reads the large end record.
///
/// # Errors
/// [`ZipError::Damaged`].
pub fn read_end64(record: &[u8]) -> Result<Directory, ZipError> {
    if !record.starts_with(&END64) {
        return Err(ZipError::Damaged);
    }
    Ok(Directory { entries: get64(record, 32)?, length: get64(record, 40)?, offset: get64(record, 48)? })
}

/// An entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The parts of its path: at least one, none of them a way up.
    pub path: Vec<Vec<u8>>,
    /// Whether it is a folder.
    pub folder: bool,
    /// Type and permissions where they were kept, as in `st_mode`.
    pub mode: Option<u32>,
    /// How its data is kept.
    pub method: Method,
    /// Check sum of its content.
    pub crc: u32,
    /// Bytes of data in the archive.
    pub packed: u64,
    /// Bytes of content.
    pub size: u64,
    /// Where its local header is.
    pub offset: u64,
}

/// How many bytes follow the fixed part of an entry of the directory: its name, extra fields and comment.
///
/// # Errors
/// [`ZipError::Damaged`] when it is none.
pub fn entry_rest(fixed: &[u8]) -> Result<usize, ZipError> {
    if !fixed.starts_with(&CENTRAL) {
        return Err(ZipError::Damaged);
    }
    [28, 30, 32].into_iter().try_fold(0, |sum, at| get16(fixed, at).map(|length| sum + usize::from(length)))
}

/// Reads an entry of the directory, its fixed part and what follows it.
///
/// # Errors
/// [`ZipError`].
pub fn read_entry(record: &[u8]) -> Result<Entry, ZipError> {
    if record.len() < CENTRAL_LENGTH + entry_rest(record)? {
        return Err(ZipError::Damaged);
    }
    let (made_by, flags, method) = (get16(record, 4)?, get16(record, 8)?, get16(record, 10)?);
    if flags & FLAG_ENCRYPTED != 0 {
        return Err(ZipError::Encrypted);
    }
    let method = match method {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => return Err(ZipError::Method(other)),
    };
    let (name_length, extra_length) = (usize::from(get16(record, 28)?), usize::from(get16(record, 30)?));
    let name = &record[CENTRAL_LENGTH..CENTRAL_LENGTH + name_length];
    let extra = &record[CENTRAL_LENGTH + name_length..][..extra_length];
    let mut numbers =
        [u64::from(get32(record, 24)?), u64::from(get32(record, 20)?), u64::from(get32(record, 42)?)];
    if let Some(large) = extra_field(extra, EXTRA_LARGE) {
        let mut at = 0;
        for number in &mut numbers {
            if *number == u64::from(FULL) {
                *number = get64(large, at)?;
                at += 8;
            }
        }
    }
    let [size, packed, offset] = numbers;
    let attributes = get32(record, 38)?;
    let mode = (made_by >> 8 == 3 && attributes >> 16 != 0).then_some(attributes >> 16);
    let (path, folder) = parts(name)?;
    Ok(Entry { path, folder, mode, method, crc: get32(record, 16)?, packed, size, offset })
}

fn extra_field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Ok(kind), Ok(length)) = (get16(extra, 0), get16(extra, 2)) {
        let field = extra.get(4..4 + usize::from(length))?;
        if kind == wanted {
            return Some(field);
        }
        extra = &extra[4 + usize::from(length)..];
    }
    None
}

/// The parts of a path in an archive, and whether it is a folder's.
fn parts(name: &[u8]) -> Result<(Vec<Vec<u8>>, bool), ZipError> {
    let (path, folder) = match name.strip_suffix(b"/") {
        Some(path) => (path, true),
        None => (name, false),
    };
    let parts: Vec<Vec<u8>> =
        path.split(|byte| *byte == b'/').filter(|part| *part != b".").map(<[u8]>::to_vec).collect();
    let good = |part: &Vec<u8>| (1..=255).contains(&part.len()) && part != b".." && !part.contains(&0);
    if parts.is_empty() || parts.len() > 128 || path.len() > crate::files::MAX_PATH || !parts.iter().all(good)
    {
        return Err(ZipError::LeadsOut);
    }
    Ok((parts, folder))
}

/// Where an entry's data begins behind its local header, of which this is the fixed part.
///
/// # Errors
/// [`ZipError::Damaged`] when it is none.
pub fn data_after(fixed: &[u8]) -> Result<u64, ZipError> {
    if !fixed.starts_with(&LOCAL) {
        return Err(ZipError::Damaged);
    }
    Ok(LOCAL_LENGTH as u64 + u64::from(get16(fixed, 26)?) + u64::from(get16(fixed, 28)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &[u8], size: u64, offset: u64) -> Written {
        Written {
            name: name.to_vec(),
            mode: 0o100_644,
            changed: 1_795_454_143,
            method: Method::Deflated,
            large: size >= LARGE,
            offset,
            crc: 0x1234_5678,
            packed: size / 2,
            size,
        }
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        for (size, offset) in [(10, 0), (5 << 30, 7), (1, 6 << 30), (9 << 30, 1 << 33)] {
            let record = written(b"a/b\xFF.txt", size, offset).central();
            assert_eq!(entry_rest(&record), Ok(record.len() - CENTRAL_LENGTH));
            let entry = read_entry(&record).unwrap();
            assert_eq!(entry.path, [b"a".to_vec(), b"b\xFF.txt".to_vec()]);
            assert_eq!((entry.size, entry.packed, entry.offset), (size, size / 2, offset));
            assert_eq!((entry.mode, entry.folder, entry.crc), (Some(0o100_644), false, 0x1234_5678));
        }
        assert!(read_entry(&written(b"f/", 0, 0).central()).unwrap().folder);
        let local = written(b"name", 1, 0).local_header();
        assert_eq!(data_after(&local), Ok(local.len() as u64));
        let local = written(b"name", LARGE, 0).local_header();
        assert_eq!(data_after(&local), Ok(local.len() as u64));
    }

    #[test]
    fn the_directory_is_found_behind_a_comment_and_far_away() {
        let near = Directory { offset: 100, length: 50, entries: 3 };
        let mut tail = near.end();
        let comment = tail.len() - 2;
        tail[comment] = 3;
        tail.extend(b"PK\x05");
        assert_eq!(find_end(&tail), Ok(Found::Directory(near)));
        let far = Directory { offset: 5 << 30, length: 70_000 * 80, entries: 70_000 };
        let tail = far.end();
        assert_eq!(find_end(&tail), Ok(Found::End64At(far.offset + far.length)));
        assert_eq!(read_end64(&tail[..END64_LENGTH]), Ok(far));
        assert_eq!(find_end(b"nothing of that kind is here at all"), Err(ZipError::NoArchive));
        assert_eq!(find_end(b""), Err(ZipError::NoArchive));
    }

    #[test]
    fn no_path_leads_out() {
        for bad in ["../x", "/etc/passwd", "a/../../x", "a//b", "", "/", "a\0b", "a/..", &"x".repeat(300)] {
            assert_eq!(
                read_entry(&written(bad.as_bytes(), 1, 0).central()),
                Err(ZipError::LeadsOut),
                "{bad:?}"
            );
        }
        assert_eq!(read_entry(&written(b"./a/./b", 1, 0).central()).unwrap().path, [b"a", b"b"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let mut record = written(b"a", 1, 0).central();
        record[8] |= 1;
        assert_eq!(read_entry(&record), Err(ZipError::Encrypted));
        let mut record = written(b"a", 1, 0).central();
        record[10] = 14;
        assert_eq!(read_entry(&record), Err(ZipError::Method(14)));
        let record = written(b"a", 1, 0).central();
        for length in 0..record.len() {
            assert_eq!(read_entry(&record[..length]), Err(ZipError::Damaged));
        }
    }

    #[test]
    fn times_are_those_of_ms_dos() {
        // 2026-11-23 17:15:43
        assert_eq!(dos_time(1_795_454_143), ((17 << 11) | (15 << 5) | 21, (46 << 9) | (11 << 5) | 23));
        assert_eq!(dos_time(0), (0, (1 << 5) | 1));
    }
}
