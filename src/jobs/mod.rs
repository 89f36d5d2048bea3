//! Commands for many devices: kept, sent once to each as soon as it is there, answered whenever it answers.
//!
//! A [`Job`] is a script and who asked for it; a [`Run`] is what becomes of it on one device. The [`Board`]
//! is the picture of all runs in memory and decides what may happen to each; `delivery` does it: it writes
//! to the store first and sends then, so that no device gets a script twice, whenever the server stops.

mod board;
mod delivery;
mod records;

pub use board::{Board, Counts, Listed};
pub use delivery::{Jobs, QueueError, answered, cancel, queue, ready, remove, sweep, view_run};
pub use records::{Job, JobId, Run, RunState, Shell};
