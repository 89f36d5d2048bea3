//! What others learn of a tunnel: the event log, and the list of who is connected to a device now.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::sync::watch;

use super::{Half, Purpose, Side, Viewer};
use crate::live::TunnelKind;
use crate::model::Event;
use crate::recordings::TapeError;
use crate::site::Site;

/// One tunnel in the log (tunnel-protocols §1.13) and in the list of who is connected, until it is dropped.
pub(super) struct Journal {
    site: Arc<Site>,
    viewer: Half,
    agent: IpAddr,
    since: Instant,
    /// What the tunnel is for: by its address, or by what its viewer chose in it.
    purpose: watch::Sender<Option<Purpose>>,
    started: AtomicBool,
    /// As what its viewer is counted.
    counted: Mutex<Option<TunnelKind>>,
}

impl Journal {
    /// Of a tunnel that has both halves.
    pub(super) fn new(site: &Arc<Site>, viewer: &Half, agent: &Half) -> Journal {
        let known = (viewer.purpose != Purpose::Session(None)).then(|| viewer.purpose.clone());
        Journal {
            site: site.clone(),
            viewer: viewer.clone(),
            agent: agent.remote,
            since: Instant::now(),
            purpose: watch::Sender::new(known),
            started: AtomicBool::new(false),
            counted: Mutex::new(None),
        }
    }

    /// What the tunnel is for, as far as that is known.
    pub(super) fn purpose(&self) -> Purpose {
        self.purpose.borrow().clone().unwrap_or(Purpose::Session(None))
    }

    /// Notes what was chosen in a tunnel whose address does not say what it is for: a protocol, or none of them.
    pub(super) fn decide(&self, protocol: Option<u16>) {
        self.purpose.send_if_modified(|purpose| {
            let fresh = purpose.is_none();
            purpose.get_or_insert(Purpose::Session(protocol));
            fresh
        });
    }

    /// Says that it began, as soon as it is known as what.
    pub(super) async fn begin(&self) {
        if self.purpose.subscribe().wait_for(Option::is_some).await.is_ok() {
            self.started().await;
        }
    }

    async fn started(&self) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        self.count();
        let (kind, msgid, _) = self.words();
        let (viewer, agent) = (self.viewer.remote.to_string(), self.agent.to_string());
        let text = format!("Started a {kind} session from {viewer} to {agent}{}", self.target());
        self.site.events.announce(self.event().says(msgid, &[&self.viewer.id, &viewer, &agent], text)).await;
    }

    /// The session ended, or goes on, without being recorded as it should.
    pub(super) async fn unrecorded(&self, failure: &TapeError) {
        let event = self.event().with("msg", format!("The session could not be recorded: {failure}"));
        self.site.events.announce(event).await;
    }

    /// Says that it ended, with the bytes that came from the viewer and from the device.
    pub(super) async fn ended(&self, bytes_in: u64, bytes_out: u64) {
        // One in which nothing was ever chosen is in the log too.
        self.started().await;
        let (kind, _, msgid) = self.words();
        let (viewer, agent) = (self.viewer.remote.to_string(), self.agent.to_string());
        let seconds = self.since.elapsed().as_secs().to_string();
        let target = self.target();
        let text = format!("Ended a {kind} session from {viewer} to {agent}{target} after {seconds} s");
        let event = self
            .event()
            .says(msgid, &[&self.viewer.id, &viewer, &agent, &seconds], text)
            .with("bytesin", bytes_in)
            .with("bytesout", bytes_out);
        self.site.events.announce(event).await;
    }

    fn kind(&self) -> TunnelKind {
        self.purpose().kind().unwrap_or(TunnelKind::Tcp)
    }

    /// What it is called, and the numbers of its beginning and its end.
    fn words(&self) -> (&'static str, u32, u32) {
        match self.kind() {
            TunnelKind::Terminal => ("terminal", 14, 10),
            TunnelKind::Desktop => ("desktop", 15, 11),
            TunnelKind::Files => ("files", 16, 12),
            TunnelKind::Tcp | TunnelKind::Udp => ("relay", 13, 9),
        }
    }

    /// Which port, in words.
    fn target(&self) -> String {
        match self.purpose() {
            Purpose::Port(target) => format!(", {target}"),
            Purpose::Session(_) => String::new(),
        }
    }

    fn event(&self) -> Event {
        let user = self.viewer.side.user();
        let directory = self.site.store.directory();
        let name = directory.user(user).map_or_else(|| user.key().to_owned(), |user| user.name.clone());
        let event = Event::new("relay", "relaylog", user.domain())
            .with("userid", user.as_str())
            .with("username", name)
            .with("remoteaddr", self.viewer.remote.to_string())
            .with("protocol", self.purpose().protocol())
            .to(["*", user.as_str()]);
        let event = match &self.viewer.side {
            Side::Viewer(Viewer { guest: Some(share), .. }) => {
                event.with("guestname", share.guest_name.as_str())
            }
            _ => event,
        };
        match self.viewer.device.as_ref().and_then(|id| directory.device(id)) {
            Some(device) => event.on_device(&device.id).to_device(device, &directory),
            None => event,
        }
    }

    /// Under which name the viewer is counted: a guest is not the user who shares (tunnel-protocols §11.2).
    fn seat(&self) -> String {
        let user = self.viewer.side.user().as_str();
        match &self.viewer.side {
            Side::Viewer(Viewer { guest: Some(share), .. }) => {
                format!("{user}/guest:{}", STANDARD.encode(&share.guest_name))
            }
            _ => user.to_owned(),
        }
    }

    /// Counts the viewer as what the tunnel is for.
    fn count(&self) {
        self.recount(self.purpose.borrow().is_some().then(|| self.kind()));
    }

    fn recount(&self, kind: Option<TunnelKind>) {
        let Some(device) = &self.viewer.device else { return };
        let (open, seat) = (&self.site.tunnels, self.seat());
        let before = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *counted, kind)
        };
        if before == kind {
            return;
        }
        if let Some(kind) = kind {
            open.add(device, kind, &seat);
        }
        if let Some(before) = before {
            open.remove(device, before, &seat);
        }
        self.site.show_sessions(device);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.recount(None);
    }
}
