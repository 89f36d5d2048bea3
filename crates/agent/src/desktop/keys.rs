//! From the key numbers of viewers to the key symbols of X.

/// The symbol of a Windows virtual key code (tunnel-protocols §4.3), `None` for keys X has no symbol for.
pub fn symbol(code: u8, extended: bool) -> Option<u32> {
    Some(match code {
        0x08 => 0xFF08,             // BackSpace
        0x09 => 0xFF09,             // Tab
        0x0C => 0xFF0B,             // Clear
        0x0D if extended => 0xFF8D, // KP_Enter
        0x0D => 0xFF0D,             // Return
        0x10 if extended => 0xFFE2, // Shift_R
        0x10 | 0xA0 => 0xFFE1,      // Shift_L
        0xA1 => 0xFFE2,             // Shift_R
        0x11 if extended => 0xFFE4, // Control_R
        0x11 | 0xA2 => 0xFFE3,      // Control_L
        0xA3 => 0xFFE4,             // Control_R
        0x12 if extended => 0xFE03, // ISO_Level3_Shift: the right Alt key
        0x12 | 0xA4 => 0xFFE9,      // Alt_L
        0xA5 | 0xE1 => 0xFE03,      // ISO_Level3_Shift
        0x13 => 0xFF13,             // Pause
        0x14 => 0xFFE5,             // Caps_Lock
        0x1B => 0xFF1B,             // Escape
        0x20 => 0x20,               // space
        0x21 => 0xFF55,             // Page_Up
        0x22 => 0xFF56,             // Page_Down
        0x23 => 0xFF57,             // End
        0x24 => 0xFF50,             // Home
        0x25 => 0xFF51,             // Left
        0x26 => 0xFF52,             // Up
        0x27 => 0xFF53,             // Right
        0x28 => 0xFF54,             // Down
        0x29 => 0xFF60,             // Select
        0x2A | 0x2C => 0xFF61,      // Print
        0x2B => 0xFF62,             // Execute
        0x2D => 0xFF63,             // Insert
        0x2E => 0xFFFF,             // Delete
        0x2F => 0xFF6A,             // Help
        0x30..=0x39 => u32::from(code),
        0x41..=0x5A => u32::from(code) + 0x20,
        0x5B => 0xFFEB,                                 // Super_L
        0x5C => 0xFFEC,                                 // Super_R
        0x5D => 0xFF67,                                 // Menu
        0x60..=0x69 => 0xFFB0 + u32::from(code - 0x60), // KP_0..9
        0x6A => 0xFFAA,                                 // KP_Multiply
        0x6B => 0xFFAB,                                 // KP_Add
        0x6C => 0xFFAC,                                 // KP_Separator
        0x6D => 0xFFAD,                                 // KP_Subtract
        0x6E => 0xFFAE,                                 // KP_Decimal
        0x6F => 0xFFAF,                                 // KP_Divide
        0x70..=0x87 => 0xFFBE + u32::from(code - 0x70), // F1..F24
        0x90 => 0xFF7F,                                 // Num_Lock
        0x91 => 0xFF14,                                 // Scroll_Lock
        0xAD => 0x1008_FF12,                            // XF86AudioMute
        0xAE => 0x1008_FF11,                            // XF86AudioLowerVolume
        0xAF => 0x1008_FF13,                            // XF86AudioRaiseVolume
        0xBA => 0x3B,                                   // semicolon
        0xBB => 0x3D,                                   // equal
        0xBC => 0x2C,                                   // comma
        0xBD => 0x2D,                                   // minus
        0xBE => 0x2E,                                   // period
        0xBF => 0x2F,                                   // slash
        0xC0 => 0x60,                                   // grave
        0xDB => 0x5B,                                   // bracketleft
        0xDC | 0xE2 => 0x5C,                            // backslash
        0xDD => 0x5D,                                   // bracketright
        0xDE => 0x27,                                   // apostrophe
        _ => return None,
    })
}

/// The symbol of a character that was typed (X11 protocol, appendix A).
pub fn symbol_of(character: char) -> u32 {
    match character {
        '\n' | '\r' => 0xFF0D,
        '\t' => 0xFF09,
        '\u{8}' => 0xFF08,
        '\u{1b}' => 0xFF1B,
        '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{ff}' => u32::from(character),
        _ => 0x0100_0000 + u32::from(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_characters_have_their_symbols() {
        assert_eq!(symbol(0x41, false), Some(u32::from('a')));
        assert_eq!(symbol(0x35, false), Some(u32::from('5')));
        assert_eq!((symbol(0x11, false), symbol(0x11, true)), (Some(0xFFE3), Some(0xFFE4)));
        assert_eq!((symbol(0x70, false), symbol(0x87, false)), (Some(0xFFBE), Some(0xFFD5)));
        assert_eq!((symbol(0, false), symbol(0xFF, false)), (None, None));
        assert_eq!(symbol_of('é'), 0xE9);
        assert_eq!(symbol_of('☃'), 0x0100_2603);
        assert_eq!(symbol_of('\n'), 0xFF0D);
    }
}
