//! The way to the server for everything that runs beside the control channel.
//!
//! Tunnels and commands outlive a control channel that breaks. What they post while there is none, or
//! while its queue is full, is dropped: a server that comes back is told the present state anyway.

use std::sync::Mutex;

use outpost_wire::message::FromAgent;
use tokio::sync::mpsc;

/// Messages that may wait for the socket. With [`MAX_MESSAGE`](crate::uplink::MAX_MESSAGE) this bounds what
/// a server that does not read can make the agent hold.
const QUEUE: usize = 32;
/// Longest message sent; servers refuse more than 1 MiB.
pub const MAX_MESSAGE: usize = outpost_wire::message::MAX_AGENT_MESSAGE;

/// Sends to the present control channel, if there is one.
#[derive(Debug, Default)]
pub struct Uplink {
    queue: Mutex<Option<mpsc::Sender<String>>>,
}

impl Uplink {
    /// Begins a new control channel; the receiver feeds its socket. The former one is cut off.
    pub fn attach(&self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.queue.lock().expect("no holder panics") = Some(sender);
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
