//! Ports of devices brought here: connections, datagrams, this program's own input and output.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::Hash384;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_websockets::Message;

use super::session::{ClientError, Device, GuestLink, Session, Socket};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// How long what is still on its way here may take after nothing goes there any more: tunnels have no half close.
const REST: Duration = Duration::from_secs(10);
/// A peer whose datagrams have been quiet so long loses its tunnel.
const QUIET: Duration = Duration::from_secs(120);
/// Peers that may send datagrams at the same time.
const MOST_PEERS: usize = 64;
/// Datagrams that wait for a tunnel; more are lost, as datagrams are.
const WAITING: usize = 64;

/// A port of a device, or of a machine that the device reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address as the device knows it; none is the device.
    pub host: Option<String>,
    /// Port.
    pub port: u16,
}

/// Not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no port; expected <port> or <host>:<port>, from 1 to 65535")]
pub struct TargetError(String);

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| TargetError(text.to_owned()))?;
        match host {
            Some(host) if host.is_empty() || host.contains(char::is_whitespace) => {
                Err(TargetError(text.to_owned()))
            }
            host => Ok(Target { host: host.map(str::to_owned), port }),
        }
    }
}

impl Target {
    fn query(&self, kind: &str, device: &Device) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("nodeid", &device.id);
        query.append_pair(&format!("{kind}port"), &self.port.to_string());
        query.append_pair(&format!("{kind}addr"), self.host.as_deref().unwrap_or("127.0.0.1"));
        query.finish()
    }
}

/// A way to a TCP port of a device.
pub enum Door {
    /// With an account.
    Account(Box<Session>, Device, Target),
    /// With the link of a share, on the server with this certificate.
    Link(GuestLink, Hash384),
}

impl Door {
    async fn tunnel(&self) -> Result<Socket, ClientError> {
        match self {
            Door::Account(session, device, target) => session.tunnel(&target.query("tcp", device)).await,
            Door::Link(link, pin) => link.tunnel(*pin).await,
        }
    }

    /// Until the way is closed, and why.
    async fn stay(&self) -> ClientError {
        match self {
            Door::Account(session, ..) => session.stay().await,
            // Every connection is a visit of its own.
            Door::Link(..) => std::future::pending().await,
        }
    }
}

/// Brings every connection to `listener` through the door, until that is closed.
///
/// # Errors
/// Why it ended. What goes wrong with one connection is told to `report`, and ends that one only.
pub async fn stream(
    door: Arc<Door>,
    listener: TcpListener,
    report: impl Fn(&ClientError) + Clone + Send + 'static,
) -> ClientError {
    let accepting = async {
        loop {
            let Ok((local, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = local.set_nodelay(true);
            let (door, report) = (door.clone(), report.clone());
            tokio::spawn(async move {
                match door.tunnel().await {
                    Ok(tunnel) => {
                        let (input, output) = local.into_split();
                        join(tunnel, input, output).await;
                    }
                    Err(error) => report(&error),
                }
            });
        }
    };
    tokio::select! {
        error = door.stay() => error,
        () = accepting => unreachable!("it accepts until it is dropped"),
    }
}

/// Brings this program's input and output to the target, until either side ends.
///
/// # Errors
/// [`ClientError`] when the tunnel cannot be opened.
pub async fn standard_streams(door: &Door) -> Result<(), ClientError> {
    let tunnel = door.tunnel().await?;
    let end = tokio::select! {
        () = join(tunnel, tokio::io::stdin(), tokio::io::stdout()) => None,
        error = door.stay() => Some(error),
    };
    end.map_or(Ok(()), Err)
}

async fn join(tunnel: Socket, mut input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin) {
    let (mut there, mut here) = tunnel.split();
    let out = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            buffer.reserve(CHUNK);
            match input.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    if there.send(Message::binary(buffer.split().freeze())).await.is_err() {
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(REST).await;
        let _ = there.close().await;
    };
    let back = async {
        while let Some(Ok(message)) = here.next().await {
            // Text is about the tunnel, not of it.
            if message.is_close()
                || (message.is_binary() && output.write_all(message.as_payload()).await.is_err())
            {
                break;
            }
            if message.is_binary() && output.flush().await.is_err() {
                break;
            }
        }
        let _ = output.shutdown().await;
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}

/// Brings datagrams to the target, with a tunnel for each peer here, until the server ends the session.
///
/// # Errors
/// Why it ended.
pub async fn datagrams(
    session: Arc<Session>,
    device: Device,
    target: Target,
    socket: UdpSocket,
    report: impl Fn(&ClientError) + Clone + Send + 'static,
) -> ClientError {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let receiving = async {
        let mut buffer = vec![0; 65_536];
        loop {
            // Errors are earlier datagrams that found no one.
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            peers.retain(|_, sender| !sender.is_closed());
            if !peers.contains_key(&peer) {
                if peers.len() >= MOST_PEERS {
                    continue;
                }
                let (sender, waiting) = mpsc::channel(WAITING);
                peers.insert(peer, sender);
                let (session, query, report) =
                    (session.clone(), target.query("udp", &device), report.clone());
                let socket = socket.clone();
                tokio::spawn(async move {
                    match session.tunnel(&query).await {
                        Ok(tunnel) => exchange(tunnel, &socket, peer, waiting).await,
                        Err(error) => report(&error),
                    }
                });
            }
            if let Some(sender) = peers.get(&peer) {
                let _ = sender.try_send(buffer[..length].to_vec());
            }
        }
    };
    tokio::select! {
        error = session.stay() => error,
        () = receiving => unreachable!("it receives until it is dropped"),
    }
}

async fn exchange(
    mut tunnel: Socket,
    socket: &UdpSocket,
    peer: SocketAddr,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        tokio::select! {
            datagram = waiting.recv() => {
                let Some(datagram) = datagram else { break };
                if tunnel.send(Message::binary(datagram)).await.is_err() {
                    break;
                }
            }
            message = tunnel.next() => match message {
                Some(Ok(message)) if message.is_binary() => {
                    let _ = socket.send_to(message.as_payload(), peer).await;
                }
                Some(Ok(message)) if !message.is_close() => {}
                _ => break,
            },
            () = tokio::time::sleep(QUIET) => break,
        }
    }
    let _ = tunnel.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_ports_with_or_without_a_machine() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("22"), Ok(Target { host: None, port: 22 }));
        assert_eq!(target("10.0.0.5:80"), Ok(Target { host: Some("10.0.0.5".into()), port: 80 }));
        assert_eq!(target("[fe80::1]:80"), Ok(Target { host: Some("[fe80::1]".into()), port: 80 }));
        for bad in ["", "0", "65536", "ssh", ":80", "a b:80"] {
            assert_eq!(target(bad), Err(TargetError(bad.to_owned())));
        }
        let device = Device { id: "node//a@$".into(), name: "Pi".into() };
        assert_eq!(
            target("h:1").expect("one").query("tcp", &device),
            "nodeid=node%2F%2Fa%40%24&tcpport=1&tcpaddr=h"
        );
    }
}
