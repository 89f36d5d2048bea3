//! Holds many idle agents on a server and says what each of them costs it.
//!
//! `cargo run --release --example load -- <host:port> <group id> <server id> <agents> [server's pid]`
//!
//! Every agent has a key of its own and shakes hands for real; then it says nothing. Memory is read from
//! `/proc/<pid>/status` before and after. `LOAD_HOLD` is for how many seconds the agents stay (8).

#![allow(missing_docs, clippy::print_stdout, reason = "an example that prints")]

#[path = "../tests/server/agents.rs"]
#[allow(dead_code, reason = "an example uses its part")]
mod agents;
#[path = "../tests/server/world.rs"]
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use outpost_agent::identity::Identity;
use outpost_wire::id::Hash384;

use agents::{BareAgent, Claims, group_hash};

/// Handshakes under way at the same time.
const AT_ONCE: usize = 16;

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, group, server_id, count, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("load <host:port> <group id> <server id> <agents> [server's pid]");
    };
    let address: SocketAddr = address.parse()?;
    let (group, server_id) = (group_hash(group), Hash384::from_hex(server_id)?);
    let count: usize = count.parse()?;
    let pid: Option<u32> = rest.first().map(|pid| pid.parse()).transpose()?;

    println!("making {count} keys …");
    let mut identities = Vec::with_capacity(count);
    for _ in 0..count {
        identities.push(tokio::task::spawn_blocking(Identity::generate).await??);
    }
    let before = pid.map(resident_kib).transpose()?;
    let started = Instant::now();
    let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut joining = tokio::task::JoinSet::new();
    for (n, identity) in identities.into_iter().enumerate() {
        let turns = turns.clone();
        joining.spawn(async move {
            let _turn = turns.acquire().await;
            let host_name = format!("load-{n}");
            let claims = Claims { identity: &identity, group, host_name: &host_name, server_id };
            BareAgent::connect(address, claims).await
        });
    }
    let mut held = Vec::with_capacity(count);
    while let Some(agent) = joining.join_next().await {
        held.push(agent?);
    }
    let in_time = held.iter().filter(|agent| agent.is_in()).count();
    println!("{in_time} of {count} enrolled in {:.1} s", started.elapsed().as_secs_f64());
    let hold = std::env::var("LOAD_HOLD").ok().map(|seconds| seconds.parse()).transpose()?;
    tokio::time::sleep(Duration::from_secs(hold.unwrap_or(8))).await;
    if let (Some(pid), Some(before)) = (pid, before) {
        let after = resident_kib(pid)?;
        let each = (after.saturating_sub(before)) as f64 / count as f64;
        println!("server: {before} KiB before, {after} KiB after: {each:.1} KiB an idle agent");
    }
    Ok(())
}
