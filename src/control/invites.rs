//! Invitations: links that let somebody install an agent without an account.

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::clock;
use crate::model::Rights;

/// Longest life of a link, in hours (control-protocol §4.9).
const LONGEST: u32 = 99_999;

/// A whole number from 0 to `most`, which command lines may send as something else altogether.
fn up_to(value: &Value, most: u32) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= most)
}

/// `createInviteLink`.
#[derive(Deserialize)]
pub struct CreateInviteLink {
    meshid: Option<String>,
    meshname: Option<String>,
    expire: Value,
    #[serde(default)]
    flags: Value,
}

/// Makes a link to the page that installs an agent into a group, valid for `expire` hours (0 = for ever).
///
/// # Errors
/// `Invalid group id`, `Invalid expire time`, `Invalid flags`.
pub async fn create_link(context: &Context, request: CreateInviteLink) -> Result<Answer, Refusal> {
    let (group, _) = context
        .group(request.meshid.as_deref(), request.meshname.as_deref(), Rights::NONE)
        .map_err(|_| Refusal::new("Invalid group id"))?;
    if !context
        .access()?
        .group(&group.id, Rights::MANAGE_DEVICES)
        .is_ok_and(|(group, _)| group.deleted.is_none())
    {
        return Err(Refusal::new("Access denied"));
    }
    let expire = up_to(&request.expire, LONGEST).ok_or_else(|| Refusal::new("Invalid expire time"))?;
    let flags = match &request.flags {
        Value::Null => 0,
        flags => up_to(flags, 256).ok_or_else(|| Refusal::new("Invalid flags"))?,
    };
    // `a: 4` marks an invitation, `expire` is in minutes (data-formats §5.3).
    let payload = json!({ "a": 4, "mid": group.id, "f": flags, "expire": expire * 60 });
    let cookie = outpost_wire::cookie::seal(&context.site.keys.invitation, &payload, clock::now_seconds());
    Ok(Answer::Body(fields! {
        "meshid" => group.id,
        "url" => format!("https://{}/agentinvite?c={cookie}", context.host),
        "expire" => expire,
        "cookie" => cookie,
    }))
}

/// `inviteAgent`: an invitation by e-mail.
#[derive(Deserialize)]
pub struct InviteAgent {}

/// Sends nobody an invitation: this release sends no e-mail.
///
/// # Errors
/// `Unsupported feature`, which is what clients know for a server without one.
pub async fn invite_agent(_: &Context, _: InviteAgent) -> Result<Answer, Refusal> {
    Err(Refusal::new("Unsupported feature"))
}
