//! The server as its clients see it: real sockets, real TLS, the real agent, on loopback.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod accounts;
mod agents;
mod appliance;
mod chat;
mod client;
mod devices;
mod hostile;
mod jobs;
mod journal;
mod logins;
mod memory;
mod official;
mod package;
mod recordings;
mod relays;
mod sharing;
mod tunnels;
mod wording;
mod world;
