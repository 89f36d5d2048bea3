//! Our own agent's binaries: which have been built, and where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use outpost_wire::arch;
use ring::digest;

/// Name of the executable.
const FILE_NAME: &str = "outpost-agent";
/// Largest executable offered, in bytes.
const LARGEST: u64 = 64 << 20;

/// An agent that can be given to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentBinary {
    /// Architecture number (agent-protocol §2.6).
    pub id: u32,
    /// For people.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// The places where agents are looked for. Hashes are kept until a file changes.
#[derive(Debug)]
pub struct AgentBinaries {
    roots: Vec<PathBuf>,
    beside: Option<PathBuf>,
    hashed: Mutex<BTreeMap<PathBuf, (SystemTime, AgentBinary)>>,
}

/// Architecture numbers by the first part of a target triple, with what people call them. The numbers are
/// those the install script asks for by `uname -m`; the ARMv6 build serves every 32-bit board.
const TARGETS: [(&str, u32, &str); 7] = [
    ("x86_64", 6, "Linux x86-64"),
    ("i686", 5, "Linux x86-32"),
    ("aarch64", 26, "Linux ARM64 (Raspberry Pi 3, 4, 5, Zero 2 W)"),
    ("arm-", 25, "Linux ARM 32-bit (all Raspberry Pi)"),
    ("armv7", 25, "Linux ARMv7"),
    ("riscv64", 45, "Linux RISC-V 64"),
    ("armv6", 25, "Linux ARM 32-bit (all Raspberry Pi)"),
];

impl AgentBinaries {
    /// Looks in the data folder's `agents`, beside the server's executable, and in `dist` of a checkout, each
    /// with a folder a target triple; and beside the server for this machine's own architecture.
    pub fn new(data_folder: &Path) -> AgentBinaries {
        let executable = std::env::current_exe().ok();
        let folder = executable.as_deref().and_then(Path::parent).map(Path::to_owned);
        let mut roots = vec![data_folder.join("agents")];
        if let Some(folder) = &folder {
            roots.push(folder.join("agents"));
            roots.extend(folder.ancestors().nth(2).map(|root| root.join("dist")));
        }
        AgentBinaries { roots, beside: folder.map(|folder| folder.join(FILE_NAME)), hashed: Mutex::default() }
    }

    /// Everything there is, by architecture number; an earlier place wins.
    pub fn all(&self) -> Vec<Arc<AgentBinary>> {
        let mut found: BTreeMap<u32, Arc<AgentBinary>> = BTreeMap::new();
        for root in &self.roots {
            let Ok(folders) = std::fs::read_dir(root) else { continue };
            let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
            folders.sort();
            for folder in folders {
                let triple =
                    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let target = TARGETS.iter().find(|(prefix, _, _)| triple.starts_with(prefix));
                if let Some((_, id, name)) = target
                    && let Some(binary) = self.read(&folder.join(FILE_NAME), *id, name)
                {
                    found.entry(*id).or_insert(binary);
                }
            }
        }
        let own = arch::by_machine(std::env::consts::ARCH)
            .and_then(|own| TARGETS.iter().find(|(_, id, _)| *id == own.id));
        if let (Some(path), Some((_, id, name))) = (&self.beside, own)
            && let Some(binary) = self.read(path, *id, name)
        {
            found.entry(*id).or_insert(binary);
        }
        found.into_values().collect()
    }

    /// The agent of an architecture. 32 is a newer number for 26.
    pub fn get(&self, id: u32) -> Option<Arc<AgentBinary>> {
        let id = if id == 32 { 26 } else { id };
        self.all().into_iter().find(|binary| binary.id == id)
    }

    fn read(&self, path: &Path, id: u32, name: &'static str) -> Option<Arc<AgentBinary>> {
        let meta = std::fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST)?;
        let changed = meta.modified().ok()?;
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, binary)) = hashed.get(path)
            && *at == changed
            && binary.size == meta.len()
        {
            return Some(Arc::new(binary.clone()));
        }
        let bytes = std::fs::read(path).ok()?;
        let digest = digest::digest(&digest::SHA256, &bytes);
        let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let binary = AgentBinary { id, name, path: path.to_owned(), size: meta.len(), sha256 };
        hashed.insert(path.to_owned(), (changed, binary.clone()));
        Some(Arc::new(binary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_agents_are_found_by_triple_and_hashed_again_when_they_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("agents/aarch64-unknown-linux-musl");
        std::fs::create_dir_all(&place).expect("a folder");
        std::fs::create_dir_all(folder.path().join("agents/mips-unknown")).expect("a folder");
        std::fs::write(place.join(FILE_NAME), b"one").expect("a file");
        let binaries = AgentBinaries { beside: None, ..AgentBinaries::new(folder.path()) };
        let found = binaries.get(26).expect("found");
        assert_eq!((found.size, found.id), (3, 26));
        assert_eq!(binaries.get(32).as_deref(), Some(&*found));
        assert!(binaries.get(7).is_none());
        std::fs::write(place.join(FILE_NAME), b"three").expect("a file");
        assert_ne!(binaries.get(26).expect("found").sha256, found.sha256);
    }
}
