//! Writing a session down while it goes on.
//!
//! Both directions of a tunnel write their messages in turn, a long one piece by piece as it comes; what the other
//! direction says meanwhile waits aside. Bytes are gathered and written in the background, one buffer ahead: a disk
//! that is slower than the session slows the session down. A tape holds [`BUFFER`] twice and [`ASIDE`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outpost_wire::recording::{BlockHead, BlockKind, HEAD};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::catalogue::Recording;
use super::folder::Folder;
use super::{Session, completion, retention};
use crate::clock;
use crate::config::{OnFailure, SessionRecording};

/// Bytes written at once: three pages of a card.
const BUFFER: usize = 12 << 10;
/// Bytes of messages that wait while a long one of the other direction comes.
const ASIDE: usize = 8 << 10;
/// How much is written between two looks at the room on the disk.
const LOOK_EVERY: u64 = 1 << 20;
/// What was gathered is written at least this often, so that little is lost when the server is killed.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// The size that a block has while it is not known: too large for any file, so that a reader takes it for torn.
const UNKNOWN: u32 = u32::MAX;

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The viewer.
    FromViewer,
    /// The device.
    FromDevice,
}

/// Why a session cannot be recorded, or not any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapeError {
    /// The disk has to keep some room.
    #[error("the disk of the recordings is full")]
    DiskFull,
    /// `maxRecordingSizeMegabytes`.
    #[error("the recordings have all the room that they may have")]
    Limit,
    /// Longer than a block can be.
    #[error("a message is too long to be recorded")]
    TooLong,
    /// Anything else.
    #[error("the recording cannot be written: {0}")]
    Failed(String),
}

impl From<io::Error> for TapeError {
    fn from(error: io::Error) -> TapeError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TapeError::DiskFull,
            _ => TapeError::Failed(error.to_string()),
        }
    }
}

/// One session being recorded.
pub struct Tape {
    folder: Arc<Folder>,
    policy: Arc<SessionRecording>,
    domain: String,
    name: String,
    part: PathBuf,
    state: Mutex<State>,
    /// A long message ended: the other direction may go on.
    turn: Notify,
    failure: OnceLock<TapeError>,
    failed: CancellationToken,
    indexing: Arc<Semaphore>,
}

struct State {
    /// None once it is finished.
    file: Option<Arc<File>>,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    writing: Option<JoinHandle<(Vec<u8>, io::Result<()>)>>,
    /// Bytes that were handed to the disk.
    handed: u64,
    /// Where the last whole block ends.
    whole: u64,
    /// What was written when the room was looked at last.
    looked: u64,
    long: Option<Long>,
    aside: Vec<u8>,
}

/// A message that comes in pieces.
struct Long {
    way: Way,
    head: u64,
    size: u64,
    known: bool,
}

impl State {
    fn place(&self) -> u64 {
        self.handed + self.buffer.len() as u64
    }

    /// Waits for what is being written.
    async fn settle(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let (mut buffer, written) = writing.await.expect("writing does not panic");
        self.writing = None;
        buffer.clear();
        self.spare = buffer;
        written
    }
}

impl Tape {
    /// Begins one.
    ///
    /// # Errors
    /// [`TapeError`]; nothing is left behind then.
    pub(super) async fn begin(
        folder: Arc<Folder>,
        policy: Arc<SessionRecording>,
        session: Session,
        indexing: Arc<Semaphore>,
    ) -> Result<Tape, TapeError> {
        let domain = session.user.domain().to_owned();
        let (place, wanted) = (folder.clone(), session.file_name());
        let (file, part, name) = tokio::task::spawn_blocking(move || place.create(&wanted))
            .await
            .expect("making a file does not panic")?;
        let state = State {
            file: Some(Arc::new(file)),
            buffer: Vec::with_capacity(BUFFER),
            spare: Vec::with_capacity(BUFFER),
            writing: None,
            handed: 0,
            whole: 0,
            looked: 0,
            long: None,
            aside: Vec::new(),
        };
        let tape = Tape {
            folder,
            policy,
            domain,
            name,
            part,
            state: Mutex::new(state),
            turn: Notify::new(),
            failure: OnceLock::new(),
            failed: CancellationToken::new(),
            indexing,
        };
        let first = tape.first_block(&session).await;
        if let Err(error) = first {
            let _ = fs::remove_file(&tape.part);
            return Err(error);
        }
        Ok(tape)
    }

    async fn first_block(&self, session: &Session) -> Result<(), TapeError> {
        let json = serde_json::to_vec(&session.about()).expect("it is plain data");
        let time = u64::try_from(session.started).unwrap_or(0);
        let head = BlockHead { kind: BlockKind::About, size: length(json.len() as u64)?, time };
        let state = &mut *self.state.lock().await;
        self.look_for_room(state, 0).await?;
        self.block(state, head, &json).await
    }

