//! Device groups: list, create, edit, remove, members.

use std::sync::Arc;

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::context::{Context, GroupTexts, group_view};
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::clock;
use crate::model::{DeviceGroup, Event, Link, Links, Rights, SiteRights, User};
use crate::store::Transaction;

/// Longest name (control-protocol §4.4).
const LONGEST_NAME: usize = 128;
/// Longest description.
const LONGEST_DESCRIPTION: usize = 1024;
/// Longest invitation code, and most of them for a group.
const LONGEST_CODE: usize = 64;
const MOST_CODES: usize = 32;
/// Most principals of one request.
const MOST_PRINCIPALS: usize = 1024;

/// `meshes`.
///
/// # Errors
/// When the account is gone.
pub async fn list(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let access = context.access()?;
    let groups: Vec<Value> = access.groups().map(|(group, _)| Value::Object(group_view(group))).collect();
    Ok(Answer::Body(fields! { "meshes" => groups }))
}

/// An event that a group has changed.
pub fn changed_event(context: &Context, group: &DeviceGroup, by: &User) -> Event {
    let mut event = context
        .event("mesh", "meshchange")
        .by(by)
        .on_group(&group.id)
        .with("name", group.name.as_str())
        .with("mtype", group.mtype)
        .with("desc", group.desc.clone())
        .with("flags", group.flags)
        .with("consent", group.consent)
        .with("links", json!(group.links));
    for field in ["invite", "expireDevs", "relayid"] {
        event = event.with(field, group.extra.get(field).cloned().unwrap_or(Value::Null));
    }
    event.to_group(group).to([by.id.as_str()])
}

/// Numbers that some clients send as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::String(text)) => text.trim().parse().map(Some).map_err(serde::de::Error::custom),
        Some(value) => serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom),
    }
}

/// `createmesh`.
#[derive(Deserialize)]
pub struct CreateGroup {
    meshname: String,
    #[serde(default, deserialize_with = "number")]
    meshtype: Option<u32>,
    desc: Option<String>,
    #[serde(default, deserialize_with = "number")]
    flags: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    consent: Option<u32>,
    /// The device that is near the devices without agents, where the server is not.
    relayid: Option<String>,
}

fn check_texts(name: Option<&str>, description: Option<&str>) -> Result<(), Refusal> {
    if name.is_some_and(|name| name.trim().is_empty() || name.chars().count() > LONGEST_NAME) {
        return Err(Refusal::new("Invalid group name"));
    }
    if description.is_some_and(|text| text.chars().count() > LONGEST_DESCRIPTION) {
        return Err(Refusal::new("Invalid group description"));
    }
    Ok(())
}

/// Creates a group; its creator administers it.
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn create(context: &Context, request: CreateGroup) -> Result<Answer, Refusal> {
    let user = context.user()?;
    if user.siteadmin.restricted_by(SiteRights::NO_NEW_GROUPS) {
        return Err(Refusal::new("Permission denied"));
    }
    check_texts(Some(&request.meshname), request.desc.as_deref())?;
    let mtype = request.meshtype.unwrap_or(DeviceGroup::WITH_AGENT);
    if !(1..=4).contains(&mtype) {
        return Err(Refusal::new("Invalid group type"));
    }
    let relay = match &request.relayid {
        Some(id) => Some(context.device(id, Rights::REMOTE_CONTROL)?.0.id.clone()),
        // From the internet, devices without agents are reached through a device near them, or not at all.
        None if mtype > 2 && context.site.config.settings.mode == crate::config::Mode::Wan => {
            return Err(Refusal::new("Invalid group type"));
        }
        None => None,
    };
    let extra = relay.map(|id| ("relayid".to_owned(), id.as_str().into())).into_iter().collect();
    let id = GroupId::random(context.domain()).map_err(|_| Refusal::new("Invalid domain"))?;
    let group = DeviceGroup {
        id: id.clone(),
        name: request.meshname,
        mtype,
        desc: request.desc,
        domain: context.domain().to_owned(),
        links: Links::from([(user.id.as_str().to_owned(), Link::named(&user.name, Rights::FULL))]),
        creation: clock::now_ms(),
        creatorid: Some(user.id.clone()),
        creatorname: Some(user.name.clone()),
        flags: request.flags.unwrap_or(0),
        consent: request.consent.unwrap_or(0),
        deleted: None,
        extra,
    };
    // The creator hears of the new group at once: the link is there before the event is shown.
    let (group, account_event, group_event) = context
        .site
        .store
        .write(crate::store::Durability::Durable, |change| {
            let stored =
                change.directory().user(&user.id).ok_or_else(|| Refusal::new("Permission denied"))?;
            let mut user = (**stored).clone();
            user.links.insert(id.as_str().to_owned(), Link::new(Rights::FULL));
            let user = change.put_user(user);
            let group = change.put_group(group);
            let account =
                super::users::changed_event(context, &user, &user, 78, "Groups changed".into()).unlogged();
            let event = context
                .event("mesh", "createmesh")
                .by(&user)
                .on_group(&group.id)
                .with("mtype", group.mtype)
                .with("mesh", Value::Object(group_view(&group)))
                .says(76, &[&group.name], format!("Device group {} created", group.name))
                .to_group(&group)
                .to(["server-createmesh", user.id.as_str()]);
            change.log(&event, clock::now_ms());
            Ok::<_, Refusal>((group, account, event))
        })
        .await?;
    context.site.events.resubscribe(&user.id);
    let now = clock::now_ms();
    context.site.events.show(&account_event, now);
    context.site.events.show(&group_event, now);
    Ok(Answer::OkWith(fields! { "meshid" => group.id, "links" => group.links }))
}

