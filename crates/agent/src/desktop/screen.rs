//! A screen that is watched: one thread for all viewers, which sleeps while nothing changes or nobody has room for
//! more. Where the pictures come from is a [`Source`].

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::display::DisplayError;
use super::seat::Target;
use super::tiles::{Framebuffer, Rect};
use super::virtual_terminal::FRONT;

/// Largest screen, in pixels a side: what positions on the wire can say.
pub const LARGEST: usize = 16_384;

/// What viewers know of the screen.
#[derive(Debug)]
pub struct State {
    /// Its pixels.
    pub framebuffer: Framebuffer,
    /// The displays on it, in the order of the system.
    pub monitors: Vec<Rect>,
    /// Changes with the size or the displays.
    pub layout: u64,
    /// Number of the cursor's shape.
    pub cursor: u8,
    /// Bits of the keyboard's lights.
    pub lights: u8,
    /// Who watches, with how many sessions.
    pub people: BTreeMap<String, u32>,
    /// Why there will be nothing more, if so.
    pub ended: Option<String>,
}

/// Where pictures come from.
pub trait Source: Send + 'static {
    /// Width and height of the whole screen.
    fn size(&self) -> (usize, usize);
    /// Keeps the state of the screen as the screen is, until that is over.
    ///
    /// # Errors
    /// [`Lost`], which is how it always ends.
    fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Lost>;
}

/// Why a screen cannot be watched any longer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// As the source says.
    #[error("{0}")]
    Source(String),
    /// The system's.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Another one is in front now.
    #[error("another session is in front now")]
    Elsewhere,
    /// Nobody wants more.
    #[error("nobody watches any more")]
    Unwatched,
}

impl From<nix::Error> for Lost {
    fn from(error: nix::Error) -> Lost {
        Lost::System(error.into())
    }
}

/// A screen that is watched. When the last viewer lets go of it, the thread ends.
#[derive(Debug)]
pub struct Screen {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    ready: Mutex<HashMap<u64, Duration>>,
    wake: UnixStream,
    /// When a viewer moved the pointer last.
    pointed: Mutex<Option<Instant>>,
    /// What is watched.
    pub target: Target,
}

