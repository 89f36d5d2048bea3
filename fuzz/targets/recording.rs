//! Recordings: heads and ends are written as they were read, an index is made of anything and stays within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_fuzz::messages;
use outpost_wire::recording::{BlockHead, ENDING, Ending, HEAD, Index, IndexBuilder, PictureSize};

fuzz_target!(|data: &[u8]| {
    if let Some(head) = data.first_chunk::<HEAD>().and_then(BlockHead::parse) {
        assert_eq!(BlockHead::parse(&head.bytes()), Some(head));
    }
    if let Some(ending) = data.last_chunk::<ENDING>().and_then(Ending::parse) {
        assert_eq!(Ending::parse(&ending.bytes()), Some(ending));
    }
    let _ = PictureSize::of(data);
    let mut builder = IndexBuilder::default();
    let (mut place, mut time) = (0, 0);
    for message in messages(data) {
        // The first byte says how far the clock goes, and whether it is the device that speaks.
        let Some((step, bytes)) = message.split_first() else { continue };
        time += u64::from(step & 0x7F) * 500;
        builder.message(place, time, (step & 0x80 == 0).then_some((bytes.len() as u64, bytes)));
        place += HEAD as u64 + bytes.len() as u64;
    }
    if let Some(index) = builder.finish() {
        let json = serde_json::to_string(&index).expect("JSON");
        assert_eq!(serde_json::from_str::<Index>(&json).expect("the same"), index);
        for entry in &index.indexes {
            assert!(entry.next <= place && entry.pictures.iter().all(|picture| *picture < entry.next));
        }
    }
});
