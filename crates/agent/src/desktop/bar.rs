//! The bar at the upper edge of the screen that names who is connected, with a button that ends their sessions.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ChangeGCAux, ConfigureWindowAux, ConnectionExt as _, CoordMode, CreateGCAux, CreateWindowAux, EventMask,
    Gcontext, Point, Rectangle, StackMode, Visibility, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;

use super::dialog::{latin, open_font};
use super::display::{Display, DisplayError, Failure};

/// Characters shown at most; what is longer ends with an ellipsis.
const LONGEST: usize = 120;
/// Pixels around the text.
const GAP: i16 = 8;
/// Colours: paper, ink, the button.
const PAPER: u32 = 0x001F_4E79;
const INK: u32 = 0x00FF_FFFF;
const BUTTON: u32 = 0x00B0_3030;
/// How long the bar stays covered before it comes up again: two that want to be on top must not race.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the bar says of a session.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The words, with {0} for the real names and {1} for the login names of all who are connected.
    pub words: String,
    /// Real name.
    pub real_name: String,
    /// Login name.
    pub user: String,
}

/// A bar on a screen, for as long as somebody is listed.
#[derive(Debug)]
pub struct Bar {
    display: Display,
    words: String,
    /// Real name and login name of each session.
    people: Mutex<BTreeMap<u64, (String, String)>>,
    next: AtomicU64,
    wake: UnixStream,
    closed: watch::Sender<bool>,
}

/// One session's place on a bar.
#[derive(Debug)]
pub struct Listed {
    bar: Arc<Bar>,
    number: u64,
}

impl Listed {
    /// Ends when whoever sits there closes the bar.
    pub async fn closed(&self) {
        let mut closed = self.bar.closed.subscribe();
        if closed.wait_for(|closed| *closed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.bar.people.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        self.bar.redraw();
    }
}

impl Bar {
    /// Shows one. Blocks until it is there.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub fn show(display: &Display, notice: &Notice) -> Result<Arc<Bar>, DisplayError> {
        let refused = |error: std::io::Error| DisplayError::refused(&display.name, error);
        let (wake, woken) = UnixStream::pair().map_err(refused)?;
        wake.set_nonblocking(true).and(woken.set_nonblocking(true)).map_err(refused)?;
        let (connection, screen) = display.connect()?;
        let shown =
            Shown::create(connection, screen).map_err(|error| DisplayError::refused(&display.name, error))?;
        let bar = Arc::new(Bar {
            display: display.clone(),
            words: notice.words.clone(),
            people: Mutex::default(),
            next: AtomicU64::new(0),
            wake,
            closed: watch::Sender::new(false),
        });
        let watched = Arc::downgrade(&bar);
        std::thread::Builder::new()
            .name("bar".into())
            .spawn(move || {
                if let Err(error) = shown.stay(&watched, &woken) {
                    log::info!("the bar of the connected is gone: {error}");
                }
            })
            .map_err(refused)?;
        Ok(bar)
    }

    /// Whether it is on this display and still open.
    pub fn is_on(&self, display: &Display) -> bool {
        self.display == *display && !*self.closed.borrow()
    }

    /// Puts a session on it.
    pub fn list(self: &Arc<Bar>, notice: &Notice) -> Listed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let person = (notice.real_name.clone(), notice.user.clone());
        self.people.lock().unwrap_or_else(PoisonError::into_inner).insert(number, person);
        self.redraw();
        Listed { bar: self.clone(), number }
    }

    fn redraw(&self) {
        // Full means that it is about to wake anyway.
        let _ = (&self.wake).write(&[1]);
    }

    fn text(&self) -> Vec<u8> {
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        text(&self.words, people.values())
    }
}

/// The words of the bar, each name once.
fn text<'a>(words: &str, people: impl Iterator<Item = &'a (String, String)>) -> Vec<u8> {
    let (mut real, mut login): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (real_name, user) in people {
        if !login.contains(&user.as_str()) {
            real.push(real_name);
            login.push(user);
        }
    }
    // Names come last, so that none is taken for a place of another.
    let mut filled = String::new();
    let mut rest = words;
    while let Some(at) = rest.find("{0}").into_iter().chain(rest.find("{1}")).min() {
        filled.push_str(&rest[..at]);
        filled.push_str(&if rest[at..].starts_with("{0}") { real.join(", ") } else { login.join(", ") });
        rest = &rest[at + 3..];
    }
    filled.push_str(rest);
    let mut text = latin(&filled);
    if text.len() > LONGEST {
        text.truncate(LONGEST - 3);
        text.extend(b"...");
    }
    text
}

/// The window.
struct Shown {
    connection: RustConnection,
    window: Window,
    gc: Gcontext,
    root_width: u16,
    ascent: i16,
    height: i16,
    character: i16,
}

