//! What happened: the event log and the power history.

use outpost_wire::id::{DeviceId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::model::{Rights, SiteRights};
use crate::store::EventQuery;

/// Events given when nothing else is asked.
const USUAL_EVENTS: usize = 1000;
/// Most events of one answer (control-protocol §4.8).
const MOST_EVENTS: usize = 10_000;
/// Changes of state shorter than this are left out of the timeline (control-protocol §4.5), in seconds.
const SHORTEST_STATE: i64 = 120;

/// `events`.
#[derive(Deserialize)]
pub struct Events {
    limit: Option<usize>,
    filter: Option<String>,
    userid: Option<String>,
    nodeid: Option<String>,
}

/// Logged events, newest first: of a user, of a device, or everything the session hears of.
///
/// # Errors
/// When the store cannot be read.
pub async fn events(context: &Context, request: Events) -> Result<Answer, Refusal> {
    let user = context.user()?;
    let query = |any_of: Vec<String>, limit: usize| EventQuery {
        any_of,
        domain: context.domain().to_owned(),
        action: request.filter.clone().filter(|filter| !filter.is_empty()),
        between: None,
        limit: request.limit.unwrap_or(limit).clamp(1, MOST_EVENTS),
    };
    let (query, about, own_only) = if let Some(id) = &request.userid {
        context.with_site_right(SiteRights::MANAGE_USERS, "Access denied")?;
        let id = UserId::complete(context.domain(), id).map_err(|_| Refusal::new("Invalid userid"))?;
        let key = EventQuery::about_user(id.as_str());
        (query(vec![key], USUAL_EVENTS), Some(("userid", json!(id))), false)
    } else if let Some(id) = &request.nodeid {
        let id = DeviceId::complete(context.domain(), id).map_err(|_| Refusal::new("Invalid nodeid"))?;
        let key = EventQuery::about_device(id.as_str());
        match context.access()?.device_rights(&id) {
            None => return Ok(Answer::Body(fields! { "events" => json!([]), "nodeid" => id })),
            Some(rights) => (
                query(vec![key], MOST_EVENTS),
                Some(("nodeid", json!(id))),
                rights.restricted_by(Rights::LIMITED_EVENTS),
            ),
        }
    } else {
        (query(context.session.subscriptions(), USUAL_EVENTS), None, false)
    };
    let mut events = context.site.store.events(query).await?;
    if own_only {
        events.retain(|event| event.get("userid").is_none_or(|id| id == user.id.as_str()));
    }
    let mut answer = fields! { "events" => events };
    if let Some((field, id)) = about {
        answer.insert(field.into(), id);
    }
    Ok(Answer::Body(answer))
}

/// `powertimeline`.
#[derive(Deserialize)]
pub struct PowerTimeline {
    nodeid: String,
}

/// The power history as `[start state, start second, state, seconds, state, …]` (control-protocol §4.5).
///
/// # Errors
/// When the device may not be seen.
pub async fn power_timeline(context: &Context, request: PowerTimeline) -> Result<Answer, Refusal> {
    let (device, _) = context.device(&request.nodeid, Rights::NONE)?;
    let changes = context.site.store.power(&device.id, 0).await?;
    let mut timeline: Vec<Value> = Vec::new();
    let mut last: Option<(i64, u8)> = None;
    for (n, change) in changes.iter().enumerate() {
        let second = change.time / 1000;
        match last {
            None => {
                timeline.extend([json!(change.previous), json!(second), json!(change.state)]);
                last = Some((second, change.state));
            }
            Some((since, state)) => {
                let until_next = changes.get(n + 1).map(|next| next.time / 1000 - second);
                if until_next.is_some_and(|length| length < SHORTEST_STATE) || change.state == state {
                    continue;
                }
                timeline.extend([json!(second - since), json!(change.state)]);
                last = Some((second, change.state));
            }
        }
    }
    Ok(Answer::Body(fields! { "nodeid" => device.id, "timeline" => timeline }))
}

/// Longest text that somebody writes into a device's history.
const LONGEST_EVENT: usize = 4096;

/// `setDeviceEvent`.
#[derive(Deserialize)]
pub struct DeviceEvent {
    nodeid: String,
    msg: String,
}

/// Writes a line of one's own into a device's history. The text comes url-encoded.
///
/// # Errors
/// Unknown device, missing right, a text that is empty or too long.
pub async fn device_event(context: &Context, request: DeviceEvent) -> Result<Answer, Refusal> {
    let (device, _) = context.device(&request.nodeid, Rights::SET_NOTES)?;
    let text = percent_decoded(&request.msg);
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_EVENT {
        return Err(Refusal::new(format!("msg: expected 1 to {LONGEST_EVENT} characters")));
    }
    let user = context.user()?;
    let event = context
        .event("node", "manual")
        .by(&user)
        .on_device(&device.id)
        .with("msg", text)
        .to_device(&device, &context.site.store.directory())
        .to(["server-users", user.id.as_str()]);
    context.site.events.announce(event).await;
    Ok(Answer::Ok)
}

/// Percent escapes as UTF-8; everything else stays as it is.
fn percent_decoded(text: &str) -> String {
    let plain = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(plain.as_bytes()).next().map_or(String::new(), |(text, _)| text.into_owned())
}
