//! A TCP connection or datagrams of a port that the device reaches, over a tunnel (tunnel-protocols §6).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use outpost_wire::message::TunnelRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio_websockets::Message;

/// How long the target may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Bytes read from the target at once.
const PIECE: usize = 16 << 10;
/// Largest datagram.
const DATAGRAM: usize = 65_535;

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The request names no usable port.
    #[error("the request names no port")]
    NoPort,
    /// Nobody answers there.
    #[error("{target} did not answer within {} s", CONNECT_LIMIT.as_secs())]
    Timeout {
        /// Host and port.
        target: String,
    },
    /// The network refused.
    #[error("{target}: {error}")]
    Refused {
        /// Host and port.
        target: String,
        /// As the system says.
        error: std::io::Error,
    },
}

/// An open way to the target.
#[derive(Debug)]
pub enum Port {
    /// A connection.
    Tcp(TcpStream),
    /// A socket that speaks with the target only.
    Udp(UdpSocket),
}

impl Port {
    /// Opens the port that a request names.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn open(request: &TunnelRequest) -> Result<Port, PortError> {
        let local = "127.0.0.1";
        let (host, port) = match (request.tcpport, request.udpport) {
            (Some(port), _) => (request.tcpaddr.as_deref().unwrap_or(local), port),
            (None, Some(port)) => (request.udpaddr.as_deref().unwrap_or(local), port),
            (None, None) => return Err(PortError::NoPort),
        };
        if port == 0 {
            return Err(PortError::NoPort);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let target = format!("{host}:{port}");
        let opening = async {
            if request.tcpport.is_some() {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                return Ok(Port::Tcp(stream));
            }
            let address = lookup_host((host, port)).await?.next();
            let address = address.ok_or_else(|| std::io::Error::other("no such name"))?;
            let any: SocketAddr =
                if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            Ok(Port::Udp(socket))
        };
        match tokio::time::timeout(CONNECT_LIMIT, opening).await {
            Ok(Ok(port)) => Ok(port),
            Ok(Err(error)) => Err(PortError::Refused { target, error }),
            Err(_) => Err(PortError::Timeout { target }),
        }
    }

    /// Passes bytes or datagrams on until either side ends.
    pub async fn relay<O, I, E>(self, sink: O, stream: I)
    where
        O: Sink<Message, Error = E> + Unpin,
        I: Stream<Item = Result<Message, E>> + Unpin,
    {
        match self {
            Port::Tcp(tcp) => relay_tcp(tcp, sink, stream).await,
            Port::Udp(udp) => relay_udp(&udp, sink, stream).await,
        }
    }
}

async fn relay_tcp<O, I, E>(mut tcp: TcpStream, mut sink: O, mut stream: I)
where
    O: Sink<Message, Error = E> + Unpin,
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let (mut reader, mut writer) = tcp.split();
    let outward = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            if sink.send(Message::binary(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                return;
            }
        }
    };
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            // Texts are words between relays, never data.
            let data = message.is_binary();
            if message.is_close() || (data && writer.write_all(message.as_payload()).await.is_err()) {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), sink.close()).await;
}

async fn relay_udp<O, I, E>(udp: &UdpSocket, mut sink: O, mut stream: I)
where
    O: Sink<Message, Error = E> + Unpin,
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let outward = async {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match udp.recv(&mut buffer).await {
                Ok(read) => {
                    if sink.send(Message::binary(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                        return;
                    }
                }
                // Nobody listens there now; somebody may later.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    };
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            if message.is_close() {
                return;
            }
            if message.is_binary() {
                let _ = udp.send(message.as_payload()).await;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), sink.close()).await;
}
