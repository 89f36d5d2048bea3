//! Reading the blocks of a recording, one after the other, up to where it is whole.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use outpost_wire::recording::{BlockHead, BlockKind, HEAD, LARGEST_ABOUT, SIZE_WITHIN};

use super::About;

/// Bytes of a message that are looked at: a picture's head, two commands before it.
const LOOKED_AT: usize = SIZE_WITHIN + 32;
/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// The blocks of a file.
pub(super) struct Blocks<R> {
    reader: BufReader<R>,
    place: u64,
    size: u64,
    looked_at: Vec<u8>,
}

/// A whole block.
pub(super) struct Block<'a> {
    pub(super) head: BlockHead,
    /// Where its head begins.
    pub(super) place: u64,
    /// Its first bytes.
    pub(super) bytes: &'a [u8],
}

impl<R: Read + Seek> Blocks<R> {
    /// From the beginning of a file.
    pub(super) fn of(mut reader: R) -> io::Result<Blocks<R>> {
        let size = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let reader = BufReader::with_capacity(BUFFER, reader);
        Ok(Blocks { reader, place: 0, size, looked_at: Vec::new() })
    }

    /// The next block, if there is a whole one.
    pub(super) fn next(&mut self) -> io::Result<Option<Block<'_>>> {
        let place = self.place;
        if self.size - place < HEAD as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.reader.read_exact(&mut head)?;
        let Some(head) = BlockHead::parse(&head) else { return Ok(None) };
        let end = place + HEAD as u64 + u64::from(head.size);
        if end > self.size {
            return Ok(None);
        }
        let looked_at = (head.size as usize).min(LOOKED_AT);
        self.looked_at.resize(looked_at, 0);
        self.reader.read_exact(&mut self.looked_at)?;
        let rest = i64::from(head.size) - looked_at as i64;
        self.reader.seek_relative(rest)?;
        self.place = end;
        Ok(Some(Block { head, place, bytes: &self.looked_at }))
    }

    /// Where the blocks read so far end.
    pub(super) fn place(&self) -> u64 {
        self.place
    }
}

/// The first block of a file, with its time.
pub(super) fn about(mut reader: impl Read) -> io::Result<Option<(About, u64)>> {
    let mut head = [0; HEAD];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let head = BlockHead::parse(&head).filter(|head| head.kind == BlockKind::About);
    let Some(head) = head.filter(|head| head.size <= LARGEST_ABOUT) else { return Ok(None) };
    let mut json = Vec::new();
    reader.take(head.size.into()).read_to_end(&mut json)?;
    Ok(About::parse(&json).map(|about| (about, head.time)))
}
