//! Conversations: a person at the app and whoever sits at a device write to each other.
//!
//! Nothing of a conversation is stored: it lives while the person's page is open, and a little longer so that a
//! page may be loaded again. The device's side comes by a link that opens this conversation and nothing else.

mod seats;
mod talk;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outpost_wire::id::{DeviceId, UserId, base64x_encode};
use outpost_wire::random;
use serde_json::json;

use crate::clock;
use crate::model::Rights;
use crate::recordings::{self, Asked, Plan};
use crate::site::Site;

use seats::Seats;
pub use talk::{LONGEST_FRAME, serve};

/// What ids of conversations begin with (tunnel-protocols §1.14).
pub const PREFIX: &str = "meshmessenger/";
/// The number of the messenger among the protocols (tunnel-protocols §2).
pub const PROTOCOL: u16 = 200;
/// How long a conversation waits for its person's page: at the beginning, and when it was closed or reloaded.
const PATIENCE: Duration = Duration::from_secs(120);
/// Minutes that a link is good for, if its conversation lives that long.
const LINK_MINUTES: u32 = 24 * 60;
/// Conversations at the same time.
const MOST: usize = 256;

/// Which side of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The person who is logged in.
    Person,
    /// Whoever sits at the device.
    Device,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Person => Side::Device,
            Side::Device => Side::Person,
        }
    }
}

/// Why there is no conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// Too many.
    #[error("there are too many conversations on this server")]
    Full,
    /// It has ended, never was, or is somebody else's.
    #[error("this conversation has ended")]
    Over,
    /// The right to it is missing.
    #[error("Access denied")]
    Forbidden,
    /// Everything said to this device has to be recorded.
    #[error("Chats have to be recorded here, and this server cannot record them")]
    Unrecorded,
}

/// A conversation of one person with one device.
pub struct Conversation {
    /// `meshmessenger/<device>/<user>`.
    pub id: String,
    /// The device.
    pub device: DeviceId,
    /// The person.
    pub user: UserId,
    /// What links to this conversation name, so that those to an earlier one are void.
    secret: String,
    seats: Seats,
}

impl Conversation {
    /// The address for the device's browser on a server that is reached as `host`. One value only: some devices
    /// hand addresses to a shell.
    pub fn link(&self, site: &Site, host: &str) -> String {
        let claims = json!({ "a": "chat", "id": self.id, "s": self.secret, "expire": LINK_MINUTES });
        let cookie = outpost_wire::cookie::seal(&site.keys.invitation, &claims, clock::now_seconds());
        format!("https://{host}/messenger?id={PREFIX}{cookie}")
    }

    /// Whether the device's side is there.
    pub fn is_answered(&self) -> bool {
        self.seats.is_taken(Side::Device)
    }
}

/// All conversations of a server.
#[derive(Default)]
pub struct Chats {
    open: Mutex<HashMap<String, Arc<Conversation>>>,
}

impl Chats {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Conversation>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, conversation| !conversation.seats.is_over(Instant::now()));
        open
    }

    /// The conversation of a person with a device, begun if there is none. The right to it was asked before.
    ///
    /// # Errors
    /// [`ChatError::Full`].
    pub fn begin(&self, device: &DeviceId, user: &UserId) -> Result<Arc<Conversation>, ChatError> {
        let id = id_of(device, user);
        let mut open = self.open();
        if let Some(there) = open.get(&id) {
            return Ok(there.clone());
        }
        if open.len() >= MOST {
            return Err(ChatError::Full);
        }
        let conversation = Arc::new(Conversation {
            id: id.clone(),
            device: device.clone(),
            user: user.clone(),
            secret: base64x_encode(&random::bytes::<15>()),
            seats: Seats::new(PATIENCE),
        });
        open.insert(id, conversation.clone());
        Ok(conversation)
    }

    /// A person's conversation with this id.
    ///
    /// # Errors
    /// [`ChatError::Over`], also when it is somebody else's.
    pub fn of_person(&self, id: &str, user: &UserId) -> Result<Arc<Conversation>, ChatError> {
        let found = self.open().get(id).cloned();
        found.filter(|conversation| conversation.user == *user).ok_or(ChatError::Over)
    }
}

/// The id of the conversation of a person with a device.
fn id_of(device: &DeviceId, user: &UserId) -> String {
    format!("{PREFIX}{device}/{user}")
}

/// The conversation that the cookie of a link opens, now.
///
/// # Errors
/// [`ChatError::Over`]: it is no such link, its time is over, or its conversation is.
pub fn by_link(site: &Site, cookie: &str) -> Result<Arc<Conversation>, ChatError> {
    let claims =
        outpost_wire::cookie::open(&site.keys.invitation, cookie, clock::now_seconds(), LINK_MINUTES)
            .map_err(|_| ChatError::Over)?;
    let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
    let (Some("chat"), Some(id), Some(secret)) = (text("a"), text("id"), text("s")) else {
        return Err(ChatError::Over);
    };
    let found = site.chats.open().get(id).cloned();
    found.filter(|conversation| conversation.secret == secret).ok_or(ChatError::Over)
}

/// Whether a person may talk to whoever sits at a device, now.
///
/// # Errors
/// [`ChatError::Forbidden`], [`ChatError::Unrecorded`].
pub fn may_talk(site: &Site, user: &UserId, device: &DeviceId) -> Result<(), ChatError> {
    let access = site.access(user).ok_or(ChatError::Forbidden)?;
    access.device(device, Rights::NOTIFY).map_err(|_| ChatError::Forbidden)?;
    let asked = Asked::Session(Some(PROTOCOL));
    match recordings::plan(&site.config, &site.store.directory(), user, device, asked) {
        Plan::Record(_) => Err(ChatError::Unrecorded),
        Plan::Watch(_) | Plan::Free => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_one_conversation_with_a_device_and_nobody_elses() {
        let chats = Chats::default();
        let device = DeviceId::parse(&format!("node//{}", "a".repeat(64))).expect("an id");
        let bob = UserId::from_name("", "bob").expect("an id");
        let eve = UserId::from_name("", "eve").expect("an id");
        let one = chats.begin(&device, &bob).expect("room");
        assert_eq!(one.id, format!("meshmessenger/{device}/user//bob"));
        assert!(Arc::ptr_eq(&one, &chats.begin(&device, &bob).expect("room")));
        assert!(chats.of_person(&one.id, &bob).is_ok());
        assert_eq!(chats.of_person(&one.id, &eve).err(), Some(ChatError::Over));
        one.seats.end("closed");
        assert_eq!(chats.of_person(&one.id, &bob).err(), Some(ChatError::Over));
        let next = chats.begin(&device, &bob).expect("room");
        assert_ne!(one.secret, next.secret, "links to the first are void");
    }
}
