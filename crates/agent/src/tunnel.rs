//! One tunnel: dialled when the server says so, joined with a browser by the relay, given to its protocol.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::Hash384;
use outpost_wire::message::{AgentLog, AgentMsg, FromAgent, SessionKind, TunnelRequest};
use outpost_wire::tunnel::{ConsoleText, Control, JOINED, JOINED_RECORDED, Options, Protocol};
use tokio_websockets::{Message, WebSocketStream};

use crate::agent::Context;
use crate::consent::{self, Asker, Consent, Matter};
use crate::desktop::{self, BarState, Notice, Touch, Viewer};
use crate::dial::{self, Connection, Purpose};
use crate::endpoint::Endpoint;
use crate::files;
use crate::port_relay::{Port, PortError};
use crate::terminal::{self, Shell};
use crate::tunnels::Place;

/// Until the relay joins the browser (relays themselves give up after 15 or 30 s).
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// From then until the browser has chosen a protocol.
const CHOICE_LIMIT: Duration = Duration::from_secs(60);
/// Frames looked at before the choice; more is not a browser.
const MAX_EARLY_FRAMES: usize = 64;

/// Rights (control-protocol §5.1): remote control, port relays, and the bits that take sessions away.
const RIGHT_REMOTE_CONTROL: u32 = 8;
const RIGHT_VIEW_ONLY: u32 = 0x100;
const RIGHT_NO_TERMINAL: u32 = 0x200;
const RIGHT_NO_FILES: u32 = 0x400;
const RIGHT_LIMITED_INPUT: u32 = 0x1000;
const RIGHT_NO_DESKTOP: u32 = 0x1_0000;
const RIGHT_RELAY: u32 = 0x20_0000;
const RIGHT_ALL: u32 = 0xFFFF_FFFF;

/// Numbers of known texts of `console` messages (tunnel-protocols §1.8) and of the event log.
const TEXT_WAITING: u32 = 1;
const TEXT_DENIED: u32 = 2;
const TEXT_TERMINAL_FAILED: u32 = 3;
const LOG_DESKTOP_STARTED: u32 = 36;
const LOG_FILES_STARTED: u32 = 43;
const LOG_BAR_CLOSED: u32 = 29;
const LOG_BAR_SHOWN: u32 = 31;
const LOG_BAR_MISSING: u32 = 32;

/// The bit by which the user of the device sees who is connected, all the time, and what the bar says unless the
/// server has its own words.
const CONSENT_BAR: u32 = 64;
const BAR_WORDS: &str = "Connected to this screen: {0}";

/// What a session of a kind needs.
struct Terms {
    name: &'static str,
    kind: SessionKind,
    /// The rights of which one is needed.
    needs: u32,
    /// The right that takes it away.
    excluded_by: u32,
    /// Numbers of the event log: consent given, refused.
    given: u32,
    refused: u32,
    matter: Matter,
}

const TERMINAL: Terms = Terms {
    name: "terminal",
    kind: SessionKind::Terminal,
    needs: RIGHT_REMOTE_CONTROL,
    excluded_by: RIGHT_NO_TERMINAL,
    given: 27,
    refused: 28,
    matter: Matter {
        name: "a terminal",
        asks: 16,
        tells: 2,
        unless_empty: "consentAutoAcceptIfTerminalNoUser",
        words: |rules| (rules.consent_msg_terminal.as_deref(), rules.notify_msg_terminal.as_deref()),
    },
};

const FILES: Terms = Terms {
    name: "files",
    kind: SessionKind::Files,
    needs: RIGHT_REMOTE_CONTROL,
    excluded_by: RIGHT_NO_FILES,
    given: 40,
    refused: 41,
    matter: Matter {
        name: "the files",
        asks: 32,
        tells: 4,
        unless_empty: "consentAutoAcceptIfFileNoUser",
        words: |rules| (rules.consent_msg_files.as_deref(), rules.notify_msg_files.as_deref()),
    },
};

