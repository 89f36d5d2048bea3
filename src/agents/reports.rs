//! What agents report of their devices (agent-protocol §6.2).

use std::sync::Arc;

use bytes::Bytes;
use outpost_wire::id::DeviceId;
use outpost_wire::message::{
    AgentLog, AgentMsg, CoreInfo, FromAgent, NetInfo, SessionKind, Sessions, SysInfo, ToAgent,
};
use serde_json::{Map, Value, json};

use super::{registration, routing};
use crate::clock;
use crate::jobs;
use crate::live::Agent;
use crate::model::{Device, DeviceAgent, DeviceGroup, Event};
use crate::site::Site;
use crate::store::{Durability, StoreError};

/// Two boot times that differ by less are one, in ms.
const BOOT_TIME_WOBBLE: i64 = 120_000;

/// Takes one report.
pub(super) async fn take(site: &Arc<Site>, agent: &Arc<Agent>, message: FromAgent) {
    let Some(device) = site.store.directory().device(&agent.device).cloned() else { return };
    let outcome = match message {
        FromAgent::CoreInfo(info) => {
            let outcome = core_info(site, &device, *info).await;
            agent.set_ready();
            jobs::ready(site, &device.id).await;
            outcome
        }
        FromAgent::NetInfo(info) => network(site, &device, info).await,
        FromAgent::SysInfo(info) => system(site, &device, info).await,
        FromAgent::SysInfoCheck => {
            ask_system(site, agent).await;
            Ok(())
        }
        FromAgent::Smbios(tables) => {
            side_record(site, &device, "sm", "smbios", json!({ "value": tables.value })).await
        }
        FromAgent::Sessions(sessions) => {
            running_sessions(site, agent, &device, sessions);
            Ok(())
        }
        FromAgent::Msg(message) => {
            if !jobs::answered(site, &device.id, &message).await {
                deliver(site, &device, *message);
            }
            Ok(())
        }
        FromAgent::Log(entry) => {
            log_entry(site, &device, *entry).await;
            Ok(())
        }
        FromAgent::Ping => {
            let _ = agent.send(Bytes::from(ToAgent::Pong.to_json()));
            Ok(())
        }
        FromAgent::OpenUrl(opened) => {
            let mut message = Map::new();
            message.insert("action".into(), "openUrl".into());
            message.insert("url".into(), json!(opened.url));
            message.insert("success".into(), json!(opened.success));
            if let Some(session) = opened.sessionid {
                message.insert("sessionid".into(), session.into());
                routing::deliver(site, &device, message);
            }
            Ok(())
        }
        FromAgent::Battery(_) | FromAgent::Pong | FromAgent::AgentName(_) | FromAgent::Other(_) => Ok(()),
    };
    if let Err(error) = outcome {
        log::warn!("a report of {} could not be kept: {error}", device.name);
    }
}

/// Notes that a device's agent runs no core, and so can do nothing of what cores do.
pub(super) async fn no_core(site: &Arc<Site>, device: &DeviceId) {
    let without = |device: &Device| {
        let mut device = device.clone();
        if let Some(agent) = &mut device.agent {
            agent.core = None;
            agent.caps = registration::merge_capabilities(agent.caps, 0);
        }
        device
    };
    let unchanged = |device: &Device| without(device) == *device;
    if site.store.directory().device(device).is_none_or(|device| unchanged(device)) {
        return;
    }
    let event = site
        .store
        .write(Durability::Lazy, |change| {
            let Some(stored) = change.directory().device(device).cloned() else { return Ok(None) };
            let device = change.put_device(without(&stored));
            let event = Event::new("node", "changenode", &device.domain)
                .on_device(&device.id)
                .with("node", live_view(site, &device))
                .to_device(&device, change.directory())
                .unlogged();
            Ok::<_, StoreError>(Some(event))
        })
        .await;
    match event {
        Ok(Some(event)) => site.events.show(&event, clock::now_ms()),
        Ok(None) => {}
        Err(error) => log::warn!("that {device} has no core could not be kept: {error}"),
    }
}

