//! Settings on the card: `outpost.toml` on the boot partition, which any computer can write, read once at a start.
//!
//! A section changes what it names and nothing else; one with a mistake changes nothing, and the box starts all the same.
//! What is taken over is kept on the data partition, and made true again at every start ([`kept`]). Sections with secrets
//! are removed from the card once they are safe on the data partition. A factory reset forgets all of it.

mod apply;
mod document;
mod durable;
mod host;
mod kept;
mod machine;
mod ssh;
mod takeover;
mod wanted;
mod wifi;
mod wired;

pub use apply::{Outcome, apply};
pub use document::Problem;
pub use host::HostName;
pub use kept::Root;
pub use machine::{Machine, ThisBox};
pub use takeover::{Request, take_over};
