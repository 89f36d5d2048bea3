//! Making a recording whole: its end, its index, its name. Also for what a stopped server left behind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use outpost_wire::recording::{BlockHead, BlockKind, Ending, IndexBuilder};
use outpost_wire::tunnel::Protocol;

use super::PART;
use super::blocks::{self, Blocks};
use super::catalogue::Recording;
use super::folder::Folder;

/// A file up to its last whole block.
struct Whole {
    /// Where it ends.
    end: u64,
    /// When its last block came, Unix ms.
    last: u64,
    /// How many blocks there are.
    blocks: u64,
}

/// Finds the last whole block of what was recorded.
fn measure(file: &File) -> io::Result<Whole> {
    let mut blocks = Blocks::of(file)?;
    let mut whole = Whole { end: 0, last: 0, blocks: 0 };
    loop {
        let expected_about = whole.blocks == 0;
        match blocks.next()? {
            Some(block) if expected_about == (block.head.kind == BlockKind::About) => {
                // Anything behind the messages is an end that was not finished.
                if !expected_about && !matches!(block.head.kind, BlockKind::Message { .. }) {
                    return Ok(whole);
                }
                whole.last = whole.last.max(block.head.time);
            }
            _ => return Ok(whole),
        }
        whole.end = blocks.place();
        whole.blocks += 1;
    }
}

/// Cuts a file behind its last whole block; the time of that block. None when there is nothing in it.
fn mend(file: &File) -> io::Result<Option<(u64, u64)>> {
    let whole = measure(file)?;
    if whole.blocks < 2 {
        return Ok(None);
    }
    file.set_len(whole.end)?;
    Ok(Some((whole.end, whole.last)))
}

/// Puts the end behind what was recorded, up to `end`, and gives the file its name.
pub(super) fn complete(
    folder: &Folder,
    file: &File,
    part: &Path,
    (end, time): (u64, u64),
    index: bool,
) -> io::Result<Recording> {
    let tail = match index.then(|| index_of(file)).transpose()?.flatten() {
        Some(json) => {
            let size = u32::try_from(json.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut tail = BlockHead { kind: BlockKind::Index, size, time }.bytes().to_vec();
            tail.extend(json);
            tail.extend(Ending::Indexed(end).bytes());
            tail
        }
        None => Ending::Plain(time).bytes().to_vec(),
    };
    if let Err(error) = file.write_all_at(&tail, end).and_then(|()| file.sync_all()) {
        // Without its end it plays all the same.
        log::warn!("{} stays without an end: {error}", part.display());
        file.set_len(end)?;
    }
    let name = part.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(PART));
    let name = name.ok_or(io::ErrorKind::InvalidInput)?;
    fs::rename(part, folder.path().join(name))?;
    folder.measure()?;
    folder.one(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The index of a desktop, as JSON; None for other sessions.
fn index_of(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut blocks = Blocks::of(file)?;
    let Some(first) = blocks.next()? else { return Ok(None) };
    let about = super::About::parse(first.bytes);
    if about.and_then(|about| about.protocol) != Some(Protocol::Desktop.number()) {
        return Ok(None);
    }
    let mut builder = IndexBuilder::default();
    while let Some(block) = blocks.next()? {
        let BlockKind::Message { binary, from_viewer } = block.head.kind else { break };
        let from_device = (binary && !from_viewer).then_some((u64::from(block.head.size), block.bytes));
        builder.message(block.place, block.head.time, from_device);
    }
    let index = builder.finish();
    Ok(index.and_then(|index| serde_json::to_vec(&index).ok()))
}

/// Mends everything in a folder that was left behind and that nobody writes any more.
pub(super) fn recover(folder: &Folder, index: bool) -> io::Result<Vec<Recording>> {
    let mut recovered = Vec::new();
    for part in folder.parts()? {
        match recover_one(folder, &part, index) {
            Ok(Some(recording)) => recovered.push(Recording { recovered: true, ..recording }),
            Ok(None) => {}
            Err(error) => log::warn!("{} could not be mended: {error}", part.display()),
        }
    }
    folder.measure()?;
    Ok(recovered)
}

fn recover_one(folder: &Folder, part: &Path, index: bool) -> io::Result<Option<Recording>> {
    let file = OpenOptions::new().read(true).write(true).open(part)?;
    match file.try_lock() {
        Ok(()) => {}
        // It is being recorded now.
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if blocks::about(&file)?.is_none() {
        fs::remove_file(part)?;
        return Ok(None);
    }
    match mend(&file)? {
        Some(place) => complete(folder, &file, part, place, index).map(Some),
        None => {
            fs::remove_file(part)?;
            Ok(None)
        }
    }
}

/// What is left of a recording whose disk failed: as much as is whole.
pub(super) fn salvage(
    folder: &Folder,
    file: &File,
    part: &Path,
    index: bool,
) -> io::Result<Option<Recording>> {
    match mend(file)? {
        Some(place) => complete(folder, file, part, place, index).map(Some),
        None => {
            fs::remove_file(part)?;
            Ok(None)
        }
    }
}
