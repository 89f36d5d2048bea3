//! The firmware's own inventory (SMBIOS tables), read raw from the kernel; memory modules decoded.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

const TABLES: &str = "/sys/firmware/dmi/tables/DMI";
/// Real tables are a few KiB; more is not a description of a machine.
const MAX_TABLES: usize = 64 * 1024;
/// Structure type "Memory Device" of the SMBIOS specification (7.18).
const MEMORY_DEVICE: u8 = 17;

/// One memory module, in the names servers show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemoryModule {
    /// Slot.
    pub locator: String,
    /// e.g. `8192 MB`.
    pub size: String,
    /// e.g. `2666 MT/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Serial number.
    #[serde(rename = "Serial_Number", skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Part number.
    #[serde(rename = "Part_Number", skip_serializing_if = "Option::is_none")]
    pub part_number: Option<String>,
}

/// The tables, when the machine has them and the agent may read them (root).
pub fn tables() -> Option<Vec<u8>> {
    fs::read(TABLES).ok().filter(|tables| !tables.is_empty() && tables.len() <= MAX_TABLES)
}

/// Filled memory slots.
pub fn memory_modules(tables: &[u8]) -> Vec<MemoryModule> {
    structures(tables)
        .filter(|structure| structure.kind == MEMORY_DEVICE)
        .filter_map(|s| memory_module(&s))
        .collect()
}

/// Raw structures by type, as hexadecimal text, for the `smbios` message.
pub fn raw_map(tables: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for structure in structures(tables) {
        let hex = structure.whole.iter().map(|byte| format!("{byte:02x}")).collect();
        map.entry(structure.kind.to_string()).or_default().push(hex);
    }
    map
}

struct Structure<'a> {
    kind: u8,
    /// Header and fixed fields.
    fields: &'a [u8],
    /// The strings behind them, each without its NUL.
    strings: Vec<&'a [u8]>,
    whole: &'a [u8],
}

impl Structure<'_> {
    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.fields.get(at..at + 2)?.try_into().ok()?))
    }

    fn string(&self, at: usize) -> Option<String> {
        let number = usize::from(*self.fields.get(at)?);
        let text = String::from_utf8_lossy(self.strings.get(number.checked_sub(1)?)?).trim().to_owned();
        (!text.is_empty() && text != "Not Specified" && text != "Unknown").then_some(text)
    }
}

/// Walks the structures; stops at the end marker or at the first one that does not fit.
fn structures(mut rest: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    std::iter::from_fn(move || {
        let &[kind, length, ..] = rest else { return None };
        let length = usize::from(length);
        if length < 4 || kind == 127 {
            return None;
        }
        let fields = rest.get(..length)?;
        let mut strings = Vec::new();
        let mut at = length;
        loop {
            let end = at + rest.get(at..)?.iter().position(|&byte| byte == 0)?;
            if end == at {
                // Two NULs end the structure; one without strings has both at once.
                at += if strings.is_empty() { 2 } else { 1 };
                break;
            }
            strings.push(&rest[at..end]);
            at = end + 1;
        }
        let whole = rest.get(..at)?;
        rest = &rest[at..];
        Some(Structure { kind, fields, strings, whole })
    })
}

/// Offsets are those of the SMBIOS specification, table "Memory Device".
fn memory_module(structure: &Structure<'_>) -> Option<MemoryModule> {
    let megabytes = match structure.word(0x0C)? {
        0 | 0xFFFF => return None,
        0x7FFF => u32::from_le_bytes(structure.fields.get(0x1C..0x20)?.try_into().ok()?) & 0x7FFF_FFFF,
        kilobytes if kilobytes & 0x8000 != 0 => u32::from(kilobytes & 0x7FFF) / 1024,
        megabytes => u32::from(megabytes),
    };
    Some(MemoryModule {
        locator: structure.string(0x10).unwrap_or_default(),
        size: format!("{megabytes} MB"),
        speed: structure
            .word(0x15)
            .filter(|&speed| speed != 0 && speed != 0xFFFF)
            .map(|speed| format!("{speed} MT/s")),
        manufacturer: structure.string(0x17),
        serial_number: structure.string(0x18),
        part_number: structure.string(0x1A),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(size: u16, strings: &[&str]) -> Vec<u8> {
        let mut fields = vec![0u8; 0x22];
        fields[0] = MEMORY_DEVICE;
        fields[1] = 0x22;
        fields[0x0C..0x0E].copy_from_slice(&size.to_le_bytes());
        fields[0x10] = 1;
        fields[0x15..0x17].copy_from_slice(&3200u16.to_le_bytes());
        fields[0x17] = 2;
        for string in strings {
            fields.extend_from_slice(string.as_bytes());
            fields.push(0);
        }
        fields.push(0);
        fields
    }

    #[test]
    fn modules_are_read_and_empty_slots_skipped() {
        let mut tables = device(8192, &["DIMM A", "Acme"]);
        tables.extend(device(0, &["DIMM B"]));
        tables.extend([0x7F, 4, 0, 0, 0, 0]);
        let modules = memory_modules(&tables);
        assert_eq!(modules.len(), 1);
        assert_eq!((modules[0].locator.as_str(), modules[0].size.as_str()), ("DIMM A", "8192 MB"));
        assert_eq!(modules[0].manufacturer.as_deref(), Some("Acme"));
        assert_eq!(raw_map(&tables)["17"].len(), 2);
    }

    #[test]
    fn damaged_tables_end_the_walk() {
        let whole = device(8192, &["DIMM A", "Acme"]);
        for cut in 0..whole.len() {
            assert!(memory_modules(&whole[..cut]).is_empty(), "cut at {cut}");
        }
        assert!(memory_modules(&[17, 0, 0, 0, 0, 0]).is_empty());
    }
}
