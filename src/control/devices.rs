//! Devices: list, change, move, remove, members, notes.

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::{Context, GroupTexts};
use super::groups::{Principal, principals};
use super::reply::{Answer, Refusal, fields};
use crate::clock;
use crate::model::{Device, Directory, Event, Link, Rights, SiteRights, User};
use crate::store::Durability;

/// Most devices of one request.
pub(super) const MOST_DEVICES: usize = 1024;
/// Longest display name.
const LONGEST_NAME: usize = 128;
/// Longest description.
const LONGEST_DESCRIPTION: usize = 1024;
/// Longest tag, and most of them.
const LONGEST_TAG: usize = 64;
const MOST_TAGS: usize = 64;
/// Longest note, in bytes of the (url-encoded) text that clients send.
const LONGEST_NOTE: usize = 64 << 10;

/// `nodes`.
#[derive(Deserialize)]
pub struct List {
    meshid: Option<String>,
    meshname: Option<String>,
    id: Option<String>,
}

/// Devices by group, without the group's id inside (control-protocol §4.5).
///
/// # Errors
/// `Invalid group id`, `Duplicate device groups found`.
pub async fn list(context: &Context, request: List) -> Result<Answer, Refusal> {
    let access = context.access()?;
    let in_group = match (&request.meshid, &request.meshname) {
        (None, None) => None,
        (id, name) => {
            let (group, _) =
                context.group(id.as_deref(), name.as_deref(), Rights::NONE).map_err(|refusal| {
                    if refusal.text.starts_with("Duplicate") {
                        refusal
                    } else {
                        Refusal::new("Invalid group id")
                    }
                })?;
            Some(group.id.clone())
        }
    };
    let only = match &request.id {
        Some(id) => {
            Some(DeviceId::complete(context.domain(), id).map_err(|_| Refusal::new("Invalid nodeid"))?)
        }
        None => None,
    };
    let mut groups: Map<String, Value> = Map::new();
    for (device, _) in access.devices() {
        if in_group.as_ref().is_some_and(|group| *group != device.group)
            || only.as_ref().is_some_and(|id| *id != device.id)
        {
            continue;
        }
        let mut view = context.device_view(&device);
        view.remove("meshid");
        name_links(&mut view, access.directory());
        match groups.entry(device.group.as_str()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(devices) => devices.push(Value::Object(view)),
            _ => unreachable!("only arrays are put here"),
        }
    }
    Ok(Answer::Body(fields! { "nodes" => groups }))
}

/// Fills the display names of a device's links in, where the record lacks them.
fn name_links(view: &mut Map<String, Value>, directory: &Directory) {
    let Some(Value::Object(links)) = view.get_mut("links") else { return };
    for (id, link) in links {
        let Value::Object(link) = link else { continue };
        if link.contains_key("name") {
            continue;
        }
        let user = UserId::parse(id).ok().and_then(|id| directory.user(&id).map(|user| user.name.clone()));
        let name = user.or_else(|| {
            UserGroupId::parse(id)
                .ok()
                .and_then(|id| directory.user_group(&id).map(|group| group.name.clone()))
        });
        if let Some(name) = name {
            link.insert("name".into(), name.into());
        }
    }
}

/// An event that a device has changed, carrying what it is now.
pub fn changed_event(context: &Context, device: &Device, by: &User, directory: &Directory) -> Event {
    context
        .event("node", "changenode")
        .by(by)
        .on_device(&device.id)
        .with("node", Value::Object(context.device_view(device)))
        .to_device(device, directory)
        .to([by.id.as_str()])
}

/// `changedevice`.
#[derive(Deserialize)]
pub struct ChangeDevice {
    nodeid: String,
    name: Option<String>,
    desc: Option<String>,
    icon: Option<u32>,
    host: Option<String>,
    tags: Option<Tags>,
    consent: Option<u32>,
    rdpport: Option<u16>,
    rfbport: Option<u16>,
    sshport: Option<u16>,
    httpport: Option<u16>,
    httpsport: Option<u16>,
}

