//! The agent's side of the handshake.

use std::sync::Arc;

use super::{
    AgentInfo, AuthRequest, CMD_AUTH_CONFIRM, CMD_AUTH_REQUEST, CMD_AUTH_VERIFY, CMD_COMMIT_DATE,
    CMD_HOST_INFO, CMD_SERVER_ID, Frame, HandshakeError, MAX_HANDSHAKE_MESSAGE, MAX_HANDSHAKE_MESSAGES,
    Nonce, RsaSigner, command_of, decode_verify, encode_verify, signature, signed_bytes,
};
use crate::{
    id::Hash384,
    message::{AgentName, FromAgent, MAX_AGENT_NAME},
    random, text,
};

/// What an agent needs to prove itself and to know its server.
#[derive(Debug, Clone)]
pub struct AgentHandshakeConfig {
    /// The key that its device id comes from.
    pub signer: Arc<RsaSigner>,
    /// Its certificate, DER, at most 65,535 bytes.
    pub certificate_der: Vec<u8>,
    /// `ServerID` of its settings.
    pub server_id: Hash384,
    /// SHA-384 of the TLS certificate that this connection has.
    pub tls_hash: Hash384,
    /// The TLS certificate that a server proved to be its own before, if any. When it is `tls_hash`, the
    /// server need not prove itself again.
    pub trusted_tls_hash: Option<Hash384>,
    /// What it says of itself.
    pub info: AgentInfo,
    /// The name in its settings, at most 255 bytes.
    pub agent_name: Option<String>,
    /// When its sources were committed, as text.
    pub commit_date: String,
    /// Its operating system, as text.
    pub os_description: String,
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// Not there yet.
    Waiting,
    /// The server has proved itself: its TLS certificate may be remembered. Reported once.
    ServerVerified,
    /// Both sides know each other; what follows are [`crate::command::ServerCommand`]s and JSON.
    Authenticated {
        /// Whether the server was known by its TLS certificate alone.
        fast_path: bool,
    },
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentProgress {
    /// What to send, in this order.
    pub send: Vec<Frame>,
    /// How far it is.
    pub state: AgentState,
}

/// The agent's side of one connection. A failure is final.
#[derive(Debug)]
pub struct AgentHandshake {
    config: AgentHandshakeConfig,
    nonce: Nonce,
    messages: u32,
    server_nonce: Option<Nonce>,
    /// Command 2 that came before command 1.
    early_proof: Option<Vec<u8>>,
    server_verified: bool,
    confirmed: bool,
    failed: bool,
}

impl AgentHandshake {
    /// A handshake for a new connection, with a fresh nonce.
    ///
    /// # Panics
    /// If the certificate is longer than 65,535 bytes.
    pub fn new(config: AgentHandshakeConfig) -> Self {
        Self::started(config, random::bytes())
    }

    /// A handshake with a nonce that is known beforehand, to replay a capture.
    #[cfg(any(test, feature = "replay"))]
    pub fn with_nonce(config: AgentHandshakeConfig, nonce: [u8; crate::id::HASH_LEN]) -> Self {
        Self::started(config, nonce)
    }

    fn started(config: AgentHandshakeConfig, nonce: Nonce) -> Self {
        assert!(config.certificate_der.len() <= usize::from(u16::MAX), "the certificate is too long to send");
        Self {
            config,
            nonce,
            messages: 0,
            server_nonce: None,
            early_proof: None,
            server_verified: false,
            confirmed: false,
            failed: false,
        }
    }

    fn fast_path(&self) -> bool {
        self.config.trusted_tls_hash == Some(self.config.tls_hash)
    }

    /// What to send as soon as the WebSocket is open.
    pub fn start(&mut self) -> Vec<Frame> {
        let command = |id: u16, body: &[u8]| Frame::Binary([&id.to_be_bytes()[..], body].concat());
        let config = &self.config;
        let mut send = vec![
            command(CMD_COMMIT_DATE, &[config.commit_date.as_bytes(), &[0]].concat()),
            command(CMD_HOST_INFO, config.os_description.as_bytes()),
            command(CMD_SERVER_ID, &config.server_id.0),
        ];
        if self.fast_path() {
            send.push(command(CMD_AUTH_CONFIRM, &[]));
        }
        send.push(Frame::Binary(AuthRequest { tls_hash: config.tls_hash, nonce: self.nonce }.encode()));
        if self.fast_path() {
            send.extend(self.introduction());
        }
        send
    }

