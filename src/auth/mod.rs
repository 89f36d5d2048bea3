//! Proving who somebody is: passwords, second factors, login tokens, sessions, back-off.

mod back_in;
pub mod once;
pub mod password;
pub mod second_factor;
pub mod session;
pub mod shares;
pub mod throttle;
pub mod tokens;

pub use back_in::let_back_in;
pub use once::UsedCookies;
pub use password::PasswordHash;
pub use second_factor::SecondFactor;
pub use session::{Sessions, WebSession};
pub use shares::{DeviceShare, Shares};
pub use throttle::{Network, Throttle};
pub use tokens::{LoginToken, LoginTokens};
