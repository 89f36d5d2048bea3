//! `outpost-agent`: the command line of the agent.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use log::LevelFilter;
use outpost_agent::agent::{Agent, Order, Status};
use outpost_agent::settings::{self, Search, Settings};
use outpost_agent::state::StateFolder;
use outpost_agent::{host, install, logging};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
The Outpost agent: makes this device manageable from an Outpost or MeshCentral server.

Usage:
  outpost-agent run [--msh FILE] [--state FOLDER] [-k KEY=VALUE]... [--debug]
      Runs in the foreground, without installing anything.
  outpost-agent install [--msh FILE]
      Installs (or upgrades) this program as a systemd service. Needs root.
  outpost-agent uninstall [--purge]
      Removes the service; --purge also removes this device's identity.
  outpost-agent status [--state FOLDER]
      Tells what is installed and how it is doing.
  outpost-agent --version | --help

Settings are looked for in: the file of --msh, a file named like this program with .msh
behind, outpost-agent.msh in the state folder, and at the end of this program itself.
-k overrides one of them, e.g. -k MeshServer=wss://server.example:443/agent.ashx.
";

/// The parsed command line.
enum Call {
    Run { msh: Option<PathBuf>, state: Option<PathBuf>, overrides: Vec<(String, String)>, debug: bool },
    Install { msh: Option<PathBuf> },
    Uninstall { purge: bool },
    Status { state: Option<PathBuf> },
    Version,
    Help,
}

