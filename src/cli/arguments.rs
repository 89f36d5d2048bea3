//! Reading the command line.

use serde_json::Value;

use super::appliance::BoxCommand;
use super::copies::CopyCommand;
use super::remote::RemoteCommand;
use super::settings::SettingsCommand;
use crate::config::{COMMAND_LINE_SETTINGS, SWITCHES};

/// What `--help` prints.
pub const HELP: &str = "\
Outpost, a remote-management server that lives in a small box.

  outpost [run] [options]             start the server

  outpost create-account <name> --pass <password> [--email <address>] [--domain <domain>]
  outpost reset-account <name> --pass <password>    set a password, unlock, remove second factors
  outpost make-admin <name>                         make an account site administrator
  outpost list-users                                ids of all accounts
  outpost login-key [--new]                         print the key that login cookies are made with, or a new one
  outpost login-cookie <name>                       print what `?login=` in a link to this server takes for an hour
  outpost show users|user-groups|groups|devices|events|power|all
                                                    print records as JSON
  outpost export <file>               write everything to one file: accounts, devices, settings, keys, files, recordings
  outpost import <file>               put such a copy in place; what was there is kept beside it
These work on the data folder while the server is stopped. A password `-` is read from standard input.

  outpost agents import <package>     take MeshCentral's agents from its npm package (.tgz or folder)
  outpost agents list                 what was imported
  outpost agents remove               remove it
These work while the server runs as well.

  outpost box apply                   take over outpost.toml from the boot partition (the box does it at each start)
  outpost box status                  which release runs, and what became of the last update
  outpost box update <file or address>
                                      install an update; it runs after `outpost box restart`
  outpost box restart|off|reset       restart, switch off, or forget everything
These are root's, on a box.

  outpost login <https://server>      log in from another machine and keep a login token
  outpost logout                      forget it
  outpost connect <device> <port|host:port> [--local <port>] [--udp]
                                      bring a port of a device, or of a machine that it reaches, here
  outpost connect --link <link of a share> [--certificate <hash>] [--local <port>]
                                      bring the port that is shared here, without an account
  outpost ssh [<user>@]<device> […]   ssh to a device; everything after its name is for ssh

Options
  --datapath <folder>      store, certificates and config.json (default: outpost-data)
  --filespath <folder>     people's files (default: beside the data folder)
  --configfile <file>      another config.json
  --port <n>               HTTPS (default 443, or the next free port)
  --redirport <n>          HTTP that redirects (default 80; 0 for none)
  --exactports             fail when a port is taken
  --aliasport <n>          HTTPS port as others see it
  --cert <name>            DNS name of the server: WAN and LAN mode
  --lanonly, --wanonly     only one of the two
  --user <name>            every visitor is this user
  --nousers                one administrator without login, loopback only
  --debug <areas>          details of agent, session, relay, auth, web, or *
  --help, --version

MeshCentral's spellings work as well: --createaccount, --resetaccount, --adminaccount, --listuserids,
--logintokenkey, --logintoken, --logintokengen, --showusers, --showusergroups, --showmeshes, --shownodes, --showevents, --showpower, --showall, and every
option that equals a setting of config.json.";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start the server.
    Run,
    /// Something with the stopped server's data.
    Offline(Offline),
    /// Something with a server elsewhere.
    Remote(RemoteCommand),
    /// Something with the official agents.
    Agents(AgentsCommand),
    /// Something with the settings on the box's card.
    Settings(SettingsCommand),
    /// A copy of everything.
    Copy(CopyCommand),
    /// Something with the box that this is.
    Box(BoxCommand),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Commands on the data folder of a stopped server.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Make an account.
    CreateAccount { id: String, pass: String, email: Option<String>, domain: String },
    /// Set a password, unlock, remove second factors.
    ResetAccount { id: String, pass: String, domain: String },
    /// Make an account site administrator.
    MakeAdmin { id: String, domain: String },
    /// Ids of all accounts.
    ListUserIds,
    /// Print the key of login cookies, after making a new one if asked to.
    LoginKey { renew: bool },
    /// Print a login cookie of an account.
    LoginCookie { id: String, domain: String, renew: bool },
    /// Records as JSON.
    Show(Shown),
}

