//! What several fuzz targets need: splitting the input into pieces, and the parties of the handshake.

use std::sync::Arc;

use outpost_wire::{
    handshake::{
        AgentHandshakeConfig, AgentInfo, Capabilities, PlatformType, RsaSigner, ServerHandshakeConfig,
        TlsHashes,
    },
    id::Hash384,
    text::is_prose,
};
use serde_json::Value;

/// Splits the input into messages: a big-endian length of two bytes before each. A length that is too great
/// means the rest.
pub fn messages(mut data: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        out.push(message);
        data = rest;
    }
    out
}

/// Fails if any text or key inside has control characters.
pub fn assert_clean(value: &Value) {
    match value {
        Value::String(text) => assert!(is_prose(text), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_clean),
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            assert!(is_prose(key), "{key:?}");
            assert_clean(value);
        }),
        _ => {}
    }
}

/// Values of the captured handshake (agent-protocol §4.6).
pub mod captured {
    /// Hash of the TLS certificate.
    pub const TLS_HASH: &str =
        "91554ddd91664884062a80f0b7bcf0072c203572e49defc03e6b73fca911f451bcdb6098c81273f8a4bdf18ee1658571";
    /// The agent's nonce.
    pub const AGENT_NONCE: &str =
        "2f0ff8a1456cff742d6ddde4fd34f12bbcb5e5ebdf4338e3b58c84ea2c92eaaf432d668c48bf17d62e2cafff931dde84";
    /// The server's nonce.
    pub const SERVER_NONCE: &str =
        "cd60a43498132cbb2a0c103280e7d3ab4e6fc747aaeb5b7dd4842c857671123e7a8115770754e62207c4178235e2ed2b";
    /// Hash of the server's key.
    pub const SERVER_ID: &str =
        "5321F4BD63BAE0757944011A31EB8655523A479DB403011F6F5BD0CE314F074F8B9580BCE929D8DE27427D88391C3A9F";
    /// Hash of the agent's key.
    pub const NODE_HASH: &str =
        "59325c9ebe94d5c4fad095020f634c42abc487cd6fd9e9d6adc2e2997efed83599c749421717d0d9ad34a0d2634b82ac";
}

/// A hash that is written in this file or a target.
pub fn hash(hex: &str) -> Hash384 {
    Hash384::from_hex(hex).expect("96 hexadecimal digits")
}

/// A server with a throw-away key.
pub fn server() -> ServerHandshakeConfig {
    let key = include_bytes!("../../crates/wire/tests/data/server.key.pkcs8.der");
    ServerHandshakeConfig {
        signer: Arc::new(RsaSigner::from_pkcs8(key).expect("a key")),
        certificate_der: Arc::from(&include_bytes!("../../crates/wire/tests/data/server.cert.der")[..]),
        tls_hashes: vec![TlsHashes { full: hash(captured::TLS_HASH), key: Hash384::of(b"key") }],
    }
}

/// An agent with a throw-away key.
pub fn agent() -> AgentHandshakeConfig {
    let key = include_bytes!("../../crates/wire/tests/data/agent.key.pkcs8.der");
    AgentHandshakeConfig {
        signer: Arc::new(RsaSigner::from_pkcs8(key).expect("a key")),
        certificate_der: include_bytes!("../../crates/wire/tests/data/agent.cert.der").to_vec(),
        server_id: server().signer.public_key_hash(),
        tls_hash: hash(captured::TLS_HASH),
        trusted_tls_hash: None,
        info: AgentInfo {
            agent_id: 6,
            version: 0,
            platform_type: PlatformType::Server,
            group: Hash384::of(b"group"),
            capabilities: Capabilities::TERMINAL,
            host_name: "host".into(),
        },
        agent_name: Some("name".into()),
        commit_date: "2026-Nov-23".into(),
        os_description: "Linux".into(),
    }
}
