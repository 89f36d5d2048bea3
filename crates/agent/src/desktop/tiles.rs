//! The picture of a screen, and which parts of it a viewer has not seen yet.

/// Width and height of a tile, in pixels.
pub const TILE: usize = 32;
/// Bytes of a pixel: blue, green, red, nothing.
pub const PIXEL: usize = 4;
/// Largest region sent as one picture: progress on slow links, and bounded memory on small devices.
const LARGEST: (usize, usize) = (1024, 512);

/// A part of a screen, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

impl Rect {
    /// What two have in common; `None` when nothing.
    pub fn intersection(&self, other: &Rect) -> Option<Rect> {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let right = (self.x + self.width).min(other.x + other.width);
        let bottom = (self.y + self.height).min(other.y + other.height);
        (right > x && bottom > y).then(|| Rect { x, y, width: right - x, height: bottom - y })
    }
}

/// The pixels of a screen in tiles, each with the number of the change that it saw last.
#[derive(Debug)]
pub struct Framebuffer {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    versions: Vec<u64>,
    version: u64,
}

/// What a viewer has seen: the version of each tile.
#[derive(Debug, Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    /// Forgets everything: all is to be sent again.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl Framebuffer {
    /// A black screen of this size.
    pub fn new(width: usize, height: usize) -> Framebuffer {
        let tiles = width.div_ceil(TILE) * height.div_ceil(TILE);
        Framebuffer {
            width,
            height,
            pixels: vec![0; width * height * PIXEL],
            versions: vec![1; tiles],
            version: 1,
        }
    }

    /// All of it.
    pub fn bounds(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    fn columns(&self) -> usize {
        self.width.div_ceil(TILE)
    }

    /// Takes new pixels of a part, row by row without gaps; tiles that look as before stay as they are. Returns
    /// whether anything changed.
    pub fn update(&mut self, part: Rect, source: &[u8]) -> bool {
        let columns = self.columns();
        let next = self.version + 1;
        let mut changed = false;
        for row in 0..part.height {
            let y = part.y + row;
            let new = &source[row * part.width * PIXEL..][..part.width * PIXEL];
            let at = (y * self.width + part.x) * PIXEL;
            let old = &mut self.pixels[at..at + new.len()];
            if old == new {
                continue;
            }
            // Only the tiles whose pixels differ in this row are new.
            let mut x = part.x;
            while x < part.x + part.width {
                let end = ((x / TILE + 1) * TILE).min(part.x + part.width);
                let span = (x - part.x) * PIXEL..(end - part.x) * PIXEL;
                if old[span.clone()] != new[span] {
                    self.versions[y / TILE * columns + x / TILE] = next;
                    changed = true;
                }
                x = end;
            }
            old.copy_from_slice(new);
        }
        if changed {
            self.version = next;
        }
        changed
    }

    /// Whether a part looks otherwise than `source`, which has its pixels row by row without gaps.
    pub fn differs(&self, part: Rect, source: &[u8]) -> bool {
        (0..part.height).any(|row| {
            let at = ((part.y + row) * self.width + part.x) * PIXEL;
            self.pixels[at..at + part.width * PIXEL]
                != source[row * part.width * PIXEL..][..part.width * PIXEL]
        })
    }

    /// The parts of `view` that are newer than what was seen, as few rectangles as neighbouring tiles make;
    /// they count as seen then.
    pub fn unseen(&self, seen: &mut Seen, view: Rect) -> Vec<Rect> {
        seen.0.resize(self.versions.len(), 0);
        let columns = self.columns();
        let (left, top) = (view.x / TILE, view.y / TILE);
        let right = (view.x + view.width).div_ceil(TILE).min(columns);
        let bottom = (view.y + view.height).div_ceil(TILE).min(self.height.div_ceil(TILE));
        let is_new =
            |seen: &Seen, x: usize, y: usize| self.versions[y * columns + x] > seen.0[y * columns + x];
        let mut parts = Vec::new();
        for y in top..bottom {
            for x in left..right {
                if !is_new(seen, x, y) {
                    continue;
                }
                let mut end = x + 1;
                while end < right && (end - x) * TILE < LARGEST.0 && is_new(seen, end, y) {
                    end += 1;
                }
                let mut below = y + 1;
                while below < bottom
                    && (below - y) * TILE < LARGEST.1
                    && (x..end).all(|x| is_new(seen, x, below))
                {
                    below += 1;
                }
                for row in y..below {
                    let tiles = row * columns + x..row * columns + end;
                    seen.0[tiles.clone()].copy_from_slice(&self.versions[tiles]);
                }
                let tiles =
                    Rect { x: x * TILE, y: y * TILE, width: (end - x) * TILE, height: (below - y) * TILE };
                parts.extend(tiles.intersection(&view).and_then(|part| part.intersection(&self.bounds())));
            }
        }
        parts
    }

    /// The pixels of a part, without gaps.
    pub fn copy(&self, part: Rect) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(part.width * part.height * PIXEL);
        for y in part.y..part.y + part.height {
            let at = (y * self.width + part.x) * PIXEL;
            pixels.extend_from_slice(&self.pixels[at..at + part.width * PIXEL]);
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect { x, y, width, height }
    }

    fn area(parts: &[Rect]) -> usize {
        parts.iter().map(|part| part.width * part.height).sum()
    }

    #[test]
    fn a_newcomer_sees_all_and_then_only_what_changes() {
        let mut screen = Framebuffer::new(100, 70);
        let mut seen = Seen::default();
        let all = screen.bounds();
        assert_eq!(screen.unseen(&mut seen, all), [rect(0, 0, 100, 70)]);
        assert_eq!(screen.unseen(&mut seen, all), []);
        // One pixel: its tile, cut at the edge of the screen.
        assert!(screen.update(rect(99, 69, 1, 1), &[1, 2, 3, 0]));
        assert_eq!(screen.unseen(&mut seen, all), [rect(96, 64, 4, 6)]);
        assert!(!screen.update(rect(99, 69, 1, 1), &[1, 2, 3, 0]), "as before");
        assert_eq!(screen.unseen(&mut seen, all), []);
        assert_eq!(screen.copy(rect(99, 69, 1, 1)), [1, 2, 3, 0]);
        seen.forget();
        assert_eq!(area(&screen.unseen(&mut seen, all)), 7000);
    }

    #[test]
    fn viewers_see_at_their_own_pace() {
        let mut screen = Framebuffer::new(64, 32);
        let (mut fast, mut slow) = (Seen::default(), Seen::default());
        let all = screen.bounds();
        screen.unseen(&mut fast, all);
        screen.unseen(&mut slow, all);
        screen.update(rect(0, 0, 1, 1), &[1; 4]);
        assert_eq!(screen.unseen(&mut fast, all), [rect(0, 0, 32, 32)]);
        screen.update(rect(40, 0, 1, 1), &[1; 4]);
        assert_eq!(screen.unseen(&mut fast, all), [rect(32, 0, 32, 32)]);
        assert_eq!(screen.unseen(&mut slow, all), [rect(0, 0, 64, 32)], "both at once");
    }

    #[test]
    fn regions_cover_what_changed_and_are_bounded() {
        let mut screen = Framebuffer::new(2048, 1100);
        let mut seen = Seen::default();
        let all = screen.bounds();
        let first = screen.unseen(&mut seen, all);
        assert_eq!(area(&first), 2048 * 1100);
        assert!(first.iter().all(|part| part.width <= 1024 && part.height <= 512));
        // An L of tiles: two rectangles, without overlap.
        screen.update(rect(0, 0, 32, 96), &vec![9; 32 * 96 * 4]);
        screen.update(rect(32, 64, 64, 32), &vec![9; 64 * 32 * 4]);
        let parts = screen.unseen(&mut seen, all);
        assert_eq!(area(&parts), 32 * 96 + 64 * 32);
        // A viewer of one display is told of that one only.
        seen.forget();
        let view = rect(1000, 40, 50, 50);
        let parts = screen.unseen(&mut seen, view);
        assert_eq!(area(&parts), 2500);
        assert!(parts.iter().all(|part| part.intersection(&view) == Some(*part)));
    }
}