impl Shown {
    fn create(connection: RustConnection, screen: usize) -> Result<Shown, Failure> {
        let root = connection.setup().roots[screen].clone();
        let font = open_font(&connection)?;
        let metrics = connection.query_font(font)?.reply()?;
        let height = (metrics.font_ascent + metrics.font_descent).max(1) + GAP;
        let (window, gc) = (connection.generate_id()?, connection.generate_id()?);
        let events = EventMask::EXPOSURE | EventMask::BUTTON_PRESS | EventMask::VISIBILITY_CHANGE;
        // Not a matter for window managers, as a dialog is none.
        let look = CreateWindowAux::new().background_pixel(PAPER).override_redirect(1).event_mask(events);
        let kind = WindowClass::INPUT_OUTPUT;
        connection.create_window(0, window, root.root, 0, 0, 1, height.unsigned_abs(), 0, kind, 0, &look)?;
        connection.create_gc(gc, window, &CreateGCAux::new().font(font).graphics_exposures(0))?;
        connection.close_font(font)?;
        connection.map_window(window)?;
        // An error comes back now rather than later.
        connection.get_input_focus()?.reply()?;
        Ok(Shown {
            connection,
            window,
            gc,
            root_width: root.width_in_pixels,
            ascent: metrics.font_ascent,
            height,
            character: metrics.max_bounds.character_width.max(1),
        })
    }

    fn width(&self, text: &[u8]) -> i16 {
        let span = i16::try_from(text.len()).unwrap_or(i16::MAX).saturating_mul(self.character);
        span.saturating_add(2 * GAP + self.height)
    }

    /// Makes room for a text, in the middle of the upper edge and in front.
    fn fit(&self, text: &[u8]) -> Result<(), Failure> {
        let width = self.width(text).unsigned_abs();
        let x = i32::from(self.root_width.saturating_sub(width) / 2);
        let place = ConfigureWindowAux::new().x(x).y(0).width(u32::from(width)).stack_mode(StackMode::ABOVE);
        self.connection.configure_window(self.window, &place)?;
        self.draw(text)
    }

    fn draw(&self, text: &[u8]) -> Result<(), Failure> {
        let (connection, window, gc) = (&self.connection, self.window, self.gc);
        let fill = |colour: u32, place: Rectangle| {
            connection.change_gc(gc, &ChangeGCAux::new().foreground(colour))?;
            connection.poly_fill_rectangle(window, gc, &[place])
        };
        let (width, height) = (self.width(text), self.height.unsigned_abs());
        fill(PAPER, Rectangle { x: 0, y: 0, width: width.unsigned_abs(), height })?;
        let left = width - self.height;
        fill(BUTTON, Rectangle { x: left, y: 0, width: height, height })?;
        connection.change_gc(gc, &ChangeGCAux::new().foreground(INK).background(PAPER).line_width(2))?;
        connection.image_text8(window, gc, GAP, GAP / 2 + self.ascent, text)?;
        let (near, far) = (self.height / 3, self.height - self.height / 3);
        for (from, to) in [(near, far), (far, near)] {
            let line = [Point { x: left + near, y: from }, Point { x: left + far, y: to }];
            connection.poly_line(CoordMode::ORIGIN, window, gc, &line)?;
        }
        Ok(())
    }

    /// Stays until nobody is listed any more or it is closed.
    fn stay(&self, bar: &Weak<Bar>, woken: &UnixStream) -> Result<(), Failure> {
        let mut is_covered = false;
        loop {
            while let Some(event) = self.connection.poll_for_event()? {
                let Some(bar) = bar.upgrade() else { return Ok(()) };
                match event {
                    Event::Expose(_) => self.draw(&bar.text())?,
                    Event::VisibilityNotify(seen) => is_covered = seen.state != Visibility::UNOBSCURED,
                    Event::ButtonPress(click) if click.event_x >= self.width(&bar.text()) - self.height => {
                        bar.closed.send_replace(true);
                        return Ok(());
                    }
                    _ => {}
                }
            }
            self.connection.flush()?;
            let patience = PollTimeout::try_from(PATIENCE).expect("a second fits");
            let timeout = if is_covered { patience } else { PollTimeout::NONE };
            let mut sources = [
                PollFd::new(self.connection.stream().as_fd(), PollFlags::POLLIN),
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut sources, timeout) {
                // It has been covered for long enough.
                Ok(0) => {
                    let above = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
                    self.connection.configure_window(self.window, &above)?;
                    is_covered = false;
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            match (&*woken).read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    let Some(bar) = bar.upgrade() else { return Ok(()) };
                    self.fit(&bar.text())?;
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_everybody_once() {
        let person = |real: &str, user: &str| (real.to_owned(), user.to_owned());
        let people = [person("Ada L", "ada"), person("Bob {1}", "bob"), person("Ada L", "ada")];
        let words = |words: &str| String::from_utf8(text(words, people.iter())).expect("plain text");
        assert_eq!(words("With {0} ({1})"), "With Ada L, Bob {1} (ada, bob)");
        assert_eq!(words("no names"), "no names");
        assert_eq!(text(&"x".repeat(500), [].iter()).len(), LONGEST);
    }
}
