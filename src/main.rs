//! The `outpost` server.

use std::io::Write as _;

/// musl's own allocator is slow under threads; this one is small and quick.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = outpost::cli::run(&arguments).unwrap_or_else(|error| {
        let mut stderr = std::io::stderr();
        // Nobody may be listening any more.
        let _ = writeln!(stderr, "outpost: {error:#}");
        1
    });
    std::process::exit(code);
}
