//! Both sides, with somebody in between who changes, drops and repeats messages.
#![no_main]

use std::{collections::VecDeque, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::{agent, server};
use outpost_wire::handshake::{
    AgentHandshake, AgentHandshakeConfig, AgentState, Frame, ServerHandshake, ServerHandshakeConfig,
};

static AGENT: LazyLock<AgentHandshakeConfig> = LazyLock::new(agent);
static SERVER: LazyLock<ServerHandshakeConfig> = LazyLock::new(server);

/// What happens to one message on the way.
fn meddle(frame: &Frame, tricks: &mut VecDeque<u8>, changed: &mut bool) -> Vec<Vec<u8>> {
    let mut bytes = frame.as_bytes().to_vec();
    // Hash and nonces travel in command 1; everything that is signed is there.
    let signed = bytes.starts_with(&[0, 1]);
    match tricks.pop_front().unwrap_or(0) % 8 {
        1 => vec![],
        2 => vec![bytes.clone(), bytes],
        3 => {
            let at = u16::from_be_bytes([tricks.pop_front().unwrap_or(0), tricks.pop_front().unwrap_or(0)]);
            let len = bytes.len();
            bytes[usize::from(at) % len] ^= tricks.pop_front().unwrap_or(1).max(1);
            *changed |= signed;
            vec![bytes]
        }
        4 => {
            bytes.truncate(usize::from(tricks.pop_front().unwrap_or(0)));
            vec![bytes]
        }
        _ => vec![bytes],
    }
}

fuzz_target!(|data: &[u8]| {
    let mut tricks: VecDeque<u8> = data.iter().copied().take(64).collect();
    let mut config = AGENT.clone();
    if tricks.pop_front().unwrap_or(0) & 1 == 1 {
        config.trusted_tls_hash = Some(config.tls_hash);
    }
    let node_hash = config.signer.public_key_hash();
    let (mut agent, mut server) = (AgentHandshake::new(config), ServerHandshake::new(SERVER.clone()));
    let mut to_server = agent.start();
    let (mut confirmed, mut authenticated, mut changed) = (false, false, false);
    for _round in 0..4 {
        let mut to_agent = Vec::new();
        let arriving: Vec<_> =
            to_server.drain(..).flat_map(|f| meddle(&f, &mut tricks, &mut changed)).collect();
        for message in arriving {
            let Ok(progress) = server.receive(&message) else { return };
            to_agent.extend(progress.send);
            if let Some(verified) = progress.verified {
                assert_eq!(verified.node_hash, node_hash);
                assert!(!changed, "the proof covers what both sides saw");
                confirmed = true;
                to_agent.push(server.confirm());
            }
        }
        let arriving: Vec<_> =
            to_agent.drain(..).flat_map(|f| meddle(&f, &mut tricks, &mut changed)).collect();
        for message in arriving {
            let Ok(progress) = agent.receive(&message) else { return };
            to_server.extend(progress.send);
            authenticated |= matches!(progress.state, AgentState::Authenticated { .. });
        }
    }
    let undisturbed = data.iter().skip(1).all(|&trick| trick % 8 == 0);
    assert!(!undisturbed || (confirmed && authenticated), "undisturbed, both arrive");
});
