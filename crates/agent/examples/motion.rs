//! Fills an X display with pictures that change all over, for measuring desktop sessions:
//! `motion <display> <pictures a second>`. It ends with the display, or when it is ended.

use std::io::Write;
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateGCAux, CreateWindowAux, ImageFormat, Pixmap, WindowClass,
};
use x11rb::rust_connection::RustConnection;

/// Pictures that are shown in turn.
const PICTURES: u32 = 8;
/// Rows that are sent to the display at once: a request may not be longer than 256 KiB.
const ROWS: u16 = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, display, rate] = &arguments[..] else {
        return Err("usage: motion <display> <pictures a second>".into());
    };
    let pause = Duration::from_secs(1) / rate.parse::<u32>()?.max(1);
    let (connection, number) = RustConnection::connect(Some(display))?;
    let root = connection.setup().roots[number].clone();
    let (width, height) = (root.width_in_pixels, root.height_in_pixels);
    let (window, gc) = (connection.generate_id()?, connection.generate_id()?);
    let look = CreateWindowAux::new().override_redirect(1);
    let kind = WindowClass::INPUT_OUTPUT;
    connection.create_window(0, window, root.root, 0, 0, width, height, 0, kind, 0, &look)?;
    connection.create_gc(gc, window, &CreateGCAux::new().graphics_exposures(0))?;
    connection.map_window(window)?;
    let mut pictures: Vec<Pixmap> = Vec::new();
    for picture in 0..PICTURES {
        let pixmap = connection.generate_id()?;
        connection.create_pixmap(root.root_depth, pixmap, window, width, height)?;
        for top in (0..height).step_by(usize::from(ROWS)) {
            let rows = ROWS.min(height - top);
            let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(rows) * 4);
            for y in top..top + rows {
                pixels.extend((0..width).flat_map(|x| pixel(picture, x.into(), y.into())));
            }
            let (depth, y) = (root.root_depth, i16::try_from(top)?);
            connection.put_image(ImageFormat::Z_PIXMAP, pixmap, gc, width, rows, 0, y, 0, depth, &pixels)?;
        }
        pictures.push(pixmap);
    }
    connection.get_input_focus()?.reply()?;
    std::io::stdout().write_all(b"ready\n")?;
    let mut next = Instant::now();
    for pixmap in pictures.iter().cycle() {
        connection.copy_area(*pixmap, window, gc, 0, 0, 0, 0, width, height)?;
        connection.get_input_focus()?.reply()?;
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Something between a film and a desktop: soft waves that move, hard edges, and a little grain.
fn pixel(picture: u32, x: u32, y: u32) -> [u8; 4] {
    let shift = picture * 40;
    let wave = |at: u32, length: u32| {
        let phase = f64::from(at % length) / f64::from(length) * std::f64::consts::TAU;
        (phase.sin() * 90.0 + 128.0) as u8
    };
    let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ picture.wrapping_mul(97)) >> 28;
    let edge = if ((x + shift) / 160 + y / 120).is_multiple_of(3) { 60 } else { 0 };
    let mix = |value: u8| value.saturating_add(edge).saturating_add(grain as u8);
    [mix(wave(x + shift, 640)), mix(wave(y + 2 * shift, 480)), mix(wave(x + y + 3 * shift, 900)), 0]
}
