//! Tunnels: the half of a viewer and the half of an agent, brought together by an id and copied.

mod address;
mod pump;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use outpost_wire::id::{DeviceId, UserId};
use outpost_wire::tunnel::Protocol;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_websockets::WebSocketStream;

use crate::model::Rights;
use crate::site::Site;

pub use address::{TunnelAddressError, TunnelUrl};

/// A half's socket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How long the first half waits for the second (tunnel-protocols §1.6).
const PAIRING_TIME: Duration = Duration::from_secs(15);
/// Longest message relayed, in bytes. Agents split what they send into frames of 4 KiB and messages of at
/// most a few hundred KiB; a longer one ends the tunnel.
pub const LONGEST_MESSAGE: usize = 1 << 20;

/// Whose half it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// A person's.
    Viewer(UserId),
    /// An agent's, in a tunnel that this user asked for.
    Agent(UserId),
}

impl Side {
    fn user(&self) -> &UserId {
        match self {
            Side::Viewer(user) | Side::Agent(user) => user,
        }
    }

    /// Two halves make a tunnel when one is the viewer's, the other the agent's, for the same user.
    fn fits(&self, other: &Side) -> bool {
        std::mem::discriminant(self) != std::mem::discriminant(other) && self.user() == other.user()
    }
}

/// One half of a tunnel.
#[derive(Clone, Debug)]
pub struct Half {
    /// Whose.
    pub side: Side,
    /// What both halves share.
    pub id: String,
    /// Protocol number, as the viewer's address says.
    pub protocol: Option<u16>,
    /// The device, as the address says.
    pub device: Option<DeviceId>,
    /// Where it connects from.
    pub remote: IpAddr,
}

/// Why a half was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody came for the other half.
    #[error("the other side did not come")]
    Alone,
    /// The id is taken by halves it does not fit.
    #[error("this tunnel belongs to somebody else")]
    Foreign,
    /// Too many tunnels.
    #[error("too many tunnels")]
    Full,
}

struct Waiting {
    side: Side,
    hand_over: oneshot::Sender<(Half, Box<Socket>)>,
}

/// All tunnels.
pub struct Relay {
    limit: usize,
    waiting: Mutex<HashMap<String, Waiting>>,
    held: AtomicUsize,
}

/// Counts a half while it is held.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Relay {
    /// A relay for at most `limit` tunnels.
    pub fn new(limit: usize) -> Relay {
        Relay { limit, waiting: Mutex::new(HashMap::new()), held: AtomicUsize::new(0) }
    }

    /// Tunnels running or waiting for their second half.
    pub fn count(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a half to its other half and, when this is the first one, serves the tunnel until it ends.
    ///
    /// # Errors
    /// [`JoinError`]; the socket is dropped then.
    pub async fn join(site: &Arc<Site>, half: Half, socket: Socket) -> Result<(), JoinError> {
        let relay = &site.relay;
        let waits = relay.waiting().remove(&half.id);
        let Some(first) = waits else { return Relay::wait(site, half, socket).await };
        if !first.side.fits(&half.side) {
            // A stranger must not be able to end somebody's tunnel by knowing its id.
            relay.waiting().insert(half.id.clone(), first);
            return Err(JoinError::Foreign);
        }
        first.hand_over.send((half, Box::new(socket))).map_err(|_| JoinError::Alone)
    }

    async fn wait(site: &Arc<Site>, half: Half, socket: Socket) -> Result<(), JoinError> {
        let relay = &site.relay;
        let held = Held(&relay.held);
        if relay.held.fetch_add(1, Ordering::Relaxed) >= relay.limit {
            return Err(JoinError::Full);
        }
        let (hand_over, handed) = oneshot::channel();
        let entry = Waiting { side: half.side.clone(), hand_over };
        if relay.waiting().insert(half.id.clone(), entry).is_some() {
            // Somebody with the same id came in between; both are lost, as neither can be told apart.
            relay.waiting().remove(&half.id);
            return Err(JoinError::Foreign);
        }
        let id = half.id.clone();
        let joined = timeout(PAIRING_TIME, handed).await;
        let Ok(Ok((second, second_socket))) = joined else {
            relay.waiting().remove(&id);
            return Err(JoinError::Alone);
        };
        let (viewer, agent) = match half.side {
            Side::Viewer(_) => ((half, socket), (second, *second_socket)),
            Side::Agent(_) => ((second, *second_socket), (half, socket)),
        };
        Box::pin(pump::run(site, viewer, agent)).await;
        drop(held);
        Ok(())
    }
}

/// Checks a tunnel's protocol against the rights on its device (tunnel-protocols §2).
///
/// # Errors
/// A text that names what is missing.
pub fn check_protocol(rights: Rights, protocol: Option<u16>) -> Result<(), &'static str> {
    let known = protocol.and_then(Protocol::from_number);
    if known.is_some_and(Protocol::is_terminal) && rights.restricted_by(Rights::NO_TERMINAL) {
        return Err("no terminal");
    }
    if matches!(protocol, Some(4 | 5 | 10)) && rights.restricted_by(Rights::NO_FILES) {
        return Err("no files");
    }
    if known == Some(Protocol::Desktop) {
        if rights.restricted_by(Rights::NO_DESKTOP) {
            return Err("no desktop");
        }
        if rights.intersects(Rights::REMOTE_CONTROL | Rights::VIEW_ONLY) {
            return Ok(());
        }
    }
    if rights.contains(Rights::REMOTE_CONTROL) { Ok(()) } else { Err("no remote control") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_need_their_rights() {
        let control = Rights::REMOTE_CONTROL;
        assert!(check_protocol(control, Some(1)).is_ok());
        for terminal in [1, 6, 8, 9] {
            assert!(check_protocol(control | Rights::NO_TERMINAL, Some(terminal)).is_err());
        }
        assert!(check_protocol(control | Rights::NO_FILES, Some(5)).is_err());
        assert!(check_protocol(control | Rights::NO_DESKTOP, Some(2)).is_err());
        assert!(check_protocol(Rights::VIEW_ONLY, Some(2)).is_ok());
        assert!(check_protocol(Rights::VIEW_ONLY, Some(1)).is_err());
        assert!(check_protocol(Rights::FULL, Some(1)).is_ok());
        assert!(check_protocol(Rights::NONE, None).is_err());
    }

    #[test]
    fn halves_fit_only_across_and_for_one_user() {
        let bob = UserId::from_name("", "bob").expect("an id");
        let eve = UserId::from_name("", "eve").expect("an id");
        assert!(Side::Viewer(bob.clone()).fits(&Side::Agent(bob.clone())));
        assert!(!Side::Viewer(bob.clone()).fits(&Side::Viewer(bob.clone())));
        assert!(!Side::Viewer(bob).fits(&Side::Agent(eve)));
    }
}
