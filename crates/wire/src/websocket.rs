//! What is needed of WebSockets to pass them on frame by frame: the key of the opening (RFC 6455 §4.2.2), the
//! heads of frames and the mask (§5.2, §5.3).

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

/// Longest head of a frame, in bytes: two, an extended length of eight, a mask of four.
pub const LONGEST_HEAD: usize = 14;
/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const LONGEST_CONTROL: u64 = 125;

/// What a frame is (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation,
    /// Text, or its first part.
    Text,
    /// Bytes, or their first part.
    Binary,
    /// The end.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether it is about the connection rather than a part of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why bytes are not the head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bits that only an extension nobody agreed on would set.
    #[error("the frame uses an extension that was not agreed on")]
    Reserved,
    /// Not an opcode of version 13.
    #[error("the frame has the unknown opcode {0:#x}")]
    Opcode(u8),
    /// A control frame that is fragmented or too long.
    #[error("the control frame is fragmented or too long")]
    Control,
    /// A length beyond 63 bits.
    #[error("the length of the frame is not one")]
    Length,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// The last one of its message.
    pub last: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Bytes of payload.
    pub length: u64,
    /// What the payload is masked with; clients must, servers must not.
    pub mask: Option<[u8; 4]>,
}

impl FrameHead {
    /// A whole message or control frame without a mask.
    pub fn whole(opcode: Opcode, length: u64) -> Self {
        Self { last: true, opcode, length, mask: None }
    }

    /// Reads the head that `bytes` begin with, and how long it is; `None` when more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::from_bits(first & 0xF).ok_or(FrameError::Opcode(first & 0xF))?;
        let last = first & 0x80 != 0;
        let (length, rest) = match second & 0x7F {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        if length > i64::MAX as u64 {
            return Err(FrameError::Length);
        }
        if opcode.is_control() && (!last || length > LONGEST_CONTROL) {
            return Err(FrameError::Control);
        }
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk::<4>() {
                Some((mask, rest)) => (Some(*mask), rest),
                None => return Ok(None),
            }
        };
        Ok(Some((Self { last, opcode, length, mask }, bytes.len() - rest.len())))
    }

    /// Appends the head to `out`, in the shortest form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.last) << 7 | self.opcode.bits());
        let masked = u8::from(self.mask.is_some()) << 7;
        match self.length {
            0..126 => out.push(masked | self.length as u8),
            126..=0xFFFF => {
                out.push(masked | 126);
                out.extend((self.length as u16).to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend(self.length.to_be_bytes());
            }
        }
        if let Some(mask) = self.mask {
            out.extend(mask);
        }
    }
}

/// Masks or unmasks a part of a payload that begins `offset` bytes after the payload's start.
pub fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    let wide = u32::from_ne_bytes(mask);
    let wide = (u64::from(wide) << 32) | u64::from(wide);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("eight bytes")) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_frames_of_the_rfc() {
        // RFC 6455 §5.7: a masked "Hello", and 256 bytes and 64 KiB without a mask.
        let mut hello = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        let (head, len) = FrameHead::parse(&hello).expect("a frame").expect("all of it");
        assert_eq!((head.last, head.opcode, head.length, len), (true, Opcode::Text, 5, 6));
        apply_mask(&mut hello[len..], head.mask.expect("a mask"), 0);
        assert_eq!(&hello[len..], b"Hello");
        for (bytes, length) in
            [(&[0x82, 126, 1, 0][..], 256), (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], 65536)]
        {
            let (head, len) = FrameHead::parse(bytes).expect("a frame").expect("all of it");
            assert_eq!((head, len), (FrameHead::whole(Opcode::Binary, length), bytes.len()));
        }
    }

    #[test]
    fn heads_survive_a_round_trip_and_wait_for_their_end() {
        for length in [0, 1, 125, 126, 0xFFFF, 0x1_0000, i64::MAX as u64] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let head = FrameHead { last: length % 2 == 0, opcode: Opcode::Continuation, length, mask };
                let mut bytes = Vec::new();
                head.write(&mut bytes);
                assert!(bytes.len() <= LONGEST_HEAD);
                assert_eq!(FrameHead::parse(&bytes), Ok(Some((head, bytes.len()))));
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHead::parse(&bytes[..cut]), Ok(None));
                }
            }
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        assert_eq!(FrameHead::parse(&[0xC1, 0]), Err(FrameError::Reserved));
        assert_eq!(FrameHead::parse(&[0x83, 0]), Err(FrameError::Opcode(3)));
        assert_eq!(FrameHead::parse(&[0x09, 0]), Err(FrameError::Control), "a ping in parts");
        assert_eq!(FrameHead::parse(&[0x89, 126, 0, 126]), Err(FrameError::Control), "a long ping");
        assert_eq!(FrameHead::parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Length));
    }

    #[test]
    fn a_mask_goes_on_where_it_stopped() {
        let plain: Vec<u8> = (0..=255).collect();
        let mut whole = plain.clone();
        apply_mask(&mut whole, [9, 8, 7, 6], 0);
        for cut in [0, 1, 2, 3, 4, 5, 13, 255] {
            let mut parts = plain.clone();
            let (a, b) = parts.split_at_mut(cut);
            apply_mask(a, [9, 8, 7, 6], 0);
            apply_mask(b, [9, 8, 7, 6], cut as u64);
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }
}
