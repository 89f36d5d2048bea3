//! Which device an agent is, when it connects and when it leaves (agent-protocol §8).

use std::net::SocketAddr;
use std::sync::Arc;

use outpost_wire::handshake::{Capabilities, VerifiedAgent};
use outpost_wire::id::{DeviceId, GroupId};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::live::{CONNECTED_BY_AGENT, POWER_ON, POWER_UNKNOWN};
use crate::model::{Device, DeviceAgent, DeviceGroup, Directory, Event, LastConnect, Links};
use crate::site::Site;
use crate::store::{Durability, StoreError};

/// Longest name taken from an agent, in characters.
const LONGEST_NAME: usize = 128;
/// Capability bits that `coreinfo` never changes (agent-protocol §8.2).
const FIXED_CAPABILITIES: u32 = Capabilities::CONSOLE.0 | Capabilities::JAVASCRIPT.0;

/// Why an agent is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its settings name a group that is not here.
    #[error("its device group is not known here (key {0})")]
    UnknownGroup(String),
    /// The group is not one of agents.
    #[error("the device group {0} is not one for agents")]
    WrongGroup(String),
    /// No room for another device.
    #[error("there are already as many devices as this server takes ({0})")]
    TooManyDevices(usize),
    /// No room for another connection.
    #[error("as many agents are connected as this server takes ({0})")]
    TooManyAgents(usize),
    /// It keeps coming back.
    #[error("it reconnects too often")]
    TooOften,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A device that was let in.
pub(super) struct Registered {
    pub(super) device: Arc<Device>,
    /// What to tell people.
    pub(super) events: Vec<Event>,
}

fn find_group(directory: &Directory, key: &str) -> Option<Arc<DeviceGroup>> {
    // The address names no domain in LAN mode, so the group is looked for in all of them.
    let default = GroupId::new("", key).ok().and_then(|id| directory.group(&id));
    default.or_else(|| directory.all_groups().find(|group| group.id.key() == key)).cloned()
}

/// A device keeps its id in whatever domain it first came to.
fn find_device(site: &Site, directory: &Directory, agent: &VerifiedAgent) -> Option<Arc<Device>> {
    site.config
        .domains
        .keys()
        .filter_map(|domain| DeviceId::of_hash(domain, &agent.node_hash).ok())
        .find_map(|id| directory.device(&id).cloned())
}

/// Finds or creates the device of a verified agent and brings its record up to date. A known device stays in
/// the group people have put it in, whatever the agent's settings say.
pub(super) async fn register(
    site: &Site,
    agent: &VerifiedAgent,
    remote: SocketAddr,
) -> Result<Registered, Refused> {
    let directory = site.store.directory();
    let known = find_device(site, &directory, agent);
    let unchanged = known.as_ref().is_some_and(|device| {
        directory.group(&device.group).is_some_and(|group| group.deleted.is_none())
            && updated(device, agent, remote, directory.group(&device.group).map(|group| &**group))
                == **device
    });
    if let Some(device) = known.filter(|_| unchanged) {
        return Ok(Registered { device, events: Vec::new() });
    }
    let limit = site.config.settings.limits.devices;
    let now = clock::now_ms();
    site.store
        .write(Durability::Durable, |change| {
            let mut events = Vec::new();
            let known = find_device(site, change.directory(), agent);
            let group = match &known {
                Some(device) => change.directory().group(&device.group).cloned(),
                None => find_group(change.directory(), &agent.info.group_key()),
            };
            let group = group.ok_or_else(|| Refused::UnknownGroup(agent.info.group_key()))?;
            if group.mtype != DeviceGroup::WITH_AGENT {
                return Err(Refused::WrongGroup(group.name.clone()));
            }
            let group = revive(change, group, &mut events);
            let device = match known {
                Some(device) => {
                    let updated = updated(&device, agent, remote, Some(&group));
                    let device = change.put_device(updated);
                    let event = Event::new("node", "changenode", &device.domain)
                        .on_device(&device.id)
                        .with("node", view(&device))
                        .to_device(&device, change.directory())
                        .unlogged();
                    events.push(event);
                    device
                }
                None => {
                    let domain_limit = site.config.domain(&group.domain).limits.max_devices;
                    let limit = domain_limit.map_or(limit, |domain| domain.min(limit));
                    if change.directory().devices().count() >= limit {
                        return Err(Refused::TooManyDevices(limit));
                    }
                    let device = change.put_device(created(&group, agent, remote, now));
                    let event = Event::new("node", "addnode", &device.domain)
                        .on_group(&group.id)
                        .on_device(&device.id)
                        .with("node", view(&device))
                        .says(
                            57,
                            &[&device.name, &group.name],
                            format!("Device {} joined {}", device.name, group.name),
                        )
                        .to_device(&device, change.directory());
                    events.push(event);
                    device
                }
            };
            for event in &events {
                change.log(event, now);
            }
            Ok(Registered { device, events })
        })
        .await
}