const DESKTOP: Terms = Terms {
    name: "desktop",
    kind: SessionKind::Kvm,
    needs: RIGHT_REMOTE_CONTROL | RIGHT_VIEW_ONLY,
    excluded_by: RIGHT_NO_DESKTOP,
    given: 30,
    refused: 34,
    matter: Matter {
        name: "the screen",
        asks: 8,
        tells: 1,
        unless_empty: "consentAutoAcceptIfDesktopNoUser",
        words: |rules| (rules.consent_msg_desktop.as_deref(), rules.notify_msg_desktop.as_deref()),
    },
};

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
    /// What a guest of that user is called.
    pub guest: Option<String>,
    /// Login name.
    pub name: Option<String>,
    /// Real name.
    pub real_name: Option<String>,
    /// Browser session.
    pub session: Option<String>,
    /// Where the user is.
    pub address: Option<String>,
    /// Rights on this device; none said is none had.
    pub rights: u32,
    /// Consent bits.
    pub consent: u32,
}

/// The key of a user's sessions, or of those of a guest of theirs.
pub fn seat(user: &str, guest: Option<&str>) -> String {
    use base64::Engine as _;
    match guest {
        Some(name) => format!("{user}/guest:{}", base64::engine::general_purpose::STANDARD.encode(name)),
        None => user.to_owned(),
    }
}

impl Requester {
    /// Under which key the session is counted: a guest is not the user who shares (tunnel-protocols §11.3).
    fn seat(&self) -> String {
        seat(&self.user, self.guest.as_deref())
    }

    /// A right to the session and not the bit that excludes it; all rights at once ignore exclusions.
    fn may(&self, terms: &Terms) -> bool {
        self.rights == RIGHT_ALL || (self.rights & terms.needs != 0 && self.rights & terms.excluded_by == 0)
    }

    /// What may be done on a desktop (tunnel-protocols §4.7).
    fn touch(&self, look_only: bool) -> Touch {
        match self.rights {
            _ if look_only => Touch::None,
            RIGHT_ALL => Touch::Free,
            rights if rights & RIGHT_REMOTE_CONTROL == 0 || rights & RIGHT_VIEW_ONLY != 0 => Touch::None,
            rights if rights & RIGHT_LIMITED_INPUT != 0 => Touch::Limited,
            _ => Touch::Free,
        }
    }

    /// Text on the console of the user's browser.
    pub(crate) fn say(&self, text: &str) -> FromAgent {
        let fields = [("value", serde_json::Value::String(text.chars().take(1000).collect()))];
        FromAgent::Msg(Box::new(AgentMsg::reply("console", self.session.as_deref(), &fields)))
    }

