//! Recordings of sessions, `.mcrec` files (tunnel-protocols §9): blocks with a head of 16 bytes each, everything
//! big endian; first what the session was, then its messages, then an end.

mod index;
mod picture;

pub use index::{Index, IndexBuilder, IndexEntry};
pub use picture::{PictureSize, SIZE_WITHIN};

/// Bytes of a block's head.
pub const HEAD: usize = 16;
/// Bytes of the end of a file: a head and one of the two closing words.
pub const ENDING: usize = 32;
/// Names the kind of file, in the first block.
pub const MAGIC: &str = "MeshCentralRelaySession";
/// Closes a file without an index.
const PLAIN: &[u8; 16] = b"MeshCentralMCREC";
/// Closes a file with an index.
const INDEXED: &[u8; 16] = b"MeshCentralMCNDX";
/// Largest first block that is read; ours have some 400 bytes, a device's name being the longest part.
pub const LARGEST_ABOUT: u32 = 16 << 10;
/// The time field has 48 bits.
const LATEST: u64 = (1 << 48) - 1;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// What the session was, as JSON.
    About,
    /// A message.
    Message {
        /// Binary, not text.
        binary: bool,
        /// From the viewer, not from the device.
        from_viewer: bool,
    },
    /// The end.
    End,
    /// The index, as JSON.
    Index,
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead {
    /// What it is.
    pub kind: BlockKind,
    /// Bytes that follow.
    pub size: u32,
    /// Unix ms; of the end of an indexed file, where its index begins.
    pub time: u64,
}

impl BlockHead {
    /// Reads a head. None when it is of no known kind.
    pub fn parse(bytes: &[u8; HEAD]) -> Option<BlockHead> {
        let [k0, k1, f0, f1, s0, s1, s2, s3, time @ ..] = *bytes;
        let flags = u16::from_be_bytes([f0, f1]);
        let kind = match u16::from_be_bytes([k0, k1]) {
            1 => BlockKind::About,
            2 => BlockKind::Message { binary: flags & 1 != 0, from_viewer: flags & 2 != 0 },
            3 => BlockKind::End,
            4 => BlockKind::Index,
            _ => return None,
        };
        let time = u64::from_be_bytes(time) & LATEST;
        Some(BlockHead { kind, size: u32::from_be_bytes([s0, s1, s2, s3]), time })
    }

    /// The head's bytes.
    pub fn bytes(&self) -> [u8; HEAD] {
        let (kind, flags) = match self.kind {
            BlockKind::About => (1u16, 0u16),
            BlockKind::Message { binary, from_viewer } => {
                (2, u16::from(binary) | u16::from(from_viewer) << 1)
            }
            BlockKind::End => (3, 0),
            BlockKind::Index => (4, 0),
        };
        let mut bytes = [0; HEAD];
        bytes[0..2].copy_from_slice(&kind.to_be_bytes());
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.time.min(LATEST).to_be_bytes());
        bytes
    }
}

/// The last block of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Without an index: when the session ended, Unix ms.
    Plain(u64),
    /// With one: the place of its block, which has the time.
    Indexed(u64),
}

impl Ending {
    /// Reads the last bytes of a file. None when the file was not finished, or damaged.
    pub fn parse(bytes: &[u8; ENDING]) -> Option<Ending> {
        let (head, word) = bytes.split_first_chunk::<HEAD>()?;
        let head = BlockHead::parse(head).filter(|head| head.kind == BlockKind::End && head.size == 16)?;
        match word {
            word if word == PLAIN => Some(Ending::Plain(head.time)),
            word if word == INDEXED => Some(Ending::Indexed(head.time)),
            _ => None,
        }
    }

    /// The last bytes of a file.
    pub fn bytes(&self) -> [u8; ENDING] {
        let (time, word) = match self {
            Ending::Plain(time) => (*time, PLAIN),
            Ending::Indexed(place) => (*place, INDEXED),
        };
        let mut bytes = [0; ENDING];
        bytes[..HEAD].copy_from_slice(&BlockHead { kind: BlockKind::End, size: 16, time }.bytes());
        bytes[HEAD..].copy_from_slice(word);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn ends_are_those_that_were_captured() {
        let plain = Ending::Plain(0x01A2_0967_9887);
        assert_eq!(hex(&plain.bytes()[..HEAD]), "0003000000000010000001A209679887");
        assert_eq!(&plain.bytes()[HEAD..], b"MeshCentralMCREC");
        let indexed = Ending::Indexed(0x27EC7);
        assert_eq!(hex(&indexed.bytes()[..HEAD]), "00030000000000100000000000027EC7");
        for ending in [plain, indexed] {
            assert_eq!(Ending::parse(&ending.bytes()), Some(ending));
        }
        let mut torn = plain.bytes();
        torn[31] = b'X';
        assert_eq!(Ending::parse(&torn), None);
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for binary in [false, true] {
            for from_viewer in [false, true] {
                let head = BlockHead {
                    kind: BlockKind::Message { binary, from_viewer },
                    size: 70_000,
                    time: 1_795_454_075_310,
                };
                assert_eq!(BlockHead::parse(&head.bytes()), Some(head));
            }
        }
        assert_eq!(BlockHead::parse(&[9; HEAD]), None);
    }
}
