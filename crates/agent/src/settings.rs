//! The agent's settings: where they are found, and their typed form.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use outpost_wire::discovery::DiscoveryKey;
use outpost_wire::id::Hash384;
use outpost_wire::msh::{self, MAX_MSH, Msh, MshError, ServerAddress};

use crate::endpoint::{Endpoint, EndpointError};
use crate::proxy::{Proxy, ProxyError};
use crate::state::SETTINGS;

/// Silence after which the agent pings (MeshAgent's default), and the bounds of
/// `controlChannelIdleTimeout`: servers close after 150 s.
const IDLE: Duration = Duration::from_secs(120);
const IDLE_BOUNDS: (u64, u64) = (5, 140);

/// Why there are no usable settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that was named or found cannot be read.
    #[error("reading {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// None of the places has any.
    #[error(
        "no settings found: give them with --msh FILE, or put them into one of {}",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound(Vec<PathBuf>),
    /// The text is not what a server makes.
    #[error(transparent)]
    Msh(#[from] MshError),
    /// A server address.
    #[error("MeshServer: {0}")]
    Server(#[from] EndpointError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A number.
    #[error("{key}: {value:?} is not a whole number of {low} to {high}")]
    Number {
        /// The key.
        key: &'static str,
        /// What was there.
        value: String,
        /// Least value.
        low: u64,
        /// Greatest value.
        high: u64,
    },
}

/// Where settings came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The end of the program itself.
    Program,
    /// The command line alone.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Program => f.write_str("the end of this program"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// What settings are looked for to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// To run: an installed agent's own settings come before those embedded in its program.
    Run,
    /// To run with settings from the command line, so that none at all is an empty text.
    RunWithOverrides,
    /// To install: what the program brings along comes before what an older installation left.
    Install,
}

/// Finds the text of the settings: `msh` if given, else `<program>.msh`, else in the state folder or
/// embedded in the program, in the order of `search`.
pub fn find(msh: Option<&Path>, state: &Path, search: Search) -> Result<(String, Source), SettingsError> {
    if let Some(path) = msh {
        let text = read_limited(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        return Ok((text, Source::File(path.to_owned())));
    }
    let program =
        std::env::current_exe().unwrap_or_else(|_| "/usr/local/lib/outpost-agent/outpost-agent".into());
    find_for(&program, state, search)
}

fn find_for(program: &Path, state: &Path, search: Search) -> Result<(String, Source), SettingsError> {
    let beside = {
        let mut name = program.as_os_str().to_owned();
        name.push(".msh");
        Source::File(name.into())
    };
    let kept = Source::File(state.join(SETTINGS));
    let places = match search {
        Search::Install => [beside, Source::Program, kept],
        Search::Run | Search::RunWithOverrides => [beside, kept, Source::Program],
    };
    for place in &places {
        let text = match place {
            Source::File(path) => match read_limited(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(SettingsError::Unreadable { path: path.clone(), source }),
            },
            Source::Program => match File::open(program) {
                Ok(mut file) => msh::extract(&mut file)?,
                Err(_) => None,
            },
            Source::CommandLine => None,
        };
        if let Some(text) = text {
            return Ok((text, place.clone()));
        }
    }
    if search == Search::RunWithOverrides {
        return Ok((String::new(), Source::CommandLine));
    }
    let files =
        places.into_iter().filter_map(|place| if let Source::File(path) = place { Some(path) } else { None });
    Err(SettingsError::NotFound(files.collect()))
}

fn read_limited(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut text = String::new();
    // One byte more than allowed, so that the parser sees that it is too long.
    File::open(path)?.take(MAX_MSH as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// A server with a fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Hash of the key by which it proves itself.
    pub id: Hash384,
}

/// Everything an agent is told, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The device group (`MeshID`).
    pub group: Hash384,
    /// Hash of the server's key (`ServerID`; of several, that of the local server or the first).
    pub server_id: Hash384,
    /// Fixed addresses (`MeshServer`), tried in turn.
    pub servers: Vec<Server>,
    /// Whether to look for the server on the local network (`local` in `MeshServer`).
    pub local: bool,
    /// Key of encrypted discovery (`DiscoveryKey`).
    pub discovery_key: Option<DiscoveryKey>,
    /// Name of the device (`agentName`) instead of its host name.
    pub agent_name: Option<String>,
    /// A TLS certificate to trust from the start (`ServerTlsCertHash`).
    pub trusted_tls: Option<Hash384>,
    /// The HTTP proxy (`WebProxy`, unless `ignoreProxyFile`).
    pub proxy: Option<Proxy>,
    /// Silence after which the agent pings (`controlChannelIdleTimeout`).
    pub idle_timeout: Duration,
    /// Whether the TLS certificate must lead to an authority of this system (`validateWebCert`).
    pub validate_certificate: bool,
    /// Consent bits that hold on this device whatever the server says (`LocalConsent`).
    pub local_consent: u32,
    /// Which screen is shown (`Display`).
    pub display: DisplayChoice,
}

/// `Display`: which screen a desktop session shows. Outpost's own key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DisplayChoice {
    /// The one in front. The default.
    #[default]
    Front,
    /// The X server of this name, such as `:0`.
    Named(String),
    /// What the graphics hardware puts out, whoever draws it: `console`.
    Console,
    /// None: `off`.
    Off,
}

