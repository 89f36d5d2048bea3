//! Shares of devices with guests (control-protocol §4.9, tunnel-protocols §11).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::auth::DeviceShare;
use crate::auth::shares::{self, Shared, SharedPort};
use crate::clock;
use crate::model::{Device, Event, Rights, User};
use crate::relay::PortTarget;

/// Longest name of a guest, in characters.
const LONGEST_NAME: usize = 128;
/// Longest life of a share, in minutes: ten years. Beyond that `expire: 0` is meant.
const LONGEST: f64 = 10.0 * 365.0 * 1440.0;
/// Shared web pages, which need the web relay (control-protocol §4.9).
const WEB_PORTS: u64 = 8 | 16;

/// `createDeviceShareLink`. What is echoed is the request itself, so all of it is kept.
#[derive(Deserialize)]
pub struct CreateShare {
    #[serde(flatten)]
    request: Map<String, Value>,
}

/// When a share is open, Unix ms and minutes.
struct Times {
    start: i64,
    expire: Option<i64>,
    duration: Option<u32>,
    recurring: Option<u8>,
}

fn times(request: &Map<String, Value>, now: i64) -> Result<Times, Refusal> {
    let number = |name: &str, refusal: &str| match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| *number >= 0.0 && *number < 1e11);
            number.map(Some).ok_or_else(|| Refusal::new(refusal))
        }
    };
    let expire = number("expire", "Invalid expire time")?;
    if expire.is_some_and(|minutes| minutes > LONGEST) {
        return Err(Refusal::new("Invalid expire time"));
    }
    let start = number("start", "Invalid start time")?;
    let end = number("end", "Invalid end time")?;
    let recurring = number("recurring", "Invalid recurring value")?;
    // Below 1e11 seconds or minutes these are exact.
    let seconds = |number: f64| (number * 1000.0) as i64;
    let minutes = |number: f64| (number * 60_000.0) as i64;
    match (recurring, start, end, expire) {
        (Some(recurring), start, _, expire) => {
            let recurring = match recurring as u8 {
                kind @ (1 | 2) if f64::from(kind) == recurring => kind,
                _ => return Err(Refusal::new("Invalid recurring value")),
            };
            let (Some(start), Some(expire)) = (start, expire.filter(|minutes| *minutes >= 1.0)) else {
                return Err(Refusal::new("Invalid recurring command"));
            };
            Ok(Times {
                start: seconds(start),
                expire: None,
                duration: Some(expire as u32),
                recurring: Some(recurring),
            })
        }
        (None, Some(start), Some(end), _) => {
            if end <= start {
                return Err(Refusal::new("Invalid end time"));
            }
            Ok(Times { start: seconds(start), expire: Some(seconds(end)), duration: None, recurring: None })
        }
        (None, Some(_), None, None) => Err(Refusal::new("Invalid end time")),
        (None, None, Some(_), None) => Err(Refusal::new("Invalid start time")),
        (None, _, _, Some(expire)) => {
            let expire = (expire > 0.0).then(|| now + minutes(expire));
            Ok(Times { start: now, expire, duration: None, recurring: None })
        }
        (None, None, None, None) => Err(Refusal::new("No time specified")),
    }
}

/// A device that the user may share; refusals as MeshCentral words them.
fn device_of(context: &Context, id: Option<&Value>) -> Result<(Arc<Device>, Rights), Refusal> {
    let id = id.and_then(Value::as_str).filter(|id| (8..=128).contains(&id.len()));
    let id = id.ok_or_else(|| Refusal::new("Invalid node id"))?;
    context.device(id, Rights::NONE).map_err(|refusal| match refusal.text.as_str() {
        "Invalid nodeid" => Refusal::new("Invalid node id"),
        _ => refusal,
    })
}

fn may_share(rights: Rights) -> bool {
    rights.is_full()
        || (rights.contains(Rights::REMOTE_CONTROL | Rights::GUEST_SHARING)
            && !rights.restricted_by(Rights::LIMITED_INPUT))
}

