//! Tunnels: the half of a viewer and the half of an agent, brought together by an id and copied.

mod address;
mod download;
mod frames;
mod input;
mod journal;
mod ports;
mod pump;
mod recorder;
mod request;

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
use tokio_util::sync::CancellationToken;

use crate::auth::DeviceShare;
use crate::auth::shares::Window;
use crate::clock;
use crate::live::TunnelKind;
use crate::model::Rights;
use crate::site::Site;

pub use address::{TunnelAddressError, TunnelUrl, new_id};
pub use download::DownloadSession;
pub use ports::{PortError, PortKind, PortTarget};
pub use recorder::{announce_removed, recover};
pub use request::{AskError, TunnelRequest};

/// A half's connection, after the upgrade to a WebSocket.
pub type Stream = TokioIo<Upgraded>;

/// How long the first half waits for the second (tunnel-protocols §1.6).
pub const PAIRING_TIME: Duration = Duration::from_secs(15);

/// A person at a tunnel.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Whose rights it is by.
    pub user: UserId,
    /// The share, when it is a guest of that user.
    pub guest: Option<Arc<DeviceShare>>,
}

/// Whose half it is.
#[derive(Clone, Debug)]
pub enum Side {
    /// A person's.
    Viewer(Viewer),
    /// An agent's, in a tunnel that this user asked for.
    Agent(UserId),
}

impl Side {
    fn user(&self) -> &UserId {
        match self {
            Side::Viewer(viewer) => &viewer.user,
            Side::Agent(user) => user,
        }
    }

    /// Two halves make a tunnel when one is the viewer's, the other the agent's, for the same user.
    fn fits(&self, other: &Side) -> bool {
        std::mem::discriminant(self) != std::mem::discriminant(other) && self.user() == other.user()
    }
}

/// What a tunnel is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session of the agent: terminal, desktop, files; the protocol number as the viewer's address says.
    Session(Option<u16>),
    /// A port.
    Port(PortTarget),
}

impl Purpose {
    /// What it is to those who look on; none while that is not known, or of protocols that are none of these.
    fn kind(&self) -> Option<TunnelKind> {
        match self {
            Purpose::Port(PortTarget { kind: PortKind::Tcp, .. }) => Some(TunnelKind::Tcp),
            Purpose::Port(PortTarget { kind: PortKind::Udp, .. }) => Some(TunnelKind::Udp),
            Purpose::Session(protocol) => match Protocol::from_number((*protocol)?)? {
                Protocol::Desktop => Some(TunnelKind::Desktop),
                Protocol::LegacyFiles | Protocol::Files | Protocol::FileTransfer => Some(TunnelKind::Files),
                protocol => protocol.is_terminal().then_some(TunnelKind::Terminal),
            },
        }
    }

    /// The protocol number for the log.
    pub fn protocol(&self) -> Option<u16> {
        match self {
            Purpose::Session(protocol) => *protocol,
            Purpose::Port(_) => None,
        }
    }
}

/// One half of a tunnel.
#[derive(Clone, Debug)]
pub struct Half {
    /// Whose.
    pub side: Side,
    /// What both halves share.
    pub id: String,
    /// What for; of the viewer's half.
    pub purpose: Purpose,
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

type HandOver = oneshot::Sender<(Half, Stream)>;

struct Waiting {
    side: Side,
    hand_over: HandOver,
}

/// All tunnels.
pub struct Relay {
    limit: usize,
    waiting: Mutex<HashMap<String, Waiting>>,
    held: AtomicUsize,
    stopping: CancellationToken,
}

/// A place for one tunnel, waiting for its other half.
pub struct Expected<'a> {
    relay: &'a Relay,
    id: String,
    handed: oneshot::Receiver<(Half, Stream)>,
}

