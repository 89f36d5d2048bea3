//! The two seats of a conversation: who sits there, what waits for them, when it is over.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::Side;

/// Messages under way to one side.
const UNDER_WAY: usize = 32;
/// Messages said while the other side was not there; the oldest go.
const MOST_WAITING: usize = 32;

/// Both seats.
pub(super) struct Seats {
    patience: Duration,
    state: Mutex<State>,
    end: watch::Sender<Option<&'static str>>,
}

struct State {
    person: Chair,
    device: Chair,
    /// When the person's page was last closed, or the conversation began.
    left: Instant,
    sitting: u64,
    together: Option<Together>,
}

#[derive(Default)]
struct Chair {
    taken: Option<Sitting>,
    waiting: VecDeque<String>,
}

struct Sitting {
    number: u64,
    remote: IpAddr,
    mailbox: mpsc::Sender<String>,
}

/// Both sides are there.
#[derive(Clone, Debug)]
pub(super) struct Together {
    pub(super) person: IpAddr,
    pub(super) device: IpAddr,
    pub(super) since: Instant,
    /// Bytes that each side has said.
    pub(super) said: [u64; 2],
}

/// Somebody has sat down.
pub(super) struct Seated {
    pub(super) number: u64,
    pub(super) mail: mpsc::Receiver<String>,
    /// What was said before.
    pub(super) waiting: VecDeque<String>,
    /// The end of the conversation, and why.
    pub(super) end: watch::Receiver<Option<&'static str>>,
    /// Both sides are there, since now.
    pub(super) together: Option<Together>,
    /// They were with somebody else in this seat before.
    pub(super) apart: Option<Together>,
}

impl State {
    fn chair(&mut self, side: Side) -> &mut Chair {
        match side {
            Side::Person => &mut self.person,
            Side::Device => &mut self.device,
        }
    }
}

impl Seats {
    pub(super) fn new(patience: Duration) -> Seats {
        let state = State {
            person: Chair::default(),
            device: Chair::default(),
            left: Instant::now(),
            sitting: 0,
            together: None,
        };
        Seats { patience, state: Mutex::new(state), end: watch::Sender::new(None) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended, or its person has been away for too long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let state = self.state();
        self.end.borrow().is_some()
            || (state.person.taken.is_none() && now.saturating_duration_since(state.left) > self.patience)
    }

    pub(super) fn is_taken(&self, side: Side) -> bool {
        self.state().chair(side).taken.is_some()
    }

    /// Takes a seat. Whoever sat there before is sent away: the newest page counts.
    pub(super) fn sit(&self, side: Side, remote: IpAddr) -> Seated {
        let mut state = self.state();
        state.sitting += 1;
        let number = state.sitting;
        let (mailbox, mail) = mpsc::channel(UNDER_WAY);
        let apart = state.together.take();
        let chair = state.chair(side);
        chair.taken = Some(Sitting { number, remote, mailbox });
        let waiting = std::mem::take(&mut chair.waiting);
        if let (Some(person), Some(device)) = (&state.person.taken, &state.device.taken) {
            state.together = Some(Together {
                person: person.remote,
                device: device.remote,
                since: Instant::now(),
                said: [0; 2],
            });
        }
        let together = state.together.clone();
        Seated { number, mail, waiting, end: self.end.subscribe(), together, apart }
    }

    /// Leaves a seat, unless somebody else has taken it; says whether it was left, and how long both were there.
    pub(super) fn leave(&self, side: Side, number: u64) -> (bool, Option<Together>) {
        let mut state = self.state();
        let chair = state.chair(side);
        if chair.taken.as_ref().is_none_or(|sitting| sitting.number != number) {
            return (false, None);
        }
        chair.taken = None;
        if side == Side::Person {
            state.left = Instant::now();
        }
        (true, state.together.take())
    }

    /// How to reach a side now.
    pub(super) fn mailbox(&self, side: Side) -> Option<mpsc::Sender<String>> {
        self.state().chair(side).taken.as_ref().map(|sitting| sitting.mailbox.clone())
    }

    /// Keeps what was said to a side that is not there.
    pub(super) fn keep(&self, to: Side, message: String) {
        let mut state = self.state();
        let waiting = &mut state.chair(to).waiting;
        if waiting.len() >= MOST_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(message);
    }

    /// Counts what a side has said.
    pub(super) fn count(&self, by: Side, bytes: usize) {
        if let Some(together) = &mut self.state().together {
            together.said[usize::from(by == Side::Device)] += bytes as u64;
        }
    }

    /// Ends it for both.
    pub(super) fn end(&self, why: &'static str) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(why);
            first
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn seats_are_taken_left_and_missed() {
        let seats = Seats::new(Duration::from_secs(60));
        let first = seats.sit(Side::Person, HERE);
        assert!(first.together.is_none());
        for n in 0..40 {
            seats.keep(Side::Device, n.to_string());
        }
        let device = seats.sit(Side::Device, HERE);
        assert!(device.together.is_some());
        assert_eq!(device.waiting.len(), MOST_WAITING);
        assert_eq!(device.waiting.front().map(String::as_str), Some("8"), "the oldest are gone");
        seats.count(Side::Device, 5);
        let second = seats.sit(Side::Person, HERE);
        assert_eq!(second.apart.expect("they were").said, [0, 5]);
        assert!(!seats.leave(Side::Person, first.number).0, "the newer page stays");
        assert!(seats.leave(Side::Person, second.number).0);
        assert!(!seats.is_over(Instant::now()), "it may come back");
        assert!(seats.is_over(Instant::now() + Duration::from_secs(61)));
        assert!(!seats.is_taken(Side::Person) && seats.is_taken(Side::Device));
    }
}
