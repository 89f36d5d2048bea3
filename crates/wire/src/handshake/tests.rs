//! Both roles against the captured handshake of agent-protocol §4.6, and against each other.

use std::sync::Arc;

use super::*;

const TLS_HASH: &str =
    "91554ddd91664884062a80f0b7bcf0072c203572e49defc03e6b73fca911f451bcdb6098c81273f8a4bdf18ee1658571";
const AGENT_NONCE: &str =
    "2f0ff8a1456cff742d6ddde4fd34f12bbcb5e5ebdf4338e3b58c84ea2c92eaaf432d668c48bf17d62e2cafff931dde84";
const SERVER_NONCE: &str =
    "cd60a43498132cbb2a0c103280e7d3ab4e6fc747aaeb5b7dd4842c857671123e7a8115770754e62207c4178235e2ed2b";
const SERVER_ID: &str =
    "5321F4BD63BAE0757944011A31EB8655523A479DB403011F6F5BD0CE314F074F8B9580BCE929D8DE27427D88391C3A9F";
const NODE_HASH: &str =
    "59325c9ebe94d5c4fad095020f634c42abc487cd6fd9e9d6adc2e2997efed83599c749421717d0d9ad34a0d2634b82ac";
const COMMIT_DATE: &str = "001e323032322d4e6f762d322032333a30313a34352d3037303000";
const HOST_INFO: &str = "001f44656269616e20474e552f4c696e75782031322028626f6f6b776f726d29202d20783634";
const INFO: &str = "0003000000010000000600000000000000012aa4a98359d747caee848e7b19763383d0843a630413ce0fbf027409617453d6c450547e81c24ad33e2db03af65bb62b000001380002766d";
const AGENT_CERT: &[u8] = include_bytes!("../../tests/data/captured.agent.cert.der");
const AGENT_SIGNATURE: &[u8] = include_bytes!("../../tests/data/captured.agent.signature");
const SERVER_CERT: &[u8] = include_bytes!("../../tests/data/captured.server.cert.der");
const SERVER_SIGNATURE: &[u8] = include_bytes!("../../tests/data/captured.server.signature");

fn hash(hex: &str) -> Hash384 {
    Hash384::from_hex(hex).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let mut out = vec![0; hex.len() / 2];
    crate::id::hex_decode(hex, &mut out).unwrap();
    out
}

fn agent_signer() -> Arc<RsaSigner> {
    Arc::new(RsaSigner::from_pkcs8(include_bytes!("../../tests/data/agent.key.pkcs8.der")).unwrap())
}

fn server_signer() -> Arc<RsaSigner> {
    Arc::new(RsaSigner::from_pkcs8(include_bytes!("../../tests/data/server.key.pkcs8.der")).unwrap())
}

fn agent_config() -> AgentHandshakeConfig {
    AgentHandshakeConfig {
        signer: agent_signer(),
        certificate_der: include_bytes!("../../tests/data/agent.cert.der").to_vec(),
        server_id: server_signer().public_key_hash(),
        tls_hash: hash(TLS_HASH),
        trusted_tls_hash: None,
        info: AgentInfo {
            agent_id: 6,
            version: 0,
            platform_type: PlatformType::Server,
            group: Hash384::of(b"group"),
            capabilities: Capabilities::TERMINAL | Capabilities::CONSOLE,
            host_name: "höst".into(),
        },
        agent_name: Some("till \"3\"".into()),
        commit_date: "2026-Nov-23".into(),
        os_description: "Debian GNU/Linux 13 - x64".into(),
    }
}

fn server_config() -> ServerHandshakeConfig {
    ServerHandshakeConfig {
        signer: server_signer(),
        certificate_der: Arc::from(&include_bytes!("../../tests/data/server.cert.der")[..]),
        tls_hashes: vec![
            TlsHashes { full: Hash384::of(b"other"), key: Hash384::of(b"other key") },
            TlsHashes { full: hash(TLS_HASH), key: Hash384::of(b"key") },
        ],
    }
}

fn binary(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Binary(bytes) => bytes,
        Frame::Text(text) => panic!("a text frame: {text}"),
    }
}

