//! Binding ports and accepting connections.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Settings;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// A peer that vanished without a word is noticed after about this long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The last port that is tried.
const LAST_PORT: u16 = 65_534;

/// Why a port cannot be had.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `exactPorts` is set, and this one is taken or not allowed.
    #[error(
        "{what} port {port} cannot be opened ({reason}); free it, choose another, or leave out exactPorts"
    )]
    Taken { what: &'static str, port: u16, reason: std::io::Error },
    /// No port at all.
    #[error("no port from {port} on can be opened for {what} ({reason})")]
    None { what: &'static str, port: u16, reason: std::io::Error },
}

/// The open ports.
pub struct Listeners {
    /// HTTPS.
    pub https: TcpListener,
    /// HTTP that redirects, if wanted.
    pub redirection: Option<TcpListener>,
}

/// Opens the ports: the wanted ones, or the next higher ones that are free.
///
/// # Errors
/// [`BindError`].
pub fn bind(settings: &Settings) -> Result<Listeners, BindError> {
    let exact = settings.exact_ports;
    let redirection = match settings.redir_port {
        None => None,
        Some(port) => match open_from("the redirection", settings.redir_port_bind, port, exact) {
            Ok(listener) => Some(listener),
            Err(error) if exact => return Err(error),
            Err(error) => {
                log::warn!("{error}; there is no redirection from HTTP");
                None
            }
        },
    };
    let https = open_from("HTTPS", settings.port_bind, settings.port, exact)?;
    Ok(Listeners { https, redirection })
}

fn open_from(
    what: &'static str,
    bind: Option<IpAddr>,
    wanted: u16,
    exact: bool,
) -> Result<TcpListener, BindError> {
    let mut port = wanted;
    loop {
        match open(bind, port) {
            Ok(listener) => return Ok(listener),
            Err(reason) if exact => return Err(BindError::Taken { what, port, reason }),
            Err(reason)
                if matches!(reason.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)
                    && port < LAST_PORT =>
            {
                // Below 1024 everything is forbidden to whoever may not open one of them.
                port =
                    if reason.kind() == ErrorKind::PermissionDenied && port < 1024 { 1024 } else { port + 1 };
            }
            Err(reason) => return Err(BindError::None { what, port: wanted, reason }),
        }
    }
}

fn open(bind: Option<IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    let listener = match bind {
        Some(address) => listen(SocketAddr::new(address, port))?,
        None => match listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Ok(listener) => listener,
            // A kernel without IPv6.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL)
                ) =>
            {
                listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?
            }
            Err(error) => return Err(error),
        },
    };
    TcpListener::from_std(listener.into())
}

fn listen(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Options of an accepted connection. One that cannot take them is usable all the same.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4).with_retries(4);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
}
