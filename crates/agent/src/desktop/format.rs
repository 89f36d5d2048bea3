//! Layouts of pixels in the buffers of graphics hardware, and how they become ours.

use super::tiles::PIXEL;

/// How the pixels of a buffer lie in memory, in words of little-endian byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32 bits: 8 each of alpha or nothing, red, green, blue from the top. Ours.
    Xrgb8888,
    /// 32 bits: alpha or nothing, blue, green, red.
    Xbgr8888,
    /// 32 bits: red, green, blue, alpha or nothing.
    Rgbx8888,
    /// 32 bits: blue, green, red, alpha or nothing.
    Bgrx8888,
    /// 24 bits: red, green, blue.
    Rgb888,
    /// 24 bits: blue, green, red.
    Bgr888,
    /// 16 bits: 5 red, 6 green, 5 blue.
    Rgb565,
    /// 32 bits: 2 of alpha or nothing, 10 each of red, green, blue.
    Xrgb2101010,
    /// 32 bits: 2 of alpha or nothing, 10 each of blue, green, red.
    Xbgr2101010,
}

impl Format {
    /// By its four characters in `drm_fourcc.h`, with whether it has an alpha that counts.
    pub fn of_fourcc(code: u32) -> Option<(Format, bool)> {
        Some(match &code.to_le_bytes() {
            b"XR24" => (Format::Xrgb8888, false),
            b"AR24" => (Format::Xrgb8888, true),
            b"XB24" => (Format::Xbgr8888, false),
            b"AB24" => (Format::Xbgr8888, true),
            b"RX24" | b"RA24" => (Format::Rgbx8888, false),
            b"BX24" | b"BA24" => (Format::Bgrx8888, false),
            b"RG24" => (Format::Rgb888, false),
            b"BG24" => (Format::Bgr888, false),
            b"RG16" => (Format::Rgb565, false),
            b"XR30" | b"AR30" => (Format::Xrgb2101010, false),
            b"XB30" | b"AB30" => (Format::Xbgr2101010, false),
            _ => return None,
        })
    }

    /// By bits of a pixel and where red and blue begin, as framebuffer devices describe theirs.
    pub fn of_bits(bits: u32, red: u32, red_bits: u32, blue: u32) -> Option<Format> {
        Some(match (bits, red_bits, red, blue) {
            (32, 8, 16, 0) => Format::Xrgb8888,
            (32, 8, 0, 16) => Format::Xbgr8888,
            (32, 8, 24, 8) => Format::Rgbx8888,
            (32, 8, 8, 24) => Format::Bgrx8888,
            (24, 8, 16, 0) => Format::Rgb888,
            (24, 8, 0, 16) => Format::Bgr888,
            (16, 5, 11, 0) => Format::Rgb565,
            (32, 10, 20, 0) => Format::Xrgb2101010,
            (32, 10, 0, 20) => Format::Xbgr2101010,
            _ => return None,
        })
    }

    /// Bytes of a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Format::Rgb565 => 2,
            Format::Rgb888 | Format::Bgr888 => 3,
            _ => 4,
        }
    }

    /// Appends pixels to `into` as ours: blue, green, red, and the alpha of the source or whatever is there.
    pub fn convert(self, from: &[u8], into: &mut Vec<u8>) {
        fn words<const N: usize>(from: &[u8], into: &mut Vec<u8>, pixel: impl Fn([u8; N]) -> [u8; PIXEL]) {
            into.extend(from.as_chunks::<N>().0.iter().flat_map(|bytes| pixel(*bytes)));
        }
        match self {
            Format::Xrgb8888 => into.extend_from_slice(from),
            Format::Xbgr8888 => words(from, into, |[r, g, b, a]| [b, g, r, a]),
            Format::Rgbx8888 => words(from, into, |[x, b, g, r]| [b, g, r, x]),
            Format::Bgrx8888 => words(from, into, |[x, r, g, b]| [b, g, r, x]),
            Format::Rgb888 => words(from, into, |[b, g, r]| [b, g, r, 0xFF]),
            Format::Bgr888 => words(from, into, |[r, g, b]| [b, g, r, 0xFF]),
            Format::Rgb565 => words(from, into, |bytes| {
                let word = u16::from_le_bytes(bytes);
                let [b, g, r] = [word & 0x1F, (word >> 5) & 0x3F, word >> 11].map(|part| part as u8);
                // The high bits again below, so that full is full.
                [(b << 3) | (b >> 2), (g << 2) | (g >> 4), (r << 3) | (r >> 2), 0xFF]
            }),
            Format::Xrgb2101010 => words(from, into, |bytes| {
                let word = u32::from_le_bytes(bytes);
                [(word >> 2) as u8, (word >> 12) as u8, (word >> 22) as u8, 0xFF]
            }),
            Format::Xbgr2101010 => words(from, into, |bytes| {
                let word = u32::from_le_bytes(bytes);
                [(word >> 22) as u8, (word >> 12) as u8, (word >> 2) as u8, 0xFF]
            }),
        }
    }
}

