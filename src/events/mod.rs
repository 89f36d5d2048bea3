//! Telling people what happens: who hears of an event, and the log.

use std::sync::Arc;

use bytes::Bytes;
use outpost_wire::id::GroupId;
use serde_json::{Value, json};

use crate::clock;
use crate::live::{ControlSession, SessionRegistry};
use crate::model::{Directory, Event, Rights, SiteRights, User};
use crate::store::{Durability, Store, StoreError};

/// Shows events to the sessions they are for, and logs them.
pub struct EventBus {
    store: Arc<Store>,
    sessions: Arc<SessionRegistry>,
}

impl EventBus {
    /// A bus between the store and the open sessions.
    pub fn new(store: Arc<Store>, sessions: Arc<SessionRegistry>) -> EventBus {
        EventBus { store, sessions }
    }

    /// Shows an event and logs it lazily: for what agents and sessions do, where the event itself is all that
    /// is to be kept.
    pub async fn announce(&self, event: Event) {
        let now = clock::now_ms();
        self.show(&event, now);
        if event.logged {
            let logged = self
                .store
                .write(Durability::Lazy, |change| {
                    change.log(&event, now);
                    Ok::<_, StoreError>(())
                })
                .await;
            if let Err(error) = logged {
                log::warn!("an event could not be logged: {error}");
            }
        }
    }

    /// Shows an event to every session it is for. It is serialised once for all of them.
    pub fn show(&self, event: &Event, now: i64) {
        let domain = event.body.get("domain").and_then(Value::as_str).unwrap_or_default();
        let mut whole: Option<Bytes> = None;
        let directory = self.store.directory();
        for session in self.sessions.all() {
            if session.user.domain() != domain || !session.hears_any(&event.targets) {
                continue;
            }
            let Some(user) = directory.user(&session.user) else { continue };
            if hidden_by_limited_events(&session, user, event) {
                continue;
            }
            let message = match reduced_for(user, event) {
                Some(body) => serialise(body, event.logged, now),
                None => whole
                    .get_or_insert_with(|| serialise(Value::Object(event.body.clone()), event.logged, now))
                    .clone(),
            };
            session.send(message);
        }
    }

    /// Recomputes what the sessions of a user hear of, after links or site rights have changed.
    pub fn resubscribe(&self, user: &outpost_wire::id::UserId) {
        let directory = self.store.directory();
        for session in self.sessions.of(user) {
            match directory.user(user) {
                Some(user) => session.subscribe(subscriptions(user, &directory)),
                None => session.cancel.cancel(),
            }
        }
    }
}

fn serialise(mut body: Value, logged: bool, now: i64) -> Bytes {
    if logged && let Value::Object(fields) = &mut body {
        fields.insert("time".into(), clock::iso8601(now).into());
    }
    Bytes::from(json!({ "action": "event", "event": body }).to_string())
}

/// Whom a user hears of (control-protocol §6.2), device groups reached through user groups included.
pub fn subscriptions(user: &User, directory: &Directory) -> std::collections::HashSet<String> {
    let mut to: std::collections::HashSet<String> = user.links.keys().cloned().collect();
    for id in user.links.keys() {
        if let Ok(id) = outpost_wire::id::UserGroupId::parse(id)
            && let Some(group) = directory.user_group(&id)
        {
            to.extend(group.links.keys().filter(|id| !id.starts_with("user/")).cloned());
        }
    }
    to.insert(user.id.as_str().to_owned());
    to.insert("server-allusers".into());
    if user.siteadmin.is_full() || user.siteadmin.contains(SiteRights::ALL_EVENTS) {
        to.insert("*".into());
    }
    if user.siteadmin.contains(SiteRights::MANAGE_USERS) {
        to.insert("server-users".into());
    }
    to
}

/// A member with limited events sees of a group only what concerns the member or nobody.
fn hidden_by_limited_events(session: &ControlSession, user: &User, event: &Event) -> bool {
    if session.hears("*") || event.targets.iter().any(|target| target == user.id.as_str()) {
        return false;
    }
    let limited = event.targets.iter().any(|target| {
        target.starts_with(GroupId::PREFIX)
            && user.links.get(target).is_some_and(|link| link.rights.restricted_by(Rights::LIMITED_EVENTS))
    });
    limited && event.body.get("userid").and_then(Value::as_str).is_some_and(|id| id != user.id.as_str())
}

/// What a user who may not manage user groups sees of an event about one.
fn reduced_for(user: &User, event: &Event) -> Option<Value> {
    if !event.body.contains_key("ugrpid") || user.siteadmin.contains(SiteRights::USER_GROUPS) {
        return None;
    }
    let mut body = serde_json::Map::new();
    for field in ["etype", "ugrpid", "domain", "name", "action", "username"] {
        if let Some(value) = event.body.get(field) {
            body.insert(field.into(), value.clone());
        }
    }
    if let Some(Value::Object(links)) = event.body.get("links") {
        let own = links
            .iter()
            .filter(|(id, _)| id.as_str() == user.id.as_str() || !id.starts_with("user/"))
            .map(|(id, link)| (id.clone(), link.clone()))
            .collect();
        body.insert("links".into(), Value::Object(own));
    }
    Some(Value::Object(body))
}
