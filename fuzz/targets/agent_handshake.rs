//! A server of our making against the agent's side, with the nonce of the capture.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::{agent, captured, hash, messages};
use outpost_wire::handshake::{AgentHandshake, AgentHandshakeConfig, AgentState, HandshakeError};

static CONFIG: LazyLock<AgentHandshakeConfig> =
    LazyLock::new(|| AgentHandshakeConfig { server_id: hash(captured::SERVER_ID), ..agent() });

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let fast = mode & 1 == 1;
    let mut config = CONFIG.clone();
    config.trusted_tls_hash = fast.then_some(config.tls_hash);
    let mut agent = AgentHandshake::with_nonce(config, hash(captured::AGENT_NONCE).0);
    assert_eq!(agent.start().len(), if fast { 7 } else { 4 });
    let (mut failed, mut server_known) = (false, fast);
    for message in messages(rest) {
        match agent.receive(message) {
            Ok(progress) => {
                assert!(!failed, "a failure is final");
                match progress.state {
                    AgentState::ServerVerified => server_known = true,
                    // One message may bring both, when the confirmation came first.
                    AgentState::Authenticated { fast_path } => assert!(server_known || !fast_path),
                    AgentState::Waiting => {}
                }
            }
            Err(error) => {
                assert_eq!(failed, error == HandshakeError::Ended);
                failed = true;
            }
        }
    }
});
