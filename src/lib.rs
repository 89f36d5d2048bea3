//! Outpost: a remote-management server that lives in a small box.
//!
//! Data flows one way: model → store → live and events → agents, relay, control → web → server. Nothing
//! lower imports anything higher. `docs/architecture.md` has the picture.

#![forbid(unsafe_code)]

pub mod agents;
pub mod appliance;
pub mod auth;
pub mod backup;
pub mod chat;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod discovery;
pub mod events;
pub mod files;
pub mod identity;
pub mod jobs;
pub mod live;
pub mod logging;
pub mod model;
pub mod recordings;
pub mod relay;
pub mod server;
pub mod site;
pub mod store;
pub mod web;

pub use server::Server;
