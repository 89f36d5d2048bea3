//! HTTPS: ports, TLS, routes, pages, and the doors of the WebSockets.

mod api;
mod appliance;
mod assets;
mod authentication;
mod batch;
mod conversations;
mod copies;
mod device_file;
mod downloads;
mod entry;
mod imports;
mod invite;
mod listener;
mod official;
mod opening;
mod pages;
mod permits;
mod recordings;
mod records;
mod redirect;
mod request;
mod router;
mod sending;
mod sharing;
mod sockets;
mod tls;
mod tunnels;
mod upload;
mod user_files;

pub use authentication::LoginError;
pub use batch::forget as forget_transfers;
pub use listener::{BindError, Listeners, bind};
pub use permits::{ConnectionPermit, Permits};
pub use redirect::serve as serve_redirection;
pub use router::serve;
pub use tls::acceptor;
