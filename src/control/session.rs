//! One control session from its first message to its last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::UserId;
use outpost_wire::random;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_websockets::{CloseCode, Message, WebSocketStream};

use super::context::{Context, safe_user};
use super::reply::{Answer, Refusal, fields};
use super::request::{Echo, Ids, Request};
use crate::clock;
use crate::events::subscriptions;
use crate::live::{ControlSession, Outbox, mailbox};
use crate::model::{Event, SiteRights, User};
use crate::site::Site;

/// Longest message taken from a client, in bytes. The longest real ones carry a list of 1024 devices or a
/// script of 64 KiB.
pub const LONGEST_MESSAGE: usize = 512 << 10;
/// How long a client may take to take one message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pings go out after this silence, and a client that is silent for twice as long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(45);
/// Requests a client may send at once, and the rate at which that allowance comes back, a second.
const BURST: f64 = 400.0;
const RATE: f64 = 100.0;

/// Who opened the session, and how.
pub struct Credentials {
    /// The account.
    pub user: UserId,
    /// The web session, when by cookie.
    pub web_session: Option<String>,
    /// User name of the login token, when by one.
    pub token: Option<String>,
}

/// What a session starts with.
pub struct Opening {
    /// Who.
    pub credentials: Credentials,
    /// Where from.
    pub remote: IpAddr,
    /// Name of the server as the client reached it.
    pub host: String,
}

/// The message that ends a session, with its cause (control-protocol §2.2).
pub fn close_message(cause: &str, msg: &str) -> String {
    json!({ "action": "close", "cause": cause, "msg": msg }).to_string()
}

/// Serves a session until either side ends it.
pub async fn serve<S>(site: Arc<Site>, opening: Opening, mut socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(user) = site.store.directory().user(&opening.credentials.user).cloned() else { return };
    if let Some(message) = over_limit(&site, &user) {
        let _ = timeout(WRITE_TIMEOUT, socket.send(Message::text(message))).await;
        let _ = timeout(WRITE_TIMEOUT, socket.close()).await;
        return;
    }
    let hex: String = random::bytes::<20>().iter().map(|byte| format!("{byte:02x}")).collect();
    let (mailbox, outbox) = mailbox();
    let id = format!("{}/{hex}", user.id);
    let Credentials { web_session, token, .. } = opening.credentials;
    let session = Arc::new(ControlSession::new(id, user.id.clone(), web_session, token, mailbox));
    session.subscribe(subscriptions(&user, &site.store.directory()));
    site.sessions.add(session.clone());
    announce_count(&site, &user);
    let context = Context {
        site: site.clone(),
        session: session.clone(),
        remote: opening.remote,
        host: opening.host,
        response_id: None,
    };
    let end = run(&context, &user, &mut socket, outbox).await;
    log::debug!(target: "session", USER_ID:% = user.id, REMOTE:% = context.remote; "session of {} ended: {end}", user.id);
    site.sessions.remove(&session.id);
    announce_count(&site, &user);
    let closing = async {
        if session.ends_with_server() {
            let _ = socket.send(Message::close(Some(CloseCode::SERVICE_RESTART), "")).await;
        }
        socket.close().await
    };
    let _ = timeout(Duration::from_secs(2), closing).await;
}

fn over_limit(site: &Site, user: &User) -> Option<String> {
    let limits = &site.config.domain(&user.domain).limits;
    let open: usize = site.sessions.counts(&user.domain).values().sum();
    let over = site.sessions.count() >= site.config.settings.limits.sessions
        || limits.max_user_sessions.is_some_and(|limit| open >= limit)
        || limits.max_single_user_sessions.is_some_and(|limit| site.sessions.of(&user.id).len() >= limit);
    over.then(|| json!({ "action": "stopped", "msg": "Session count exceed" }).to_string())
}

fn announce_count(site: &Site, user: &User) {
    let event = Event::new("user", "wssessioncount", &user.domain)
        .with("userid", user.id.as_str())
        .with("username", user.name.as_str())
        .with("count", site.sessions.of(&user.id).len())
        .to(["*", "server-users"])
        .unlogged();
    site.events.show(&event, clock::now_ms());
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client left")]
    Left,
    #[error("the client was silent")]
    Silent,
    #[error("the client does not read")]
    Stuck,
    #[error("the connection failed: {0}")]
    Failed(#[from] tokio_websockets::Error),
    #[error("ended by the server")]
    Ended,
}

impl End {
    /// A peer that is gone without a word has left like any other.
    fn of(error: tokio_websockets::Error) -> End {
        match error {
            tokio_websockets::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                End::Left
            }
            other => End::Failed(other),
        }
    }
}

