//! User groups: list, create, edit, members.

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::{Context, record_fields};
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::model::{Event, Link, Links, Rights, SiteRights, User, UserGroup};

/// Longest name (control-protocol §4.3).
const LONGEST_NAME: usize = 64;
/// Longest description.
const LONGEST_DESCRIPTION: usize = 1024;
/// Most members added at once.
const MOST_MEMBERS: usize = 1024;

/// `usergroups`: whole records for those who manage them, names for the others; `null` when there are none.
///
/// # Errors
/// When the account is gone.
pub async fn list(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let whole = context.user()?.siteadmin.contains(SiteRights::USER_GROUPS);
    let directory = context.site.store.directory();
    let groups: Map<String, Value> = directory
        .user_groups()
        .filter(|group| group.domain == context.domain())
        .map(|group| {
            let mut view = if whole {
                record_fields(&**group)
            } else {
                fields! { "name" => group.name }
            };
            if whole {
                view.insert("type".into(), "ugrp".into());
            }
            (group.id.as_str().to_owned(), Value::Object(view))
        })
        .collect();
    Ok(Answer::Body(fields! { "ugroups" => if groups.is_empty() { Value::Null } else { groups.into() } }))
}

/// An event about a user group, aimed at those who see it.
pub fn changed_event(context: &Context, group: &UserGroup, by: &User) -> Event {
    context
        .event("ugrp", "usergroupchange")
        .by(by)
        .with("ugrpid", group.id.as_str())
        .with("name", group.name.as_str())
        .with("desc", group.desc.clone())
        .with("links", json!(group.links))
        .to(["*", group.id.as_str(), by.id.as_str()])
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

/// `createusergroup`.
#[derive(Deserialize)]
pub struct CreateUserGroup {
    name: String,
    desc: Option<String>,
    clone: Option<String>,
}

/// Creates a user group, or a copy of one.
///
/// # Errors
/// Texts as control-protocol §4.3.
pub async fn create(context: &Context, request: CreateUserGroup) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::USER_GROUPS, "Permission denied")?;
    check_texts(Some(&request.name), request.desc.as_deref())?;
    let links = match &request.clone {
        Some(id) => context.user_group(id).map_err(|_| Refusal::new("Invalid clone groupid"))?.links.clone(),
        None => Links::new(),
    };
    let group = UserGroup {
        id: UserGroupId::random(context.domain()).map_err(|_| Refusal::new("Invalid domain"))?,
        name: request.name,
        desc: request.desc,
        domain: context.domain().to_owned(),
        links,
        consent: 0,
        extra: Map::new(),
    };
    let (group, members) = context
        .site
        .change(|change| {
            let mut members = Vec::new();
            for id in group.links.keys() {
                link_back(change, id, &group.id, group.links.get(id).map(|link| link.rights), &mut members);
            }
            let group = change.put_user_group(group);
            let event = Event {
                body: {
                    let mut body = changed_event(context, &group, &by).body;
                    body.insert("action".into(), "createusergroup".into());
                    body
                },
                ..changed_event(context, &group, &by)
            };
            // Clients know this event's own names for two fields.
            let event = event
                .says(69, &[&group.name], format!("User group {} created", group.name))
                .with("msgArgv", json!([group.name]))
                .with("ugrpdomain", context.domain());
            Ok::<_, Refusal>(((group, members), vec![event]))
        })
        .await?;
    for member in members {
        context.site.events.resubscribe(&member);
    }
    Ok(Answer::OkWith(fields! { "ugrpid" => group.id, "links" => group.links }))
}

