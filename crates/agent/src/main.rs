//! The Outpost agent for Linux.

fn main() {}
