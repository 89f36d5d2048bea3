//! Notifications to people (control-protocol §6.5).

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use super::context::Context;
use crate::model::User;

/// A random number in 0..1, which clients use to tell notifications apart.
fn random_id() -> f64 {
    let mut bytes = [0u8; 4];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

/// Tells the session that some users do not exist.
pub fn users_not_found(context: &Context, by: &User, names: &[String]) {
    let text = match names {
        [name] => format!("User {name} not found."),
        names => format!("Users {} not found.", names.join(", ")),
    };
    let message = json!({
        "action": "msg", "type": "notify", "id": random_id(), "value": text, "title": "Device Group",
        "userid": by.id, "username": by.name, "tag": "ServerNotify",
        "titleid": 5, "msgid": if names.len() == 1 { 15 } else { 16 }, "args": [names.join(", ")],
    });
    context.session.send(Bytes::from(message.to_string()));
}
