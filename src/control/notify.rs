//! Notifications to people (control-protocol §6.5).

use bytes::Bytes;
use outpost_wire::random;
use serde_json::{Map, Value};

use super::context::Context;
use super::reply::fields;
use crate::model::User;

/// A random number in 0..1, which clients use to tell notifications apart.
fn random_id() -> f64 {
    f64::from(u32::from_be_bytes(random::bytes())) / f64::from(u32::MAX)
}

/// A notification, to be sent to sessions; `fields` are those beside its kind and its number.
pub fn notification(mut fields: Map<String, Value>) -> Bytes {
    fields.insert("action".into(), "msg".into());
    fields.insert("type".into(), "notify".into());
    fields.insert("id".into(), random_id().into());
    Bytes::from(Value::Object(fields).to_string())
}

/// Tells the session that some users do not exist.
pub fn users_not_found(context: &Context, by: &User, names: &[String]) {
    let text = match names {
        [name] => format!("User {name} not found."),
        names => format!("Users {} not found.", names.join(", ")),
    };
    context.session.send(notification(fields! {
        "value" => text, "title" => "Device Group", "userid" => by.id, "username" => by.name,
        "tag" => "ServerNotify", "titleid" => 5, "msgid" => if names.len() == 1 { 15 } else { 16 },
        "args" => [names.join(", ")],
    }));
}
