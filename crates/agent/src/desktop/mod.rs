//! A desktop session over a tunnel: pictures of what changes on the screen, keys and pointer back
//! (tunnel-protocols §4).
//!
//! One thread watches the screen for all viewers. Each viewer takes what it has not seen when its tunnel has
//! room, so a slow one skips what is already past, and an idle screen costs nothing.

mod bar;
mod clipboard;
mod console;
mod dialog;
mod display;
mod drm;
mod fbdev;
mod format;
mod input;
mod key_codes;
mod keys;
mod mapping;
mod picture;
mod screen;
mod seat;
mod servers;
mod tiles;
mod uinput;
mod virtual_terminal;
mod x11;
mod xtest;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use outpost_wire::desktop::{ALL_DISPLAYS, Display as DisplayInfo, FromViewer, ToViewer, parse};
use outpost_wire::tunnel::{ConsoleText, Control, Metadata};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_websockets::Message;

use crate::settings::DisplayChoice;
use crate::terminal;

pub use bar::Notice;
use bar::{Bar, Listed};
pub use dialog::{Answer, Dialog};
pub use display::DisplayError;
use input::{Action, Input};
use picture::FULL;
use screen::Screen;
use seat::{Seat, Target};
use tiles::{Rect, Seen};

/// What pictures are like before a viewer says otherwise (tunnel-protocols §4.5, §4.6).
const QUALITY: u8 = 50;
const INTERVAL: Duration = Duration::from_millis(100);
/// Quality is lowered to no less than this on a slow link.
const LOWEST_QUALITY: u8 = 15;
/// A round of pictures that takes longer than this to send means a slow link; less than the second that it is
/// fast again.
const SLOW: Duration = Duration::from_millis(400);
const FAST: Duration = Duration::from_millis(100);
/// How long a session waits for another display when its own ends: a log-in or log-out.
const PATIENCE: Duration = Duration::from_secs(30);
/// Dialogs shown at once: more would only cover each other.
const DIALOGS: usize = 8;
/// Answers to control messages that may wait while pictures are sent.
const ANSWERS: usize = 16;

/// The screen that is watched, shared by all sessions.
#[derive(Debug)]
pub struct Desktops {
    choice: DisplayChoice,
    /// Dialogs that may be shown at once.
    pub(crate) dialogs: Arc<Semaphore>,
    screen: Mutex<Weak<Screen>>,
    bar: Mutex<Weak<Bar>>,
    viewers: AtomicU64,
}

impl Desktops {
    /// None is watched yet.
    pub fn new(choice: DisplayChoice) -> Arc<Desktops> {
        let dialogs = Arc::new(Semaphore::new(DIALOGS));
        let (screen, bar) = (Mutex::default(), Mutex::default());
        Arc::new(Desktops { choice, dialogs, screen, bar, viewers: AtomicU64::new(0) })
    }

    /// What would be shown now.
    fn target(&self) -> Result<Target, DisplayError> {
        Seat::read().choose(&self.choice)
    }

    /// Whether a desktop could be shown now.
    pub fn is_there(&self) -> bool {
        self.target().is_ok()
    }

    /// The text that was copied or marked on the display. Blocks.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub fn clipboard(&self) -> Result<Option<String>, DisplayError> {
        clipboard::read(self.target()?.x()?)
    }

    /// Has a text, cut after 65,535 bytes, be what is pasted on the display. Blocks.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub fn set_clipboard(&self, mut text: String) -> Result<(), DisplayError> {
        text.truncate(text.floor_char_boundary(clipboard::LONGEST));
        clipboard::write(self.target()?.x()?, text)
    }

    /// Shows a dialog to whoever sits there, until it is answered or the other end of `withdraw` closes. Blocks.
    ///
    /// # Errors
    /// [`DisplayError`] when there is no display, or it does not show it.
    pub fn ask(
        &self,
        dialog: &Dialog,
        withdraw: &std::os::unix::net::UnixStream,
    ) -> Result<Answer, DisplayError> {
        dialog::show(self.target()?.x()?, dialog, withdraw)
    }

    /// Has the bar on the screen name somebody. Blocks while it connects.
    fn announce(&self, target: &Target, notice: &Notice) -> Result<Listed, DisplayError> {
        let display = target.x()?;
        let mut shown = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = shown.upgrade().filter(|bar| bar.is_on(display)) {
            return Ok(bar.list(notice));
        }
        let bar = Bar::show(display, notice)?;
        *shown = Arc::downgrade(&bar);
        Ok(bar.list(notice))
    }

    /// The screen to show now. Blocks while it connects.
    fn open(&self) -> Result<Arc<Screen>, DisplayError> {
        let target = self.target()?;
        let mut watched = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(screen) = watched.upgrade()
            && screen.target.name() == target.name()
            && screen.state().ended.is_none()
        {
            return Ok(screen);
        }
        let source = match &target {
            Target::X(display) => x11::open(display)?,
            Target::Console => console::open()?,
        };
        let (choice, shown) = (self.choice.clone(), target.clone());
        // Nothing else to show is no reason to stop showing this.
        let is_chosen =
            move || Seat::read().choose(&choice).map_or(true, |target| target.name() == shown.name());
        let screen = Screen::watch(target, source, Box::new(is_chosen))?;
        *watched = Arc::downgrade(&screen);
        Ok(screen)
    }
}