async fn run<S>(context: &Context, user: &User, socket: &mut WebSocketStream<S>, mut outbox: Outbox) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for message in [server_info(context, user), user_info(user)] {
        if let Err(end) = send(socket, Bytes::from(message)).await {
            return end;
        }
    }
    let mut allowance = Allowance { tokens: BURST, at: Instant::now() };
    let mut heard = Instant::now();
    let mut pinged = false;
    let token_expires = token_expiry(context);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(token_expires) => {
                let _ = send(socket, Bytes::from(close_message("expired", "expired-1"))).await;
                return End::Ended;
            }
            () = context.session.cancel.cancelled() => {
                // A library that is told "noauth" gives up; one whose server stops is to come back.
                if !context.session.ends_with_server() {
                    let _ = send(socket, Bytes::from(close_message("noauth", "noauth"))).await;
                }
                return End::Ended;
            }
            message = outbox.next() => {
                let Some(message) = message else { return End::Ended };
                if let Err(end) = send(socket, message).await {
                    return end;
                }
                if outbox.take_overflow()
                    && let Err(end) = send(socket, Bytes::from_static(br#"{"action":"reload"}"#)).await
                {
                    return end;
                }
            }
            received = socket.next() => {
                heard = Instant::now();
                pinged = false;
                let message = match received {
                    None => return End::Left,
                    Some(Err(error)) => return End::of(error),
                    Some(Ok(message)) if message.is_close() => return End::Left,
                    Some(Ok(message)) => message,
                };
                let Some(text) = message.as_text() else { continue };
                if !allowance.take() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                let Some(replies) = Box::pin(answer(context, text)).await else { return End::Left };
                for reply in replies {
                    // Events that a request caused are in the mailbox before its answer; they go first.
                    while let Some(event) = outbox.take_waiting() {
                        if let Err(end) = send(socket, event).await {
                            return end;
                        }
                    }
                    if let Err(end) = send(socket, Bytes::from(reply)).await {
                        return end;
                    }
                }
            }
            () = tokio::time::sleep_until(heard + if pinged { KEEP_ALIVE * 2 } else { KEEP_ALIVE }) => {
                if pinged {
                    return End::Silent;
                }
                pinged = true;
                match timeout(WRITE_TIMEOUT, socket.send(Message::ping(Bytes::new()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return End::Failed(error),
                    Err(_) => return End::Stuck,
                }
            }
        }
    }
}

/// When the login token of the session ends it.
fn token_expiry(context: &Context) -> Instant {
    // Far enough for a session, near enough for the clock's arithmetic.
    let never = Duration::from_secs(10 * 365 * 86_400);
    let now = clock::now_ms();
    let token = context.session.token.as_deref().and_then(|token| context.site.tokens.get(token, now));
    let left = token.filter(|token| token.expire != 0).map(|token| token.expire.saturating_sub(now));
    let left = left.map_or(never, |left| Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(never));
    Instant::now() + left
}

/// A bucket of tokens: bursts are fine, floods are slowed down.
struct Allowance {
    tokens: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST) - 1.0;
        self.at = now;
        self.tokens >= 0.0
    }
}

async fn send<S>(socket: &mut WebSocketStream<S>, message: Bytes) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_TIMEOUT, socket.send(Message::text(message))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Failed(error)),
        Err(_) => Err(End::Stuck),
    }
}

/// The answers to one message; `None` ends the session (`close`).
async fn answer(context: &Context, text: &str) -> Option<Vec<String>> {
    let mut message = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return Some(vec![bad("expected a JSON object")]),
        Err(error) => return Some(vec![bad(&format!("this is not JSON: {error}"))]),
    };
    let Some(Value::String(action)) = message.remove("action") else {
        return Some(vec![bad("action: expected a text")]);
    };
    if action.len() > 32 {
        return Some(vec![bad("action: at most 32 characters")]);
    }
    if action == "close" {
        return None;
    }
    let asked = Asked::of(&action, &message);
    let mut context = context.clone();
    context.response_id = asked.response_id().and_then(Value::as_str).map(str::to_owned);
    let outcome = match Request::parse(&action, message) {
        Ok(request) => request.handle(&context).await,
        Err(refusal) => Err(refusal),
    };
    let mut replies = Vec::new();
    asked.render(outcome, &mut replies);
    Some(replies)
}

fn bad(reason: &str) -> String {
    json!({ "action": "error", "result": reason }).to_string()
}

/// What of a request is needed to answer it.
struct Asked<'a> {
    action: &'a str,
    echo: Echo,
    /// The ids it came with. They are echoed when they are texts or numbers; `null` counts as absent.
    ids: Vec<(&'static str, Value)>,
}