    pub(crate) fn log(&self, text: &str, number: Option<u32>) -> FromAgent {
        FromAgent::Log(Box::new(AgentLog {
            msg: text.chars().take(2000).collect(),
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
    #[error("port relay: {0}")]
    PortRelay(#[from] PortError),
    /// No right to a port relay.
    #[error("no right to relay ports of this device")]
    NoRight,
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
    let place = context.tunnels.enter(&requester.seat()).ok_or(TunnelError::TooMany)?;
    let port = match (request.tcpport, request.udpport) {
        (None, None) => None,
        // Before the relay is dialled: a browser that is joined may send at once.
        _ if requester.rights & (RIGHT_REMOTE_CONTROL | RIGHT_RELAY) != 0 => Some(Port::open(request).await?),
        _ => return Err(TunnelError::NoRight),
    };
    let Connection { mut socket, certificate } =
        dial::dial(&origin.endpoint.at(&path), &context.tls, context.proxy(), Purpose::Tunnel).await?;
    // Command fields come over the authenticated channel, so the hash in them is the server's word.
    let named = request.servertlshash.as_deref().and_then(|hex| Hash384::from_hex(hex).ok());
    if certificate != origin.certificate && Some(certificate) != named {
        return Err(TunnelError::ForeignCertificate);
    }

    tokio::time::timeout(JOIN_LIMIT, joined(&mut socket)).await.map_err(|_| TunnelError::Timeout)??;
    if let Some(port) = port {
        let kind = if request.tcpport.is_some() { SessionKind::Tcp } else { SessionKind::Udp };
        place.becomes(kind);
        let (sink, stream) = socket.split();
        until_cut(&place, &requester, Box::pin(port.relay(sink, stream))).await;
        return Ok(());
    }
    let (protocol, options) =
        tokio::time::timeout(CHOICE_LIMIT, choice(&mut socket)).await.map_err(|_| TunnelError::Timeout)??;

    let usages = request.soptions.usages.as_deref();
    if usages.is_some_and(|usages| !usages.contains(&protocol)) {
        refuse(&mut socket, "This session may not use that protocol", TEXT_DENIED).await;
        return Ok(());
    }
    let protocol = Protocol::from_number(protocol);
    let terms = match protocol {
        Some(Protocol::Terminal | Protocol::UserShell) => &TERMINAL,
        Some(Protocol::Files | Protocol::FileTransfer) => &FILES,
        Some(Protocol::Desktop) => &DESKTOP,
        _ => {
            refuse(&mut socket, "This agent does not offer that kind of session", TEXT_DENIED).await;
            return Ok(());
        }
    };
    let consent = requester.consent | options.consent.unwrap_or(0) | context.settings.local_consent;
    let asker =
        Asker { user: requester.name.clone().unwrap_or_default(), real_name: requester.real_name.clone() };
    let denied = if requester.may(terms) {
        let asked = Box::pin(agree(&mut socket, context, &requester, terms, consent, &asker, request));
        let Some(denied) = asked.await else { return Ok(()) };
        denied
    } else {
        Some(format!("No right to use {} of this device", terms.matter.name))
    };
    if let Some(reason) = denied {
        log::info!("{} for {} refused: {reason}", terms.name, requester.user);
        let text = format!("Refused {} session: {reason}", terms.name);
        context.uplink.post(&requester.log(&text, Some(terms.refused)));
        if protocol == Some(Protocol::FileTransfer) {
            files::decline(&mut socket).await;
        } else {
            refuse(&mut socket, &reason, TEXT_DENIED).await;
        }
        return Ok(());
    }
    log::info!("{} opened for {}", terms.name, requester.user);
    place.becomes(terms.kind);
    consent::tell(&context.desktops, &terms.matter, &asker, consent, &request.soptions);
    match protocol {
        Some(Protocol::FileTransfer) => {
            until_cut(&place, &requester, Box::pin(files::push(&mut socket, options))).await;
        }
        Some(Protocol::Desktop) => {
            context.uplink.post(&requester.log("Started desktop session", Some(LOG_DESKTOP_STARTED)));
            let words = request.privacybartext.clone().filter(|words| !words.trim().is_empty());
            let notice = (consent & CONSENT_BAR != 0).then(|| Notice {
                words: words.unwrap_or_else(|| BAR_WORDS.to_owned()),
                real_name: asker.real_name.clone().unwrap_or_else(|| asker.user.clone()),
                user: asker.user.clone(),
            });
            let touch = requester.touch(request.desktopviewonly == Some(true));
            let viewer = Viewer { user: requester.user.clone(), touch, notice };
            let report = |bar: BarState| {
                let (text, number) = match bar {
                    BarState::Shown => ("The bar that names who is connected is shown", LOG_BAR_SHOWN),
                    BarState::Missing => {
                        ("The bar that names who is connected cannot be shown", LOG_BAR_MISSING)
                    }
                    BarState::Closed => {
                        ("The user of this device closed the bar, which ends the session", LOG_BAR_CLOSED)
                    }
                };
                context.uplink.post(&requester.log(text, Some(number)));
            };
            let (mut sink, stream) = socket.split();
            let mut failed = None;
            let session = Box::pin(async {
                failed = desktop::run(&mut sink, stream, &context.desktops, &viewer, &report).await.err();
            });
            until_cut(&place, &requester, session).await;
            if let Some(error) = failed {
                log::info!("desktop for {}: {error}", requester.user);
                refuse(&mut sink, &error.to_string(), 0).await;
            }
        }
        Some(Protocol::Files) => {
            context.uplink.post(&requester.log("Started files session", Some(LOG_FILES_STARTED)));
            let (sink, stream) = socket.split();
            let session = Box::pin(async {
                if let Err(error) = files::run(sink, stream, context, &requester, &options).await {
                    log::debug!("files for {}: {error}", requester.user);
                }
            });
            until_cut(&place, &requester, session).await;
        }
        _ => {
            let as_user = protocol == Some(Protocol::UserShell);
            let launch = context.terminal_launch();
            let shell = match Shell::choose(&options, as_user, launch.as_deref()) {
                Ok(shell) => shell,
                Err(error) => {
                    refuse(&mut socket, &error.to_string(), TEXT_TERMINAL_FAILED).await;
                    return Ok(());
                }
            };
            context.uplink.post(&requester.log("Started terminal session", None));
            let (sink, stream) = socket.split();
            let session = Box::pin(async {
                if let Err(error) = terminal::run(sink, stream, shell, &options).await {
                    log::warn!("terminal for {}: {error}", requester.user);
                }
            });
            until_cut(&place, &requester, session).await;
            context.uplink.post(&requester.log("Ended terminal session", None));
        }
    }
    log::info!("{} closed for {}", terms.name, requester.user);
    Ok(())
}

/// Runs a session until it ends or somebody with the right to do so cuts it.
async fn until_cut(place: &Place, requester: &Requester, session: impl Future<Output = ()>) {
    tokio::select! {
        () = session => {}
        () = place.cut() => log::info!("a session of {} was cut by an operator", requester.user),
    }
}

/// Asks whoever sits at the device, if they have to be asked: not a byte of the session flows before. Returns
/// why it must not begin, if so, or nothing at all when the browser left meanwhile.
async fn agree<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    context: &Arc<Context>,
    requester: &Requester,
    terms: &Terms,
    bits: u32,
    asker: &Asker,
    request: &TunnelRequest,
) -> Option<Option<String>> {
    if !consent::is_needed(&terms.matter, bits, &request.soptions) {
        return Some(None);
    }
    let say = |text: Option<&str>, msgid: u32| {
        let console =
            ConsoleText { msg: text.map(str::to_owned), msgid: Some(msgid), ..ConsoleText::default() };
        Message::text(Control::Console(Box::new(console)).to_json())
    };
    let waiting = say(Some("Waiting for the user of the device to agree…"), TEXT_WAITING);
    socket.send(waiting).await.ok()?;
    let asking = consent::ask(&context.desktops, &terms.matter, asker, &request.soptions);
    let answer = tokio::select! {
        answer = asking => answer,
        // What the browser sends meanwhile is not for a session that does not exist yet.
        () = async { while socket.next().await.is_some_and(|message| message.is_ok_and(|message| !message.is_close())) {} } => return None,
    };
    match answer {
        Consent::Given => {
            let text = format!("The user of the device agreed to a {} session", terms.name);
            context.uplink.post(&requester.log(&text, Some(terms.given)));
            socket.send(say(None, 0)).await.ok()?;
            Some(None)
        }
        Consent::Refused(reason) => Some(Some(reason)),
    }
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
async fn refuse<O: futures_util::Sink<Message> + Unpin>(sink: &mut O, reason: &str, text: u32) {
    let msgargs =
        if text == TEXT_TERMINAL_FAILED { vec![reason.to_owned(), String::new()] } else { Vec::new() };
    // With TEXT_DENIED browsers would show only "Denied"; 0 shows the reason.
    let msgid = if text == TEXT_DENIED { 0 } else { text };
    let console = ConsoleText { msg: Some(reason.to_owned()), msgid: Some(msgid), msgargs, timeout: None };
    let last_words = async {
        let _ = sink.send(Message::text(Control::Console(Box::new(console)).to_json())).await;
        let _ = sink.close().await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), last_words).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_the_bits() {
        let may = |rights, terms| Requester { rights, ..Requester::default() }.may(terms);
        for (terms, exclusion, other) in [(&TERMINAL, 0x200, 0x400), (&FILES, 0x400, 0x200)] {
            assert!(may(8, terms) && may(8 | 16, terms) && may(RIGHT_ALL, terms) && may(8 | other, terms));
            assert!(!may(0, terms) && !may(256, terms) && !may(8 | exclusion, terms));
            assert!(!may(RIGHT_ALL & !8, terms) && !may(RIGHT_ALL - 1, terms));
        }
    }
}