/// Tags as a list, or as one text with commas.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

impl Tags {
    fn clean(self) -> Result<Vec<String>, Refusal> {
        let tags = match self {
            Tags::List(tags) => tags,
            Tags::Text(text) => text.split(',').map(str::to_owned).collect(),
        };
        let mut tags: Vec<String> =
            tags.into_iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
        if tags.len() > MOST_TAGS {
            return Err(Refusal::new(format!("At most {MOST_TAGS} tags")));
        }
        if let Some(long) = tags.iter().find(|tag| tag.chars().count() >= LONGEST_TAG) {
            let short: String = long.chars().take(20).collect();
            return Err(Refusal::new(format!(
                "A tag has less than {LONGEST_TAG} characters; “{short}…” has more"
            )));
        }
        tags.sort();
        tags.dedup();
        Ok(tags)
    }
}

/// Changes a device.
///
/// # Errors
/// `Access Denied`, also for unknown devices, and what is wrong with a field.
pub async fn change(context: &Context, request: ChangeDevice) -> Result<Answer, Refusal> {
    let (device, _) = context.device(&request.nodeid, Rights::MANAGE_DEVICES).map_err(|refusal| {
        if refusal.text == "Invalid domain" { refusal } else { Refusal::new("Access Denied") }
    })?;
    if request.name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().count() > LONGEST_NAME)
    {
        return Err(Refusal::new(format!("A device name has 1 to {LONGEST_NAME} characters")));
    }
    if request.desc.as_ref().is_some_and(|text| text.chars().count() > LONGEST_DESCRIPTION) {
        return Err(Refusal::new(format!("A description has at most {LONGEST_DESCRIPTION} characters")));
    }
    if request.icon.is_some_and(|icon| !(1..=8).contains(&icon)) {
        return Err(Refusal::new("icon: expected 1 to 8"));
    }
    let tags = request.tags.map(Tags::clean).transpose()?;
    let by = context.user()?;
    context
        .site
        .change(|change| {
            let stored =
                change.directory().device(&device.id).ok_or_else(|| Refusal::new("Access Denied"))?;
            let old = stored.clone();
            let mut device = (**stored).clone();
            let mut changes = Vec::new();
            if let Some(name) = request.name.filter(|name| *name != device.name) {
                device.name = name;
                changes.push("name");
            }
            if let Some(desc) = request.desc.map(|desc| Some(desc).filter(|desc| !desc.is_empty()))
                && desc != device.desc
            {
                device.desc = desc;
                changes.push("description");
            }
            if let Some(icon) = request.icon.filter(|icon| *icon != device.icon) {
                device.icon = icon;
                changes.push("icon");
            }
            if let Some(host) =
                request.host.filter(|host| Some(host) != device.host.as_ref() && host.len() <= 255)
            {
                device.host = Some(host);
                changes.push("host");
            }
            if let Some(tags) = tags.filter(|tags| *tags != device.tags) {
                device.tags = tags;
                changes.push("tags");
            }
            if let Some(consent) = request.consent.filter(|consent| *consent != device.consent) {
                device.consent = consent;
                changes.push("consent");
            }
            for (field, port, usual) in [
                ("rdpport", request.rdpport, 3389),
                ("rfbport", request.rfbport, 5900),
                ("sshport", request.sshport, 22),
                ("httpport", request.httpport, 80),
                ("httpsport", request.httpsport, 443),
            ] {
                let Some(port) = port else { continue };
                if port == usual || port == 0 {
                    device.extra.remove(field);
                } else {
                    device.extra.insert(field.into(), port.into());
                }
                changes.push(field);
            }
            if changes.is_empty() {
                return Ok(((), Vec::new()));
            }
            let device = change.put_device(device);
            let group =
                change.directory().group(&device.group).map_or(String::new(), |group| group.name.clone());
            let list = changes.join(", ");
            let text = format!("Device {} of {group} changed: {list}", old.name);
            let event = changed_event(context, &device, &by, change.directory());
            Ok::<_, Refusal>(((), vec![event.says(140, &[&device.name, &group, &list], text)]))
        })
        .await?;
    Ok(Answer::Ok)
}