fn main() -> ExitCode {
    let call = match parse(lexopt::Parser::from_env()) {
        Ok(call) => call,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "outpost-agent: {error}\nTry \"outpost-agent --help\".");
            return ExitCode::from(2);
        }
    };
    let result = match call {
        Call::Run { msh, state, overrides, debug } => run(msh, state, &overrides, debug),
        Call::Install { msh } => install(msh),
        Call::Uninstall { purge } => uninstall(purge),
        Call::Status { state } => status(state),
        Call::Version => say(&format!("outpost-agent {}\n", env!("CARGO_PKG_VERSION"))),
        Call::Help => say(HELP),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "outpost-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Call, lexopt::Error> {
    let mut command: Option<String> = None;
    let (mut msh, mut state, mut purge, mut debug) = (None, None, false, false);
    let mut overrides = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Call::Help),
            Long("version") | Short('V') => return Ok(Call::Version),
            Value(word) if command.is_none() => command = Some(word.string()?),
            Long("msh") => msh = Some(parser.value()?.into()),
            Long("state") => state = Some(parser.value()?.into()),
            Long("purge") => purge = true,
            Long("debug") => debug = true,
            Short('k') => {
                let text = parser.value()?.string()?;
                let (key, value) = text.split_once('=').ok_or("-k needs KEY=VALUE")?;
                overrides.push((key.to_owned(), value.to_owned()));
            }
            other => return Err(other.unexpected()),
        }
    }
    // An option that the command does not know would be ignored in silence otherwise.
    let given = [
        ("--msh", msh.is_some(), &["run", "install"][..]),
        ("--state", state.is_some(), &["run", "status"]),
        ("--purge", purge, &["uninstall"]),
        ("--debug", debug, &["run"]),
        ("-k", !overrides.is_empty(), &["run"]),
    ];
    let name = command.as_deref().unwrap_or_default();
    for (option, present, commands) in given {
        if present && !commands.contains(&name) {
            return Err(format!("{option} does not go with {name:?}").into());
        }
    }
    match name {
        "run" => Ok(Call::Run { msh, state, overrides, debug }),
        "install" => Ok(Call::Install { msh }),
        "uninstall" => Ok(Call::Uninstall { purge }),
        "status" => Ok(Call::Status { state }),
        "" | "help" => Ok(Call::Help),
        other => Err(format!("there is no command {other:?}").into()),
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn say(text: &str) -> Outcome {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// `/var/lib` for root, the user's own state folder for others.
fn default_state() -> PathBuf {
    if host::is_root() {
        return install::STATE.into();
    }
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/state");
    base.unwrap_or_else(home).join("outpost-agent")
}

fn run(msh: Option<PathBuf>, state: Option<PathBuf>, overrides: &[(String, String)], debug: bool) -> Outcome {
    logging::start(if debug { LevelFilter::Debug } else { LevelFilter::Info })?;
    let folder = state.unwrap_or_else(default_state);
    let search = if overrides.is_empty() { Search::Run } else { Search::RunWithOverrides };
    let (text, source) = settings::find(msh.as_deref(), &folder, search)?;
    let settings = Settings::read(&text, overrides).map_err(|error| format!("{source}: {error}"))?;
    let mut state = StateFolder::open(folder)?;
    state.lock()?;
    let identity = state.identity()?;
    log::info!("Outpost agent {}, settings from {source}", env!("CARGO_PKG_VERSION"));
    log::info!("device {}", identity.node().to_base64x());
    let agent = Agent::new(settings, identity, Some(state))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    runtime.block_on(Box::pin(until_told(agent)))
}

/// Runs the agent until a signal or an order ends it.
async fn until_told(agent: Agent) -> Outcome {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut status = agent.status();
    let report = async move {
        loop {
            let text = status.borrow_and_update().to_string();
            let _ = sd_notify::notify(&[NotifyState::Status(&text)]);
            if status.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    // Ready means running, not connected: a device must boot without its server.
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&Status::Connecting.to_string())]);
    tokio::select! {
        order = Box::pin(agent.run()) => match order {
            Order::Uninstall if install::is_service() => install::uninstall_self()?,
            Order::Uninstall => log::warn!("this agent is not installed, so it only stops"),
        },
        () = report => {}
        _ = terminate.recv() => log::info!("ending: told to terminate"),
        _ = interrupt.recv() => log::info!("ending: interrupted"),
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    Ok(())
}

fn install(msh: Option<PathBuf>) -> Outcome {
    let (text, source) = settings::find(msh.as_deref(), install::STATE.as_ref(), Search::Install)?;
    Settings::read(&text, &[]).map_err(|error| format!("{source}: {error}"))?;
    install::install(&text)?;
    say(&format!(
        "The Outpost agent is installed and running (settings from {source}).\nIts log: journalctl -u {}\n",
        install::SERVICE
    ))
}

fn uninstall(purge: bool) -> Outcome {
    install::uninstall(purge)?;
    let kept = if purge { "" } else { " Its identity is kept; --purge removes that too." };
    say(&format!("The Outpost agent is uninstalled.{kept}\n"))
}

fn status(state: Option<PathBuf>) -> Outcome {
    let folder = state.unwrap_or_else(default_state);
    let mut text = format!("outpost-agent {}\n", env!("CARGO_PKG_VERSION"));
    if install::Places::default().are_filled() {
        let (active, said) = install::service_state().unwrap_or_default();
        text += &format!("service:  {active}{}{said}\n", if said.is_empty() { "" } else { ", " });
    } else {
        text += "service:  not installed\n";
    }
    match settings::find(None, &folder, Search::Run) {
        Ok((found, source)) => match Settings::read(&found, &[]) {
            Ok(settings) => {
                text += &format!("settings: {source}\nservers:  {}\n", settings.describe_servers())
            }
            Err(error) => text += &format!("settings: {source}: {error}\n"),
        },
        Err(error) => text += &format!("settings: {error}\n"),
    }
    let device = if folder.exists() {
        match StateFolder::open(&folder).and_then(|state| state.stored_identity()) {
            Ok(Some(identity)) => identity.node().to_base64x(),
            Ok(None) => "no identity yet".to_owned(),
            Err(error) => error.to_string(),
        }
    } else {
        "no identity yet".to_owned()
    };
    text += &format!("device:   {device}\n");
    say(&text)
}
