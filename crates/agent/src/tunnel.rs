//! One tunnel: dialled when the server says so, joined with a browser by the relay, given to its protocol.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::Hash384;
use outpost_wire::message::{AgentLog, FromAgent, SessionOptions, TunnelRequest};
use outpost_wire::tunnel::{ConsoleText, Control, JOINED, JOINED_RECORDED, Options, Protocol};
use tokio_websockets::{Message, WebSocketStream};

use crate::agent::Context;
use crate::dial::{self, Connection, Purpose};
use crate::endpoint::Endpoint;
use crate::logins;
use crate::terminal::{self, Shell};

/// Until the relay joins the browser (relays themselves give up after 15 or 30 s).
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// From then until the browser has chosen a protocol.
const CHOICE_LIMIT: Duration = Duration::from_secs(60);
/// Frames looked at before the choice; more is not a browser.
const MAX_EARLY_FRAMES: usize = 64;

/// Rights (tunnel-protocols): remote control, and the bit that takes the terminal away.
const RIGHT_REMOTE_CONTROL: u32 = 8;
const RIGHT_NO_TERMINAL: u32 = 0x200;
const RIGHT_ALL: u32 = 0xFFFF_FFFF;
/// Consent: ask before a terminal.
const CONSENT_ASK_TERMINAL: u32 = 16;

/// Numbers of known texts of `console` messages (tunnel-protocols §1.8) and of the event log.
const TEXT_DENIED: u32 = 2;
const TEXT_TERMINAL_FAILED: u32 = 3;
const LOG_TERMINAL_REFUSED: u32 = 28;

/// The control channel that a tunnel was asked for on.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// The certificate it proved to own.
    pub certificate: Hash384,
}

/// Who asked for a tunnel, as the server says.
#[derive(Debug, Clone, Default)]
pub struct Requester {
    /// User id.
    pub user: String,
    /// Login name.
    pub name: Option<String>,
    /// Browser session.
    pub session: Option<String>,
    /// Where the user is.
    pub address: Option<String>,
    /// Rights on this device; none said is none had.
    pub rights: u32,
    /// Consent bits.
    pub consent: u32,
}

impl Requester {
    /// Right 8 and not the bit that excludes terminals; all rights at once ignore exclusions.
    fn may_use_terminal(&self) -> bool {
        self.rights == RIGHT_ALL
            || self.rights & (RIGHT_REMOTE_CONTROL | RIGHT_NO_TERMINAL) == RIGHT_REMOTE_CONTROL
    }

    fn log(&self, text: &str, number: Option<u32>) -> FromAgent {
        FromAgent::Log(Box::new(AgentLog {
            msg: text.to_owned(),
            msgid: number,
            userid: Some(self.user.clone()),
            username: self.name.clone(),
            sessionid: self.session.clone(),
            remoteaddr: self.address.clone(),
            ..AgentLog::default()
        }))
    }
}

/// Why a tunnel ended before it carried anything.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Not an address that a tunnel may go to.
    #[error("the server asked for a tunnel to a place that is not its relay")]
    ForeignPlace,
    /// TCP and UDP relays.
    #[error("port relays are not offered by this agent")]
    PortRelay,
    /// All places are taken.
    #[error("{} tunnels are open already", crate::tunnels::MAX_TUNNELS)]
    TooMany,
    /// No connection.
    #[error("dialling the relay: {0}")]
    Dial(#[from] dial::DialError),
    /// Another certificate.
    #[error("the relay presented another certificate than the server")]
    ForeignCertificate,
    /// The socket failed or closed.
    #[error("the relay closed the tunnel before it was joined")]
    Closed,
    /// Nothing came.
    #[error("nobody joined the tunnel in time")]
    Timeout,
}

/// Opens a tunnel and serves it to its end.
pub async fn serve(context: Arc<Context>, origin: Origin, request: Box<TunnelRequest>, requester: Requester) {
    let user = requester.user.clone();
    if let Err(error) = Box::pin(open(&context, &origin, &request, requester)).await {
        log::warn!("tunnel for {user}: {error}");
    }
}

async fn open(
    context: &Arc<Context>,
    origin: &Origin,
    request: &TunnelRequest,
    requester: Requester,
) -> Result<(), TunnelError> {
    let path = request.path().ok_or(TunnelError::ForeignPlace)?;
    if request.tcpport.is_some() || request.udpport.is_some() {
        return Err(TunnelError::PortRelay);
    }
    let place = context.tunnels.enter(&requester.user).ok_or(TunnelError::TooMany)?;
    let Connection { mut socket, certificate } =
        dial::dial(&origin.endpoint.at(&path), &context.tls, context.proxy(), Purpose::Tunnel).await?;
    // Command fields come over the authenticated channel, so the hash in them is the server's word.
    let named = request.servertlshash.as_deref().and_then(|hex| Hash384::from_hex(hex).ok());
    if certificate != origin.certificate && Some(certificate) != named {
        return Err(TunnelError::ForeignCertificate);
    }

    tokio::time::timeout(JOIN_LIMIT, joined(&mut socket)).await.map_err(|_| TunnelError::Timeout)??;
    let (protocol, options) =
        tokio::time::timeout(CHOICE_LIMIT, choice(&mut socket)).await.map_err(|_| TunnelError::Timeout)??;

    let usages = request.soptions.usages.as_deref();
    if usages.is_some_and(|usages| !usages.contains(&protocol)) {
        refuse(&mut socket, "This session may not use that protocol", TEXT_DENIED).await;
        return Ok(());
    }
    let protocol = Protocol::from_number(protocol);
    match protocol {
        Some(Protocol::Terminal | Protocol::UserShell) => {
            if let Some(reason) = denial(&requester, context, &options, &request.soptions) {
                log::info!("terminal for {} refused: {reason}", requester.user);
                context
                    .uplink
                    .post(&requester.log(&format!("Terminal refused: {reason}"), Some(LOG_TERMINAL_REFUSED)));
                refuse(&mut socket, &reason, TEXT_DENIED).await;
                return Ok(());
            }
            let as_user = protocol == Some(Protocol::UserShell);
            let launch = context.terminal_launch();
            match Shell::choose(&options, as_user, launch.as_deref()) {
                Err(error) => refuse(&mut socket, &error.to_string(), TEXT_TERMINAL_FAILED).await,
                Ok(shell) => {
                    log::info!("terminal opened for {}", requester.user);
                    place.is_terminal();
                    context.uplink.post(&requester.log("Started terminal session", None));
                    let (sink, stream) = socket.split();
                    let session = Box::pin(terminal::run(sink, stream, shell, &options));
                    tokio::select! {
                        result = session => if let Err(error) = result {
                            log::warn!("terminal for {}: {error}", requester.user);
                        },
                        () = place.cut() => log::info!("terminal of {} cut by an operator", requester.user),
                    }
                    context.uplink.post(&requester.log("Ended terminal session", None));
                    log::info!("terminal closed for {}", requester.user);
                }
            }
        }
        _ => refuse(&mut socket, "This agent does not offer that kind of session", TEXT_DENIED).await,
    }
    Ok(())
}