/// Keeps the mirror of a user group's link in the user, group or device it points to; `None` removes it.
/// Users touched are noted.
fn link_back(
    change: &mut crate::store::Transaction,
    linked: &str,
    group: &UserGroupId,
    rights: Option<Rights>,
    users: &mut Vec<UserId>,
) {
    let update = |links: &mut Links| match rights {
        Some(rights) => {
            links.insert(group.as_str().to_owned(), Link::new(rights));
        }
        None => {
            links.remove(group.as_str());
        }
    };
    if let Ok(id) = UserId::parse(linked)
        && let Some(mut user) = change.directory().user(&id).map(|user| (**user).clone())
    {
        update(&mut user.links);
        change.put_user(user);
        users.push(id);
    } else if let Ok(id) = GroupId::parse(linked)
        && let Some(mut record) = change.directory().group(&id).map(|record| (**record).clone())
    {
        update(&mut record.links);
        change.put_group(record);
    } else if let Ok(id) = DeviceId::parse(linked)
        && let Some(mut record) = change.directory().device(&id).map(|record| (**record).clone())
    {
        update(&mut record.links);
        change.put_device(record);
    }
}

/// `editusergroup`.
#[derive(Deserialize)]
pub struct EditUserGroup {
    ugrpid: String,
    name: Option<String>,
    desc: Option<String>,
    consent: Option<u32>,
    flags: Option<u32>,
}

/// Changes a user group.
///
/// # Errors
/// Missing right, unknown group, bad texts.
pub async fn edit(context: &Context, request: EditUserGroup) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::USER_GROUPS, "Permission denied")?;
    check_texts(request.name.as_deref(), request.desc.as_deref())?;
    let id = context.user_group(&request.ugrpid)?.id.clone();
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user_group(&id).ok_or_else(|| Refusal::new("Unknown user group"))?;
            let mut group = (**stored).clone();
            if let Some(name) = request.name {
                group.name = name;
            }
            if let Some(desc) = request.desc {
                group.desc = Some(desc).filter(|desc| !desc.is_empty());
            }
            if let Some(consent) = request.consent {
                group.consent = consent;
            }
            if let Some(flags) = request.flags {
                group.extra.insert("flags".into(), flags.into());
            }
            let group = change.put_user_group(group);
            let event = changed_event(context, &group, &by).says(
                79,
                &[&group.name],
                format!("User group {} changed", group.name),
            );
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await?;
    Ok(Answer::Ok)
}

/// `deleteusergroup`.
#[derive(Deserialize)]
pub struct DeleteUserGroup {
    ugrpid: String,
}

/// Removes a user group with every link to it.
///
/// # Errors
/// Texts as control-protocol §4.3.
pub async fn delete(context: &Context, request: DeleteUserGroup) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::USER_GROUPS, "Permission denied")?;
    let id = UserGroupId::complete(context.domain(), &request.ugrpid)
        .map_err(|_| Refusal::new("Invalid domain id"))?;
    // "device" is how clients know this text.
    context.user_group(id.as_str()).map_err(|_| Refusal::new("Unknown device group"))?;
    let members = context
        .site
        .change(|change| {
            let stored =
                change.directory().user_group(&id).ok_or_else(|| Refusal::new("Unknown device group"))?;
            let group = (**stored).clone();
            let mut members = Vec::new();
            for linked in group.links.keys() {
                link_back(change, linked, &id, None, &mut members);
            }
            change.remove_user_group(&id);
            let event = context
                .event("ugrp", "deleteusergroup")
                .by(&by)
                .with("ugrpid", id.as_str())
                .with("name", group.name.as_str())
                .with("msg", format!("User group {} removed", group.name))
                .to(["*", id.as_str(), by.id.as_str()])
                .to(members.iter().map(|member: &UserId| member.as_str().to_owned()));
            Ok::<_, Refusal>((members, vec![event]))
        })
        .await?;
    for member in members {
        context.site.events.resubscribe(&member);
    }
    Ok(Answer::OkWith(fields! { "ugrpid" => id }))
}

/// `addusertousergroup`.
#[derive(Deserialize)]
pub struct AddMembers {
    ugrpid: String,
    usernames: Vec<String>,
}

