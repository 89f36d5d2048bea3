//! The session itself and the server: keep-alive, cookies, versions, counts.

use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::clock;
use crate::model::SiteRights;

/// `ping`: answered with an action of its own.
///
/// # Errors
/// None.
pub async fn ping(_: &Context, _: Plain) -> Result<Answer, Refusal> {
    Ok(Answer::Body(fields! { "action" => "pong" }))
}

/// `pong`: not answered.
///
/// # Errors
/// None.
pub async fn pong(_: &Context, _: Plain) -> Result<Answer, Refusal> {
    Ok(Answer::Nothing)
}

/// `authcookie`: cookies for the relay, `cookie` for this side and `rcookie` for the agent's
/// (control-protocol §2.5).
///
/// # Errors
/// None.
pub async fn auth_cookie(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let now = clock::now_seconds();
    let key = &context.site.keys.login;
    let user = &context.session.user;
    let own = json!({ "userid": user, "domainid": user.domain(), "ip": context.remote });
    let relayed = json!({ "ruserid": user, "x": context.session.id.rsplit('/').next() });
    Ok(Answer::Body(fields! {
        "cookie" => outpost_wire::cookie::seal(key, &own, now),
        "rcookie" => outpost_wire::cookie::seal(key, &relayed, now),
    }))
}

/// `serverversion`.
///
/// # Errors
/// Without a right on the server.
pub async fn version(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::UPDATE, "Access denied")?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(Answer::Body(fields! { "tags" => json!({ "current": version, "latest": version }) }))
}

/// `serverstats`.
#[derive(Deserialize)]
pub struct Stats {}

/// Counts and memory, once.
///
/// # Errors
/// Without a right on the server.
pub async fn stats(context: &Context, _: Stats) -> Result<Answer, Refusal> {
    let user = context.user()?;
    if !user.siteadmin.intersects(SiteRights::BACKUP | SiteRights::RESTORE | SiteRights::UPDATE) {
        return Err(Refusal::new("Access denied"));
    }
    let site = &context.site;
    let directory = site.store.directory();
    let memory = |name: &str| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
        kib * 1024
    };
    let resident = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = resident.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<f64> = load.split_whitespace().take(3).filter_map(|number| number.parse().ok()).collect();
    Ok(Answer::Body(fields! {
        "totalmem" => memory("MemTotal:"),
        "freemem" => memory("MemFree:"),
        "availablemem" => memory("MemAvailable:"),
        "rss" => pages * 4096,
        "cpuavg" => load,
        "uptime" => site.started.elapsed().as_secs(),
        "values" => json!({ "ServerState": {
            "UserAccounts": directory.users_of(context.domain()).count(),
            "DeviceGroups": directory.groups().filter(|group| group.domain == context.domain()).count(),
            "Devices": directory.devices().filter(|device| device.domain == context.domain()).count(),
            "AgentSessions": site.agents.count(),
            "ConnectedUsers": site.sessions.counts(context.domain()).len(),
            "UsersSessions": site.sessions.count(),
            "RelaySessions": site.relay.count(),
        } }),
    }))
}
