//! One WebSocket to the server: TCP (directly or through a proxy), TLS, upgrade.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::id::Hash384;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_websockets::{ClientBuilder, Config, Limits, WebSocketStream};

use crate::endpoint::{Endpoint, EndpointError};
use crate::proxy::{Proxy, ProxyError};

/// From the first packet to the end of the upgrade (MeshAgent's own limit).
pub const TIME_LIMIT: Duration = Duration::from_secs(20);
/// One of several addresses of a name gets this long before the next is tried.
const ADDRESS_LIMIT: Duration = Duration::from_secs(6);
/// Largest outgoing frame; servers put longer messages together.
const FRAME: usize = 32 * 1024;
/// Longest incoming message.
const MAX_MESSAGE: usize = 1024 * 1024;

/// A WebSocket inside TLS.
pub type WebSocket = WebSocketStream<TlsStream<TcpStream>>;

/// What a dialled connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The control channel: silence means that it is dead.
    Control,
    /// A tunnel: a viewer may pause it for hours.
    Tunnel,
}

/// An open WebSocket and what is known about its other end.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: WebSocket,
    /// SHA-384 of the certificate that the server (or a TLS proxy before it) presented.
    pub certificate: Hash384,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("no connection within {} s", TIME_LIMIT.as_secs())]
    Timeout,
    /// Name resolution.
    #[error("resolving the server's name: {0}")]
    Resolve(std::io::Error),
    /// TCP.
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    /// No certificate was presented.
    #[error("the server presented no certificate")]
    NoCertificate,
    /// The upgrade.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(#[from] tokio_websockets::Error),
    /// The address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// Opens a WebSocket to `endpoint`.
pub async fn dial(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    proxy: Option<&Proxy>,
    purpose: Purpose,
) -> Result<Connection, DialError> {
    tokio::time::timeout(TIME_LIMIT, Box::pin(open(endpoint, tls, proxy, purpose)))
        .await
        .map_err(|_| DialError::Timeout)?
}

async fn open(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    proxy: Option<&Proxy>,
    purpose: Purpose,
) -> Result<Connection, DialError> {
    let uri = endpoint.uri()?;
    let (stream, certificate) = connect_tls(endpoint, tls, proxy, purpose).await?;
    let (socket, _response) = ClientBuilder::from_uri(uri)
        .config(Config::default().frame_size(FRAME))
        .limits(Limits::default().max_payload_len(Some(MAX_MESSAGE)))
        .connect_on(stream)
        .await?;
    Ok(Connection { socket, certificate })
}

/// A TLS connection to `endpoint`, and the certificate of its other end.
///
/// # Errors
/// [`DialError`]; there is no time limit of its own.
pub(crate) async fn connect_tls(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    proxy: Option<&Proxy>,
    purpose: Purpose,
) -> Result<(TlsStream<TcpStream>, Hash384), DialError> {
    let tcp = match (proxy, endpoint.socket_address()) {
        (Some(proxy), _) => {
            let stream = connect(&resolve(proxy.authority()).await?).await?;
            proxy.tunnel(stream, &endpoint.authority()).await?
        }
        (None, Some(address)) => connect(&[address]).await?,
        (None, None) => connect(&resolve(&endpoint.authority()).await?).await?,
    };
    tune(&tcp, purpose);
    let stream =
        TlsConnector::from(tls.clone()).connect(endpoint.server_name(), tcp).await.map_err(DialError::Tls)?;
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or(DialError::NoCertificate)?;
    let certificate = Hash384::of(leaf);
    Ok((stream, certificate))
}

async fn resolve(authority: &str) -> Result<Vec<SocketAddr>, DialError> {
    Ok(tokio::net::lookup_host(authority).await.map_err(DialError::Resolve)?.take(8).collect())
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(ADDRESS_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Connect(last))
}

/// Makes the kernel notice a peer that has vanished. None of it is vital, so refusals are ignored.
fn tune(tcp: &TcpStream, purpose: Purpose) {
    let _ = tcp.set_nodelay(true);
    let socket = socket2::SockRef::from(tcp);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let _ = socket.set_tcp_keepalive(&keepalive);
    if purpose == Purpose::Control {
        // Bytes that nobody acknowledges for a minute: the other end is gone. Not for tunnels, where a
        // closed window is a viewer who looks away.
        let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(60)));
    }
}
