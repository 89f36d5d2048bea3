//! Binary commands on an authenticated control channel, ids 10 and up (agent-protocol §5).
//!
//! `command[2] ‖ request id[2] ‖ payload`, big-endian; commands 15, 30 and 31 have no request id. A message
//! whose first byte is `{` is JSON instead.

use crate::{
    handshake::{CMD_COMMIT_DATE, CMD_HOST_INFO},
    id::{HASH_LEN, Hash384},
    message::MAX_AGENT_MESSAGE,
    text,
};

const CMD_CONFIRM: u16 = 4;
const CMD_CORE: u16 = 10;
const CMD_CORE_HASH: u16 = 11;
const CMD_AGENT_HASH: u16 = 12;
const CMD_UPDATE: u16 = 13;
const CMD_UPDATE_BLOCK: u16 = 14;
const CMD_TAG: u16 = 15;
const CMD_CORE_OK: u16 = 16;
const CMD_COMPRESSED_CORE: u16 = 20;

/// Longest tag, in bytes.
pub const MAX_TAG: usize = 4096;
/// Longest block of an update, in bytes: with its header just below 65,536.
pub const MAX_UPDATE_BLOCK: usize = 65_531;
/// Longest core, in bytes. MeshCentral's has about 600,000.
pub const MAX_CORE: usize = 8 << 20;
/// What every core begins with, before its JavaScript.
pub const CORE_PREFIX: [u8; 4] = [0; 4];
/// The request id that update blocks and their acknowledgements carry.
const UPDATE_REQUEST: u16 = 1;

/// Why a message is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Shorter than a command number.
    #[error("a message of {0} bytes has no command")]
    Empty(usize),
    /// The layout is not the command's.
    #[error("command {command}: {reason}")]
    Malformed {
        /// The command.
        command: u16,
        /// What is wrong.
        reason: &'static str,
    },
    /// JSON that is too long or not UTF-8.
    #[error("JSON of {len} bytes: {reason}")]
    BadJson {
        /// Its length.
        len: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What an agent sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentCommand<'a> {
    /// 11: the core it has; [`Hash384::ZERO`] for one of its own that is not to be replaced.
    CoreHash(Option<Hash384>),
    /// 12: the hash of its executable; zeros mean that it never updates, ones that it must.
    AgentHash(Hash384),
    /// 14: it has stored a block of an update.
    UpdateAck,
    /// 15: its tag, at most [`MAX_TAG`] bytes; empty clears it.
    Tag(&'a [u8]),
    /// 30: when its sources were committed.
    CommitDate(String),
    /// 31: its operating system.
    HostInfo(String),
    /// A JSON text of at most [`MAX_AGENT_MESSAGE`] bytes, for [`crate::message::FromAgent::parse`].
    Json(&'a str),
    /// Any other command, to be ignored.
    Other(u16),
}

impl<'a> AgentCommand<'a> {
    /// Reads a whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, CommandError> {
        if message.first() == Some(&b'{') {
            let len = message.len();
            if len > MAX_AGENT_MESSAGE {
                return Err(CommandError::BadJson { len, reason: "too long" });
            }
            let text = std::str::from_utf8(message);
            return text.map(Self::Json).map_err(|_| CommandError::BadJson { len, reason: "not UTF-8" });
        }
        let (command, rest) = head(message)?;
        let malformed = |reason| CommandError::Malformed { command, reason };
        Ok(match command {
            CMD_CORE_HASH => Self::CoreHash(match payload(command, rest)? {
                [] => None,
                hash => Some(exact_hash(command, hash)?),
            }),
            CMD_AGENT_HASH => Self::AgentHash(exact_hash(command, payload(command, rest)?)?),
            CMD_UPDATE_BLOCK => match payload(command, rest)? {
                [] => Self::UpdateAck,
                _ => return Err(malformed("an acknowledgement has no payload")),
            },
            CMD_TAG => {
                let end = rest.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
                if end > MAX_TAG {
                    return Err(malformed("the tag is longer than 4096 bytes"));
                }
                Self::Tag(&rest[..end])
            }
            CMD_COMMIT_DATE => Self::CommitDate(short_text(command, rest, 64)?),
            CMD_HOST_INFO => Self::HostInfo(short_text(command, rest, 1024)?),
            other => Self::Other(other),
        })
    }

    /// The message; JSON goes as a TEXT frame, everything else as BINARY.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::CoreHash(None) => message(CMD_CORE_HASH, 0, &[]),
            Self::CoreHash(Some(hash)) => message(CMD_CORE_HASH, 0, &[&hash.0]),
            Self::AgentHash(hash) => message(CMD_AGENT_HASH, 0, &[&hash.0]),
            Self::UpdateAck => message(CMD_UPDATE_BLOCK, UPDATE_REQUEST, &[]),
            Self::Tag(tag) => [&CMD_TAG.to_be_bytes()[..], tag].concat(),
            Self::CommitDate(date) => [&CMD_COMMIT_DATE.to_be_bytes()[..], date.as_bytes(), &[0]].concat(),
            Self::HostInfo(info) => [&CMD_HOST_INFO.to_be_bytes()[..], info.as_bytes()].concat(),
            Self::Json(text) => text.as_bytes().to_vec(),
            Self::Other(command) => message(*command, 0, &[]),
        }
    }
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCommand {
    /// 4: the agent is authenticated.
    Confirm,
    /// 10 without payload: forget the core.
    ClearCore,
    /// 10: run this core.
    InstallCore {
        /// [`Hash384::of`] the core.
        hash: Hash384,
        /// [`CORE_PREFIX`] and the JavaScript.
        core: Vec<u8>,
    },
    /// 20: run this core; for agents with [`crate::handshake::Capabilities::COMPRESSION`].
    CompressedCore {
        /// Hash of the core before it was compressed.
        hash: Hash384,
        /// The core as raw DEFLATE.
        deflated: Vec<u8>,
    },
    /// 11: which core have you?
    AskCoreHash,
    /// 12: which executable are you?
    AskAgentHash,
    /// 13 without payload: an update begins.
    UpdateStart,
    /// 13: the update is complete.
    UpdateEnd(Hash384),
    /// 14: the next part of an update, 1 to [`MAX_UPDATE_BLOCK`] bytes.
    UpdateBlock(Vec<u8>),
    /// 16: your core is the right one.
    CoreOk,
}

