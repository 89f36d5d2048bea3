//! A file being read by a client, block by block as it acknowledges them.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use nix::fcntl::OFlag;
use outpost_wire::files::{DOWNLOAD_BLOCK, download_head};
use serde_json::Value;
use tokio::task::JoinHandle;

/// Blocks read at once.
const AHEAD: usize = 4;
/// Most blocks under way, whatever a client asks for.
const LARGEST_WINDOW: u32 = 64;

/// A file under way.
pub(super) struct Download {
    /// What the client calls it.
    pub(super) id: Value,
    source: Source,
    ready: VecDeque<Bytes>,
    /// Blocks that may be sent now.
    credit: u32,
}

enum Source {
    File(File),
    Reading(JoinHandle<(File, io::Result<Vec<u8>>)>),
    Exhausted,
}

/// Opens an ordinary file, without waiting for the other end of a pipe.
pub(super) fn open(path: &[u8]) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(Path::new(OsStr::from_bytes(path)))?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not an ordinary file"))
    }
}

/// Fills a buffer as far as the file goes.
pub(super) fn fill(file: &mut File, size: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(size);
    file.take(size as u64).read_to_end(&mut read)?;
    Ok(read)
}

impl Download {
    /// Opens a file to be read from a byte on; one beyond its end is a mistake.
    pub(super) fn open(path: &[u8], from: u64, id: Value) -> io::Result<Download> {
        let mut file = open(path)?;
        if from > 0 {
            if from > file.metadata()?.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is shorter"));
            }
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(Download { id, source: Source::File(file), ready: VecDeque::new(), credit: 0 })
    }

    /// The client is ready: so many blocks may be under way.
    pub(super) fn go(&mut self, window: u32) {
        self.credit = window.min(LARGEST_WINDOW);
    }

    /// The client has taken a block.
    pub(super) fn acknowledge(&mut self) {
        self.credit = self.credit.saturating_add(1).min(LARGEST_WINDOW);
    }

    /// The next block with its head, and whether it is the last. Waits for credit; may be dropped and asked
    /// again at any time.
    async fn block(&mut self) -> io::Result<(Bytes, bool)> {
        if self.credit == 0 {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(block) = self.ready.pop_front() {
                self.credit -= 1;
                let last = block[3] & 1 == 1;
                return Ok((block, last));
            }
            match &mut self.source {
                Source::Reading(reading) => {
                    let (file, read) = reading.await.map_err(io::Error::other)?;
                    self.source = Source::File(file);
                    let read = read?;
                    let ended = read.len() < AHEAD * DOWNLOAD_BLOCK;
                    self.cut(&read, ended);
                    if ended {
                        self.source = Source::Exhausted;
                    }
                }
                Source::File(_) => {
                    let Source::File(mut file) = std::mem::replace(&mut self.source, Source::Exhausted)
                    else {
                        unreachable!("it was a file")
                    };
                    self.source = Source::Reading(tokio::task::spawn_blocking(move || {
                        let read = fill(&mut file, AHEAD * DOWNLOAD_BLOCK);
                        (file, read)
                    }));
                }
                Source::Exhausted => std::future::pending::<()>().await,
            }
        }
    }

    /// Cuts what was read into blocks. A short block is the last one, so a file that ends with a full one is
    /// followed by an empty one.
    fn cut(&mut self, read: &[u8], ended: bool) {
        let mut pieces: Vec<&[u8]> = read.chunks(DOWNLOAD_BLOCK).collect();
        if ended && pieces.last().is_none_or(|piece| piece.len() == DOWNLOAD_BLOCK) {
            pieces.push(&[]);
        }
        let count = pieces.len();
        for (number, piece) in pieces.into_iter().enumerate() {
            let last = ended && number + 1 == count;
            self.ready.push_back(Bytes::from([&download_head(last)[..], piece].concat()));
        }
    }
}

/// The next block of a download, if there is one that may go; otherwise waits for ever. A file that cannot be
/// read further ends with what there is.
pub(super) async fn next(download: &mut Option<Download>) -> Bytes {
    let Some(under_way) = download else { return std::future::pending().await };
    match under_way.block().await {
        Ok((block, last)) => {
            if last {
                *download = None;
            }
            block
        }
        Err(error) => {
            log::warn!("a download ended early: {error}");
            let cancel =
                serde_json::json!({ "action": "download", "sub": "cancel", "id": under_way.id }).to_string();
            *download = None;
            Bytes::from(cancel)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn blocks(size: usize, window: u32) -> (Vec<Bytes>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).expect("written");
        let opened = Download::open(path.as_os_str().as_bytes(), 0, Value::from(1)).expect("opened");
        let mut download = Some(opened);
        download.as_mut().expect("open").go(window);
        let mut blocks = Vec::new();
        while download.is_some() {
            blocks.push(next(&mut download).await);
            if let Some(download) = &mut download {
                download.acknowledge();
            }
        }
        (blocks, content)
    }

    #[tokio::test]
    async fn files_arrive_in_the_blocks_that_clients_expect() {
        // Sizes as captured: 40,000 bytes are frames of 16384, 16384 and 7244.
        let (sent, _) = blocks(40_000, 1).await;
        let sizes: Vec<usize> = sent.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [16_384, 16_384, 7_244]);
        for size in [0, 5, DOWNLOAD_BLOCK, 4 * DOWNLOAD_BLOCK, 4 * DOWNLOAD_BLOCK + 1, 300_000] {
            for window in [1, 8] {
                let (sent, content) = blocks(size, window).await;
                let (last, earlier) = sent.split_last().expect("a block");
                assert_eq!(last[..4], [1, 0, 0, 1]);
                assert!(last.len() < 4 + DOWNLOAD_BLOCK, "the last one is short");
                assert!(earlier.iter().all(|block| block[..4] == [1, 0, 0, 0]));
                let together: Vec<u8> = sent.iter().flat_map(|block| block[4..].to_vec()).collect();
                assert!(together == content, "{size} bytes");
            }
        }
    }

    #[tokio::test]
    async fn nothing_goes_without_credit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        std::fs::write(&path, vec![1; 100_000]).expect("written");
        let mut download = Some(Download::open(path.as_os_str().as_bytes(), 0, Value::Null).expect("opened"));
        let patience = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, next(&mut download)).await.is_err());
        download.as_mut().expect("open").go(2);
        next(&mut download).await;
        next(&mut download).await;
        assert!(tokio::time::timeout(patience, next(&mut download)).await.is_err());
        download.as_mut().expect("open").acknowledge();
        assert_eq!(next(&mut download).await.len(), 16_384);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for path in ["/dev/zero", "/", "/no/such/file"] {
            assert!(open(path.as_bytes()).is_err(), "{path}");
        }
    }
}
