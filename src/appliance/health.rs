//! Whether the server is well: its store answers, and its HTTPS port takes connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::Site;
use crate::store::StoreError;

/// How long the store, and then the port, may take. A card that tidies itself up stalls for seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// No TLS at all: whoever reads it ends the connection at once, with an alert or without.
const GREETING: &[u8] = b"GET /health.ashx HTTP/1.0\r\n\r\n";

/// What ails the server.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum Illness {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store keeps a reader waiting.
    #[error("the store does not answer")]
    StoreHangs,
    /// Nobody listens.
    #[error("the HTTPS port {0} is closed: {1}")]
    PortClosed(SocketAddr, std::io::Error),
    /// Connections are taken by the kernel only.
    #[error("nobody answers on the HTTPS port {0}")]
    PortHangs(SocketAddr),
}

/// Looks whether the store and the HTTPS port answer. A disk that refuses writes is no illness: the server
/// says so to whoever changes something, and a restart would not help. Nor are too many connections: a
/// connection that is dropped has been taken.
///
/// # Errors
/// [`Illness`], after 20 s at the latest.
pub async fn examine(site: &Site) -> Result<(), Illness> {
    let read = site.store.get::<IgnoredAny>("health".to_owned());
    tokio::time::timeout(PATIENCE, read).await.map_err(|_| Illness::StoreHangs)??;
    match site.ports.get() {
        Some(ports) => answers(within(ports.https), PATIENCE).await,
        None => Ok(()),
    }
}

/// Where this machine reaches what is bound to an address.
fn within(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // A machine without IPv6 has no ::1, but then nothing is bound to :: either.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

async fn answers(address: SocketAddr, patience: Duration) -> Result<(), Illness> {
    let ask = async {
        let mut stream =
            TcpStream::connect(address).await.map_err(|error| Illness::PortClosed(address, error))?;
        // Written or refused, answered or cut off: somebody is there.
        let _ = stream.write_all(GREETING).await;
        let _ = stream.read(&mut [0; 16]).await;
        Ok(())
    };
    tokio::time::timeout(patience, ask).await.map_err(|_| Illness::PortHangs(address))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_answers_when_its_connections_are_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let dropping = tokio::spawn(async move { drop(listener.accept().await) });
        answers(address, PATIENCE).await.expect("dropped is taken");
        dropping.await.expect("the listener");
        assert!(matches!(answers(address, PATIENCE).await, Err(Illness::PortClosed(at, _)) if at == address));
    }

    #[tokio::test]
    async fn connections_that_only_the_kernel_takes_are_an_illness() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let patience = Duration::from_millis(100);
        assert!(matches!(answers(address, patience).await, Err(Illness::PortHangs(at)) if at == address));
    }

    #[test]
    fn what_is_bound_everywhere_is_asked_here() {
        let within = |text: &str| within(text.parse().expect("an address")).to_string();
        assert_eq!(within("0.0.0.0:443"), "127.0.0.1:443");
        assert_eq!(within("[::]:443"), "[::1]:443");
        assert_eq!(within("192.0.2.7:8443"), "192.0.2.7:8443");
    }
}