    /// The name that the recording will have.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&TapeError> {
        self.failure.get()
    }

    /// What becomes of the session when it does.
    pub fn on_failure(&self) -> OnFailure {
        self.policy.on_failure
    }

    /// Writes now and then what was gathered; returns when the session may not go on, since it cannot be recorded.
    pub async fn keep(&self) -> TapeError {
        loop {
            tokio::select! {
                () = self.failed.cancelled() => break,
                () = tokio::time::sleep(FLUSH_EVERY) => {
                    let mut state = self.state.lock().await;
                    if state.file.is_some() && self.failure.get().is_none() {
                        let _ = self.judge(self.hand_over(&mut state).await);
                    }
                }
            }
        }
        match (self.on_failure(), self.failure.get()) {
            (OnFailure::End, Some(failure)) => failure.clone(),
            _ => std::future::pending().await,
        }
    }

    /// A whole message.
    ///
    /// # Errors
    /// [`TapeError`], when the session may not go on.
    pub async fn message(&self, way: Way, binary: bool, bytes: &[u8]) -> Result<(), TapeError> {
        let size = length(bytes.len() as u64);
        let head = |size| message_head(way, binary, size);
        loop {
            let mut state = self.state.lock().await;
            if state.file.is_none() || self.failure.get().is_some() {
                return self.refusal();
            }
            let size = match &size {
                Ok(size) => *size,
                Err(error) => return self.judge(Err(error.clone())),
            };
            match &state.long {
                None => {
                    let written = self.block(&mut state, head(size), bytes).await;
                    return self.judge(written);
                }
                Some(_) if state.aside.len() + HEAD + bytes.len() <= ASIDE => {
                    // All at once: growing by doubling would hold twice as much.
                    if state.aside.capacity() == 0 {
                        state.aside.reserve_exact(ASIDE);
                    }
                    state.aside.extend(head(size).bytes());
                    state.aside.extend(bytes);
                    return Ok(());
                }
                Some(_) => self.wait_for_turn(state).await,
            }
        }
    }

    /// Begins a message that comes in pieces; of `known` bytes, if that is known.
    ///
    /// # Errors
    /// As [`Tape::message`].
    pub async fn start(&self, way: Way, binary: bool, known: Option<u64>) -> Result<(), TapeError> {
        loop {
            let mut state = self.state.lock().await;
            if state.file.is_none() || self.failure.get().is_some() {
                return self.refusal();
            }
            if state.long.is_some() {
                self.wait_for_turn(state).await;
                continue;
            }
            let size = match known.map_or(Ok(UNKNOWN), length) {
                Ok(size) => size,
                Err(error) => return self.judge(Err(error)),
            };
            state.long = Some(Long { way, head: state.place(), size: 0, known: known.is_some() });
            let written = self.append(&mut state, &message_head(way, binary, size).bytes()).await;
            return self.judge(written);
        }
    }

    /// A piece of the message that this way began.
    ///
    /// # Errors
    /// As [`Tape::message`].
    pub async fn piece(&self, way: Way, bytes: &[u8]) -> Result<(), TapeError> {
        let mut state = self.state.lock().await;
        if state.file.is_none() || self.failure.get().is_some() {
            return self.refusal();
        }
        let Some(long) = state.long.as_mut().filter(|long| long.way == way) else { return Ok(()) };
        long.size += bytes.len() as u64;
        if let Err(error) = length(long.size) {
            return self.judge(Err(error));
        }
        let written = self.append(&mut state, bytes).await;
        self.judge(written)
    }

    /// The message that this way began is whole.
    ///
    /// # Errors
    /// As [`Tape::message`].
    pub async fn end(&self, way: Way) -> Result<(), TapeError> {
        let mut state = self.state.lock().await;
        if state.file.is_none() || self.failure.get().is_some() {
            return self.refusal();
        }
        let Some(long) = state.long.take_if(|long| long.way == way) else { return Ok(()) };
        let written = self.close_block(&mut state, long).await;
        self.turn.notify_waiters();
        self.judge(written)
    }

    async fn close_block(&self, state: &mut State, long: Long) -> Result<(), TapeError> {
        if !long.known {
            let size = length(long.size)?.to_be_bytes();
            // The head may be on the disk, in the buffer, or across both.
            let at = long.head + 4;
            let behind =
                usize::try_from(state.handed.saturating_sub(at)).unwrap_or(usize::MAX).min(size.len());
            if behind > 0 {
                state.settle().await?;
                let (file, part) = (state.file.clone(), size[..behind].to_vec());
                let file = file.expect("it is not finished");
                tokio::task::spawn_blocking(move || file.write_all_at(&part, at))
                    .await
                    .expect("writing does not panic")?;
            }
            let from = usize::try_from((at + behind as u64).saturating_sub(state.handed)).unwrap_or(0);
            for (n, byte) in size[behind..].iter().enumerate() {
                state.buffer[from + n] = *byte;
            }
        }
        state.whole = state.place();
        let aside = std::mem::take(&mut state.aside);
        self.append(state, &aside).await?;
        state.whole = state.place();
        Ok(())
    }

    async fn wait_for_turn(&self, state: tokio::sync::MutexGuard<'_, State>) {
        let turn = self.turn.notified();
        tokio::pin!(turn);
        turn.as_mut().enable();
        drop(state);
        tokio::select! {
            () = turn => {}
            () = self.failed.cancelled() => {}
        }
    }

    async fn block(&self, state: &mut State, head: BlockHead, bytes: &[u8]) -> Result<(), TapeError> {
        self.append(state, &head.bytes()).await?;
        self.append(state, bytes).await?;
        state.whole = state.place();
        Ok(())
    }

    async fn append(&self, state: &mut State, mut bytes: &[u8]) -> Result<(), TapeError> {
        while !bytes.is_empty() {
            let room = (BUFFER - state.buffer.len()).min(bytes.len());
            state.buffer.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            if state.buffer.len() == BUFFER {
                self.hand_over(state).await?;
            }
        }
        Ok(())
    }

    /// Has the gathered bytes written in the background.
    async fn hand_over(&self, state: &mut State) -> Result<(), TapeError> {
        state.settle().await?;
        if state.buffer.is_empty() {
            return Ok(());
        }
        self.look_for_room(state, state.buffer.len() as u64).await?;
        let spare = std::mem::take(&mut state.spare);
        let bytes = std::mem::replace(&mut state.buffer, spare);
        self.folder.grow(bytes.len() as u64);
        let at = state.handed;
        state.handed += bytes.len() as u64;
        let file = state.file.clone().expect("it is not finished");
        state.writing = Some(tokio::task::spawn_blocking(move || {
            let written = file.write_all_at(&bytes, at);
            (bytes, written)
        }));
        Ok(())
    }

    /// Whether so many bytes may be written. Older recordings make room for newer ones.
    async fn look_for_room(&self, state: &mut State, bytes: u64) -> Result<(), TapeError> {
        if let Some(most) = self.policy.most_bytes
            && self.folder.used() + bytes > most
        {
            let (folder, policy, domain) = (self.folder.clone(), self.policy.clone(), self.domain.clone());
            // Some room ahead, so that not every buffer has to look for it.
            let needed = bytes.max(LOOK_EVERY.min(most / 8));
            tokio::task::spawn_blocking(move || retention::retain(&folder, &policy, &domain, needed))
                .await
                .expect("looking for room does not panic")?;
            if self.folder.used() + bytes > most {
                return Err(TapeError::Limit);
            }
        }
        if state.handed == 0 || state.handed - state.looked >= LOOK_EVERY {
            state.looked = state.handed;
            if self.folder.free()? < self.policy.keep_free + LOOK_EVERY {
                return Err(TapeError::DiskFull);
            }
        }
        Ok(())
    }

    /// Remembers the first failure; an error only where the session may not go on.
    fn judge(&self, outcome: Result<(), TapeError>) -> Result<(), TapeError> {
        if let Err(error) = outcome {
            log::warn!("the recording {} ends early: {error}", self.name);
            let _ = self.failure.set(error);
            self.failed.cancel();
            return self.refusal();
        }
        Ok(())
    }

    fn refusal(&self) -> Result<(), TapeError> {
        match (self.policy.on_failure, self.failure.get()) {
            (OnFailure::End, Some(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Makes it whole. None when that was done before, or when nothing was said.
    ///
    /// # Errors
    /// When not even what there is can be kept; the next start of the server tries again.
    pub async fn finish(&self) -> Result<Option<Recording>, TapeError> {
        let (file, rest, whole, aside, settled) = {
            let mut state = self.state.lock().await;
            let Some(file) = state.file.take() else { return Ok(None) };
            let settled = state.settle().await;
            let rest = usize::try_from(state.whole.saturating_sub(state.handed)).unwrap_or(0);
            let rest = state.buffer[..rest.min(state.buffer.len())].to_vec();
            let (handed, whole) = (state.handed, state.whole);
            let aside = std::mem::take(&mut state.aside);
            (file, (handed, rest), whole, aside, settled)
        };
        let broken = settled.is_err() || self.failure.get().is_some();
        let turn = self.indexing.clone().acquire_owned().await.expect("it is never closed");
        let (folder, part, index) = (self.folder.clone(), self.part.clone(), self.policy.index);
        let work = move || {
            let _turn = turn;
            let now = u64::try_from(clock::now_ms()).unwrap_or(0);
            // A message that did not come to its end is left out; what waited for it is not.
            let put = || {
                let (at, bytes) = &rest;
                file.write_all_at(bytes, *at)?;
                file.set_len(whole)?;
                file.write_all_at(&aside, whole)
            };
            if broken || put().is_err() {
                return completion::salvage(&folder, &file, &part, index);
            }
            let end = whole + aside.len() as u64;
            completion::complete(&folder, &file, &part, (end, now), index).map(Some)
        };
        Ok(tokio::task::spawn_blocking(work).await.expect("finishing does not panic")?)
    }
}

fn message_head(way: Way, binary: bool, size: u32) -> BlockHead {
    let from_viewer = way == Way::FromViewer;
    let time = u64::try_from(clock::now_ms()).unwrap_or(0);
    BlockHead { kind: BlockKind::Message { binary, from_viewer }, size, time }
}

/// The size field of a block.
fn length(bytes: u64) -> Result<u32, TapeError> {
    u32::try_from(bytes).ok().filter(|size| *size < UNKNOWN).ok_or(TapeError::TooLong)
}

#[cfg(test)]
mod tests;
