//! Bringing an agent's messages to people.

use bytes::Bytes;
use outpost_wire::id::UserId;
use serde_json::{Map, Value};

use crate::model::Device;
use crate::site::Site;

/// Brings a message to the session it names, to the sessions of the user it names, else to everybody with a
/// right on the device (agent-protocol §6.1). A session or user without rights there never gets it, whatever
/// the agent claims.
pub(super) fn deliver(site: &Site, device: &Device, mut message: Map<String, Value>) {
    let session = message.remove("sessionid");
    let user = message.get("userid").and_then(Value::as_str).and_then(|id| UserId::parse(id).ok());
    message.insert("nodeid".into(), device.id.as_str().into());
    let text = Bytes::from(Value::Object(message).to_string());
    let may_hear =
        |user: &UserId| site.access(user).is_some_and(|access| access.device_rights(&device.id).is_some());
    if let Some(id) = session.as_ref().and_then(Value::as_str) {
        if let Some(session) = site.sessions.get(id).filter(|session| may_hear(&session.user)) {
            session.send(text);
        }
    } else if let Some(user) = user {
        if may_hear(&user) {
            for session in site.sessions.of(&user) {
                session.send(text.clone());
            }
        }
    } else {
        for session in site.sessions.all().iter().filter(|session| may_hear(&session.user)) {
            session.send(text.clone());
        }
    }
}
