//! Names on a disk, which are bytes, in JSON, which is Unicode.
//!
//! Bytes that are no UTF-8 become private characters of their own and turn back into the same bytes, so every name
//! that was listed can be opened, renamed and removed.

/// Bytes that are no UTF-8 stand at this character plus their value.
const ESCAPE: u32 = 0x10_FE00;

/// Turns bytes of a path or name into text.
pub fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |byte: u8| char::from_u32(ESCAPE + u32::from(byte)).expect("below the last character");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match u32::from(character).checked_sub(ESCAPE) {
                // A real character that looks like an escape is escaped byte by byte.
                Some(0x80..=0xFF) => {
                    text.extend(character.encode_utf8(&mut [0; 4]).bytes().map(escape));
                }
                _ => text.push(character),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| escape(*byte)));
    }
    text
}

/// Turns text back into the bytes it came from.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(ESCAPE) {
            Some(byte @ 0x80..=0xFF) => bytes.push(byte as u8),
            _ => bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// A name in a folder: one part of a path, not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// Takes a name if it is one.
    pub fn new(text: &str) -> Option<Self> {
        Self::from_bytes(&to_bytes(text))
    }

    /// The same of bytes as they are on the disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let good = (1..=255).contains(&bytes.len())
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
            && bytes != b"."
            && bytes != b"..";
        good.then(|| Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_there_and_back() {
        for name in [
            &b"plain"[..],
            "naïve ☃ \u{10FFFD}".as_bytes(),
            b"a\xFFb\xC3",
            b"new\nline",
            &[0xF4, 0x8F, 0xBA, 0x80],
            b"",
        ] {
            assert_eq!(to_bytes(&to_text(name)), name, "{name:?}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_bytes(&to_text(&all)), all);
        assert_ne!(to_text(b"a\xFF"), to_text(b"a\xFE"));
    }
}
