//! The box around the server: whether the server is well, what the service manager and the screen are told, what root
//! does for it on a box, and how it is updated.

pub mod client;
pub mod facts;
pub mod fetch;
mod greeting;
mod health;
pub mod helper;
mod incidents;
mod name;
mod notice;
pub mod protocol;
mod self_update;
pub mod settings;
pub mod staging;
mod updates;

pub use health::{Illness, examine};
pub use name::host_name;
pub use notice::watch;
pub use self_update::{SelfUpdateError, keep_up, look};
pub use updates::{Appliance, Turn, UpdateError, Work, note};