fn commands(frames: &[Frame]) -> Vec<Option<u16>> {
    frames.iter().map(|frame| command_of(frame.as_bytes())).collect()
}

/// The agent's frames of an ordinary first contact, taken from a run against a real server: everything up to
/// command 1, then the proof and the introduction.
fn agent_frames(server: &mut ServerHandshake) -> (Vec<Frame>, Vec<Frame>) {
    let mut agent = AgentHandshake::new(agent_config());
    let start = agent.start();
    let mut later = Vec::new();
    for frame in &start {
        for answer in server.receive(frame.as_bytes()).unwrap().send {
            later.extend(agent.receive(answer.as_bytes()).unwrap().send);
        }
    }
    (start, later)
}

#[test]
fn the_captured_handshake_passes_our_server() {
    let config = ServerHandshakeConfig {
        tls_hashes: vec![TlsHashes { full: hash(TLS_HASH), key: Hash384::ZERO }],
        ..server_config()
    };
    let mut server = ServerHandshake::with_nonce(config, hash(SERVER_NONCE).0);
    for early in [bytes(COMMIT_DATE), bytes(HOST_INFO), bytes(&format!("0005{SERVER_ID}"))] {
        assert_eq!(server.receive(&early).unwrap(), ServerProgress::default());
    }
    assert_eq!(server.expected_server(), Some(hash(SERVER_ID)));
    let progress = server.receive(&bytes(&format!("0001{TLS_HASH}{AGENT_NONCE}"))).unwrap();
    assert_eq!(binary(&progress.send[0]), bytes(&format!("0001{TLS_HASH}{SERVER_NONCE}")));
    assert_eq!(commands(&progress.send), [Some(1), Some(2)]);

    let proof = encode_verify(AGENT_CERT, AGENT_SIGNATURE);
    assert_eq!((proof.len(), &proof[..4]), (1418, &[0, 2, 4, 6][..]));
    assert_eq!(server.receive(&proof).unwrap().verified, None);
    let agent = server.receive(&bytes(INFO)).unwrap().verified.unwrap();
    assert_eq!(agent.node_hash, hash(NODE_HASH));
    assert_eq!(
        agent.node_hash.to_base64x(),
        "WTJcnr6U1cT60JUCD2NMQqvEh81v2enWrcLimX7@2DWZx0lCFxfQ2a00oNJjS4Ks"
    );
    assert_eq!(agent.commit_date.as_deref(), Some("2022-Nov-2 23:01:45-0700"));
    assert_eq!(agent.os_description.as_deref(), Some("Debian GNU/Linux 12 (bookworm) - x64"));
    assert_eq!(agent.info.host_name, "vm");
    assert_eq!(agent.info.agent_id, 6);
    assert_eq!(agent.info.platform_type, PlatformType::Desktop);
    assert_eq!(agent.info.capabilities, Capabilities(0x138));
    assert!(agent.info.capabilities.contains(Capabilities::TEMPORARY | Capabilities::COMPRESSION));
    assert_eq!(agent.info.group_key(), "KqSpg1nXR8ruhI57GXYzg9CEOmMEE84PvwJ0CWF0U9bEUFR@gcJK0z4tsDr2W7Yr");
    assert_eq!(agent.info.encode(), bytes(INFO));
    assert_eq!(server.confirm(), Frame::Binary(vec![0, 4]));
}

#[test]
fn the_captured_server_passes_our_agent() {
    let config = AgentHandshakeConfig { server_id: hash(SERVER_ID), agent_name: None, ..agent_config() };
    let mut agent = AgentHandshake::with_nonce(config, hash(AGENT_NONCE).0);
    let start = agent.start();
    assert_eq!(commands(&start), [Some(30), Some(31), Some(5), Some(1)]);
    assert_eq!(binary(&start[3]), bytes(&format!("0001{TLS_HASH}{AGENT_NONCE}")));
    let progress = agent.receive(&bytes(&format!("0001{TLS_HASH}{SERVER_NONCE}"))).unwrap();
    assert_eq!((commands(&progress.send), progress.state), (vec![Some(2)], AgentState::Waiting));
    let proof = encode_verify(SERVER_CERT, SERVER_SIGNATURE);
    assert_eq!((proof.len(), &proof[..4]), (1464, &[0, 2, 4, 0x34][..]));
    let progress = agent.receive(&proof).unwrap();
    assert_eq!((commands(&progress.send), progress.state), (vec![Some(3)], AgentState::ServerVerified));
    let progress = agent.receive(&[0, 4]).unwrap();
    assert_eq!(progress.state, AgentState::Authenticated { fast_path: false });
    assert_eq!(public_key_hash_of_certificate(SERVER_CERT).unwrap(), hash(SERVER_ID));
    assert_eq!(public_key_hash_of_certificate(AGENT_CERT).unwrap(), hash(NODE_HASH));
}

