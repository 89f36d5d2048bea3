//! Shares: links by which a guest without an account gets at parts of one device for a while.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outpost_wire::id::{DeviceId, GroupId, UserId};
use outpost_wire::random;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::model::Rights;
use crate::store::{Durability, Store, StoreError};

/// What the id of a record begins with (data-formats §2.5).
const RECORD: &str = "deviceshare-";
/// Shares of one device.
pub const MOST: usize = 100;
const DAY: i64 = 86_400_000;

/// What is shared: bits of `p` (control-protocol §4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shared(pub u32);

impl Shared {
    /// A terminal.
    pub const TERMINAL: u32 = 1;
    /// The desktop.
    pub const DESKTOP: u32 = 2;
    /// Files.
    pub const FILES: u32 = 4;
    /// All that a guest's page can show.
    pub const SESSIONS: u32 = Shared::TERMINAL | Shared::DESKTOP | Shared::FILES;

    /// The protocol numbers that a guest may choose for an address with `p` (tunnel-protocols §2); empty when it
    /// is not shared.
    pub fn usages(self, protocol: u16) -> &'static [u16] {
        let has = |bit| self.0 & bit != 0;
        match protocol {
            1 | 6 | 8 | 9 if has(Shared::TERMINAL) => &[1, 6, 8, 9],
            2 if has(Shared::DESKTOP) => &[2],
            5 | 10 if has(Shared::FILES) => &[5, 10],
            _ => &[],
        }
    }

    /// What a guest may do, of what the person who shares may do.
    pub fn rights(self, view_only: bool, of: Rights) -> Rights {
        let without = |bit, restriction: Rights| if self.0 & bit == 0 { restriction.0 } else { 0 };
        let restrictions = if of.is_full() { 0 } else { of.0 & Rights::RESTRICTIONS.0 };
        Rights(
            Rights::REMOTE_CONTROL.0
                | restrictions
                | if view_only { Rights::VIEW_ONLY.0 } else { 0 }
                | without(Shared::TERMINAL, Rights::NO_TERMINAL)
                | without(Shared::DESKTOP, Rights::NO_DESKTOP)
                | without(Shared::FILES, Rights::NO_FILES),
        )
    }
}

/// A TCP port that is shared: of the device, or of a machine that it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPort {
    /// Port.
    pub port: NonZeroU16,
    /// Name or address as the device knows it; none is the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A share, as it stands in the store (data-formats §2.5). Times are Unix ms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceShare {
    /// `deviceshare-<public id>`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Group of the device.
    #[serde(rename = "xmeshid")]
    pub group: GroupId,
    /// The device.
    #[serde(rename = "nodeid")]
    pub device: DeviceId,
    /// What of it.
    #[serde(rename = "p")]
    pub shared: Shared,
    /// Domain.
    #[serde(default)]
    pub domain: String,
    /// What the link names.
    pub publicid: String,
    /// Who shares.
    pub userid: UserId,
    /// Whom with, in words.
    #[serde(rename = "guestName")]
    pub guest_name: String,
    /// Consent bits on top of the usual ones.
    #[serde(default)]
    pub consent: u32,
    /// The link.
    #[serde(default)]
    pub url: String,
    /// Beginning.
    #[serde(rename = "startTime", default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// End.
    #[serde(rename = "expireTime", default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<i64>,
    /// Minutes of each recurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u32>,
    /// 1 daily, 2 weekly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurring: Option<u8>,
    /// The desktop without input.
    #[serde(rename = "viewOnly", default, skip_serializing_if = "is_false")]
    pub view_only: bool,
    /// A TCP port. Outpost's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SharedPort>,
    /// Everything else (`port`, `extrakey`).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a share is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Until this moment, or for good.
    Open {
        /// Unix ms.
        until: Option<i64>,
    },
    /// Not yet, or between two recurrences.
    NotYet,
    /// Its time is over.
    Over,
}

impl DeviceShare {
    /// Whether the share is open at a moment, Unix ms.
    pub fn window(&self, now: i64) -> Window {
        let start = self.start.unwrap_or(i64::MIN);
        if let (Some(period), Some(minutes)) = (self.period(), self.duration) {
            if now < start {
                return Window::NotYet;
            }
            let into = now.saturating_sub(start).rem_euclid(period);
            let length = i64::from(minutes) * 60_000;
            return if into < length {
                Window::Open { until: Some(now - into + length) }
            } else {
                Window::NotYet
            };
        }
        match self.expire {
            Some(expire) if now >= expire => Window::Over,
            _ if now < start => Window::NotYet,
            until => Window::Open { until },
        }
    }

    fn period(&self) -> Option<i64> {
        match self.recurring {
            Some(1) => Some(DAY),
            Some(2) => Some(7 * DAY),
            _ => None,
        }
    }

    /// As people see it in lists; the link only for whoever made it.
    pub fn view(&self, for_user: &UserId) -> Map<String, Value> {
        let mut view = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        for internal in ["_id", "type", "nodeid", "xmeshid", "domain", "extrakey"] {
            view.remove(internal);
        }
        if *for_user != self.userid {
            view.remove("url");
        }
        view
    }
}

/// A new public id: 9 random bytes.
pub fn new_public_id() -> String {
    STANDARD.encode(random::bytes::<9>()).replace('/', "@").replace('+', "$")
}

/// The id of the record of a share.
pub fn record_id(publicid: &str) -> String {
    format!("{RECORD}{publicid}")
}

/// Every share of this server, in memory as in the store.
pub struct Shares {
    shares: RwLock<HashMap<String, Arc<DeviceShare>>>,
    changed: watch::Sender<()>,
}

