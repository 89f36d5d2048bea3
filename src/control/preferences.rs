//! What people set for themselves: language, notifications, the state of their pages.

use outpost_wire::id::{DeviceId, GroupId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::model::{Rights, SiteRights, User};
use crate::store::Durability;

/// Longest state of pages, in bytes of JSON (control-protocol §4.2).
const LONGEST_STATE: usize = 30_000;
/// Longest picture of a user, as a data URL.
const LONGEST_IMAGE: usize = 600_000;
/// The notification bits (control-protocol §4.2): 2 to 512.
const NOTIFY_BITS: u32 = 0x3FE;

/// Changes one's own account, unless its settings are locked.
async fn change_own(
    context: &Context,
    (msgid, text): (u32, &str),
    edit: impl FnOnce(&mut User) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let user = context.user()?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED_SETTINGS) {
        return Err(Refusal::new("The settings of this account are locked"));
    }
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user(&user.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            edit(&mut user)?;
            let user = change.put_user(user);
            let text = format!("{text} of {} changed", user.name);
            let event = super::users::changed_event(context, &user, &user, msgid, text);
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await
}

/// `changelang`.
#[derive(Deserialize)]
pub struct ChangeLanguage {
    lang: String,
}

/// Sets one's language; `*` goes back to that of the browser.
///
/// # Errors
/// What is no language, and for login tokens.
pub async fn change_language(context: &Context, request: ChangeLanguage) -> Result<Answer, Refusal> {
    context.without_token()?;
    let plain = request.lang.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if request.lang != "*" && !((2..=16).contains(&request.lang.len()) && plain) {
        return Err(Refusal::new("lang: expected a language such as `en`, or `*`"));
    }
    change_own(context, (3, "Language"), |user| {
        if request.lang == "*" {
            user.extra.remove("lang");
        } else {
            user.extra.insert("lang".into(), request.lang.into());
        }
        Ok(())
    })
    .await?;
    Ok(Answer::Ok)
}

/// `changemeshnotify`.
#[derive(Deserialize)]
pub struct ChangeGroupNotify {
    meshid: String,
    notify: Value,
}

/// `changeusernotify`.
#[derive(Deserialize)]
pub struct ChangeDeviceNotify {
    nodeid: String,
    notify: Value,
}

fn notify_flags(value: &Value) -> Result<u32, Refusal> {
    let flags = value.as_u64().and_then(|flags| u32::try_from(flags).ok());
    flags.filter(|flags| flags & !NOTIFY_BITS == 0).ok_or_else(|| Refusal::new("Invalid notification flags"))
}

/// Keeps the flags in the link, where there is one, and beside the links where the right comes from a user
/// group.
fn set_notify(user: &mut User, id: &str, flags: u32) {
    if let Some(link) = user.links.get_mut(id) {
        if flags == 0 {
            link.extra.remove("notify");
        } else {
            link.extra.insert("notify".into(), flags.into());
        }
    }
    let mut notify = match user.extra.remove("notify") {
        Some(Value::Object(notify)) => notify,
        _ => Map::new(),
    };
    if flags == 0 || user.links.contains_key(id) {
        notify.remove(id);
    } else {
        notify.insert(id.to_owned(), flags.into());
    }
    if !notify.is_empty() {
        user.extra.insert("notify".into(), notify.into());
    }
}

/// Sets what one is notified of in a device group. Answered only when it is refused, as clients know it.
///
/// # Errors
/// `Invalid group identifier`, `Invalid notification flags`, `Access denied`.
pub async fn change_group_notify(context: &Context, request: ChangeGroupNotify) -> Result<Answer, Refusal> {
    let id = GroupId::complete(context.domain(), &request.meshid)
        .map_err(|_| Refusal::new("Invalid group identifier"))?;
    let flags = notify_flags(&request.notify)?;
    context.group(Some(id.as_str()), None, Rights::NONE).map_err(|_| Refusal::new("Access denied"))?;
    change_own(context, (73, "Notifications"), |user| {
        set_notify(user, id.as_str(), flags);
        Ok(())
    })
    .await?;
    Ok(Answer::Nothing)
}

/// Sets what one is notified of by one device. Answered only when it is refused.
///
/// # Errors
/// `Invalid device identifier`, `Invalid notification flags`, `Access denied`.
pub async fn change_device_notify(context: &Context, request: ChangeDeviceNotify) -> Result<Answer, Refusal> {
    let id = DeviceId::complete(context.domain(), &request.nodeid)
        .map_err(|_| Refusal::new("Invalid device identifier"))?;
    let flags = notify_flags(&request.notify)?;
    context.device(id.as_str(), Rights::NONE).map_err(|_| Refusal::new("Access denied"))?;
    change_own(context, (130, "Notifications"), |user| {
        set_notify(user, id.as_str(), flags);
        Ok(())
    })
    .await?;
    Ok(Answer::Nothing)
}

/// `userWebState`.
#[derive(Deserialize)]
pub struct WebState {
    state: String,
}

/// Keeps the state of one's pages (a JSON object as text) and shows it to one's other sessions.
///
/// # Errors
/// What is no JSON object, or too long.
pub async fn web_state(context: &Context, request: WebState) -> Result<Answer, Refusal> {
    if request.state.len() > LONGEST_STATE {
        return Err(Refusal::new(format!("state: at most {LONGEST_STATE} bytes")));
    }
    if !serde_json::from_str::<Value>(&request.state).is_ok_and(|state| state.is_object()) {
        return Err(Refusal::new("state: expected a JSON object as text"));
    }
    let user = context.user()?;
    context
        .site
        .store
        .write(Durability::Lazy, |change| {
            change.put(&format!("ws{}", user.id), "webstate", &json!({ "state": request.state }));
            Ok::<_, Refusal>(())
        })
        .await?;
    let event = context
        .event("user", "userWebState")
        .with("userid", user.id.as_str())
        .with("state", request.state)
        .to([user.id.as_str()])
        .unlogged();
    context.site.events.announce(event).await;
    Ok(Answer::Nothing)
}

/// `updateUserImage`.
#[derive(Deserialize)]
pub struct UserImage {
    image: Value,
    userid: Option<String>,
}

/// Keeps a user's picture (a PNG or JPEG data URL), or removes it (`0`): one's own, or with the right to
/// manage users another's.
///
/// # Errors
/// Another kind of picture, one that is too large, a missing right.
pub async fn user_image(context: &Context, request: UserImage) -> Result<Answer, Refusal> {
    context.without_token()?;
    let by = context.user()?;
    let target = match &request.userid {
        Some(id) if id != by.id.as_str() => {
            context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
            context.user_named(id)?
        }
        _ if by.siteadmin.restricted_by(SiteRights::LOCKED_SETTINGS) => {
            return Err(Refusal::new("The settings of this account are locked"));
        }
        _ => by.clone(),
    };
    let image = match &request.image {
        Value::Number(number) if number.as_u64() == Some(0) => None,
        Value::String(url)
            if url.len() < LONGEST_IMAGE
                && ["data:image/png;base64,", "data:image/jpeg;base64,"]
                    .iter()
                    .any(|head| url.starts_with(head)) =>
        {
            Some(url.clone())
        }
        _ => {
            return Err(Refusal::new(format!(
                "image: expected a PNG or JPEG data URL of less than {LONGEST_IMAGE} characters, or 0"
            )));
        }
    };
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user(&target.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            let flags = user.extra.get("flags").and_then(Value::as_u64).unwrap_or(0);
            let record = format!("im{}", user.id);
            // Bit 1 of `flags`: there is a picture (control-protocol §3.2).
            let flags = match &image {
                Some(url) => {
                    change.put(&record, "image", &fields! { "image" => url });
                    flags | 1
                }
                None => {
                    change.delete(&record);
                    flags & !1
                }
            };
            if flags == 0 {
                user.extra.remove("flags");
            } else {
                user.extra.insert("flags".into(), flags.into());
            }
            let user = change.put_user(user);
            let text = format!("Account {} changed", user.name);
            let event =
                super::users::changed_event(context, &user, &by, 66, text).with("accountImageChange", 1);
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await?;
    Ok(Answer::Ok)
}