/// `editmesh`.
#[derive(Deserialize)]
pub struct EditGroup {
    meshid: Option<String>,
    meshidname: Option<String>,
    meshname: Option<String>,
    desc: Option<String>,
    #[serde(default, deserialize_with = "number")]
    flags: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    consent: Option<u32>,
    #[serde(rename = "expireDevs", default, deserialize_with = "number")]
    expire_devices: Option<u32>,
    invite: Option<InviteChange>,
}

/// Codes that lead to a group's invitation, or `"*"` for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum InviteChange {
    None(String),
    Codes {
        codes: Vec<String>,
        #[serde(default)]
        flags: u32,
        ag: Option<u32>,
    },
}

impl InviteChange {
    /// The record's field; `Null` for no codes.
    fn record(self) -> Result<Value, Refusal> {
        match self {
            InviteChange::None(text) if text == "*" => Ok(Value::Null),
            InviteChange::None(_) => Err(Refusal::new("invite: expected `*` or codes")),
            InviteChange::Codes { codes, flags, ag } => {
                let fits = |code: &String| (1..=LONGEST_CODE).contains(&code.chars().count());
                if codes.is_empty() || codes.len() > MOST_CODES || !codes.iter().all(fits) {
                    return Err(Refusal::new(format!(
                        "invite.codes: expected 1 to {MOST_CODES} codes of 1 to {LONGEST_CODE} characters"
                    )));
                }
                if flags > 2 {
                    return Err(Refusal::new(
                        "invite.flags: expected 0 (both), 1 (interactive) or 2 (background)",
                    ));
                }
                let mut invite = fields! { "codes" => codes, "flags" => flags };
                if let Some(ag) = ag {
                    invite.insert("ag".into(), ag.into());
                }
                Ok(Value::Object(invite))
            }
        }
    }
}

