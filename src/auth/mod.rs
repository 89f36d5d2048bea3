//! Proving who somebody is: passwords, sessions, back-off.

pub mod password;
pub mod session;
pub mod throttle;

pub use password::PasswordHash;
pub use session::{Sessions, WebSession};
pub use throttle::{Network, Throttle};
