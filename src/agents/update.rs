//! Giving an agent another executable (agent-protocol §5.4).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outpost_wire::command::ServerCommand;
use outpost_wire::handshake::Capabilities;
use outpost_wire::id::Hash384;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::bundle::{Bundle, BundleFile};
use crate::config::Upkeep;

/// How long an agent may take for a block.
const BLOCK_TIME: Duration = Duration::from_secs(60);
/// How long an agent may take to fetch and install an executable by itself.
const BY_CORE_TIME: Duration = Duration::from_secs(600);
/// Windows agents of sources older than this cannot replace themselves while others of their kind run:
/// 2021-02-07 23:26:53 UTC in Unix ms.
const SOUND_ON_WINDOWS: i64 = 1_612_740_413_000;
/// Architecture numbers with rules of their own (agent-protocol §2.6).
const WINDOWS_32: u32 = 3;
const WINDOWS_64: u32 = 4;
const MAC_OS_INTEL: u32 = 16;
const MAC_OS_ARM: u32 = 29;
const MAC_OS_UNIVERSAL: u32 = 10_005;

/// How an executable gets to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// In blocks on the control channel.
    Blocks,
    /// The recovery core fetches it.
    ByCore,
}

/// An agent, as far as its update depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) architecture: u32,
    pub(super) capabilities: Capabilities,
    /// When its sources were committed, Unix ms.
    pub(super) committed: Option<i64>,
    /// What names its executable.
    pub(super) executable: Hash384,
}

/// How an agent is to be updated; none if it runs what the bundle has, or is not to be updated.
pub(super) fn method(bundle: &Bundle, agent: Candidate, settings: Upkeep) -> Option<Method> {
    let Candidate { architecture, executable, .. } = agent;
    let hash_of = |id| bundle.manifest.agent(id).and_then(|file| file.executable_hash);
    let wanted = hash_of(architecture)?;
    let universal =
        [MAC_OS_INTEL, MAC_OS_ARM].contains(&architecture) && hash_of(MAC_OS_UNIVERSAL) == Some(executable);
    let temporary = agent.capabilities.contains(Capabilities::TEMPORARY);
    if executable.is_zero() || executable == wanted || universal || (temporary && !settings.temporary) {
        return None;
    }
    let unsound = agent.committed.is_none_or(|committed| committed < SOUND_ON_WINDOWS);
    let by_core = settings.by_core || architecture == WINDOWS_32 || (architecture == WINDOWS_64 && unsound);
    Some(if by_core { Method::ByCore } else { Method::Blocks })
}

/// Unix ms of `2022-Nov-2 23:01:45-0700`, as agents tell when their sources were committed.
pub(super) fn committed(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, time) = text.trim().split_once(' ')?;
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (clock, zone) = time.split_at_checked(8)?;
    let seconds = crate::clock::seconds_of_iso8601(&format!("{year}-{month}-{day}T{clock}Z"))?;
    let offset = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), digits)) if digits.len() == 4 => {
            let digits: i64 = digits.parse().ok()?;
            let minutes = digits / 100 * 60 + digits % 100;
            if sign == "-" { -minutes } else { minutes }
        }
        _ if zone.is_empty() => 0,
        _ => return None,
    };
    Some((seconds - offset * 60) * 1000)
}

/// An update under way.
pub(super) enum Update {
    /// As many as allowed are under way.
    Waiting { method: Method, turn: Turn },
    /// Blocks are being sent.
    Sending(Transfer),
    /// The recovery core is being started, or fetches the executable.
    ByCore { stage: Stage, until: Instant, _turn: OwnedSemaphorePermit },
}

/// How far an update by the recovery core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The everyday core is being ended.
    Clearing,
    /// The recovery core was sent and will tell that it runs.
    Starting,
    /// It was asked to fetch the executable.
    Asked,
}

/// Becomes the permission to update.
pub(super) type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Update {
    pub(super) fn wait(method: Method, updates: &Arc<Semaphore>) -> Update {
        Update::Waiting { method, turn: Box::pin(updates.clone().acquire_owned()) }
    }

    pub(super) fn by_core(turn: OwnedSemaphorePermit) -> Update {
        Update::ByCore { stage: Stage::Clearing, until: Instant::now() + BY_CORE_TIME, _turn: turn }
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Update::Waiting { .. } => None,
            Update::Sending(transfer) => Some(transfer.until),
            Update::ByCore { until, .. } => Some(*until),
        }
    }
}

