//! Being found on a LAN: MeshAgent's multicast scan and mDNS; and waking sleeping devices.

mod mdns;
mod scan;
mod wake;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use mdns::Mdns;
pub use scan::serve as serve_scan;
pub use wake::wake;

/// The addresses of this machine that others may reach it by, link-local IPv6 left out.
pub fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .map(|interface| interface.ip())
        .filter(|ip| match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The addresses of this machine by network interface, loopback left out.
pub fn interface_addresses() -> BTreeMap<String, Vec<IpAddr>> {
    let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        if !interface.is_loopback() {
            addresses.entry(interface.name.clone()).or_default().push(interface.ip());
        }
    }
    addresses
}