async fn core_info(site: &Site, device: &Arc<Device>, info: CoreInfo) -> Result<(), StoreError> {
    let describe = |device: &Device| {
        let mut device = device.clone();
        let agent = device.agent.get_or_insert_with(DeviceAgent::default);
        if let Some(value) = &info.value {
            agent.core = Some(value.clone());
        }
        if let Some(capabilities) = info.caps {
            agent.caps = registration::merge_capabilities(agent.caps, capabilities);
        }
        if info.root.is_some() {
            agent.root = info.root;
        }
        if info.osdesc.is_some() {
            device.osdesc.clone_from(&info.osdesc);
        }
        // Agents work it out from the clock and the uptime, so it wobbles.
        let wobble = |new: i64| device.lastbootuptime.is_some_and(|old| (new - old).abs() < BOOT_TIME_WOBBLE);
        if let Some(new) = info.lastbootuptime.filter(|new| !wobble(*new)) {
            device.lastbootuptime = Some(new);
        }
        if site.config.settings.mode.discovers() {
            device.host.clone_from(&device.ip);
        }
        let mut set = |field: &str, value: Value| match value {
            Value::Array(items) if items.is_empty() => {
                device.extra.remove(field);
            }
            Value::Null => {}
            value => {
                device.extra.insert(field.into(), value);
            }
        };
        set("users", json!(info.users));
        set("lusers", json!(info.lusers));
        set("av", json!(info.av));
        set("wsc", json!(info.wsc));
        set("defender", json!(info.defender));
        device
    };
    let renamed = info.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let follows = |directory: &crate::model::Directory| {
        directory.group(&device.group).is_some_and(|group| group.flags & DeviceGroup::FOLLOW_HOST_NAME != 0)
    };
    let new = describe(device);
    if new == **device && renamed.is_none() {
        return Ok(());
    }
    // Who is logged on changes often and is worth nothing after a power cut.
    let only_users = {
        let mut same = new.clone();
        same.extra.clone_from(&device.extra);
        same == **device && renamed.is_none()
    };
    let durability = if only_users { Durability::Lazy } else { Durability::Durable };
    let now = clock::now_ms();
    let event = site
        .store
        .write(durability, |change| {
            let Some(stored) = change.directory().device(&device.id).cloned() else { return Ok(None) };
            let mut device = describe(&stored);
            if let Some(name) = renamed.filter(|_| follows(change.directory())) {
                device.name = name.chars().take(128).collect();
            }
            if device == *stored {
                return Ok(None);
            }
            let device = change.put_device(device);
            let group =
                change.directory().group(&device.group).map_or(String::new(), |group| group.name.clone());
            let described =
                |device: &Device| (device.osdesc.clone(), device.agent.clone(), device.name.clone());
            let worth_a_line = described(&device) != described(&stored);
            let event = Event::new("node", "changenode", &device.domain)
                .on_device(&device.id)
                .with("node", live_view(site, &device))
                .to_device(&device, change.directory());
            let event = if !worth_a_line {
                event.unlogged()
            } else {
                let text = format!("Device {} of {group} reported its system", device.name);
                event.says(59, &[&device.name, &group, "system"], text)
            };
            change.log(&event, now);
            Ok::<_, StoreError>(Some(event))
        })
        .await?;
    if let Some(event) = event {
        site.events.show(&event, now);
    }
    Ok(())
}

fn live_view(site: &Site, device: &Device) -> Value {
    let mut view = registration::view(device);
    if let Value::Object(fields) = &mut view {
        site.add_presence(&device.id, fields);
    }
    view
}

async fn side_record(
    site: &Site,
    device: &Device,
    prefix: &str,
    kind: &str,
    mut record: Value,
) -> Result<(), StoreError> {
    record["domain"] = device.domain.clone().into();
    site.store
        .write(Durability::Lazy, |change| {
            if change.directory().device(&device.id).is_some() {
                change.put(&format!("{prefix}{}", device.id), kind, &record);
            }
            Ok::<_, StoreError>(())
        })
        .await
}

async fn network(site: &Site, device: &Device, info: NetInfo) -> Result<(), StoreError> {
    let new = json!(info.netif2);
    let stored: Option<Map<String, Value>> = site.store.get(format!("if{}", device.id)).await?;
    if stored.is_some_and(|stored| stored.get("netif2") == Some(&new)) {
        return Ok(());
    }
    let record = json!({ "netif2": new, "updateTime": clock::now_ms() });
    side_record(site, device, "if", "ifinfo", record).await?;
    tell_unlogged(site, device, "ifchange");
    Ok(())
}