/// What a viewer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Everything.
    Free,
    /// Pointer and plain typing, no combinations.
    Limited,
    /// Looking only.
    None,
}

/// Who looks, and how.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// User id.
    pub user: String,
    /// What they may do.
    pub touch: Touch,
    /// What the bar on the screen says of them, where there is to be one.
    pub notice: Option<Notice>,
}

/// What became of the bar that names who is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarState {
    /// It is there.
    Shown,
    /// It cannot be shown on this screen.
    Missing,
    /// Whoever sits there has closed it, which ends the sessions it names.
    Closed,
}

/// Why a session ended other than by its viewer.
#[derive(Debug, thiserror::Error)]
pub enum DesktopError {
    /// By whoever sits there.
    #[error("The user of this device has ended the session")]
    Closed,
    /// There is no screen to show.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// The screen ended and no other came.
    #[error("the graphical session ended: {0}")]
    Ended(String),
    /// The tunnel.
    #[error("the tunnel failed")]
    Tunnel,
    /// A thread could not be had.
    #[error("the agent is too busy")]
    Busy,
}

/// How a viewer wants its pictures, and which display.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    quality: u8,
    scaling: u16,
    interval: Duration,
    paused: bool,
    display: u16,
    /// Counts requests for everything again.
    refreshes: u64,
    /// Counts requests for the list of displays.
    lists: u64,
}

/// What the two halves of a session share.
struct Session {
    number: u64,
    wishes: Mutex<Wishes>,
    changed: Notify,
    /// The part of the desktop on the viewer's canvas, and its scaling: for the pointer.
    view: Mutex<(Rect, u16)>,
    touch: Touch,
}