/// `changeDeviceMesh`.
#[derive(Deserialize)]
pub struct MoveDevices {
    nodeids: Vec<String>,
    meshid: Option<String>,
    meshname: Option<String>,
}

/// Moves devices to another group; one answer a device.
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn move_to_group(context: &Context, request: MoveDevices) -> Result<Answer, Refusal> {
    check_count(&request.nodeids)?;
    let texts = GroupTexts {
        malformed: "Invalid groupid",
        unnamed: "Invalid groupid",
        denied: "Permission denied",
        ..GroupTexts::USUAL
    };
    let (target, rights) =
        context.group_or(request.meshid.as_deref(), request.meshname.as_deref(), Rights::NONE, &texts)?;
    if !rights.contains(Rights::MANAGE_DEVICES | Rights::EDIT_GROUP) {
        return Err(Refusal::new("Permission denied"));
    }
    let by = context.user()?;
    let mut answers = Vec::new();
    for id in &request.nodeids {
        answers.push(move_one(context, &by, id, &target.id).await.map(|()| Answer::Ok));
    }
    Ok(Answer::Several(answers))
}

async fn move_one(context: &Context, by: &User, id: &str, target: &GroupId) -> Result<(), Refusal> {
    let (device, _) = context.device(id, Rights::NONE).map_err(|refusal| {
        if refusal.text == "Invalid nodeid" { Refusal::new("Device not found") } else { refusal }
    })?;
    // The right to take it away is one on its group, not on the device alone.
    let of_group = context.access()?.group_rights(&device.group).unwrap_or(Rights::NONE);
    if !of_group.contains(Rights::EDIT_GROUP) {
        return Err(Refusal::new("Permission denied"));
    }
    context
        .site
        .change(|change| {
            let stored =
                change.directory().device(&device.id).ok_or_else(|| Refusal::new("Device not found"))?;
            let mut device = (**stored).clone();
            let group = change
                .directory()
                .group(target)
                .filter(|group| group.deleted.is_none())
                .ok_or_else(|| Refusal::new("Unknown device group"))?
                .clone();
            if device.group == *target {
                return Err(Refusal::new("Device already in correct group"));
            }
            if device.mtype != group.mtype {
                return Err(Refusal::new("Device groups are of different types"));
            }
            let old = device.clone();
            device.group = target.clone();
            let device = change.put_device(device);
            let event = context
                .event("node", "nodemeshchange")
                .by(by)
                .on_device(&device.id)
                .with("node", Value::Object(context.device_view(&device)))
                .with("oldMeshId", old.group.as_str())
                .with("newMeshId", target.as_str())
                .says(
                    85,
                    &[&device.name, &group.name],
                    format!("Device {} moved to {}", device.name, group.name),
                )
                .to_device(&old, change.directory())
                .to_device(&device, change.directory());
            Ok(((), vec![event]))
        })
        .await
}

fn check_count(ids: &[String]) -> Result<(), Refusal> {
    if ids.is_empty() || ids.len() > MOST_DEVICES { Err(Refusal::new("Invalid nodeids")) } else { Ok(()) }
}

/// Requests that are only about some devices.
#[derive(Deserialize)]
pub struct NodeIds {
    pub(super) nodeids: Vec<String>,
}

/// `removedevices`: removes devices with their history; one answer a device. A connected agent is
/// disconnected; it comes back as a new device unless it is uninstalled first.
///
/// # Errors
/// `Invalid nodeids`.
pub async fn remove(context: &Context, request: NodeIds) -> Result<Answer, Refusal> {
    check_count(&request.nodeids)?;
    let by = context.user()?;
    let mut answers = Vec::new();
    for id in &request.nodeids {
        answers.push(remove_one(context, &by, id).await.map(|()| Answer::Ok));
    }
    Ok(Answer::Several(answers))
}