/// Adds members; unknown names are told in a notification, the others are added.
///
/// # Errors
/// Texts as control-protocol §4.3.
pub async fn add_members(context: &Context, request: AddMembers) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::USER_GROUPS, "Permission denied")?;
    if request.usernames.is_empty() || request.usernames.len() > MOST_MEMBERS {
        return Err(Refusal::new("Invalid usernames"));
    }
    let group = context.user_group(&request.ugrpid)?;
    let (mut users, mut unknown) = (Vec::new(), Vec::new());
    for name in &request.usernames {
        match context.user_named(name) {
            Ok(user) => users.push(user),
            Err(_) => unknown.push(name.clone()),
        }
    }
    let (added, failed) = (users.len(), unknown.len());
    if !users.is_empty() {
        context
            .site
            .change(|change| {
                let stored = change
                    .directory()
                    .user_group(&group.id)
                    .ok_or_else(|| Refusal::new("Invalid groupid"))?;
                let mut group = (**stored).clone();
                let mut events = Vec::new();
                for user in &users {
                    let mut member = Link::named(&user.name, Rights(1));
                    member.extra.insert("userid".into(), user.id.as_str().into());
                    group.links.insert(user.id.as_str().to_owned(), member);
                    link_back(change, user.id.as_str(), &group.id, Some(Rights(1)), &mut Vec::new());
                    if let Some(user) = change.directory().user(&user.id) {
                        let text = format!("Membership of {} in user groups changed", user.name);
                        events.push(super::users::changed_event(context, user, &by, 67, text));
                    }
                }
                let group = change.put_user_group(group);
                let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
                let event = changed_event(context, &group, &by)
                    .with("msgid", 71)
                    .with("msgArgs", json!([names, group.name]))
                    .with("msg", format!("{} joined the user group {}", names.join(", "), group.name))
                    .with("addUserDomain", context.domain())
                    .to(users.iter().map(|user| user.id.as_str().to_owned()));
                events.push(event);
                Ok::<_, Refusal>(((), events))
            })
            .await?;
        for user in &users {
            context.site.events.resubscribe(&user.id);
        }
    }
    if !unknown.is_empty() {
        super::notify::users_not_found(context, &by, &unknown);
    }
    Ok(Answer::OkWith(fields! { "added" => added, "failed" => failed }))
}

/// `removeuserfromusergroup`.
#[derive(Deserialize)]
pub struct RemoveMember {
    ugrpid: String,
    userid: String,
}

/// Removes a member.
///
/// # Errors
/// Texts as control-protocol §4.3.
pub async fn remove_member(context: &Context, request: RemoveMember) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::USER_GROUPS, "Permission denied")?;
    let group = context.user_group(&request.ugrpid)?;
    let user = context.user_named(&request.userid)?;
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user_group(&group.id).ok_or_else(|| Refusal::new("Invalid groupid"))?;
            let mut group = (**stored).clone();
            if group.links.remove(user.id.as_str()).is_none() {
                return Err(Refusal::new("User not in group"));
            }
            link_back(change, user.id.as_str(), &group.id, None, &mut Vec::new());
            let mut events = Vec::new();
            if let Some(user) = change.directory().user(&user.id) {
                let text = format!("Membership of {} in user groups changed", user.name);
                events.push(super::users::changed_event(context, user, &by, 67, text));
            }
            let group = change.put_user_group(group);
            let text = format!("User {} left the user group {}", user.name, group.name);
            let event = changed_event(context, &group, &by).says(72, &[&user.name, &group.name], text);
            events.push(event.to([user.id.as_str()]));
            Ok(((), events))
        })
        .await?;
    context.site.events.resubscribe(&user.id);
    Ok(Answer::Ok)
}

/// Sets or removes the rights that a user group's members have on a group or device; for `addmeshuser` and
/// `adddeviceuser` with a user group's id.
pub fn set_rights(
    change: &mut crate::store::Transaction,
    id: &UserGroupId,
    on: &str,
    rights: Option<Rights>,
) -> Option<std::sync::Arc<UserGroup>> {
    let mut group = (**change.directory().user_group(id)?).clone();
    match rights {
        Some(rights) => {
            group.links.insert(on.to_owned(), Link::new(rights));
        }
        None => {
            group.links.remove(on);
        }
    }
    Some(change.put_user_group(group))
}
