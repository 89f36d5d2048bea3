//! The configuration: MeshCentral's `config.json` (optional) under the command line, as one typed value.

mod document;
mod known;
mod read;
mod reader;
mod recording;
mod self_update;
mod upkeep;
mod url;
mod wording;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::id::UserId;
use serde_json::{Map, Value};

use crate::model::SiteRights;

pub use document::{Document, FileError};
pub use known::{COMMAND_LINE_SETTINGS, SWITCHES};
pub use reader::Problem;
pub use recording::{OnFailure, SessionRecording, same_kind};
pub use self_update::{SelfUpdate, Wanted};
pub use upkeep::Upkeep;
pub use url::{Url, UrlError};

/// Where a box has what the server needs of it. They are as the units have them, and other ones in tests.
#[derive(Clone, Debug)]
pub struct Places {
    /// The root helper's socket; not there means that this is no box.
    pub socket: PathBuf,
    /// Where update bundles are taken in.
    pub staging: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places { socket: "/run/outpost-box/control.sock".into(), staging: "/var/lib/outpost-updates".into() }
    }
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store, certificates and `config.json`.
    pub data_folder: PathBuf,
    /// Folder of people's files.
    pub files_folder: PathBuf,
    /// Folder of recorded sessions, where a domain names none.
    pub recordings_folder: PathBuf,
    /// Where a box has what the server asks root for; nothing of `config.json`.
    pub places: Places,
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
    /// Back-off after bad codes of a second factor; `None` switches it off.
    pub max_invalid_2fa: Option<LoginLimit>,
    /// Accounts may have a second factor (`no2FactorAuth` switches it off).
    pub second_factor: bool,
    /// `allowLoginToken`: the action `logincookie` gives links that log in.
    pub allow_login_token: bool,
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
    /// What official agents run.
    pub upkeep: Upkeep,
    /// Whether the box brings itself up to date.
    pub self_update: SelfUpdate,
    /// Site administrators who see every group (full user ids).
    pub manage_all_device_groups: Vec<UserId>,
    /// Who may send data to the sessions of others.
    pub inter_user_messaging: InterUserMessaging,
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

/// `interUserMessaging`: data from the sessions of one user to those of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InterUserMessaging {
    /// Nobody.
    #[default]
    Off,
    /// Everybody.
    Everybody,
    /// To and from these users (full ids).
    With(Vec<UserId>),
}

impl InterUserMessaging {
    /// Whether one user may send to another.
    pub fn allows(&self, from: &UserId, to: &UserId) -> bool {
        match self {
            InterUserMessaging::Off => false,
            InterUserMessaging::Everybody => true,
            InterUserMessaging::With(users) => users.contains(from) || users.contains(to),
        }
    }
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
    /// Days a browser may be remembered as having shown its second factor; 0 never.
    pub remember_second_factor: u32,
    /// Who may make login tokens.
    pub login_tokens: LoginTokenRule,
    /// Consent flags demanded for every session.
    pub consent: u32,
    /// What the bar on a device's screen says, with {0} for the real names and {1} for the login names of those
    /// who are connected; `None` for the agent's own words.
    pub privacy_bar_text: Option<String>,
    /// What agents ask and say at devices, and when they need not: `soptions` of every session.
    pub session_options: Map<String, Value>,
    /// Administrators who see every group (ids of this domain).
    pub manage_all_device_groups: Vec<UserId>,
    /// Extra lines of every `.msh` of the domain.
    pub agent_config: Vec<(String, String)>,
    /// Members may be given login tokens, and so on: `limits` of MeshCentral.
    pub limits: DomainLimits,
    /// Agent downloads need a session or an invitation.
    pub lock_agent_download: bool,
    /// Bytes that a user's files on the server may have; `None` for as many as the disk holds.
    pub user_quota: Option<u64>,
    /// The same for a device group's.
    pub group_quota: Option<u64>,
    /// Groups may have codes that lead to their invitations.
    pub agent_invite_codes: bool,
    /// `ignoreProxyFile=1` in every `.msh`.
    pub agent_no_proxy: bool,
    /// WebSocket origins accepted beside the server's own.
    pub allowed_origins: Vec<String>,
    /// What is recorded; nothing when none.
    pub session_recording: Option<Arc<SessionRecording>>,
    /// `localSessionRecording: false` takes the viewers' own recording away.
    pub no_local_recording: bool,
}

/// `passwordRequirements.loginTokens`: who may make login tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoginTokenRule {
    /// Every account. The default.
    #[default]
    Everybody,
    /// None.
    Nobody,
    /// These accounts.
    Only(Vec<UserId>),
}

impl LoginTokenRule {
    /// Whether this account may.
    pub fn allows(&self, user: &UserId) -> bool {
        match self {
            LoginTokenRule::Everybody => true,
            LoginTokenRule::Nobody => false,
            LoginTokenRule::Only(users) => users.contains(user),
        }
    }
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