impl Settings {
    /// Reads the text of a `.msh` with some keys overridden.
    pub fn read(text: &str, overrides: &[(String, String)]) -> Result<Self, SettingsError> {
        let mut msh = Msh::parse(text)?;
        for (key, value) in overrides {
            msh.push(key, value);
        }
        Self::from_msh(&msh)
    }

    /// Checks every value; the error names the key.
    pub fn from_msh(msh: &Msh) -> Result<Self, SettingsError> {
        let mut servers = Vec::new();
        let mut local_id = None;
        for server in msh.servers()? {
            match server.address {
                ServerAddress::Local => local_id = Some(server.id),
                ServerAddress::Url(url) => {
                    servers.push(Server { endpoint: Endpoint::parse(&url)?, id: server.id })
                }
            }
        }
        let proxy = match msh.get("WebProxy").filter(|_| msh.get("ignoreProxyFile").is_none()) {
            Some(text) => Some(Proxy::parse(text)?),
            None => None,
        };
        let validate = msh
            .get("validateWebCert")
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        let idle = number(msh, "controlChannelIdleTimeout", IDLE_BOUNDS)?;
        Ok(Self {
            group: msh.group_id()?,
            server_id: match local_id {
                Some(id) => id,
                None => msh.server_id()?,
            },
            servers,
            local: local_id.is_some(),
            discovery_key: msh.discovery_key(),
            agent_name: msh.get("agentName").map(str::to_owned),
            trusted_tls: msh.tls_hash()?,
            proxy,
            idle_timeout: idle.map_or(IDLE, Duration::from_secs),
            validate_certificate: validate,
            local_consent: number(msh, "LocalConsent", (0, 127))?.map_or(0, |bits| bits as u32),
            display: match msh.get("Display").map(str::trim) {
                None | Some("") => DisplayChoice::Front,
                Some(off) if off.eq_ignore_ascii_case("off") => DisplayChoice::Off,
                Some(console) if console.eq_ignore_ascii_case("console") => DisplayChoice::Console,
                Some(name) => DisplayChoice::Named(name.chars().take(255).collect()),
            },
        })
    }

    /// The servers, for people.
    pub fn describe_servers(&self) -> String {
        let local = self.local.then(|| "local network".to_owned());
        let fixed = self.servers.iter().map(|server| server.endpoint.to_string());
        local.into_iter().chain(fixed).collect::<Vec<_>>().join(", ")
    }
}

