//! Settings inside an executable: `settings ‖ length[4] ‖ GUID[16]` at its end (agent-protocol §2.3).
//!
//! At the end of a signed Windows executable is its certificate table, and only there bytes may be added
//! without spoiling the signature; so the table grows around the settings.

use std::io::{Read, Seek, SeekFrom};

use ring::digest;

use super::{MAX_MSH, MshError};
use crate::id::Hash384;

/// Longest settings that are looked for, in bytes.
pub const MAX_EMBEDDED: usize = MAX_MSH;

/// Longest script put behind an executable, in bytes. MeshCmd with its modules has about 1 MB.
pub const MAX_SCRIPT: usize = 8 << 20;

/// Marks settings at the end of a file.
const GUID: [u8; 16] =
    [0xb9, 0x96, 0x01, 0x58, 0x80, 0x54, 0x4a, 0x19, 0xb7, 0xf7, 0xe9, 0xbe, 0x44, 0x91, 0x4c, 0x19];
/// Marks JavaScript at the end of a file.
const SCRIPT_GUID: [u8; 16] =
    [0xb9, 0x96, 0x01, 0x58, 0x80, 0x54, 0x4a, 0x19, 0xb7, 0xf7, 0xe9, 0xbe, 0x44, 0x91, 0x4c, 0x18];
/// Length and GUID.
const TRAILER: usize = 20;

/// Where a Windows executable keeps what matters here; offsets are into the file.
#[derive(Debug, Clone, Copy)]
struct Pe {
    /// The checksum field, 4 bytes.
    checksum: u64,
    /// The entry of the certificate table: address[4] and size[4].
    directory: u64,
    table_address: u32,
    table_size: u32,
}

impl Pe {
    fn is_signed(&self) -> bool {
        self.table_address != 0 && self.table_size != 0
    }

    /// Reads the headers; none if it is not a Windows executable.
    fn find<R: Read + Seek>(file: &mut R, len: u64) -> Result<Option<Self>, MshError> {
        let Some(start) = read_at::<64, _>(file, 0, len)? else { return Ok(None) };
        if start[..2] != *b"MZ" {
            return Ok(None);
        }
        let header = u64::from(u32::from_le_bytes([start[60], start[61], start[62], start[63]]));
        if read_at::<4, _>(file, header, len)? != Some(*b"PE\0\0") {
            return Ok(None);
        }
        let optional = header + 24;
        let directory = match read_at::<2, _>(file, optional, len)?.map(u16::from_le_bytes) {
            Some(0x10b) => optional + 128,
            Some(0x20b) => optional + 144,
            _ => return Ok(None),
        };
        let Some(entry) = read_at::<8, _>(file, directory, len)? else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = entry;
        Ok(Some(Self {
            checksum: optional + 64,
            directory,
            table_address: u32::from_le_bytes([a, b, c, d]),
            table_size: u32::from_le_bytes([e, f, g, h]),
        }))
    }
}

/// `N` bytes at an offset; none if the file ends before.
fn read_at<const N: usize, R: Read + Seek>(
    file: &mut R,
    at: u64,
    len: u64,
) -> Result<Option<[u8; N]>, MshError> {
    if at.checked_add(N as u64).is_none_or(|end| end > len) {
        return Ok(None);
    }
    let mut out = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut out)?;
    Ok(Some(out))
}

/// Length of the settings at the end of the file, if there are any.
fn embedded_len<R: Read + Seek>(file: &mut R, len: u64) -> Result<Option<u64>, MshError> {
    let Some(at) = len.checked_sub(TRAILER as u64) else { return Ok(None) };
    let Some(trailer) = read_at::<TRAILER, _>(file, at, len)? else { return Ok(None) };
    let (size, guid) = trailer.split_first_chunk::<4>().expect("20 bytes");
    let size = u64::from(u32::from_be_bytes(*size));
    Ok((guid == GUID && size <= at && size <= MAX_EMBEDDED as u64).then_some(size))
}

