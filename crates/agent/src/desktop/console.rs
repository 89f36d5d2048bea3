//! Following what the graphics hardware puts out, whoever draws it. The kernel tells of no change of a picture, so it
//! is looked at, the less often the longer nothing happens, and each time only a few of its rows are compared unless
//! they differ.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::display::DisplayError;
use super::drm::{self, Buffer, BufferError, Card, Output, Overlay};
use super::fbdev::{self, FramebufferDevice};
use super::format;
use super::screen::{LARGEST, Lost, Screen, Source, Watch};
use super::tiles::{PIXEL, Rect, TILE};
use super::virtual_terminal;

/// A change that is one row high is seen after this many looks, one of a line of text at once: the rows compared
/// are as far apart. In this order.
const PHASES: [usize; 8] = [0, 4, 2, 6, 1, 5, 3, 7];
/// How it is looked at once nothing has changed for so long: not more often than this, and with so many times as long
/// between two looks as one takes. Memory of graphics cards may be slow to read, and watching a still screen is to cost
/// less than a hundredth of a processor.
const CALM: [(Duration, Duration, u32); 3] = [
    (Duration::from_secs(5), Duration::from_millis(200), 100),
    (Duration::from_secs(1), Duration::from_millis(100), 20),
    (Duration::ZERO, Duration::ZERO, 1),
];
/// However slow it is, it is looked at this often.
const SLOWEST: Duration = Duration::from_secs(2);
/// How often it is asked whether an X server has come up in front.
const CHOICE: Duration = Duration::from_secs(5);
/// Overlays no larger than this are cursors.
const CURSOR: usize = 256;
/// For so long after a viewer moved the pointer its own shows where it is.
const POINTED: Duration = Duration::from_secs(3);
/// Looks in a row that may find a buffer gone before it could be read.
const MOST_MISSES: u32 = 20;

/// Whether there is hardware whose picture could be read.
pub fn has_hardware() -> bool {
    !drm::paths().is_empty() || std::path::Path::new(fbdev::PATH).exists()
}

