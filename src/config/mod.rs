//! The configuration: MeshCentral's `config.json` (optional) under the command line, as one typed value.

mod document;
mod known;
mod read;
mod reader;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use outpost_wire::id::UserId;

use crate::model::SiteRights;

pub use document::{Document, FileError};
pub use known::{COMMAND_LINE_SETTINGS, SWITCHES};
pub use reader::Problem;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store, certificates and `config.json`.
    pub data_folder: PathBuf,
    /// Folder of people's files.
    pub files_folder: PathBuf,
    /// `settings`.
    pub settings: Settings,
    /// `domains`, by id; `""` is always there.
    pub domains: BTreeMap<String, Domain>,
}

impl Config {
    /// The settings of a domain; of the default one when there is no such domain.
    pub fn domain(&self, id: &str) -> &Domain {
        self.domains.get(id).unwrap_or_else(|| &self.domains[""])
    }
}

/// How the server meets the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a network of its own: found by multicast, no name needed.
    Lan,
    /// On the internet: agents know its name; nothing is multicast.
    Wan,
    /// Both.
    Hybrid,
}

impl Mode {
    /// Agents may find the server by multicast.
    pub fn discovers(self) -> bool {
        self != Mode::Wan
    }

    /// The word for clients.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Lan => "lan",
            Mode::Wan => "wan",
            Mode::Hybrid => "hybrid",
        }
    }
}

/// The `settings` section (config §1.4), as far as it is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// DNS name of the server; none means LAN mode.
    pub cert: Option<String>,
    /// LAN, WAN or both.
    pub mode: Mode,
    /// Wanted HTTPS port. Default 443.
    pub port: u16,
    /// Addresses to bind, all when none.
    pub port_bind: Option<IpAddr>,
    /// Port told to browsers and agents, when a router maps another one.
    pub alias_port: Option<u16>,
    /// Wanted HTTP port of the redirection; `None` switches it off. Default 80.
    pub redir_port: Option<u16>,
    /// Address to bind the redirection to.
    pub redir_port_bind: Option<IpAddr>,
    /// Fail when a port is taken instead of trying the next.
    pub exact_ports: bool,
    /// Key of the session cookie; random at each start when none.
    pub session_key: Option<String>,
    /// Life of a session cookie; a browser session when none.
    pub session_time: Option<Duration>,
    /// How closely a session is bound to the address it began at.
    pub cookie_ip_check: IpCheck,
    /// Fixed key of encrypted cookies, 160 hex digits.
    pub login_cookie_encryption_key: Option<String>,
    /// Every visitor is this user of the domain (a bare name).
    pub default_user: Option<String>,
    /// One implicit administrator and no login; loopback only.
    pub no_users: bool,
    /// Back-off after bad logins; `None` switches it off.
    pub max_invalid_login: Option<LoginLimit>,
    /// LAN multicast answers.
    pub discovery: Discovery,
    /// Seconds of silence after which an agent's connection is dropped; `None` never.
    pub agent_idle_timeout: Option<Duration>,
    /// The server pings agents at this period.
    pub agent_ping: Option<Duration>,
    /// The server sends pongs to agents at this period.
    pub agent_pong: Option<Duration>,
    /// The server pings browsers at this period.
    pub browser_ping: Option<Duration>,
    /// Extra lines of every `.msh`.
    pub agent_config: Vec<(String, String)>,
    /// Site administrators who see every group (full user ids).
    pub manage_all_device_groups: Vec<UserId>,
    /// How long history is kept.
    pub expiry: Expiry,
    /// What is logged in detail.
    pub debug: Vec<String>,
    /// `allowFraming`: leave `X-Frame-Options` out.
    pub allow_framing: bool,
    /// `lockAgentDownload`: agent downloads need a session or an invitation.
    pub lock_agent_download: bool,
    /// Certificates are not made again because a name does not match.
    pub keep_certs: bool,
    /// Bounds of what strangers and members may hold.
    pub limits: Limits,
}

/// `cookieIpCheck` (data-formats, control-protocol §1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpCheck {
    /// Not at all.
    None,
    /// Same IPv4 /24 or IPv6 /64, or both private.
    Lax,
    /// Equal.
    Strict,
}

