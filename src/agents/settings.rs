//! The settings that an agent is installed with (`.msh`, agent-protocol §2).

use outpost_wire::id::Hash384;
use outpost_wire::msh::Msh;

use crate::config::Mode;
use crate::model::DeviceGroup;
use crate::site::Site;

/// For which agent settings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MeshAgent: one server, found by multicast in LAN mode.
    MeshAgent,
    /// Our own agent: multicast first where there is any, then the address the settings were fetched from.
    Outpost,
}

/// The settings that bring an agent into a group. `host` is the server as the client reached it, with its
/// port; `tag` and `install_flags` are what the client asks for.
pub fn settings(
    site: &Site,
    group: &DeviceGroup,
    host: &str,
    flavour: Flavour,
    tag: Option<&str>,
    install_flags: Option<u8>,
) -> Msh {
    let mode = site.config.settings.mode;
    let domain = &group.domain;
    let path = if domain.is_empty() { String::new() } else { format!("{domain}/") };
    let port = site.public_port();
    let reached = match &site.config.settings.cert {
        Some(name) if mode != Mode::Lan => format!("{name}:{port}"),
        _ => host.to_owned(),
    };
    let url = format!("wss://{reached}/{path}agent.ashx");
    let server = match (flavour, mode) {
        (Flavour::MeshAgent, Mode::Lan) => "local".to_owned(),
        (Flavour::MeshAgent, _) | (Flavour::Outpost, Mode::Wan) => url,
        (Flavour::Outpost, _) => format!("local,{url}"),
    };
    let id = site.identity.agent.server_id.to_hex();
    let ids = vec![id; server.split(',').count()].join(",");
    let group_key = group.id.hash().unwrap_or(Hash384::ZERO).to_hex();
    let mut msh = Msh { entries: Vec::new() };
    let name: String = group.name.chars().filter(|c| !c.is_control()).collect();
    msh.push("MeshName", &name);
    msh.push("MeshType", &group.mtype.to_string());
    msh.push("MeshID", &format!("0x{group_key}"));
    msh.push("ServerID", &ids);
    msh.push("MeshServer", &server);
    if let Some(key) = &site.config.settings.discovery.key
        && mode.discovers()
    {
        msh.push("DiscoveryKey", key);
    }
    if let Some(tag) =
        tag.filter(|tag| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        msh.push("Tag", tag);
    }
    if let Some(flags) = install_flags.filter(|flags| (1..=3).contains(flags)) {
        msh.push("InstallFlags", &flags.to_string());
    }
    if mode == Mode::Lan || site.config.domain(domain).agent_no_proxy {
        msh.push("ignoreProxyFile", "1");
    }
    let extra = site.config.settings.agent_config.iter().chain(&site.config.domain(domain).agent_config);
    for (key, value) in extra {
        msh.push(key, value);
    }
    msh
}