impl Session {
    fn wishes(&self) -> Wishes {
        *self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

/// Serves a desktop session until either side ends it; `report` hears of the bar.
///
/// # Errors
/// [`DesktopError`].
pub async fn run<O, I, E>(
    mut sink: O,
    stream: I,
    desktops: &Arc<Desktops>,
    viewer: &Viewer,
    report: &(dyn Fn(BarState) + Sync),
) -> Result<(), DesktopError>
where
    O: Sink<Message, Error = E> + Unpin,
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let wishes = Wishes {
        quality: QUALITY,
        scaling: FULL,
        interval: INTERVAL,
        paused: false,
        display: ALL_DISPLAYS,
        refreshes: 0,
        lists: 0,
    };
    let session = Session {
        number: desktops.viewers.fetch_add(1, Ordering::Relaxed),
        wishes: Mutex::new(wishes),
        changed: Notify::new(),
        view: Mutex::new((Rect { x: 0, y: 0, width: 1, height: 1 }, FULL)),
        touch: viewer.touch,
    };
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let (inputs, mut listening) = tokio::sync::watch::channel(None::<Arc<Input>>);
    let showing = async {
        // Since when there is no screen, and what was said of it.
        let (mut since, mut said) = (None::<Instant>, None::<String>);
        loop {
            let Opened { screen, input, bar } = match open(desktops, viewer).await {
                Ok(opened) => opened,
                Err(error) if since.is_some_and(|since| since.elapsed() < PATIENCE) => {
                    let text = format!("Waiting for the next graphical session ({error})");
                    if said.as_ref() != Some(&text) {
                        tell(&mut sink, Some(&text)).await?;
                        said = Some(text);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if said.take().is_some() {
                tell(&mut sink, None).await?;
            }
            let input = match input.transpose() {
                Ok(input) => input,
                Err(error) => {
                    let text = format!("This session can only look: {error}");
                    tell(&mut sink, Some(&text)).await?;
                    None
                }
            };
            let bar = match bar.transpose() {
                Ok(bar) => {
                    bar.iter().for_each(|_| report(BarState::Shown));
                    bar
                }
                Err(error) => {
                    report(BarState::Missing);
                    let text = format!("The user of this device cannot be shown who is connected: {error}");
                    tell(&mut sink, Some(&text)).await?;
                    None
                }
            };
            inputs.send_replace(input.map(Arc::new));
            let attendance = Attendance::begin(&screen, &viewer.user, session.number);
            let ended = tokio::select! {
                ended = Box::pin(show(&mut sink, &session, &screen, &mut answered)) => ended?,
                () = closed(bar.as_ref()) => {
                    report(BarState::Closed);
                    return Err(DesktopError::Closed);
                }
            };
            drop(attendance);
            inputs.send_replace(None);
            // Somebody logged in or out, or turned to another terminal: the next screen is there or about to come.
            log::info!("desktop of {}: {ended}", viewer.user);
            since = Some(Instant::now());
        }
    };
    let listening = Box::pin(listen(stream, &session, answers, &mut listening));
    tokio::select! {
        ended = Box::pin(showing) => ended,
        () = listening => Ok(()),
    }
}

/// A screen as a viewer needs it.
struct Opened {
    screen: Arc<Screen>,
    input: Option<Result<Input, DisplayError>>,
    bar: Option<Result<Listed, DisplayError>>,
}

/// Connects to the screen, for looking and, where the viewer may, for touching.
async fn open(desktops: &Arc<Desktops>, viewer: &Viewer) -> Result<Opened, DesktopError> {
    let (desktops, viewer) = (desktops.clone(), viewer.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let screen = desktops.open()?;
        let input = (viewer.touch != Touch::None).then(|| Input::of(&screen));
        let bar = viewer.notice.as_ref().map(|notice| desktops.announce(&screen.target, notice));
        Ok(Opened { screen, input, bar })
    });
    opening.await.map_err(|_| DesktopError::Busy)?
}

/// Ends when whoever sits there closes the bar.
async fn closed(bar: Option<&Listed>) {
    match bar {
        Some(bar) => bar.closed().await,
        None => std::future::pending().await,
    }
}

/// Shows a text in the viewer, or takes it away.
async fn tell<O: Sink<Message> + Unpin>(sink: &mut O, text: Option<&str>) -> Result<(), DesktopError> {
    let told = ConsoleText { msg: text.map(str::to_owned), msgid: Some(0), ..ConsoleText::default() };
    send(sink, Message::text(Control::Console(Box::new(told)).to_json())).await
}

/// Being counted among those who watch a screen.
struct Attendance<'a> {
    screen: &'a Screen,
    user: &'a str,
    number: u64,
}

impl<'a> Attendance<'a> {
    fn begin(screen: &'a Screen, user: &'a str, number: u64) -> Attendance<'a> {
        screen.count(user, 1);
        Attendance { screen, user, number }
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        self.screen.count(self.user, -1);
        self.screen.is_busy(self.number);
    }
}

/// What a viewer was told last.
#[derive(Default)]
struct Told {
    seen: Seen,
    layout: u64,
    display: Option<u16>,
    scaling: u16,
    refreshes: u64,
    lists: u64,
    cursor: Option<u8>,
    lights: Option<u8>,
    people: Option<std::collections::BTreeMap<String, u32>>,
}

/// Sends what there is to see until the screen ends; returns why it did.
async fn show<O: Sink<Message> + Unpin>(
    sink: &mut O,
    session: &Session,
    screen: &Screen,
    answered: &mut mpsc::Receiver<String>,
) -> Result<String, DesktopError> {
    let mut changes = screen.changes();
    let mut told = Told::default();
    let mut best = 100;
    let mut last = Instant::now().checked_sub(Duration::from_secs(60)).unwrap_or_else(Instant::now);
    loop {
        let wishes = session.wishes();
        changes.mark_unchanged();
        let (messages, parts, layout, due) = {
            let state = screen.state();
            if let Some(ended) = &state.ended {
                return Ok(ended.clone());
            }
            let messages = news(&mut told, &state, &wishes, session);
            let (view, _) = *session.view.lock().unwrap_or_else(PoisonError::into_inner);
            let due = !wishes.paused && last.elapsed() >= wishes.interval;
            let parts = if due { state.framebuffer.unseen(&mut told.seen, view) } else { Vec::new() };
            (messages, parts, state.layout, due)
        };
        for message in messages {
            send(sink, message).await?;
        }
        if !parts.is_empty() {
            screen.is_busy(session.number);
            let began = Instant::now();
            let quality = wishes.quality.min(best);
            send_pictures(sink, session, screen, answered, &parts, layout, quality).await?;
            last = began;
            best = match began.elapsed() {
                took if took > SLOW => (best / 4 * 3).max(LOWEST_QUALITY),
                took if took < FAST => (best + 5).min(100),
                _ => best,
            };
        }
        let rest = wishes.interval.saturating_sub(last.elapsed());
        screen.is_ready(session.number, wishes.interval.max(Duration::from_millis(1)));
        tokio::select! {
            answer = answered.recv() => {
                if let Some(answer) = answer {
                    send(sink, Message::text(answer)).await?;
                }
            }
            () = session.changed.notified() => {}
            changed = async {
                if due || wishes.paused {
                    return changes.changed().await;
                }
                // It was not this viewer's turn yet; what is new by then is found when it is.
                tokio::time::sleep(rest).await;
                Ok(())
            } => {
                if changed.is_err() {
                    return Ok("the display is gone".into());
                }
            }
        }
    }
}

async fn send<O: Sink<Message> + Unpin>(sink: &mut O, message: Message) -> Result<(), DesktopError> {
    sink.send(message).await.map_err(|_| DesktopError::Tunnel)
}

/// Everything but pictures that a viewer does not know yet.
fn news(told: &mut Told, state: &screen::State, wishes: &Wishes, session: &Session) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut say = |message: ToViewer<'_>| messages.push(Message::binary(message.encode()));
    let (view, display) = match usize::from(wishes.display) {
        number if (1..=state.monitors.len()).contains(&number) => {
            (state.monitors[number - 1], wishes.display)
        }
        _ => (state.framebuffer.bounds(), ALL_DISPLAYS),
    };
    let new_canvas =
        (told.layout, told.display, told.scaling) != (state.layout, Some(display), wishes.scaling);
    let several = state.monitors.len() > 1;
    let selected = if several { display } else { 0 };
    if new_canvas || told.refreshes != wishes.refreshes {
        let side = |length: usize| u16::try_from(picture::scaled(length, wishes.scaling)).unwrap_or(u16::MAX);
        say(ToViewer::Screen { width: side(view.width).max(1), height: side(view.height).max(1) });
        say(ToViewer::Selected(selected));
        told.seen.forget();
        *session.view.lock().unwrap_or_else(PoisonError::into_inner) = (view, wishes.scaling);
    }
    if new_canvas || told.lists != wishes.lists {
        let small = |at: usize| i16::try_from(at).unwrap_or(i16::MAX);
        let wide = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let described: Vec<DisplayInfo> = (1..)
            .zip(&state.monitors)
            .map(|(id, part)| DisplayInfo {
                id,
                x: small(part.x),
                y: small(part.y),
                width: wide(part.width),
                height: wide(part.height),
            })
            .collect();
        if several {
            let ids: Vec<u16> =
                std::iter::once(ALL_DISPLAYS).chain(described.iter().map(|display| display.id)).collect();
            say(ToViewer::DisplayInfo(&described));
            say(ToViewer::Displays { ids: &ids, selected });
        } else {
            say(ToViewer::Displays { ids: &[0], selected });
        }
    }
    if told.lights != Some(state.lights) {
        say(ToViewer::KeyState(state.lights));
    }
    if told.cursor != Some(state.cursor) {
        say(ToViewer::Cursor(state.cursor));
    }
    if told.people.as_ref() != Some(&state.people) {
        let metadata = Metadata { users: state.people.clone(), start_time: None };
        messages.push(Message::text(Control::Metadata(Box::new(metadata)).to_json()));
        told.people = Some(state.people.clone());
    }
    (told.layout, told.display, told.scaling) = (state.layout, Some(display), wishes.scaling);
    (told.refreshes, told.lists) = (wishes.refreshes, wishes.lists);
    (told.lights, told.cursor) = (Some(state.lights), Some(state.cursor));
    messages
}

