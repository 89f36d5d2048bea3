//! The JavaScript cores that MeshAgents run, put together from a bundle's files (agent-protocol §5.3).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder};
use outpost_wire::arch::{Architecture, CoreFlavour, Platform};
use outpost_wire::command::{CORE_PREFIX, MAX_CORE, ServerCommand};
use outpost_wire::id::Hash384;

use super::bundle::Bundle;

/// Cores kept, compressed. One of MeshCentral's has some 130 KiB then; agents of one kind need one.
const MOST_KEPT: usize = 4;

/// Which core an agent is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CoreName {
    /// The everyday one.
    Main { windows: bool, amt: bool },
    /// A small one that can replace the executable and has a terminal.
    Recovery { windows: bool },
    /// That of a recovery agent.
    AgentRecovery { windows: bool },
    /// Next to nothing.
    Tiny,
}

impl CoreName {
    /// The everyday core of an architecture; none if there is none for it.
    pub(super) fn main(architecture: &Architecture) -> Option<CoreName> {
        match architecture.core {
            CoreFlavour::None => None,
            CoreFlavour::WindowsAmt => Some(CoreName::Main { windows: true, amt: true }),
            CoreFlavour::LinuxAmt => Some(CoreName::Main { windows: false, amt: true }),
            CoreFlavour::LinuxNoAmt => Some(CoreName::Main { windows: false, amt: false }),
        }
    }

    /// The recovery core of an architecture.
    pub(super) fn recovery(architecture: &Architecture) -> CoreName {
        CoreName::Recovery { windows: architecture.platform == Platform::Windows }
    }

    /// The core of a recovery agent of an architecture.
    pub(super) fn agent_recovery(architecture: &Architecture) -> CoreName {
        CoreName::AgentRecovery { windows: architecture.platform == Platform::Windows }
    }

    fn script(self, minified: bool) -> &'static str {
        match self {
            CoreName::Main { .. } if minified => "agents/meshcore.min.js",
            CoreName::Main { .. } => "agents/meshcore.js",
            CoreName::Recovery { .. } => "agents/recoverycore.js",
            CoreName::AgentRecovery { .. } => "agents/meshcore_diagnostic.js",
            CoreName::Tiny => "agents/tinycore.js",
        }
    }

    /// Whether a module belongs into the core.
    fn has(self, module: &Module<'_>) -> bool {
        let name = module.name;
        match self {
            CoreName::Main { .. } if module.is_data => true,
            // `smbios` ends some agents on other processors than Intel's.
            CoreName::Main { amt, .. } if name.starts_with("amt-") || name == "smbios" => amt,
            CoreName::Main { windows, .. } if name.starts_with("win-") => windows,
            CoreName::Main { windows, .. } if name.starts_with("linux-") => !windows,
            CoreName::Main { .. } => true,
            CoreName::Recovery { windows: true } | CoreName::AgentRecovery { windows: true } => {
                ["win-console", "win-message-pump", "win-terminal", "win-virtual-terminal"].contains(&name)
                    && !module.is_data
            }
            CoreName::Recovery { .. } | CoreName::AgentRecovery { .. } | CoreName::Tiny => false,
        }
    }
}

/// A file of the modules' folder.
struct Module<'a> {
    /// Its name for agents.
    name: &'a str,
    /// JSON, not a script.
    is_data: bool,
}

impl<'a> Module<'a> {
    fn of(file_name: &'a str) -> Option<Module<'a>> {
        let (name, is_data) = match file_name.strip_suffix(".json") {
            Some(name) => (name, true),
            None => (file_name.strip_suffix(".js")?, false),
        };
        Some(Module { name: name.strip_suffix(".min").unwrap_or(name), is_data })
    }
}

/// A core, ready to be sent.
#[derive(Debug)]
pub(super) struct Core {
    /// Of the core before it was compressed, which is what agents are asked for.
    pub(super) hash: Hash384,
    /// The whole message for agents that can unpack it.
    compressed: Bytes,
}

impl Core {
    /// A core from its JavaScript.
    pub(super) fn of(script: &[u8]) -> io::Result<Core> {
        let core = [&CORE_PREFIX[..], script].concat();
        if core.len() > MAX_CORE {
            return Err(io::Error::other(format!("a core of {} bytes is too long", core.len())));
        }
        let hash = Hash384::of(&core);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&core)?;
        let deflated = encoder.finish()?;
        let compressed = ServerCommand::CompressedCore { hash, deflated }.encode().into();
        Ok(Core { hash, compressed })
    }

    /// The message that installs it.
    pub(super) fn message(&self, compressed: bool) -> Bytes {
        if compressed {
            return self.compressed.clone();
        }
        let deflated = &self.compressed[4 + self.hash.0.len()..];
        let mut decoder = DeflateDecoder::new(Vec::new());
        let core = decoder.write_all(deflated).and_then(|()| decoder.finish());
        let core = core.expect("what was compressed in memory unpacks");
        ServerCommand::InstallCore { hash: self.hash, core }.encode().into()
    }
}