/// Commands on the official agents in the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentsCommand {
    /// Take them from this package.
    Import(String),
    /// Print what is there.
    List,
    /// Remove them.
    Remove,
}

/// Which records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Accounts.
    Users,
    /// User groups.
    UserGroups,
    /// Device groups.
    Groups,
    /// Devices.
    Devices,
    /// The event log.
    Events,
    /// The power history.
    Power,
    /// Every document.
    All,
}

/// The command line, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// What is asked for.
    pub command: Command,
    /// Options that equal settings, lower-cased, over those of the file.
    pub settings: Vec<(String, Value)>,
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// No such option.
    #[error("there is no option `--{0}`; see --help")]
    UnknownOption(String),
    /// No such command.
    #[error("there is no command `{0}`; see --help")]
    UnknownCommand(String),
    /// An option lacks its value.
    #[error("--{0} needs a value")]
    NoValue(String),
    /// A command lacks something.
    #[error("{0}")]
    Incomplete(&'static str),
}

/// Options with a value that are no settings.
const OTHER_VALUES: [&str; 15] = [
    "datapath",
    "filespath",
    "configfile",
    "pass",
    "email",
    "domain",
    "name",
    "createaccount",
    "resetaccount",
    "adminaccount",
    "logintoken",
    "token",
    "local",
    "certificate",
    "link",
];
/// Options without one.
const OTHER_SWITCHES: [&str; 16] = [
    "help",
    "version",
    "listuserids",
    "showusers",
    "showusergroups",
    "showmeshes",
    "shownodes",
    "showevents",
    "showpower",
    "showall",
    "launch",
    "logintokenkey",
    "logintokengen",
    "new",
    "udp",
    "stdio",
];

impl Arguments {
    /// Reads a command line without its first word.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn parse(words: &[String]) -> Result<Arguments, ArgumentError> {
        let mut options: Vec<(String, Value)> = Vec::new();
        let mut plain: Vec<&str> = Vec::new();
        let mut words = words.iter().map(String::as_str).peekable();
        let mut rest: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            if matches!(plain.as_slice(), ["ssh", _]) {
                // ssh has options of its own.
                rest.push(word.to_owned());
                rest.extend(words.by_ref().map(str::to_owned));
                break;
            }
            let Some(option) = word.strip_prefix("--").or(match word {
                "-h" => Some("help"),
                "-V" => Some("version"),
                _ => None,
            }) else {
                plain.push(word);
                continue;
            };
            let (name, attached) = match option.split_once('=') {
                Some((name, value)) => (name.to_lowercase(), Some(value)),
                None => (option.to_lowercase(), None),
            };
            let takes_value =
                COMMAND_LINE_SETTINGS.contains(&name.as_str()) || OTHER_VALUES.contains(&name.as_str());
            let switch = SWITCHES.contains(&name.as_str()) || OTHER_SWITCHES.contains(&name.as_str());
            let value = match (attached, takes_value, switch) {
                (_, false, false) => return Err(ArgumentError::UnknownOption(name)),
                (Some(value), _, _) => typed(value),
                // `-` is a value (standard input), other options are not.
                (None, true, _) => match words.next_if(|next| !next.starts_with('-') || *next == "-") {
                    Some(value) => typed(value),
                    None if name == "debug" => Value::from("*"),
                    None => return Err(ArgumentError::NoValue(name)),
                },
                (None, false, true) => {
                    // minimist lets a switch be followed by true or false.
                    words.next_if(|next| matches!(*next, "true" | "false")).map_or(Value::Bool(true), typed)
                }
            };
            options.push((name, value));
        }
        let text = |name: &str| {
            options.iter().rev().find(|(option, _)| option == name).map(|(_, value)| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let command = match plain.as_slice() {
            ["ssh", device] => Command::Remote(RemoteCommand::Ssh { device: (*device).to_owned(), rest }),
            _ => command(&plain, &text)?,
        };
        options.retain(|(name, _)| {
            COMMAND_LINE_SETTINGS.contains(&name.as_str())
                || SWITCHES.contains(&name.as_str())
                || ["datapath", "filespath", "configfile"].contains(&name.as_str())
        });
        Ok(Arguments { command, settings: options })
    }

    /// An option as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(option, _)| option == name).and_then(|(_, value)| value.as_str())
    }
}