impl Shares {
    /// Those in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(store: &Store) -> Result<Shares, StoreError> {
        let stored: Vec<(String, DeviceShare)> = store.with_prefix(RECORD).await?;
        let shares = stored.into_iter().map(|(_, share)| (share.publicid.clone(), Arc::new(share)));
        Ok(Shares { shares: RwLock::new(shares.collect()), changed: watch::Sender::new(()) })
    }

    /// The share with this public id.
    pub fn get(&self, publicid: &str) -> Option<Arc<DeviceShare>> {
        self.shares.read().unwrap_or_else(PoisonError::into_inner).get(publicid).cloned()
    }

    /// The shares that fit, oldest first; those whose time is over are left out. `now` is Unix ms.
    pub fn which(&self, now: i64, fits: impl Fn(&DeviceShare) -> bool) -> Vec<Arc<DeviceShare>> {
        let shares = self.shares.read().unwrap_or_else(PoisonError::into_inner);
        let mut which: Vec<_> = shares
            .values()
            .filter(|share| share.window(now) != Window::Over && fits(share))
            .cloned()
            .collect();
        which.sort_by(|a, b| (a.start, &a.publicid).cmp(&(b.start, &b.publicid)));
        which
    }

    /// Told whenever shares change; whoever holds a guest looks again then.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Adds a share, which is stored when this returns; the device's ended ones go.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added then.
    pub async fn add(
        &self,
        store: &Store,
        share: DeviceShare,
        now: i64,
    ) -> Result<Arc<DeviceShare>, StoreError> {
        self.remove(store, |other| other.device == share.device && other.window(now) == Window::Over).await?;
        store
            .write(Durability::Durable, |change| {
                change.put(&share.id, "deviceshare", &share);
                Ok::<_, StoreError>(())
            })
            .await?;
        let share = Arc::new(share);
        self.shares
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(share.publicid.clone(), share.clone());
        Ok(share)
    }

    /// Removes shares for good; their guests are cut off. Returns those that were there.
    ///
    /// # Errors
    /// [`StoreError`]; they stay then.
    pub async fn remove(
        &self,
        store: &Store,
        which: impl Fn(&DeviceShare) -> bool,
    ) -> Result<Vec<Arc<DeviceShare>>, StoreError> {
        let removed: Vec<_> = {
            let shares = self.shares.read().unwrap_or_else(PoisonError::into_inner);
            shares.values().filter(|share| which(share)).cloned().collect()
        };
        if removed.is_empty() {
            return Ok(removed);
        }
        store
            .write(Durability::Durable, |change| {
                for share in &removed {
                    change.delete(&share.id);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        {
            let mut shares = self.shares.write().unwrap_or_else(PoisonError::into_inner);
            for share in &removed {
                shares.remove(&share.publicid);
            }
        }
        self.changed.send_replace(());
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn share(fields: Value) -> DeviceShare {
        let key = "a".repeat(64);
        let mut record = json!({"_id":"deviceshare-0gtzTje+Ty2N","type":"deviceshare",
            "xmeshid":format!("mesh//{key}"),"nodeid":format!("node//{key}"),"p":3,"domain":"",
            "publicid":"0gtzTje+Ty2N","userid":"user//admin","guestName":"Guest1","consent":27,"port":null,
            "url":"https://box/sharing?c=x"});
        record.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        serde_json::from_value(record).expect("a share")
    }

    #[test]
    fn a_share_is_open_in_its_window_only() {
        let once = share(json!({ "startTime": 1000, "expireTime": 2000 }));
        assert_eq!(once.window(999), Window::NotYet);
        assert_eq!(once.window(1000), Window::Open { until: Some(2000) });
        assert_eq!(once.window(2000), Window::Over);
        assert_eq!(share(json!({})).window(5), Window::Open { until: None });
        let daily = share(json!({ "startTime": 1000, "duration": 60, "recurring": 1 }));
        assert_eq!(daily.window(0), Window::NotYet);
        let hour = 3_600_000;
        assert_eq!(daily.window(1000 + 3 * DAY), Window::Open { until: Some(1000 + 3 * DAY + hour) });
        assert_eq!(daily.window(1000 + 3 * DAY + hour), Window::NotYet);
        let weekly = share(json!({ "startTime": 1000, "duration": 60, "recurring": 2 }));
        assert_eq!(weekly.window(1000 + DAY), Window::NotYet);
        assert!(matches!(weekly.window(1000 + 7 * DAY), Window::Open { .. }));
    }

    #[test]
    fn a_guest_has_what_is_shared_and_no_more_than_the_host() {
        let desktop = Shared(Shared::DESKTOP);
        assert_eq!(desktop.usages(2), [2]);
        assert!(desktop.usages(1).is_empty() && desktop.usages(5).is_empty() && desktop.usages(7).is_empty());
        let rights = desktop.rights(true, Rights::FULL);
        assert!(rights.contains(Rights::REMOTE_CONTROL | Rights::VIEW_ONLY));
        assert!(rights.restricted_by(Rights::NO_TERMINAL) && rights.restricted_by(Rights::NO_FILES));
        assert!(!rights.restricted_by(Rights::NO_DESKTOP));
        let host = Rights::REMOTE_CONTROL | Rights::LIMITED_INPUT;
        assert!(Shared(7).rights(false, host).restricted_by(Rights::LIMITED_INPUT));
    }

    #[test]
    fn the_link_is_for_whoever_made_it() {
        let share = share(json!({ "viewOnly": true }));
        let (admin, eve) = ("admin", "eve");
        let id = |name| UserId::from_name("", name).expect("an id");
        assert!(share.view(&id(admin)).contains_key("url"));
        let view = share.view(&id(eve));
        assert!(!view.contains_key("url") && !view.contains_key("_id") && view["viewOnly"] == true);
    }
}
