//! One control session from its first message to its last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::UserId;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_websockets::{Message, WebSocketStream};

use super::context::{Context, safe_user};
use super::reply::{Answer, Refusal, fields};
use super::request::Request;
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
    let mut random = [0u8; 20];
    SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mailbox, outbox) = mailbox();
    let id = format!("{}/{hex}", user.id);
    let session =
        Arc::new(ControlSession::new(id, user.id.clone(), opening.credentials.web_session, mailbox));
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
    let _ = timeout(Duration::from_secs(2), socket.close()).await;
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
    loop {
        tokio::select! {
            () = context.session.cancel.cancelled() => {
                let _ = send(socket, Bytes::from(close_message("noauth", "noauth"))).await;
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
    // Ids are echoed when they are texts; `null` counts as absent (control-protocol §0.3).
    let id_of = |field: &str| message.get(field).filter(|id| id.is_string() || id.is_number()).cloned();
    let ids = [("responseid", id_of("responseid")), ("tag", id_of("tag"))];
    let mut context = context.clone();
    context.response_id = ids[0].1.as_ref().and_then(Value::as_str).map(str::to_owned);
    let outcome = match Request::parse(&action, message) {
        Ok(request) => request.handle(&context).await,
        Err(refusal) => Err(refusal),
    };
    let mut replies = Vec::new();
    render(&action, &ids, outcome, &mut replies);
    Some(replies)
}

fn bad(reason: &str) -> String {
    json!({ "action": "error", "result": reason }).to_string()
}

fn render(
    action: &str,
    ids: &[(&str, Option<Value>); 2],
    outcome: Result<Answer, Refusal>,
    replies: &mut Vec<String>,
) {
    let asked = ids[0].1.is_some();
    let mut reply = |mut body: Map<String, Value>| {
        body.entry("action").or_insert_with(|| action.into());
        for (name, id) in ids {
            if let Some(id) = id {
                body.insert((*name).into(), id.clone());
            }
        }
        replies.push(Value::Object(body).to_string());
    };
    match outcome {
        Ok(Answer::Nothing) => {}
        Ok(Answer::Ok) if asked => reply(fields! { "result" => "ok" }),
        Ok(Answer::Result(text)) if asked => reply(fields! { "result" => text }),
        Ok(Answer::Ok | Answer::Result(_)) => {}
        Ok(Answer::OkWith(mut body)) => {
            body.entry("result").or_insert_with(|| "ok".into());
            reply(body);
        }
        Ok(Answer::Body(body)) => reply(body),
        Ok(Answer::Several(outcomes)) => {
            for outcome in outcomes {
                render(action, ids, outcome, replies);
            }
        }
        Err(refusal) => {
            let mut body = refusal.fields;
            body.insert("result".into(), refusal.text.into());
            if let Some(msgid) = refusal.msgid {
                body.insert("msgid".into(), msgid.into());
            }
            reply(body);
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
    if settings.no_users {
        features |= 4;
    }
    if settings.allow_framing {
        features |= 0x20;
    }
    if site.identity.web.self_made {
        features |= 0x8000_0000;
    }
    let name = settings.cert.clone().unwrap_or_else(|| {
        context.host.rsplit_once(':').map_or(context.host.as_str(), |(host, _)| host).to_owned()
    });
    let port = site.public_port();
    let mut info = fields! {
        "domain" => user.domain, "name" => name, "title" => site.title(&user.domain),
        "version" => env!("CARGO_PKG_VERSION"), "mpsname" => "", "mpsport" => 0, "port" => port,
        "emailcheck" => false, "domainauth" => false, "serverTime" => clock::now_ms(), "features" => features,
        "features2" => 0, "languages" => ["en"], "tlshash" => site.identity.web.full_hash.to_hex(),
        "agentCertHash" => site.identity.agent.server_id.to_base64x(), "https" => true,
        "redirport" => site.ports.get().and_then(|ports| ports.redirection).map_or(0, |address| address.port()),
        "magenturl" => format!("mc://{name}:{port}"), "domainsuffix" => user.domain,
        "logoutonidlesessiontimeout" => true, "mode" => settings.mode.word(),
        "uptime" => site.started.elapsed().as_secs(),
    };
    if user.siteadmin == SiteRights::FULL && site.manages_all(user) {
        info.insert("manageAllDeviceGroups".into(), true.into());
    }
    json!({ "action": "serverinfo", "serverinfo": info }).to_string()
}
