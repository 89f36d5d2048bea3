//! Invitations: links that let somebody install an agent without an account.

use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::clock;
use crate::model::Rights;

/// Longest life of a link, in hours (control-protocol §4.9).
const LONGEST: u32 = 99_999;

/// `createInviteLink`.
#[derive(Deserialize)]
pub struct CreateInviteLink {
    meshid: Option<String>,
    meshname: Option<String>,
    expire: u32,
    #[serde(default)]
    flags: u32,
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
    if request.expire > LONGEST {
        return Err(Refusal::new("Invalid expire time"));
    }
    if request.flags > 256 {
        return Err(Refusal::new("Invalid flags"));
    }
    // `a: 4` marks an invitation, `expire` is in minutes (data-formats §5.3).
    let payload = json!({ "a": 4, "mid": group.id, "f": request.flags, "expire": request.expire * 60 });
    let cookie = outpost_wire::cookie::seal(&context.site.keys.invitation, &payload, clock::now_seconds());
    Ok(Answer::Body(fields! {
        "meshid" => group.id,
        "url" => format!("https://{}/agentinvite?c={cookie}", context.host),
        "expire" => request.expire,
        "cookie" => cookie,
    }))
}