impl ServerCommand {
    /// The message, to be sent as one unfragmented BINARY frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Confirm => CMD_CONFIRM.to_be_bytes().to_vec(),
            Self::ClearCore => message(CMD_CORE, 0, &[]),
            Self::InstallCore { hash, core } => message(CMD_CORE, 0, &[&hash.0, core]),
            Self::CompressedCore { hash, deflated } => message(CMD_COMPRESSED_CORE, 0, &[&hash.0, deflated]),
            Self::AskCoreHash => message(CMD_CORE_HASH, 0, &[]),
            Self::AskAgentHash => message(CMD_AGENT_HASH, 0, &[]),
            Self::UpdateStart => message(CMD_UPDATE, 0, &[]),
            Self::UpdateEnd(hash) => message(CMD_UPDATE, 0, &[&hash.0]),
            Self::UpdateBlock(block) => message(CMD_UPDATE_BLOCK, UPDATE_REQUEST, &[block]),
            Self::CoreOk => message(CMD_CORE_OK, 0, &[]),
        }
    }

    /// Reads a whole message that is not JSON.
    pub fn decode(message: &[u8]) -> Result<Self, CommandError> {
        let (command, rest) = head(message)?;
        if command == CMD_CONFIRM {
            return Ok(Self::Confirm);
        }
        let payload = payload(command, rest)?;
        let malformed = |reason| CommandError::Malformed { command, reason };
        let hash_and_core = || -> Result<(Hash384, Vec<u8>), CommandError> {
            let (hash, core) = payload.split_at_checked(HASH_LEN).ok_or(malformed("no hash"))?;
            if core.len() > MAX_CORE {
                return Err(malformed("the core is longer than 8 MiB"));
            }
            Ok((exact_hash(command, hash)?, core.to_vec()))
        };
        Ok(match command {
            CMD_CORE if payload.is_empty() => Self::ClearCore,
            CMD_CORE => {
                let (hash, core) = hash_and_core()?;
                Self::InstallCore { hash, core }
            }
            CMD_COMPRESSED_CORE => {
                let (hash, deflated) = hash_and_core()?;
                Self::CompressedCore { hash, deflated }
            }
            CMD_CORE_HASH => Self::AskCoreHash,
            CMD_AGENT_HASH => Self::AskAgentHash,
            CMD_UPDATE if payload.is_empty() => Self::UpdateStart,
            CMD_UPDATE => Self::UpdateEnd(exact_hash(command, payload)?),
            CMD_UPDATE_BLOCK if payload.is_empty() => return Err(malformed("an empty block")),
            CMD_UPDATE_BLOCK if payload.len() > MAX_UPDATE_BLOCK => {
                return Err(malformed("the block is longer than 65531 bytes"));
            }
            CMD_UPDATE_BLOCK => Self::UpdateBlock(payload.to_vec()),
            CMD_CORE_OK => Self::CoreOk,
            _ => return Err(malformed("not a command that a server sends")),
        })
    }
}

fn head(message: &[u8]) -> Result<(u16, &[u8]), CommandError> {
    let (command, rest) = message.split_first_chunk::<2>().ok_or(CommandError::Empty(message.len()))?;
    Ok((u16::from_be_bytes(*command), rest))
}

/// What follows the request id, which nobody needs: no two requests of a kind are under way together.
fn payload(command: u16, rest: &[u8]) -> Result<&[u8], CommandError> {
    rest.get(2..).ok_or(CommandError::Malformed { command, reason: "no request id" })
}

