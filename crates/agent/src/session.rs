//! One control channel: the handshake, then requests of the server until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use outpost_wire::command::{AgentCommand, ServerCommand};
use outpost_wire::handshake::{
    AgentHandshake, AgentHandshakeConfig, AgentInfo, AgentState, Capabilities, Frame, HandshakeError,
};
use outpost_wire::id::Hash384;
use outpost_wire::message::ToAgent;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_websockets::Message;

use crate::agent::Context;
use crate::dial::{Connection, WebSocket};
use crate::endpoint::Endpoint;
use crate::tunnel::Origin;
use crate::{host, inventory, requests};

/// From the open socket to command 4. A server that refuses says nothing, so this is also how long the
/// agent waits before it goes away again.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
/// The other end must answer a ping within this.
const PONG_LIMIT: Duration = Duration::from_secs(20);
/// A write that takes longer means that the server no longer reads.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// Binary answers and pings under way to the socket.
const REPLY_QUEUE: usize = 16;

/// How a control channel ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The server failed to prove itself or spoke nonsense.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// The server neither confirmed nor refused.
    #[error(
        "the server did not accept this device within {} s (an unknown device group, a full server, or a proxy in between)",
        HANDSHAKE_LIMIT.as_secs()
    )]
    NotAccepted,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(tokio_websockets::Error),
    /// The server closed.
    #[error("the server closed the connection")]
    Closed,
    /// No sign of life.
    #[error("the server no longer answers")]
    Silent,
}

impl From<tokio_websockets::Error> for SessionEnd {
    /// A server that ends without farewell (killed, or a proxy in between) has closed as well.
    fn from(error: tokio_websockets::Error) -> Self {
        match error {
            tokio_websockets::Error::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => Self::Closed,
            error => Self::Lost(error),
        }
    }
}

/// A control channel whose two sides know each other.
pub struct Session {
    socket: WebSocket,
    origin: Origin,
    /// Whether the server was known by its certificate alone.
    pub fast_path: bool,
}

impl Session {
    /// Runs the handshake on a fresh connection.
    pub async fn establish(
        context: &Context,
        endpoint: &Endpoint,
        server_id: Hash384,
        connection: Connection,
    ) -> Result<Self, SessionEnd> {
        let Connection { mut socket, certificate } = connection;
        let handshake = Box::pin(shake_hands(context, &mut socket, server_id, certificate));
        let fast_path =
            tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| SessionEnd::NotAccepted)??;
        Ok(Self { socket, origin: Origin { endpoint: endpoint.clone(), certificate }, fast_path })
    }

    /// Serves the server's requests until the connection ends.
    pub async fn serve(self, context: &Arc<Context>) -> SessionEnd {
        let queue = context.uplink.attach();
        let (sink, stream) = self.socket.split();
        let (replies, replied) = mpsc::channel(REPLY_QUEUE);
        let life = Life::new(context.settings.idle_timeout);
        let end = tokio::select! {
            end = Box::pin(write(sink, queue, replied)) => end,
            end = Box::pin(read(context, &self.origin, stream, &replies, &life)) => end,
            end = Box::pin(life.watch(&replies)) => end,
            () = Box::pin(inventory::report(context)) => unreachable!("inventories are reported for ever"),
        };
        context.uplink.detach();
        end
    }
}

async fn shake_hands(
    context: &Context,
    socket: &mut WebSocket,
    server_id: Hash384,
    certificate: Hash384,
) -> Result<bool, SessionEnd> {
    let settings = &context.settings;
    let mut handshake = AgentHandshake::new(AgentHandshakeConfig {
        signer: context.identity.signer(),
        certificate_der: context.identity.certificate_der().to_vec(),
        server_id,
        tls_hash: certificate,
        trusted_tls_hash: context.trusted_tls(&server_id),
        info: AgentInfo {
            agent_id: host::architecture(),
            version: 0,
            platform_type: host::platform_type(),
            group: settings.group,
            // JavaScript is not what it says: without this bit MeshCentral never completes the session.
            capabilities: if context.desktops.is_there() { Capabilities::DESKTOP } else { Capabilities(0) }
                | Capabilities::TERMINAL
                | Capabilities::FILES
                | Capabilities::CONSOLE
                | Capabilities::JAVASCRIPT,
            host_name: host::name(),
        },
        agent_name: settings.agent_name.clone(),
        commit_date: format!("Outpost {}", env!("CARGO_PKG_VERSION")),
        os_description: format!("{} - {}", host::system(), host::architecture_name()),
    });
    for frame in handshake.start() {
        socket.send(message(frame)).await?;
    }
    loop {
        let received = socket.next().await.ok_or(SessionEnd::Closed)??;
        if received.is_close() {
            return Err(SessionEnd::Closed);
        }
        if !received.is_text() && !received.is_binary() {
            continue;
        }
        let progress = handshake.receive(received.as_payload())?;
        for frame in progress.send {
            socket.send(message(frame)).await?;
        }
        match progress.state {
            AgentState::Waiting => {}
            AgentState::ServerVerified | AgentState::Authenticated { fast_path: false } => {
                context.trust_tls(server_id, certificate)
            }
            AgentState::Authenticated { fast_path: true } => {}
        }
        if let AgentState::Authenticated { fast_path } = progress.state {
            return Ok(fast_path);
        }
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Binary(bytes) => Message::binary(bytes),
        Frame::Text(text) => Message::text(text),
    }
}

