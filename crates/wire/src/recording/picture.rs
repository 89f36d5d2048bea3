//! How large a picture is, by its own head: JPEG, PNG, WebP.

/// Bytes of a picture within which its size stands: a JPEG's tables come before it.
pub const SIZE_WITHIN: usize = 4096;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl PictureSize {
    /// Reads it from the first bytes of a picture; None when they do not say.
    pub fn of(bytes: &[u8]) -> Option<PictureSize> {
        let size = match bytes {
            [0xFF, 0xD8, rest @ ..] => jpeg(rest)?,
            [0x89, b'P', b'N', b'G', ..] => PictureSize { width: be32(bytes, 16)?, height: be32(bytes, 20)? },
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes)?,
            _ => return None,
        };
        (size.width > 0 && size.height > 0).then_some(size)
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(*bytes.get(at)?) << 8 | u32::from(*bytes.get(at + 1)?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes)
}

fn le(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    Some(bytes.get(at..at + count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Goes from marker to marker up to the frame.
fn jpeg(mut rest: &[u8]) -> Option<PictureSize> {
    loop {
        let [0xFF, marker, after @ ..] = rest else { return None };
        match marker {
            // A byte that only fills.
            0xFF => rest = &rest[1..],
            // Start of frame, but not the three tables that share its range.
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                return Some(PictureSize { width: be16(after, 5)?, height: be16(after, 3)? });
            }
            _ => {
                let length = be16(after, 0)? as usize;
                rest = after.get(length.max(2)..)?;
            }
        }
    }
}

fn webp(bytes: &[u8]) -> Option<PictureSize> {
    match bytes.get(12..16)? {
        b"VP8 " => {
            Some(PictureSize { width: le(bytes, 26, 2)? & 0x3FFF, height: le(bytes, 28, 2)? & 0x3FFF })
        }
        b"VP8L" => {
            let bits = le(bytes, 21, 4)?;
            Some(PictureSize { width: (bits & 0x3FFF) + 1, height: (bits >> 14 & 0x3FFF) + 1 })
        }
        b"VP8X" => Some(PictureSize { width: le(bytes, 24, 3)? + 1, height: le(bytes, 27, 3)? + 1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_or_not() {
        let size = |width, height| Some(PictureSize { width, height });
        let jpeg =
            [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xFF, 0xC4, 0, 2, 0xFF, 0xC0, 0, 17, 8, 1, 44, 2, 128];
        assert_eq!(PictureSize::of(&jpeg), size(640, 300));
        for cut in 0..jpeg.len() {
            assert_eq!(PictureSize::of(&jpeg[..cut]), None, "{cut}");
        }
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 0, 64, 0, 0, 0, 32]);
        assert_eq!(PictureSize::of(&png), size(64, 32));
        let mut webp = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a".to_vec();
        webp.extend([100, 0, 50, 0]);
        assert_eq!(PictureSize::of(&webp), size(100, 50));
        assert_eq!(PictureSize::of(b"GIF89a"), None);
    }
}
