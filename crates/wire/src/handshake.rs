//! How a server and an agent prove themselves to each other: commands 1 to 5, 30 and 31
//! (agent-protocol §4).
//!
//! TLS proves nothing here, since agents accept any certificate. Instead each side signs
//! `tlsHash ‖ peerNonce ‖ ownNonce`, where `tlsHash` is the hash of the TLS certificate that the agent
//! sees, so nobody in between can pass the proofs on. The agent knows the hash of the server's public key
//! from its settings; the server names the agent by the hash of the agent's.
//!
//! Both roles are here as state machines: [`ServerHandshake`] and [`AgentHandshake`].

mod agent;
mod server;
mod signature;
#[cfg(test)]
mod tests;

pub use agent::{AgentHandshake, AgentHandshakeConfig, AgentProgress, AgentState};
pub use server::{ServerHandshake, ServerHandshakeConfig, ServerProgress, TlsHashes, VerifiedAgent};
pub use signature::{MIN_KEY_BITS, RsaSigner, public_key_hash_of_certificate};

use std::ops::{BitOr, BitOrAssign};

use crate::{
    id::{HASH_LEN, Hash384},
    text,
};

/// Longest message that a handshake looks at, in bytes: a certificate of 65,535 and a PKCS#7 signature.
pub const MAX_HANDSHAKE_MESSAGE: usize = 98_304;
/// Messages a peer may send before it is authenticated; an ordinary handshake has eight.
pub const MAX_HANDSHAKE_MESSAGES: u32 = 32;
/// Longest host name, in bytes (the agent's own buffer).
pub const MAX_HOST_NAME: usize = 255;

const CMD_AUTH_REQUEST: u16 = 1;
const CMD_AUTH_VERIFY: u16 = 2;
const CMD_AUTH_INFO: u16 = 3;
const CMD_AUTH_CONFIRM: u16 = 4;
const CMD_SERVER_ID: u16 = 5;
pub(crate) const CMD_COMMIT_DATE: u16 = 30;
pub(crate) const CMD_HOST_INFO: u16 = 31;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer sees another TLS certificate than we do: a proxy or somebody in between.
    #[error("the peer sees another TLS certificate ({})", .got.to_hex())]
    BadTlsHash {
        /// Hash of the certificate that the peer named.
        got: Hash384,
    },
    /// The server is not the one in the agent's settings.
    #[error("the server is another one ({})", .got.to_hex())]
    WrongServer {
        /// Hash of the public key that the server presented.
        got: Hash384,
    },
    /// The signature does not fit the certificate, the nonces and the TLS certificate.
    #[error("the signature is wrong")]
    BadSignature,
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    UndecodableCertificate,
    /// The certificate's key is not RSA, the only kind that MeshAgent and MeshCentral know.
    #[error("the certificate's key is not RSA")]
    NotRsa,
    /// The key is shorter than [`MIN_KEY_BITS`].
    #[error("the RSA key has {bits} bits, at least {MIN_KEY_BITS} are needed")]
    KeyTooSmall {
        /// Its length.
        bits: usize,
    },
    /// A private key cannot be used.
    #[error("the private key cannot be used: {0}")]
    BadPrivateKey(String),
    /// A message is longer than [`MAX_HANDSHAKE_MESSAGE`].
    #[error("a message of {0} bytes before authentication")]
    MessageTooLong(usize),
    /// More than [`MAX_HANDSHAKE_MESSAGES`] messages.
    #[error("more than {MAX_HANDSHAKE_MESSAGES} messages before authentication")]
    TooManyMessages,
    /// A message does not have the layout of its command.
    #[error("command {command} is malformed: {reason}")]
    Malformed {
        /// The command.
        command: u16,
        /// What is wrong.
        reason: &'static str,
    },
    /// The handshake has failed before; nothing more is looked at.
    #[error("the handshake has already failed")]
    Ended,
}

