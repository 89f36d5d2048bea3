//! The Outpost agent for Linux: connects a device to an Outpost (or MeshCentral) server and serves it.
//!
//! The binary is a thin command line over [`agent::Agent`]; tests and load generators drive that directly.
//! Data flows `settings, state → agent → dial → session → requests, tunnels`; machine facts (`host`,
//! `network`, `hardware`, …) know nothing of servers.

pub mod account;
pub mod agent;
pub mod backoff;
mod console;
pub mod dial;
pub mod discovery;
pub mod endpoint;
pub mod hardware;
pub mod host;
pub mod identity;
pub mod install;
mod inventory;
mod load;
pub mod logging;
mod logins;
mod netlink;
pub mod network;
mod power;
pub mod processes;
pub mod proxy;
pub mod pty;
mod requests;
pub mod run_commands;
mod services;
pub mod session;
pub mod settings;
pub mod smbios;
pub mod state;
pub mod terminal;
pub mod tls;
pub mod tunnel;
pub mod tunnels;
mod uplink;
mod wake;