/// A group that was removed lives again when one of its agents comes (agent-protocol §8.1).
fn revive(
    change: &mut crate::store::Transaction,
    group: Arc<DeviceGroup>,
    events: &mut Vec<Event>,
) -> Arc<DeviceGroup> {
    if group.deleted.is_none() {
        return group;
    }
    let mut group = (*group).clone();
    group.deleted = None;
    for (id, link) in group.links.clone() {
        let user =
            outpost_wire::id::UserId::parse(&id).ok().and_then(|id| change.directory().user(&id).cloned());
        match user {
            Some(user) => {
                let mut user = (*user).clone();
                user.links.insert(group.id.as_str().to_owned(), crate::model::Link::new(link.rights));
                change.put_user(user);
            }
            None if id.starts_with("user/") => {
                group.links.remove(&id);
            }
            None => {}
        }
    }
    let group = change.put_group(group);
    events.push(
        Event::new("mesh", "createmesh", &group.domain)
            .on_group(&group.id)
            .with("mtype", group.mtype)
            .with("mesh", json!(&*group))
            .says(
                56,
                &[&group.name],
                format!("Device group {} is back: one of its agents connected", group.name),
            )
            .to_group(&group)
            .to(group.links.keys().cloned()),
    );
    group
}

/// The record as clients see it at once; connection state follows in its own event.
pub(super) fn view(device: &Device) -> Value {
    let mut fields = match serde_json::to_value(device) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("type".into(), "node".into());
    Value::Object(fields)
}

fn clean_name(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    clean.trim().to_owned()
}

fn created(group: &DeviceGroup, agent: &VerifiedAgent, remote: SocketAddr, now: i64) -> Device {
    let id = DeviceId::of_hash(&group.domain, &agent.node_hash).expect("a group's domain is one for devices");
    let host_name = clean_name(&agent.info.host_name);
    let name = agent.agent_name.as_deref().map(clean_name).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| host_name.clone());
    Device {
        id,
        mtype: DeviceGroup::WITH_AGENT,
        group: group.id.clone(),
        name: if name.is_empty() { remote.ip().to_string() } else { name },
        rname: Some(host_name),
        domain: group.domain.clone(),
        icon: u32::from(agent.info.platform_type.number()),
        host: None,
        ip: Some(remote.ip().to_canonical().to_string()),
        firstconnect: Some(now),
        osdesc: agent.os_description.clone(),
        lastbootuptime: None,
        agent: Some(DeviceAgent {
            ver: agent.info.version,
            id: agent.info.agent_id,
            caps: agent.info.capabilities.0,
            ..DeviceAgent::default()
        }),
        desc: None,
        tags: Vec::new(),
        links: Links::new(),
        consent: 0,
        extra: Map::new(),
    }
}

