//! The script that installs an agent on Linux.

use base64::Engine as _;

use super::binaries::AgentBinary;

const TEMPLATE: &str = include_str!("install.sh");

/// A script for one group: it carries the settings and the hash of every agent, so whoever trusts the script
/// (by the hash in the line that was pasted) needs to trust nothing else that is fetched.
pub fn script_for(url: &str, settings: &str, agents: &[std::sync::Arc<AgentBinary>]) -> String {
    let agents: String = agents.iter().map(|agent| format!("{} {}\n", agent.id, agent.sha256)).collect();
    let settings = base64::engine::general_purpose::STANDARD.encode(settings);
    fill(url, &settings, &agents)
}

/// The script for any group: `./meshinstall.sh <server> <group>` as MeshCentral's is called. It fetches the
/// settings from the server it is told.
pub fn generic_script() -> String {
    fill("", "", "")
}

fn fill(url: &str, settings: &str, agents: &str) -> String {
    TEMPLATE.replace("@SERVER@", url).replace("@SETTINGS@", settings).replace("@AGENTS@", agents.trim_end())
}
