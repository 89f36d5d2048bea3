//! An agent of our making against the server's side. The nonce is that of the capture, so that the seed's
//! signature counts; no other can.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::{captured, hash, messages, server};
use outpost_wire::{
    handshake::{HandshakeError, MAX_HOST_NAME, ServerHandshake, ServerHandshakeConfig},
    text::is_line,
};

static CONFIG: LazyLock<ServerHandshakeConfig> = LazyLock::new(server);

fuzz_target!(|data: &[u8]| {
    let mut server = ServerHandshake::with_nonce(CONFIG.clone(), hash(captured::SERVER_NONCE).0);
    let (mut failed, mut verified) = (false, false);
    for message in messages(data) {
        match server.receive(message) {
            Ok(progress) => {
                assert!(!failed, "a failure is final");
                assert!(progress.send.len() <= 2);
                if let Some(agent) = progress.verified {
                    assert!(!verified, "an agent is reported once");
                    verified = true;
                    assert_eq!(agent.node_hash, hash(captured::NODE_HASH), "nobody else could have signed");
                    assert!(agent.info.host_name.len() <= MAX_HOST_NAME && is_line(&agent.info.host_name));
                    for text in [agent.agent_name, agent.commit_date, agent.os_description].iter().flatten() {
                        assert!(!text.is_empty() && text.len() <= 1024 && is_line(text));
                    }
                }
            }
            Err(error) => {
                assert_eq!(failed, error == HandshakeError::Ended);
                failed = true;
            }
        }
    }
});