async fn remove_one(context: &Context, by: &User, id: &str) -> Result<(), Refusal> {
    let (device, _) =
        context.device(id, Rights::UNINSTALL).map_err(|refusal| match refusal.text.as_str() {
            "Access denied" | "Invalid nodeid" => Refusal::new("Denied"),
            _ => refusal,
        })?;
    let users = context
        .site
        .change(|change| {
            let stored =
                change.directory().device(&device.id).ok_or_else(|| Refusal::new("Invalid nodeid"))?;
            let device = stored.clone();
            let group =
                change.directory().group(&device.group).map_or(String::new(), |group| group.name.clone());
            let event = context
                .event("node", "removenode")
                .by(by)
                .on_device(&device.id)
                .on_group(&device.group)
                .says(87, &[&device.name, &group], format!("Device {} removed from {group}", device.name))
                .to_device(&device, change.directory())
                .to([by.id.as_str()]);
            super::groups::remove_device_links(change, &device.id);
            change.remove_device(&device.id);
            let users: Vec<UserId> = device.links.keys().filter_map(|id| UserId::parse(id).ok()).collect();
            Ok::<_, Refusal>((users, vec![event]))
        })
        .await?;
    // A device that comes back has the same id, and must not be open to yesterday's guests.
    context.site.shares.remove(&context.site.store, |share| share.device == device.id).await?;
    if let Some(agent) = context.site.agents.get(&device.id) {
        agent.cancel.cancel();
    }
    for user in users {
        context.site.events.resubscribe(&user);
    }
    Ok(())
}

/// `adddeviceuser`.
#[derive(Deserialize)]
pub struct AddDeviceUser {
    nodeid: String,
    rights: Option<u32>,
    usernames: Option<Vec<String>>,
    userids: Option<Vec<String>>,
    userid: Option<String>,
    #[serde(default)]
    remove: bool,
}

/// Gives users and user groups rights on one device, or takes them away. Unknown users are passed over, as
/// clients expect.
///
/// # Errors
/// Texts as control-protocol §4.5.
pub async fn add_user(context: &Context, request: AddDeviceUser) -> Result<Answer, Refusal> {
    let (device, own) = context.device(&request.nodeid, Rights::MANAGE_USERS)?;
    let wanted = match (request.remove, request.rights.map(Rights)) {
        (true, _) => None,
        (false, Some(rights)) if !rights.intersects(Rights(7)) => Some(rights),
        (false, _) => return Err(Refusal::new("Invalid rights")),
    };
    if wanted.is_some_and(|wanted| !own.is_full() && wanted.0 & !own.0 & !Rights::RESTRICTIONS.0 != 0) {
        return Err(Refusal::new("You cannot give rights that you do not have"));
    }
    let by = context.user()?;
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for principal in principals(context, request.usernames, request.userids, request.userid)? {
        match principal {
            Ok(principal) => found.push(principal),
            Err(name) => unknown.push(name),
        }
    }
    let touched = context
        .site
        .change(|change| {
            let stored =
                change.directory().device(&device.id).ok_or_else(|| Refusal::new("Invalid nodeid"))?;
            let mut device = (**stored).clone();
            let mut users = Vec::new();
            let mut events = Vec::new();
            for principal in &found {
                let id = match principal {
                    Principal::User(user) => user.id.as_str(),
                    Principal::UserGroup(id, _) => id.as_str(),
                };
                match wanted {
                    Some(rights) => device.links.insert(id.to_owned(), Link::named(principal.name(), rights)),
                    None => device.links.remove(id),
                };
                match principal {
                    Principal::User(user) => {
                        let Some(stored) = change.directory().user(&user.id) else { continue };
                        let mut user = (**stored).clone();
                        match wanted {
                            Some(rights) => {
                                user.links.insert(device.id.as_str().to_owned(), Link::new(rights))
                            }
                            None => user.links.remove(device.id.as_str()),
                        };
                        let user = change.put_user(user);
                        let text = format!("Device rights of {} changed", user.name);
                        let event = super::users::changed_event(context, &user, &by, 82, text)
                            .with("nodeListChange", user.id.as_str());
                        events.push(event.unlogged());
                        users.push(user.id.clone());
                    }
                    Principal::UserGroup(id, _) => {
                        let group = super::user_groups::set_rights(change, id, device.id.as_str(), wanted);
                        users.extend(
                            group
                                .iter()
                                .flat_map(|group| group.links.keys())
                                .filter_map(|id| UserId::parse(id).ok()),
                        );
                    }
                }
            }
            let device = change.put_device(device);
            let names: Vec<&str> = found.iter().map(Principal::name).collect();
            let (msgid, what) = if wanted.is_some() { (82, "changed") } else { (81, "removed") };
            let text = format!("Device rights of {} {what}", names.join(", "));
            events.push(changed_event(context, &device, &by, change.directory()).says(
                msgid,
                &[&names.join(", ")],
                text,
            ));
            Ok::<_, Refusal>((users, events))
        })
        .await?;
    for user in touched {
        context.site.events.resubscribe(&user);
    }
    if !unknown.is_empty() {
        super::notify::users_not_found(context, &by, &unknown);
    }
    Ok(Answer::Ok)
}

