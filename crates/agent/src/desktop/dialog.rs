//! A window on the X display for whoever sits at the device: a question, a message, a notice.
//!
//! Drawn with what every X server has, its own fonts: it must also come up on a log-in screen and on a kiosk
//! without a desktop environment.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ChangeGCAux, ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, Font,
    Gcontext, InputFocus, Rectangle, StackMode, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;

use super::display::{Display, DisplayError, Failure};

/// Fonts, best first; the last is part of every server.
const FONTS: [&str; 3] = ["-misc-fixed-medium-r-normal--18-*-*-*-*-*-iso8859-1", "9x15", "fixed"];
/// Characters of a line.
const LINE: usize = 64;
/// Lines shown; what is longer ends with an ellipsis.
const MOST_LINES: usize = 24;
/// Pixels around the text.
const MARGIN: i16 = 18;
const GAP: i16 = 12;
/// Colours: paper, ink, line, button, the button that agrees.
const PAPER: u32 = 0x00FF_FFFF;
const INK: u32 = 0x0020_2428;
const BAR: u32 = 0x001F_4E79;
const BUTTON: u32 = 0x00E3_E7EB;
/// A click this soon was meant for what was there before.
const TOO_SOON: Duration = Duration::from_millis(600);
/// Key code of Escape on every PC keyboard.
const ESCAPE: u8 = 9;

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Dialog {
    /// Above the text.
    pub title: String,
    /// The text; line breaks are kept.
    pub text: String,
    /// Labels of buttons, from left to right; the last one is what Escape means.
    pub buttons: Vec<String>,
    /// It closes by itself after this.
    pub timeout: Option<Duration>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The button with this number.
    Button(usize),
    /// Nobody answered.
    Timeout,
    /// Whoever asked went away.
    Withdrawn,
}

/// Shows a dialog until it is answered, its time is over, or the other end of `withdraw` closes. Blocks.
///
/// # Errors
/// [`DisplayError`] when it cannot be shown.
pub fn show(display: &Display, dialog: &Dialog, withdraw: &UnixStream) -> Result<Answer, DisplayError> {
    let (connection, screen) = display.connect()?;
    let refused = |error: Failure| DisplayError::refused(&display.name, error);
    let shown = Shown::create(connection, screen, dialog).map_err(refused)?;
    shown.wait(dialog, withdraw).map_err(refused)
}

/// A dialog on the screen.
struct Shown {
    connection: RustConnection,
    window: Window,
    gc: Gcontext,
    font_ascent: i16,
    line_height: i16,
    width: u16,
    lines: Vec<Vec<u8>>,
    title: Vec<u8>,
    buttons: Vec<(Rectangle, Vec<u8>)>,
    character: i16,
}