/// Compresses and sends parts of the screen as they look now.
async fn send_pictures<O: Sink<Message> + Unpin>(
    sink: &mut O,
    session: &Session,
    screen: &Screen,
    answered: &mut mpsc::Receiver<String>,
    parts: &[Rect],
    layout: u64,
    quality: u8,
) -> Result<(), DesktopError> {
    let (view, scaling) = *session.view.lock().unwrap_or_else(PoisonError::into_inner);
    for part in parts {
        let pixels = {
            let state = screen.state();
            if state.layout != layout {
                // Another size: these parts mean nothing any more.
                return Ok(());
            }
            state.framebuffer.copy(*part)
        };
        let on_canvas = Rect { x: part.x - view.x, y: part.y - view.y, ..*part };
        let compressing =
            tokio::task::spawn_blocking(move || picture::jpeg(&pixels, on_canvas, scaling, quality));
        let Ok(compressed) = compressing.await else { return Err(DesktopError::Busy) };
        if let Some((at, image)) = compressed
            && let (Ok(x), Ok(y)) = (u16::try_from(at.x), u16::try_from(at.y))
        {
            send(sink, Message::binary(ToViewer::Picture { x, y, image: &image }.encode())).await?;
        }
        // Round trips are measured between pictures, not after all of them.
        while let Ok(answer) = answered.try_recv() {
            send(sink, Message::text(answer)).await?;
        }
    }
    Ok(())
}