/// The codes of an `invite` field.
fn codes(invite: Option<&Value>) -> impl Iterator<Item = &str> {
    invite
        .and_then(|invite| invite.get("codes"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Changes a group.
///
/// # Errors
/// Texts as control-protocol §4.4; a missing right is told, where MeshCentral stays silent.
pub async fn edit(context: &Context, request: EditGroup) -> Result<Answer, Refusal> {
    let texts = GroupTexts {
        unknown: "Invalid group identifier ",
        unnamed: "Invalid group identifier",
        ..GroupTexts::USUAL
    };
    let (group, _) = context.group_or(
        request.meshid.as_deref(),
        request.meshidname.as_deref(),
        Rights::EDIT_GROUP,
        &texts,
    )?;
    check_texts(request.meshname.as_deref(), request.desc.as_deref())?;
    if request.expire_devices.is_some_and(|days| days > 2000) {
        return Err(Refusal::new("expireDevs: expected 0 to 2000 days"));
    }
    let invite = request.invite.map(InviteChange::record).transpose()?;
    let by = context.user()?;
    context
        .site
        .change(|change| {
            let stored =
                change.directory().group(&group.id).ok_or_else(|| Refusal::new("Unknown device group"))?;
            for code in codes(invite.as_ref()) {
                let taken = change.directory().groups().any(|other| {
                    other.id != group.id
                        && other.domain == group.domain
                        && other.deleted.is_none()
                        && codes(other.extra.get("invite")).any(|theirs| theirs == code)
                });
                if taken {
                    return Err(Refusal::new(format!("Invite code {code:?} is already in use")));
                }
            }
            let old = stored.clone();
            let mut group = (**stored).clone();
            let mut changes: Vec<(u32, String)> = Vec::new();
            if let Some(name) = request.meshname.filter(|name| *name != group.name) {
                changes.push((1, format!("renamed from {}", old.name)));
                group.name = name;
            }
            if let Some(desc) = request.desc.filter(|desc| Some(desc) != group.desc.as_ref()) {
                changes.push((2, "description changed".into()));
                group.desc = Some(desc).filter(|desc| !desc.is_empty());
            }
            if let Some(flags) = request.flags.filter(|flags| *flags != group.flags) {
                changes.push((3, "options changed".into()));
                group.flags = flags;
            }
            if let Some(consent) = request.consent.filter(|consent| *consent != group.consent) {
                changes.push((4, "consent changed".into()));
                group.consent = consent;
            }
            if let Some(days) = request.expire_devices {
                let stored = group.extra.get("expireDevs").and_then(Value::as_u64).unwrap_or(0);
                if u64::from(days) != stored {
                    changes.push((5, "removal of inactive devices changed".into()));
                    match days {
                        0 => group.extra.remove("expireDevs"),
                        days => group.extra.insert("expireDevs".into(), days.into()),
                    };
                }
            }
            if let Some(invite) = invite
                && group.extra.get("invite").unwrap_or(&Value::Null) != &invite
            {
                changes.push((6, "invitation codes changed".into()));
                match invite {
                    Value::Null => group.extra.remove("invite"),
                    invite => group.extra.insert("invite".into(), invite),
                };
            }
            if changes.is_empty() {
                return Ok(((), Vec::new()));
            }
            let group = change.put_group(group);
            let (numbers, texts): (Vec<u32>, Vec<String>) = changes.into_iter().unzip();
            let event = changed_event(context, &group, &by)
                .with("msgid", 142)
                .with("msgArgs", json!([group.name, numbers]))
                .with("msg", format!("Device group {}: {}", group.name, texts.join(", ")));
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await?;
    Ok(Answer::Ok)
}

/// `deletemesh`.
#[derive(Deserialize)]
pub struct DeleteGroup {
    meshid: Option<String>,
    meshname: Option<String>,
}

/// Removes a group with its devices. The group's record stays, marked as deleted, because an agent that
/// comes back revives it (agent-protocol §8.1); its agents are disconnected.
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn delete(context: &Context, request: DeleteGroup) -> Result<Answer, Refusal> {
    let texts = GroupTexts {
        malformed: "Unknown device group",
        unnamed: "Invalid group identifier",
        ..GroupTexts::USUAL
    };
    let (group, _) =
        context.group_or(request.meshid.as_deref(), request.meshname.as_deref(), Rights::FULL, &texts)?;
    let by = context.user()?;
    let (devices, users) = context
        .site
        .change(|change| {
            let stored =
                change.directory().group(&group.id).ok_or_else(|| Refusal::new("Unknown device group"))?;
            let mut group = (**stored).clone();
            let event = context
                .event("mesh", "deletemesh")
                .by(&by)
                .on_group(&group.id)
                .with("name", group.name.as_str())
                .says(77, &[&group.name], format!("Device group {} removed", group.name))
                .to_group(&group)
                .to([by.id.as_str()]);
            let mut events = vec![event];
            let devices: Vec<DeviceId> =
                change.directory().devices_in(&group.id).map(|device| device.id.clone()).collect();
            for id in &devices {
                remove_device_links(change, id);
                change.remove_device(id);
            }
            let mut users = Vec::new();
            for principal in group.links.keys() {
                if let Ok(id) = UserId::parse(principal)
                    && let Some(mut user) = change.directory().user(&id).map(|user| (**user).clone())
                {
                    user.links.remove(group.id.as_str());
                    let user = change.put_user(user);
                    let text = format!("Groups of {} changed", user.name);
                    events.push(super::users::changed_event(context, &user, &by, 78, text).unlogged());
                    users.push(id);
                } else if let Ok(id) = UserGroupId::parse(principal)
                    && let Some(user_group) =
                        super::user_groups::set_rights(change, &id, group.id.as_str(), None)
                {
                    events.push(super::user_groups::changed_event(context, &user_group, &by).unlogged());
                }
            }
            group.extra.remove("invite");
            group.deleted = Some(clock::iso8601(clock::now_ms()).into());
            change.put_group(group);
            Ok::<_, Refusal>(((devices, users), events))
        })
        .await?;
    for id in devices {
        if let Some(agent) = context.site.agents.get(&id) {
            agent.cancel.cancel();
        }
    }
    for user in users {
        context.site.events.resubscribe(&user);
    }
    Ok(Answer::Ok)
}

/// Takes the links to a device out of the users and user groups that have them.
pub fn remove_device_links(change: &mut Transaction, id: &DeviceId) {
    let Some(device) = change.directory().device(id).cloned() else { return };
    for principal in device.links.keys() {
        if let Ok(user) = UserId::parse(principal)
            && let Some(mut user) = change.directory().user(&user).map(|user| (**user).clone())
        {
            user.links.remove(id.as_str());
            change.put_user(user);
        } else if let Ok(group) = UserGroupId::parse(principal) {
            super::user_groups::set_rights(change, &group, id.as_str(), None);
        }
    }
}

/// Somebody who is given rights.
pub enum Principal {
    /// A person.
    User(Arc<User>),
    /// Every member of a user group.
    UserGroup(UserGroupId, String),
}

impl Principal {
    /// The display name.
    pub fn name(&self) -> &str {
        match self {
            Principal::User(user) => &user.name,
            Principal::UserGroup(_, name) => name,
        }
    }
}

/// The principals a request names: by bare user names, full ids, or one full id. Unknown ones are returned
/// by the name they were given.
///
/// # Errors
/// `Invalid usernames` when there are none or too many.
pub fn principals(
    context: &Context,
    names: Option<Vec<String>>,
    ids: Option<Vec<String>>,
    id: Option<String>,
) -> Result<Vec<Result<Principal, String>>, Refusal> {
    let named = names.into_iter().flatten().chain(ids.into_iter().flatten()).chain(id);
    let named: Vec<String> = named.take(MOST_PRINCIPALS + 1).collect();
    if named.is_empty() || named.len() > MOST_PRINCIPALS {
        return Err(Refusal::new("Invalid usernames"));
    }
    Ok(named
        .into_iter()
        .map(|name| {
            if name.starts_with(UserGroupId::PREFIX) {
                let group = context.user_group(&name).map_err(|_| name)?;
                Ok(Principal::UserGroup(group.id.clone(), group.name.clone()))
            } else {
                context.user_named(&name).map(Principal::User).map_err(|_| name)
            }
        })
        .collect())
}

/// `addmeshuser`.
#[derive(Deserialize)]
pub struct AddGroupUser {
    meshid: Option<String>,
    meshname: Option<String>,
    #[serde(default, deserialize_with = "number")]
    meshadmin: Option<u32>,
    usernames: Option<Vec<String>>,
    userids: Option<Vec<String>>,
    userid: Option<String>,
    #[serde(default)]
    remove: bool,
}

/// Gives users and user groups rights on a group, or takes them away. The result is one text a principal,
/// joined by a comma and a space (control-protocol §4.4).
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn add_user(context: &Context, request: AddGroupUser) -> Result<Answer, Refusal> {
    let texts = GroupTexts {
        malformed: "Unknown group",
        unknown: "Unknown group",
        unnamed: "Invalid groupid",
        denied: "Permission denied",
    };
    let (group, own) = context.group_or(
        request.meshid.as_deref(),
        request.meshname.as_deref(),
        Rights::MANAGE_USERS,
        &texts,
    )?;
    let wanted = match (request.remove, request.meshadmin) {
        (true, _) => None,
        (false, Some(rights)) => Some(Rights(rights)),
        (false, None) => return Err(Refusal::new("Invalid group rights")),
    };
    let by = context.user()?;
    let mut texts = Vec::new();
    let (mut success, mut failed) = (0u32, 0u32);
    let mut unknown = Vec::new();
    for principal in principals(context, request.usernames, request.userids, request.userid)? {
        let outcome = match principal {
            Ok(principal) => set_group_rights(context, &group, own, &by, &principal, wanted).await,
            Err(name) => {
                let text = format!("Unknown user {}", name.rsplit('/').next().unwrap_or(&name));
                unknown.push(name);
                Err(Refusal::new(text))
            }
        };
        match outcome {
            Ok(text) => {
                success += 1;
                texts.push(text);
            }
            Err(refusal) => {
                // Only users who do not exist count as failed.
                failed += u32::from(refusal.text.starts_with("Unknown user"));
                texts.push(refusal.text);
            }
        }
    }
    if !unknown.is_empty() {
        super::notify::users_not_found(context, &by, &unknown);
    }
    if success == 0 && failed == 0 {
        texts.push("Nothing done".into());
    }
    Ok(Answer::OkWith(fields! { "result" => texts.join(", "), "success" => success, "failed" => failed }))
}

async fn set_group_rights(
    context: &Context,
    group: &DeviceGroup,
    own: Rights,
    by: &User,
    principal: &Principal,
    wanted: Option<Rights>,
) -> Result<String, Refusal> {
    let id = match principal {
        Principal::User(user) if user.id == by.id => return Err(Refusal::new("Can't change self")),
        Principal::User(user) => user.id.as_str(),
        Principal::UserGroup(id, _) => id.as_str(),
    };
    let name = principal.name().to_owned();
    // Clients look for the name as it is in the id.
    let key = id.rsplit('/').next().unwrap_or(id).to_owned();
    let changed = context
        .site
        .change(|change| {
            let stored = change.directory().group(&group.id).ok_or_else(|| Refusal::new("Unknown group"))?;
            let mut group = (**stored).clone();
            let is_admin = group.links.get(id).is_some_and(|link| link.rights.is_full());
            if is_admin && !own.is_full() {
                return Err(Refusal::new("Can't change rights of device group administrator"));
            }
            // Nobody passes on more than is held; of the restrictions, anything may be added.
            let beyond = wanted.is_some_and(|wanted| wanted.0 & !own.0 & !Rights::RESTRICTIONS.0 != 0);
            if beyond && !own.is_full() {
                return Err(Refusal::new("Can't set device group administrator, if not administrator"));
            }
            let had = match wanted {
                Some(rights) => group.links.insert(id.to_owned(), Link::named(&name, rights)),
                None => group.links.remove(id),
            };
            if wanted.is_none() && had.is_none() {
                return Err(Refusal::new("User not in group"));
            }
            let mut events = Vec::new();
            let mut users = Vec::new();
            match principal {
                Principal::User(user) => {
                    let stored =
                        change.directory().user(&user.id).ok_or_else(|| Refusal::new("Unknown user"))?;
                    let mut user = (**stored).clone();
                    match wanted {
                        Some(rights) => user.links.insert(group.id.as_str().to_owned(), Link::new(rights)),
                        None => user.links.remove(group.id.as_str()),
                    };
                    let user = change.put_user(user);
                    let text = format!("Groups of {} changed", user.name);
                    events.push(super::users::changed_event(context, &user, by, 78, text).unlogged());
                    users.push(user.id.clone());
                }
                Principal::UserGroup(id, _) => {
                    let user_group = super::user_groups::set_rights(change, id, group.id.as_str(), wanted)
                        .ok_or_else(|| Refusal::new("Unknown user group"))?;
                    let members = user_group.links.keys().filter_map(|id| UserId::parse(id).ok());
                    users.extend(members);
                    events.push(super::user_groups::changed_event(context, &user_group, by).unlogged());
                }
            }
            let group = change.put_group(group);
            let text = match wanted {
                Some(_) => format!("{name} was given rights on the device group {}", group.name),
                None => format!("{name} was removed from the device group {}", group.name),
            };
            let event = changed_event(context, &group, by)
                .says(if wanted.is_some() { 78 } else { 83 }, &[&name, &group.name], text)
                .to(users.iter().map(|user| user.as_str().to_owned()));
            events.push(event);
            Ok((users, events))
        })
        .await?;
    for user in changed {
        context.site.events.resubscribe(&user);
    }
    Ok(match wanted {
        Some(_) => format!("Added user {key}"),
        None => format!("Removed user {key}"),
    })
}

/// `removemeshuser`.
#[derive(Deserialize)]
pub struct RemoveGroupUser {
    meshid: Option<String>,
    meshname: Option<String>,
    userid: String,
}

/// Takes a principal's rights on a group away.
///
/// # Errors
/// Texts as control-protocol §4.4.
pub async fn remove_user(context: &Context, request: RemoveGroupUser) -> Result<Answer, Refusal> {
    let texts = GroupTexts { unnamed: "Invalid groupid", denied: "Permission denied", ..GroupTexts::USUAL };
    let (group, own) = context.group_or(
        request.meshid.as_deref(),
        request.meshname.as_deref(),
        Rights::MANAGE_USERS,
        &texts,
    )?;
    let by = context.user()?;
    let mut named = principals(context, None, None, Some(request.userid))?;
    let principal = named.pop().and_then(Result::ok).ok_or_else(|| Refusal::new("User not in group"))?;
    set_group_rights(context, &group, own, &by, &principal, None).await.map_err(|refusal| {
        if refusal.text == "Can't change self" { Refusal::new("Can't remove self") } else { refusal }
    })?;
    Ok(Answer::Ok)
}
