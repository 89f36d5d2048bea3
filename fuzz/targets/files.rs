//! Requests of files sessions, and names that have to survive as they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::files::{FileRequest, MAX_PATH, Name, to_bytes, to_text, upload_block};

fuzz_target!(|data: &[u8]| {
    assert_eq!(to_bytes(&to_text(data)), data);
    assert!(upload_block(data).len() + 1 >= data.len());
    if let Some(name) = Name::new(&to_text(data)) {
        assert!(!name.as_bytes().contains(&b'/') && name.as_bytes() != b"..");
    }
    if let Ok(FileRequest::List { path, .. } | FileRequest::Upload { path, .. }) = FileRequest::parse(data) {
        assert!(path.first() == Some(&b'/') && path.len() <= MAX_PATH && !path.contains(&0));
    }
});
