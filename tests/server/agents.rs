//! Agents for tests: the real one, and the bare protocol for what the real one never does.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use outpost_agent::agent::Agent;
use outpost_agent::identity::Identity;
use outpost_agent::settings::Settings;
use outpost_wire::command::{AgentCommand, ServerCommand};
use outpost_wire::handshake::{
    AgentHandshake, AgentHandshakeConfig, AgentInfo, AgentState, Capabilities, Frame, PlatformType,
};
use outpost_wire::id::{GroupId, Hash384};
use serde_json::Value;
use tokio::task::AbortHandle;
use tokio_websockets::{Message, WebSocketStream};

use crate::world::{Browser, Tls, presented, socket};

/// The real agent, running.
pub struct RealAgent {
    task: AbortHandle,
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the real agent with the settings that the server gives out for a group.
pub async fn run(browser: &mut Browser, group: &str, identity: Arc<Identity>) -> RealAgent {
    let settings = settings(browser, group).await;
    let identity = Identity::from_pem(&identity.to_pem()).expect("an identity");
    let agent = Agent::new(settings, identity, None).expect("an agent");
    let task = tokio::spawn(agent.run()).abort_handle();
    RealAgent { task }
}

async fn settings(browser: &mut Browser, group: &str) -> Settings {
    let key = form_urlencoded::byte_serialize(group.as_bytes()).collect::<String>();
    let answer = browser.get(&format!("/meshsettings?id={key}&agent=outpost")).await;
    // Without multicast in a test there is only the address.
    let text = answer.text().replace("MeshServer=local,", "MeshServer=");
    let text: String = text
        .lines()
        .map(|line| match line.strip_prefix("ServerID=") {
            Some(ids) => format!("ServerID={}\r\n", ids.split(',').next().unwrap_or_default()),
            None => format!("{line}\r\n"),
        })
        .collect();
    Settings::read(&text, &[]).expect("settings")
}

/// An agent that speaks the bare protocol.
pub struct BareAgent {
    pub socket: WebSocketStream<Tls>,
    pub state: AgentState,
}

/// What a bare agent says of itself.
pub struct Claims<'a> {
    pub identity: &'a Identity,
    pub group: Hash384,
    pub host_name: &'a str,
    pub server_id: Hash384,
}

impl BareAgent {
    /// Connects and shakes hands until the server confirms or goes silent for a second.
    pub async fn connect(address: SocketAddr, claims: Claims<'_>) -> BareAgent {
        BareAgent::connect_as(address, claims, 6, Capabilities(0x1E)).await
    }

    /// The same as an agent of some architecture, with these capabilities.
    pub async fn connect_as(
        address: SocketAddr,
        claims: Claims<'_>,
        agent_id: u32,
        capabilities: Capabilities,
    ) -> BareAgent {
        let mut stream = socket(address, "/agent.ashx", &[]).await.expect("a socket");
        let mut handshake = AgentHandshake::new(AgentHandshakeConfig {
            signer: claims.identity.signer(),
            certificate_der: claims.identity.certificate_der().to_vec(),
            server_id: claims.server_id,
            tls_hash: presented(stream.get_ref()),
            trusted_tls_hash: None,
            info: AgentInfo {
                agent_id,
                version: 0,
                platform_type: PlatformType::Desktop,
                group: claims.group,
                capabilities,
                host_name: claims.host_name.to_owned(),
            },
            agent_name: None,
            commit_date: "2026".into(),
            os_description: "Test".into(),
        });
        let mut outgoing = handshake.start();
        let mut state = AgentState::Waiting;
        loop {
            for frame in outgoing.drain(..) {
                let message = match frame {
                    Frame::Binary(bytes) => Message::binary(bytes),
                    Frame::Text(text) => Message::text(text),
                };
                if stream.send(message).await.is_err() {
                    return BareAgent { socket: stream, state };
                }
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(2), stream.next()).await;
            let Ok(Some(Ok(message))) = next else { break };
            let progress = handshake.receive(message.as_payload()).expect("the server is honest");
            outgoing = progress.send;
            state = progress.state;
            if matches!(state, AgentState::Authenticated { .. }) {
                for frame in outgoing.drain(..) {
                    stream.send(Message::binary(frame.as_bytes().to_vec())).await.expect("sent");
                }
                break;
            }
        }
        BareAgent { socket: stream, state }
    }

    pub fn is_in(&self) -> bool {
        matches!(self.state, AgentState::Authenticated { .. })
    }

    pub async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    pub async fn command(&mut self, command: AgentCommand<'_>) {
        self.socket.send(Message::binary(command.encode())).await.expect("sent");
    }
}

impl BareAgent {
    /// The next command of the server; JSON is passed over.
    pub async fn next(&mut self) -> ServerCommand {
        loop {
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), self.socket.next()).await;
            let message = next.expect("in time").expect("open").expect("readable");
            if message.as_payload().first() != Some(&b'{') && message.is_binary() {
                return ServerCommand::decode(message.as_payload()).expect("a command");
            }
        }
    }

    /// The next JSON with this action; commands are passed over.
    pub async fn told(&mut self, action: &str) -> Value {
        loop {
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), self.socket.next()).await;
            let message = next.expect("in time").expect("open").expect("readable");
            let value = serde_json::from_slice::<Value>(message.as_payload()).unwrap_or_default();
            if value["action"] == action {
                return value;
            }
        }
    }
}

/// The 48 bytes of a group's id.
pub fn group_hash(group: &str) -> Hash384 {
    GroupId::parse(group).expect("an id").hash().expect("48 bytes")
}

/// Identities of many agents, each its own, in the time that few keys take: any two primes make a key.
pub fn crowd(count: usize) -> Vec<Identity> {
    use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
    use rsa::traits::{PrivateKeyParts, PublicKeyParts};
    let mut primes = Vec::new();
    let mut exponent = None;
    while primes.len() * (primes.len().max(1) - 1) / 2 < count {
        let pem = Identity::generate().expect("an identity").to_pem();
        let key = rsa::PrivateKey::from_pkcs8_pem(&pem[..pem.find("-----BEGIN CERT").expect("both")]);
        let key = key.expect("a key");
        primes.extend(key.primes().iter().cloned());
        exponent = Some(key.e().clone());
    }
    let exponent = exponent.expect("a key was made");
    let pairs =
        (0..primes.len()).flat_map(|first| (first + 1..primes.len()).map(move |second| (first, second)));
    pairs
        .take(count)
        .map(|(first, second)| {
            let pair = vec![primes[first].as_ref().clone(), primes[second].as_ref().clone()];
            let key = rsa::PrivateKey::from_primes(pair, exponent.clone()).expect("a key");
            let der = key.to_pkcs8_der().expect("encodable");
            let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
                &rustls::pki_types::PrivatePkcs8KeyDer::from(der.as_bytes()),
                &rcgen::PKCS_RSA_SHA384,
            )
            .expect("a key");
            let certificate = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate");
            let pem = pair.serialize_pem() + &certificate.pem();
            Identity::from_pem(&pem).expect("an identity")
        })
        .collect()
}