fn updated(
    device: &Device,
    agent: &VerifiedAgent,
    remote: SocketAddr,
    group: Option<&DeviceGroup>,
) -> Device {
    let mut device = device.clone();
    let host_name = clean_name(&agent.info.host_name);
    let follows = group.is_some_and(|group| group.flags & DeviceGroup::FOLLOW_HOST_NAME != 0);
    if follows && !host_name.is_empty() {
        let prefers = group.is_some_and(|group| group.flags & DeviceGroup::PREFER_AGENT_NAME != 0);
        let given = agent.agent_name.as_deref().map(clean_name).filter(|name| prefers && !name.is_empty());
        device.name = given.unwrap_or_else(|| host_name.clone());
    }
    device.rname = Some(host_name);
    device.ip = Some(remote.ip().to_canonical().to_string());
    let known = device.agent.get_or_insert_with(DeviceAgent::default);
    known.ver = agent.info.version;
    known.id = agent.info.agent_id;
    // The other bits come from `coreinfo`; they change here only when these do (agent-protocol §8.2).
    if known.caps & FIXED_CAPABILITIES != agent.info.capabilities.0 & FIXED_CAPABILITIES {
        known.caps = agent.info.capabilities.0;
    }
    device
}

/// Merges the capabilities of `coreinfo` into those of the handshake.
pub(super) fn merge_capabilities(known: u32, reported: u32) -> u32 {
    (known & FIXED_CAPABILITIES) | (reported & !FIXED_CAPABILITIES)
}

/// Notes and tells that a device is connected.
pub(super) async fn connected(site: &Site, device: &Device, remote: SocketAddr, since: i64) {
    note(site, device, remote, since, true).await;
    let event = Event::new("node", "nodeconnect", &device.domain)
        .on_group(&device.group)
        .on_device(&device.id)
        .with("conn", CONNECTED_BY_AGENT)
        .with("pwr", POWER_ON)
        .with("ct", since)
        .to_device(device, &site.store.directory());
    site.events.show(&event.unlogged(), since);
}

/// Notes and tells that a device is gone; removes it when its group or its agent asks for that.
pub(super) async fn disconnected(site: &Site, id: &DeviceId, remote: SocketAddr) {
    let Some(device) = site.store.directory().device(id).cloned() else { return };
    let now = clock::now_ms();
    note(site, &device, remote, now, false).await;
    let event = Event::new("node", "nodeconnect", &device.domain)
        .on_group(&device.group)
        .on_device(&device.id)
        .with("conn", 0)
        .with("pwr", 0)
        .to_device(&device, &site.store.directory());
    site.events.show(&event.unlogged(), now);
    let temporary = device.agent.as_ref().is_some_and(|agent| agent.caps & Capabilities::TEMPORARY.0 != 0);
    let vanishes = site
        .store
        .directory()
        .group(&device.group)
        .is_some_and(|group| group.flags & DeviceGroup::REMOVE_ON_DISCONNECT != 0);
    if temporary || vanishes {
        let removed = site
            .change(|change| {
                let event = Event::new("node", "removenode", &device.domain)
                    .on_device(&device.id)
                    .on_group(&device.group)
                    .to_device(&device, change.directory())
                    .unlogged();
                change.remove_device(&device.id);
                Ok::<_, StoreError>(((), vec![event]))
            })
            .await;
        if let Err(error) = removed {
            log::error!("the temporary device {} could not be removed: {error}", device.name);
        }
    }
}

/// Last-seen and power history: lazy, since losing the last seconds of it in a power cut hurts nobody.
async fn note(site: &Site, device: &Device, remote: SocketAddr, time: i64, connected: bool) {
    let record = LastConnect {
        time,
        cause: u8::from(connected),
        connect_type: CONNECTED_BY_AGENT,
        addr: Some(SocketAddr::new(remote.ip().to_canonical(), remote.port()).to_string()),
        meshid: device.group.clone(),
        domain: device.domain.clone(),
    };
    let (state, previous) = if connected { (POWER_ON, POWER_UNKNOWN) } else { (POWER_UNKNOWN, POWER_ON) };
    let noted = site
        .store
        .write(Durability::Lazy, |change| {
            if change.directory().device(&device.id).is_some() {
                change.put(&format!("lc{}", device.id), "lastconnect", &record);
                change.power(&device.id, time, state, previous);
            }
            Ok::<_, StoreError>(())
        })
        .await;
    if let Err(error) = noted {
        log::warn!("the last connection of {} could not be noted: {error}", device.name);
    }
}
