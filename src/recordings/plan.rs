//! Which sessions are recorded.

use std::sync::Arc;

use outpost_wire::id::{DeviceId, UserGroupId, UserId};

use crate::config::{Config, SessionRecording};
use crate::model::{Directory, User};

/// Flag of users and user groups whose sessions are recorded (control-protocol §3.2).
const RECORD_USER: u64 = 2;
/// Flag of device groups (data-formats §2.1).
const RECORD_DEVICES: u32 = 4;

/// What a tunnel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A session of the agent; the protocol as the viewer's address says, if it does.
    Session(Option<u16>),
    /// A port.
    Port,
}

/// What becomes of a tunnel.
#[derive(Clone, Debug)]
pub enum Plan {
    /// It is recorded, whatever is chosen in it.
    Record(Arc<SessionRecording>),
    /// It is not; whoever then chooses what has to be recorded is refused.
    Watch(Arc<SessionRecording>),
    /// Nothing of this user and device is recorded.
    Free,
}

/// Decides by what the server knows: nothing in an address takes a recording away.
pub fn plan(config: &Config, directory: &Directory, user: &UserId, device: &DeviceId, asked: Asked) -> Plan {
    let Some(policy) = &config.domain(user.domain()).session_recording else { return Plan::Free };
    if policy.selects() && !selected(policy, directory, user, device) {
        return Plan::Free;
    }
    let covered = match asked {
        Asked::Session(Some(protocol)) => policy.covers(protocol),
        // It may become anything.
        Asked::Session(None) => true,
        Asked::Port => policy.covers_ports(),
    };
    match asked {
        _ if covered => Plan::Record(policy.clone()),
        Asked::Session(_) => Plan::Watch(policy.clone()),
        Asked::Port => Plan::Free,
    }
}

fn selected(policy: &SessionRecording, directory: &Directory, user: &UserId, device: &DeviceId) -> bool {
    let (Some(user), Some(device)) = (directory.user(user), directory.device(device)) else { return true };
    let marked = |flags: Option<&serde_json::Value>| {
        flags.and_then(serde_json::Value::as_u64).is_some_and(|flags| flags & RECORD_USER != 0)
    };
    if policy.only_users && marked(user.extra.get("flags")) {
        return true;
    }
    let group = directory.group(&device.group);
    if policy.only_device_groups && group.is_some_and(|group| group.flags & RECORD_DEVICES != 0) {
        return true;
    }
    let here = |links: &crate::model::Links| {
        links.contains_key(device.group.as_str()) || links.contains_key(device.id.as_str())
    };
    // A user group counts where it is what gives the access.
    policy.only_user_groups
        && !here(&user.links)
        && groups_of(user, directory).any(|group| marked(group.extra.get("flags")) && here(&group.links))
}

fn groups_of<'a>(
    user: &'a User,
    directory: &'a Directory,
) -> impl Iterator<Item = &'a Arc<crate::model::UserGroup>> {
    let ids = user.links.keys().filter(|id| id.starts_with(UserGroupId::PREFIX));
    ids.filter_map(|id| UserGroupId::parse(id).ok()).filter_map(|id| directory.user_group(&id))
}
