//! Room that several writers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that may be held at once, whoever holds them.
#[derive(Debug)]
pub struct Room {
    held: AtomicU64,
    most: u64,
}

impl Room {
    /// Room for `most` bytes.
    pub fn new(most: u64) -> Arc<Room> {
        Arc::new(Room { held: AtomicU64::new(0), most })
    }

    /// A share of it, of no bytes yet.
    pub fn share(self: &Arc<Room>) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }
}

/// What one writer holds; it is free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    /// Takes room for more bytes; `false`, and nothing taken, when there is not so much.
    pub fn take(&mut self, bytes: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.room.most);
        let taken = self.room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_share_the_room_and_give_it_back() {
        let room = Room::new(10);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.take(6) && other.take(4));
        assert!(!one.take(1) && !other.take(u64::MAX));
        drop(other);
        assert!(one.take(4) && !one.take(1));
    }
}