/// What to send, as one unfragmented WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A binary message.
    Binary(Vec<u8>),
    /// A text message.
    Text(String),
}

impl Frame {
    /// The payload.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Binary(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

/// What kind of machine it is; also its first icon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PlatformType {
    /// A desktop computer.
    #[default]
    Desktop = 1,
    /// A laptop.
    Laptop = 2,
    /// A phone or tablet.
    Mobile = 3,
    /// A server.
    Server = 4,
    /// A disk station.
    Disk = 5,
    /// A router.
    Router = 6,
    /// A single-board computer.
    Pi = 7,
    /// A virtual machine.
    Virtual = 8,
}

impl PlatformType {
    /// Its number, 1 to 8.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The type with this number; [`Self::Desktop`] for any outside 1 to 8.
    pub fn from_number(number: u32) -> Self {
        match number {
            2 => Self::Laptop,
            3 => Self::Mobile,
            4 => Self::Server,
            5 => Self::Disk,
            6 => Self::Router,
            7 => Self::Pi,
            8 => Self::Virtual,
            _ => Self::Desktop,
        }
    }
}

/// What an agent can do, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Desktop.
    pub const DESKTOP: Self = Self(0x01);
    /// Terminal.
    pub const TERMINAL: Self = Self(0x02);
    /// Files.
    pub const FILES: Self = Self(0x04);
    /// Console.
    pub const CONSOLE: Self = Self(0x08);
    /// Runs a JavaScript core.
    pub const JAVASCRIPT: Self = Self(0x10);
    /// The device vanishes when it disconnects.
    pub const TEMPORARY: Self = Self(0x20);
    /// A recovery agent, which has no record of its own.
    pub const RECOVERY: Self = Self(0x40);
    /// Takes compressed cores and updates.
    pub const COMPRESSION: Self = Self(0x100);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Command 3: what an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// Architecture number, see [`crate::arch`].
    pub agent_id: u32,
    /// Version of the agent; real ones say 0.
    pub version: u32,
    /// What kind of machine it is.
    pub platform_type: PlatformType,
    /// The device group it was installed for.
    pub group: Hash384,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Host name, at most 255 bytes, without control characters; may be empty.
    pub host_name: String,
}

/// The version of command 3's layout.
const INFO_VERSION: u32 = 1;
/// Bytes of command 3 before the length of the host name.
const INFO_LEN: usize = 70;

impl AgentInfo {
    /// The message. The host name is cut at [`MAX_HOST_NAME`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let name = text::shortened(&self.host_name, MAX_HOST_NAME).as_bytes();
        let mut out = Vec::with_capacity(INFO_LEN + 2 + name.len());
        out.extend(CMD_AUTH_INFO.to_be_bytes());
        out.extend(INFO_VERSION.to_be_bytes());
        out.extend(self.agent_id.to_be_bytes());
        out.extend(self.version.to_be_bytes());
        out.extend(u32::from(self.platform_type.number()).to_be_bytes());
        out.extend(self.group.0);
        out.extend(self.capabilities.0.to_be_bytes());
        out.extend((name.len() as u16).to_be_bytes());
        out.extend(name);
        out
    }

    /// Reads a whole message of command 3. One that ends before the host name has an empty one.
    pub fn decode(message: &[u8]) -> Result<Self, HandshakeError> {
        let malformed = |reason| HandshakeError::Malformed { command: CMD_AUTH_INFO, reason };
        let number =
            |at: usize| message.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let short = malformed("shorter than 70 bytes");
        if message.len() < INFO_LEN || message[..2] != CMD_AUTH_INFO.to_be_bytes() {
            return Err(short);
        }
        let (Some(agent_id), Some(version), Some(platform), Some(capabilities)) =
            (number(6), number(10), number(14), number(66))
        else {
            return Err(short);
        };
        let host_name = match message.get(INFO_LEN..INFO_LEN + 2) {
            None => String::new(),
            Some(len) => {
                let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                if len > MAX_HOST_NAME {
                    return Err(malformed("the host name is longer than 255 bytes"));
                }
                let name = message
                    .get(INFO_LEN + 2..INFO_LEN + 2 + len)
                    .ok_or(malformed("the host name is shorter than announced"))?;
                // Replacement characters are longer than what they replace.
                let name = String::from_utf8_lossy(name);
                text::line(text::shortened(&name, MAX_HOST_NAME), MAX_HOST_NAME).unwrap_or_default()
            }
        };
        Ok(Self {
            agent_id,
            version,
            platform_type: PlatformType::from_number(platform),
            group: Hash384::try_from(&message[18..66]).expect("48 bytes"),
            capabilities: Capabilities(capabilities),
            host_name,
        })
    }

    /// The key of the group's id. Groups of very old servers have 32 bytes, which are padded with zeros
    /// here and written as hexadecimal there.
    pub fn group_key(&self) -> String {
        let (old, padding) = self.group.0.split_at(32);
        if padding.iter().all(|&b| b == 0) {
            crate::id::hex_upper(old).to_ascii_lowercase()
        } else {
            self.group.to_base64x()
        }
    }
}