/// `maxInvalidLogin`: bad logins of one network before it has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginLimit {
    /// Window in which tries are counted. Default 10 min.
    pub time: Duration,
    /// Tries allowed in it. Default 10.
    pub count: usize,
    /// A fixed wait instead of the rest of the window.
    pub cool_off: Option<Duration>,
    /// Addresses that are not counted.
    pub exclude: Vec<IpAddr>,
}

impl Default for LoginLimit {
    fn default() -> LoginLimit {
        LoginLimit { time: Duration::from_secs(600), count: 10, cool_off: None, exclude: Vec::new() }
    }
}

impl LoginLimit {
    /// Whether tries from this address are counted.
    pub fn applies_to(&self, address: IpAddr) -> bool {
        self.count > 0 && !self.exclude.contains(&address.to_canonical())
    }
}

/// `localDiscovery`.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Name told to scanning tools, and of the mDNS service.
    pub name: Option<String>,
    /// Free text told to scanning tools.
    pub info: Option<String>,
    /// Passphrase that encrypts the packets.
    pub key: Option<String>,
    /// `meshScanner`: multicast is answered.
    pub enabled: bool,
}

/// `dbExpire`: retention of history.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Default 20 days.
    pub events: Duration,
    /// Default 10 days.
    pub power: Duration,
}

/// Bounds (`limits` in `settings`, Outpost's own): what one server holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that have not proved who they are, together. Default 512.
    pub unauthenticated_connections: usize,
    /// The same from one network. Default 64.
    pub unauthenticated_per_network: usize,
    /// Agents connected. Default 10,000.
    pub agents: usize,
    /// Control sessions. Default 256.
    pub sessions: usize,
    /// Tunnels. Default 512.
    pub tunnels: usize,
    /// Devices stored. Default 20,000.
    pub devices: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            unauthenticated_connections: 512,
            unauthenticated_per_network: 64,
            agents: 10_000,
            sessions: 256,
            tunnels: 512,
            devices: 20_000,
        }
    }
}

/// One domain (config §1.5), as far as it is used.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    /// Title of pages.
    pub title: Option<String>,
    /// Strangers may make themselves an account.
    pub new_accounts: bool,
    /// Their site rights.
    pub new_accounts_rights: SiteRights,
    /// What a password has to be.
    pub password: PasswordPolicy,
    /// Consent flags demanded for every session.
    pub consent: u32,
    /// Administrators who see every group (ids of this domain).
    pub manage_all_device_groups: Vec<UserId>,
    /// Extra lines of every `.msh` of the domain.
    pub agent_config: Vec<(String, String)>,
    /// Members may be given login tokens, and so on: `limits` of MeshCentral.
    pub limits: DomainLimits,
    /// Agent downloads need a session or an invitation.
    pub lock_agent_download: bool,
    /// `ignoreProxyFile=1` in every `.msh`.
    pub agent_no_proxy: bool,
    /// WebSocket origins accepted beside the server's own.
    pub allowed_origins: Vec<String>,
}

/// `limits` of a domain; `None` = no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct DomainLimits {
    /// Devices.
    pub max_devices: Option<usize>,
    /// Accounts.
    pub max_user_accounts: Option<usize>,
    /// Control sessions.
    pub max_user_sessions: Option<usize>,
    /// Agents connected.
    pub max_agent_sessions: Option<usize>,
    /// Control sessions of one user.
    pub max_single_user_sessions: Option<usize>,
}

/// `passwordRequirements` (config §1.6). MeshCentral asks nothing by default; we ask for 8 characters,
/// since a box on a LAN is administered by whoever guesses its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Fewest characters. Default 8.
    pub min: usize,
    /// Most characters.
    pub max: Option<usize>,
    /// Fewest ASCII capital letters.
    pub upper: usize,
    /// Fewest ASCII small letters.
    pub lower: usize,
    /// Fewest digits.
    pub numeric: usize,
    /// Fewest characters that are neither letter, digit nor underscore.
    pub nonalpha: usize,
}

impl Default for PasswordPolicy {
    fn default() -> PasswordPolicy {
        PasswordPolicy { min: 8, max: None, upper: 0, lower: 0, numeric: 0, nonalpha: 0 }
    }
}

/// Turns a document into a typed configuration and everything that is to be said about it.
pub fn read(document: &Document, data_folder: PathBuf) -> (Config, Vec<Problem>) {
    read::config(document, data_folder)
}

#[cfg(test)]
mod tests;