/// `setNotes`.
#[derive(Deserialize)]
pub struct SetNotes {
    id: String,
    notes: Option<String>,
}

/// `getNotes`.
#[derive(Deserialize)]
pub struct GetNotes {
    id: String,
}

/// The record that holds somebody's note, if the user may read it (or write it).
fn note_record(context: &Context, id: &str, write: bool) -> Result<String, Refusal> {
    let needed = |right: Rights| if write { right } else { Rights::NONE };
    if let Some(user) = id.strip_prefix("puser/") {
        let own = format!("user/{user}");
        if own != context.session.user.as_str() {
            return Err(Refusal::new("Access denied"));
        }
        return Ok(format!("ntp{own}"));
    }
    if id.starts_with(DeviceId::PREFIX) {
        context.device(id, needed(Rights::SET_NOTES))?;
    } else if id.starts_with(GroupId::PREFIX) {
        context.group(Some(id), None, needed(Rights::EDIT_GROUP))?;
    } else if id.starts_with(UserId::PREFIX) {
        context.with_site_right(SiteRights::MANAGE_USERS, "Access denied")?;
        context.user_named(id)?;
    } else {
        return Err(Refusal::new("id: expected the id of a device, device group or user"));
    }
    Ok(format!("nt{id}"))
}

/// Writes a note; an empty one is removed.
///
/// # Errors
/// Missing right, unknown id, too long.
pub async fn set_notes(context: &Context, request: SetNotes) -> Result<Answer, Refusal> {
    let record = note_record(context, &request.id, true)?;
    let notes = request.notes.unwrap_or_default();
    if notes.len() > LONGEST_NOTE {
        return Err(Refusal::new(format!(
            "A note has at most {LONGEST_NOTE} bytes; this one has {}",
            notes.len()
        )));
    }
    context
        .site
        .store
        .write(Durability::Durable, |change| {
            if notes.is_empty() {
                change.delete(&record);
            } else {
                change.put(&record, "note", &json!({ "value": notes, "time": clock::now_ms() }));
            }
            Ok::<_, Refusal>(())
        })
        .await?;
    Ok(Answer::Ok)
}

/// Reads a note.
///
/// # Errors
/// Missing right, unknown id.
pub async fn get_notes(context: &Context, request: GetNotes) -> Result<Answer, Refusal> {
    let record = note_record(context, &request.id, false)?;
    let note: Option<Map<String, Value>> = context.site.store.get(record).await?;
    let text = note.and_then(|mut note| note.remove("value")).unwrap_or(Value::Null);
    Ok(Answer::Body(fields! { "id" => request.id, "notes" => text }))
}
