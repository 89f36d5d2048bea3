//! Encrypted cookies that clients ask for (control-protocol §2.5, §4.1).

use outpost_wire::cookie::CookieKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::auth::second_factor;
use crate::clock;
use crate::model::Rights;

/// `authcookie`: cookies for the relay, `cookie` for this side and `rcookie` for the agent's.
///
/// # Errors
/// None.
pub async fn auth(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let now = clock::now_seconds();
    let key = &context.site.keys.login;
    let user = &context.session.user;
    let mut own = fields! { "userid" => user, "domainid" => user.domain(), "ip" => context.remote };
    if let Some(token) = &context.session.token {
        // What a login token may not do, its cookie may not either.
        own.insert("lt".into(), token.as_str().into());
    }
    let relayed = json!({ "ruserid": user, "x": context.session.id.rsplit('/').next() });
    Ok(Answer::Body(fields! {
        "cookie" => seal_for_command_lines(key, &own.into(), now),
        "rcookie" => seal_for_command_lines(key, &relayed, now),
    }))
}

/// Seals a cookie whose text has no two `$` in a row: `meshctrl` puts it into an address by a function that
/// makes one of them, which loses every twentieth cookie. Each sealing has a text of its own.
fn seal_for_command_lines(key: &CookieKey, claims: &Value, now: i64) -> String {
    loop {
        let text = outpost_wire::cookie::seal(key, claims, now);
        if !text.contains("$$") {
            return text;
        }
    }
}

/// `logincookie`: what `?login=` takes, where the server allows it.
///
/// # Errors
/// `Access denied` where `allowLoginToken` is not set, and for login tokens.
pub async fn login(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.without_token()?;
    if !context.site.config.settings.allow_login_token {
        return Err(Refusal::new("Access denied"));
    }
    let claims = json!({ "u": context.session.user, "a": 3 });
    let cookie = outpost_wire::cookie::seal(&context.site.keys.login, &claims, clock::now_seconds());
    Ok(Answer::Body(fields! { "cookie" => cookie }))
}

/// `twoFactorCookie`: what a tool shows instead of another code.
///
/// # Errors
/// `Access denied` for login tokens, and where remembering is switched off.
pub async fn two_factor(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.without_token()?;
    let user = context.user()?;
    let days = context.site.config.domain(&user.domain).remember_second_factor;
    let cookie = second_factor::remember(&context.site.keys.login, &user, days, clock::now_seconds());
    let cookie = cookie.ok_or_else(|| Refusal::new("Access denied"))?;
    Ok(Answer::Body(fields! { "cookie" => cookie }))
}

/// `getcookie`.
#[derive(Deserialize)]
pub struct DeviceCookie {
    nodeid: String,
    tcpport: Option<u16>,
    tcpaddr: Option<String>,
    tag: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A cookie that opens port relays to one device; the request comes back with it.
///
/// # Errors
/// `Invalid nodeid`, `Access denied`.
pub async fn device(context: &Context, request: DeviceCookie) -> Result<Answer, Refusal> {
    let (device, rights) = context.device(&request.nodeid, Rights::NONE)?;
    if !rights.intersects(Rights::REMOTE_CONTROL | Rights::RELAY) {
        return Err(Refusal::new("Access denied"));
    }
    let user = &context.session.user;
    let mut claims = fields! { "userid" => user, "domainid" => user.domain(), "nodeid" => device.id };
    let mut answer = request.rest;
    answer.insert("nodeid".into(), request.nodeid.into());
    let mut both = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            claims.insert(name.into(), value.clone());
            answer.insert(name.into(), value);
        }
    };
    both("tcpport", request.tcpport.map(Value::from));
    both("tcpaddr", request.tcpaddr.map(Value::from));
    if let Some(tag) = request.tag {
        if tag == "novnc" {
            claims.insert("p".into(), 12.into());
        }
        answer.insert("tag".into(), tag);
    }
    if let Some(token) = &context.session.token {
        claims.insert("lt".into(), token.as_str().into());
    }
    let cookie = outpost_wire::cookie::seal(&context.site.keys.login, &claims, clock::now_seconds());
    answer.insert("cookie".into(), cookie.into());
    answer.insert("trustedCert".into(), (!context.site.identity.web.self_made).into());
    Ok(Answer::Body(answer))
}
