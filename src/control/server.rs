//! The session itself and the server: keep-alive, cookies, versions, counts.

use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
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

/// `serverversion`.
///
/// # Errors
/// Without a right on the server.
pub async fn version(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.without_token()?;
    context.with_site_right(SiteRights::UPDATE, "Access denied")?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(Answer::Body(fields! { "tags" => json!({ "current": version, "latest": version }) }))
}

/// Bytes of memory that this process holds.
pub fn resident_bytes() -> u64 {
    let resident = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    resident.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Periods at which statistics may be asked for, in ms (control-protocol §4.12).
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;

/// `serverstats`.
#[derive(Deserialize)]
pub struct Stats {
    /// Sends them again at this period, in ms; anything that is none stops that.
    #[serde(default)]
    interval: serde_json::Value,
}

/// `meshToolInfo`: where a tool can be downloaded.
///
/// # Errors
/// Always: this release carries none.
pub async fn tool_info(_: &Context, _: Plain) -> Result<Answer, Refusal> {
    Err(Refusal::new("This server has no tools to download"))
}

/// `webrelay`.
///
/// # Errors
/// Always: `WebRelay Disabled`, which is what clients know for a server without it.
pub async fn web_relay(_: &Context, _: Plain) -> Result<Answer, Refusal> {
    Err(Refusal::new("WebRelay Disabled"))
}

/// Counts and memory, now and, when a period is given, again and again.
///
/// # Errors
/// Without a right on the server.
pub async fn stats(context: &Context, request: Stats) -> Result<Answer, Refusal> {
    let now = measured(context)?;
    let period = request.interval.as_u64().filter(|period| PERIODS.contains(period));
    let repeat = period.map(|period| {
        let context = context.clone();
        tokio::spawn(async move {
            let period = std::time::Duration::from_millis(period);
            loop {
                tokio::time::sleep(period).await;
                // It ends with the session, and with the right.
                if context.site.sessions.get(&context.session.id).is_none() {
                    return;
                }
                let Ok(mut stats) = measured(&context) else { return };
                stats.insert("action".into(), "serverstats".into());
                context.session.send(bytes::Bytes::from(serde_json::Value::Object(stats).to_string()));
            }
        })
        .abort_handle()
    });
    context.session.repeat_statistics(repeat);
    Ok(Answer::Body(now))
}

fn measured(context: &Context) -> Result<serde_json::Map<String, serde_json::Value>, Refusal> {
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
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<f64> = load.split_whitespace().take(3).filter_map(|number| number.parse().ok()).collect();
    Ok(fields! {
        "totalmem" => memory("MemTotal:"),
        "freemem" => memory("MemFree:"),
        "availablemem" => memory("MemAvailable:"),
        "rss" => resident_bytes(),
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
    })
}
