//! The server's side of the handshake.

use std::sync::Arc;

use super::{
    AgentInfo, AuthRequest, CMD_AUTH_CONFIRM, CMD_AUTH_INFO, CMD_AUTH_REQUEST, CMD_AUTH_VERIFY,
    CMD_COMMIT_DATE, CMD_HOST_INFO, CMD_SERVER_ID, Frame, HandshakeError, MAX_HANDSHAKE_MESSAGE,
    MAX_HANDSHAKE_MESSAGES, Nonce, RsaSigner, command_of, decode_verify, encode_verify, signature,
    signed_bytes,
};
use crate::{
    id::{HASH_LEN, Hash384},
    message::{FromAgent, MAX_AGENT_NAME},
    random, text,
};

/// Longest version date, and longest description of a system, in bytes.
const MAX_COMMIT_DATE: usize = 64;
const MAX_OS_DESCRIPTION: usize = 1024;
/// Longest JSON before authentication, in bytes: an agent's name and its wrapping.
const MAX_EARLY_JSON: usize = 2048;

/// The two hashes of a TLS certificate (agent-protocol §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsHashes {
    /// SHA-384 of the whole certificate; what agents send and signatures cover.
    pub full: Hash384,
    /// SHA-384 of its public key.
    pub key: Hash384,
}

/// What a server needs to answer an agent.
#[derive(Debug, Clone)]
pub struct ServerHandshakeConfig {
    /// The key that `ServerID` names.
    pub signer: Arc<RsaSigner>,
    /// Its certificate, DER, at most 65,535 bytes.
    pub certificate_der: Arc<[u8]>,
    /// TLS certificates that an agent may see: ours, and those of proxies before us.
    pub tls_hashes: Vec<TlsHashes>,
}

/// An agent that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAgent {
    /// Hash of its public key, the key of its device id.
    pub node_hash: Hash384,
    /// What it says of itself.
    pub info: AgentInfo,
    /// The name in its settings.
    pub agent_name: Option<String>,
    /// When its sources were committed, as text.
    pub commit_date: Option<String>,
    /// Its operating system.
    pub os_description: Option<String>,
    /// Whether it knew our TLS certificate already, so that we did not have to sign.
    pub fast_path: bool,
}

/// What came of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerProgress {
    /// What to send, in this order.
    pub send: Vec<Frame>,
    /// The agent, once, when its proof and its information are there. The caller then makes the device's record
    /// ready, sends [`ServerHandshake::confirm`] and reads what follows as
    /// [`crate::command::AgentCommand`].
    pub verified: Option<VerifiedAgent>,
}

/// The server's side of one connection.
///
/// A failure is final. MeshAgent does not reconnect slower after a refusal, so the caller should keep a
/// refused connection silent for a while before closing it.
#[derive(Debug)]
pub struct ServerHandshake {
    config: ServerHandshakeConfig,
    nonce: Nonce,
    messages: u32,
    fast_path: bool,
    request: Option<Request>,
    /// Command 2 that came before command 1.
    early_proof: Option<Vec<u8>>,
    node_hash: Option<Hash384>,
    info: Option<AgentInfo>,
    agent_name: Option<String>,
    commit_date: Option<String>,
    os_description: Option<String>,
    expected_server: Option<Hash384>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Verified,
    Failed,
}

/// The agent's command 1.
#[derive(Debug, Clone, Copy)]
struct Request {
    tls_hash: Hash384,
    nonce: Nonce,
}

impl ServerHandshake {
    /// A handshake for a new connection, with a fresh nonce.
    ///
    /// # Panics
    /// If the certificate is longer than 65,535 bytes.
    pub fn new(config: ServerHandshakeConfig) -> Self {
        Self::started(config, random::bytes())
    }

    /// A handshake with a nonce that is known beforehand, to replay a capture.
    #[cfg(any(test, feature = "replay"))]
    pub fn with_nonce(config: ServerHandshakeConfig, nonce: [u8; crate::id::HASH_LEN]) -> Self {
        Self::started(config, nonce)
    }

    fn started(config: ServerHandshakeConfig, nonce: Nonce) -> Self {
        assert!(config.certificate_der.len() <= usize::from(u16::MAX), "the certificate is too long to send");
        Self {
            config,
            nonce,
            messages: 0,
            fast_path: false,
            request: None,
            early_proof: None,
            node_hash: None,
            info: None,
            agent_name: None,
            commit_date: None,
            os_description: None,
            expected_server: None,
            phase: Phase::Open,
        }
    }

    /// The server that the agent expects, if it said so (command 5).
    pub fn expected_server(&self) -> Option<Hash384> {
        self.expected_server
    }

    /// Takes a message. Commands 2 and 3 may come in either order and before command 1; repeated and unknown
    /// ones are ignored, as is everything after the agent is verified.
    pub fn receive(&mut self, message: &[u8]) -> Result<ServerProgress, HandshakeError> {
        match self.phase {
            Phase::Open => {}
            Phase::Verified => return Ok(ServerProgress::default()),
            Phase::Failed => return Err(HandshakeError::Ended),
        }
        let progress = self.step(message);
        if progress.is_err() {
            self.phase = Phase::Failed;
            self.early_proof = None;
        }
        progress
    }

