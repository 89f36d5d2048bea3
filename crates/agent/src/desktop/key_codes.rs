//! From the key numbers of viewers and from characters to the key codes of the kernel
//! (`linux/input-event-codes.h`).

/// The modifiers that characters need.
pub const LEFT_CTRL: u16 = 29;
pub const LEFT_SHIFT: u16 = 42;
pub const LEFT_ALT: u16 = 56;
pub const RIGHT_ALT: u16 = 100;
pub const SPACE: u16 = 57;
pub const DELETE: u16 = 111;
/// Of the digits 0 to 9 and a to f.
const HEX: [u16; 16] = [11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 30, 48, 46, 32, 18, 33];
/// Of the digits of the number block.
const NUMBERS: [u16; 10] = [82, 79, 80, 81, 75, 76, 77, 71, 72, 73];
/// Of the letters A to Z.
const LETTERS: [u16; 26] =
    [30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44];

/// The code of a Windows virtual key code (tunnel-protocols §4.3); `None` for keys that no keyboard of Linux has.
pub fn code(key: u8, extended: bool) -> Option<u16> {
    Some(match key {
        0x08 => 14,
        0x09 => 15,
        0x0C => 0x163, // KEY_CLEAR
        0x0D if extended => 96,
        0x0D => 28,
        0x10 if extended => 54,
        0x10 | 0xA0 => LEFT_SHIFT,
        0xA1 => 54,
        0x11 if extended => 97,
        0x11 | 0xA2 => LEFT_CTRL,
        0xA3 => 97,
        0x12 if extended => RIGHT_ALT,
        0x12 | 0xA4 => LEFT_ALT,
        0xA5 | 0xE1 => RIGHT_ALT,
        0x13 => 119,
        0x14 => 58,
        0x1B => 1,
        0x20 => SPACE,
        0x21 => 104,
        0x22 => 109,
        0x23 => 107,
        0x24 => 102,
        0x25 => 105,
        0x26 => 103,
        0x27 => 106,
        0x28 => 108,
        0x2A | 0x2C => 99,
        0x2D => 110,
        0x2E => DELETE,
        0x2F => 138,
        0x30..=0x39 => HEX[usize::from(key - 0x30)],
        0x41..=0x5A => LETTERS[usize::from(key - 0x41)],
        0x5B => 125,
        0x5C => 126,
        0x5D => 127,
        0x60..=0x69 => NUMBERS[usize::from(key - 0x60)],
        0x6A => 55,
        0x6B => 78,
        0x6C => 121,
        0x6D => 74,
        0x6E => 83,
        0x6F => 98,
        0x70..=0x79 => 59 + u16::from(key - 0x70),
        0x7A | 0x7B => 87 + u16::from(key - 0x7A),
        0x7C..=0x87 => 183 + u16::from(key - 0x7C),
        0x90 => 69,
        0x91 => 70,
        0xAD => 113,
        0xAE => 114,
        0xAF => 115,
        0xBA => 39,
        0xBB => 13,
        0xBC => 51,
        0xBD => 12,
        0xBE => 52,
        0xBF => 53,
        0xC0 => 41,
        0xDB => 26,
        0xDC => 43,
        0xDD => 27,
        0xDE => 40,
        0xE2 => 86,
        _ => return None,
    })
}

/// All codes that a keyboard of ours may send.
pub fn all() -> impl Iterator<Item = u16> {
    (1..=127).chain([138]).chain(183..=194).chain([0x163])
}

/// Key and modifiers of a character on a US keyboard.
pub fn on_us_keyboard(character: char) -> Option<(u16, bool)> {
    const SHIFTED_DIGITS: &[u8] = b")!@#$%^&*(";
    // Key of each pair of characters.
    const PAIRS: [(u16, [char; 2]); 11] = [
        (12, ['-', '_']),
        (13, ['=', '+']),
        (26, ['[', '{']),
        (27, [']', '}']),
        (39, [';', ':']),
        (40, ['\'', '"']),
        (41, ['`', '~']),
        (43, ['\\', '|']),
        (51, [',', '<']),
        (52, ['.', '>']),
        (53, ['/', '?']),
    ];
    Some(match character {
        'a'..='z' => (LETTERS[character as usize - 'a' as usize], false),
        'A'..='Z' => (LETTERS[character as usize - 'A' as usize], true),
        '0'..='9' => (HEX[character as usize - '0' as usize], false),
        ' ' => (SPACE, false),
        _ => {
            if let Some(digit) = SHIFTED_DIGITS.iter().position(|shifted| char::from(*shifted) == character) {
                return Some((HEX[digit], true));
            }
            let (key, pair) = PAIRS.iter().find(|(_, pair)| pair.contains(&character))?;
            (*key, pair[1] == character)
        }
    })
}

/// The key of a control character that has one.
pub fn of_control(character: char) -> Option<u16> {
    Some(match character {
        '\n' | '\r' => 28,
        '\t' => 15,
        '\u{8}' => 14,
        '\u{1b}' => 1,
        _ => return None,
    })
}

/// The keys of a number in hexadecimal.
pub fn of_hex(number: u32) -> Vec<u16> {
    let digits = format!("{number:x}");
    digits.chars().filter_map(|digit| Some(HEX[digit.to_digit(16)? as usize])).collect()
}

/// The keys of a number in decimal, on the number block.
pub fn of_decimal(number: u32) -> Vec<u16> {
    let digits = number.to_string();
    digits.chars().filter_map(|digit| Some(NUMBERS[digit.to_digit(10)? as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_characters_have_their_codes() {
        assert_eq!((code(0x41, false), code(0x5A, false), code(0x30, false)), (Some(30), Some(44), Some(11)));
        assert_eq!((code(0x11, false), code(0x11, true)), (Some(29), Some(97)));
        assert_eq!(
            (code(0x70, false), code(0x7B, false), code(0x87, false)),
            (Some(59), Some(88), Some(194))
        );
        assert_eq!((code(0, false), code(0xFF, true)), (None, None));
        assert!((0..=255).filter_map(|key| code(key, false)).all(|code| all().any(|known| known == code)));
        assert_eq!(on_us_keyboard('a'), Some((30, false)));
        assert_eq!((on_us_keyboard('@'), on_us_keyboard('"')), (Some((3, true)), Some((40, true))));
        assert_eq!(on_us_keyboard('é'), None);
        assert!((0x20..0x7F).all(|byte| on_us_keyboard(char::from(byte)).is_some()));
        assert_eq!((of_hex(0x2603), of_decimal(9731)), (vec![3, 7, 11, 4], vec![73, 71, 81, 79]));
    }
}
