//! The control socket: what browsers, `meshctrl` and scripts ask of the server.

mod account;
mod actions;
mod context;
mod devices;
mod groups;
mod history;
mod inventory;
mod invites;
mod notify;
mod reply;
mod request;
mod server;
mod session;
mod user_groups;
mod users;

pub use context::{Context, safe_user};
pub use session::{Credentials, LONGEST_MESSAGE, Opening, close_message, serve};
pub use users::{check_email, check_name, created_event, new_user};