/// Runs both sides until nothing is left to send; returns what each ended with.
fn run(agent: &mut AgentHandshake, server: &mut ServerHandshake) -> (Vec<AgentState>, Option<VerifiedAgent>) {
    let mut to_server = agent.start();
    let mut states = Vec::new();
    let mut verified = None;
    while !to_server.is_empty() {
        let mut to_agent = Vec::new();
        for frame in to_server.drain(..) {
            let progress = server.receive(frame.as_bytes()).unwrap();
            to_agent.extend(progress.send);
            if progress.verified.is_some() {
                assert_eq!(verified, None, "an agent is reported once");
                verified = progress.verified;
                to_agent.push(server.confirm());
            }
        }
        for frame in to_agent {
            let progress = agent.receive(frame.as_bytes()).unwrap();
            states.push(progress.state);
            to_server.extend(progress.send);
        }
    }
    (states, verified)
}

#[test]
fn first_contact() {
    let (mut agent, mut server) =
        (AgentHandshake::new(agent_config()), ServerHandshake::new(server_config()));
    let (states, verified) = run(&mut agent, &mut server);
    use AgentState::{Authenticated, ServerVerified, Waiting};
    assert_eq!(states, [Waiting, ServerVerified, Authenticated { fast_path: false }]);
    let verified = verified.unwrap();
    assert_eq!(verified.node_hash, agent_signer().public_key_hash());
    assert_eq!(verified.info, agent_config().info);
    assert_eq!(verified.agent_name.as_deref(), Some("till \"3\""));
    assert_eq!(verified.commit_date.as_deref(), Some("2026-Nov-23"));
    assert!(!verified.fast_path);
    // Afterwards nothing of it counts any more.
    assert_eq!(server.receive(&[0, 1]).unwrap(), ServerProgress::default());
    assert_eq!(agent.receive(&[0, 1]).unwrap().state, Authenticated { fast_path: false });
}

#[test]
fn a_known_tls_certificate_spares_the_server_its_signature() {
    let config = AgentHandshakeConfig { trusted_tls_hash: Some(hash(TLS_HASH)), ..agent_config() };
    let mut agent = AgentHandshake::new(config);
    let start = agent.start();
    assert_eq!(commands(&start), [Some(30), Some(31), Some(5), Some(4), Some(1), None, Some(3)]);
    let mut server = ServerHandshake::new(server_config());
    let mut answers = Vec::new();
    for frame in start {
        answers.extend(server.receive(frame.as_bytes()).unwrap().send);
    }
    assert_eq!(commands(&answers), [Some(1)], "no command 2");
    let proof = agent.receive(answers[0].as_bytes()).unwrap();
    assert_eq!(commands(&proof.send), [Some(2)]);
    let verified = server.receive(proof.send[0].as_bytes()).unwrap().verified.unwrap();
    assert!(verified.fast_path);
    assert_eq!(agent.receive(&[0, 4]).unwrap().state, AgentState::Authenticated { fast_path: true });
}

#[test]
fn another_tls_certificate_than_the_known_one_means_the_long_way() {
    let config = AgentHandshakeConfig { trusted_tls_hash: Some(Hash384::of(b"old")), ..agent_config() };
    let (states, verified) =
        run(&mut AgentHandshake::new(config), &mut ServerHandshake::new(server_config()));
    assert_eq!(states.last(), Some(&AgentState::Authenticated { fast_path: false }));
    assert!(!verified.unwrap().fast_path);
}

