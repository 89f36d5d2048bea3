//! What is known of a device: hardware, network, last connection.

use outpost_wire::id::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::model::{Denied, LastConnect, Rights};

/// Requests about one device.
#[derive(Deserialize)]
pub struct OfDevice {
    nodeid: String,
}

/// `getsysinfo`.
#[derive(Deserialize)]
pub struct SystemInformation {
    nodeid: String,
    #[serde(default)]
    nodeinfo: bool,
}

/// The refusal that clients fall back from (control-protocol §4.5).
fn no_information(id: &str) -> Refusal {
    Refusal::new("Invalid device id").with("nodeid", id).with("noinfo", true)
}

fn visible(context: &Context, id: &str, needed: Rights) -> Result<(DeviceId, Rights), Refusal> {
    let (device, rights) = context.device(id, needed).map_err(|_| no_information(id))?;
    Ok((device.id.clone(), rights))
}

/// Hardware and operating system as the agent reported them.
///
/// # Errors
/// `noinfo` when there is none or it may not be seen.
pub async fn system(context: &Context, request: SystemInformation) -> Result<Answer, Refusal> {
    let (id, rights) = visible(context, &request.nodeid, Rights::DETAILS)?;
    let stored: Option<Map<String, Value>> = context.site.store.get(format!("si{id}")).await?;
    let mut fields = stored.ok_or_else(|| no_information(id.as_str()))?;
    for internal in ["_id", "type", "domain"] {
        fields.remove(internal);
    }
    fields.insert("nodeid".into(), json!(id));
    if request.nodeinfo {
        let (device, _) = context.device(id.as_str(), Rights::NONE)?;
        fields.insert("node".into(), Value::Object(context.device_view(&device)));
        fields.insert("rights".into(), json!(rights));
    }
    Ok(Answer::Body(fields))
}

/// Network interfaces as the agent reported them.
///
/// # Errors
/// `noinfo` when the device may not be seen.
pub async fn network(context: &Context, request: OfDevice) -> Result<Answer, Refusal> {
    let (id, _) = visible(context, &request.nodeid, Rights::DETAILS)?;
    let stored: Option<Map<String, Value>> = context.site.store.get(format!("if{id}")).await?;
    Ok(Answer::Body(match stored {
        Some(mut fields) => {
            for internal in ["_id", "type", "domain"] {
                fields.remove(internal);
            }
            fields.insert("nodeid".into(), json!(id));
            fields
        }
        None => fields! { "nodeid" => id, "netif" => Value::Null, "netif2" => Value::Null },
    }))
}

/// When and from where the device connected last.
///
/// # Errors
/// `noinfo` when it never did, or may not be seen.
pub async fn last_connect(context: &Context, request: OfDevice) -> Result<Answer, Refusal> {
    let (id, _) = visible(context, &request.nodeid, Rights::NONE)?;
    let stored: Option<LastConnect> = context.site.store.get(format!("lc{id}")).await?;
    let last = stored.ok_or_else(|| Refusal { text: "No data".into(), ..no_information(id.as_str()) })?;
    Ok(Answer::Body(fields! {
        "nodeid" => id, "time" => last.time, "addr" => last.addr.unwrap_or_default(), "cause" => last.cause,
    }))
}

/// When each visible device was last heard of.
///
/// # Errors
/// When the account is gone.
pub async fn last_connects(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let access = context.access()?;
    let all: Vec<(String, LastConnect)> = context.site.store.with_prefix("lcnode/").await?;
    let visible: Map<String, Value> = all
        .into_iter()
        .filter_map(|(record, last)| {
            let id = DeviceId::parse(record.strip_prefix("lc")?).ok()?;
            access.device_rights(&id)?;
            Some((id.as_str().to_owned(), last.time.into()))
        })
        .collect();
    Ok(Answer::Body(fields! { "lastconnects" => visible }))
}

/// `getDeviceDetails`.
#[derive(Deserialize)]
pub struct Details {
    nodeids: Option<Vec<String>>,
    #[serde(rename = "type")]
    format: String,
}

/// Everything known of devices, as a JSON text or a table of comma-separated values inside the answer.
///
/// # Errors
/// For another format than `json` and `csv`.
pub async fn details(context: &Context, request: Details) -> Result<Answer, Refusal> {
    if !["json", "csv"].contains(&request.format.as_str()) {
        return Err(Refusal::new("type: expected `json` or `csv`"));
    }
    let access = context.access()?;
    let devices = match request.nodeids {
        Some(ids) => {
            let mut devices = Vec::new();
            for id in ids.iter().take(super::devices::MOST_DEVICES) {
                let id =
                    DeviceId::complete(context.domain(), id).map_err(|_| Refusal::new("Invalid nodeid"))?;
                match access.device(&id, Rights::NONE) {
                    Ok(found) => devices.push(found),
                    Err(Denied::NotFound | Denied::Forbidden) => {}
                }
            }
            devices
        }
        None => access.devices(),
    };
    let mut all = Vec::with_capacity(devices.len());
    for (device, rights) in devices {
        let mut view = context.device_view(&device);
        if let Some(group) = access.directory().group(&device.group) {
            view.insert("groupname".into(), group.name.clone().into());
        }
        let mut entry = fields! { "node" => view };
        if rights.contains(Rights::DETAILS) {
            let system: Option<Map<String, Value>> =
                context.site.store.get(format!("si{}", device.id)).await?;
            if let Some(system) = system {
                entry.insert("sys".into(), system.into());
            }
            let network: Option<Map<String, Value>> =
                context.site.store.get(format!("if{}", device.id)).await?;
            entry.insert("net".into(), network.map_or(Value::Null, Value::Object));
        }
        let last: Option<LastConnect> = context.site.store.get(format!("lc{}", device.id)).await?;
        if let Some(last) = last {
            entry.insert(
                "lastConnect".into(),
                json!({ "time": last.time, "cause": last.cause, "connectType": last.connect_type, "addr": last.addr }),
            );
        }
        all.push(Value::Object(entry));
    }
    let data = match request.format.as_str() {
        "csv" => super::device_table::table(&all),
        _ => Value::Array(all).to_string(),
    };
    Ok(Answer::Body(fields! { "data" => data, "type" => request.format }))
}
