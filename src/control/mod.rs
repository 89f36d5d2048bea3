//! The control socket: what browsers, `meshctrl` and scripts ask of the server.

mod account;
mod actions;
mod agentless;
mod chat;
mod console;
mod context;
mod cookies;
mod cores;
mod device_table;
mod devices;
mod groups;
mod history;
mod inventory;
mod invites;
mod jobs;
mod messages;
mod notify;
mod preferences;
mod recordings;
mod reply;
mod reports;
mod request;
mod server;
mod server_files;
mod session;
mod shares;
mod tokens;
mod two_factor;
mod user_groups;
mod users;

pub use context::{Context, safe_user};
pub use server_files::{may_use as may_use_files, quota as quota_of_files};
pub use session::{Credentials, LONGEST_MESSAGE, Opening, close_message, serve};
pub use users::{check_email, check_name, created_event, new_user};
