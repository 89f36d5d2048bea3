//! Bundles on their way in: the folder that the server writes and the helper takes from.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::facts;
use super::protocol::{ENDING, StagedName};

/// Room that stays free, in bytes: the server must be able to go on writing.
const RESERVE: u64 = 32 << 20;

/// Why a bundle is not taken in.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// It is larger than what is free.
    #[error("There is room for {} MiB; the update is larger", free >> 20)]
    TooLarge { free: u64 },
    /// The disk says no.
    #[error("The update could not be stored: {0}")]
    Io(#[from] io::Error),
}

/// A bundle that comes in. It goes away with this, unless the helper has taken it.
pub struct Staged {
    name: StagedName,
    path: PathBuf,
    file: File,
    room: u64,
    taken: u64,
}

impl Staged {
    /// Begins one of `length` bytes, where that is known.
    ///
    /// # Errors
    /// [`StagingError`].
    pub async fn begin(folder: &Path, length: Option<u64>) -> Result<Staged, StagingError> {
        use std::os::unix::fs::DirBuilderExt as _;
        if !folder.is_dir() {
            std::fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        let free = facts::room(folder).map_or(0, |room| room.free).saturating_sub(RESERVE);
        if length.is_some_and(|length| length > free) {
            return Err(StagingError::TooLarge { free });
        }
        let key: String =
            outpost_wire::random::bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = StagedName::try_from(format!("{key}{ENDING}")).expect("made of digits");
        let path = folder.join(name.as_str());
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path).await?;
        Ok(Staged { name, path, file, room: free, taken: 0 })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StagingError`].
    pub async fn take(&mut self, bytes: &[u8]) -> Result<u64, StagingError> {
        self.taken += bytes.len() as u64;
        if self.taken > self.room {
            return Err(StagingError::TooLarge { free: self.room });
        }
        self.file.write_all(bytes).await?;
        Ok(self.taken)
    }

    /// Ends it: everything is on the disk.
    ///
    /// # Errors
    /// [`StagingError`].
    pub async fn finish(&mut self) -> Result<StagedName, StagingError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(self.name.clone())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // The helper moves what it installs.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes what a server that was cut off left.
pub fn tidy(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if StagedName::try_from(entry.file_name().to_string_lossy().into_owned()).is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bundle_is_there_while_it_is_wanted_and_no_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut staged = Staged::begin(folder.path(), None).await.expect("begun");
        assert_eq!(staged.take(b"bundle").await.expect("taken"), 6);
        let name = staged.finish().await.expect("whole");
        assert_eq!(std::fs::read(folder.path().join(name.as_str())).expect("there"), b"bundle");
        drop(staged);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_before_and_while_it_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = Staged::begin(folder.path(), Some(u64::MAX)).await;
        assert!(matches!(told, Err(StagingError::TooLarge { .. })));
        let mut staged = Staged::begin(folder.path(), None).await.expect("begun");
        staged.room = 10;
        staged.take(&[0; 10]).await.expect("fits");
        assert!(matches!(staged.take(&[0; 1]).await, Err(StagingError::TooLarge { free: 10 })));
    }

    #[tokio::test]
    async fn leftovers_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["00ff.raucb", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        tidy(folder.path());
        assert!(!folder.path().join("00ff.raucb").exists() && folder.path().join("notes.txt").exists());
    }
}
