//! One file, or an archive of several, pushed over a tunnel of its own, for downloads over HTTPS (tunnel-protocols
//! §5.6). Beginning further on, archives, and the last word are Outpost's own.

use std::ffi::OsStr;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use outpost_wire::files::{Name, to_bytes};
use outpost_wire::tunnel::Options;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_websockets::Message;

use super::work::Work;
use super::{archive, beside, download};

/// Bytes of the file in one message.
const PIECE: usize = 32 << 10;
/// Pieces of an archive that wait for the socket.
const WAITING: usize = 4;

/// Says that there will be no file.
pub async fn decline<O: Sink<Message> + Unpin>(mut sink: O) {
    let _ = sink.send(Message::text(json!({ "op": "cancel" }).to_string())).await;
    let _ = sink.close().await;
}

/// Sends what the options ask for, or that it cannot be read.
pub async fn push<O: Sink<Message> + Unpin>(sink: O, options: Options) {
    let path = to_bytes(options.file.as_deref().unwrap_or_default());
    match options.zip {
        Some(names) => push_archive(sink, &path, &names).await,
        None => push_file(sink, path, options.offset).await,
    }
}

/// Sends a file's size and then the file. With an offset, what follows it; and then also a tag that changes when
/// the file does, so that nobody puts two versions together.
async fn push_file<O: Sink<Message> + Unpin>(mut sink: O, path: Vec<u8>, offset: Option<u64>) {
    let opened = beside(move || {
        let mut file = download::open(&path)?;
        let kind = file.metadata()?;
        if let Some(from) = offset {
            if from > kind.len() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            file.seek(SeekFrom::Start(from))?;
        }
        let tag = format!("{:x}-{:x}-{:x}.{:x}", kind.ino(), kind.len(), kind.mtime(), kind.mtime_nsec());
        Ok::<_, io::Error>((file, kind.len(), tag))
    });
    let Some(Ok((mut file, size, tag))) = opened.await else { return decline(sink).await };
    let mut word = json!({ "op": "ok", "size": size });
    if let Some(from) = offset {
        word["offset"] = from.into();
        word["tag"] = tag.into();
    }
    if sink.send(Message::text(word.to_string())).await.is_err() {
        return;
    }
    // As much as was announced, even if the file grows meanwhile.
    let mut left = size - offset.unwrap_or(0);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let read = beside(move || {
            let read = download::fill(&mut file, wanted);
            (file, read)
        });
        let Some((same, Ok(piece))) = read.await else { break };
        file = same;
        left -= piece.len() as u64;
        if piece.is_empty() || sink.send(Message::binary(piece)).await.is_err() {
            break;
        }
    }
    let _ = sink.close().await;
}

/// Sends an archive of entries of a folder, or of the folder itself, and at its end that it is whole.
async fn push_archive<O: Sink<Message> + Unpin>(mut sink: O, path: &[u8], names: &[String]) {
    let mut folder = PathBuf::from(OsStr::from_bytes(path));
    let mut names: Vec<Name> = names.iter().filter_map(|name| Name::new(name)).collect();
    if names.is_empty() {
        let last = folder.file_name().and_then(|name| Name::from_bytes(name.as_bytes()));
        names.extend(last);
        folder = folder.parent().unwrap_or(Path::new("/")).to_owned();
    }
    let there = {
        let (folder, names) = (folder.clone(), names.clone());
        beside(move || {
            names
                .iter()
                .all(|name| folder.join(OsStr::from_bytes(name.as_bytes())).symlink_metadata().is_ok())
        })
    };
    if names.is_empty() || there.await != Some(true) {
        return decline(sink).await;
    }
    if sink.send(Message::text(json!({ "op": "ok", "zip": true }).to_string())).await.is_err() {
        return;
    }
    let (tell, mut pieces) = mpsc::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(PIECE, Pieces(tell));
        archive::write(&folder, &names, out, &mut Work::unwatched())
    });
    while let Some(piece) = pieces.recv().await {
        if sink.send(Message::binary(piece)).await.is_err() {
            return;
        }
    }
    match writing.await {
        Ok(Ok(unread)) => {
            let word = json!({ "op": "done", "unread": unread }).to_string();
            let _ = sink.send(Message::text(word)).await;
        }
        Ok(Err(error)) => log::warn!("an archive was not finished: {error}"),
        Err(_) => {}
    }
    let _ = sink.close().await;
}

/// Hands pieces to the socket; waits while it is busy, and fails when it has gone.
struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(&data[..data.len().min(PIECE)]);
        let length = piece.len();
        self.0.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(length)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