fn exact_hash(command: u16, bytes: &[u8]) -> Result<Hash384, CommandError> {
    Hash384::try_from(bytes)
        .map_err(|_| CommandError::Malformed { command, reason: "not a hash of 48 bytes" })
}

fn short_text(command: u16, bytes: &[u8], max: usize) -> Result<String, CommandError> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text::line(&text, max).map_err(|_| CommandError::Malformed { command, reason: "the text is too long" })
}

fn message(command: u16, request: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + parts.iter().map(|p| p.len()).sum::<usize>());
    out.extend(command.to_be_bytes());
    out.extend(request.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_reads_as_it_was_meant() {
        // agent-protocol §4.6.
        assert_eq!(ServerCommand::decode(&[0, 4]).unwrap(), ServerCommand::Confirm);
        assert_eq!(ServerCommand::AskAgentHash.encode(), [0, 0x0c, 0, 0]);
        assert_eq!(ServerCommand::AskCoreHash.encode(), [0, 0x0b, 0, 0]);
        assert_eq!(ServerCommand::CoreOk.encode(), [0, 0x10, 0, 0]);
        assert_eq!(AgentCommand::decode(&[0, 0x0f]).unwrap(), AgentCommand::Tag(b""));
        assert_eq!(AgentCommand::decode(&[0, 0x0b, 0, 0]).unwrap(), AgentCommand::CoreHash(None));
        let zeros = [&[0, 0x0c, 0, 0][..], &[0; 48]].concat();
        assert_eq!(AgentCommand::decode(&zeros).unwrap(), AgentCommand::AgentHash(Hash384::ZERO));
        let date = b"\0\x1e2022-Nov-2 23:01:45-0700\0";
        assert_eq!(
            AgentCommand::decode(date).unwrap(),
            AgentCommand::CommitDate("2022-Nov-2 23:01:45-0700".into())
        );
        assert_eq!(AgentCommand::decode(date).unwrap().encode(), date);
        assert_eq!(AgentCommand::decode(b"{\"a\":1}").unwrap(), AgentCommand::Json("{\"a\":1}"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let hash = Hash384::of(b"core");
        let from_server = [
            ServerCommand::Confirm,
            ServerCommand::ClearCore,
            ServerCommand::InstallCore { hash, core: b"\0\0\0\0var a;".to_vec() },
            ServerCommand::CompressedCore { hash, deflated: vec![1, 2, 3] },
            ServerCommand::AskCoreHash,
            ServerCommand::AskAgentHash,
            ServerCommand::UpdateStart,
            ServerCommand::UpdateEnd(hash),
            ServerCommand::UpdateBlock(vec![7; MAX_UPDATE_BLOCK]),
            ServerCommand::CoreOk,
        ];
        for command in from_server {
            assert_eq!(ServerCommand::decode(&command.encode()).unwrap(), command);
        }
        assert_eq!(ServerCommand::UpdateBlock(vec![9]).encode(), [0, 14, 0, 1, 9]);
        let from_agent = [
            AgentCommand::CoreHash(None),
            AgentCommand::CoreHash(Some(hash)),
            AgentCommand::AgentHash(hash),
            AgentCommand::UpdateAck,
            AgentCommand::Tag(b"a tag"),
            AgentCommand::HostInfo("Debian - x64".into()),
            AgentCommand::Json("{}"),
            AgentCommand::Other(1000),
        ];
        for command in from_agent {
            assert_eq!(AgentCommand::decode(&command.encode()).unwrap(), command);
        }
    }

    #[test]
    fn limits_and_layouts() {
        assert_eq!(AgentCommand::decode(b"").unwrap_err(), CommandError::Empty(0));
        assert_eq!(AgentCommand::decode(&[0, 15, b'a', 0, b'b', 0, 0]).unwrap(), AgentCommand::Tag(b"a\0b"));
        for bad in [
            &[0, 11, 0][..],
            &[0, 11, 0, 0, 1],
            &[0, 12, 0, 0],
            &[0, 14, 0, 1, 1],
            &[&[0, 15][..], &[b'x'; MAX_TAG + 1]].concat(),
            &[&[0, 31][..], &[b'x'; 1025]].concat(),
            b"{\xff}",
            &[b'{'; MAX_AGENT_MESSAGE + 1],
        ] {
            assert!(AgentCommand::decode(bad).is_err());
        }
        for bad in [
            &[0, 10, 0, 0, 1][..],
            &[0, 13, 0, 0, 1],
            &[0, 14, 0, 1],
            &[&[0, 14, 0, 1][..], &vec![0; MAX_UPDATE_BLOCK + 1]].concat(),
            &[0, 99, 0, 0],
            &[0, 16],
        ] {
            assert!(ServerCommand::decode(bad).is_err());
        }
    }
}
