//! Settings inside executables.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use outpost_wire::msh::{embed, executable_hash, extract};

fuzz_target!(|data: &[u8]| {
    let _ = extract(&mut Cursor::new(data));
    let before = executable_hash(&mut Cursor::new(data)).unwrap();
    let settings = "\r\nMeshServer=local\r\n";
    if let Ok(full) = embed(data, settings) {
        assert_eq!(extract(&mut Cursor::new(&full)).unwrap().as_deref(), Some(settings));
        assert_eq!(executable_hash(&mut Cursor::new(&full)).unwrap(), before);
    }
});
