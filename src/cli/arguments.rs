//! Reading the command line.

use serde_json::Value;

use crate::config::{COMMAND_LINE_SETTINGS, SWITCHES};

/// What `--help` prints.
pub const HELP: &str = "\
Outpost, a remote-management server that lives in a small box.

  outpost [run] [options]             start the server

  outpost create-account <name> --pass <password> [--email <address>] [--domain <domain>]
  outpost reset-account <name> --pass <password>    set a password, unlock, remove second factors
  outpost make-admin <name>                         make an account site administrator
  outpost list-users                                ids of all accounts
  outpost show users|user-groups|groups|devices|events|power|all
                                                    print records as JSON
These work on the data folder while the server is stopped. A password `-` is read from standard input.

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
--showusers, --showusergroups, --showmeshes, --shownodes, --showevents, --showpower, --showall, and every
option that equals a setting of config.json.";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start the server.
    Run,
    /// Something with the stopped server's data.
    Offline(Offline),
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
    /// Records as JSON.
    Show(Shown),
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
const OTHER_VALUES: [&str; 10] = [
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
];
/// Options without one.
const OTHER_SWITCHES: [&str; 11] = [
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
        while let Some(word) = words.next() {
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
        let command = command(&plain, &text)?;
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
        assert!(parse("create-account --pass x").is_err());
        assert!(parse("create-account bob").is_err());
    }
}
