//! Files that are there whole or not at all, whenever the power goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Writes a file beside the one of this name and puts it in its place, both on the disk before this returns. Folders that
/// are missing are made, for root alone.
pub(super) fn replace(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    make_folder(folder)?;
    let new = beside(file);
    // What an earlier cut left may have another mode.
    remove(&new)?;
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    handle.write_all(content)?;
    handle.sync_all()?;
    std::fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}

/// Removes a file for good; one that is not there is removed already.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Ok(()) => File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file's bytes; `None` when it is not there.
pub(super) fn read(file: &Path, largest: usize) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let handle = match File::open(file) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    handle.take(u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut content)?;
    Ok(Some(content))
}

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    file.with_file_name(name)
}