/// Numbers and truth values become what they look like, as in minimist.
fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .ok()
            .filter(|number| number.to_string() == text)
            .map_or_else(|| text.into(), Value::from),
    }
}

fn command(plain: &[&str], text: &impl Fn(&str) -> Option<String>) -> Result<Command, ArgumentError> {
    let set = |name: &str| text(name).is_some();
    if set("help") {
        return Ok(Command::Help);
    }
    if set("version") {
        return Ok(Command::Version);
    }
    let domain = text("domain").unwrap_or_default();
    let pass = || text("pass").ok_or(ArgumentError::Incomplete("--pass <password> is missing"));
    let create = |id: String| {
        Ok(Command::Offline(Offline::CreateAccount {
            id,
            pass: pass()?,
            email: text("email"),
            domain: domain.clone(),
        }))
    };
    let reset = |id: String| {
        Ok(Command::Offline(Offline::ResetAccount { id, pass: pass()?, domain: domain.clone() }))
    };
    let make_admin = |id: String| Ok(Command::Offline(Offline::MakeAdmin { id, domain: domain.clone() }));
    if let Some(id) = text("createaccount") {
        return create(id);
    }
    if let Some(id) = text("resetaccount") {
        return reset(id);
    }
    if let Some(id) = text("adminaccount") {
        return make_admin(id);
    }
    let renew = set("logintokengen") || set("new");
    let login_cookie =
        |id: String| Ok(Command::Offline(Offline::LoginCookie { id, domain: domain.clone(), renew }));
    if let Some(id) = text("logintoken") {
        return login_cookie(id);
    }
    if set("logintokenkey") || set("logintokengen") {
        return Ok(Command::Offline(Offline::LoginKey { renew }));
    }
    let shown = [
        ("showusers", Shown::Users),
        ("showusergroups", Shown::UserGroups),
        ("showmeshes", Shown::Groups),
        ("shownodes", Shown::Devices),
        ("showevents", Shown::Events),
        ("showpower", Shown::Power),
        ("showall", Shown::All),
    ];
    if let Some((_, shown)) = shown.iter().find(|(name, _)| set(name)) {
        return Ok(Command::Offline(Offline::Show(*shown)));
    }
    if set("listuserids") {
        return Ok(Command::Offline(Offline::ListUserIds));
    }
    let named = |id: Option<&&str>| {
        id.map(|id| (*id).to_owned()).ok_or(ArgumentError::Incomplete("the name of the account is missing"))
    };
    match plain {
        [] | ["run"] => Ok(Command::Run),
        ["help"] => Ok(Command::Help),
        ["create-account", rest @ ..] => create(named(rest.first())?),
        ["reset-account", rest @ ..] => reset(named(rest.first())?),
        ["make-admin", rest @ ..] => make_admin(named(rest.first())?),
        ["login-key"] => Ok(Command::Offline(Offline::LoginKey { renew })),
        ["login-cookie", rest @ ..] => login_cookie(named(rest.first())?),
        ["list-users"] => Ok(Command::Offline(Offline::ListUserIds)),
        ["show", what] => {
            let shown = match *what {
                "users" => Shown::Users,
                "user-groups" => Shown::UserGroups,
                "groups" => Shown::Groups,
                "devices" => Shown::Devices,
                "events" => Shown::Events,
                "power" => Shown::Power,
                "all" => Shown::All,
                other => return Err(ArgumentError::UnknownCommand(format!("show {other}"))),
            };
            Ok(Command::Offline(Offline::Show(shown)))
        }
        ["login", url] => Ok(Command::Remote(RemoteCommand::Login {
            url: (*url).to_owned(),
            user: text("user"),
            pass: text("pass"),
            code: text("token"),
            certificate: text("certificate"),
        })),
        ["logout"] => Ok(Command::Remote(RemoteCommand::Logout)),
        ["connect", device, target] => {
            let local = text("local").map(|port| {
                port.parse().map_err(|_| ArgumentError::Incomplete("--local <port>, from 1 to 65535"))
            });
            Ok(Command::Remote(RemoteCommand::Connect {
                device: (*device).to_owned(),
                target: (*target).to_owned(),
                local: local.transpose()?,
                udp: set("udp"),
                stdio: set("stdio"),
            }))
        }
        ["connect"] if text("link").is_some() => {
            let local = text("local").map(|port| {
                port.parse().map_err(|_| ArgumentError::Incomplete("--local <port>, from 1 to 65535"))
            });
            Ok(Command::Remote(RemoteCommand::ConnectLink {
                link: text("link").unwrap_or_default(),
                certificate: text("certificate"),
                local: local.transpose()?,
                stdio: set("stdio"),
            }))
        }
        ["login", ..] => Err(ArgumentError::Incomplete("login <https://server>")),
        ["connect", ..] => Err(ArgumentError::Incomplete("connect <device> <port or host:port>")),
        ["ssh", ..] => Err(ArgumentError::Incomplete("ssh [<user>@]<device>, then what ssh takes")),
        ["agents", "import", package] => Ok(Command::Agents(AgentsCommand::Import((*package).to_owned()))),
        ["agents", "list"] => Ok(Command::Agents(AgentsCommand::List)),
        ["agents", "remove"] => Ok(Command::Agents(AgentsCommand::Remove)),
        ["box", "apply"] => Ok(Command::Settings(SettingsCommand::Apply)),
        ["box", "take-over"] => Ok(Command::Settings(SettingsCommand::TakeOver)),
        ["export", file] => Ok(Command::Copy(CopyCommand::Export((*file).to_owned()))),
        ["import", file] => Ok(Command::Copy(CopyCommand::Import((*file).to_owned()))),
        ["export" | "import", ..] => Err(ArgumentError::Incomplete("export <file> or import <file>")),
        ["box", "serve"] => Ok(Command::Box(BoxCommand::Serve)),
        ["box", "status"] => Ok(Command::Box(BoxCommand::Status)),
        ["box", "update", from] => Ok(Command::Box(BoxCommand::Update((*from).to_owned()))),
        ["box", "restart"] => Ok(Command::Box(BoxCommand::Restart)),
        ["box", "off"] => Ok(Command::Box(BoxCommand::Off)),
        ["box", "reset"] => Ok(Command::Box(BoxCommand::Reset)),
        ["box", ..] => Err(ArgumentError::Incomplete(
            "box status, box update <file or address>, box restart, off or reset",
        )),
        ["agents", ..] => Err(ArgumentError::Incomplete(
            "agents import <MeshCentral's npm package, a .tgz file or folder>, agents list or agents remove",
        )),
        ["show"] => Err(ArgumentError::Incomplete(
            "show what? users, user-groups, groups, devices, events, power or all",
        )),
        other => Err(ArgumentError::UnknownCommand(other.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn both_spellings_mean_the_same() {
        for line in
            ["create-account Bob --pass x --email b@c.de", "--createaccount Bob --Pass x --email=b@c.de"]
        {
            let Command::Offline(Offline::CreateAccount { id, pass, email, domain }) =
                parse(line).expect("understood").command
            else {
                panic!("{line}");
            };
            assert_eq!(
                (id.as_str(), pass.as_str(), email.as_deref(), domain.as_str()),
                ("Bob", "x", Some("b@c.de"), "")
            );
        }
        assert_eq!(
            parse("--showMeshes").expect("understood").command,
            Command::Offline(Offline::Show(Shown::Groups))
        );
        assert_eq!(
            parse("show groups").expect("understood").command,
            Command::Offline(Offline::Show(Shown::Groups))
        );
    }

    #[test]
    fn agents_have_commands_of_their_own() {
        for (line, command) in [
            ("agents import mc.tgz --datapath /d", AgentsCommand::Import("mc.tgz".into())),
            ("agents list", AgentsCommand::List),
            ("agents remove", AgentsCommand::Remove),
        ] {
            assert_eq!(parse(line).expect("understood").command, Command::Agents(command));
        }
    }

    #[test]
    fn the_box_has_commands_of_its_own() {
        for (line, command) in [
            ("box status", BoxCommand::Status),
            ("box update a.raucb", BoxCommand::Update("a.raucb".into())),
            ("box off", BoxCommand::Off),
            ("box serve", BoxCommand::Serve),
        ] {
            assert_eq!(parse(line).expect("understood").command, Command::Box(command));
        }
        let copy = Command::Copy(CopyCommand::Import("a.tar.gz".into()));
        assert_eq!(parse("import a.tar.gz").expect("understood").command, copy);
        assert!(parse("export").is_err() && parse("import a b").is_err());
        assert!(parse("box").is_err() && parse("box update").is_err() && parse("box fly").is_err());
    }

    #[test]
    fn commands_for_servers_elsewhere_are_read() {
        let connect = |target: &str, local, udp, stdio| {
            let (device, target) = ("Pi".to_owned(), target.to_owned());
            Command::Remote(RemoteCommand::Connect { device, target, local, udp, stdio })
        };
        for (line, command) in [
            ("connect Pi 22", connect("22", None, false, false)),
            ("connect Pi 10.0.0.1:80 --local 8080", connect("10.0.0.1:80", Some(8080), false, false)),
            ("connect --udp Pi 53", connect("53", None, true, false)),
            ("connect --stdio Pi 22", connect("22", None, false, true)),
        ] {
            assert_eq!(parse(line).expect("understood").command, command);
        }
        let ssh = parse("ssh root@Pi -v -L 80:localhost:80 --help").expect("understood").command;
        let rest = ["-v", "-L", "80:localhost:80", "--help"].map(str::to_owned).to_vec();
        assert_eq!(ssh, Command::Remote(RemoteCommand::Ssh { device: "root@Pi".into(), rest }));
        assert!(parse("ssh").is_err() && parse("connect Pi").is_err() && parse("login").is_err());
        assert!(parse("connect Pi 22 --local 70000").is_err());
        let link = parse("connect --link https://x/sharing?c=a --local 2222").expect("understood").command;
        let wanted = RemoteCommand::ConnectLink {
            link: "https://x/sharing?c=a".into(),
            certificate: None,
            local: Some(2222),
            stdio: false,
        };
        assert_eq!(link, Command::Remote(wanted));
    }

    #[test]
    fn options_become_settings() {
        let arguments = parse("--Port 4430 --redirport=0 --exactports --lanonly --datapath /d --debug")
            .expect("understood");
        assert_eq!(arguments.command, Command::Run);
        assert_eq!(
            arguments.settings,
            [
                ("port".to_owned(), Value::from(4430)),
                ("redirport".to_owned(), Value::from(0)),
                ("exactports".to_owned(), Value::Bool(true)),
                ("lanonly".to_owned(), Value::Bool(true)),
                ("datapath".to_owned(), Value::from("/d")),
                ("debug".to_owned(), Value::from("*")),
            ]
        );
        assert_eq!(arguments.text("datapath"), Some("/d"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse("--wat"), Err(ArgumentError::UnknownOption("wat".into())));
        assert_eq!(parse("wat"), Err(ArgumentError::UnknownCommand("wat".into())));
        assert_eq!(parse("--port"), Err(ArgumentError::NoValue("port".into())));
        assert_eq!(parse("--port --exactports"), Err(ArgumentError::NoValue("port".into())));
        assert!(parse("agents import").is_err());
        assert!(parse("agents import a b").is_err());
        assert!(parse("create-account --pass x").is_err());
        assert!(parse("create-account bob").is_err());
    }
}
