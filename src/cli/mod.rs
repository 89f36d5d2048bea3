//! The command line: tidy subcommands, and MeshCentral's `--option value` spellings for the same things.

mod agents;
mod appliance;
mod arguments;
mod copies;
mod offline;
mod remote;
mod settings;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Config, Document, Mode};
use crate::server::{self, Server};
use crate::{identity, logging};
use arguments::{Arguments, Command};

/// Folder of the store when none is given.
const DATA_FOLDER: &str = "outpost-data";
/// Name of the optional configuration in it.
const CONFIG_FILE: &str = "config.json";

/// Does what the command line asks; returns the exit code.
///
/// # Errors
/// What stops it, in words for the administrator.
pub fn run(arguments: &[String]) -> anyhow::Result<i32> {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            writeln!(std::io::stderr(), "outpost: {error}")?;
            return Ok(2);
        }
    };
    match &arguments.command {
        Command::Help => {
            writeln!(std::io::stdout(), "{}", arguments::HELP)?;
            Ok(0)
        }
        Command::Version => {
            writeln!(std::io::stdout(), "outpost {}", env!("CARGO_PKG_VERSION"))?;
            Ok(0)
        }
        Command::Run => {
            let (config, problems) = load(&arguments)?;
            serve(config, problems)?;
            Ok(0)
        }
        Command::Offline(command) => {
            let (config, _) = load(&arguments)?;
            offline::run(command, &config)?;
            Ok(0)
        }
        Command::Remote(command) => remote::run(command),
        Command::Settings(command) => settings::run(*command, arguments.text("datapath")),
        Command::Copy(command) => {
            let (config, _) = load(&arguments)?;
            copies::run(command, &config)?;
            Ok(0)
        }
        Command::Box(command) => {
            appliance::run(command)?;
            Ok(0)
        }
        Command::Agents(command) => {
            let (config, _) = load(&arguments)?;
            agents::run(command, &config)?;
            Ok(0)
        }
    }
}

fn load(arguments: &Arguments) -> anyhow::Result<(Config, Vec<config::Problem>)> {
    let data_folder = arguments.text("datapath").map_or_else(|| PathBuf::from(DATA_FOLDER), PathBuf::from);
    let data_folder = std::path::absolute(&data_folder).context("the current folder cannot be read")?;
    let file = match arguments.text("configfile") {
        Some(name) if Path::new(name).is_absolute() => PathBuf::from(name),
        Some(name) => data_folder.join(name),
        None => data_folder.join(CONFIG_FILE),
    };
    let mut document = Document::load(&file)?;
    for (name, value) in &arguments.settings {
        document.set(name, value.clone());
    }
    Ok(config::read(&document, data_folder))
}

fn serve(config: Config, problems: Vec<config::Problem>) -> anyhow::Result<()> {
    for unknown in logging::start(&config.settings.debug) {
        log::warn!("--debug: there is no area `{unknown}`; there are {}", logging::AREAS.join(", "));
    }
    for problem in problems {
        log::warn!("config.json: {problem}");
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).min(4))
        .enable_all()
        .build()
        .context("the threads of the server cannot be started")?;
    runtime.block_on(async {
        let server = Server::start(config).await?;
        greet(&server)?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping");
        server.stop().await;
        Ok(())
    })
}

fn greet(server: &Server) -> anyhow::Result<()> {
    let site = server.site();
    let mode = match site.config.settings.mode {
        Mode::Lan => "LAN mode",
        Mode::Wan => "WAN mode",
        Mode::Hybrid => "LAN and WAN mode",
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "Outpost {} is running in {mode}.", env!("CARGO_PKG_VERSION"))?;
    for url in server::urls(site) {
        writeln!(out, "  {url}")?;
    }
    if let Some(redirection) = site.ports.get().and_then(|ports| ports.redirection) {
        writeln!(out, "HTTP on port {} redirects there.", redirection.port())?;
    }
    if site.config.settings.mode.discovers() && site.config.settings.discovery.enabled {
        writeln!(out, "UDP ports 16989 (agents looking for it) and 5353 (mDNS) answer on the LAN.")?;
    }
    if site.store.directory().users_of("").next().is_none() {
        writeln!(out, "There is no account yet: the first one made in the browser administers this server.")?;
    }
    out.flush()?;
    if let Some(folder) = site.config.data_folder.to_str() {
        log::info!("data in {folder}");
    }
    let identity::Identity { agent, .. } = &site.identity;
    log::info!("server id {}", agent.server_id.to_hex());
    Ok(())
}

/// Every connection is an open file; the usual soft limit is 1024.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16), hard)
    {
        log::debug!("the limit of open files could not be raised: {error}");
    }
}

/// A problem of the command line that ends in words, not in a backtrace.
fn refuse(text: impl Into<String>) -> anyhow::Error {
    let text: String = text.into();
    anyhow::Error::msg(text)
}
