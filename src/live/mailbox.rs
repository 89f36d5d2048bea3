//! The bounded queue in front of a connection that something is to be said to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that may wait for one connection.
const MESSAGES: usize = 256;
/// Bytes that may wait for one connection.
const BYTES: usize = 4 << 20;

/// Why something could not be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// The peer does not keep up.
    #[error("the peer does not keep up")]
    Full,
}

/// What others hold to speak to a connection.
#[derive(Clone, Debug)]
pub struct Mailbox {
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

/// What the connection itself takes from.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

/// A new queue. tokio's channel grows in blocks as it fills, so an idle one is small.
pub fn mailbox() -> (Mailbox, Outbox) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let waiting = Arc::new(AtomicUsize::new(0));
    let overflowed = Arc::new(AtomicBool::new(false));
    (
        Mailbox { queue: sender, waiting: waiting.clone(), overflowed: overflowed.clone() },
        Outbox { queue: receiver, waiting, overflowed },
    )
}

impl Mailbox {
    /// Leaves a message without waiting.
    ///
    /// # Errors
    /// [`SendError`]; a full mailbox also remembers that something was missed.
    pub fn send(&self, message: Bytes) -> Result<(), SendError> {
        let length = message.len();
        if self.waiting.fetch_add(length, Ordering::Relaxed) > BYTES {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.overflowed.store(true, Ordering::Release);
            return Err(SendError::Full);
        }
        self.queue.try_send(message).map_err(|error| {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Closed(_) => SendError::Closed,
                mpsc::error::TrySendError::Full(_) => {
                    self.overflowed.store(true, Ordering::Release);
                    SendError::Full
                }
            }
        })
    }

    /// Both speak to the same connection.
    pub fn is_same(&self, other: &Mailbox) -> bool {
        self.queue.same_channel(&other.queue)
    }
}

impl Outbox {
    /// The next message; `None` when nobody can leave one any more.
    pub async fn next(&mut self) -> Option<Bytes> {
        let message = self.queue.recv().await?;
        self.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// A message that is already waiting.
    pub fn take_waiting(&mut self) -> Option<Bytes> {
        let message = self.queue.try_recv().ok()?;
        self.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// Whether something was missed since the last call.
    pub fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mailbox_is_bounded_in_messages_and_bytes() {
        let (mailbox, mut outbox) = mailbox();
        let big = Bytes::from(vec![0u8; 1 << 20]);
        let mut taken = 0;
        while mailbox.send(big.clone()).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 5, "4 MiB may wait before the next is refused");
        assert!(outbox.take_overflow());
        assert!(!outbox.take_overflow());
        while outbox.waiting.load(Ordering::Relaxed) > 0 {
            outbox.next().await.expect("a message");
        }
        let mut taken = 0;
        while mailbox.send(Bytes::from_static(b"x")).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, MESSAGES);
        drop(outbox);
        assert_eq!(mailbox.send(Bytes::from_static(b"x")), Err(SendError::Closed));
    }
}
