//! What the agent tells of its machine without being asked, at connect and when it changes.

use std::sync::Arc;
use std::time::Duration;

use outpost_wire::message::{CoreInfo, FromAgent, NetInfo, SessionKind, Smbios};

use crate::agent::Context;
use crate::{host, logins, network, smbios};

/// Capabilities that `coreinfo` may carry. Only what works is said.
const DESKTOP: u32 = 1;
const TERMINAL: u32 = 2;
const FILES: u32 = 4;
/// Address changes come in flocks.
const SETTLE: Duration = Duration::from_secs(2);
/// How often the list of logged-in users is compared.
const REFRESH: Duration = Duration::from_secs(60);

/// Sends everything now, and parts again whenever they change. Never returns.
pub async fn report(context: &Arc<Context>) {
    let mut core = core_info(context);
    context.uplink.send(&FromAgent::CoreInfo(Box::new(core.clone()))).await;
    for kind in
        [SessionKind::Kvm, SessionKind::Terminal, SessionKind::Files, SessionKind::Tcp, SessionKind::Udp]
    {
        context.uplink.send(&context.tunnels.counts(kind)).await;
    }
    let mut changes = context.network_changes();
    changes.mark_unchanged();
    let mut interfaces = network::interfaces();
    context.uplink.send(&net_info(&interfaces)).await;
    if let Some(tables) = smbios::tables() {
        let value = serde_json::json!(smbios::raw_map(&tables));
        context.uplink.send(&FromAgent::Smbios(Smbios { value })).await;
    }
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    // No watch on this system: the refresh below sees changes as well, only later.
                    tokio::time::sleep(REFRESH).await;
                }
                tokio::time::sleep(SETTLE).await;
                changes.mark_unchanged();
            }
            () = tokio::time::sleep(REFRESH) => {}
        }
        let now = network::interfaces();
        if now != interfaces {
            interfaces = now;
            context.uplink.send(&net_info(&interfaces)).await;
        }
        let now = core_info(context);
        if now != core {
            core = now;
            context.uplink.send(&FromAgent::CoreInfo(Box::new(core.clone()))).await;
        }
    }
}

fn core_info(context: &Context) -> CoreInfo {
    let desktop = if context.desktops.is_there() { DESKTOP } else { 0 };
    CoreInfo {
        value: Some(format!("Outpost agent {}", env!("CARGO_PKG_VERSION"))),
        caps: Some(desktop | TERMINAL | FILES),
        osdesc: Some(host::system()),
        root: Some(host::is_root()),
        users: logins::users(),
        // A clock set after boot moves this by itself; whole minutes keep it from being news.
        lastbootuptime: host::boot_time_ms().and_then(|ms| i64::try_from(ms / 60_000 * 60_000).ok()),
        ..CoreInfo::default()
    }
}

fn net_info(interfaces: &network::Interfaces) -> FromAgent {
    FromAgent::NetInfo(NetInfo { netif2: interfaces.clone() })
}