/// The port to be shared: `{"port": 22, "host": "…"}`, Outpost's own.
fn port_of(asked: Option<&Value>) -> Result<Option<SharedPort>, Refusal> {
    let Some(asked) = asked.filter(|asked| !asked.is_null()) else { return Ok(None) };
    let mut port: SharedPort = serde_json::from_value(asked.clone())
        .map_err(|_| Refusal::new("tcp: expected a port from 1 to 65535 and perhaps a host"))?;
    port.host = port.host.filter(|host| !host.is_empty());
    PortTarget::shared(&port).map_err(|_| Refusal::new("tcp: expected a name or address as host"))?;
    Ok(Some(port))
}

/// Makes a link by which a guest gets at parts of a device.
///
/// # Errors
/// Texts of control-protocol §4.9.
pub async fn create(context: &Context, request: CreateShare) -> Result<Answer, Refusal> {
    let CreateShare { mut request } = request;
    let (device, rights) = device_of(context, request.get("nodeid"))?;
    let guest = request.get("guestname").and_then(Value::as_str).map(str::trim);
    let guest = guest.filter(|name| (1..=LONGEST_NAME).contains(&name.chars().count()));
    let guest = guest.ok_or_else(|| Refusal::new("Invalid guest name"))?.to_owned();
    let tcp = port_of(request.get("tcp"))?;
    let fewest = u64::from(tcp.is_none());
    let p = request.get("p").and_then(Value::as_u64).filter(|p| (fewest..=31).contains(p));
    let p = p.ok_or_else(|| Refusal::new("Invalid protocol"))?;
    if p & WEB_PORTS != 0 {
        return Err(Refusal::new(
            "Invalid protocol: this server has no web relay; share the port itself by `tcp`",
        ));
    }
    let consent = request.get("consent").and_then(Value::as_u64).filter(|consent| *consent <= 256);
    let consent = consent.ok_or_else(|| Refusal::new("Invalid flags"))?;
    let now = clock::now_ms();
    let times = times(&request, now)?;
    if !may_share(rights) {
        return Err(Refusal::new("Access denied").with("action", "deviceShares"));
    }
    // Nobody shares what they do not have.
    let shared = u32::try_from(p).expect("at most 31") & Shared::SESSIONS;
    for (bit, restriction) in [
        (Shared::TERMINAL, Rights::NO_TERMINAL),
        (Shared::DESKTOP, Rights::NO_DESKTOP),
        (Shared::FILES, Rights::NO_FILES),
    ] {
        if shared & bit != 0 && rights.restricted_by(restriction) {
            return Err(Refusal::new("Access denied").with("action", "deviceShares"));
        }
    }
    let view_only = request.get("viewOnly").and_then(Value::as_bool).unwrap_or(false)
        || rights.restricted_by(Rights::VIEW_ONLY);
    let site = &context.site;
    if site.shares.which(now, |share| share.device == device.id).len() >= shares::MOST {
        return Err(Refusal::new(format!("A device has at most {} shares", shares::MOST)));
    }
    let user = context.user()?;
    let publicid = shares::new_public_id();
    let cookie = json!({ "a": 6, "pid": publicid, "expire": 0 });
    let cookie = outpost_wire::cookie::seal(&site.keys.invitation, &cookie, clock::now_seconds());
    let share = DeviceShare {
        id: shares::record_id(&publicid),
        group: device.group.clone(),
        device: device.id.clone(),
        shared: Shared(shared),
        domain: context.domain().to_owned(),
        publicid,
        userid: user.id.clone(),
        guest_name: guest,
        consent: u32::try_from(consent).expect("at most 256"),
        url: format!("https://{}/sharing?c={cookie}", context.host),
        // A share without an end has no beginning to show either.
        start: (times.expire.is_some() || times.recurring.is_some()).then_some(times.start),
        expire: times.expire,
        duration: times.duration,
        recurring: times.recurring,
        view_only,
        tcp,
        extra: Map::new(),
    };
    let share = site.shares.add(&site.store, share, now).await?;
    announce_added(context, &user, &device, &share).await;
    announce_list(context, &device).await;
    request.insert("start".into(), times.start.into());
    if times.recurring.is_none() {
        request.insert("expire".into(), share.expire.map_or(json!(0), Value::from));
    }
    request.insert("viewOnly".into(), view_only.into());
    request.insert("url".into(), share.url.as_str().into());
    request.insert("publicid".into(), share.publicid.as_str().into());
    if context.response_id.is_some() {
        request.insert("result".into(), "OK".into());
    }
    Ok(Answer::Body(request))
}