/// The settings at the end of an executable; none if it has none.
pub fn extract<R: Read + Seek>(file: &mut R) -> Result<Option<String>, MshError> {
    let len = file.seek(SeekFrom::End(0))?;
    let Some(size) = embedded_len(file, len)? else { return Ok(None) };
    file.seek(SeekFrom::Start(len - TRAILER as u64 - size))?;
    let mut out = vec![0; size as usize];
    file.read_exact(&mut out)?;
    String::from_utf8(out)
        .map(Some)
        .map_err(|_| MshError::BadExecutable("the embedded settings are not UTF-8"))
}

/// What is put behind an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// Settings, at most [`MAX_EMBEDDED`] bytes; an agent writes them beside itself when it starts.
    Settings(&'a str),
    /// JavaScript that is run instead of the agent, at most [`MAX_SCRIPT`] bytes.
    Script(&'a str),
}

/// How an executable changes when something is put behind it: bytes up to `keep` stay, but for the patches,
/// and `tail` comes after them. So a copy can be sent without holding it in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// Bytes of the executable that stay.
    pub keep: u64,
    /// Offsets, in rising order, and what is there instead.
    pub patches: Vec<(u64, [u8; 4])>,
    /// What follows.
    pub tail: Vec<u8>,
}

/// Works out how an executable changes when it gets this at its end, instead of any settings it had.
pub fn embedding<R: Read + Seek>(file: &mut R, attachment: Attachment<'_>) -> Result<Embedding, MshError> {
    let (bytes, guid, most) = match attachment {
        Attachment::Settings(text) => (text.as_bytes(), &GUID, MAX_EMBEDDED),
        Attachment::Script(text) => (text.as_bytes(), &SCRIPT_GUID, MAX_SCRIPT),
    };
    if bytes.len() > most {
        return Err(MshError::TooLong(bytes.len()));
    }
    let len = file.seek(SeekFrom::End(0))?;
    let old = embedded_len(file, len)?;
    // Headers are of the executable; settings must not be able to complete them.
    let keep = len - old.map_or(0, |size| size + TRAILER as u64);
    let pe = Pe::find(file, keep)?.filter(Pe::is_signed);
    let block = [bytes, &(bytes.len() as u32).to_be_bytes(), guid].concat();
    let Some(pe) = pe else {
        return Ok(Embedding { keep, patches: Vec::new(), tail: block });
    };
    if old.is_some() {
        return Err(MshError::BadExecutable("it is signed and carries settings already"));
    }
    let table = u64::from(pe.table_address);
    if table + u64::from(pe.table_size) != len {
        return Err(MshError::BadExecutable("its signature is not at its end"));
    }
    // The entry in the directory and the first certificate both say how long the table is.
    let directory = pe.directory + 4;
    let certificate = read_at::<4, _>(file, table, len)?.map(u32::from_le_bytes);
    let certificate = certificate.ok_or(MshError::BadExecutable("its signature is cut off"))?;
    let padding = (8 - (certificate as usize + block.len()) % 8) % 8;
    let extra = (padding + block.len()) as u32;
    let grown =
        |size: u32| size.checked_add(extra).ok_or(MshError::BadExecutable("its signature is too long"));
    if directory + 4 > table || certificate > pe.table_size {
        return Err(MshError::BadExecutable("its headers contradict each other"));
    }
    Ok(Embedding {
        keep,
        patches: vec![
            (directory, grown(pe.table_size)?.to_le_bytes()),
            (table, grown(certificate)?.to_le_bytes()),
        ],
        tail: [&[0; 8][..padding], &block].concat(),
    })
}

impl Embedding {
    /// Length of the changed executable, in bytes.
    pub fn size(&self) -> u64 {
        self.keep + self.tail.len() as u64
    }

    /// Applies the patches to a part of the executable that begins at `offset`.
    pub fn patch(&self, offset: u64, part: &mut [u8]) {
        for (at, bytes) in &self.patches {
            for (at, byte) in (*at..).zip(bytes) {
                let inside = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(place) = inside.and_then(|at| part.get_mut(at)) {
                    *place = *byte;
                }
            }
        }
    }
}

