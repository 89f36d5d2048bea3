//! One agent's connection: handshake, registration, reports, until either side ends it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::command::AgentCommand;
use outpost_wire::handshake::{
    Frame, HandshakeError, ServerHandshake, ServerHandshakeConfig, TlsHashes, VerifiedAgent,
};
use outpost_wire::id::Hash384;
use outpost_wire::message::{FromAgent, MAX_AGENT_MESSAGE, ServerInfo, ToAgent};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{Message, WebSocketStream};

use super::registration::{self, Refused};
use super::reports;
use super::upkeep::{Step, Upkeep};
use crate::clock;
use crate::live::{Agent, ORDERS, Order, Outbox, mailbox};
use crate::site::Site;
use crate::web::ConnectionPermit;

/// Longest message taken from an agent, in bytes.
pub const LONGEST_MESSAGE: usize = MAX_AGENT_MESSAGE;
/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// How long a refused agent is kept waiting. MeshAgent comes back at once when it is closed, so a short
/// silence spares both sides; the connection counts as unauthenticated all that time.
const REFUSED_TIME: Duration = Duration::from_secs(30);
/// How long an agent may take to take one message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages an agent may send at once, and how many come back a second; beyond that it is read more slowly.
const BURST: f64 = 400.0;
const RATE: f64 = 40.0;
/// A device may connect so often in [`RECONNECT_WINDOW`] before it has to wait.
const RECONNECTS: u32 = 12;
/// A device that connects more often than this in the window may be ended by its core.
const RESTLESS: u32 = 5;
const RECONNECT_WINDOW: Duration = Duration::from_secs(120);
/// Devices whose reconnects are counted.
const RECONNECTS_COUNTED: usize = 16_384;

/// Why an agent's connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it left")]
    Left,
    #[error("it was silent for too long")]
    Silent,
    #[error("it does not read")]
    Stuck,
    #[error("the connection failed: {0}")]
    Failed(#[from] tokio_websockets::Error),
    #[error("the handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the handshake took too long")]
    Slow,
    #[error("it was refused: {0}")]
    Refused(#[from] Refused),
    #[error("ended here: another connection took its place, it was removed, or the server stops")]
    Replaced,
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

/// How often each device has connected lately.
#[derive(Default)]
struct Reconnects {
    counts: Mutex<HashMap<Hash384, (Instant, u32)>>,
}

impl Reconnects {
    /// Counts a connection; how many there were lately.
    fn count(&self, device: Hash384) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if counts.len() >= RECONNECTS_COUNTED {
            counts.retain(|_, (since, _)| now.duration_since(*since) < RECONNECT_WINDOW);
        }
        let (since, count) = counts.entry(device).or_insert((now, 0));
        if now.duration_since(*since) >= RECONNECT_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count
    }
}

static RECONNECTED: std::sync::LazyLock<Reconnects> = std::sync::LazyLock::new(Reconnects::default);

/// Serves an agent until either side ends the connection.
pub async fn serve<S>(
    site: Arc<Site>,
    remote: SocketAddr,
    permit: ConnectionPermit,
    mut socket: WebSocketStream<S>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let verified = match timeout(HANDSHAKE_TIME, Box::pin(shake_hands(&site, &mut socket))).await {
        Ok(Ok(verified)) => verified,
        Ok(Err(end)) => {
            log::warn!(target: "agent", REMOTE:% = remote.ip(); "agent at {}: {end}", remote.ip());
            if matches!(end, End::Handshake(_)) {
                hold(&mut socket).await;
            }
            return;
        }
        Err(_) => {
            log::info!(target: "agent", REMOTE:% = remote.ip(); "agent at {}: {}", remote.ip(), End::Slow);
            return;
        }
    };
    let admitted = match Box::pin(admit(&site, &verified.0, remote)).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            let name = &verified.0.info.host_name;
            log::warn!(target: "agent", REMOTE:% = remote.ip(); "agent {name} at {} was refused: {refused}", remote.ip());
            hold(&mut socket).await;
            return;
        }
    };
    permit.release();
    let way = if verified.0.fast_path { "it knew the certificate" } else { "full handshake" };
    log::debug!(target: "agent", "{} is let in: {way}", admitted.agent.device);
    let agent = admitted.agent.clone();
    let end = Box::pin(run(&site, admitted, verified, &mut socket)).await;
    log::info!(
        target: "agent", NODE_ID:% = agent.device, REMOTE:% = remote.ip();
        "agent {} at {}: {end}", agent.device, remote.ip()
    );
    if site.agents.remove(&agent) {
        registration::disconnected(&site, &agent.device, remote).await;
    }
    let _ = timeout(Duration::from_secs(2), socket.close()).await;
}

