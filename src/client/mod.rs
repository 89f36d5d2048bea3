//! This program as a client of a server: what `outpost login`, `connect` and `ssh` work with.
//!
//! A server is known by its certificate, pinned when its user logs in, as `ssh` pins host keys: on a LAN
//! there is no authority that could vouch for it.

mod forward;
mod profile;
mod session;

pub use forward::{Door, Target, TargetError, datagrams, standard_streams, stream};
pub use profile::{Profile, ProfileError};
pub(crate) use session::dial;
pub use session::{Address, ClientError, Device, GuestLink, Login, Session, fingerprint};