async fn announce_added(context: &Context, user: &User, device: &Device, share: &DeviceShare) {
    let time = |ms: Option<i64>| format!("DATETIME:{}", ms.unwrap_or_default());
    let (start, end) = (time(share.start), time(share.expire));
    let guest = share.guest_name.as_str();
    let (msgid, arguments, text) = match (share.recurring, share.expire) {
        (Some(1), _) => (138, vec![guest, &start], format!("Added daily share with {guest}")),
        (Some(_), _) => (139, vec![guest, &start], format!("Added weekly share with {guest}")),
        (None, None) => (131, vec![guest], format!("Added share with {guest} without an end")),
        (None, Some(_)) => (101, vec![guest, &start, &end], format!("Added share with {guest}")),
    };
    let event = context
        .event("node", "addedDeviceShare")
        .by(user)
        .on_device(&device.id)
        .says(msgid, &arguments, text)
        .to_device(device, &context.site.store.directory());
    context.site.events.announce(event).await;
}

/// The device's shares, for everybody who looks at it; without the links, which are their makers' own.
async fn announce_list(context: &Context, device: &Device) {
    let shares = context.site.shares.which(clock::now_ms(), |share| share.device == device.id);
    let list: Vec<Value> = shares
        .iter()
        .map(|share| {
            let mut view = share.view(&share.userid);
            view.remove("url");
            Value::Object(view)
        })
        .collect();
    let event: Event = context
        .event("node", "deviceShareUpdate")
        .on_device(&device.id)
        .with("deviceShares", list)
        .unlogged()
        .to_device(device, &context.site.store.directory());
    context.site.events.announce(event).await;
}

/// `deviceShares`.
#[derive(Deserialize)]
pub struct OfDevice {
    #[serde(default)]
    nodeid: Value,
}

/// The shares of a device.
///
/// # Errors
/// `Invalid node id`, `Invalid domain`, `Access denied`.
pub async fn of_device(context: &Context, request: OfDevice) -> Result<Answer, Refusal> {
    let (device, rights) = device_of(context, Some(&request.nodeid))?;
    if !may_share(rights) {
        return Err(Refusal::new("Access denied"));
    }
    let shares = context.site.shares.which(clock::now_ms(), |share| share.device == device.id);
    let list: Vec<_> = shares.iter().map(|share| share.view(&context.session.user)).collect();
    Ok(Answer::Body(fields! { "nodeid" => device.id, "deviceShares" => list }))
}

/// `deviceMeshShares`.
#[derive(Deserialize)]
pub struct OfGroup {
    meshid: Option<String>,
}

/// The shares of all devices of a group that the user may share.
///
/// # Errors
/// As of groups elsewhere.
pub async fn of_group(context: &Context, request: OfGroup) -> Result<Answer, Refusal> {
    let (group, _) = context.group(request.meshid.as_deref(), None, Rights::NONE)?;
    let access = context.access()?;
    let shares = context.site.shares.which(clock::now_ms(), |share| {
        let device = access.directory().device(&share.device);
        device.is_some_and(|device| device.group == group.id)
            && access.device_rights(&share.device).is_some_and(may_share)
    });
    let list: Vec<_> = shares
        .iter()
        .map(|share| {
            let mut view = share.view(&context.session.user);
            view.insert("nodeid".into(), share.device.as_str().into());
            view
        })
        .collect();
    Ok(Answer::Body(fields! { "meshid" => group.id, "deviceShares" => list }))
}

