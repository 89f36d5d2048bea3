//! Cookies: texts of strangers, and sealed ones that were tampered with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::{
    cookie::{CookieKey, open, seal, seal_without_gcm},
    id::{base64x_decode, base64x_encode},
};
use serde_json::json;

const NOW: i64 = 1_700_000_000;

fuzz_target!(|data: &[u8]| {
    let key = CookieKey::from_hex(&"01".repeat(80)).unwrap();
    // Nobody else has the key, so nothing that comes from outside opens.
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(open(&key, text, NOW, 0).is_err());
    }
    assert!(open(&key, &base64x_encode(data), NOW, 0).is_err());

    let Some((&form, rest)) = data.split_first() else { return };
    // Escapes make it at most six times as long, which still fits a cookie.
    let payload = json!({"u": String::from_utf8_lossy(&rest[..rest.len().min(512)])});
    let text = if form & 1 == 0 { seal(&key, &payload, NOW) } else { seal_without_gcm(&key, &payload, NOW) };
    assert_eq!(open(&key, &text, NOW, 2).unwrap()["u"], payload["u"]);
    assert!(open(&key, &text, NOW + 121, 2).is_err());

    let mut bytes = base64x_decode(&text).unwrap();
    let at = usize::from(form) * 7 % bytes.len();
    let change = rest.first().copied().unwrap_or(1).max(1);
    bytes[at] ^= change;
    assert!(open(&key, &base64x_encode(&bytes), NOW, 2).is_err());
});
