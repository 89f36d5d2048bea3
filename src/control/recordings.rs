//! Recordings of sessions: the list of them, and removing one.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::clock;
use crate::config::SessionRecording;
use crate::model::SiteRights;
use crate::recordings::RecordingError;
use crate::relay;
use crate::store::EventQuery;

/// Most recordings of one answer.
const MOST: usize = 10_000;

/// `recordings`.
#[derive(Deserialize)]
pub struct List {
    limit: Option<Value>,
}

/// What is recorded in the user's domain, for those who may see recordings.
fn policy(context: &Context) -> Result<Option<Arc<SessionRecording>>, Refusal> {
    context.with_site_right(SiteRights::RECORDINGS, "Access denied")?;
    Ok(context.site.config.domain(context.domain()).session_recording.clone())
}

/// Recordings, newest first, as their events: those that are there (`present`), and those that were.
///
/// # Errors
/// Without the right to them, or when they cannot be read; `error` is how clients know it.
pub async fn list(context: &Context, request: List) -> Result<Answer, Refusal> {
    let policy = policy(context).map_err(|refusal| refusal.with("error", 1))?;
    let Some(policy) = policy else { return Ok(Answer::Body(fields! { "events" => json!([]) })) };
    let limit = request.limit.as_ref().and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(MOST).clamp(1, MOST);
    let site = &context.site;
    let there = site.recordings.list(&policy, context.domain()).await.map_err(|error| {
        log::error!("recordings could not be listed: {error}");
        Refusal::new("The folder of recordings cannot be read").with("error", 1)
    })?;
    let directory = site.store.directory();
    let names: HashSet<&str> = there.iter().map(|recording| recording.name.as_str()).collect();
    let query = EventQuery {
        any_of: vec!["recording".into()],
        domain: context.domain().to_owned(),
        action: Some("recording".into()),
        between: None,
        limit,
    };
    let logged = site.store.events(query).await.map_err(|refusal| Refusal::from(refusal).with("error", 2))?;
    let gone = logged.into_iter().filter(|event| {
        event.get("filename").and_then(Value::as_str).is_some_and(|name| !names.contains(name))
    });
    let gone = gone.map(|mut event| {
        for field in ["action", "etype", "msg"] {
            event.remove(field);
        }
        event
    });
    let mut events: Vec<_> = there
        .iter()
        .map(|recording| {
            let mut fields = recording.fields(&directory);
            fields.insert("domain".into(), context.domain().into());
            let time = i64::try_from(recording.end.unwrap_or(recording.changed)).unwrap_or(0);
            fields.insert("time".into(), clock::iso8601(time).into());
            fields.insert("present".into(), 1.into());
            if recording.end.is_none() {
                fields.insert("damaged".into(), 1.into());
            }
            fields
        })
        .chain(gone)
        .collect();
    let start = |event: &serde_json::Map<String, Value>| event.get("startTime").and_then(Value::as_u64);
    events.sort_by_key(|event| std::cmp::Reverse(start(event)));
    events.truncate(limit);
    Ok(Answer::Body(fields! { "events" => events }))
}

/// `removerecording`, Outpost's own.
#[derive(Deserialize)]
pub struct Remove {
    filename: String,
}

/// Removes a recording; the log keeps who did, and what it was.
///
/// # Errors
/// Without the right, with a login token, or when there is none of this name.
pub async fn remove(context: &Context, request: Remove) -> Result<Answer, Refusal> {
    context.without_token()?;
    let unknown = || Refusal::new("There is no such recording");
    let policy = policy(context)?.ok_or_else(unknown)?;
    let site = &context.site;
    let removed = site.recordings.remove(&policy, context.domain(), &request.filename).await;
    let recording = removed.map_err(|error| match error {
        RecordingError::Unknown => unknown(),
        RecordingError::Failed(error) => {
            log::error!("a recording could not be removed: {error}");
            Refusal::new("The recording could not be removed")
        }
    })?;
    let user = context.user()?;
    relay::announce_removed(site, &recording, "by hand", Some(&user)).await;
    Ok(Answer::Ok)
}
