//! JSON on the control channel. What a server sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::assert_clean;
use outpost_wire::message::{MAX_AGENT_MESSAGE, ServerMsgBody, ToAgent};

fuzz_target!(|text: &str| {
    let Ok(message) = ToAgent::parse(text) else { return };
    let written = message.to_json();
    assert_clean(&serde_json::from_str(&written).unwrap());
    // Escapes may make it longer than what was read.
    if written.len() <= MAX_AGENT_MESSAGE {
        assert_eq!(ToAgent::parse(&written).unwrap(), message, "{written}");
    }
    if let ToAgent::Msg(msg) = &message
        && let ServerMsgBody::Tunnel(tunnel) = &msg.body
        && let Some(path) = tunnel.path()
    {
        let (page, query) = path.split_once('?').unwrap();
        assert!(page.starts_with('/') && !page.starts_with("//") && !page.contains(".."), "{path}");
        assert!(page.ends_with("/meshrelay.ashx") || page.ends_with("/devicefile.ashx"), "{path}");
        assert!(query.bytes().all(|b| b.is_ascii_graphic()), "{path}");
    }
});