impl Shown {
    fn create(connection: RustConnection, screen: usize, dialog: &Dialog) -> Result<Shown, Failure> {
        let root = connection.setup().roots[screen].clone();
        let font = open_font(&connection)?;
        let metrics = connection.query_font(font)?.reply()?;
        let character = metrics.max_bounds.character_width.max(1);
        let (ascent, line_height) =
            (metrics.font_ascent, (metrics.font_ascent + metrics.font_descent).max(1) + 2);
        let lines = wrap(&dialog.text);
        let title = latin(&dialog.title).into_iter().take(LINE).collect::<Vec<u8>>();
        let labels: Vec<Vec<u8>> =
            dialog.buttons.iter().map(|label| latin(label).into_iter().take(24).collect()).collect();
        let span = |text: &[u8]| i16::try_from(text.len()).unwrap_or(i16::MAX).saturating_mul(character);
        let buttons_width: i16 = labels.iter().map(|label| span(label) + 3 * GAP).sum();
        let text_width = lines.iter().chain([&title]).map(|line| span(line)).max().unwrap_or(0);
        let width = text_width.max(buttons_width).max(240) + 2 * MARGIN;
        let bar = line_height + GAP;
        let text_height = line_height * i16::try_from(lines.len()).unwrap_or(0);
        let row = if labels.is_empty() { 0 } else { line_height + GAP };
        let height = bar + MARGIN + text_height + MARGIN + if row > 0 { row + MARGIN } else { 0 };
        let mut buttons = Vec::new();
        let mut right = width - MARGIN;
        for label in labels.into_iter().rev() {
            let wide = span(&label) + 2 * GAP;
            right -= wide;
            let place = Rectangle {
                x: right,
                y: height - MARGIN - row,
                width: wide.unsigned_abs(),
                height: row.unsigned_abs(),
            };
            buttons.insert(0, (place, label));
            right -= GAP;
        }
        let (window, gc) = (connection.generate_id()?, connection.generate_id()?);
        let (wide, high) = (width.unsigned_abs(), height.unsigned_abs());
        let middle = |all: u16, own: u16| i16::try_from(all.saturating_sub(own) / 2).unwrap_or(0);
        let (x, y) = (middle(root.width_in_pixels, wide), middle(root.height_in_pixels, high));
        // Not a matter for window managers: log-in screens have none.
        let look =
            CreateWindowAux::new().background_pixel(PAPER).border_pixel(BAR).override_redirect(1).event_mask(
                EventMask::EXPOSURE
                    | EventMask::BUTTON_PRESS
                    | EventMask::KEY_PRESS
                    | EventMask::VISIBILITY_CHANGE,
            );
        connection.create_window(
            0,
            window,
            root.root,
            x,
            y,
            wide,
            high,
            2,
            WindowClass::INPUT_OUTPUT,
            0,
            &look,
        )?;
        connection.create_gc(gc, window, &CreateGCAux::new().font(font).graphics_exposures(0))?;
        connection.close_font(font)?;
        connection.map_window(window)?;
        connection.flush()?;
        Ok(Shown {
            connection,
            window,
            gc,
            font_ascent: ascent,
            line_height,
            width: wide,
            lines,
            title,
            buttons,
            character,
        })
    }

    fn fill(&self, colour: u32, place: Rectangle) -> Result<(), Failure> {
        self.connection.change_gc(self.gc, &ChangeGCAux::new().foreground(colour))?;
        self.connection.poly_fill_rectangle(self.window, self.gc, &[place])?;
        Ok(())
    }

    fn write(&self, ink: u32, paper: u32, x: i16, y: i16, text: &[u8]) -> Result<(), Failure> {
        self.connection.change_gc(self.gc, &ChangeGCAux::new().foreground(ink).background(paper))?;
        // One request takes 255 characters; lines are shorter.
        self.connection.image_text8(self.window, self.gc, x, y, &text[..text.len().min(255)])?;
        Ok(())
    }

    fn draw(&self) -> Result<(), Failure> {
        let bar = (self.line_height + GAP).unsigned_abs();
        self.fill(BAR, Rectangle { x: 0, y: 0, width: self.width, height: bar })?;
        self.write(PAPER, BAR, MARGIN, GAP / 2 + self.font_ascent, &self.title)?;
        let mut y = self.line_height + GAP + MARGIN + self.font_ascent;
        for line in &self.lines {
            self.write(INK, PAPER, MARGIN, y, line)?;
            y += self.line_height;
        }
        for (number, (place, label)) in self.buttons.iter().enumerate() {
            // The first of several agrees; it looks like it.
            let agrees = number == 0 && self.buttons.len() > 1;
            let (paper, ink) = if agrees { (BAR, PAPER) } else { (BUTTON, INK) };
            self.fill(paper, *place)?;
            let x = place.x + GAP;
            let text = i16::try_from(label.len()).unwrap_or(0) * self.character;
            debug_assert!(text <= i16::try_from(place.width).unwrap_or(i16::MAX));
            self.write(ink, paper, x, place.y + GAP / 2 + self.font_ascent, label)?;
        }
        self.connection.flush()?;
        Ok(())
    }