/// Why a terminal must not begin, if so. Consent is decided here, before any byte of the session: an agent
/// that cannot ask takes the answer for no.
fn denial(
    requester: &Requester,
    context: &Context,
    options: &Options,
    rules: &SessionOptions,
) -> Option<String> {
    if !requester.may_use_terminal() {
        return Some("No right to use the terminal of this device".into());
    }
    let consent = requester.consent | options.consent.unwrap_or(0) | context.settings.local_consent;
    if consent & CONSENT_ASK_TERMINAL != 0 && !nobody_to_ask(rules, &logins::users()) {
        return Some("The user of this device must be asked first, and this agent cannot ask".into());
    }
    None
}

/// The server's rule that an empty machine needs no consent.
fn nobody_to_ask(rules: &SessionOptions, users: &[String]) -> bool {
    let for_terminals =
        rules.extra.get("consentAutoAcceptIfTerminalNoUser").and_then(serde_json::Value::as_bool);
    users.is_empty() && (rules.consent_auto_accept_if_no_user == Some(true) || for_terminals == Some(true))
}

type Socket<S> = WebSocketStream<S>;

/// Waits for the relay's word that a browser is there.
async fn joined<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
) -> Result<(), TunnelError> {
    for _ in 0..MAX_EARLY_FRAMES {
        let Some(Ok(message)) = socket.next().await else { return Err(TunnelError::Closed) };
        if message.is_close() {
            return Err(TunnelError::Closed);
        }
        if matches!(&message.as_payload()[..], joined if joined == JOINED.as_bytes() || joined == JOINED_RECORDED.as_bytes())
        {
            return Ok(());
        }
    }
    Err(TunnelError::Closed)
}

/// Takes options and answers control messages until the browser names its protocol.
async fn choice<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
) -> Result<(u16, Options), TunnelError> {
    let mut options = Options::default();
    for _ in 0..MAX_EARLY_FRAMES {
        let Some(Ok(message)) = socket.next().await else { return Err(TunnelError::Closed) };
        if message.is_close() {
            return Err(TunnelError::Closed);
        }
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        match message.as_text().filter(|text| text.len() > 3 && text.starts_with('{')) {
            Some(text) => match Control::parse(text) {
                Some(Control::Options(new)) => options = *new,
                Some(Control::Close) => return Err(TunnelError::Closed),
                Some(control) => {
                    if let Some(answer) = terminal::answer(control) {
                        socket.send(Message::text(answer)).await.map_err(|_| TunnelError::Closed)?;
                    }
                }
                None => {}
            },
            None => {
                let number =
                    std::str::from_utf8(message.as_payload()).ok().and_then(|text| text.trim().parse().ok());
                // Zero is no protocol; it is refused like any other that is not offered.
                return Ok((number.unwrap_or(0), options));
            }
        }
    }
    Err(TunnelError::Closed)
}

/// Tells the person at the browser why there will be no session, and closes.
async fn refuse<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    reason: &str,
    text: u32,
) {
    let msgargs =
        if text == TEXT_TERMINAL_FAILED { vec![reason.to_owned(), String::new()] } else { Vec::new() };
    // With TEXT_DENIED browsers would show only "Denied"; 0 shows the reason.
    let msgid = if text == TEXT_DENIED { 0 } else { text };
    let console = ConsoleText { msg: Some(reason.to_owned()), msgid: Some(msgid), msgargs, timeout: None };
    let farewell = async {
        let _ = socket.send(Message::text(Control::Console(Box::new(console)).to_json())).await;
        let _ = socket.close().await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_rights_follow_the_bits() {
        let may = |rights| Requester { rights, ..Requester::default() }.may_use_terminal();
        assert!(may(8) && may(8 | 16) && may(RIGHT_ALL));
        assert!(!may(0) && !may(256) && !may(8 | 0x200) && !may(RIGHT_ALL & !8) && !may(RIGHT_ALL - 1));
    }

    #[test]
    fn an_empty_machine_needs_no_consent_only_by_rule() {
        let rule = SessionOptions { consent_auto_accept_if_no_user: Some(true), ..SessionOptions::default() };
        assert!(nobody_to_ask(&rule, &[]));
        assert!(!nobody_to_ask(&rule, &["ada".into()]));
        assert!(!nobody_to_ask(&SessionOptions::default(), &[]));
    }
}