/// Begins to follow it.
///
/// # Errors
/// [`DisplayError::Console`] with what would help.
pub fn open() -> Result<Box<dyn Source>, DisplayError> {
    let cards: Vec<Device> = Card::all().into_iter().map(Device::Card).collect();
    let mut refused = None;
    if !cards.is_empty() {
        match Console::new(cards) {
            Ok(Some(console)) => return Ok(Box::new(console)),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    // The device of a card shows the kernel's text, which is not what is seen where a program draws.
    let terminal = virtual_terminal::in_front();
    let is_graphical = terminal.is_some_and(|terminal| virtual_terminal::is_graphical(terminal.as_fd()));
    if (refused.is_none() || !is_graphical)
        && let Ok(device) = FramebufferDevice::open()
    {
        match Console::new(vec![Device::Framebuffer(device)]) {
            Ok(Some(console)) => return Ok(Box::new(console)),
            Ok(None) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(DisplayError::Console(refused.map_or_else(
        || "no display is switched on; connecting one helps, or video=HDMI-A-1:1920x1080@60e on the kernel's command line with the name of an output".to_owned(),
        |error| error.to_string(),
    )))
}

/// Where buffers come from.
#[derive(Debug)]
enum Device {
    Card(Card),
    Framebuffer(FramebufferDevice),
}

impl Device {
    fn outputs(&self) -> Vec<Output> {
        match self {
            Device::Card(card) => card.outputs(),
            Device::Framebuffer(device) => device.output().into_iter().collect(),
        }
    }

    fn overlays(&self) -> Vec<Overlay> {
        match self {
            Device::Card(card) => card.overlays(),
            Device::Framebuffer(_) => Vec::new(),
        }
    }

    fn buffer(&self, framebuffer: u32) -> Result<Buffer, BufferError> {
        match self {
            Device::Card(card) => card.buffer(framebuffer),
            Device::Framebuffer(device) => device.buffer(),
        }
    }
}

/// A part of a buffer and where it is on the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    device: usize,
    framebuffer: u32,
    /// The part of the desktop; for overlays the part of them that is on their output.
    on: Rect,
    /// Where that part begins in the buffer.
    from: (usize, usize),
}

#[derive(Debug)]
struct Layer {
    place: Place,
    buffer: Buffer,
}

#[derive(Debug)]
struct Console {
    devices: Vec<Device>,
    size: (usize, usize),
    outputs: Vec<Layer>,
    overlays: Vec<Layer>,
    phase: usize,
    misses: u32,
    row: Vec<u8>,
    converted: Vec<u8>,
}

/// What a look found.
struct Found {
    is_laid_out: bool,
    /// Parts to be read whole.
    dirty: Vec<Rect>,
}

impl Console {
    /// `None` when nothing is switched on.
    fn new(devices: Vec<Device>) -> Result<Option<Console>, BufferError> {
        let mut console = Console {
            devices,
            size: (0, 0),
            outputs: Vec::new(),
            overlays: Vec::new(),
            phase: 0,
            misses: 0,
            row: Vec::new(),
            converted: Vec::new(),
        };
        // A buffer may be flipped away between the question and the next.
        for attempt in 0.. {
            match console.find(false) {
                Ok(_) => break,
                Err(BufferError::Unknown { .. }) if attempt < MOST_MISSES => {}
                Err(error) => return Err(error),
            }
        }
        Ok((!console.outputs.is_empty()).then_some(console))
    }

    /// Sees what is where now, and maps what is new.
    fn find(&mut self, hides_cursor: bool) -> Result<Found, BufferError> {
        let outputs: Vec<(usize, Output)> = (0..)
            .zip(&self.devices)
            .flat_map(|(number, device)| device.outputs().into_iter().map(move |output| (number, output)))
            .collect();
        let mut found = Found { is_laid_out: false, dirty: Vec::new() };
        if outputs.is_empty() {
            // Everything is switched off: the last picture stays.
            return Ok(found);
        }
        let places = lay_out(&outputs);
        let parts = |layers: &[Layer]| layers.iter().map(|layer| layer.place.on).collect::<Vec<_>>();
        let parts_now: Vec<Rect> = places.iter().map(|place| place.on).collect();
        found.is_laid_out = parts(&self.outputs) != parts_now;
        for (number, place) in places.iter().enumerate() {
            let known = self.outputs.get_mut(number).filter(|known| {
                !found.is_laid_out
                    && (known.place.device, known.place.framebuffer) == (place.device, place.framebuffer)
            });
            if let Some(known) = known {
                if known.place != *place {
                    known.place = *place;
                    found.dirty.push(place.on);
                }
                continue;
            }
            let layer =
                Layer { place: *place, buffer: self.devices[place.device].buffer(place.framebuffer)? };
            found.dirty.push(place.on);
            match self.outputs.get_mut(number) {
                Some(known) => *known = layer,
                None => self.outputs.push(layer),
            }
        }
        self.outputs.truncate(places.len());
        let right = parts_now.iter().map(|part| part.x + part.width).max().unwrap_or(1);
        let bottom = parts_now.iter().map(|part| part.y + part.height).max().unwrap_or(1);
        self.size = (right.clamp(1, LARGEST), bottom.clamp(1, LARGEST));
        self.find_overlays(&outputs, &places, hides_cursor, &mut found.dirty);
        Ok(found)
    }

    fn find_overlays(
        &mut self,
        outputs: &[(usize, Output)],
        places: &[Place],
        hides_cursor: bool,
        dirty: &mut Vec<Rect>,
    ) {
        let mut wanted: Vec<Place> = Vec::new();
        for (number, device) in self.devices.iter().enumerate() {
            for overlay in device.overlays() {
                let is_cursor = overlay.width.max(overlay.height) <= CURSOR;
                let on = outputs
                    .iter()
                    .position(|(device, output)| (*device, output.crtc) == (number, overlay.crtc));
                if let Some(on) = on.filter(|_| !(is_cursor && hides_cursor)) {
                    wanted.extend(clip(&overlay, number, places[on].on));
                }
            }
        }
        let gone = |layer: &Layer| !wanted.contains(&layer.place);
        dirty.extend(self.overlays.iter().filter(|layer| gone(layer)).map(|layer| layer.place.on));
        let mut known = std::mem::take(&mut self.overlays);
        for place in wanted {
            if let Some(at) = known.iter().position(|layer| layer.place == place) {
                self.overlays.push(known.swap_remove(at));
                continue;
            }
            // One that cannot be read (video) is done without; what is below it is shown.
            if let Ok(buffer) = self.devices[place.device].buffer(place.framebuffer) {
                dirty.push(place.on);
                self.overlays.push(Layer { place, buffer });
            }
        }
    }

    /// Reads a part of the desktop.
    fn read(&mut self, part: Rect, into: &mut Vec<u8>) {
        into.clear();
        into.resize(part.width * part.height * PIXEL, 0);
        for layer in self.outputs.iter().chain(&self.overlays) {
            let Layer { place, buffer } = layer;
            let held = Rect {
                width: place.on.width.min(buffer.width.saturating_sub(place.from.0)),
                height: place.on.height.min(buffer.height.saturating_sub(place.from.1)),
                ..place.on
            };
            let Some(common) = held.intersection(&part) else { continue };
            let x = place.from.0 + common.x - place.on.x;
            for line in 0..common.height {
                let y = place.from.1 + common.y + line - place.on.y;
                let at = ((common.y + line - part.y) * part.width + common.x - part.x) * PIXEL;
                let target = &mut into[at..at + common.width * PIXEL];
                if buffer.format == format::Format::Xrgb8888 && !buffer.has_alpha {
                    buffer.read(x, y, target);
                    continue;
                }
                self.row.resize(common.width * buffer.format.bytes(), 0);
                buffer.read(x, y, &mut self.row);
                self.converted.clear();
                buffer.format.convert(&self.row, &mut self.converted);
                // Below the lowest there is nothing, so what it covers in part is as it is.
                if buffer.has_alpha && self.overlays.iter().any(|overlay| std::ptr::eq(overlay, layer)) {
                    format::lay_over(target, &self.converted);
                } else {
                    target.copy_from_slice(&self.converted);
                }
            }
        }
    }

    /// Looks once; returns whether anything changed.
    fn look(&mut self, screen: &Screen) -> Result<bool, Lost> {
        let found = match self.find(screen.is_pointed(POINTED)) {
            Ok(found) => found,
            Err(BufferError::Unknown { .. }) if self.misses < MOST_MISSES => {
                self.misses += 1;
                return Ok(true);
            }
            Err(error) => return Err(Lost::Source(error.to_string())),
        };
        self.misses = 0;
        if found.is_laid_out {
            self.lay_out(screen);
        }
        let mut dirty = found.dirty;
        self.begin();
        let mut pixels = Vec::new();
        let whole = Rect { x: 0, y: 0, width: self.size.0, height: self.size.1 };
        let unflipped = self.outputs.iter().map(|layer| layer.place.on).filter(|on| !dirty.contains(on));
        let unflipped: Vec<Rect> = unflipped.filter_map(|on| on.intersection(&whole)).collect();
        let phase = PHASES[self.phase % PHASES.len()];
        self.phase += 1;
        for on in unflipped {
            let differs = (on.y + phase..on.y + on.height).step_by(PHASES.len()).any(|y| {
                let row = Rect { y, height: 1, ..on };
                self.read(row, &mut pixels);
                screen.state().framebuffer.differs(row, &pixels)
            });
            if differs {
                dirty.push(on);
            }
        }
        let mut changed = false;
        for part in dirty.iter().filter_map(|part| part.intersection(&whole)) {
            // A row of tiles at a time, so that viewers need not wait for all of it.
            let mut y = part.y;
            while y < part.y + part.height {
                let end = ((y / TILE + 1) * TILE).min(part.y + part.height);
                let band = Rect { y, height: end - y, ..part };
                self.read(band, &mut pixels);
                changed |= screen.state().framebuffer.update(band, &pixels);
                y = end;
            }
        }
        self.end();
        if changed {
            screen.publish();
        }
        Ok(changed || found.is_laid_out)
    }

    fn lay_out(&self, screen: &Screen) {
        let monitors: Vec<Rect> = self.outputs.iter().map(|layer| layer.place.on).collect();
        screen.laid_out(self.size, &monitors);
    }

    fn begin(&self) {
        self.outputs.iter().chain(&self.overlays).for_each(|layer| layer.buffer.begin());
    }

    fn end(&self) {
        self.outputs.iter().chain(&self.overlays).for_each(|layer| layer.buffer.end());
    }
}

impl Source for Console {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Lost> {
        self.lay_out(&*watch.screen()?);
        let (mut looked, mut calm_since, mut chosen) = (None::<Instant>, Instant::now(), Instant::now());
        let mut took = Duration::ZERO;
        loop {
            let due = {
                let screen = watch.screen()?;
                let due = screen.interval().map(|interval| {
                    let pace = pace(interval, calm_since.elapsed(), took);
                    looked.map_or(Duration::ZERO, |looked| pace.saturating_sub(looked.elapsed()))
                });
                if due.is_some_and(|due| due.is_zero()) {
                    let began = Instant::now();
                    if self.look(&screen)? {
                        calm_since = Instant::now();
                    }
                    (looked, took) = (Some(Instant::now()), began.elapsed());
                    continue;
                }
                due
            };
            if chosen.elapsed() > CHOICE {
                chosen = Instant::now();
                watch.still_chosen()?;
            }
            // Whoever touches something expects it to move.
            if watch.wait(None, due)? {
                calm_since = Instant::now();
            }
        }
    }
}

/// How long to wait for the next look, by what viewers want, how long nothing has changed, and how long a look takes.
fn pace(interval: Duration, calm: Duration, took: Duration) -> Duration {
    let (_, least, times) = CALM.iter().find(|(since, ..)| calm >= *since).expect("the last is always so");
    interval.max(*least).max((took * *times).min(SLOWEST))
}

/// Where outputs are on one desktop. Those that show parts of one buffer are as in it; others, whose arrangement
/// only the program that draws knows, are side by side.
fn lay_out(outputs: &[(usize, Output)]) -> Vec<Place> {
    /// A buffer's place: its left edge on the desktop, and the corner of what is visible of it.
    struct Block {
        buffer: (usize, u32),
        left: usize,
        corner: (usize, usize),
    }
    let mut left = 0;
    let mut blocks: Vec<Block> = Vec::new();
    for (device, output) in outputs {
        let buffer = (*device, output.framebuffer);
        if blocks.iter().any(|block| block.buffer == buffer) {
            continue;
        }
        let same = || {
            let is_same = |(device, output): &&(usize, Output)| (*device, output.framebuffer) == buffer;
            outputs.iter().filter(is_same).map(|(_, output)| output)
        };
        let x = same().map(|output| output.x).min().unwrap_or(0);
        let y = same().map(|output| output.y).min().unwrap_or(0);
        blocks.push(Block { buffer, left, corner: (x, y) });
        left += same().map(|output| output.x + output.width).max().unwrap_or(0) - x;
    }
    let place = |(device, output): &(usize, Output)| {
        let buffer = (*device, output.framebuffer);
        let block = blocks.iter().find(|block| block.buffer == buffer).expect("it was put there");
        let on = Rect {
            x: block.left + output.x - block.corner.0,
            y: output.y - block.corner.1,
            width: output.width,
            height: output.height,
        };
        Place { device: *device, framebuffer: output.framebuffer, on, from: (output.x, output.y) }
    };
    outputs.iter().map(place).collect()
}

/// The part of an overlay that is on its output.
fn clip(overlay: &Overlay, device: usize, output: Rect) -> Option<Place> {
    let span = |at: i64, length: usize, most: usize| {
        let end = (at + i64::try_from(length).ok()?).min(i64::try_from(most).ok()?);
        let begin = at.max(0);
        let hidden = usize::try_from(begin - at).ok()?;
        Some((
            usize::try_from(begin).ok()?,
            usize::try_from(end - begin).ok().filter(|left| *left > 0)?,
            hidden,
        ))
    };
    let (x, width, hidden_left) = span(overlay.x, overlay.width, output.width)?;
    let (y, height, hidden_above) = span(overlay.y, overlay.height, output.height)?;
    Some(Place {
        device,
        framebuffer: overlay.framebuffer,
        on: Rect { x: output.x + x, y: output.y + y, width, height },
        from: (overlay.from.0 + hidden_left, overlay.from.1 + hidden_above),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(crtc: u32, framebuffer: u32, x: usize, width: usize) -> (usize, Output) {
        (0, Output { crtc, framebuffer, x, y: 0, width, height: 600 })
    }

    #[test]
    fn outputs_of_one_buffer_are_as_in_it_and_others_side_by_side() {
        let lefts = |outputs: &[(usize, Output)]| {
            lay_out(outputs).iter().map(|place| (place.on.x, place.on.width)).collect::<Vec<_>>()
        };
        assert_eq!(lefts(&[output(1, 5, 0, 800)]), [(0, 800)]);
        assert_eq!(lefts(&[output(1, 5, 800, 1000), output(2, 5, 0, 800)]), [(800, 1000), (0, 800)]);
        assert_eq!(lefts(&[output(1, 5, 0, 800), output(2, 6, 0, 1000)]), [(0, 800), (800, 1000)]);
        assert_eq!(lefts(&[output(1, 5, 0, 800), output(2, 5, 0, 800)]), [(0, 800), (0, 800)], "mirrored");
        // A part of a larger buffer alone begins at the left.
        assert_eq!(lefts(&[output(1, 5, 300, 800)]), [(0, 800)]);
        assert_eq!(lay_out(&[output(1, 5, 300, 800)])[0].from, (300, 0));
    }

    #[test]
    fn cursors_are_cut_at_the_edges() {
        let screen = Rect { x: 100, y: 0, width: 800, height: 600 };
        let at = |x: i64, y: i64| {
            let overlay = Overlay { crtc: 1, framebuffer: 9, x, y, width: 64, height: 64, from: (0, 0) };
            clip(&overlay, 0, screen).map(|place| (place.on, place.from))
        };
        let rect = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(at(10, 20), Some((rect(110, 20, 64, 64), (0, 0))));
        assert_eq!(at(-10, -60), Some((rect(100, 0, 54, 4), (10, 60))));
        assert_eq!(at(790, 590), Some((rect(890, 590, 10, 10), (0, 0))));
        assert_eq!((at(-64, 0), at(800, 0), at(i64::MIN / 2, 0)), (None, None, None));
    }

    #[test]
    fn a_calm_screen_is_looked_at_less_often_and_a_slow_one_too() {
        let (fast, quick) = (Duration::from_millis(20), Duration::from_micros(200));
        assert_eq!(pace(fast, Duration::ZERO, quick), fast);
        assert_eq!(pace(fast, Duration::from_secs(2), quick), Duration::from_millis(100));
        assert_eq!(pace(fast, Duration::from_secs(60), quick), Duration::from_millis(200));
        assert_eq!(pace(Duration::from_secs(1), Duration::from_secs(60), quick), Duration::from_secs(1));
        let slow = Duration::from_millis(8);
        assert_eq!(pace(fast, Duration::ZERO, slow), fast);
        assert_eq!(pace(fast, Duration::from_secs(2), slow), Duration::from_millis(160));
        assert_eq!(pace(fast, Duration::from_secs(60), slow), Duration::from_millis(800));
        assert_eq!(pace(fast, Duration::from_secs(60), slow * 100), SLOWEST);
    }
}