#[test]
fn command_4_after_command_1_does_not_authenticate_anybody() {
    let mut server = ServerHandshake::new(server_config());
    let (_, later) = agent_frames(&mut server);
    let mut other = ServerHandshake::new(server_config());
    let start = AgentHandshake::new(agent_config()).start();
    assert_eq!(commands(&other.receive(start[3].as_bytes()).unwrap().send), [Some(1), Some(2)]);
    assert_eq!(other.receive(&[0, 4]).unwrap(), ServerProgress::default());
    assert_eq!(other.receive(later[2].as_bytes()).unwrap().verified, None, "information without a proof");
    // And an agent that has not verified its server does not believe command 4.
    let mut agent = AgentHandshake::new(agent_config());
    agent.start();
    assert_eq!(agent.receive(&[0, 4]).unwrap().state, AgentState::Waiting);
}

#[test]
fn an_agent_believes_no_confirmation_from_a_server_it_does_not_know() {
    let request = AuthRequest { tls_hash: hash(TLS_HASH), nonce: [3; 48] }.encode();
    // The nonces are exchanged and the agent has proved itself, but the server has not.
    let mut agent = AgentHandshake::new(agent_config());
    agent.start();
    assert_eq!(commands(&agent.receive(&request).unwrap().send), [Some(2)]);
    let progress = agent.receive(&[0, 4]).unwrap();
    assert_eq!((progress.state, progress.send), (AgentState::Waiting, vec![]));

    // A server known by its TLS certificate cannot have seen our proof before it sent its nonce.
    let config = AgentHandshakeConfig { trusted_tls_hash: Some(hash(TLS_HASH)), ..agent_config() };
    let mut agent = AgentHandshake::new(config);
    agent.start();
    assert_eq!(agent.receive(&[0, 4]).unwrap().state, AgentState::Waiting);
    let progress = agent.receive(&request).unwrap();
    assert_eq!(commands(&progress.send), [Some(2)], "the proof is sent even so");
}

#[test]
fn proof_and_information_may_come_in_any_order() {
    // Which of the agent's frames come when, by index: 0 is command 1, 1 command 2, 2 command 3.
    let nonces = (hash(AGENT_NONCE).0, hash(SERVER_NONCE).0);
    let request = AuthRequest { tls_hash: hash(TLS_HASH), nonce: nonces.0 }.encode();
    let signed = agent_signer().sign(&signed_bytes(&hash(TLS_HASH), &nonces.1, &nonces.0));
    let proof = encode_verify(&agent_config().certificate_der, &signed);
    let info = agent_config().info.encode();
    let frames = [request, proof, info];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut server = ServerHandshake::with_nonce(server_config(), nonces.1);
        let mut found = None;
        for (at, index) in order.into_iter().enumerate() {
            let verified = server.receive(&frames[index]).unwrap().verified;
            assert_eq!(verified.is_some(), at == 2, "{order:?}");
            found = verified;
        }
        assert_eq!(found.unwrap().node_hash, agent_signer().public_key_hash());
    }
    // The same on the agent's side.
    let mut agent = AgentHandshake::with_nonce(agent_config(), nonces.0);
    agent.start();
    let signed = server_signer().sign(&signed_bytes(&hash(TLS_HASH), &nonces.0, &nonces.1));
    let early = agent.receive(&encode_verify(&server_config().certificate_der, &signed)).unwrap();
    assert_eq!(early.state, AgentState::Waiting);
    let progress =
        agent.receive(&AuthRequest { tls_hash: hash(TLS_HASH), nonce: nonces.1 }.encode()).unwrap();
    assert_eq!(progress.state, AgentState::ServerVerified);
    assert_eq!(commands(&progress.send), [Some(2), None, Some(3)]);
}

#[test]
fn repeated_commands_are_ignored() {
    let mut server = ServerHandshake::new(server_config());
    let (start, later) = agent_frames(&mut server);
    let request = start[3].as_bytes();
    assert_eq!(server.receive(request).unwrap(), ServerProgress::default(), "not answered twice");
    assert_eq!(server.receive(later[0].as_bytes()).unwrap().verified, None);
    assert_eq!(server.receive(later[0].as_bytes()).unwrap().verified, None);
    // A second proof is not even looked at.
    assert!(server.receive(&encode_verify(b"x", b"x")).is_ok());
    assert!(server.receive(later[2].as_bytes()).unwrap().verified.is_some());
    assert_eq!(server.receive(later[2].as_bytes()).unwrap().verified, None);
}