    /// Command 4: tells the agent that it is authenticated.
    pub fn confirm(&mut self) -> Frame {
        Frame::Binary(CMD_AUTH_CONFIRM.to_be_bytes().to_vec())
    }

    fn step(&mut self, message: &[u8]) -> Result<ServerProgress, HandshakeError> {
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            return Err(HandshakeError::MessageTooLong(message.len()));
        }
        self.messages += 1;
        if self.messages > MAX_HANDSHAKE_MESSAGES {
            return Err(HandshakeError::TooManyMessages);
        }
        let mut send = Vec::new();
        match command_of(message) {
            None => self.early_json(message),
            Some(CMD_AUTH_REQUEST) if self.request.is_none() => self.answer(message, &mut send)?,
            Some(CMD_AUTH_VERIFY) if self.node_hash.is_none() && self.early_proof.is_none() => {
                decode_verify(message)?;
                match self.request {
                    Some(request) => self.verify(&request, message)?,
                    None => self.early_proof = Some(message.to_vec()),
                }
            }
            Some(CMD_AUTH_INFO) if self.info.is_none() => self.info = Some(AgentInfo::decode(message)?),
            // Only before command 1: afterwards the signature has been sent anyway.
            Some(CMD_AUTH_CONFIRM) if self.request.is_none() => self.fast_path = true,
            Some(CMD_SERVER_ID) if self.expected_server.is_none() => {
                self.expected_server = message.get(2..2 + HASH_LEN).and_then(|id| Hash384::try_from(id).ok());
            }
            Some(CMD_COMMIT_DATE) if self.commit_date.is_none() => {
                self.commit_date = short_text(&message[2..], MAX_COMMIT_DATE);
            }
            Some(CMD_HOST_INFO) if self.os_description.is_none() => {
                self.os_description = short_text(&message[2..], MAX_OS_DESCRIPTION);
            }
            Some(_) => {}
        }
        Ok(ServerProgress { send, verified: self.finish() })
    }

    /// Answers command 1 with the same hash and our nonce and, unless the agent knows us already, with our
    /// proof.
    fn answer(&mut self, message: &[u8], send: &mut Vec<Frame>) -> Result<(), HandshakeError> {
        let AuthRequest { tls_hash, nonce } = AuthRequest::decode(message)?;
        let seen = self
            .config
            .tls_hashes
            .iter()
            .find(|hashes| hashes.full == tls_hash || hashes.key == tls_hash)
            .ok_or(HandshakeError::BadTlsHash { got: tls_hash })?;
        send.push(Frame::Binary(AuthRequest { tls_hash, nonce: self.nonce }.encode()));
        if !self.fast_path {
            // Agents check it with the full hash, whichever they sent.
            let signed = self.config.signer.sign(&signed_bytes(&seen.full, &nonce, &self.nonce));
            send.push(Frame::Binary(encode_verify(&self.config.certificate_der, &signed)));
        }
        let request = Request { tls_hash, nonce };
        self.request = Some(request);
        match self.early_proof.take() {
            Some(proof) => self.verify(&request, &proof),
            None => Ok(()),
        }
    }

    fn verify(&mut self, request: &Request, message: &[u8]) -> Result<(), HandshakeError> {
        let (certificate, signed) = decode_verify(message)?;
        let key = signature::public_key(certificate)?;
        key.verify(&signed_bytes(&request.tls_hash, &self.nonce, &request.nonce), signed)?;
        self.node_hash = Some(key.hash());
        Ok(())
    }

    /// The only JSON before authentication is the agent's name. MeshAgent does not escape it, so what cannot be
    /// read is ignored rather than held against it.
    fn early_json(&mut self, message: &[u8]) {
        if self.agent_name.is_some() || message.len() > MAX_EARLY_JSON {
            return;
        }
        let Ok(text) = std::str::from_utf8(message) else { return };
        if let Ok(FromAgent::AgentName(name)) = FromAgent::parse(text) {
            debug_assert!(name.value.len() <= MAX_AGENT_NAME);
            self.agent_name = Some(name.value).filter(|name| !name.is_empty());
        }
    }

    fn finish(&mut self) -> Option<VerifiedAgent> {
        let node_hash = self.node_hash?;
        let info = self.info.take()?;
        self.phase = Phase::Verified;
        Some(VerifiedAgent {
            node_hash,
            info,
            agent_name: self.agent_name.take(),
            commit_date: self.commit_date.take(),
            os_description: self.os_description.take(),
            fast_path: self.fast_path,
        })
    }
}

/// Text up to the first NUL; too long or empty is none.
pub(crate) fn short_text(bytes: &[u8], max: usize) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text::line(&text, max).ok().filter(|text| !text.is_empty())
}
