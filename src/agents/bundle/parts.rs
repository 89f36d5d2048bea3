//! Which entries of MeshCentral's package are taken, and what each is for.

use outpost_wire::arch;
use serde::{Deserialize, Serialize};

/// What an entry of the package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// An executable of the table (agent-protocol §2.6).
    Agent,
    /// A script that cores and tools are made of.
    Core,
    /// A module that is added to a core or tool.
    Module,
    /// A script that installs an agent.
    Installer,
    /// What the macOS package is made of.
    Packager,
    /// A program for people's own computers.
    Tool,
    /// The package's list of its agents' hashes.
    Hashes,
    /// The package's description of itself.
    Description,
    /// What the files may be used for.
    Licence,
}

/// Scripts that become cores, and the ones of MeshCmd.
const CORES: [&str; 7] = [
    "meshcore.js",
    "meshcore.min.js",
    "recoverycore.js",
    "meshcore_diagnostic.js",
    "tinycore.js",
    "meshcmd.js",
    "meshcmd.min.js",
];
/// Folders of modules.
pub(super) const MODULE_FOLDERS: [&str; 4] =
    ["modules_meshcore", "modules_meshcore_min", "modules_meshcmd", "modules_meshcmd_min"];
const INSTALLERS: [&str; 5] = [
    "meshinstall-linux.sh",
    "meshinstall-initd.sh",
    "meshinstall-bsd-rcd.sh",
    "meshinstall-linux.js",
    "agent-translations.json",
];
const TOOLS: [&str; 2] = ["MeshCentralRouter.exe", "MeshCentralRouter.dmg"];
/// Longest name of a module, in characters.
const LONGEST_NAME: usize = 64;

/// What a package has to have, beside a module and the agents that its list names.
pub(super) const NEEDED: [&str; 6] = [
    "package.json",
    "LICENSE",
    "agents/hashagents.json",
    "agents/meshcore.js",
    "agents/recoverycore.js",
    "agents/meshinstall-linux.sh",
];

impl Part {
    /// What the entry at this path (inside the package, with `/`) is for; none if it is not taken.
    pub fn of(path: &str) -> Option<Part> {
        let Some(name) = path.strip_prefix("agents/") else {
            return match path {
                "package.json" => Some(Part::Description),
                "LICENSE" => Some(Part::Licence),
                _ => None,
            };
        };
        if let Some((folder, module)) = name.split_once('/') {
            return (MODULE_FOLDERS.contains(&folder) && is_module(module)).then_some(Part::Module);
        }
        if name == "hashagents.json" {
            Some(Part::Hashes)
        } else if CORES.contains(&name) {
            Some(Part::Core)
        } else if INSTALLERS.contains(&name) {
            Some(Part::Installer)
        } else if name == "MeshAgentOSXPackager.zip" {
            Some(Part::Packager)
        } else if TOOLS.contains(&name) {
            Some(Part::Tool)
        } else {
            arch::all().iter().any(|row| row.binary == name && !name.is_empty()).then_some(Part::Agent)
        }
    }

    /// Largest entry taken, in bytes. The largest real ones: an agent 9.2 MiB, MeshCmd's script 650 KiB, the
    /// macOS packager 400 KiB, Router for macOS 5.2 MiB.
    pub fn largest(self) -> u64 {
        match self {
            Part::Agent | Part::Tool => 64 << 20,
            Part::Core | Part::Packager => 8 << 20,
            Part::Module | Part::Installer | Part::Hashes | Part::Description | Part::Licence => 1 << 20,
        }
    }
}

fn is_module(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.ends_with(".js") | name.ends_with(".json")
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The numbers that the agent in this file has, of the table; the unsigned copies have the same file.
pub(super) fn architectures(path: &str) -> Vec<u32> {
    let Some(name) = path.strip_prefix("agents/") else { return Vec::new() };
    arch::all().iter().filter(|row| !name.is_empty() && row.binary == name).map(|row| row.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_use_is_taken() {
        for (path, part) in [
            ("package.json", Part::Description),
            ("LICENSE", Part::Licence),
            ("agents/hashagents.json", Part::Hashes),
            ("agents/meshagent_x86-64", Part::Agent),
            ("agents/MeshService64.exe", Part::Agent),
            ("agents/MeshCmd64.exe", Part::Agent),
            ("agents/meshcore.js", Part::Core),
            ("agents/modules_meshcore/amt-lme.js", Part::Module),
            ("agents/modules_meshcore_min/coretranslations.json", Part::Module),
            ("agents/meshinstall-linux.sh", Part::Installer),
            ("agents/MeshAgentOSXPackager.zip", Part::Packager),
            ("agents/MeshCentralRouter.exe", Part::Tool),
        ] {
            assert_eq!(Part::of(path), Some(part), "{path}");
        }
        for other in [
            "",
            "agents/",
            "agents/Unknown",
            "webserver.js",
            "agents/MeshService64.pdb",
            "agents/modules_meshcore/../meshcore.js",
            "agents/modules_meshcore/a/b.js",
            "agents/modules_meshcore/.hidden.js",
            "agents/modules_meshcore/a\"b.js",
            "agents/modules_other/a.js",
            "package/agents/meshcore.js",
        ] {
            assert_eq!(Part::of(other), None, "{other}");
        }
        assert_eq!(architectures("agents/meshagent_aarch64"), [26, 32]);
        assert_eq!(architectures("agents/MeshService.exe"), [3, 10003]);
    }
}
