//! Devices without an agent, which are known by their address alone.

use outpost_wire::id::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::context::{Context, GroupTexts};
use super::reply::{Answer, Refusal};
use crate::model::{Device, DeviceAgent, Links, Rights};

/// Longest name and address (control-protocol §4.4).
const LONGEST: usize = 256;
/// `mtype` of groups whose devices have Intel AMT only, and of those whose devices have no agent.
const AMT_ONLY: u32 = 1;
const AGENTLESS: u32 = 3;
/// Kinds of agentless devices by the numbers of agents for them: Windows, Linux, macOS.
const KINDS: [u32; 3] = [4, 6, 29];

/// `addlocaldevice`.
#[derive(Deserialize)]
pub struct AddLocalDevice {
    meshid: String,
    devicename: String,
    hostname: String,
    #[serde(rename = "type")]
    kind: Value,
}

/// Adds a device that has no agent to a group of such devices.
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn add_local(context: &Context, request: AddLocalDevice) -> Result<Answer, Refusal> {
    // Clients wait for the answer of another action when this one is refused.
    let refused = |text: &str| Refusal::new(text).with("action", "changeDeviceMesh");
    if !fits(&request.devicename) {
        return Err(refused("Invalid devicename"));
    }
    if !fits(&request.hostname) {
        return Err(refused("Invalid hostname"));
    }
    let kind = request.kind.as_u64().and_then(|kind| u32::try_from(kind).ok());
    let kind = kind.filter(|kind| KINDS.contains(kind)).ok_or_else(|| refused("Invalid type"))?;
    let texts =
        GroupTexts { malformed: "Invalid device group id", denied: "Permission denied", ..GroupTexts::USUAL };
    let (group, _) = context
        .group_or(Some(&request.meshid), None, Rights::MANAGE_DEVICES, &texts)
        .map_err(|refusal| refused(&refusal.text))?;
    if group.mtype != AGENTLESS {
        return Err(refused("Local device agentless mesh only allowed"));
    }
    let by = context.user()?;
    let id = DeviceId::random(context.domain()).map_err(|_| refused("Invalid domain"))?;
    let device = Device {
        id,
        mtype: AGENTLESS,
        group: group.id.clone(),
        name: request.devicename,
        rname: None,
        domain: context.domain().to_owned(),
        icon: 1,
        host: Some(request.hostname),
        ip: None,
        firstconnect: None,
        osdesc: None,
        lastbootuptime: None,
        agent: Some(DeviceAgent { id: kind, ..DeviceAgent::default() }),
        desc: None,
        tags: Vec::new(),
        links: Links::new(),
        consent: 0,
        extra: Map::new(),
    };
    let limit = context.site.config.settings.limits.devices;
    context
        .site
        .change(|change| {
            if change.directory().devices().count() >= limit {
                return Err(refused("There are as many devices as the settings allow"));
            }
            let device = change.put_device(device);
            let event = context
                .event("node", "addnode")
                .by(&by)
                .with("node", Value::Object(context.device_view(&device)))
                .says(
                    84,
                    &[&device.name, &group.name],
                    format!("Device {} added to {}", device.name, group.name),
                )
                .to_device(&device, change.directory());
            Ok(((), vec![event]))
        })
        .await?;
    Ok(Answer::Ok)
}

fn fits(text: &str) -> bool {
    (1..=LONGEST).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// `addamtdevice`.
#[derive(Deserialize)]
pub struct AddAmtDevice {
    meshid: String,
}

/// Adds no device: this release does not speak to Intel AMT.
///
/// # Errors
/// Always; first what is wrong with the group.
pub async fn add_amt(context: &Context, request: AddAmtDevice) -> Result<Answer, Refusal> {
    let texts =
        GroupTexts { malformed: "Invalid device group id", denied: "Permission denied", ..GroupTexts::USUAL };
    let (group, _) = context.group_or(Some(&request.meshid), None, Rights::MANAGE_DEVICES, &texts)?;
    if group.mtype != AMT_ONLY {
        return Err(Refusal::new("Intel AMT agentless mesh only allowed"));
    }
    Err(Refusal::new("Intel AMT is not offered by this release"))
}