/// Takes what the viewer says until the tunnel ends.
async fn listen<I, E>(
    mut stream: I,
    session: &Session,
    answers: mpsc::Sender<String>,
    inputs: &mut tokio::sync::watch::Receiver<Option<Arc<Input>>>,
) where
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let mut surrogate = None;
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return;
        }
        if let Some(text) = message.as_text() {
            match Control::parse(text) {
                Some(Control::Close) => return,
                Some(control) => {
                    if let Some(answer) = terminal::answer(control) {
                        let _ = answers.try_send(answer);
                    }
                }
                None => {}
            }
            continue;
        }
        if !message.is_binary() {
            continue;
        }
        let input = inputs.borrow_and_update().clone();
        for command in parse(message.as_payload()) {
            take(session, input.as_deref(), &mut surrogate, command);
        }
    }
}

/// Carries out one command of the viewer, as far as it may.
fn take(session: &Session, input: Option<&Input>, surrogate: &mut Option<u16>, command: FromViewer) {
    match command {
        FromViewer::Compression(wanted) => session.wish(|wishes| {
            wishes.quality = wanted.quality.unwrap_or(wishes.quality);
            wishes.scaling = wanted.scaling.unwrap_or(wishes.scaling);
            let interval = wanted.interval_ms.map(|ms| Duration::from_millis(ms.into()));
            wishes.interval = interval.unwrap_or(wishes.interval);
        }),
        FromViewer::Refresh => session.wish(|wishes| wishes.refreshes += 1),
        FromViewer::Pause(paused) => session.wish(|wishes| wishes.paused = paused),
        FromViewer::GetDisplays => session.wish(|wishes| wishes.lists += 1),
        FromViewer::SetDisplay(display) => session.wish(|wishes| wishes.display = display),
        touching => {
            if let Some(input) = input {
                for action in actions(session, surrogate, touching) {
                    input.act(action);
                }
            }
        }
    }
}

