//! Control messages inside tunnels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::assert_clean;
use outpost_wire::files::MAX_PATH;
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
    let mut value: serde_json::Value = serde_json::from_str(&written).expect("it is JSON");
    // The name of a file may hold any character of a file name, line ends too; all the rest is prose.
    if let Some(serde_json::Value::String(path)) = value.as_object_mut().expect("an object").remove("file") {
        assert!(path.len() <= 4 * MAX_PATH && !path.contains('\0'), "{path:?}");
    }
    assert_clean(&value);
    if written.len() <= MAX_CONTROL && control != Control::Other {
        assert_eq!(Control::parse(&written), Some(control), "{written}");
    }
});