/// Command 1: `0001 ‖ tlsHash[48] ‖ nonce[48]`.
#[derive(Clone, Copy)]
struct AuthRequest {
    tls_hash: Hash384,
    nonce: Nonce,
}

type Nonce = [u8; HASH_LEN];

impl AuthRequest {
    fn encode(&self) -> Vec<u8> {
        [&CMD_AUTH_REQUEST.to_be_bytes()[..], &self.tls_hash.0, &self.nonce].concat()
    }

    fn decode(message: &[u8]) -> Result<Self, HandshakeError> {
        let body: &[u8; 2 * HASH_LEN] = message
            .get(2..)
            .and_then(|b| b.try_into().ok())
            .ok_or(HandshakeError::Malformed { command: CMD_AUTH_REQUEST, reason: "not 98 bytes" })?;
        let (hash, nonce) = body.split_at(HASH_LEN);
        Ok(Self {
            tls_hash: Hash384::try_from(hash).expect("48 bytes"),
            nonce: nonce.try_into().expect("48 bytes"),
        })
    }
}

/// Command 2: `0002 ‖ certificate length[2] ‖ certificate ‖ signature`.
fn encode_verify(certificate: &[u8], signature: &[u8]) -> Vec<u8> {
    let len = u16::try_from(certificate.len()).expect("certificates are checked when a handshake is made");
    [&CMD_AUTH_VERIFY.to_be_bytes()[..], &len.to_be_bytes(), certificate, signature].concat()
}

fn decode_verify(message: &[u8]) -> Result<(&[u8], &[u8]), HandshakeError> {
    let malformed = |reason| HandshakeError::Malformed { command: CMD_AUTH_VERIFY, reason };
    let (len, rest) =
        message.get(2..).and_then(|b| b.split_first_chunk::<2>()).ok_or(malformed("shorter than 4 bytes"))?;
    let (certificate, signature) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(malformed("the certificate is shorter than announced"))?;
    if signature.is_empty() {
        return Err(malformed("no signature"));
    }
    Ok((certificate, signature))
}

/// What is signed: `tlsHash ‖ nonce of the other side ‖ own nonce`.
fn signed_bytes(tls_hash: &Hash384, peer_nonce: &Nonce, own_nonce: &Nonce) -> [u8; 3 * HASH_LEN] {
    let mut out = [0; 3 * HASH_LEN];
    out[..HASH_LEN].copy_from_slice(&tls_hash.0);
    out[HASH_LEN..2 * HASH_LEN].copy_from_slice(peer_nonce);
    out[2 * HASH_LEN..].copy_from_slice(own_nonce);
    out
}

/// The command number, if the message has one. JSON has none: its first byte is `{`.
fn command_of(message: &[u8]) -> Option<u16> {
    match message {
        [b'{', ..] => None,
        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}
