//! Tunnels that are recorded.

use std::sync::Arc;
use std::time::Duration;

use outpost_wire::id::DeviceId;
use outpost_wire::websocket::{FrameHead, Opcode};
use serde_json::json;

use super::{Half, Purpose, Side, Viewer};
use crate::clock;
use crate::config::{OnFailure, SessionRecording};
use crate::model::{Device, User};
use crate::recordings::{self, Asked, Plan, Recording, Session, Tape, TapeError, Way};
use crate::site::Site;

/// How long a tunnel that cannot be recorded may take to come between two messages, where its viewer can be told.
const APOLOGY_TIME: Duration = Duration::from_secs(2);

/// One direction of a tunnel being written down.
pub(super) struct Recorder<'a> {
    pub(super) tape: &'a Tape,
    pub(super) way: Way,
}

impl Recorder<'_> {
    pub(super) async fn message(&self, opcode: Opcode, bytes: &[u8]) -> Result<(), TapeError> {
        self.tape.message(self.way, opcode == Opcode::Binary, bytes).await
    }

    /// The message that begins with this frame; more frames may follow.
    pub(super) async fn start(&self, head: FrameHead) -> Result<(), TapeError> {
        let known = head.last.then_some(head.length);
        self.tape.start(self.way, head.opcode == Opcode::Binary, known).await
    }
}

/// What becomes of a tunnel.
pub(super) fn plan(site: &Site, viewer: &Viewer, device: &DeviceId, purpose: &Purpose) -> Plan {
    let asked = match purpose {
        Purpose::Session(protocol) => Asked::Session(*protocol),
        Purpose::Port(_) => Asked::Port,
    };
    recordings::plan(&site.config, &site.store.directory(), &viewer.user, device, asked)
}

/// Begins the recording of a tunnel that is to be recorded.
///
/// # Errors
/// When it cannot be, and may not go on without.
pub(super) async fn begin(
    site: &Site,
    plan: Plan,
    viewer: &Half,
    agent: &Half,
) -> Result<Option<Arc<Tape>>, TapeError> {
    let (Plan::Record(policy), Side::Viewer(who), Some(device)) = (plan, &viewer.side, &viewer.device) else {
        return Ok(None);
    };
    let directory = site.store.directory();
    let named = |name: Option<&str>, key: &str| name.unwrap_or(key).to_owned();
    let user = directory.user(&who.user).map(|user: &Arc<User>| user.name.as_str());
    let called = directory.device(device).map(|device: &Arc<Device>| device.name.as_str());
    let session = Session {
        username: named(user, who.user.key()),
        devicename: named(called, device.key()),
        user: who.user.clone(),
        guest: who.guest.as_ref().map(|share| share.guest_name.clone()),
        id: viewer.id.clone(),
        viewer: viewer.remote,
        agent: agent.remote,
        protocol: viewer.purpose.protocol(),
        device: device.clone(),
        started: clock::now_ms(),
    };
    match site.recordings.begin(policy.clone(), session).await {
        Ok(tape) => Ok(Some(tape)),
        Err(error) => {
            log::warn!("a session with {called:?} cannot be recorded: {error}");
            match policy.on_failure {
                OnFailure::End => Err(error),
                OnFailure::Continue => Ok(None),
            }
        }
    }
}

/// What a viewer is told whose session ends because it cannot be recorded.
pub(super) fn apology(error: &TapeError) -> Vec<u8> {
    let words = format!("This session has to be recorded and cannot be: {error}");
    json!({ "ctrlChannel": "102938", "type": "console", "msg": words, "msgid": 0 }).to_string().into_bytes()
}

/// Returns when a tunnel may not go on, since it cannot be recorded any more.
pub(super) async fn kept(tape: Option<&Tape>) -> TapeError {
    let Some(tape) = tape else { return std::future::pending().await };
    let failure = tape.keep().await;
    tokio::time::sleep(APOLOGY_TIME).await;
    failure
}

/// Makes a recording whole and tells of it; the tunnel does not wait for that.
pub(super) fn finish(site: &Arc<Site>, tape: Option<Arc<Tape>>) {
    let Some(tape) = tape else { return };
    let site = site.clone();
    tokio::spawn(async move {
        match tape.finish().await {
            Ok(Some(recording)) => announce(&site, &recording).await,
            Ok(None) => {}
            Err(error) => log::error!("the recording {} is not whole: {error}", tape.name()),
        }
        let domains: Vec<&String> = site.config.domains.keys().collect();
        for domain in domains {
            retain(&site, domain).await;
        }
    });
}

async fn announce(site: &Site, recording: &Recording) {
    let event = recordings::finished_event(recording, &site.store.directory());
    site.events.announce(event).await;
}

/// Tells that a recording was removed, and why.
pub async fn announce_removed(site: &Site, recording: &Recording, why: &str, by: Option<&User>) {
    let event = recordings::removed_event(recording, why, &site.store.directory());
    let event = match by {
        Some(user) => event.by(user).to([user.id.as_str()]),
        None => event,
    };
    site.events.announce(event).await;
}

/// The domains that record, with what they keep.
fn recording_domains(site: &Site) -> impl Iterator<Item = (&str, &Arc<SessionRecording>)> {
    site.config
        .domains
        .iter()
        .filter_map(|(id, domain)| Some((id.as_str(), domain.session_recording.as_ref()?)))
}

async fn retain(site: &Site, domain: &str) {
    let Some(policy) = &site.config.domain(domain).session_recording else { return };
    match site.recordings.retain(policy, domain).await {
        Ok(removed) => {
            for one in removed {
                announce_removed(site, &one.recording, &one.why, None).await;
            }
        }
        Err(error) => log::warn!("old recordings could not be dropped: {error}"),
    }
}

/// Mends what an earlier run of the server left behind, and drops what is too old or too much.
pub async fn recover(site: &Site) {
    for (domain, policy) in recording_domains(site) {
        match site.recordings.recover(policy).await {
            Ok(recovered) => {
                for recording in recovered {
                    log::info!("the recording {} was cut off and is mended", recording.name);
                    announce(site, &recording).await;
                }
            }
            Err(error) => log::warn!("recordings could not be mended: {error}"),
        }
        retain(site, domain).await;
    }
}
