//! Agents: their sessions, what they report, and how they get onto a device.

mod binaries;
pub mod bundle;
mod core;
mod install;
mod official;
pub mod packages;
mod registration;
mod reports;
mod routing;
mod session;
mod settings;
mod update;
mod upkeep;

pub use binaries::{AgentBinaries, AgentBinary};
pub use core::mesh_command;
pub use install::{generic_script, script_for};
pub use official::Official;
pub use registration::Refused;
pub use session::{LONGEST_MESSAGE, serve};
pub use settings::{Flavour, settings};
