//! What the server is called on its LAN.

use std::path::Path;

use super::settings::HostName;

/// Made by the box's initial RAM disk, and by nothing else.
const SLOT: &str = "/run/outpost-box/slot";

/// One label: a box has a host name of its own (`hostname` in `outpost.toml`); elsewhere the host name belongs to the
/// machine, which may announce it itself, and the server is `outpost`.
pub fn host_name() -> String {
    let own = || {
        let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
        name.parse::<HostName>().ok().map(|name| name.to_string())
    };
    if Path::new(SLOT).exists() { own() } else { None }.unwrap_or_else(|| "outpost".to_owned())
}
