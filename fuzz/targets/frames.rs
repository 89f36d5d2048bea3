//! Heads of WebSocket frames: whatever is read is written the same way, and a mask is undone by itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::websocket::{FrameHead, LONGEST_HEAD, apply_mask};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((head, length))) = FrameHead::parse(data) {
        assert!(length <= LONGEST_HEAD && length <= data.len());
        let mut written = Vec::new();
        head.write(&mut written);
        assert_eq!(FrameHead::parse(&written), Ok(Some((head, written.len()))));
        let mut payload = data[length..].to_vec();
        let mask = head.mask.unwrap_or([1, 2, 3, 4]);
        apply_mask(&mut payload, mask, head.length);
        let cut = payload.len() / 3;
        let (a, b) = payload.split_at_mut(cut);
        apply_mask(a, mask, head.length);
        apply_mask(b, mask, head.length.wrapping_add(cut as u64));
        assert_eq!(payload, data[length..]);
    }
});
