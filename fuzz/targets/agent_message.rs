//! JSON on the control channel. What an agent sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::assert_clean;
use outpost_wire::message::{FromAgent, MAX_AGENT_MESSAGE};

fuzz_target!(|text: &str| {
    let Ok(message) = FromAgent::parse(text) else { return };
    let written = message.to_json();
    assert_clean(&serde_json::from_str(&written).unwrap());
    // Escapes may make it longer than what was read.
    if written.len() <= MAX_AGENT_MESSAGE {
        assert_eq!(FromAgent::parse(&written).unwrap(), message, "{written}");
    }
    if let FromAgent::CoreInfo(info) = &message {
        assert!(info.osdesc.as_ref().is_none_or(|text| text.len() <= 1024));
        assert!(info.users.len() <= 256 && info.users.iter().all(|user| user.len() <= 255));
    }
});
