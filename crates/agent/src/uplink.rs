//! The way to the server for everything that runs beside the control channel.
//!
//! Tunnels and commands outlive a control channel that breaks. What they post while there is none, or
//! while its queue is full, is dropped: a server that comes back is told the present state anyway. Only the
//! outcome of a command waits for the next channel.

use std::sync::Mutex;
use std::time::Duration;

use outpost_wire::message::FromAgent;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait for the socket. With [`MAX_MESSAGE`](crate::uplink::MAX_MESSAGE) this bounds what
/// a server that does not read can make the agent hold.
const QUEUE: usize = 32;
/// How long an outcome waits for a control channel.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a new control channel is left alone: the server makes the device known first.
const SETTLING: Duration = Duration::from_secs(3);
/// Longest message sent; servers refuse more than 1 MiB.
pub const MAX_MESSAGE: usize = outpost_wire::message::MAX_AGENT_MESSAGE;

/// Sends to the present control channel, if there is one.
#[derive(Debug, Default)]
pub struct Uplink {
    queue: Mutex<Option<mpsc::Sender<String>>>,
    attached: Notify,
}

impl Uplink {
    /// Begins a new control channel; the receiver feeds its socket. The former one is cut off.
    pub fn attach(&self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.queue.lock().expect("no holder panics") = Some(sender);
        self.attached.notify_waiters();
        receiver
    }

    /// The control channel has ended.
    pub fn detach(&self) {
        *self.queue.lock().expect("no holder panics") = None;
    }

    /// Sends, waiting while the queue is full.
    pub async fn send(&self, message: &FromAgent) {
        let queue = self.queue.lock().expect("no holder panics").clone();
        if let (Some(queue), Some(text)) = (queue, encode(message)) {
            let _ = queue.send(text).await;
        }
    }

    /// Sends as soon as there is a control channel, within a day.
    pub async fn send_for_sure(&self, message: &FromAgent) {
        let Some(text) = encode(message) else { return };
        let delivered = async {
            loop {
                let attached = self.attached.notified();
                let queue = self.queue.lock().expect("no holder panics").clone();
                // One whose receiver is gone has not been detached yet.
                if let Some(queue) = queue
                    && queue.send(text.clone()).await.is_ok()
                {
                    return;
                }
                attached.await;
                tokio::time::sleep(SETTLING).await;
            }
        };
        if tokio::time::timeout(KEPT, delivered).await.is_err() {
            log::warn!("a {} message could not be sent for a day", message.action());
        }
    }

    /// Sends if there is room at once.
    pub fn post(&self, message: &FromAgent) {
        let queue = self.queue.lock().expect("no holder panics");
        if let (Some(queue), Some(text)) = (queue.as_ref(), encode(message))
            && queue.try_send(text).is_err()
        {
            log::debug!("a {} message found no room", message.action());
        }
    }
}

fn encode(message: &FromAgent) -> Option<String> {
    let text = message.to_json();
    if text.len() > MAX_MESSAGE {
        log::warn!("a {} message of {} bytes is too long to send", message.action(), text.len());
        return None;
    }
    Some(text)
}
