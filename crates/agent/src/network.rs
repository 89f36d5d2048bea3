//! The network inventory (`netinfo`): interfaces, addresses, masks and gateways.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use outpost_wire::message::NetAddress;

/// Interfaces reported at most; container hosts have hundreds, nobody reads more.
const MAX_INTERFACES: usize = 256;

/// Interfaces by name.
pub type Interfaces = BTreeMap<String, Vec<NetAddress>>;

/// Reads the present state from the kernel.
pub fn interfaces() -> Interfaces {
    let gateways_v4 = gateways_v4(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    let gateways_v6 = gateways_v6(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default());
    let mut interfaces = Interfaces::new();
    let Ok(addresses) = getifaddrs() else { return interfaces };
    for item in addresses {
        let name = item.interface_name;
        if item.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            || (interfaces.len() >= MAX_INTERFACES && !interfaces.contains_key(&name))
        {
            continue;
        }
        let entries = interfaces.entry(name.clone()).or_insert_with(|| vec![link(&name, item.flags)]);
        let storage = item.address.as_ref();
        let address: Option<IpAddr> = storage.and_then(|address| {
            address
                .as_sockaddr_in()
                .map(|v4| IpAddr::V4(v4.ip()))
                .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        let Some(address) = address else { continue };
        let mask = item.netmask.as_ref();
        let mut entry = NetAddress { address: Some(address.to_string()), ..entries[0].clone() };
        match address {
            IpAddr::V4(_) => {
                entry.family = Some("IPv4".into());
                entry.netmask = mask.and_then(|mask| mask.as_sockaddr_in()).map(|mask| mask.ip().to_string());
                entry.gateway = gateways_v4.get(&name).map(Ipv4Addr::to_string);
            }
            IpAddr::V6(_) => {
                entry.family = Some("IPv6".into());
                entry.netmask =
                    mask.and_then(|mask| mask.as_sockaddr_in6()).map(|mask| mask.ip().to_string());
                entry.gateway = gateways_v6.get(&name).map(Ipv6Addr::to_string);
            }
        }
        entries.push(entry);
    }
    for entries in interfaces.values_mut() {
        // The bare link stands only for an interface without addresses.
        if entries.len() > 1 {
            entries.remove(0);
        }
    }
    interfaces
}

/// The addresses by which this machine may be found, for people.
pub fn summary(interfaces: &Interfaces) -> String {
    let mut text = String::new();
    for (name, entries) in interfaces {
        for entry in entries {
            let address = entry.address.as_deref().unwrap_or("no address");
            let gateway = entry.gateway.as_deref().map(|via| format!(" via {via}")).unwrap_or_default();
            let mac = entry.mac.as_deref().unwrap_or("-");
            let (kind, status) =
                (entry.kind.as_deref().unwrap_or("-"), entry.status.as_deref().unwrap_or("-"));
            text.push_str(&format!("{name}: {address}{gateway} ({kind}, {status}, {mac})\n"));
        }
    }
    text
}

fn link(name: &str, flags: InterfaceFlags) -> NetAddress {
    let sysfs = |field: &str| crate::host::read_line(&format!("/sys/class/net/{name}/{field}"));
    let mac = sysfs("address").filter(|mac| mac.len() == 17 && mac != "00:00:00:00:00:00");
    let running = flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
    NetAddress {
        mac: mac.map(|mac| mac.to_ascii_uppercase()),
        kind: Some(kind(name, flags).into()),
        status: Some(if running { "up" } else { "down" }.into()),
        index: sysfs("ifindex").and_then(|index| index.parse().ok()),
        // The kernel gives Mbit/s, and -1 where a link has no speed.
        speed: sysfs("speed")
            .and_then(|speed| speed.parse::<i64>().ok())
            .filter(|&speed| speed > 0)
            .map(|speed| speed * 1_000_000),
        ..NetAddress::default()
    }
}

fn kind(name: &str, flags: InterfaceFlags) -> &'static str {
    let sysfs = format!("/sys/class/net/{name}");
    let has = |part: &str| std::path::Path::new(&format!("{sysfs}/{part}")).exists();
    if has("wireless") || has("phy80211") {
        "wireless"
    } else if has("bridge") {
        "bridge"
    } else if flags.contains(InterfaceFlags::IFF_POINTOPOINT) {
        "tunnel"
    } else {
        "ethernet"
    }
}

/// Default gateways by interface from `/proc/net/route`: addresses are hex of the machine's byte order.
fn gateways_v4(table: &str) -> HashMap<String, Ipv4Addr> {
    let mut gateways: HashMap<String, (u32, Ipv4Addr)> = HashMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, destination, gateway, _, _, _, metric, mask, ..] = fields[..] else { continue };
        if destination != "00000000" || mask != "00000000" {
            continue;
        }
        let (Ok(raw), Ok(metric)) = (u32::from_str_radix(gateway, 16), metric.parse()) else { continue };
        let address = Ipv4Addr::from(raw.to_ne_bytes());
        let best = gateways.entry(name.to_owned()).or_insert((metric, address));
        if metric < best.0 {
            *best = (metric, address);
        }
    }
    gateways
        .into_iter()
        .map(|(name, (_, address))| (name, address))
        .filter(|(_, a)| !a.is_unspecified())
        .collect()
}

/// Default gateways by interface from `/proc/net/ipv6_route`: addresses are hex in network order.
fn gateways_v6(table: &str) -> HashMap<String, Ipv6Addr> {
    let mut gateways = HashMap::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, "00", _, _, gateway, .., name] = fields[..] else { continue };
        let Ok(address) = u128::from_str_radix(gateway, 16).map(Ipv6Addr::from) else { continue };
        if destination.bytes().all(|digit| digit == b'0') && !address.is_unspecified() {
            gateways.entry(name.to_owned()).or_insert(address);
        }
    }
    gateways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_come_from_the_default_routes() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        // The capture is of a little-endian machine.
        if cfg!(target_endian = "little") {
            assert_eq!(gateways_v4(v4).get("eth0"), Some(&Ipv4Addr::new(192, 168, 2, 1)));
        }
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n";
        assert_eq!(gateways_v6(v6).get("eth0"), Some(&"fe80::1".parse().expect("address")));
    }
}