/// An executable being sent in blocks, one at a time. The file stays open, so a bundle that is replaced
/// meanwhile changes nothing.
pub(super) struct Transfer {
    file: File,
    left: u64,
    hash: Hash384,
    block_size: usize,
    until: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Transfer {
    /// Opens the executable.
    pub(super) async fn open(
        bundle: &Bundle,
        executable: &BundleFile,
        block_size: usize,
        turn: OwnedSemaphorePermit,
    ) -> io::Result<Transfer> {
        let file = File::open(bundle.place(executable)).await?;
        let hash = executable.executable_hash.ok_or_else(|| io::Error::other("it has no hash"))?;
        if file.metadata().await?.len() != executable.size {
            return Err(io::Error::other("it has changed since it was imported"));
        }
        let until = Instant::now() + BLOCK_TIME;
        Ok(Transfer { file, left: executable.size, hash, block_size, until, _turn: turn })
    }

    /// The messages that come now: the next block, and the end after the last; whether that was the last.
    pub(super) async fn next(&mut self) -> io::Result<(Vec<Bytes>, bool)> {
        let length = self.block_size.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut messages = Vec::new();
        if length > 0 {
            let mut block = vec![0; length];
            self.file.read_exact(&mut block).await?;
            self.left -= length as u64;
            messages.push(ServerCommand::UpdateBlock(block).encode().into());
        }
        if self.left == 0 {
            messages.push(ServerCommand::UpdateEnd(self.hash).encode().into());
        }
        self.until = Instant::now() + BLOCK_TIME;
        Ok((messages, self.left == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::bundle::import_archive;
    use crate::agents::bundle::tests::package::Package;

    #[test]
    fn dates_of_sources_are_read_as_agents_write_them() {
        assert_eq!(committed("2022-Nov-2 23:01:45-0700"), Some(1_667_455_305_000));
        assert_eq!(committed("2022-Nov-03 06:01:45+0000"), Some(1_667_455_305_000));
        assert_eq!(committed("2022-Nov-3 11:31:45+0530"), Some(1_667_455_305_000));
        for other in ["", "2026", "2022-11-2 23:01:45", "2022-Nov-2 23:01:45-07", "2022-Nov-2 2é:01:45-0700"]
        {
            assert_eq!(committed(other), None, "{other}");
        }
    }

    #[test]
    fn only_another_build_is_replaced_and_in_the_way_that_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = Package::new().listed();
        import_archive(&package.tgz()[..], folder.path()).expect("imported");
        let bundle = Bundle::load(folder.path()).expect("readable").expect("there");
        let hash = |name: &str| {
            let file = bundle.manifest.file(&format!("agents/{name}")).expect("there");
            file.executable_hash.expect("an agent")
        };
        let settings = Upkeep::default();
        let agent = |architecture, executable| Candidate {
            architecture,
            capabilities: Capabilities(0x118),
            committed: Some(SOUND_ON_WINDOWS),
            executable,
        };
        let other = Hash384::of(b"another");
        let way = |candidate| method(&bundle, candidate, settings);
        assert_eq!(way(agent(6, other)), Some(Method::Blocks));
        assert_eq!(way(agent(6, Hash384([0xff; 48]))), Some(Method::Blocks), "it asks for it");
        assert_eq!(way(agent(6, hash("meshagent_x86-64"))), None);
        assert_eq!(way(agent(6, Hash384::ZERO)), None, "it never updates");
        assert_eq!(way(agent(5, other)), None, "there is nothing to give");
        assert_eq!(way(agent(4, other)), Some(Method::Blocks));
        let old = Candidate { committed: Some(SOUND_ON_WINDOWS - 1), ..agent(4, other) };
        assert_eq!(way(old), Some(Method::ByCore));
        assert_eq!(way(Candidate { committed: None, ..agent(4, other) }), Some(Method::ByCore));
        let temporary = Candidate { capabilities: Capabilities(0x138), ..agent(6, other) };
        assert_eq!(way(temporary), None);
        let settings = Upkeep { temporary: true, by_core: true, ..settings };
        assert_eq!(method(&bundle, temporary, settings), Some(Method::ByCore));
        // An Intel or ARM Mac may run the universal build.
        let package = package.with("agents/meshagent_osx-arm-64", b"arm").listed();
        import_archive(&package.tgz()[..], folder.path()).expect("imported");
        let bundle = Bundle::load(folder.path()).expect("readable").expect("there");
        let universal = bundle.manifest.agent(MAC_OS_UNIVERSAL).and_then(|file| file.executable_hash);
        let mac = agent(MAC_OS_ARM, universal.expect("an agent"));
        assert_eq!(method(&bundle, mac, Upkeep::default()), None);
        assert_eq!(method(&bundle, agent(MAC_OS_ARM, other), Upkeep::default()), Some(Method::Blocks));
    }
}