impl Expected<'_> {
    /// Waits for the other half.
    ///
    /// # Errors
    /// [`JoinError::Alone`].
    pub async fn other(&mut self, patience: Duration) -> Result<(Half, Stream), JoinError> {
        tokio::select! {
            handed = timeout(patience, &mut self.handed) => match handed {
                Ok(Ok(other)) => Ok(other),
                _ => Err(JoinError::Alone),
            },
            () = self.relay.stopping.cancelled() => Err(JoinError::Alone),
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.handed.close();
        let mut waiting = self.relay.waiting();
        // Somebody else may have come with the same id since.
        if waiting.get(&self.id).is_some_and(|entry| entry.hand_over.is_closed()) {
            waiting.remove(&self.id);
        }
        self.relay.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Relay {
    /// A relay for at most `limit` tunnels.
    pub fn new(limit: usize) -> Relay {
        Relay {
            limit,
            waiting: Mutex::new(HashMap::new()),
            held: AtomicUsize::new(0),
            stopping: CancellationToken::new(),
        }
    }

    /// Tunnels running or waiting for their second half.
    pub fn count(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Ends all of them, and those to come.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Returns when the server stops.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a tunnel with this id and side, before its other half can come.
    ///
    /// # Errors
    /// [`JoinError::Full`], [`JoinError::Foreign`] when the id is taken.
    pub fn expect(&self, id: &str, side: Side) -> Result<Expected<'_>, JoinError> {
        let (hand_over, handed) = oneshot::channel();
        let mut waiting = self.waiting();
        if self.held.load(Ordering::Relaxed) >= self.limit {
            return Err(JoinError::Full);
        }
        if waiting.contains_key(id) {
            return Err(JoinError::Foreign);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        waiting.insert(id.to_owned(), Waiting { side, hand_over });
        Ok(Expected { relay: self, id: id.to_owned(), handed })
    }

    /// Joins a half to its other half and, when this is the first one, serves the tunnel until it ends.
    ///
    /// # Errors
    /// [`JoinError`]; the connection is dropped then.
    pub async fn join(site: &Arc<Site>, half: Half, stream: Stream) -> Result<(), JoinError> {
        let relay = &site.relay;
        let first = {
            let mut waiting = relay.waiting();
            match waiting.get(&half.id) {
                // A stranger must not be able to end somebody's tunnel by knowing its id.
                Some(first) if !first.side.fits(&half.side) => return Err(JoinError::Foreign),
                Some(_) => waiting.remove(&half.id),
                None => None,
            }
        };
        if let Some(first) = first {
            return first.hand_over.send((half, stream)).map_err(|_| JoinError::Alone);
        }
        let mut expected = relay.expect(&half.id, half.side.clone())?;
        let other = expected.other(PAIRING_TIME).await?;
        Relay::serve(site, (half, stream), other).await;
        Ok(())
    }

    /// Copies between the halves of a tunnel until it ends.
    pub async fn serve(site: &Arc<Site>, one: (Half, Stream), other: (Half, Stream)) {
        let (viewer, agent) = match one.0.side {
            Side::Viewer(_) => (one, other),
            Side::Agent(_) => (other, one),
        };
        Box::pin(pump::run(site, viewer, agent)).await;
    }
}

/// What a viewer may do in a tunnel, now.
///
/// # Errors
/// In words: what is missing.
pub fn viewer_rights(
    site: &Site,
    viewer: &Viewer,
    device: &DeviceId,
    purpose: &Purpose,
) -> Result<Rights, &'static str> {
    let access = site.access(&viewer.user).ok_or("the account is gone")?;
    let (_, rights) = access.device(device, Rights::NONE).map_err(|_| "no such device")?;
    let Some(share) = &viewer.guest else {
        match purpose {
            Purpose::Session(protocol) => check_protocol(rights, *protocol)?,
            Purpose::Port(_) if rights.intersects(Rights::REMOTE_CONTROL | Rights::RELAY) => {}
            Purpose::Port(_) => return Err("no remote control"),
        }
        return Ok(rights);
    };
    let share = site.shares.get(&share.publicid).ok_or("the share was removed")?;
    if share.device != *device || !matches!(share.window(clock::now_ms()), Window::Open { .. }) {
        return Err("the share is not open now");
    }
    if !rights.contains(Rights::REMOTE_CONTROL) {
        return Err("whoever shares has no remote control");
    }
    let is_shared = match purpose {
        Purpose::Session(Some(protocol)) => !share.shared.usages(*protocol).is_empty(),
        Purpose::Session(None) => false,
        Purpose::Port(target) => {
            share.tcp.as_ref().and_then(|port| PortTarget::shared(port).ok()).as_ref() == Some(target)
        }
    };
    if !is_shared {
        return Err("this is not shared");
    }
    let rights = share.shared.rights(share.view_only, rights);
    check_protocol(rights, purpose.protocol())?;
    Ok(rights)
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
        let viewer = || Side::Viewer(Viewer { user: bob.clone(), guest: None });
        assert!(viewer().fits(&Side::Agent(bob.clone())));
        assert!(!viewer().fits(&viewer()));
        assert!(!viewer().fits(&Side::Agent(eve)));
    }
}
