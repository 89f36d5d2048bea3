//! `outpost login`, `connect` and `ssh`: this program as a client.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use outpost_wire::id::Hash384;
use serde_json::json;
use tokio::net::{TcpListener, UdpSocket};

use super::refuse;
use crate::client::{self, Address, ClientError, Door, GuestLink, Login, Profile, Session, Target};

/// What the command line asks of a server elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "a variant's line says what its fields are")]
pub enum RemoteCommand {
    /// Log in, and keep a login token.
    Login {
        url: String,
        user: Option<String>,
        pass: Option<String>,
        code: Option<String>,
        certificate: Option<String>,
    },
    /// Forget the login token, here and on the server.
    Logout,
    /// Bring a port of a device here.
    Connect { device: String, target: String, local: Option<u16>, udp: bool, stdio: bool },
    /// Bring the port of a share here.
    ConnectLink { link: String, certificate: Option<String>, local: Option<u16>, stdio: bool },
    /// `ssh` to a device. `device` may have `user@` before it; `rest` is for ssh.
    Ssh { device: String, rest: Vec<String> },
}

/// Does it; returns the exit code.
///
/// # Errors
/// What stops it, in words.
pub fn run(command: &RemoteCommand) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            RemoteCommand::Login { url, user, pass, code, certificate } => {
                login(url, user.as_deref(), pass.as_deref(), code.as_deref(), certificate.as_deref()).await
            }
            RemoteCommand::Logout => logout().await,
            RemoteCommand::Connect { device, target, local, udp, stdio } => {
                connect(device, target, *local, *udp, *stdio).await
            }
            RemoteCommand::ConnectLink { link, certificate, local, stdio } => {
                connect_link(link, certificate.as_deref(), *local, *stdio).await
            }
            RemoteCommand::Ssh { device, rest } => ssh(device, rest).await,
        }
    });
    // A thread that still reads the standard input must not hold the end up.
    runtime.shutdown_background();
    outcome
}

fn say(words: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{words}")?;
    Ok(())
}

/// Asks at the terminal.
fn ask(question: &str) -> anyhow::Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(refuse("The input ended before everything was said."));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks without showing what is typed.
fn ask_secret(question: &str) -> anyhow::Result<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return ask(question);
    }
    let before = tcgetattr(&stdin)?;
    let mut quiet = before.clone();
    quiet.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &quiet)?;
    let answer = ask(question);
    tcsetattr(&stdin, SetArg::TCSANOW, &before)?;
    say("")?;
    answer
}

/// The certificate that the server must show: the one that was named, the one that was accepted before, or the one
/// that whoever sits here compares.
async fn pin_of(address: &Address, named: Option<&str>, known: Option<String>) -> anyhow::Result<Hash384> {
    if let Some(hex) = named {
        return Hash384::from_hex(hex).map_err(|_| {
            refuse("--certificate: expected the SHA-384 of the certificate, 96 hexadecimal digits")
        });
    }
    let found = Session::certificate(address).await?;
    if known.is_none_or(|known| !known.eq_ignore_ascii_case(&found.to_hex())) {
        say(&format!("The certificate of {} begins with", address.url()))?;
        say(&format!("  {}", client::fingerprint(&found)))?;
        say("The Server page of the app shows it as well.")?;
        if !matches!(ask("Is it the same? [yes/no]")?.as_str(), "y" | "yes") {
            return Err(refuse("Not logged in."));
        }
    }
    Ok(found)
}

async fn login(
    url: &str,
    user: Option<&str>,
    pass: Option<&str>,
    code: Option<&str>,
    certificate: Option<&str>,
) -> anyhow::Result<i32> {
    let path = Profile::place()?;
    let address = Address::parse(url)?;
    let known = Profile::load(&path).ok().filter(|profile| profile.url == address.url());
    let pin = pin_of(&address, certificate, known.map(|known| known.certificate)).await?;
    let user = user.map_or_else(|| ask("User name:"), |user| Ok(user.to_owned()))?;
    let pass = match pass {
        Some("-") | None => ask_secret("Password:")?,
        Some(pass) => pass.to_owned(),
    };
    let mut login = Login { user, pass, code: code.map(str::to_owned) };
    let session = match Session::open(address.clone(), pin, &login).await {
        Err(ClientError::CodeNeeded) if login.code.is_none() => {
            login.code = Some(ask("Code of the second factor:")?);
            Session::open(address.clone(), pin, &login).await?
        }
        opened => opened?,
    };
    let machine =
        nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let name = format!("outpost on {machine}");
    let made = session.ask(json!({ "action": "createLoginToken", "name": name, "expire": 0 })).await?;
    let text = |field: &str| made[field].as_str().map(str::to_owned);
    let (Some(user), Some(pass)) = (text("tokenUser"), text("tokenPass")) else {
        let reason = text("result").unwrap_or_else(|| "nothing was said".into());
        return Err(refuse(format!("The server made no login token: {reason}")));
    };
    Profile { url: address.url(), user, pass, certificate: pin.to_hex() }.save(&path)?;
    say(&format!(
        "Logged in to {}. The login token “{name}” can be removed on the Account page.",
        address.url()
    ))?;
    Ok(0)
}

