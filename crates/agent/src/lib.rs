//! The Outpost agent for Linux: connects a device to an Outpost (or MeshCentral) server and serves it.
//!
//! The binary is a thin command line over [`agent::Agent`]; tests and load generators drive that directly.
//! Data flows `settings, state → agent → dial → session → requests, tunnels`; machine facts (`host`,
//! `network`, `hardware`, …) know nothing of servers.

pub mod account;
pub mod agent;
pub mod backoff;
pub mod browser;
mod consent;
mod console;
pub mod desktop;
pub mod dial;
pub mod discovery;
pub mod endpoint;
mod fetch;
mod files;
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
pub mod port_relay;
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
mod surroundings;
pub mod terminal;
pub mod tls;
pub mod tunnel;
pub mod tunnels;
mod uplink;
mod wake;