/// Reads and forgets what a refused agent sends, for a while.
async fn hold<S>(socket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(REFUSED_TIME, async { while let Some(Ok(_)) = socket.next().await {} }).await;
}

async fn shake_hands<S>(
    site: &Site,
    socket: &mut WebSocketStream<S>,
) -> Result<(VerifiedAgent, ServerHandshake), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let identity = &site.identity;
    let mut handshake = ServerHandshake::new(ServerHandshakeConfig {
        signer: identity.agent.signer.clone(),
        certificate_der: identity.agent.certificate.clone(),
        tls_hashes: vec![TlsHashes { full: identity.web.full_hash, key: identity.web.key_hash }],
    });
    loop {
        let message = socket.next().await.ok_or(End::Left)??;
        if message.is_close() {
            return Err(End::Left);
        }
        if !message.is_binary() && !message.is_text() {
            continue;
        }
        let progress = handshake.receive(message.as_payload())?;
        for frame in progress.send {
            socket.send(framed(frame)).await?;
        }
        if let Some(verified) = progress.verified {
            return Ok((verified, handshake));
        }
    }
}

fn framed(frame: Frame) -> Message {
    match frame {
        Frame::Binary(bytes) => Message::binary(bytes),
        Frame::Text(text) => Message::text(text),
    }
}

/// An agent that was let in.
struct Admitted {
    agent: Arc<Agent>,
    outbox: Outbox,
    orders: mpsc::Receiver<Order>,
    /// It keeps coming back.
    restless: bool,
}

async fn admit(site: &Arc<Site>, verified: &VerifiedAgent, remote: SocketAddr) -> Result<Admitted, Refused> {
    let connections = RECONNECTED.count(verified.node_hash);
    if connections > RECONNECTS {
        return Err(Refused::TooOften);
    }
    let limits = &site.config.settings.limits;
    if site.agents.count() >= limits.agents {
        return Err(Refused::TooManyAgents(limits.agents));
    }
    let registered = registration::register(site, verified, remote).await?;
    let device = registered.device;
    let (mailbox, outbox) = mailbox();
    let now = clock::now_ms();
    let (give_order, orders) = mpsc::channel(ORDERS);
    let architecture = verified.info.agent_id;
    let agent = Agent::new(device.id.clone(), remote, now, architecture, mailbox, give_order);
    let agent = Arc::new(agent);
    for event in &registered.events {
        site.events.show(event, now);
    }
    if site.agents.add(agent.clone()).is_some() {
        log::info!(target: "agent", "{} connected again from {}: the earlier connection is ended", device.name, remote.ip());
    }
    registration::connected(site, &device, remote, now).await;
    log::info!(
        target: "agent", NODE_ID:% = device.id, REMOTE:% = remote.ip();
        "{} ({}) connected from {}", device.name, device.id, remote.ip()
    );
    Ok(Admitted { agent, outbox, orders, restless: connections > RESTLESS })
}