async fn logout() -> anyhow::Result<i32> {
    let path = Profile::place()?;
    let profile = Profile::load(&path)?;
    // A token cannot remove tokens; the account's owner does that in the app.
    std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    say(&format!("Logged out here. Remove the login token on the Account page of {} as well.", profile.url))?;
    Ok(0)
}

async fn open() -> anyhow::Result<Session> {
    let path = Profile::place()?;
    let (address, pin, login) = Profile::load(&path)?.open(&path)?;
    Session::open(address, pin, &login).await.map_err(|error| match error {
        ClientError::Refused | ClientError::CodeNeeded => refuse(
            "The server refuses the login token: it was removed or has expired. Run `outpost login` again.",
        ),
        other => other.into(),
    })
}

async fn connect(
    device: &str,
    target: &str,
    local: Option<u16>,
    udp: bool,
    stdio: bool,
) -> anyhow::Result<i32> {
    let target: Target = target.parse()?;
    let session = open().await?;
    let device = session.device(device).await?;
    if stdio {
        client::standard_streams(&Door::Account(Box::new(session), device, target)).await?;
        return Ok(0);
    }
    let here = (Ipv4Addr::LOCALHOST, local.unwrap_or(0));
    let place = match &target.host {
        Some(host) => format!("{host}:{} as seen from {}", target.port, device.name),
        None => format!("port {} of {}", target.port, device.name),
    };
    let taken = || format!("127.0.0.1:{}", here.1);
    let report = |error: &ClientError| {
        let _ = say(&format!("outpost: {error}"));
    };
    let announce = |address: std::net::SocketAddr| -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{address} is {place}. Ctrl-C ends it.")?;
        Ok(out.flush()?)
    };
    let working: std::pin::Pin<Box<dyn Future<Output = ClientError>>> = if udp {
        let socket = UdpSocket::bind(here).await.with_context(taken)?;
        announce(socket.local_addr()?)?;
        Box::pin(client::datagrams(Arc::new(session), device, target, socket, report))
    } else {
        let listener = TcpListener::bind(here).await.with_context(taken)?;
        announce(listener.local_addr()?)?;
        Box::pin(client::stream(Arc::new(Door::Account(Box::new(session), device, target)), listener, report))
    };
    tokio::select! {
        error = working => Err(error.into()),
        _ = tokio::signal::ctrl_c() => Ok(0),
    }
}

async fn connect_link(
    link: &str,
    certificate: Option<&str>,
    local: Option<u16>,
    stdio: bool,
) -> anyhow::Result<i32> {
    let link = GuestLink::parse(link)?;
    let pin = pin_of(&link.address, certificate, None).await?;
    // A link that is of no use is told of now, not with the first connection.
    drop(link.tunnel(pin).await?);
    let door = Door::Link(link, pin);
    if stdio {
        client::standard_streams(&door).await?;
        return Ok(0);
    }
    let here = (Ipv4Addr::LOCALHOST, local.unwrap_or(0));
    let listener = TcpListener::bind(here).await.with_context(|| format!("127.0.0.1:{}", here.1))?;
    let address = listener.local_addr()?;
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{address} is the port that is shared with you. Ctrl-C ends it.")?;
        out.flush()?;
    }
    let report = |error: &ClientError| {
        let _ = say(&format!("outpost: {error}"));
    };
    tokio::select! {
        error = client::stream(Arc::new(door), listener, report) => Err(error.into()),
        _ = tokio::signal::ctrl_c() => Ok(0),
    }
}

async fn ssh(device: &str, rest: &[String]) -> anyhow::Result<i32> {
    let (user, name) = match device.split_once('@') {
        // Ids have `@` in them as well.
        Some((user, name)) if !device.starts_with("node/") && user.len() < 33 => (Some(user), name),
        _ => (None, device),
    };
    let session = open().await?;
    let device = session.device(name).await?;
    drop(session);
    let own = std::env::current_exe().context("this program cannot tell where it is")?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%"));
    let proxy = format!(
        "ProxyCommand={} connect --stdio {} 22",
        quoted(&own.display().to_string()),
        quoted(&device.id)
    );
    // ssh keeps host keys by this name: devices keep their ids, whatever their addresses.
    let key: String = device.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-o", &proxy, "-o", &format!("HostKeyAlias=outpost-{key}")]);
    if let Some(user) = user {
        ssh.args(["-l", user]);
    }
    let plain: String =
        device.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    // A host name that begins with `-` would be an option.
    let host = format!("{}.outpost", plain.trim_start_matches('-'));
    // The options come before the host, the command after it.
    let error = ssh.arg(host).args(rest).exec();
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => refuse("There is no ssh here; install openssh-client."),
        _ => error.into(),
    })
}
