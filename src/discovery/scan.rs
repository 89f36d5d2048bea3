//! The multicast scan of agents (agent-protocol §7): answers theirs, and announces the server.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::discovery::{
    AGENT_PORT, DiscoveryKey, GROUP_V4, GROUP_V6, Reply, Request, SERVER_PORT, ScanReply, open,
    parse_request, seal,
};
use outpost_wire::id::Hash384;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::site::Site;

/// Interfaces are looked at this often: a cable may be plugged in later.
const RESCAN: Duration = Duration::from_secs(15);
/// The server announces itself this often (agent-protocol §7.3), and whenever its addresses change.
const ANNOUNCE: Duration = Duration::from_secs(20 * 60);
/// Answers a second, at most: the scan must not become a weapon.
const ANSWERS_PER_SECOND: u32 = 200;
/// Hops of a multicast packet (agent-protocol §7.3).
const HOPS: u32 = 128;

struct Scan {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
    key: Option<DiscoveryKey>,
    server_id: Hash384,
    port: u16,
    name: String,
    info: String,
    joined: HashSet<(IpAddr, u32)>,
}

/// Answers scans and announces the server until `stop`.
pub async fn serve(site: Arc<Site>, stop: CancellationToken) {
    let discovery = &site.config.settings.discovery;
    let v4 = match open_socket(Ipv4Addr::UNSPECIFIED.into()) {
        Ok(socket) => socket,
        Err(error) => {
            log::warn!("agents cannot find this server by multicast: UDP port {SERVER_PORT}: {error}");
            return;
        }
    };
    let mut scan = Scan {
        v4,
        v6: open_socket(Ipv6Addr::UNSPECIFIED.into()).ok(),
        key: discovery.key.as_deref().map(DiscoveryKey::from_passphrase),
        server_id: site.identity.agent.server_id,
        port: site.public_port(),
        name: discovery.name.clone().unwrap_or_else(|| site.title("")),
        info: discovery.info.clone().unwrap_or_default(),
        joined: HashSet::new(),
    };
    scan.join();
    scan.announce().await;
    let (mut rescan_at, mut announce_at) = (Instant::now() + RESCAN, Instant::now() + Duration::from_secs(2));
    let (mut buffer, mut buffer6) = ([0u8; 1024], [0u8; 1024]);
    let mut answered = (Instant::now(), 0u32);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(rescan_at) => {
                rescan_at = Instant::now() + RESCAN;
                if scan.join() {
                    announce_at = Instant::now();
                }
            }
            () = sleep_until(announce_at) => {
                announce_at = Instant::now() + ANNOUNCE;
                scan.announce().await;
            }
            received = scan.v4.recv_from(&mut buffer) => {
                if let Ok((length, from)) = received && within_limit(&mut answered) {
                    scan.answer(&buffer[..length], from).await;
                }
            }
            received = receive(scan.v6.as_ref(), &mut buffer6) => {
                if let Ok((length, from)) = received && within_limit(&mut answered) {
                    scan.answer(&buffer6[..length], from).await;
                }
            }
        }
    }
}

fn within_limit((since, count): &mut (Instant, u32)) -> bool {
    if since.elapsed() >= Duration::from_secs(1) {
        (*since, *count) = (Instant::now(), 0);
    }
    *count += 1;
    *count <= ANSWERS_PER_SECOND
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

fn open_socket(address: IpAddr) -> std::io::Result<UdpSocket> {
    let address = SocketAddr::new(address, SERVER_PORT);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Several servers may share the port; multicast reaches all of them.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_multicast_hops_v6(HOPS)?;
    } else {
        socket.set_multicast_ttl_v4(HOPS)?;
        socket.set_broadcast(true)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

impl Scan {
    /// Joins the groups on interfaces that are new; true when there was one.
    fn join(&mut self) -> bool {
        let mut now = HashSet::new();
        for interface in if_addrs::get_if_addrs().unwrap_or_default() {
            now.insert((interface.ip(), interface.index.unwrap_or(0)));
        }
        self.joined.retain(|joined| now.contains(joined));
        let mut new = false;
        for (ip, index) in now {
            if !self.joined.insert((ip, index)) {
                continue;
            }
            new = true;
            let joined = match ip {
                IpAddr::V4(v4) => self.v4.join_multicast_v4(GROUP_V4, v4),
                IpAddr::V6(_) => {
                    self.v6.as_ref().map_or(Ok(()), |socket| socket.join_multicast_v6(&GROUP_V6, index))
                }
            };
            // An interface with two addresses of a kind is joined already.
            if let Err(error) = joined
                && error.kind() != std::io::ErrorKind::AddrInUse
            {
                log::debug!("multicast on {ip}: {error}");
            }
        }
        new
    }

    async fn send(&self, packet: &[u8], to: SocketAddr) {
        let packet = self.key.as_ref().map_or_else(|| packet.to_vec(), |key| seal(key, packet));
        let socket = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        if let Some(socket) = socket
            && let Err(error) = socket.send_to(&packet, to).await
        {
            log::debug!("a discovery packet to {to} could not be sent: {error}");
        }
    }

    fn reply(&self, v6: bool) -> Reply {
        Reply::of_server(self.server_id, self.port, v6)
    }

    async fn announce(&self) {
        let v4 = self.reply(false).encode();
        for interface in &self.joined {
            match interface {
                (IpAddr::V4(address), _) => {
                    // Sent from each interface in turn; the option is per socket.
                    let _ = socket2::SockRef::from(&self.v4).set_multicast_if_v4(address);
                    self.send(&v4, SocketAddr::new(GROUP_V4.into(), AGENT_PORT)).await;
                }
                (IpAddr::V6(address), index) if address.is_unicast_link_local() => {
                    let to = std::net::SocketAddrV6::new(GROUP_V6, AGENT_PORT, 0, *index);
                    self.send(&self.reply(true).encode(), SocketAddr::V6(to)).await;
                }
                (IpAddr::V6(_), _) => {}
            }
        }
        let _ = socket2::SockRef::from(&self.v4).set_multicast_if_v4(&Ipv4Addr::UNSPECIFIED);
        self.send(&v4, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), AGENT_PORT)).await;
        self.send(&v4, SocketAddr::new(Ipv4Addr::BROADCAST.into(), AGENT_PORT)).await;
    }

    async fn answer(&self, packet: &[u8], from: SocketAddr) {
        let opened = match &self.key {
            Some(key) => match open(key, packet) {
                Some(opened) => opened,
                None => return,
            },
            None => packet.to_vec(),
        };
        let reply = self.reply(from.is_ipv6());
        match parse_request(&opened) {
            Some(Request::Agent(id)) if id == self.server_id => self.send(&reply.encode(), from).await,
            Some(Request::Scan) => {
                let reply = ScanReply { reply, name: self.name.clone(), info: self.info.clone() };
                self.send(&reply.encode(), from).await;
            }
            _ => {}
        }
    }
}