/// What a command of the viewer's keyboard and pointer comes to on the desktop.
fn actions(session: &Session, surrogate: &mut Option<u16>, command: FromViewer) -> Vec<Action> {
    let limited = session.touch != Touch::Free;
    match command {
        FromViewer::Key { code, .. } if limited && !is_plain(code) => Vec::new(),
        FromViewer::Key { down, extended, code } => vec![Action::Key { down, extended, code }],
        FromViewer::CtrlAltDel if !limited => vec![Action::CtrlAltDel],
        FromViewer::Unicode { down: true, unit } => {
            let units = surrogate.take().into_iter().chain([unit]);
            let characters: Vec<_> = char::decode_utf16(units).collect();
            match characters.last() {
                // The first half of a pair waits for the second.
                Some(Err(half)) if half.unpaired_surrogate() < 0xDC00 => {
                    *surrogate = Some(half.unpaired_surrogate());
                    Vec::new()
                }
                _ => characters.into_iter().flatten().map(Action::Character).collect(),
            }
        }
        FromViewer::Mouse { x, y, buttons, wheel } => {
            let (view, scaling) = *session.view.lock().unwrap_or_else(PoisonError::into_inner);
            let place = |at: u16, from: usize, length: usize| {
                let unscaled = usize::from(at) * usize::from(FULL) / usize::from(scaling.max(1));
                i16::try_from(from + unscaled.min(length.saturating_sub(1))).unwrap_or(i16::MAX)
            };
            let mut actions =
                vec![Action::Move { x: place(x, view.x, view.width), y: place(y, view.y, view.height) }];
            for (bit, number) in [(0x02, 1), (0x08, 3), (0x20, 2)] {
                for (bit, down) in [(bit, true), (bit << 1, false)] {
                    if buttons & bit != 0 {
                        actions.push(Action::Button { number, down });
                    }
                }
            }
            if wheel != 0 {
                // Some viewers count notches in 120s, others one message each.
                let notches = (i32::from(wheel) / 120).clamp(-10, 10);
                let notches = if notches == 0 { i32::from(wheel.signum()) } else { notches };
                actions.push(Action::Wheel(i16::try_from(notches).unwrap_or(0)));
            }
            actions
        }
        _ => Vec::new(),
    }
}

/// Keys of plain typing: letters, digits, space, Return, Backspace (tunnel-protocols §4.7).
fn is_plain(code: u8) -> bool {
    matches!(code, 8 | 13 | 32..=90)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(touch: Touch) -> Session {
        let wishes = Wishes {
            quality: QUALITY,
            scaling: 512,
            interval: INTERVAL,
            paused: false,
            display: ALL_DISPLAYS,
            refreshes: 0,
            lists: 0,
        };
        Session {
            number: 0,
            wishes: Mutex::new(wishes),
            changed: Notify::new(),
            view: Mutex::new((Rect { x: 1000, y: 0, width: 800, height: 600 }, 512)),
            touch,
        }
    }

    #[test]
    fn the_pointer_lands_where_the_canvas_shows_it() {
        let session = session(Touch::Free);
        let mouse = |x, y, buttons, wheel| FromViewer::Mouse { x, y, buttons, wheel };
        let act = |command| actions(&session, &mut None, command);
        assert_eq!(act(mouse(100, 50, 0, 0)), [Action::Move { x: 1200, y: 100 }]);
        assert_eq!(act(mouse(5000, 5000, 0, 0)), [Action::Move { x: 1799, y: 599 }], "at most the edge");
        let click = act(mouse(0, 0, 0x02, 0));
        assert_eq!(click[1..], [Action::Button { number: 1, down: true }]);
        assert_eq!(act(mouse(0, 0, 0x10, 0))[1..], [Action::Button { number: 3, down: false }]);
        assert_eq!(act(mouse(0, 0, 0, -240))[1..], [Action::Wheel(-2)]);
        assert_eq!(act(mouse(0, 0, 0, 1))[1..], [Action::Wheel(1)]);
    }

    #[test]
    fn characters_beyond_the_first_plane_come_in_two() {
        let session = session(Touch::Free);
        let mut surrogate = None;
        let mut typed = |unit| actions(&session, &mut surrogate, FromViewer::Unicode { down: true, unit });
        assert_eq!(typed(0x41), [Action::Character('A')]);
        assert_eq!(typed(0xD83D), []);
        assert_eq!(typed(0xDE00), [Action::Character('😀')]);
        assert_eq!(typed(0xDE00), [], "a second half alone");
        assert_eq!(typed(0x42), [Action::Character('B')]);
    }

    #[test]
    fn limited_input_is_typing_and_pointing() {
        let session = session(Touch::Limited);
        let key = |code| FromViewer::Key { down: true, extended: false, code };
        let act = |command| actions(&session, &mut None, command).len();
        assert_eq!((act(key(0x41)), act(key(13)), act(key(8))), (1, 1, 1));
        assert_eq!((act(key(0x11)), act(key(0x5B)), act(key(0x70)), act(key(27))), (0, 0, 0, 0));
        assert_eq!(act(FromViewer::CtrlAltDel), 0);
        assert_eq!(act(FromViewer::Unicode { down: true, unit: 0x41 }), 1);
    }
}