async fn run<S>(
    site: &Arc<Site>,
    admitted: Admitted,
    (verified, mut handshake): (VerifiedAgent, ServerHandshake),
    socket: &mut WebSocketStream<S>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Admitted { agent, mut outbox, mut orders, restless } = admitted;
    if let Err(end) = send(socket, framed(handshake.confirm())).await {
        return end;
    }
    drop(handshake);
    let mut bundles = site.official.bundle.changes();
    let mut upkeep = Upkeep::new(site.clone(), agent.device.clone(), &verified, restless);
    drop(verified);
    let mut steps = upkeep.begin();

    let settings = &site.config.settings;
    let idle = settings.agent_idle_timeout;
    let keep_alive = settings
        .agent_ping
        .map(|period| (period, ToAgent::Ping))
        .or(settings.agent_pong.map(|period| (period, ToAgent::Pong)));
    let mut next_keep_alive = keep_alive.as_ref().map(|(period, _)| Instant::now() + *period);
    let mut allowance = (BURST, Instant::now());
    let mut heard = Instant::now();
    loop {
        if let Err(end) = Box::pin(take_steps(site, &agent, socket, std::mem::take(&mut steps))).await {
            return end;
        }
        let far = Instant::now() + Duration::from_secs(86_400);
        let idle_at = idle.map_or(far, |idle| heard + idle);
        tokio::select! {
            () = agent.cancel.cancelled() => return End::Replaced,
            message = outbox.next() => {
                let Some(message) = message else { return End::Replaced };
                // MeshAgent takes JSON and binary commands alike as binary messages, never fragmented.
                if let Err(end) = send(socket, Message::binary(message)).await {
                    return end;
                }
            }
            received = socket.next() => {
                heard = Instant::now();
                let message = match received {
                    None => return End::Left,
                    Some(Err(error)) => return End::of(error),
                    Some(Ok(message)) if message.is_close() => return End::Left,
                    Some(Ok(message)) => message,
                };
                if message.is_binary() || message.is_text() {
                    slow_down(&mut allowance).await;
                    steps = Box::pin(take(site, &agent, &mut upkeep, message.as_payload())).await;
                }
            }
            Some(order) = orders.recv() => steps = upkeep.order(order),
            Ok(()) = bundles.changed() => steps = upkeep.begin(),
            turn = upkeep.due() => steps = Box::pin(upkeep.go_on(turn)).await,
            () = sleep_until(next_keep_alive.unwrap_or(far)) => {
                if let Some((period, message)) = &keep_alive {
                    next_keep_alive = Some(Instant::now() + *period);
                    if let Err(end) = send(socket, Message::binary(message.to_json())).await {
                        return end;
                    }
                }
            }
            () = sleep_until(idle_at) => return End::Silent,
        }
    }
}

async fn send<S>(socket: &mut WebSocketStream<S>, message: Message) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Failed(error)),
        Err(_) => Err(End::Stuck),
    }
}

/// A flood of reports is read more slowly, so it slows its sender down and nobody else.
async fn slow_down((tokens, at): &mut (f64, Instant)) {
    let now = Instant::now();
    *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * RATE).min(BURST) - 1.0;
    *at = now;
    if *tokens < 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(-*tokens / RATE)).await;
    }
}

/// Does what the agent's upkeep asks for.
async fn take_steps<S>(
    site: &Arc<Site>,
    agent: &Arc<Agent>,
    socket: &mut WebSocketStream<S>,
    steps: Vec<Step>,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for step in steps {
        match step {
            Step::Send(message) => send(socket, Message::binary(message)).await?,
            Step::Settled => {
                let info = ToAgent::ServerInfo(ServerInfo::default());
                let _ = agent.send(Bytes::from(info.to_json()));
                reports::ask_system(site, agent).await;
            }
            Step::NoCore => reports::no_core(site, &agent.device).await,
            Step::Stuck => return Err(End::Stuck),
        }
    }
    Ok(())
}

async fn take(site: &Arc<Site>, agent: &Arc<Agent>, upkeep: &mut Upkeep, payload: &[u8]) -> Vec<Step> {
    match AgentCommand::decode(payload) {
        Ok(AgentCommand::Json(text)) => match FromAgent::parse(text) {
            Ok(FromAgent::Other(asked)) if asked.get("action") == Some(&"agentupdate".into()) => {
                upkeep.wants_executable(asked.get("sessionid").and_then(|id| id.as_str()))
            }
            Ok(message) => {
                let started = matches!(message, FromAgent::CoreInfo(_));
                reports::take(site, agent, message).await;
                if started { upkeep.started() } else { Vec::new() }
            }
            Err(error) => {
                log::debug!(target: "agent", "a message of {} was not understood: {error}", agent.device);
                Vec::new()
            }
        },
        Ok(AgentCommand::Tag(tag)) => {
            reports::tag(site, &agent.device, tag).await;
            Vec::new()
        }
        Ok(AgentCommand::CoreHash(hash)) => upkeep.core(hash).await,
        Ok(AgentCommand::AgentHash(hash)) => upkeep.executable(hash),
        Ok(AgentCommand::UpdateAck) => upkeep.next_block().await,
        Ok(_) => Vec::new(),
        Err(error) => {
            log::debug!(target: "agent", "a command of {} was not understood: {error}", agent.device);
            Vec::new()
        }
    }
}
