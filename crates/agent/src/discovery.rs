//! Finding a server on the local network by multicast (agent-protocol §7).
//!
//! Answers prove nothing: whoever is found must still prove in the handshake that it owns the ServerID.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use outpost_wire::discovery::{self, AGENT_PORT, DiscoveryKey, GROUP_V4, GROUP_V6, Reply, SERVER_PORT};
use outpost_wire::id::Hash384;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::endpoint::Endpoint;

/// Hop limit of queries (MeshAgent's own).
const HOPS: u32 = 4;
/// Datagrams are shorter than this (agent-protocol §7.1), ciphertext included.
const MAX_DATAGRAM: usize = 1500;
/// How long an IPv4 answer is waited for after one over IPv6.
const IPV4_GRACE: Duration = Duration::from_millis(200);
/// Interfaces queried at most.
const MAX_INTERFACES: usize = 64;

/// What an agent looks for.
#[derive(Debug, Clone)]
pub struct Discovery {
    server_id: Hash384,
    key: Option<DiscoveryKey>,
    server_port: u16,
    agent_port: u16,
}

impl Discovery {
    /// Looks for the server with this identity, in sealed packets when there is a key.
    pub fn new(server_id: Hash384, key: Option<DiscoveryKey>) -> Self {
        Self { server_id, key, server_port: SERVER_PORT, agent_port: AGENT_PORT }
    }

    /// The same with other ports than the protocol's (for tests, which share a machine).
    pub fn with_ports(self, server_port: u16, agent_port: u16) -> Self {
        Self { server_port, agent_port, ..self }
    }

    /// Asks on every interface and returns the first server that answers within `limit`.
    pub async fn search(&self, limit: Duration) -> Option<Endpoint> {
        let query = self.seal(&discovery::query(&self.server_id));
        let mut sockets = Vec::new();
        for index in link_local_interfaces() {
            if let Ok(socket) = query_socket_v6(index) {
                let _ = socket.send_to(&query, SocketAddr::from((GROUP_V6, self.server_port))).await;
                sockets.push(socket);
            }
        }
        for address in own_ipv4_addresses() {
            if let Ok(socket) = query_socket_v4(address) {
                let _ = socket.send_to(&query, SocketAddr::from((GROUP_V4, self.server_port))).await;
                sockets.push(socket);
            }
        }
        // A server on this very machine hears it even where no interface does multicast.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await {
            let _ = socket.send_to(&query, SocketAddr::from((Ipv4Addr::LOCALHOST, self.server_port))).await;
            sockets.push(socket);
        }
        let mut answers: FuturesUnordered<_> =
            sockets.iter().map(|socket| Box::pin(self.receive(socket))).collect();
        let mut next = async || {
            while let Some(endpoint) = answers.next().await {
                if let Ok(endpoint) = endpoint {
                    return Some(endpoint);
                }
            }
            None
        };
        let first = tokio::time::timeout(limit, next()).await.ok().flatten()?;
        if !first.is_ipv6() {
            return Some(first);
        }
        // Link-local addresses mean little to people and to other subnets, so IPv4 gets a moment more.
        let other = tokio::time::timeout(IPV4_GRACE, next()).await.ok().flatten();
        Some(other.filter(|endpoint| !endpoint.is_ipv6()).unwrap_or(first))
    }

    /// Opens the port on which servers announce themselves.
    pub fn listen(&self) -> io::Result<Announcements> {
        let mut sockets = Vec::new();
        let v4 = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        v4.set_reuse_address(true)?;
        v4.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.agent_port)).into())?;
        for address in own_ipv4_addresses() {
            let _ = v4.join_multicast_v4(&GROUP_V4, &address);
        }
        sockets.push(UdpSocket::from_std(v4.into())?);
        // A kernel without IPv6 is no failure.
        if let Ok(v6) = self.listen_v6() {
            sockets.push(v6);
        }
        Ok(Announcements { discovery: self.clone(), sockets })
    }

    fn listen_v6(&self) -> io::Result<UdpSocket> {
        let v6 = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        v6.set_only_v6(true)?;
        v6.set_reuse_address(true)?;
        v6.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.agent_port)).into())?;
        for index in link_local_interfaces() {
            let _ = v6.join_multicast_v6(&GROUP_V6, index);
        }
        UdpSocket::from_std(v6.into())
    }

    /// Waits for a datagram that names our server.
    async fn receive(&self, socket: &UdpSocket) -> io::Result<Endpoint> {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            // Errors of earlier sends surface here (a port that is not open); they are no end.
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    if let Some(endpoint) = self.read(&buffer[..length], from) {
                        return Ok(endpoint);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, packet: &[u8], from: SocketAddr) -> Option<Endpoint> {
        let opened;
        let plain = match &self.key {
            Some(key) => {
                opened = discovery::open(key, packet)?;
                &opened[..]
            }
            None => packet,
        };
        let reply = Reply::parse(plain)?;
        if reply.server_id != self.server_id {
            return None;
        }
        Endpoint::parse(&reply.url(from)).ok()
    }

    fn seal(&self, packet: &[u8]) -> Vec<u8> {
        self.key.as_ref().map_or_else(|| packet.to_vec(), |key| discovery::seal(key, packet))
    }
}