/// `removeDeviceShare`.
#[derive(Deserialize)]
pub struct RemoveShare {
    #[serde(default)]
    nodeid: Value,
    #[serde(default)]
    publicid: String,
}

/// Removes a share; its guests are cut off. Clients act on the first of two answers and MeshCentral's first has
/// no `result`; ours has, so that a failure is told as one.
///
/// # Errors
/// `Invalid node id`, `Access denied`, `Invalid device share identifier.`
pub async fn remove(context: &Context, request: RemoveShare) -> Result<Answer, Refusal> {
    let (device, rights) = device_of(context, Some(&request.nodeid))?;
    let site = &context.site;
    let user = context.user()?;
    let unknown = || {
        Refusal::new("Invalid device share identifier.")
            .with("nodeid", device.id.as_str())
            .with("publicid", request.publicid.as_str())
            .with("removed", Value::Null)
    };
    let share = site.shares.get(&request.publicid).filter(|share| share.device == device.id);
    // Whoever made it may always take it back.
    if !may_share(rights) && share.as_ref().is_none_or(|share| share.userid != user.id) {
        return Err(Refusal::new("Access denied"));
    }
    let share = share.ok_or_else(unknown)?;
    let removed = site.shares.remove(&site.store, |other| other.publicid == share.publicid).await?;
    let removed = removed.first().ok_or_else(unknown)?;
    let event = context
        .event("node", "removedDeviceShare")
        .by(&user)
        .on_device(&device.id)
        .with("publicid", removed.publicid.as_str())
        .says(102, &[&removed.guest_name], format!("Removed share with {}", removed.guest_name))
        .to_device(&device, &site.store.directory());
    site.events.announce(event).await;
    announce_list(context, &device).await;
    Ok(Answer::Body(fields! {
        "nodeid" => device.id, "publicid" => removed.publicid,
        "removed" => removed.view(&user.id), "result" => "OK",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: Value) -> Result<Times, String> {
        times(request.as_object().expect("an object"), 1_000_000).map_err(|refusal| refusal.text)
    }

    #[test]
    fn times_are_read_or_refused() {
        let hour = read(json!({ "expire": 60 })).expect("times");
        assert_eq!((hour.start, hour.expire), (1_000_000, Some(4_600_000)));
        assert_eq!(read(json!({ "expire": 0 })).expect("times").expire, None);
        let window = read(json!({ "start": 10, "end": 20 })).expect("times");
        assert_eq!((window.start, window.expire), (10_000, Some(20_000)));
        let daily = read(json!({ "start": 10, "expire": 30, "recurring": 1 })).expect("times");
        assert_eq!((daily.duration, daily.recurring, daily.expire), (Some(30), Some(1), None));
        for (request, refusal) in [
            (json!({}), "No time specified"),
            (json!({ "expire": -1 }), "Invalid expire time"),
            (json!({ "expire": "soon" }), "Invalid expire time"),
            (json!({ "expire": 1e10 }), "Invalid expire time"),
            (json!({ "start": 20, "end": 10 }), "Invalid end time"),
            (json!({ "start": 20 }), "Invalid end time"),
            (json!({ "end": 20 }), "Invalid start time"),
            (json!({ "start": "x", "end": 1 }), "Invalid start time"),
            (json!({ "recurring": 3, "start": 1, "expire": 1 }), "Invalid recurring value"),
            (json!({ "recurring": 1.5, "start": 1, "expire": 1 }), "Invalid recurring value"),
            (json!({ "recurring": 1, "expire": 1 }), "Invalid recurring command"),
            (json!({ "recurring": 2, "start": 1, "expire": 0 }), "Invalid recurring command"),
        ] {
            assert_eq!(read(request.clone()).err().as_deref(), Some(refusal), "{request}");
        }
    }
}
