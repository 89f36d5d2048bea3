//! The `outpost` server.

fn main() {}