/// Servers that announce themselves.
#[derive(Debug)]
pub struct Announcements {
    discovery: Discovery,
    sockets: Vec<UdpSocket>,
}

impl Announcements {
    /// Waits for the next announcement of our server.
    pub async fn next(&self) -> Endpoint {
        let mut news: FuturesUnordered<_> =
            self.sockets.iter().map(|socket| Box::pin(self.discovery.receive(socket))).collect();
        while let Some(endpoint) = news.next().await {
            if let Ok(endpoint) = endpoint {
                return endpoint;
            }
        }
        std::future::pending().await
    }
}

/// IPv4 addresses of interfaces that are up, the loopback excluded.
pub fn own_ipv4_addresses() -> Vec<Ipv4Addr> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let own: BTreeSet<Ipv4Addr> = addresses
        .filter(|item| {
            item.flags.contains(InterfaceFlags::IFF_UP) && !item.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|item| Some(item.address?.as_sockaddr_in()?.ip()))
        .collect();
    own.into_iter().take(MAX_INTERFACES).collect()
}

/// Addresses by which this machine can reach others now: those of interfaces whose link is up. Link-local
/// ones are left out, as every container's virtual link has one.
pub fn live_addresses() -> BTreeSet<IpAddr> {
    let Ok(addresses) = getifaddrs() else { return BTreeSet::new() };
    let live = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    addresses
        .filter(|item| item.flags.contains(live) && !item.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|item| {
            let address = item.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = || address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| !ip.is_unicast_link_local());
            v4.or_else(|| v6().map(IpAddr::V6))
        })
        .collect()
}

/// Numbers of interfaces with a link-local IPv6 address.
fn link_local_interfaces() -> Vec<u32> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let indexes: BTreeSet<u32> = addresses
        .filter(|item| {
            item.flags.contains(InterfaceFlags::IFF_UP) && !item.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|item| {
            let address = *item.address?.as_sockaddr_in6()?;
            let link_local =
                matches!(IpAddr::from(address.ip()), IpAddr::V6(ip) if ip.is_unicast_link_local());
            link_local.then(|| address.scope_id())
        })
        .collect();
    indexes.into_iter().take(MAX_INTERFACES).collect()
}

fn query_socket_v4(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.set_multicast_if_v4(&address)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_multicast_loop_v4(true)?;
    UdpSocket::from_std(socket.into())
}

fn query_socket_v6(index: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_loop_v6(true)?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on this machine that answers whoever knows its identity.
    async fn answering(socket: UdpSocket, id: Hash384, key: Option<DiscoveryKey>, claims: Hash384) {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("receive");
            let plain = match &key {
                Some(key) => discovery::open(key, &buffer[..length]),
                None => Some(buffer[..length].to_vec()),
            };
            if plain.as_deref() != Some(&discovery::query(&id)[..]) {
                continue;
            }
            let reply = Reply { server_id: claims, url_template: "wss://%s:4433/agent.ashx".into() }.encode();
            let packet = key.as_ref().map_or_else(|| reply.clone(), |key| discovery::seal(key, &reply));
            socket.send_to(&packet, from).await.expect("send");
        }
    }

    async fn found(claims: Hash384, server_key: Option<&str>, agent_key: Option<&str>) -> Option<Endpoint> {
        let id = Hash384::of(b"server");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let port = socket.local_addr().expect("address").port();
        let key = |text: Option<&str>| text.map(DiscoveryKey::from_passphrase);
        let server = tokio::spawn(answering(socket, id, key(server_key), claims));
        let result =
            Discovery::new(id, key(agent_key)).with_ports(port, 0).search(Duration::from_millis(400)).await;
        server.abort();
        result
    }

    #[tokio::test]
    async fn a_server_is_found_at_the_address_it_answers_from() {
        let endpoint = found(Hash384::of(b"server"), None, None).await.expect("found");
        assert_eq!(endpoint.to_string(), "wss://127.0.0.1:4433/agent.ashx");
        assert!(found(Hash384::of(b"server"), Some("sesame"), Some("sesame")).await.is_some());
    }

    #[tokio::test]
    async fn strangers_and_other_keys_are_not_heard() {
        assert_eq!(found(Hash384::of(b"stranger"), None, None).await, None);
        assert_eq!(found(Hash384::of(b"server"), Some("sesame"), None).await, None);
        assert_eq!(found(Hash384::of(b"server"), None, Some("sesame")).await, None);
    }
}
