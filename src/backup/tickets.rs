//! Tickets for downloads of everything: given for a password, good once and for a moment, kept in memory only.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use outpost_wire::id::UserId;

/// How long one is good: the browser uses it at once.
const LIFE: Duration = Duration::from_secs(60);
/// Most at a time; the oldest is void when there are more.
const MOST: usize = 16;

struct Ticket {
    key: String,
    user: UserId,
    recordings: bool,
    until: Instant,
}

/// The tickets that were not used yet.
#[derive(Default)]
pub struct Tickets {
    open: Mutex<Vec<Ticket>>,
}

impl Tickets {
    /// Gives one to somebody who has proved who they are, for a copy with recordings or without.
    pub fn give(&self, user: &UserId, recordings: bool, now: Instant) -> String {
        let key: String =
            outpost_wire::random::bytes::<24>().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|ticket| ticket.until > now);
        if open.len() >= MOST {
            open.remove(0);
        }
        open.push(Ticket { key: key.clone(), user: user.clone(), recordings, until: now + LIFE });
        key
    }

    /// Takes one back from whom it was given to; says whether recordings are wanted. None if it is none, or of
    /// somebody else, who has used it up with that.
    pub fn take(&self, key: &str, user: &UserId, now: Instant) -> Option<bool> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|ticket| ticket.key == key)?;
        let ticket = open.remove(at);
        (ticket.user == *user && ticket.until > now).then_some(ticket.recordings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_for_its_owner_and_a_moment() {
        let user = |name: &str| UserId::from_name("", name).expect("a name");
        let (tickets, now) = (Tickets::default(), Instant::now());
        let key = tickets.give(&user("bob"), true, now);
        assert_eq!(tickets.take("other", &user("bob"), now), None);
        assert_eq!(tickets.take(&key, &user("bob"), now), Some(true));
        assert_eq!(tickets.take(&key, &user("bob"), now), None, "once");
        let key = tickets.give(&user("bob"), false, now);
        assert_eq!(tickets.take(&key, &user("eve"), now), None);
        let key = tickets.give(&user("bob"), false, now);
        assert_eq!(tickets.take(&key, &user("bob"), now + LIFE), None, "late");
    }
}