impl Screen {
    /// Begins to watch `source`, which shows `target`, for as long as `is_chosen` says that it is the one to be
    /// shown: it is asked when something hints that another may be.
    ///
    /// # Errors
    /// [`DisplayError::Refused`] when there is no thread for it.
    pub fn watch(
        target: Target,
        mut source: Box<dyn Source>,
        is_chosen: Box<dyn Fn() -> bool + Send>,
    ) -> Result<Arc<Screen>, DisplayError> {
        let refused = |error: io::Error| DisplayError::refused(target.name(), error);
        let (wake, woken) = UnixStream::pair().map_err(refused)?;
        wake.set_nonblocking(true).and(woken.set_nonblocking(true)).map_err(refused)?;
        let (width, height) = source.size();
        let state = State {
            framebuffer: Framebuffer::new(width, height),
            monitors: Vec::new(),
            layout: 0,
            cursor: 0,
            lights: 0,
            people: BTreeMap::new(),
            ended: None,
        };
        let screen = Arc::new(Screen {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            ready: Mutex::default(),
            wake,
            pointed: Mutex::default(),
            target: target.clone(),
        });
        // A device without virtual terminals has nothing that could come in front.
        let front = std::fs::File::open(FRONT).ok();
        let mut watch = Watch { screen: Arc::downgrade(&screen), woken, front, is_chosen };
        let thread = move || {
            let lost = match source.follow(&mut watch) {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            if let Some(screen) = watch.screen.upgrade() {
                log::info!("{}: {lost}", screen.target.name());
                screen.state().ended = Some(lost.to_string());
                screen.publish();
            }
        };
        std::thread::Builder::new().name("screen".into()).spawn(thread).map_err(refused)?;
        Ok(screen)
    }

    /// What there is to see.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells of one.
    pub fn publish(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// The screen has this size and these displays from now on.
    pub fn laid_out(&self, (width, height): (usize, usize), monitors: &[Rect]) {
        let whole = Rect { x: 0, y: 0, width, height };
        let mut state = self.state();
        if state.framebuffer.bounds() != whole {
            state.framebuffer = Framebuffer::new(width, height);
        }
        state.monitors = monitors.iter().filter_map(|part| part.intersection(&whole)).collect();
        state.layout += 1;
        drop(state);
        self.publish();
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<u64, Duration>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shortest time between pictures that a viewer with room for more wants; `None` when none has room.
    pub fn interval(&self) -> Option<Duration> {
        self.ready().values().min().copied()
    }

    /// A viewer has room for pictures, not more often than every `interval`.
    pub fn is_ready(&self, viewer: u64, interval: Duration) {
        let first = {
            let mut ready = self.ready();
            let first = ready.is_empty();
            first | (ready.insert(viewer, interval) != Some(interval))
        };
        if first {
            self.poke();
        }
    }

    /// A viewer has none.
    pub fn is_busy(&self, viewer: u64) {
        self.ready().remove(&viewer);
    }

    /// Has the thread look again.
    pub fn poke(&self) {
        // Full means that it is about to wake anyway.
        let _ = (&self.wake).write(&[1]);
    }

    /// A viewer moved the pointer.
    pub fn pointed(&self) {
        *self.pointed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a viewer has moved the pointer within this time: it is then where they see their own.
    pub fn is_pointed(&self, within: Duration) -> bool {
        let pointed = self.pointed.lock().unwrap_or_else(PoisonError::into_inner);
        pointed.is_some_and(|at| at.elapsed() < within)
    }

    /// Somebody came, or went.
    pub fn count(&self, user: &str, change: i32) {
        let mut state = self.state();
        let count = state.people.entry(user.to_owned()).or_insert(0);
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            state.people.remove(user);
        }
        drop(state);
        self.publish();
    }
}

/// The thread's side of a screen.
pub struct Watch {
    screen: Weak<Screen>,
    woken: UnixStream,
    /// The kernel's word on which virtual terminal is in front; it can be waited for.
    front: Option<std::fs::File>,
    is_chosen: Box<dyn Fn() -> bool + Send>,
}

impl Watch {
    /// The screen.
    ///
    /// # Errors
    /// [`Lost::Unwatched`].
    pub fn screen(&self) -> Result<Arc<Screen>, Lost> {
        self.screen.upgrade().ok_or(Lost::Unwatched)
    }

    /// Asks whether this is still the one to be shown.
    ///
    /// # Errors
    /// [`Lost::Elsewhere`].
    pub fn still_chosen(&self) -> Result<(), Lost> {
        if (self.is_chosen)() { Ok(()) } else { Err(Lost::Elsewhere) }
    }

    /// Sleeps until a viewer wants something (then `true`), `events` has something, or the time is over.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn wait(&mut self, events: Option<BorrowedFd<'_>>, time: Option<Duration>) -> Result<bool, Lost> {
        let timeout = time.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
        });
        let mut sources = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        sources.extend(self.front.as_ref().map(|front| PollFd::new(front.as_fd(), PollFlags::POLLPRI)));
        sources.extend(events.map(|events| PollFd::new(events, PollFlags::POLLIN)));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_told = |flags: PollFlags| flags.intersects(PollFlags::POLLPRI | PollFlags::POLLERR);
        let moved = self.front.is_some() && sources[1].revents().is_some_and(is_told);
        if moved && let Some(front) = &mut self.front {
            // Reading is what makes the kernel tell of the next one.
            front.seek(SeekFrom::Start(0))?;
            front.read_to_string(&mut String::new())?;
            self.still_chosen()?;
        }
        match self.woken.read(&mut [0; 64]) {
            Ok(0) => Err(Lost::Unwatched),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