/// The JavaScript of a core; none if the bundle does not have it.
fn assemble(bundle: &Bundle, name: CoreName, minified: bool) -> io::Result<Option<Vec<u8>>> {
    let minified = minified && bundle.manifest.file("agents/meshcore.min.js").is_some();
    let folder = if minified { "agents/modules_meshcore_min/" } else { "agents/modules_meshcore/" };
    with_modules(bundle, name.script(minified), folder, |module| name.has(module))
}

/// The JavaScript of MeshCmd, a tool for people's own computers; none if the bundle does not have it.
///
/// # Errors
/// When the bundle cannot be read.
pub fn mesh_command(bundle: &Bundle, minified: bool) -> io::Result<Option<String>> {
    let minified = minified && bundle.manifest.file("agents/meshcmd.min.js").is_some();
    let (script, folder) = if minified {
        ("agents/meshcmd.min.js", "agents/modules_meshcmd_min/")
    } else {
        ("agents/meshcmd.js", "agents/modules_meshcmd/")
    };
    let whole = with_modules(bundle, script, folder, |module| !module.is_data)?;
    Ok(whole.map(|whole| {
        let text = String::from_utf8_lossy(&whole);
        text.replace("'***Mesh*Cmd*Version***'", &format!("'{}'", bundle.manifest.version))
    }))
}

/// A script behind the modules it uses; none if the bundle does not have the script.
fn with_modules(
    bundle: &Bundle,
    script: &str,
    folder: &str,
    wanted: impl Fn(&Module<'_>) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let Some(script) = bundle.read(script)? else { return Ok(None) };
    let mut core = b"var addedModules = [];\r\n".to_vec();
    // The manifest is in the order of the names, as MeshCentral reads the folder.
    for file in &bundle.manifest.files {
        let Some(module) = file.path.strip_prefix(folder).and_then(Module::of) else { continue };
        if !wanted(&module) {
            continue;
        }
        let bytes = bundle.read(&file.path)?.unwrap_or_default();
        if module.is_data {
            core.extend(format!("var {} = JSON.parse('", module.name).bytes());
            let text = String::from_utf8_lossy(&bytes);
            let quoted: String = text.chars().flat_map(|c| escaped(c).into_iter().flatten()).collect();
            core.extend(quoted.bytes());
            core.extend(b"');\r\n");
        } else {
            core.extend(format!("try {{ addModule(\"{}\", \"", module.name).bytes());
            // Bytes that are not ASCII, and control characters, are left out.
            let plain = bytes.iter().map(|&byte| char::from(byte)).flat_map(|c| {
                let escaped = escaped(c);
                let keep = escaped[1].is_some() || (' '..='\x7f').contains(&c);
                escaped.into_iter().flatten().filter(move |_| keep)
            });
            core.extend(plain.map(|c| c as u8));
            core.extend(
                format!("\"); addedModules.push(\"{}\"); }} catch (ex) {{ }}\r\n", module.name).bytes(),
            );
        }
    }
    core.extend(String::from_utf8_lossy(&script).bytes());
    Ok(Some(core))
}

/// A character as it stands in a string of JavaScript.
fn escaped(c: char) -> [Option<char>; 2] {
    let letter = match c {
        '\'' | '"' | '\\' => c,
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        other => return [Some(other), None],
    };
    [Some('\\'), Some(letter)]
}

/// The cores of the bundle in use, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Cores {
    made: Mutex<Made>,
    /// One is made at a time: it takes a second of a slow processor, and many agents want the same.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Made {
    /// What they were made from.
    bundle: Weak<Bundle>,
    cores: BTreeMap<u64, (CoreName, Arc<Core>)>,
    uses: u64,
}

impl Cores {
    /// The core of that name; none if the bundle has none.
    pub(super) async fn get(
        &self,
        bundle: &Arc<Bundle>,
        name: CoreName,
        minified: bool,
    ) -> io::Result<Option<Arc<Core>>> {
        if let Some(core) = self.kept(bundle, name) {
            return Ok(Some(core));
        }
        let _turn = self.making.lock().await;
        if let Some(core) = self.kept(bundle, name) {
            return Ok(Some(core));
        }
        let source = bundle.clone();
        let made = tokio::task::spawn_blocking(move || {
            assemble(&source, name, minified)?.map(|script| Core::of(&script)).transpose()
        });
        let Some(core) = made.await.map_err(io::Error::other)??.map(Arc::new) else { return Ok(None) };
        log::debug!(target: "agent", "the core {name:?} has {} bytes, compressed", core.compressed.len());
        self.keep(name, core.clone());
        Ok(Some(core))
    }

    fn kept(&self, bundle: &Arc<Bundle>, name: CoreName) -> Option<Arc<Core>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.bundle.as_ptr() != Arc::as_ptr(bundle) {
            *made = Made { bundle: Arc::downgrade(bundle), ..Made::default() };
        }
        let at = made.cores.iter().find(|(_, (kept, _))| *kept == name).map(|(at, _)| *at)?;
        let core = made.cores.remove(&at)?;
        made.uses += 1;
        let uses = made.uses;
        made.cores.insert(uses, core.clone());
        Some(core.1)
    }

    fn keep(&self, name: CoreName, core: Arc<Core>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.uses += 1;
        let uses = made.uses;
        made.cores.insert(uses, (name, core));
        while made.cores.len() > MOST_KEPT {
            made.cores.pop_first();
        }
    }
}

#[cfg(test)]
mod tests;
