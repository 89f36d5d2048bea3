//! The two ends of a half's connection: a source of frames and a sink for them.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outpost_wire::websocket::{FrameError, FrameHead, Opcode, apply_mask};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Stream;
use super::pump::End;

/// Bytes read at once, as many as TLS holds for a peer that does not read.
const BUFFER: usize = 8 << 10;
/// Bytes of small frames gathered before they are written; what is longer goes on without.
const GATHERED: usize = 4 << 10;
/// What a message that is put together of small parts grows by.
const STEP: usize = 4 << 10;
/// How long a half may take to take the closing frame.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where frames come from.
pub(super) struct Source {
    reader: ReadHalf<Stream>,
    /// [`BUFFER`] bytes once something was read, of which those in `filled` are to be looked at still.
    buffer: Vec<u8>,
    filled: Range<usize>,
}

impl Source {
    pub(super) fn new(reader: ReadHalf<Stream>) -> Source {
        Source { reader, buffer: Vec::new(), filled: 0..0 }
    }

    async fn fill(&mut self) -> Result<(), End> {
        self.buffer.resize(BUFFER, 0);
        // At most a part of a head: no more is left when there has to be more.
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        match self.reader.read(&mut self.buffer[self.filled.end..]).await? {
            0 => Err(End::Closed),
            length => {
                self.filled.end += length;
                Ok(())
            }
        }
    }

    /// The head of the next frame, if all of it is here already.
    pub(super) fn buffered_head(&mut self) -> Result<Option<FrameHead>, FrameError> {
        Ok(FrameHead::parse(&self.buffer[self.filled.clone()])?.map(|(head, length)| {
            self.filled.start += length;
            head
        }))
    }