#[test]
fn the_wrong_server_is_refused() {
    let mut server = ServerHandshake::new(server_config());
    let config = AgentHandshakeConfig { server_id: Hash384::of(b"another"), ..agent_config() };
    let mut agent = AgentHandshake::new(config);
    let start = agent.start();
    let answers = server.receive(start[3].as_bytes()).unwrap().send;
    agent.receive(answers[0].as_bytes()).unwrap();
    assert_eq!(
        agent.receive(answers[1].as_bytes()),
        Err(HandshakeError::WrongServer { got: server_signer().public_key_hash() })
    );
    assert_eq!(agent.receive(&[0, 4]), Err(HandshakeError::Ended));
}

#[test]
fn a_certificate_in_between_is_noticed_by_both() {
    let other = Hash384::of(b"in between");
    let config = AgentHandshakeConfig { tls_hash: other, ..agent_config() };
    let mut server = ServerHandshake::new(server_config());
    let start = AgentHandshake::new(config).start();
    assert_eq!(server.receive(start[3].as_bytes()), Err(HandshakeError::BadTlsHash { got: other }));
    assert_eq!(server.receive(start[3].as_bytes()), Err(HandshakeError::Ended));
    let mut agent = AgentHandshake::new(agent_config());
    agent.start();
    let forged = AuthRequest { tls_hash: other, nonce: [1; 48] }.encode();
    assert_eq!(agent.receive(&forged), Err(HandshakeError::BadTlsHash { got: other }));
}

#[test]
fn the_key_hash_is_accepted_and_the_full_hash_signed() {
    let nonces = (hash(AGENT_NONCE).0, hash(SERVER_NONCE).0);
    let key_hash = Hash384::of(b"key");
    let mut server = ServerHandshake::with_nonce(server_config(), nonces.1);
    let answers = server.receive(&AuthRequest { tls_hash: key_hash, nonce: nonces.0 }.encode()).unwrap().send;
    assert_eq!(AuthRequest::decode(answers[0].as_bytes()).unwrap().tls_hash, key_hash);
    let (certificate, signed) = decode_verify(answers[1].as_bytes()).unwrap();
    let key = signature::public_key(certificate).unwrap();
    key.verify(&signed_bytes(&hash(TLS_HASH), &nonces.0, &nonces.1), signed).unwrap();
}

#[test]
fn signatures_of_something_else_are_refused() {
    let nonces = (hash(AGENT_NONCE).0, hash(SERVER_NONCE).0);
    let tls_hash = hash(TLS_HASH);
    let other = [7; 48];
    for wrong in [
        signed_bytes(&tls_hash, &other, &nonces.0),
        signed_bytes(&tls_hash, &nonces.1, &other),
        signed_bytes(&Hash384::of(b"x"), &nonces.1, &nonces.0),
        // A server's own proof, played back to it.
        signed_bytes(&tls_hash, &nonces.0, &nonces.1),
    ] {
        let mut server = ServerHandshake::with_nonce(server_config(), nonces.1);
        server.receive(&AuthRequest { tls_hash, nonce: nonces.0 }.encode()).unwrap();
        let proof = encode_verify(&agent_config().certificate_der, &agent_signer().sign(&wrong));
        assert_eq!(server.receive(&proof), Err(HandshakeError::BadSignature));
    }
    let mut agent = AgentHandshake::with_nonce(agent_config(), nonces.0);
    agent.start();
    agent.receive(&AuthRequest { tls_hash, nonce: nonces.1 }.encode()).unwrap();
    let stale = server_signer().sign(&signed_bytes(&tls_hash, &other, &nonces.1));
    assert_eq!(
        agent.receive(&encode_verify(&server_config().certificate_der, &stale)),
        Err(HandshakeError::BadSignature)
    );
}