    fn wait(&self, dialog: &Dialog, withdraw: &UnixStream) -> Result<Answer, Failure> {
        let began = Instant::now();
        loop {
            while let Some(event) = self.connection.poll_for_event()? {
                match event {
                    Event::Expose(_) => self.draw()?,
                    // Something came in front: a question that cannot be seen is no question.
                    Event::VisibilityNotify(_) => {
                        let above = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
                        self.connection.configure_window(self.window, &above)?;
                    }
                    Event::ButtonPress(click) if began.elapsed() > TOO_SOON => {
                        let hit = |place: &Rectangle| {
                            (place.x..place.x.saturating_add_unsigned(place.width)).contains(&click.event_x)
                                && (place.y..place.y.saturating_add_unsigned(place.height))
                                    .contains(&click.event_y)
                        };
                        if let Some(number) = self.buttons.iter().position(|(place, _)| hit(place)) {
                            return Ok(Answer::Button(number));
                        }
                        // Keys are for the dialog only once somebody has turned to it: what they type elsewhere
                        // must not answer.
                        let focus = InputFocus::PARENT;
                        self.connection.set_input_focus(focus, self.window, x11rb::CURRENT_TIME)?;
                    }
                    Event::KeyPress(key) if key.detail == ESCAPE && began.elapsed() > TOO_SOON => {
                        if let Some(last) = self.buttons.len().checked_sub(1) {
                            return Ok(Answer::Button(last));
                        }
                    }
                    _ => {}
                }
            }
            let left = dialog.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Answer::Timeout);
            }
            let patience = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left.min(Duration::from_secs(3600)) + Duration::from_millis(1))
                    .unwrap_or(PollTimeout::NONE)
            });
            self.connection.flush()?;
            let mut sources = [
                PollFd::new(self.connection.stream().as_fd(), PollFlags::POLLIN),
                PollFd::new(withdraw.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut sources, patience) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let gone = PollFlags::POLLIN | PollFlags::POLLHUP;
            if sources[1].revents().is_some_and(|events| events.intersects(gone)) {
                return Ok(Answer::Withdrawn);
            }
        }
    }
}

pub(super) fn open_font(connection: &RustConnection) -> Result<Font, Failure> {
    let mut refused = None;
    for name in FONTS {
        let font = connection.generate_id()?;
        match connection.open_font(font, name.as_bytes())?.check() {
            Ok(()) => return Ok(font),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("there are fonts to try").into())
}

/// The server's own fonts have Latin-1; what is none of it is a question mark.
pub(super) fn latin(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| match u8::try_from(u32::from(character)) {
            Ok(byte @ (0x20..=0x7E | 0xA0..=0xFF)) => byte,
            Ok(_) => b' ',
            Err(_) => b'?',
        })
        .collect()
}

/// Lines of at most [`LINE`] characters, broken between words.
fn wrap(text: &str) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for paragraph in text.lines() {
        let mut line: Vec<u8> = Vec::new();
        for word in latin(paragraph).split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
            for piece in word.chunks(LINE) {
                if !line.is_empty() && line.len() + 1 + piece.len() > LINE {
                    lines.push(std::mem::take(&mut line));
                }
                if !line.is_empty() {
                    line.push(b' ');
                }
                line.extend_from_slice(piece);
            }
        }
        lines.push(line);
    }
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES - 1);
        lines.push(b"...".to_vec());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_and_bounded() {
        let lines = wrap(&format!("one two\n\n{}", "word ".repeat(30)));
        assert_eq!((&lines[0][..], &lines[1][..]), (&b"one two"[..], &b""[..]));
        assert!(lines.iter().all(|line| line.len() <= LINE));
        assert_eq!(
            lines
                .iter()
                .map(|line| line.split(|b| *b == b' ').filter(|w| *w == b"word").count())
                .sum::<usize>(),
            30
        );
        assert!(wrap(&"x".repeat(1000)).iter().all(|line| line.len() <= LINE));
        assert_eq!(wrap(&"line\n".repeat(100)).len(), MOST_LINES);
        assert_eq!(wrap(""), Vec::<Vec<u8>>::new());
        assert_eq!(latin("naïve ☃\u{1b}"), b"na\xEFve ? ");
    }
}