/// Lays pixels with an alpha by which their colours are multiplied already over others.
pub fn lay_over(below: &mut [u8], above: &[u8]) {
    for (below, above) in below.as_chunks_mut::<PIXEL>().0.iter_mut().zip(above.as_chunks::<PIXEL>().0) {
        let rest = u16::from(255 - above[3]);
        for (below, above) in below.iter_mut().zip(above) {
            *below = above.saturating_add((u16::from(*below) * rest / 255) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_becomes_blue_green_red() {
        let orange = |format: Format, bytes: &[u8]| {
            let mut pixels = Vec::new();
            format.convert(bytes, &mut pixels);
            pixels[..3].to_vec()
        };
        let wanted = [0x10, 0x82, 0xFF];
        assert_eq!(orange(Format::Xrgb8888, &[0x10, 0x82, 0xFF, 0]), wanted);
        assert_eq!(orange(Format::Xbgr8888, &[0xFF, 0x82, 0x10, 0]), wanted);
        assert_eq!(orange(Format::Rgbx8888, &[0, 0x10, 0x82, 0xFF]), wanted);
        assert_eq!(orange(Format::Bgrx8888, &[0, 0xFF, 0x82, 0x10]), wanted);
        assert_eq!(orange(Format::Rgb888, &[0x10, 0x82, 0xFF]), wanted);
        assert_eq!(orange(Format::Bgr888, &[0xFF, 0x82, 0x10]), wanted);
        assert_eq!(orange(Format::Rgb565, &(0x1Fu16 << 11 | 0x20 << 5 | 2).to_le_bytes()), wanted);
        let deep = 0x3FFu32 << 20 | 0x208 << 10 | 0x40;
        assert_eq!(orange(Format::Xrgb2101010, &deep.to_le_bytes()), wanted);
        let deep = 0x40u32 << 20 | 0x208 << 10 | 0x3FF;
        assert_eq!(orange(Format::Xbgr2101010, &deep.to_le_bytes()), wanted);
    }

    #[test]
    fn formats_have_their_names() {
        assert_eq!(Format::of_fourcc(u32::from_le_bytes(*b"AR24")), Some((Format::Xrgb8888, true)));
        assert_eq!(Format::of_fourcc(u32::from_le_bytes(*b"NV12")), None);
        assert_eq!(Format::of_bits(16, 11, 5, 0), Some(Format::Rgb565));
        assert_eq!(Format::of_bits(8, 0, 8, 0), None);
    }

    #[test]
    fn a_cursor_is_laid_over() {
        let mut below = [100, 100, 100, 0, 100, 100, 100, 0, 100, 100, 100, 0];
        lay_over(&mut below, &[0, 0, 0, 0, 9, 8, 7, 255, 50, 50, 50, 128]);
        assert_eq!(below[..3], [100, 100, 100]);
        assert_eq!(below[4..7], [9, 8, 7]);
        assert_eq!(below[8..11], [99, 99, 99]);
    }
}
