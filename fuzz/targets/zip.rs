//! Records of ZIP archives from anywhere: no path leads out, and what is written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::zip::{self, CENTRAL_LENGTH, Method, Written};

fuzz_target!(|data: &[u8]| {
    let _ = zip::find_end(data);
    let _ = zip::read_end64(data);
    let _ = zip::data_after(data);
    if let Ok(entry) = zip::read_entry(data) {
        assert!(!entry.path.is_empty());
        for part in &entry.path {
            assert!(!part.is_empty() && part != b".." && part != b"." && !part.contains(&b'/') && !part.contains(&0));
        }
        assert!(data.len() >= CENTRAL_LENGTH + zip::entry_rest(data).expect("it was read"));
        let name = entry.path.join(&b'/');
        let written = Written {
            name: if entry.folder { [&name[..], b"/"].concat() } else { name },
            mode: entry.mode.unwrap_or(0o100_644),
            changed: 0,
            method: Method::Deflated,
            large: entry.size >= zip::LARGE,
            offset: entry.offset,
            crc: entry.crc,
            packed: entry.packed,
            size: entry.size,
        };
        let again = zip::read_entry(&written.central()).expect("our own");
        assert_eq!((again.path, again.size, again.packed, again.offset), (entry.path, entry.size, entry.packed, entry.offset));
    }
});
