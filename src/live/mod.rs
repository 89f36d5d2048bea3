//! Who is connected now: agents, control sessions, tunnels. In memory only, never stored.

mod agents;
mod mailbox;
mod sessions;
mod tunnels;

pub use agents::{Agent, AgentRegistry, CoreChoice, ORDERS, Order, Presence};
pub use mailbox::{Mailbox, Outbox, SendError, mailbox};
pub use sessions::{ControlSession, SessionRegistry};
pub use tunnels::{OpenTunnels, TunnelKind};

/// Connectivity bit of a device: its agent is connected (control-protocol §4.0).
pub const CONNECTED_BY_AGENT: u32 = 1;
/// Power state of a device whose agent is connected.
pub const POWER_ON: u8 = 1;
/// Power state of a device nobody hears of.
pub const POWER_UNKNOWN: u8 = 0;