/// Empties both queues into the socket.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<String>,
    mut replies: mpsc::Receiver<Message>,
) -> SessionEnd {
    loop {
        let message = tokio::select! {
            biased;
            Some(reply) = replies.recv() => reply,
            Some(text) = queue.recv() => Message::text(text),
            else => std::future::pending().await,
        };
        match tokio::time::timeout(WRITE_LIMIT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return SessionEnd::Silent,
        }
    }
}

async fn read(
    context: &Arc<Context>,
    origin: &Origin,
    mut stream: SplitStream<WebSocket>,
    replies: &mpsc::Sender<Message>,
    life: &Life,
) -> SessionEnd {
    loop {
        let message = match stream.next().await {
            None => return SessionEnd::Closed,
            Some(Err(error)) => return error.into(),
            Some(Ok(message)) => message,
        };
        life.heard();
        if message.is_close() {
            return SessionEnd::Closed;
        }
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        let payload = message.as_payload();
        if payload.first() == Some(&b'{') {
            match std::str::from_utf8(payload)
                .map_err(|error| error.to_string())
                .and_then(|text| ToAgent::parse(text).map_err(|error| error.to_string()))
            {
                Ok(request) => requests::take(context, origin, request).await,
                Err(error) => log::warn!("a message of the server cannot be read: {error}"),
            }
        } else if let Some(answer) = answer(payload) {
            let _ = replies.send(Message::binary(answer.encode())).await;
        }
    }
}

/// Binary commands: the agent has no JavaScript core and takes no binary updates. Zeros say so, and make
/// MeshCentral consider it complete.
fn answer(payload: &[u8]) -> Option<AgentCommand<'static>> {
    match ServerCommand::decode(payload) {
        Ok(ServerCommand::AskCoreHash) => Some(AgentCommand::CoreHash(Some(Hash384::ZERO))),
        Ok(ServerCommand::AskAgentHash) => Some(AgentCommand::AgentHash(Hash384::ZERO)),
        Ok(ServerCommand::InstallCore { .. } | ServerCommand::CompressedCore { .. }) => {
            log::info!("the server sent a JavaScript core; this agent has none and needs none");
            Some(AgentCommand::CoreHash(Some(Hash384::ZERO)))
        }
        Ok(ServerCommand::ClearCore) => Some(AgentCommand::CoreHash(None)),
        Ok(ServerCommand::UpdateStart | ServerCommand::UpdateEnd(_) | ServerCommand::UpdateBlock(_)) => {
            log::warn!("the server offered a binary update, which this agent does not take");
            None
        }
        Ok(_) => None,
        Err(error) => {
            log::debug!("a binary command of the server: {error}");
            None
        }
    }
}

/// Signs of life of the other end.
struct Life {
    idle: Duration,
    started: Instant,
    /// Milliseconds since `started`.
    heard: AtomicU64,
    news: Notify,
}

impl Life {
    fn new(idle: Duration) -> Self {
        Self { idle, started: Instant::now(), heard: AtomicU64::new(0), news: Notify::new() }
    }

    fn heard(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Time since the last sign.
    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Pings when nothing was heard for the idle time; any answer will do, as some do not echo.
    async fn watch(&self, replies: &mpsc::Sender<Message>) -> SessionEnd {
        loop {
            let silence = self.silence();
            if silence < self.idle {
                tokio::time::sleep(self.idle - silence).await;
                continue;
            }
            // A permit left by earlier traffic is not an answer.
            let _ = tokio::time::timeout(Duration::ZERO, self.news.notified()).await;
            let _ = replies.send(Message::ping("")).await;
            if tokio::time::timeout(PONG_LIMIT, self.news.notified()).await.is_err() {
                return SessionEnd::Silent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_and_agent_hash_are_answered_with_zeros() {
        for command in [11u16, 12] {
            let question = [command.to_be_bytes(), [0, 0]].concat();
            let answer = answer(&question).expect("answered").encode();
            assert_eq!(answer[..2], command.to_be_bytes());
            assert_eq!(answer[4..], [0; 48]);
        }
        assert!(answer(&[0, 16, 0, 0]).is_none(), "CoreOk needs no answer");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed() {
        let life = Life::new(Duration::from_millis(50));
        let (sender, mut receiver) = mpsc::channel(4);
        let end = tokio::join!(life.watch(&sender), async { receiver.recv().await }).0;
        assert!(matches!(end, SessionEnd::Silent));
    }
}
