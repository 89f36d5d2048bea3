//! From people to people: broadcasts, notifications, and data between the sessions of users.

use std::sync::Arc;

use bytes::Bytes;
use outpost_wire::id::UserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::notify::notification;
use super::reply::{Answer, Refusal, fields};
use crate::live::ControlSession;
use crate::model::SiteRights;

/// Longest broadcast, in characters (control-protocol §4.7).
const LONGEST_BROADCAST: usize = 512;
/// Longest notification to one user.
const LONGEST_NOTIFICATION: usize = 4096;
/// Longest data from session to session, in bytes of JSON.
const LONGEST_DATA: usize = 64 << 10;

/// `userbroadcast`.
#[derive(Deserialize)]
pub struct Broadcast {
    msg: String,
    userid: Option<String>,
    /// Only to users who are linked to this group, device or user group.
    target: Option<String>,
    maxtime: Option<u32>,
}

/// Shows a text in the sessions of everybody, of one user, or of those who are linked to something.
///
/// # Errors
/// `Permission denied`, `Message is too long`, `User does not exists`.
pub async fn broadcast(context: &Context, request: Broadcast) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    if request.msg.is_empty() {
        return Err(Refusal::new("msg: expected a text"));
    }
    if request.msg.encode_utf16().count() > LONGEST_BROADCAST {
        return Err(Refusal::new("Message is too long"));
    }
    let only = match &request.userid {
        Some(id) => Some(context.user_named(id)?.id.clone()),
        None => None,
    };
    let mut shown = fields! {
        "domain" => context.domain(), "value" => request.msg, "title" => by.name, "icon" => 0, "tag" => "broadcast",
    };
    if let Some(seconds) = request.maxtime {
        shown.insert("maxtime".into(), seconds.into());
    }
    let message = notification(shown);
    let directory = context.site.store.directory();
    for session in context.site.sessions.all() {
        let wanted = session.user.domain() == context.domain()
            && only.as_ref().is_none_or(|only| *only == session.user)
            && request.target.as_ref().is_none_or(|target| {
                directory.user(&session.user).is_some_and(|user| user.links.contains_key(target))
            });
        if wanted {
            session.send(message.clone());
        }
    }
    Ok(Answer::Ok)
}

/// `notifyuser`.
#[derive(Deserialize)]
pub struct NotifyUser {
    userid: String,
    msg: String,
    url: Option<String>,
    maxtime: Option<u32>,
    msgid: Option<u32>,
}

/// Shows a notification in the sessions of one user.
///
/// # Errors
/// Missing right, unknown user, a text that is empty or too long.
pub async fn notify_user(context: &Context, request: NotifyUser) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    let target = context.user_named(&request.userid)?;
    let length = request.msg.encode_utf16().count();
    if length == 0 || length > LONGEST_NOTIFICATION {
        return Err(Refusal::new(format!(
            "msg: expected 1 to {LONGEST_NOTIFICATION} characters, found {length}"
        )));
    }
    let mut shown = fields! {
        "value" => request.msg, "title" => by.name, "icon" => 8, "userid" => by.id, "username" => by.name,
    };
    // Pages make a link of it; only the web's own schemes are safe there.
    if let Some(url) = request.url {
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(Refusal::new("url: expected one that starts with https:// or http://"));
        }
        shown.insert("url".into(), url.into());
    }
    for (field, value) in [("maxtime", request.maxtime), ("msgid", request.msgid)] {
        if let Some(value) = value {
            shown.insert(field.into(), value.into());
        }
    }
    let message = notification(shown);
    for session in context.site.sessions.of(&target.id) {
        session.send(message.clone());
    }
    Ok(Answer::Ok)
}

/// `interuser`. Libraries send the field that they do not use as `null`.
#[derive(Deserialize)]
pub struct InterUser {
    #[serde(default)]
    data: Value,
    sessionid: Option<String>,
    userid: Option<String>,
}

/// Hands data to another session, or to all sessions of a user; never to the sender's own. Only where the
/// settings allow it.
///
/// # Errors
/// Not allowed, no data or too much of it, unknown session or user.
pub async fn inter_user(context: &Context, request: InterUser) -> Result<Answer, Refusal> {
    if request.data.is_null() {
        return Err(Refusal::new("data: expected something"));
    }
    if request.data.to_string().len() > LONGEST_DATA {
        return Err(Refusal::new(format!("data: at most {LONGEST_DATA} bytes")));
    }
    let (sessions, scope, target): (Vec<Arc<ControlSession>>, &str, UserId) =
        match (&request.sessionid, &request.userid) {
            (Some(id), _) => {
                let session = context
                    .site
                    .sessions
                    .get(id)
                    .filter(|session| session.user.domain() == context.domain())
                    .ok_or_else(|| Refusal::new("Unknown session"))?;
                let user = session.user.clone();
                (vec![session], "session", user)
            }
            (None, Some(id)) => {
                let user = context.user_named(id)?.id.clone();
                (context.site.sessions.of(&user), "user", user)
            }
            (None, None) => return Err(Refusal::new("expected a `sessionid` or a `userid`")),
        };
    if !context.site.config.settings.inter_user_messaging.allows(&context.session.user, &target) {
        return Err(Refusal::new("Access denied"));
    }
    let message = json!({
        "action": "interuser", "sessionid": context.session.id, "data": request.data, "scope": scope,
    });
    let message = Bytes::from(message.to_string());
    for session in sessions.iter().filter(|session| session.id != context.session.id) {
        session.send(message.clone());
    }
    Ok(Answer::Nothing)
}

/// `intersession`: anything.
#[derive(Deserialize)]
pub struct InterSession {
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Copies the message to the other sessions of the same user.
///
/// # Errors
/// None; how much may be sent is bounded by the longest message of a session.
pub async fn inter_session(context: &Context, request: InterSession) -> Result<Answer, Refusal> {
    let mut message = request.rest;
    message.insert("action".into(), "intersession".into());
    let message = Bytes::from(Value::Object(message).to_string());
    for session in context.site.sessions.of(&context.session.user) {
        if session.id != context.session.id {
            session.send(message.clone());
        }
    }
    Ok(Answer::Nothing)
}

/// Messages that leave the server by e-mail, telephone or a messenger.
#[derive(Deserialize)]
pub struct Elsewhere {}

fn no_gateway(context: &Context, what: &str) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    let text = format!("{what} not enabled");
    let by = context.user()?;
    // Whoever asked without an id is told as MeshCentral tells it: by a notification.
    if context.response_id.is_none() {
        context.session.send(notification(fields! {
            "value" => text, "userid" => by.id, "username" => by.name, "tag" => "ServerNotify",
        }));
        return Ok(Answer::Nothing);
    }
    Err(Refusal::new(text))
}

/// `emailuser`: this release sends no e-mail.
///
/// # Errors
/// Always, to those who gave an id.
pub async fn email_user(context: &Context, _: Elsewhere) -> Result<Answer, Refusal> {
    no_gateway(context, "E-mail server")
}

/// `smsuser`: this release sends no short messages.
///
/// # Errors
/// Always, to those who gave an id.
pub async fn sms_user(context: &Context, _: Elsewhere) -> Result<Answer, Refusal> {
    no_gateway(context, "SMS gateway")
}

/// `msguser`: this release knows no messengers.
///
/// # Errors
/// Always, to those who gave an id.
pub async fn message_user(context: &Context, _: Elsewhere) -> Result<Answer, Refusal> {
    no_gateway(context, "Messaging server")
}
