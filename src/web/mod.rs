//! HTTPS: ports, TLS, routes, pages, and the doors of the WebSockets.

mod api;
mod assets;
mod authentication;
mod downloads;
mod invite;
mod listener;
mod permits;
mod redirect;
mod request;
mod router;
mod sockets;
mod tls;

pub use authentication::LoginError;
pub use listener::{BindError, Listeners, bind};
pub use permits::{ConnectionPermit, Permits};
pub use redirect::serve as serve_redirection;
pub use router::serve;
pub use tls::acceptor;
