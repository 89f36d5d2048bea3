//! The agents that are connected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use outpost_wire::id::DeviceId;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::mailbox::{Mailbox, SendError};

/// What people may ask of an agent's session about what the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run another core.
    Core(CoreChoice),
    /// See whether there is a newer executable, and install it.
    Update,
}

/// Which core an agent is to run, until it disconnects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreChoice {
    /// The everyday one.
    Default,
    /// None.
    Clear,
    /// The one that only repairs.
    Recovery,
    /// Next to nothing.
    Tiny,
    /// This JavaScript.
    Custom(Arc<[u8]>),
}

/// Orders that may wait for one agent.
pub const ORDERS: usize = 8;

/// One connected agent.
#[derive(Debug)]
pub struct Agent {
    /// Its device.
    pub device: DeviceId,
    /// Where it connects from.
    pub remote: SocketAddr,
    /// When it connected, Unix ms.
    pub since: i64,
    /// Architecture number it reported.
    pub architecture: u32,
    /// Ends the connection.
    pub cancel: CancellationToken,
    mailbox: Mailbox,
    /// It has said that it runs a core, and so can take messages.
    ready: AtomicBool,
    orders: mpsc::Sender<Order>,
    /// What the agent reports as running by kind (`msg`, `app`, …), tunnels left out.
    sessions: Mutex<Map<String, Value>>,
}

impl Agent {
    /// A connected agent that is spoken to through `mailbox`, and its session through `orders`.
    pub fn new(
        device: DeviceId,
        remote: SocketAddr,
        since: i64,
        architecture: u32,
        mailbox: Mailbox,
        orders: mpsc::Sender<Order>,
    ) -> Agent {
        Agent {
            device,
            remote,
            since,
            architecture,
            cancel: CancellationToken::new(),
            mailbox,
            ready: AtomicBool::new(false),
            orders,
            sessions: Mutex::new(Map::new()),
        }
    }

    /// Notes that it runs a core.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Whether it runs a core: what it is sent before is lost.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Sends the agent a message (JSON or a binary command).
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, message: Bytes) -> Result<(), SendError> {
        self.mailbox.send(message)
    }

    /// Has its session do something.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn order(&self, order: Order) -> Result<(), SendError> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Replaces the running sessions of a kind; an empty or missing value removes them.
    pub fn report_sessions(&self, kind: &str, value: Value) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if value.as_object().is_none_or(Map::is_empty) {
            sessions.remove(kind);
        } else {
            sessions.insert(kind.to_owned(), value);
        }
    }

    /// The running sessions by kind.
    pub fn sessions(&self) -> Map<String, Value> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether and since when a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Connected since, Unix ms.
    pub since: i64,
}

/// All connected agents by device.
#[derive(Default)]
pub struct AgentRegistry {
    agents: Mutex<HashMap<DeviceId, Arc<Agent>>>,
}

impl AgentRegistry {
    fn agents(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Arc<Agent>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an agent. An earlier connection of the same device is ended and returned: the newest wins
    /// (agent-protocol §8.4), and unlike MeshCentral we do not keep the old socket.
    pub fn add(&self, agent: Arc<Agent>) -> Option<Arc<Agent>> {
        let previous = self.agents().insert(agent.device.clone(), agent);
        if let Some(previous) = &previous {
            previous.cancel.cancel();
        }
        previous
    }

    /// Removes an agent; `false` when another connection has taken its place.
    pub fn remove(&self, agent: &Arc<Agent>) -> bool {
        let mut agents = self.agents();
        if agents.get(&agent.device).is_some_and(|current| Arc::ptr_eq(current, agent)) {
            agents.remove(&agent.device);
            return true;
        }
        false
    }

    /// The agent of a device, when it is connected.
    pub fn get(&self, device: &DeviceId) -> Option<Arc<Agent>> {
        self.agents().get(device).cloned()
    }

    /// Whether a device is connected.
    pub fn presence(&self, device: &DeviceId) -> Option<Presence> {
        self.agents().get(device).map(|agent| Presence { since: agent.since })
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.agents().len()
    }

    /// All that are connected.
    pub fn all(&self) -> Vec<Arc<Agent>> {
        self.agents().values().cloned().collect()
    }
}