async fn system(site: &Site, device: &Device, info: SysInfo) -> Result<(), StoreError> {
    let mut record = info.data;
    record.insert("time".into(), clock::now_ms().into());
    side_record(site, device, "si", "sysinfo", Value::Object(record)).await?;
    tell_unlogged(site, device, "sysinfohash");
    Ok(())
}

/// Tells that clients who look at a device should ask again.
fn tell_unlogged(site: &Site, device: &Device, action: &str) {
    let event = Event::new("node", action, &device.domain)
        .on_device(&device.id)
        .to_device(device, &site.store.directory())
        .unlogged();
    site.events.show(&event, clock::now_ms());
}

/// Asks an agent for its inventory, unless it is the one that is stored.
pub(super) async fn ask_system(site: &Site, agent: &Agent) {
    let stored: Option<Map<String, Value>> =
        site.store.get(format!("si{}", agent.device)).await.unwrap_or_default();
    let hash = stored.and_then(|stored| stored.get("hash").and_then(Value::as_str).map(str::to_owned));
    let request = outpost_wire::message::SysInfoRequest { hash };
    // An agent that is gone by now will be asked when it comes back.
    let _ = agent.send(Bytes::from(ToAgent::SysInfo(request).to_json()));
}

/// Notes what the agent says of messages, programs and the like. Of tunnels the relay knows better.
fn running_sessions(site: &Site, agent: &Agent, device: &Device, report: Sessions) {
    if matches!(
        report.kind,
        SessionKind::Kvm | SessionKind::Terminal | SessionKind::Files | SessionKind::Tcp | SessionKind::Udp
    ) {
        return;
    }
    let kind = match serde_json::to_value(report.kind) {
        Ok(Value::String(kind)) => kind,
        _ => return,
    };
    agent.report_sessions(&kind, Value::Object(report.value));
    site.show_sessions(&device.id);
}

fn deliver(site: &Site, device: &Device, message: AgentMsg) {
    let mut fields = match serde_json::to_value(&message) {
        Ok(Value::Object(fields)) => fields,
        _ => return,
    };
    fields.insert("action".into(), "msg".into());
    routing::deliver(site, device, fields);
}

async fn log_entry(site: &Site, device: &Device, entry: AgentLog) {
    // Sessions are logged by the relay, which counts their bytes; the agent's word on them would be a second.
    if entry.msg.is_empty() || entry.msgid.is_some_and(|msgid| (9..=16).contains(&msgid)) {
        return;
    }
    let id_of =
        |text: &Option<String>| text.as_deref().and_then(|id| outpost_wire::id::UserId::parse(id).ok());
    // The agent says who; it is shown as the agent's word, for a user of this domain only.
    let user = id_of(&entry.userid).filter(|id| id.domain() == device.domain);
    let event = Event::new("node", "agentlog", &device.domain)
        .on_device(&device.id)
        .with("msg", entry.msg)
        .with("msgid", entry.msgid)
        .with("msgArgs", if entry.msg_args.is_empty() { Value::Null } else { json!(entry.msg_args) })
        .with("userid", user.as_ref().map(|id| id.as_str().to_owned()))
        .with("username", entry.username)
        .with("sessionid", entry.sessionid)
        .with("remoteaddr", entry.remoteaddr)
        .with("guestname", entry.guestname)
        .to_device(device, &site.store.directory())
        .to(user.map(|id| id.as_str().to_owned()));
    site.events.announce(event).await;
}

/// Takes the tag that an agent was installed with; an empty one clears it.
pub(super) async fn tag(site: &Site, id: &DeviceId, tag: &[u8]) {
    let text = String::from_utf8_lossy(tag);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('~'));
    let tag: Option<String> = line.map(|line| line.chars().filter(|c| !c.is_control()).take(256).collect());
    let Some(device) = site.store.directory().device(id).cloned() else { return };
    if device.agent.as_ref().is_some_and(|agent| agent.tag == tag) {
        return;
    }
    let kept = site
        .store
        .write(Durability::Lazy, |change| {
            if let Some(mut device) = change.directory().device(id).map(|device| (**device).clone()) {
                device.agent.get_or_insert_with(DeviceAgent::default).tag = tag;
                change.put_device(device);
            }
            Ok::<_, StoreError>(())
        })
        .await;
    if let Err(error) = kept {
        log::warn!("the tag of {} could not be kept: {error}", device.name);
    }
}
