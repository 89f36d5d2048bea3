//! The server's console: a few words that tell an administrator how the server is doing.

use std::fmt::Write as _;

use serde::Deserialize;

use super::context::Context;
use super::reply::{Answer, Refusal, fields};

/// Most lines of a list.
const MOST_LINES: usize = 200;

/// `serverconsole`.
#[derive(Deserialize)]
pub struct Console {
    value: String,
}

struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(&Context) -> String,
}

const COMMANDS: [Command; 8] = [
    Command { name: "help", help: "what can be asked", run: help },
    Command { name: "info", help: "version, mode, ports, memory, counts", run: info },
    Command {
        name: "version",
        help: "the release",
        run: |_| format!("Outpost {}", env!("CARGO_PKG_VERSION")),
    },
    Command { name: "uptime", help: "how long the server has been running", run: uptime },
    Command { name: "agents", help: "the devices that are connected", run: agents },
    Command { name: "usersessions", help: "who has a session open, and how many", run: sessions },
    Command {
        name: "tunnels",
        help: "how many tunnels are open",
        run: |context| context.site.relay.count().to_string(),
    },
    Command { name: "serverid", help: "what agents know this server by", run: server_id },
];

/// Answers a line typed on the server's console.
///
/// # Errors
/// For everybody but site administrators, and for login tokens.
pub async fn ask(context: &Context, request: Console) -> Result<Answer, Refusal> {
    context.without_token()?;
    if !context.user()?.siteadmin.is_full() {
        return Err(Refusal::new("Access denied"));
    }
    let line = request.value.trim();
    let name = line.split_whitespace().next().unwrap_or_default();
    let command = COMMANDS.iter().find(|command| command.name == name);
    let value = match command {
        Some(command) => (command.run)(context),
        None => {
            let short: String = name.chars().take(40).collect();
            format!("Unknown command \"{short}\", type \"help\" for list of available commands.")
        }
    };
    Ok(Answer::Body(fields! { "value" => value }))
}

fn help(_: &Context) -> String {
    COMMANDS.iter().fold(String::new(), |mut out, command| {
        let _ = writeln!(out, "{:<14}{}", command.name, command.help);
        out
    })
}

fn uptime(context: &Context) -> String {
    let seconds = context.site.started.elapsed().as_secs();
    format!("{} d {} h {} min {} s", seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn info(context: &Context) -> String {
    let site = &context.site;
    let directory = site.store.directory();
    let memory = super::server::resident_bytes() >> 20;
    let ports = site.ports.get().map_or(String::new(), |ports| match ports.redirection {
        Some(redirection) => format!("{}, redirection {}", ports.https, redirection),
        None => ports.https.to_string(),
    });
    format!(
        "Outpost {}, {} mode\nAddress: {ports}\nRunning for: {}\nMemory: {memory} MiB\n\
         Users: {}, device groups: {}, devices: {}\nConnected: {} agents, {} sessions, {} tunnels",
        env!("CARGO_PKG_VERSION"),
        site.config.settings.mode.word(),
        uptime(context),
        directory.users_of(context.domain()).count(),
        directory
            .groups()
            .filter(|group| group.domain == context.domain() && group.deleted.is_none())
            .count(),
        directory.devices().filter(|device| device.domain == context.domain()).count(),
        site.agents.count(),
        site.sessions.count(),
        site.relay.count(),
    )
}

fn agents(context: &Context) -> String {
    let directory = context.site.store.directory();
    let connected: Vec<String> = directory
        .devices()
        .filter(|device| device.domain == context.domain() && context.site.agents.get(&device.id).is_some())
        .map(|device| format!("{}  {}", device.name, device.id))
        .collect();
    listed(connected, "No agents are connected.")
}

fn sessions(context: &Context) -> String {
    let counts = context.site.sessions.counts(context.domain());
    listed(
        counts.into_iter().map(|(user, count)| format!("{user}, {count}")).collect(),
        "No sessions are open.",
    )
}

fn server_id(context: &Context) -> String {
    context.site.identity.agent.server_id.to_hex()
}

fn listed(mut lines: Vec<String>, none: &str) -> String {
    if lines.is_empty() {
        return none.to_owned();
    }
    let more = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}
