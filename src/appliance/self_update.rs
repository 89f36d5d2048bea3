//! `selfUpdate`: once a day an index is looked at, and what it offers installed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::client::HelperError;
use super::fetch::{FetchError, Fetched};
use super::protocol::{Outcome, Request, Status};
use super::updates::{Turn, UpdateError, note};
use crate::config::{Url, Wanted};
use crate::site::Site;

/// Longest index, in bytes.
const LONGEST_INDEX: usize = 256 << 10;
/// The first look, when the box has found its network and time, and then once a day.
const FIRST: Duration = Duration::from_secs(10 * 60);
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked whether people are at work, before the restart.
const REST: Duration = Duration::from_secs(60);

/// What is offered, as somebody publishes it.
#[derive(Debug, Deserialize)]
struct Index {
    releases: Vec<Release>,
}

/// A release, with the address of its bundle for each kind of box, whole or relative to the index.
#[derive(Debug, Deserialize)]
struct Release {
    version: String,
    bundles: BTreeMap<String, String>,
}

/// Why nothing was looked at or installed.
#[derive(Debug, thiserror::Error)]
pub enum SelfUpdateError {
    /// The index is not there.
    #[error("the index could not be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// It is none.
    #[error("the index cannot be understood: {0}")]
    Index(#[from] serde_json::Error),
    /// The box cannot be asked.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// What it offers could not be installed.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// Numbers of a release, for comparison; none for what is not `1.2.3`.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let parts: Vec<u64> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// What is to be installed: the wanted release if it is another than runs, or the newest if it is newer. Never one
/// that is installed already, or that this box has given up.
fn choose<'i>(
    index: &'i Index,
    wanted: &Wanted,
    running: &str,
    status: &Status,
) -> Option<(&'i str, &'i str)> {
    let past = match &status.outcome {
        Some(Outcome::Waiting { version } | Outcome::RolledBack { version, .. }) => Some(version.as_str()),
        _ => None,
    };
    let fitting = index.releases.iter().filter_map(|release| {
        let bundle = release.bundles.get(&status.compatible)?;
        Some((release.version.as_str(), bundle.as_str()))
    });
    let chosen = match wanted {
        Wanted::Never => None,
        Wanted::Release(version) => fitting.into_iter().find(|(offered, _)| offered == version),
        Wanted::Newest => fitting
            .filter(|(offered, _)| numbers(offered) > numbers(running))
            .max_by_key(|(offered, _)| numbers(offered)),
    };
    chosen.filter(|(version, _)| *version != running && Some(*version) != past)
}

/// Looks once a day, until `stop`. Without an address, without the wish, or without a box it ends at once.
pub async fn keep_up(site: Arc<Site>, stop: CancellationToken) {
    let settings = &site.config.settings.self_update;
    let Some(url) = settings.url.clone().filter(|_| settings.wanted != Wanted::Never) else { return };
    let work = async {
        tokio::time::sleep(FIRST).await;
        loop {
            match look(&site, &url).await {
                Ok(Some(version)) => {
                    restart(&site, &version).await;
                    return;
                }
                Ok(None) => {}
                Err(SelfUpdateError::Helper(HelperError::NoBox)) => {
                    log::warn!("selfUpdate has no effect: this is no box; update it by its package manager");
                    return;
                }
                Err(error) => log::warn!("selfUpdate: {error}"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Looks at an index and installs what is to be; gives its release.
///
/// # Errors
/// [`SelfUpdateError`]; nothing was changed then.
pub async fn look(site: &Arc<Site>, url: &Url) -> Result<Option<String>, SelfUpdateError> {
    let Some(status) = site.appliance.helper.status().await? else { return Err(HelperError::NoBox.into()) };
    let index = Fetched::get(url).await?.whole(LONGEST_INDEX).await?;
    let index: Index = serde_json::from_slice(&index)?;
    let wanted = &site.config.settings.self_update.wanted;
    let Some((version, bundle)) = choose(&index, wanted, env!("CARGO_PKG_VERSION"), &status) else {
        return Ok(None);
    };
    let bundle = url.join(bundle).map_err(FetchError::from)?;
    log::info!("selfUpdate installs {version} from {bundle}");
    Ok(Some(Turn::take(site, None)?.of_url(&bundle, Some(version.to_owned())).await?))
}

/// Restarts once nobody is connected to a device.
async fn restart(site: &Site, version: &str) {
    while site.relay.count() + site.tunnels.devices_count() > 0 {
        tokio::time::sleep(REST).await;
    }
    note(site, None, format!("Restarting into {version}")).await;
    if let Err(error) = site.appliance.helper.perform(&Request::Restart).await {
        log::error!("the box could not be restarted: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::protocol::Slot;

    fn status(outcome: Option<Outcome>) -> Status {
        Status {
            compatible: "outpost-rpi-arm64".into(),
            booted: Slot::A,
            confirmed: true,
            slots: Vec::new(),
            outcome,
            incidents: Vec::new(),
            installing: false,
            synchronised: true,
        }
    }

    fn index() -> Index {
        serde_json::from_value(serde_json::json!({ "releases": [
            { "version": "0.9.0", "bundles": { "outpost-rpi-arm64": "old.raucb" } },
            { "version": "0.10.1", "bundles": { "outpost-rpi-arm64": "new.raucb", "outpost-rpi-armhf": "x" } },
            { "version": "0.11.0", "bundles": { "outpost-rpi-armhf": "other.raucb" } },
            { "version": "nightly", "bundles": { "outpost-rpi-arm64": "odd.raucb" } },
        ] }))
        .expect("an index")
    }

    #[test]
    fn the_newest_that_fits_is_chosen_and_never_an_older_one() {
        let index = index();
        let newest = |running| choose(&index, &Wanted::Newest, running, &status(None));
        assert_eq!(newest("0.9.0"), Some(("0.10.1", "new.raucb")));
        assert_eq!(newest("0.10.1"), None);
        assert_eq!(newest("0.12.0"), None, "never back");
        assert_eq!(choose(&index, &Wanted::Never, "0.1.0", &status(None)), None);
    }

    #[test]
    fn a_release_that_is_asked_for_by_name_may_be_older() {
        let index = index();
        let named =
            |version: &str, running| choose(&index, &Wanted::Release(version.into()), running, &status(None));
        assert_eq!(named("0.9.0", "0.10.1"), Some(("0.9.0", "old.raucb")));
        assert_eq!(named("0.9.0", "0.9.0"), None);
        assert_eq!(named("0.11.0", "0.9.0"), None, "not for this board");
    }

    #[test]
    fn what_was_given_up_is_not_tried_again_every_day() {
        let version = "0.10.1".to_owned();
        let back = Outcome::RolledBack { version, to: "0.9.0".into(), reason: None, at: 0 };
        assert_eq!(choose(&index(), &Wanted::Newest, "0.9.0", &status(Some(back))), None);
    }
}
