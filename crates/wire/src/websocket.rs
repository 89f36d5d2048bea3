//! The one computation of a WebSocket's opening (RFC 6455 §4.2.2).

use base64::{Engine, engine::general_purpose::STANDARD};

/// What RFC 6455 appends to the key.
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`.
pub fn accept_key(sec_websocket_key: &str) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(sec_websocket_key.trim().as_bytes());
    context.update(SUFFIX.as_bytes());
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(super::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
