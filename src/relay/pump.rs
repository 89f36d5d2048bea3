//! Copying between the two halves of a tunnel.
//!
//! One message at a time in each direction: the next is read only when the last has gone to the kernel, so a
//! slow reader slows its writer down and the server holds at most one message a direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use outpost_wire::tunnel::{JOINED, Protocol};
use tokio::time::timeout;
use tokio_websockets::Message;

use super::{Half, Socket, check_protocol};
use crate::model::Event;
use crate::site::Site;

/// How long a half may take to take one message before its tunnel is ended.
const STUCK: Duration = Duration::from_secs(300);
/// How often the viewer's rights are looked at again.
const RIGHTS_CHECK: Duration = Duration::from_secs(5);

/// Serves a tunnel until either half ends it, or the viewer loses the right to it.
pub(super) async fn run(site: &Arc<Site>, viewer: (Half, Socket), agent: (Half, Socket)) {
    let (viewer_half, viewer_socket) = viewer;
    let (agent_half, agent_socket) = agent;
    let log = TunnelLog { site, viewer: &viewer_half, agent: &agent_half, started: Instant::now() };
    let (mut to_viewer, from_viewer) = viewer_socket.split();
    let (mut to_agent, from_agent) = agent_socket.split();
    let joined = async {
        to_viewer.send(Message::text(JOINED)).await?;
        to_agent.send(Message::text(JOINED)).await
    };
    if !matches!(timeout(STUCK, joined).await, Ok(Ok(()))) {
        return;
    }
    log.started().await;
    let (bytes_in, bytes_out) = (AtomicU64::new(0), AtomicU64::new(0));
    tokio::select! {
        () = copy(from_viewer, &mut to_agent, &bytes_in) => {}
        () = copy(from_agent, &mut to_viewer, &bytes_out) => {}
        () = until_forbidden(site, &viewer_half) => {
            log::info!(
                target: "relay", USER_ID:% = viewer_half.side.user(), REMOTE:% = viewer_half.remote;
                "a tunnel of {} was ended: the rights are gone", viewer_half.side.user()
            );
        }
    }
    let closing = async { tokio::join!(to_viewer.close(), to_agent.close()) };
    // Whoever does not even take the closing frame is dropped.
    let _ = timeout(Duration::from_secs(2), closing).await;
    log.ended(bytes_in.into_inner(), bytes_out.into_inner()).await;
}

async fn copy(mut from: SplitStream<Socket>, to: &mut SplitSink<Socket, Message>, count: &AtomicU64) {
    while let Some(Ok(message)) = from.next().await {
        if message.is_close() {
            return;
        }
        if message.is_text() || message.is_binary() {
            count.fetch_add(message.as_payload().len() as u64, Ordering::Relaxed);
            if !matches!(timeout(STUCK, to.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

async fn until_forbidden(site: &Arc<Site>, viewer: &Half) {
    loop {
        tokio::time::sleep(RIGHTS_CHECK).await;
        let Some(device) = &viewer.device else { return };
        let rights = site.access(viewer.side.user()).and_then(|access| access.device_rights(device));
        if rights.is_none_or(|rights| check_protocol(rights, viewer.protocol).is_err()) {
            return;
        }
    }
}

/// What the log says of a tunnel (tunnel-protocols §1.13).
struct TunnelLog<'a> {
    site: &'a Site,
    viewer: &'a Half,
    agent: &'a Half,
    started: Instant,
}

impl TunnelLog<'_> {
    fn kind(&self) -> (&'static str, u32, u32) {
        match self.viewer.protocol.and_then(Protocol::from_number) {
            Some(protocol) if protocol.is_terminal() => ("terminal", 14, 10),
            Some(Protocol::Desktop) => ("desktop", 15, 11),
            Some(Protocol::Files) => ("files", 16, 12),
            _ => ("relay", 13, 9),
        }
    }

    fn event(&self) -> Event {
        let user = self.viewer.side.user();
        let directory = self.site.store.directory();
        let name = directory.user(user).map_or_else(|| user.key().to_owned(), |user| user.name.clone());
        let event = Event::new("relay", "relaylog", user.domain())
            .with("userid", user.as_str())
            .with("username", name)
            .with("protocol", self.viewer.protocol)
            .to(["*", user.as_str()]);
        match self.viewer.device.as_ref().and_then(|id| directory.device(id)) {
            Some(device) => event.on_device(&device.id).to_device(device, &directory),
            None => event,
        }
    }

    async fn started(&self) {
        let (kind, msgid, _) = self.kind();
        let (viewer, agent) = (self.viewer.remote.to_string(), self.agent.remote.to_string());
        let text = format!("Started a {kind} session from {viewer} to {agent}");
        self.site.events.announce(self.event().says(msgid, &[&self.viewer.id, &viewer, &agent], text)).await;
    }

    async fn ended(&self, bytes_in: u64, bytes_out: u64) {
        let (kind, _, msgid) = self.kind();
        let (viewer, agent) = (self.viewer.remote.to_string(), self.agent.remote.to_string());
        let seconds = self.started.elapsed().as_secs().to_string();
        let text = format!("Ended a {kind} session from {viewer} to {agent} after {seconds} s");
        let event = self
            .event()
            .says(msgid, &[&self.viewer.id, &viewer, &agent, &seconds], text)
            .with("bytesin", bytes_in)
            .with("bytesout", bytes_out);
        self.site.events.announce(event).await;
    }
}