impl Asked<'_> {
    fn of<'a>(action: &'a str, message: &Map<String, Value>) -> Asked<'a> {
        let ids = ["responseid", "tag", "requestid"].into_iter().filter_map(|name| {
            let id = message.get(name).filter(|id| id.is_string() || id.is_number())?;
            Some((name, id.clone()))
        });
        Asked { action, echo: Request::echo(action), ids: ids.collect() }
    }

    fn response_id(&self) -> Option<&Value> {
        self.ids.iter().find(|(name, _)| *name == "responseid").map(|(_, id)| id)
    }

    fn reply(&self, mut body: Map<String, Value>, carried: Ids) -> String {
        body.entry("action").or_insert_with(|| self.action.into());
        for (name, id) in &self.ids {
            // `requestid` is our own: whoever sends it wants it on every answer.
            if *name == "requestid" || carried.include(name) {
                body.insert((*name).into(), id.clone());
            }
        }
        Value::Object(body).to_string()
    }

    /// Puts the ids in front of the fields of a message that is text already.
    fn with_ids(&self, text: &str, carried: Ids) -> String {
        let ids: Map<String, Value> = self
            .ids
            .iter()
            .filter(|(name, _)| *name == "requestid" || carried.include(name))
            .map(|(name, id)| ((*name).to_owned(), id.clone()))
            .collect();
        if ids.is_empty() {
            return text.to_owned();
        }
        let ids = Value::Object(ids).to_string();
        format!("{},{}", &ids[..ids.len() - 1], &text[1..])
    }

    fn render(&self, outcome: Result<Answer, Refusal>, replies: &mut Vec<String>) {
        // A bare "ok" is for those who can tell what it answers.
        let told = self.ids.iter().any(|(name, _)| *name != "tag");
        let good = |body| self.reply(body, self.echo.good);
        match outcome {
            Ok(Answer::Nothing) => {}
            Ok(Answer::Ok) if told => replies.push(good(fields! { "result" => "ok" })),
            Ok(Answer::Result(text)) if told => replies.push(good(fields! { "result" => text })),
            Ok(Answer::Ok | Answer::Result(_)) => {}
            Ok(Answer::OkWith(mut body)) => {
                body.entry("result").or_insert_with(|| "ok".into());
                replies.push(good(body));
            }
            Ok(Answer::Body(body)) => replies.push(good(body)),
            Ok(Answer::Typed(text)) => replies.push(self.with_ids(&text, self.echo.good)),
            Ok(Answer::Several(outcomes)) => {
                for outcome in outcomes {
                    self.render(outcome, replies);
                }
            }
            Err(refusal) => {
                let mut body = refusal.fields;
                body.insert("result".into(), refusal.text.into());
                if let Some(msgid) = refusal.msgid {
                    body.insert("msgid".into(), msgid.into());
                }
                replies.push(self.reply(body, self.echo.refused));
            }
        }
    }
}

fn user_info(user: &User) -> String {
    json!({ "action": "userinfo", "userinfo": safe_user(user) }).to_string()
}

/// `serverinfo` (control-protocol §3.1).
fn server_info(context: &Context, user: &User) -> String {
    let site = &context.site;
    let settings = &site.config.settings;
    let mode_bit = match settings.mode {
        crate::config::Mode::Wan => 1,
        crate::config::Mode::Lan => 2,
        crate::config::Mode::Hybrid => 0,
    };
    let mut features: u32 = mode_bit | 0x10 | 0x400;
    let mut features2: u32 = 0;
    if settings.second_factor {
        features |= 0x1000;
    }
    if site.config.domain(&user.domain).login_tokens.allows(&user.id) {
        features2 |= 0x80;
    }
    if context.session.token.is_some() {
        features2 |= 0x100;
    }
    if settings.no_users {
        features |= 4;
    }
    if settings.allow_framing {
        features |= 0x20;
    }
    if site.identity.web.self_made {
        features |= 0x8000_0000;
    }
    let domain = site.config.domain(&user.domain);
    if domain.session_recording.is_some() {
        features |= 0x0800_0000;
    }
    if domain.no_local_recording {
        features2 |= 0x400;
    }
    let name = settings.cert.clone().unwrap_or_else(|| {
        context.host.rsplit_once(':').map_or(context.host.as_str(), |(host, _)| host).to_owned()
    });
    let port = site.public_port();
    let mut info = fields! {
        "domain" => user.domain, "name" => name, "title" => site.title(&user.domain),
        "version" => env!("CARGO_PKG_VERSION"), "mpsname" => "", "mpsport" => 0, "port" => port,
        "emailcheck" => false, "domainauth" => false, "serverTime" => clock::now_ms(), "features" => features,
        "features2" => features2, "languages" => ["en"], "tlshash" => site.identity.web.full_hash.to_hex(),
        "agentCertHash" => site.identity.agent.server_id.to_base64x(), "https" => true,
        "redirport" => site.ports.get().and_then(|ports| ports.redirection).map_or(0, |address| address.port()),
        "magenturl" => format!("mc://{name}:{port}"), "domainsuffix" => user.domain,
        "logoutonidlesessiontimeout" => true, "mode" => settings.mode.word(),
        "uptime" => site.started.elapsed().as_secs(),
    };
    if user.siteadmin.is_full()
        && let Some(end) = site.identity.web.not_after
    {
        info.insert("certExpire".into(), (end * 1000).into());
    }
    if user.siteadmin == SiteRights::FULL && site.manages_all(user) {
        info.insert("manageAllDeviceGroups".into(), true.into());
    }
    if let Some(recording) = &domain.session_recording {
        for (field, marks) in [
            ("usersSessionRecording", recording.only_users),
            ("userGroupsSessionRecording", recording.only_user_groups),
            ("devGroupSessionRecording", recording.only_device_groups),
        ] {
            if marks {
                info.insert(field.into(), 1.into());
            }
        }
    }
    json!({ "action": "serverinfo", "serverinfo": info }).to_string()
}
