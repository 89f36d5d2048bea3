//! Agents: their sessions, what they report, and how they get onto a device.

mod binaries;
mod install;
mod registration;
mod reports;
mod routing;
mod session;
mod settings;

pub use binaries::{AgentBinaries, AgentBinary};
pub use install::{generic_script, script_for};
pub use registration::Refused;
pub use session::{LONGEST_MESSAGE, serve};
pub use settings::{Flavour, settings};