#[test]
fn unsuitable_certificates_are_refused_by_both() {
    let cases: [(&[u8], HandshakeError); 3] = [
        (include_bytes!("../../tests/data/ecdsa.cert.der"), HandshakeError::NotRsa),
        (include_bytes!("../../tests/data/rsa1024.cert.der"), HandshakeError::KeyTooSmall { bits: 1024 }),
        (b"not a certificate", HandshakeError::UndecodableCertificate),
    ];
    for (certificate, error) in cases {
        let proof = encode_verify(certificate, &[1; 256]);
        let mut server = ServerHandshake::new(server_config());
        server.receive(AgentHandshake::new(agent_config()).start()[3].as_bytes()).unwrap();
        assert_eq!(server.receive(&proof), Err(error.clone()));
        let server_id = public_key_hash_of_certificate(certificate).unwrap_or(Hash384::ZERO);
        let mut agent = AgentHandshake::new(AgentHandshakeConfig { server_id, ..agent_config() });
        agent.start();
        agent.receive(&AuthRequest { tls_hash: hash(TLS_HASH), nonce: [0; 48] }.encode()).unwrap();
        assert_eq!(agent.receive(&proof), Err(error));
    }
}

#[test]
fn malformed_and_endless_messages_are_refused() {
    for (message, command) in [
        (&[0, 1, 2][..], 1),
        (&[0; 98][..97], 0),
        (&[0, 2], 2),
        (&[0, 2, 0, 9, 1], 2),
        (&[0, 2, 0, 1, 1], 2),
        (&[0, 3], 3),
    ] {
        match ServerHandshake::new(server_config()).receive(message) {
            Ok(progress) => assert_eq!((progress, command), (ServerProgress::default(), 0)),
            Err(HandshakeError::Malformed { command: named, .. }) => assert_eq!(named, command),
            other => panic!("{message:?}: {other:?}"),
        }
    }
    let mut long_name = bytes(INFO);
    long_name[70..72].copy_from_slice(&256_u16.to_be_bytes());
    long_name.extend([b'x'; 300]);
    assert!(AgentInfo::decode(&long_name).is_err());
    assert_eq!(AgentInfo::decode(&bytes(INFO)[..70]).unwrap().host_name, "");
    assert!(AgentInfo::decode(&bytes(INFO)[..73]).is_err());

    let mut server = ServerHandshake::new(server_config());
    assert!(matches!(
        server.receive(&vec![0; MAX_HANDSHAKE_MESSAGE + 1]),
        Err(HandshakeError::MessageTooLong(_))
    ));
    let mut server = ServerHandshake::new(server_config());
    for _ in 0..MAX_HANDSHAKE_MESSAGES {
        server.receive(b"{}").unwrap();
    }
    assert_eq!(server.receive(b"{}"), Err(HandshakeError::TooManyMessages));
}

#[test]
fn texts_before_authentication_are_limited_and_cleaned() {
    let mut server = ServerHandshake::new(server_config());
    server.receive(br#"{"action":"agentName","value":"a"b"}"#).unwrap();
    server.receive(br#"{"action":"coreinfo","osdesc":"x"}"#).unwrap();
    server.receive(format!(r#"{{"action":"agentName","value":"{}"}}"#, "x".repeat(256)).as_bytes()).unwrap();
    server.receive(&[&[0, 31][..], &[b'x'; 2000]].concat()).unwrap();
    server.receive(br#"{"action":"agentName","value":"<b>\u001b[0m"}"#).unwrap();
    server.receive(br#"{"action":"agentName","value":"a second name"}"#).unwrap();
    let (_, later) = agent_frames(&mut server);
    server.receive(later[0].as_bytes()).unwrap();
    let mut info = agent_config().info;
    info.host_name = "a\nb\u{0}c".into();
    let verified = server.receive(&info.encode()).unwrap().verified.unwrap();
    assert_eq!(verified.agent_name.as_deref(), Some("<b>[0m"));
    assert_eq!(verified.info.host_name, "abc");
    assert_eq!(verified.os_description.as_deref(), Some("Debian GNU/Linux 13 - x64"));
}

#[test]
fn very_old_groups_keep_their_spelling() {
    let mut info = agent_config().info;
    info.group = Hash384(std::array::from_fn(|i| if i < 32 { 0xab } else { 0 }));
    assert_eq!(info.group_key(), "ab".repeat(32));
}
