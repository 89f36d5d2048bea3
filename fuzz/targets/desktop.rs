//! Frames of a viewer of a desktop session.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::desktop::{FromViewer, ToViewer, parse};

fuzz_target!(|data: &[u8]| {
    for command in parse(data) {
        if let FromViewer::Compression(wanted) = command {
            assert!(wanted.quality.is_none_or(|quality| (1..=100).contains(&quality)));
            assert!(wanted.scaling.is_none_or(|scaling| (64..=4096).contains(&scaling)));
        }
        if let FromViewer::Touch(contacts) = &command {
            assert!(contacts.len() <= 16);
        }
    }
    // A picture is one command, whatever its size.
    let frame = ToViewer::Picture { x: 1, y: 2, image: data }.encode();
    assert!(frame.ends_with(data));
});
