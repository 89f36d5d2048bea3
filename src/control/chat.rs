//! `meshmessenger`: a conversation with whoever sits at a device (control-protocol §4.7).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::chat;
use crate::model::Rights;

/// `meshmessenger`.
#[derive(Deserialize)]
pub struct Messenger {
    nodeid: Option<String>,
    userid: Option<String>,
    /// Outpost's own: only the address is wanted, the device is told nothing.
    #[serde(default)]
    quiet: bool,
}

/// Begins a conversation and has the device open its page; answered, with the id and the link, when the client
/// asked to be told. The agent says later, by `openUrl`, whether it could.
///
/// # Errors
/// As of devices elsewhere, `Agent not connected`, and where there can be no conversation, why.
pub async fn begin(context: &Context, request: Messenger) -> Result<Answer, Refusal> {
    if request.userid.is_some() {
        return Err(Refusal::new("userid: this server has chats with devices only"));
    }
    let id = request.nodeid.ok_or_else(|| Refusal::new("nodeid: expected the id of a device"))?;
    let (device, _) = context.device(&id, Rights::NOTIFY)?;
    let site = &context.site;
    let user = context.user()?;
    let refused = |error: chat::ChatError| Refusal::new(error.to_string());
    chat::may_talk(site, &user.id, &device.id).map_err(refused)?;
    let conversation = site.chats.begin(&device.id, &user.id).map_err(refused)?;
    let link = conversation.link(site, &context.host);
    if !request.quiet && !conversation.is_answered() {
        let gone = || Refusal::new("Agent not connected").with("chatid", conversation.id.as_str());
        let agent = site.agents.get(&device.id).ok_or_else(gone)?;
        let message = json!({
            "action": "openUrl", "url": link, "sessionid": context.session.id, "userid": user.id,
            "username": user.name, "remoteaddr": context.remote,
        });
        agent.send(Bytes::from(message.to_string())).map_err(|_| gone())?;
    }
    // MeshCentral says nothing, and its clients expect nothing.
    if context.response_id.is_none() {
        return Ok(Answer::Nothing);
    }
    Ok(Answer::Body(fields! {
        "nodeid" => device.id, "chatid" => conversation.id, "url" => link,
        "answered" => conversation.is_answered(), "result" => Value::from("OK"),
    }))
}
