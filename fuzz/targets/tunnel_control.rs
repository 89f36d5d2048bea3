//! Control messages inside tunnels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::assert_clean;
use outpost_wire::tunnel::{Control, MAX_CELLS, MAX_CONTROL, Protocol};

fuzz_target!(|data: &[u8]| {
    if let Some(protocol) = Protocol::parse(data) {
        assert_eq!(Protocol::from_number(protocol.number()), Some(protocol));
    }
    let Some(control) = std::str::from_utf8(data).ok().and_then(Control::parse) else { return };
    if let Control::TermSize { cols, rows } = control {
        assert!((1..=MAX_CELLS).contains(&cols) && (1..=MAX_CELLS).contains(&rows));
    }
    let written = control.to_json();
    assert!(written.starts_with(r#"{"ctrlChannel":"102938","type":""#));
    assert_clean(&serde_json::from_str(&written).unwrap());
    if written.len() <= MAX_CONTROL && control != Control::Other {
        assert_eq!(Control::parse(&written), Some(control), "{written}");
    }
});