    /// Takes a message. Repeated and unknown ones are ignored.
    pub fn receive(&mut self, message: &[u8]) -> Result<AgentProgress, HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Ended);
        }
        let progress = self.step(message);
        self.failed = progress.is_err();
        progress
    }

    fn step(&mut self, message: &[u8]) -> Result<AgentProgress, HandshakeError> {
        if self.is_authenticated() {
            return Ok(AgentProgress { send: Vec::new(), state: self.state() });
        }
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            return Err(HandshakeError::MessageTooLong(message.len()));
        }
        self.messages += 1;
        if self.messages > MAX_HANDSHAKE_MESSAGES {
            return Err(HandshakeError::TooManyMessages);
        }
        let mut send = Vec::new();
        let was_verified = self.server_verified;
        match command_of(message) {
            Some(CMD_AUTH_REQUEST) if self.server_nonce.is_none() => {
                let request = AuthRequest::decode(message)?;
                // A server echoes the hash it was sent.
                if request.tls_hash != self.config.tls_hash {
                    return Err(HandshakeError::BadTlsHash { got: request.tls_hash });
                }
                self.server_nonce = Some(request.nonce);
                let signed = self.config.signer.sign(&signed_bytes(
                    &self.config.tls_hash,
                    &request.nonce,
                    &self.nonce,
                ));
                send.push(Frame::Binary(encode_verify(&self.config.certificate_der, &signed)));
                if let Some(proof) = self.early_proof.take() {
                    self.verify(&request.nonce, &proof)?;
                }
            }
            Some(CMD_AUTH_VERIFY) if !self.server_verified && self.early_proof.is_none() => {
                decode_verify(message)?;
                match self.server_nonce {
                    Some(nonce) => self.verify(&nonce, message)?,
                    None => self.early_proof = Some(message.to_vec()),
                }
            }
            Some(CMD_AUTH_CONFIRM) => self.confirmed = true,
            _ => {}
        }
        let newly_verified = self.server_verified && !was_verified;
        if newly_verified && !self.fast_path() {
            send.extend(self.introduction());
        }
        let state = match self.state() {
            AgentState::Waiting if newly_verified => AgentState::ServerVerified,
            state => state,
        };
        Ok(AgentProgress { send, state })
    }

    fn verify(&mut self, server_nonce: &Nonce, message: &[u8]) -> Result<(), HandshakeError> {
        let (certificate, signed) = decode_verify(message)?;
        let key = signature::public_key(certificate)?;
        if key.hash() != self.config.server_id {
            return Err(HandshakeError::WrongServer { got: key.hash() });
        }
        key.verify(&signed_bytes(&self.config.tls_hash, &self.nonce, server_nonce), signed)?;
        self.server_verified = true;
        Ok(())
    }

    /// The server is known, by its proof or by its TLS certificate, and it knows us: command 4 means that, and
    /// is believed only after it could have seen our proof.
    fn is_authenticated(&self) -> bool {
        let server_known = self.server_verified || self.fast_path();
        server_known && self.confirmed && self.server_nonce.is_some()
    }

    fn state(&self) -> AgentState {
        if self.is_authenticated() {
            AgentState::Authenticated { fast_path: !self.server_verified }
        } else {
            AgentState::Waiting
        }
    }

    /// The agent's name, if it has one, and command 3.
    fn introduction(&self) -> Vec<Frame> {
        let name = self.config.agent_name.as_deref().filter(|name| !name.is_empty()).map(|name| {
            let value = text::shortened(name, MAX_AGENT_NAME).to_owned();
            Frame::Text(FromAgent::AgentName(AgentName { value }).to_json())
        });
        name.into_iter().chain([Frame::Binary(self.config.info.encode())]).collect()
    }
}
