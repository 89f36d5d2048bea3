//! A miniature server over loopback TLS, made of the server's role of the wire crate.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use outpost_agent::identity::Identity;
use outpost_agent::settings::Settings;
use outpost_wire::command::AgentCommand;
use outpost_wire::handshake::{Frame, ServerHandshake, ServerHandshakeConfig, TlsHashes, VerifiedAgent};
use outpost_wire::id::Hash384;
use outpost_wire::message::{FromAgent, ServerMsg, ServerMsgBody, ToAgent, TunnelRequest};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_websockets::{Message, ServerBuilder, WebSocketStream};

/// Long enough for a busy machine; nothing that works takes it.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// What makes a server the same one after a restart.
pub struct ServerIdentity {
    key: Identity,
    tls: Arc<ServerConfig>,
    tls_hashes: TlsHashes,
}

impl ServerIdentity {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
        let certificate = made.cert.der().clone();
        let hash = Hash384::of(&certificate);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("server TLS");
        let key = Identity::generate().expect("server key");
        Self { key, tls: Arc::new(tls), tls_hashes: TlsHashes { full: hash, key: hash } }
    }

    pub fn settings(&self, port: u16, extra: &[(&str, &str)]) -> Settings {
        self.settings_for(&format!("wss://127.0.0.1:{port}/agent.ashx"), extra)
    }

    pub fn settings_for(&self, server: &str, extra: &[(&str, &str)]) -> Settings {
        let text = format!(
            "MeshID=0x{}\nServerID={}\nMeshServer={server}\n",
            Hash384::of(b"group").to_hex(),
            self.key.node().to_hex()
        );
        let overrides: Vec<_> = extra.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Settings::read(&text, &overrides).expect("settings")
    }
}

/// A listening server; dropping it breaks everything that it accepted.
pub struct Server {
    pub port: u16,
    pub agents: mpsc::Receiver<AgentConnection>,
    pub tunnels: mpsc::Receiver<Tunnel>,
    listener: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// An authenticated agent.
pub struct AgentConnection {
    pub verified: VerifiedAgent,
    socket: Socket,
}

/// The agent's half of a tunnel.
pub struct Tunnel {
    pub path: String,
    pub socket: Socket,
}

impl Server {
    pub async fn start(identity: &Arc<ServerIdentity>, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (agents, agents_in) = mpsc::channel(8);
        let (tunnels, tunnels_in) = mpsc::channel(64);
        let identity = identity.clone();
        let listener = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                let (identity, agents, tunnels) = (identity.clone(), agents.clone(), tunnels.clone());
                tokio::spawn(async move {
                    let Ok(tls) = TlsAcceptor::from(identity.tls.clone()).accept(stream).await else {
                        return;
                    };
                    let Ok((request, socket)) = ServerBuilder::new().accept(tls).await else { return };
                    let path = request.uri().to_string();
                    if path.starts_with("/agent.ashx") {
                        if let Some(connection) = authenticate(&identity, socket).await {
                            let _ = agents.send(connection).await;
                        }
                    } else {
                        let _ = tunnels.send(Tunnel { path, socket }).await;
                    }
                });
            }
        });
        Self { port, agents: agents_in, tunnels: tunnels_in, listener }
    }

    pub async fn agent(&mut self) -> AgentConnection {
        tokio::time::timeout(PATIENCE, self.agents.recv())
            .await
            .expect("an agent in time")
            .expect("listening")
    }

    pub async fn tunnel(&mut self) -> Tunnel {
        tokio::time::timeout(PATIENCE, self.tunnels.recv())
            .await
            .expect("a tunnel in time")
            .expect("listening")
    }
}

async fn authenticate(identity: &ServerIdentity, mut socket: Socket) -> Option<AgentConnection> {
    let mut handshake = ServerHandshake::new(ServerHandshakeConfig {
        signer: identity.key.signer(),
        certificate_der: identity.key.certificate_der().into(),
        tls_hashes: vec![identity.tls_hashes],
    });
    loop {
        let message = socket.next().await?.ok()?;
        let progress = handshake.receive(message.as_payload()).ok()?;
        for frame in progress.send {
            socket.send(message_of(frame)).await.ok()?;
        }
        if let Some(verified) = progress.verified {
            socket.send(message_of(handshake.confirm())).await.ok()?;
            return Some(AgentConnection { verified, socket });
        }
    }
}

fn message_of(frame: Frame) -> Message {
    match frame {
        Frame::Binary(bytes) => Message::binary(bytes),
        Frame::Text(text) => Message::text(text),
    }
}

impl AgentConnection {
    /// As MeshCentral does: JSON in a BINARY frame.
    pub async fn send(&mut self, message: &ToAgent) {
        self.socket.send(Message::binary(message.to_json())).await.expect("send");
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.expect("send");
    }

    /// The next raw message that is not JSON.
    pub async fn command(&mut self) -> Vec<u8> {
        let wait = async {
            loop {
                let message = self.socket.next().await.expect("open").expect("message");
                if message.is_binary() {
                    return message.as_payload().to_vec();
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a command in time")
    }

    /// Reads messages until one fits.
    pub async fn wait_for<T>(&mut self, mut fits: impl FnMut(FromAgent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let message = self.socket.next().await.expect("open").expect("message");
                let Some(text) = message.as_text() else { continue };
                let Ok(AgentCommand::Json(text)) = AgentCommand::decode(text.as_bytes()) else {
                    panic!("{text}")
                };
                if let Some(found) = fits(FromAgent::parse(text).expect("a readable message")) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the message in time")
    }

    /// Asks for a tunnel as a user with these rights.
    pub async fn ask_tunnel(&mut self, rights: u32, consent: u32) {
        let request = TunnelRequest {
            value: "*/meshrelay.ashx?p=1&id=abc&rauth=x@y$z".into(),
            ..TunnelRequest::default()
        };
        self.send(&user_message(rights, consent, ServerMsgBody::Tunnel(Box::new(request)))).await;
    }
}

pub fn user_message(rights: u32, consent: u32, body: ServerMsgBody) -> ToAgent {
    ToAgent::Msg(Box::new(ServerMsg {
        sessionid: Some("user//ada/0123".into()),
        userid: Some("user//ada".into()),
        username: Some("ada".into()),
        rights: Some(rights),
        consent: Some(consent),
        body,
        ..ServerMsg::default()
    }))
}

impl Tunnel {
    /// Joins as the relay and browser would.
    pub async fn begin(&mut self, options: &str, protocol: &str) {
        for text in ["c", options, protocol] {
            self.socket.send(Message::text(text.to_owned())).await.expect("send");
        }
    }

    pub async fn type_in(&mut self, text: &str) {
        self.socket.send(Message::binary(text.as_bytes().to_vec())).await.expect("send");
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.expect("send");
    }

    pub async fn control(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("send");
    }

    /// The next frame; `None` when the tunnel has been closed.
    pub async fn next(&mut self) -> Option<Message> {
        let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame in time")?;
        message.ok().filter(|message| !message.is_close())
    }

    /// Reads output until it holds `text`.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut output = Vec::new();
        loop {
            let message = self
                .next()
                .await
                .unwrap_or_else(|| panic!("closed before {text:?}: {}", String::from_utf8_lossy(&output)));
            if message.is_binary() {
                output.extend_from_slice(message.as_payload());
            }
            let so_far = String::from_utf8_lossy(&output);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
    }
}