/// MeshAgent takes idle times out of bounds; here they are brought into them only when they are numbers.
fn number(msh: &Msh, key: &'static str, (low, high): (u64, u64)) -> Result<Option<u64>, SettingsError> {
    let Some(value) = msh.get(key) else { return Ok(None) };
    match value.parse::<u64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(Some(number)),
        _ => Err(SettingsError::Number { key, value: value.to_owned(), low, high }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(server: &str) -> String {
        let id = Hash384::of(b"server").to_hex();
        let group = Hash384::of(b"group").to_hex();
        format!("\r\nMeshName=Lab\r\nMeshID=0x{group}\r\nServerID={id}\r\nMeshServer={server}\r\n")
    }

    fn error(extra: &str) -> String {
        Settings::read(&(text("local") + extra), &[]).expect_err("must fail").to_string()
    }

    #[test]
    fn local_and_fixed_servers_go_together() {
        let settings =
            Settings::read(&text("local,wss://mesh.example:4430/agent.ashx"), &[]).expect("settings");
        assert!(settings.local);
        assert_eq!(settings.describe_servers(), "local network, wss://mesh.example:4430/agent.ashx");
        assert_eq!((settings.group, settings.server_id), (Hash384::of(b"group"), Hash384::of(b"server")));
        assert_eq!(settings.idle_timeout, IDLE);
    }

    #[test]
    fn the_command_line_overrides() {
        let overrides = [("MeshServer".to_owned(), "wss://other/agent.ashx".to_owned())];
        let settings = Settings::read(&text("local"), &overrides).expect("settings");
        assert!(!settings.local);
        assert_eq!(settings.describe_servers(), "wss://other:443/agent.ashx");
    }

    #[test]
    fn errors_name_the_key() {
        assert!(error("MeshServer=http://x/\r\n").contains("MeshServer"));
        assert!(error("ServerID=1234\r\n").contains("ServerID"));
        assert!(error("MeshID=0xZZ\r\n").contains("MeshID"));
        assert!(error("WebProxy=nonsense\r\n").contains("WebProxy"));
        assert!(error("controlChannelIdleTimeout=forever\r\n").contains("controlChannelIdleTimeout"));
        assert!(error("LocalConsent=1000\r\n").contains("LocalConsent"));
        assert!(error("ServerTlsCertHash=0x12\r\n").contains("ServerTlsCertHash"));
        let missing = Settings::read("MeshServer=local\r\n", &[]).expect_err("must fail").to_string();
        assert!(missing.contains("is missing"), "{missing}");
    }

    #[test]
    fn places_are_tried_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        let (program, kept) = (folder.path().join("agent"), folder.path().join(SETTINGS));
        let found = |search| find_for(&program, folder.path(), search).map(|(_, source)| source);
        fs::write(&program, b"\x7fELF program").expect("write");
        let error = found(Search::Run).expect_err("nothing there").to_string();
        assert!(error.contains("--msh") && error.contains("agent.msh"), "{error}");
        assert_eq!(found(Search::RunWithOverrides).expect("optional"), Source::CommandLine);
        fs::write(&kept, text("local")).expect("write");
        assert_eq!(found(Search::Run).expect("found"), Source::File(kept.clone()));
        let embedded = msh::embed(b"\x7fELF program", &text("local")).expect("embed");
        fs::write(&program, embedded).expect("write");
        assert_eq!(found(Search::Run).expect("found"), Source::File(kept));
        assert_eq!(found(Search::Install).expect("found"), Source::Program, "a new download brings its own");
        let beside = folder.path().join("agent.msh");
        fs::write(&beside, text("local")).expect("write");
        assert_eq!(found(Search::Run).expect("found"), Source::File(beside.clone()));
        assert_eq!(found(Search::Install).expect("found"), Source::File(beside));
        let error = find(Some(Path::new("/nowhere.msh")), folder.path(), Search::RunWithOverrides)
            .expect_err("named");
        assert!(error.to_string().contains("/nowhere.msh"), "{error}");
    }

    #[test]
    fn the_proxy_file_can_be_ignored() {
        let with = |extra: &str| {
            Settings::read(&(text("local") + "WebProxy=http://p:3128\r\n" + extra), &[]).expect("settings")
        };
        assert!(with("").proxy.is_some());
        assert!(with("ignoreProxyFile=1\r\n").proxy.is_none());
    }
}