    /// The head of the next frame.
    pub(super) async fn head(&mut self) -> Result<FrameHead, End> {
        loop {
            if let Some(head) = self.buffered_head()? {
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// The next bytes of a payload, at most `left`, unmasked; `passed` of it came before. They stay until
    /// [`Source::taken`].
    pub(super) async fn piece(&mut self, left: u64, mask: [u8; 4], passed: u64) -> Result<&[u8], End> {
        if self.filled.is_empty() {
            self.fill().await?;
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.filled.len());
        let piece = &mut self.buffer[self.filled.start..][..length];
        apply_mask(piece, mask, passed);
        Ok(piece)
    }

    /// The bytes of the last piece are done with.
    pub(super) fn taken(&mut self, length: usize) {
        self.filled.start += length;
    }

    /// Appends a whole payload to `out`, unmasked; `out` takes no more room than its content.
    pub(super) async fn append(&mut self, out: &mut Vec<u8>, length: u64, mask: [u8; 4]) -> Result<(), End> {
        let mut passed = 0;
        while passed < length {
            let piece = self.piece(length - passed, mask, passed).await?;
            if out.capacity() - out.len() < piece.len() {
                let rest = usize::try_from(length - passed).unwrap_or(usize::MAX);
                out.reserve_exact(rest.max(out.len().min(STEP)));
            }
            out.extend_from_slice(piece);
            let taken = piece.len();
            passed += taken as u64;
            self.taken(taken);
        }
        Ok(())
    }

    /// Leaves a payload out.
    pub(super) async fn skip(&mut self, length: u64) -> Result<(), End> {
        self.append(&mut Vec::new(), length, [0; 4]).await
    }
}

/// Why a sink does not take frames.
#[derive(Debug, thiserror::Error)]
pub(super) enum SinkError {
    #[error(transparent)]
    Failed(#[from] io::Error),
    #[error("the peer does not read")]
    Stuck,
}

/// Where frames go to. Frames of both directions (data, answers to pings) take turns.
pub(super) struct Sink {
    writer: tokio::sync::Mutex<Writer>,
    /// An answer to a ping that came while a frame was under way.
    pong: Mutex<Option<Vec<u8>>>,
    patience: Duration,
}

struct Writer {
    stream: BufWriter<WriteHalf<Stream>>,
    /// A frame was begun and not finished: nothing else can be said any more.
    within: bool,
}

impl Sink {
    /// A sink whose peer may take `patience` for a few KiB.
    pub(super) fn new(writer: WriteHalf<Stream>, patience: Duration) -> Sink {
        let stream = BufWriter::with_capacity(GATHERED, writer);
        Sink {
            writer: tokio::sync::Mutex::new(Writer { stream, within: false }),
            pong: Mutex::new(None),
            patience,
        }
    }

    async fn patiently<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, SinkError> {
        match timeout(self.patience, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(SinkError::Stuck),
        }
    }

    /// Begins a frame like the one with this head, without its mask.
    pub(super) async fn frame(&self, head: FrameHead) -> Result<Frame<'_>, SinkError> {
        let mut writer = self.writer.lock().await;
        let mut bytes = Vec::with_capacity(outpost_wire::websocket::LONGEST_HEAD);
        FrameHead { mask: None, ..head }.write(&mut bytes);
        writer.within = true;
        self.patiently(writer.stream.write_all(&bytes)).await?;
        Ok(Frame { sink: self, writer })
    }

    /// Sends a whole message and waits until it has gone.
    pub(super) async fn whole(&self, opcode: Opcode, payload: &[u8]) -> Result<(), SinkError> {
        let mut frame = self.frame(FrameHead::whole(opcode, payload.len() as u64)).await?;
        frame.write(payload).await?;
        frame.finish().await?;
        self.flush().await
    }

    /// Answers a ping: now, or after the frame that is under way. Of several only the last is answered, as
    /// RFC 6455 allows.
    pub(super) async fn pong(&self, payload: Vec<u8>) -> Result<(), SinkError> {
        *self.pong.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
        let Ok(mut writer) = self.writer.try_lock() else { return Ok(()) };
        self.send_pong(&mut writer).await?;
        self.patiently(writer.stream.flush()).await
    }

    async fn send_pong(&self, writer: &mut Writer) -> Result<(), SinkError> {
        let payload = self.pong.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = payload {
            let mut bytes = Vec::with_capacity(payload.len() + 2);
            FrameHead::whole(Opcode::Pong, payload.len() as u64).write(&mut bytes);
            bytes.extend(payload);
            self.patiently(writer.stream.write_all(&bytes)).await?;
        }
        Ok(())
    }

    /// Sends what was gathered.
    pub(super) async fn flush(&self) -> Result<(), SinkError> {
        let mut writer = self.writer.lock().await;
        self.patiently(writer.stream.flush()).await
    }

    /// Says why it ends, if no other message is under way.
    pub(super) async fn last_words(&self, text: &[u8]) {
        let words = async {
            let mut writer = self.writer.lock().await;
            if !writer.within {
                let mut bytes = Vec::new();
                FrameHead::whole(Opcode::Text, text.len() as u64).write(&mut bytes);
                bytes.extend(text);
                writer.stream.write_all(&bytes).await?;
            }
            io::Result::Ok(())
        };
        let _ = timeout(FAREWELL, words).await;
    }

    /// Says that this is the end, if the peer listens.
    pub(super) async fn close(&self) {
        let farewell = async {
            let mut writer = self.writer.lock().await;
            if !writer.within {
                let mut bytes = Vec::new();
                FrameHead::whole(Opcode::Close, 0).write(&mut bytes);
                writer.stream.write_all(&bytes).await?;
                writer.stream.flush().await?;
            }
            writer.stream.shutdown().await
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// A frame under way; the sink takes no other before it is finished.
pub(super) struct Frame<'a> {
    sink: &'a Sink,
    writer: tokio::sync::MutexGuard<'a, Writer>,
}

impl Frame<'_> {
    /// More of its payload.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.sink.patiently(self.writer.stream.write_all(bytes)).await
    }

    /// Its payload is complete.
    pub(super) async fn finish(mut self) -> Result<(), SinkError> {
        self.writer.within = false;
        self.sink.send_pong(&mut self.writer).await
    }
}
