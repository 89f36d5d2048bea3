//! What the service manager is told: that the server is ready, well or ending, and who is connected.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{examine, greeting, incidents};
use crate::site::Site;

/// How often the server is examined when the unit has no `WatchdogSec`; also the longest pause with one.
const PERIOD: Duration = Duration::from_secs(15);

/// Where systemd keeps the unit's `RuntimeDirectory`; the greeting for the screen is written there.
const RUNTIME_FOLDER: &str = "RUNTIME_DIRECTORY";

/// Examines the server again and again. It is reported ready once it is well, and the watchdog is fed only as
/// long as it stays so: a server that hangs is started again by systemd. Without a service manager it returns
/// at once.
pub async fn watch(site: Arc<Site>, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // Three examinations fit into the time after which systemd loses its patience.
    let period = sd_notify::watchdog_enabled().map_or(PERIOD, |limit| (limit / 3).min(PERIOD));
    let incidents = incidents::read(std::path::Path::new(incidents::FILE));
    for incident in &incidents {
        log::warn!("{}", incident.sentence);
    }
    let folder = std::env::var_os(RUNTIME_FOLDER);
    let mut greeting = folder.map(|folder| greeting::Greeting::new(folder.into(), incidents));
    let (mut ready, mut well) = (false, true);
    loop {
        let examined = tokio::select! {
            () = stop.cancelled() => break,
            examined = examine(&site) => examined,
        };
        match examined {
            Ok(()) => {
                if !well {
                    log::info!("the server is well again");
                }
                well = true;
                let status = status(&site);
                if !std::mem::replace(&mut ready, true) {
                    tell(&[NotifyState::Ready]);
                }
                tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
            }
            Err(illness) => {
                if std::mem::replace(&mut well, false) {
                    log::error!("the server is not well: {illness}");
                }
                tell(&[NotifyState::Status(&format!("not well: {illness}"))]);
            }
        }
        if let Some(greeting) = &mut greeting {
            greeting.refresh(&site);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(period) => {}
        }
    }
    tell(&[NotifyState::Stopping]);
}

fn status(site: &Site) -> String {
    let (agents, sessions) = (site.agents.count(), site.sessions.count());
    let devices = if agents == 1 { "device" } else { "devices" };
    format!("{agents} {devices} connected, {sessions} people's sessions")
}

/// A service manager that does not listen changes nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager could not be told: {error}");
    }
}
