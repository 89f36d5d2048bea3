//! The index of a desktop recording: for every ten seconds, which pictures make up the screen.

use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::picture::PictureSize;

/// Cells that a screen is divided into have so many pixels a side, at least.
const CELL: u32 = 16;
/// Most cells: those of a screen of 3840 × 2160 pixels fit in; larger ones, which a device may claim at will, have larger cells.
const MOST_CELLS: u32 = 1 << 15;
/// Time between two entries at first, in seconds: what MeshCentral's player and its own index use.
const INTERVAL: u64 = 10;
/// Most places of pictures in an index, some 4 MB of text; beyond it every second entry goes.
const MOST_PLACES: usize = 500_000;
/// Most pictures that lie over each other in one cell without one that covers it; beyond it the oldest goes.
const MOST_IN_CELL: usize = 16;
/// Command numbers of a desktop (tunnel-protocols §4.4).
const PICTURE: u16 = 3;
const SCREEN: u16 = 7;
const JUMBO: u16 = 27;

/// What a player needs to show the screen at one moment. Places count from the first message's block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<u64>")]
pub struct IndexEntry {
    /// The block to go on from.
    pub next: u64,
    /// Width of the screen, in pixels.
    pub width: u64,
    /// Height of the screen.
    pub height: u64,
    /// The blocks of the pictures on it, oldest first.
    pub pictures: Vec<u64>,
}

impl Serialize for IndexEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(3 + self.pictures.len()))?;
        for number in [self.next, self.width, self.height].iter().chain(&self.pictures) {
            list.serialize_element(number)?;
        }
        list.end()
    }
}

impl From<Vec<u64>> for IndexEntry {
    fn from(numbers: Vec<u64>) -> IndexEntry {
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().unwrap_or(0);
        IndexEntry { next: next(), width: next(), height: next(), pictures: numbers.collect() }
    }
}

/// An index, as its block has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Seconds between two entries; the first is of this many seconds after the start.
    pub index_interval: u64,
    /// When the first message came, Unix ms.
    pub index_start_time: u64,
    /// The entries.
    pub indexes: Vec<IndexEntry>,
}

/// Follows a recording's messages from the device and makes its index.
#[derive(Debug)]
pub struct IndexBuilder {
    started: Option<(u64, u64)>,
    interval: u64,
    entries: Vec<IndexEntry>,
    places: usize,
    screen: Screen,
}

/// Which pictures each cell shows.
#[derive(Debug, Default)]
struct Screen {
    width: u32,
    height: u32,
    /// Pixels a side of a cell.
    side: u32,
    columns: u32,
    cells: Vec<Vec<u64>>,
}

impl Default for IndexBuilder {
    fn default() -> IndexBuilder {
        let screen = Screen::default();
        IndexBuilder { started: None, interval: INTERVAL, entries: Vec::new(), places: 0, screen }
    }
}

impl IndexBuilder {
    /// Takes the next message: where its block is, when it came, and, for a binary one from the device, its
    /// length and the first bytes (of a picture [`super::SIZE_WITHIN`] and the head).
    pub fn message(&mut self, place: u64, time: u64, from_device: Option<(u64, &[u8])>) {
        let (base, start) = *self.started.get_or_insert((place, time));
        let elapsed = time.saturating_sub(start);
        while elapsed > (self.entries.len() as u64 + 1) * self.interval * 1000 {
            // A clock that jumps far ahead must not fill the memory with entries of nothing.
            if self.places > MOST_PLACES {
                self.thin_out();
                continue;
            }
            let entry = self.screen.entry(place - base);
            self.places += entry.pictures.len() + 3;
            self.entries.push(entry);
        }
        if let Some((length, bytes)) = from_device {
            self.screen.command(place - base, length, bytes);
        }
    }

    fn thin_out(&mut self) {
        let mut n = 0;
        self.entries.retain(|_| {
            n += 1;
            n % 2 == 0
        });
        self.places = self.entries.iter().map(|entry| entry.pictures.len() + 3).sum();
        self.interval *= 2;
    }

    /// The index; None when there was no message.
    pub fn finish(self) -> Option<Index> {
        let (_, start) = self.started?;
        Some(Index { index_interval: self.interval, index_start_time: start, indexes: self.entries })
    }
}

impl Screen {
    fn entry(&self, next: u64) -> IndexEntry {
        let mut pictures: Vec<u64> = self.cells.iter().flatten().copied().collect();
        pictures.sort_unstable();
        pictures.dedup();
        IndexEntry { next, width: self.width.into(), height: self.height.into(), pictures }
    }

    fn command(&mut self, place: u64, length: u64, bytes: &[u8]) {
        let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let Some(command) = number(0) else { return };
        if command == JUMBO {
            // Part of one in several messages cannot be drawn by itself.
            let whole = bytes.get(4..8).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
            if whole.is_some_and(|size| u64::from(size) + 8 == length) && number(8) != Some(JUMBO) {
                self.command(place, length - 8, &bytes[8..]);
            }
            return;
        }
        let (Some(a), Some(b)) = (number(4), number(6)) else { return };
        match command {
            SCREEN => self.resize(a, b),
            PICTURE => {
                if let Some(size) = bytes.get(8..).and_then(PictureSize::of) {
                    self.draw(place, u32::from(a), u32::from(b), size);
                }
            }
            _ => {}
        }
    }

    fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width.into(), height.into());
        self.side = CELL;
        let cells = loop {
            self.columns = self.width.div_ceil(self.side);
            let cells = self.columns * self.height.div_ceil(self.side);
            if cells <= MOST_CELLS {
                break cells;
            }
            self.side *= 2;
        };
        self.cells = vec![Vec::new(); cells as usize];
    }

    fn draw(&mut self, place: u64, x: u32, y: u32, size: PictureSize) {
        if self.cells.is_empty() {
            return;
        }
        let side = self.side;
        let right = x.saturating_add(size.width).min(self.width);
        let bottom = y.saturating_add(size.height).min(self.height);
        for row in y / side..bottom.div_ceil(side) {
            for column in x / side..right.div_ceil(side) {
                let (left, top) = (column * side, row * side);
                let covers = x <= left
                    && y <= top
                    && right >= (left + side).min(self.width)
                    && bottom >= (top + side).min(self.height);
                let Some(cell) = self.cells.get_mut((row * self.columns + column) as usize) else { continue };
                if covers {
                    cell.clear();
                } else if cell.len() == MOST_IN_CELL {
                    cell.remove(0);
                }
                cell.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(x: u16, y: u16, width: u32, height: u32) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        let mut frame = vec![0, 3, 0, 0];
        frame.extend(x.to_be_bytes());
        frame.extend(y.to_be_bytes());
        frame.extend(png);
        frame
    }

    #[test]
    fn an_entry_has_the_pictures_that_can_still_be_seen() {
        let mut builder = IndexBuilder::default();
        let mut place = 500;
        let mut say = |time: u64, bytes: &[u8]| {
            builder.message(place, time, Some((bytes.len() as u64, bytes)));
            place += 100;
        };
        say(1000, &[0, 7, 0, 8, 0, 64, 0, 40]);
        say(1100, &picture(0, 0, 64, 40));
        say(1200, &picture(0, 0, 32, 40));
        say(1300, &picture(4, 4, 8, 8));
        // The first half again: what lay under it is gone.
        say(12_000, &picture(0, 0, 32, 40));
        say(22_000, &[0, 88, 0, 5, 0]);
        let index = builder.finish().unwrap();
        assert_eq!((index.index_interval, index.index_start_time), (10, 1000));
        let entry =
            |next, pictures: &[u64]| IndexEntry { next, width: 64, height: 40, pictures: pictures.to_vec() };
        assert_eq!(index.indexes, [entry(400, &[100, 200, 300]), entry(500, &[100, 400])]);
        let json = serde_json::to_string(&index).unwrap();
        assert_eq!(
            json,
            r#"{"indexInterval":10,"indexStartTime":1000,"indexes":[[400,64,40,100,200,300],[500,64,40,100,400]]}"#
        );
        assert_eq!(serde_json::from_str::<Index>(&json).unwrap(), index);
    }

    #[test]
    fn a_screen_of_any_size_has_cells_that_can_be_afforded() {
        let mut screen = Screen::default();
        // Before a screen has a size there is none to draw on.
        screen.command(0, 32, &picture(0, 0, 64, 40));
        assert!(screen.entry(1).pictures.is_empty());
        for (width, height, side) in [(3840, 2160, 16), (11520, 2160, 32), (u16::MAX, u16::MAX, 512)] {
            screen.resize(width, height);
            assert_eq!(screen.side, side);
            assert!(screen.cells.len() <= MOST_CELLS as usize);
            screen.command(7, 32, &picture(0, 0, 64, 40));
            screen.command(8, 32, &picture(0, 0, width.into(), height.into()));
            screen.command(9, 32, &picture(width - 1, height - 1, 8, 8));
            assert_eq!(screen.entry(1).pictures, [8, 9]);
        }
    }

    #[test]
    fn a_jumbo_is_a_picture_and_a_clock_that_jumps_does_no_harm() {
        let mut builder = IndexBuilder::default();
        let inner = picture(0, 0, 64, 64);
        let mut jumbo = vec![0, 27, 0, 8];
        jumbo.extend((inner.len() as u32).to_be_bytes());
        jumbo.extend(inner);
        builder.message(0, 0, Some((8, &[0, 7, 0, 8, 0, 64, 0, 64])));
        builder.message(10, 0, Some((jumbo.len() as u64, &jumbo)));
        builder.message(20, u64::MAX >> 16, None);
        let index = builder.finish().unwrap();
        assert!(index.indexes.len() <= MOST_PLACES, "{}", index.indexes.len());
        assert_eq!(index.indexes[0].pictures, [10]);
    }
}
