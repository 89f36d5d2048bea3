//! The `outpost` server.

use std::io::Write as _;

/// musl's own allocator is slow under threads; this one is small and quick.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Huge pages would round each corner of the heap up to 2 MiB: 13 MiB instead of 2 for an idle server.
    // A kernel that does not know the call does without.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = outpost::cli::run(&arguments).unwrap_or_else(|error| {
        let mut stderr = std::io::stderr();
        // Nobody may be listening any more.
        let _ = writeln!(stderr, "outpost: {error:#}");
        1
    });
    std::process::exit(code);
}
