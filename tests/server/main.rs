//! The server as its clients see it: real sockets, real TLS, the real agent, on loopback.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod accounts;
mod agents;
mod devices;
mod hostile;
mod sharing;
mod tunnels;
mod world;