/// The executable with these settings at its end, instead of any it had.
pub fn embed(binary: &[u8], msh: &str) -> Result<Vec<u8>, MshError> {
    let embedding = embedding(&mut std::io::Cursor::new(binary), Attachment::Settings(msh))?;
    let mut out = binary[..embedding.keep as usize].to_vec();
    embedding.patch(0, &mut out);
    out.extend(&embedding.tail);
    Ok(out)
}

/// The hash that names an executable whatever settings it carries and however it is signed: for Windows, of
/// everything before the certificate table, with the checksum and the table's entry as zeros.
pub fn executable_hash<R: Read + Seek>(file: &mut R) -> Result<Hash384, MshError> {
    let len = file.seek(SeekFrom::End(0))?;
    let body = len - embedded_len(file, len)?.map_or(0, |size| size + TRAILER as u64);
    let pe = Pe::find(file, body)?;
    let end = match &pe {
        Some(pe) if pe.is_signed() => u64::from(pe.table_address).min(body),
        _ => body,
    };
    let zeros = pe.map_or([(0, 0); 2], |pe| [(pe.checksum, 4), (pe.directory, 8)]);

    file.seek(SeekFrom::Start(0))?;
    let mut context = digest::Context::new(&digest::SHA384);
    let mut buffer = vec![0; 65_536];
    let mut at = 0;
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let chunk = &mut buffer[..want];
        file.read_exact(chunk)?;
        for (from, count) in zeros {
            for offset in from..from + count {
                if let Some(byte) =
                    offset.checked_sub(at).and_then(|i| chunk.get_mut(usize::try_from(i).ok()?))
                {
                    *byte = 0;
                }
            }
        }
        context.update(chunk);
        at += want as u64;
    }
    Ok(Hash384::try_from(context.finish().as_ref()).expect("SHA-384 has 48 bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const MSH: &str = "\r\nMeshName=Büro\r\nMeshServer=local\r\n";

    fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..at.checked_add(4)?)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn elf() -> Vec<u8> {
        [b"\x7fELF\x02\x01\x01", &[0x90; 70_000][..]].concat()
    }

    /// A Windows executable as far as its headers go, optionally with a certificate table at its end.
    fn pe(magic: u16, certificate: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![0xcc; 1024];
        out[..2].copy_from_slice(b"MZ");
        out[60..64].copy_from_slice(&128_u32.to_le_bytes());
        out[128..132].copy_from_slice(b"PE\0\0");
        out[152..154].copy_from_slice(&magic.to_le_bytes());
        let directory = 152 + if magic == 0x10b { 128 } else { 144 };
        out[directory..directory + 8].fill(0);
        if let Some(body) = certificate {
            let size = (8 + body.len()) as u32;
            out[directory..directory + 4].copy_from_slice(&1024_u32.to_le_bytes());
            out[directory + 4..directory + 8].copy_from_slice(&size.to_le_bytes());
            out.extend(size.to_le_bytes());
            out.extend([0, 2, 2, 0]);
            out.extend(body);
        }
        out
    }

    fn hash(file: &[u8]) -> Hash384 {
        executable_hash(&mut Cursor::new(file)).unwrap()
    }

    fn settings(file: &[u8]) -> Option<String> {
        extract(&mut Cursor::new(file)).unwrap()
    }

    #[test]
    fn settings_at_the_end_of_an_elf() {
        let plain = elf();
        let full = embed(&plain, MSH).unwrap();
        assert_eq!(full.len(), plain.len() + MSH.len() + 20);
        assert_eq!(full[..plain.len()], plain);
        let length = (MSH.len() as u32).to_be_bytes();
        assert_eq!(full[full.len() - 20..full.len() - 16], length);
        assert_eq!(settings(&full).as_deref(), Some(MSH));
        assert_eq!(settings(&plain), None);
        assert_eq!(hash(&full), hash(&plain));
        assert_eq!(hash(&plain), Hash384::of(&plain));
        let changed = embed(&full, "other").unwrap();
        assert_eq!(changed, embed(&plain, "other").unwrap(), "old settings are replaced");
    }

    #[test]
    fn settings_inside_the_signature_of_a_pe() {
        for magic in [0x10b, 0x20b] {
            let directory = 152 + if magic == 0x10b { 132 } else { 148 };
            for body in 0..9 {
                let signed = pe(magic, Some(&vec![7; 100 + body]));
                let full = embed(&signed, MSH).unwrap();
                let table = le_u32(&full, directory).unwrap() as usize;
                assert_eq!(1024 + table, full.len(), "the table still ends with the file");
                assert_eq!(le_u32(&full, 1024).unwrap() as usize, table);
                assert_eq!(table % 8, 0);
                assert_eq!(settings(&full).as_deref(), Some(MSH));
                assert_eq!(hash(&full), hash(&signed));
                // Only the two lengths changed.
                let mut same = full[..signed.len()].to_vec();
                same[directory..directory + 4].copy_from_slice(&signed[directory..directory + 4]);
                same[1024..1028].copy_from_slice(&signed[1024..1028]);
                assert_eq!(same, signed);
                assert!(matches!(embed(&full, MSH), Err(MshError::BadExecutable(_))));
            }
            let plain = pe(magic, None);
            let full = embed(&plain, MSH).unwrap();
            assert_eq!(full[..plain.len()], plain);
            assert_eq!(settings(&full).as_deref(), Some(MSH));
            assert_eq!(hash(&full), hash(&plain));
        }
    }

    #[test]
    fn a_script_is_put_behind_in_parts() {
        let signed = pe(0x20b, Some(&[7; 104]));
        for file in [elf(), pe(0x10b, None), signed] {
            let plan = embedding(&mut Cursor::new(&file), Attachment::Script("run();")).unwrap();
            assert_eq!(plan.size(), plan.keep + plan.tail.len() as u64);
            let mut whole = file.clone();
            plan.patch(0, &mut whole);
            for size in [1, 3, 7, 1000] {
                let mut parts = Vec::new();
                for (at, chunk) in file.chunks(size).enumerate() {
                    let mut chunk = chunk.to_vec();
                    plan.patch((at * size) as u64, &mut chunk);
                    parts.extend(chunk);
                }
                assert_eq!(parts, whole);
            }
            whole.extend(&plan.tail);
            assert_eq!(whole[whole.len() - 16..], SCRIPT_GUID);
            assert_eq!(settings(&whole), None);
        }
        assert!(matches!(
            embedding(&mut Cursor::new(&elf()), Attachment::Script(&" ".repeat(MAX_SCRIPT + 1))),
            Err(MshError::TooLong(_))
        ));
    }

    #[test]
    fn the_hash_of_a_pe_leaves_out_what_signing_changes() {
        let plain = pe(0x20b, None);
        let mut signed = pe(0x20b, Some(&[7; 104]));
        signed[152 + 64..152 + 68].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(hash(&signed), hash(&plain));
        let mut zeroed = plain.clone();
        zeroed[152 + 64..152 + 68].fill(0);
        assert_eq!(hash(&plain), Hash384::of(&zeroed));
        let mut other = plain;
        other[500] ^= 1;
        assert_ne!(hash(&signed), hash(&other));
    }

    #[test]
    fn contradictions_are_refused() {
        let mut trailing = pe(0x20b, Some(&[7; 104]));
        trailing.push(0);
        assert!(matches!(embed(&trailing, MSH), Err(MshError::BadExecutable(_))));
        let mut lying = elf();
        lying.extend(u32::MAX.to_be_bytes());
        lying.extend(GUID);
        assert_eq!(settings(&lying), None);
        let mut binary = elf();
        binary.extend([0xff, 0xff]);
        binary.extend(2_u32.to_be_bytes());
        binary.extend(GUID);
        assert!(extract(&mut Cursor::new(&binary)).is_err());
        for short in 0..pe(0x20b, None).len() {
            let cut = &pe(0x20b, None)[..short];
            assert_eq!(settings(cut), None);
            hash(cut);
            embed(cut, MSH).unwrap();
        }
        assert!(matches!(embed(b"", &"x".repeat(MAX_EMBEDDED + 1)), Err(MshError::TooLong(_))));
    }
}
