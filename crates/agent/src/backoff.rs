//! When to try the server again: quick at first, patient later, never in step with other agents.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// No retry comes sooner than this; it also spreads a fleet that lost its server at one instant.
const FLOOR: Duration = Duration::from_millis(500);
/// Retries that stay within [`QUICK_CEILING`]: a server that restarts is back within seconds.
const QUICK_RETRIES: u32 = 3;
/// Upper edge of the first retries. 1,000 agents over 1.5 s is 670 handshakes a second.
const QUICK_CEILING: Duration = Duration::from_secs(2);
/// The longest waits are drawn between these (MeshAgent's own 240..360 s).
const CAP: (Duration, Duration) = (Duration::from_secs(240), Duration::from_secs(360));
/// A connection must have been authenticated this long before the count of failures starts anew.
/// MeshCentral stops talking to a device that disconnects more than four times in 120 s.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The growing delay between attempts ("full jitter": uniform between a floor and a doubling ceiling).
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt, after one more failure.
    pub fn fail(&mut self) -> Duration {
        let delay = match self.ceiling() {
            Some(ceiling) => between(FLOOR, ceiling),
            None => between(CAP.0, CAP.1),
        };
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// A connection ended that had been authenticated for `lasted`.
    pub fn connection_lasted(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
    }

    /// Skips the quick retries: the server answered, and what it said will not change in seconds.
    pub fn be_patient(&mut self) {
        self.failures = self.failures.max(QUICK_RETRIES + 3);
    }

    /// Failures since the last stable connection.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Upper edge of the next delay; `None` when the doubling has passed the cap.
    fn ceiling(&self) -> Option<Duration> {
        let doublings = self.failures.saturating_sub(QUICK_RETRIES - 1);
        let ceiling = QUICK_CEILING.checked_mul(1u32.checked_shl(doublings)?)?;
        (ceiling < CAP.0).then_some(ceiling)
    }
}

/// A duration drawn uniformly from `low..high`.
pub fn between(low: Duration, high: Duration) -> Duration {
    let mut bytes = [0u8; 4];
    // Without randomness the middle is still a correct delay, only not a spread one.
    let share = match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    };
    low + high.saturating_sub(low).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_retries_are_quick_and_spread() {
        let mut seen = Vec::new();
        for _ in 0..200 {
            let delay = Backoff::default().fail();
            assert!(delay >= FLOOR && delay <= QUICK_CEILING, "{delay:?}");
            seen.push(delay);
        }
        seen.sort();
        assert!(seen[199] - seen[0] > Duration::from_millis(1000), "a fleet must not move in step");
    }

    #[test]
    fn delays_grow_to_minutes_and_stop_there() {
        let mut backoff = Backoff::default();
        for _ in 0..QUICK_RETRIES {
            assert!(backoff.fail() <= QUICK_CEILING);
        }
        for _ in 0..40 {
            assert!(backoff.fail() <= CAP.1);
        }
        for _ in 0..40 {
            let delay = backoff.fail();
            assert!(delay >= CAP.0 && delay <= CAP.1, "{delay:?}");
        }
    }

    #[test]
    fn only_a_stable_connection_resets() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.fail();
        }
        backoff.connection_lasted(Duration::from_secs(5));
        assert!(backoff.fail() >= CAP.0);
        backoff.connection_lasted(STABLE_AFTER);
        assert!(backoff.fail() <= QUICK_CEILING);
    }
}
