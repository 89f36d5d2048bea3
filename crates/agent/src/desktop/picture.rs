//! Pictures of parts of a screen: made smaller where a viewer asks, and compressed.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::tiles::{PIXEL, Rect};

/// What scaling counts as full size (tunnel-protocols §4.3).
pub const FULL: u16 = 1024;

/// Where a length lands on a canvas that is scaled.
pub fn scaled(length: usize, scaling: u16) -> usize {
    length * usize::from(scaling) / usize::from(FULL)
}

/// A part of a scaled canvas as a JPEG picture, `None` when nothing of it is left.
///
/// `pixels` are those of `part` without gaps; the picture covers `scaled_part` of the canvas.
pub fn jpeg(pixels: &[u8], part: Rect, scaling: u16, quality: u8) -> Option<(Rect, Vec<u8>)> {
    let target = scaled_part(part, scaling)?;
    let shrunk;
    let pixels = if scaling == FULL {
        pixels
    } else {
        shrunk = resize(pixels, part, target, scaling);
        &shrunk
    };
    let mut image = Vec::with_capacity(target.width * target.height / 4);
    let mut encoder = Encoder::new(&mut image, quality.clamp(1, 100));
    // Text stays legible at high quality; below, colour at half size saves a third.
    encoder.set_sampling_factor(if quality >= 80 { SamplingFactor::F_1_1 } else { SamplingFactor::F_2_2 });
    let (width, height) = (u16::try_from(target.width).ok()?, u16::try_from(target.height).ok()?);
    encoder.encode(pixels, width, height, ColorType::Bgra).ok()?;
    Some((target, image))
}

/// Where a part lands on a scaled canvas. Edges are rounded the same way for neighbours, so that there are
/// neither gaps nor seams.
pub fn scaled_part(part: Rect, scaling: u16) -> Option<Rect> {
    let (x, y) = (scaled(part.x, scaling), scaled(part.y, scaling));
    let (right, bottom) = (scaled(part.x + part.width, scaling), scaled(part.y + part.height, scaling));
    (right > x && bottom > y).then(|| Rect { x, y, width: right - x, height: bottom - y })
}

/// Each pixel of the target is the mean of those it stands for, or the nearest one when it grows.
fn resize(pixels: &[u8], part: Rect, target: Rect, scaling: u16) -> Vec<u8> {
    let source = |at: usize, offset: usize, length: usize| {
        let full = usize::from(FULL);
        let scaling = usize::from(scaling);
        let from = (at * full / scaling).clamp(offset, offset + length - 1) - offset;
        let to = ((at + 1) * full).div_ceil(scaling).clamp(offset + from + 1, offset + length) - offset;
        from..to
    };
    let columns: Vec<_> =
        (target.x..target.x + target.width).map(|x| source(x, part.x, part.width)).collect();
    let mut out = Vec::with_capacity(target.width * target.height * PIXEL);
    for y in target.y..target.y + target.height {
        let rows = source(y, part.y, part.height);
        for columns in &columns {
            let mut sums = [0usize; 3];
            for row in rows.clone() {
                for column in columns.clone() {
                    let at = (row * part.width + column) * PIXEL;
                    for (sum, value) in sums.iter_mut().zip(&pixels[at..at + 3]) {
                        *sum += usize::from(*value);
                    }
                }
            }
            let count = rows.len() * columns.len();
            out.extend(sums.map(|sum| (sum / count) as u8));
            out.push(0xFF);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn pictures_are_jpegs_of_the_right_size() {
        let part = rect(64, 32, 40, 20);
        let pixels = [10, 20, 200, 0].repeat(800);
        let (target, image) = jpeg(&pixels, part, FULL, 50).expect("a picture");
        assert_eq!(target, part);
        assert_eq!(image[..3], [0xFF, 0xD8, 0xFF]);
        let (target, small) = jpeg(&pixels, part, 512, 50).expect("a picture");
        assert_eq!(target, rect(32, 16, 20, 10));
        assert!(small.len() <= image.len());
        assert_eq!(jpeg(&[1, 2, 3, 0], rect(1, 1, 1, 1), 64, 50), None, "nothing left of one pixel");
        assert!(jpeg(&pixels, part, 2048, 50).is_some());
    }

    #[test]
    fn scaled_neighbours_meet_without_gap_or_seam() {
        for scaling in [64, 100, 333, 512, 768, 896, 1024, 1500, 4096] {
            let mut right = 0;
            for tile in 0..40 {
                if let Some(part) = scaled_part(rect(tile * 32, 0, 32, 32), scaling) {
                    assert_eq!(part.x, right, "scaling {scaling}");
                    right = part.x + part.width;
                }
            }
            assert_eq!(right, scaled(40 * 32, scaling));
        }
    }

    #[test]
    fn shrinking_takes_the_mean() {
        let pixels = [[0, 0, 0, 0], [100, 200, 50, 0], [0, 0, 0, 0], [100, 200, 50, 0]].concat();
        assert_eq!(resize(&pixels, rect(0, 0, 2, 2), rect(0, 0, 1, 1), 512), [50, 100, 25, 255]);
    }
}
