//! The agent as a whole: finds its server, stays connected, and comes back when it is cut off.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outpost_wire::id::Hash384;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::backoff::{Backoff, between};
use crate::console::Console;
use crate::desktop::Desktops;
use crate::dial::{self, Purpose};
use crate::discovery::{Discovery, live_addresses};
use crate::endpoint::Endpoint;
use crate::identity::Identity;
use crate::netlink::AddressWatch;
use crate::proxy::Proxy;
use crate::session::{Session, SessionEnd};
use crate::settings::Settings;
use crate::state::StateFolder;
use crate::tls::{self, TlsError};
use crate::tunnels::Tunnels;
use crate::uplink::Uplink;

/// Scripts that may run at once.
const MAX_SCRIPTS: usize = 8;
/// Small requests (process lists, console lines, …) that may be under way at once.
const MAX_REQUESTS: usize = 32;
/// How long an answer from the local network is waited for.
const SEARCH_LIMIT: Duration = Duration::from_millis(1500);
/// While connected over a WAN address, the local network is searched this often.
const LAN_SEARCH: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(300));
/// A local server that did not accept us is not tried again for this long when there is another way.
const LAN_PENALTY: Duration = Duration::from_secs(600);
/// After a change of addresses a waiting agent tries again this soon (DHCP and routes need a moment).
const RETRY_AFTER_CHANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// An announcement reaches a whole fleet at once.
const RETRY_AFTER_ANNOUNCEMENT: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(2));

/// What the server can order that is not the library's to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Remove the agent from the machine.
    Uninstall,
}

/// Everything that connections, tunnels and requests share.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// Who this device is.
    pub identity: Identity,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) uplink: Arc<Uplink>,
    /// Open tunnels.
    pub tunnels: Arc<Tunnels>,
    pub(crate) scripts: Semaphore,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) console: Console,
    pub(crate) desktops: Arc<Desktops>,
    state: Option<StateFolder>,
    /// Server and the certificate it proved to own, when there is no folder to keep them in.
    trusted: Mutex<Option<(Hash384, Hash384)>>,
    terminal_launch: Mutex<Option<String>>,
    network: watch::Receiver<u64>,
    orders: mpsc::Sender<Order>,
    status: watch::Sender<Status>,
    /// Every other attempt after a failed one avoids the proxy, as MeshAgent does.
    avoid_proxy: std::sync::atomic::AtomicBool,
}

impl Context {
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        let avoid = self.avoid_proxy.load(std::sync::atomic::Ordering::Relaxed);
        self.settings.proxy.as_ref().filter(|_| !avoid)
    }

    /// The TLS certificate by which `server` is known without a proof, if any.
    pub(crate) fn trusted_tls(&self, server: &Hash384) -> Option<Hash384> {
        let known = match &self.state {
            Some(state) => state.trusted_tls(server),
            None => {
                let trusted = self.trusted.lock().expect("no holder panics");
                trusted.filter(|(owner, _)| owner == server).map(|(_, certificate)| certificate)
            }
        };
        known.or(self.settings.trusted_tls)
    }

    pub(crate) fn trust_tls(&self, server: Hash384, certificate: Hash384) {
        *self.trusted.lock().expect("no holder panics") = Some((server, certificate));
        if let Some(state) = &self.state
            && let Err(error) = state.trust_tls(server, certificate)
        {
            // It costs the server one signature per connection, nothing else.
            log::warn!("{error}");
        }
    }

    pub(crate) fn terminal_launch(&self) -> Option<String> {
        self.terminal_launch.lock().expect("no holder panics").clone()
    }

    pub(crate) fn set_terminal_launch(&self, line: Option<String>) {
        *self.terminal_launch.lock().expect("no holder panics") = line;
    }

    pub(crate) fn network_changes(&self) -> watch::Receiver<u64> {
        self.network.clone()
    }

    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }
}

/// How the agent is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Status {
    /// Looking for the server or shaking hands.
    #[default]
    Connecting,
    /// The server has accepted this device.
    Connected {
        /// Where it is.
        server: String,
        /// Whether it was found on the local network.
        local: bool,
        /// Whether it was known by its TLS certificate alone.
        fast_path: bool,
    },
    /// Waiting before the next attempt.
    Waiting {
        /// Why the last one failed.
        reason: String,
    },
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Connected { server, .. } => write!(f, "connected to {server}"),
            Self::Waiting { reason } => write!(f, "not connected: {reason}"),
        }
    }
}

/// An agent that can be run once.
#[derive(Debug)]
pub struct Agent {
    context: Arc<Context>,
    discovery: Option<Discovery>,
    network: watch::Sender<u64>,
    status: watch::Receiver<Status>,
    orders: mpsc::Receiver<Order>,
}

/// How to reach the server, one attempt.
#[derive(Debug, Clone)]
struct Way {
    endpoint: Endpoint,
    server_id: Hash384,
    local: bool,
}

impl Agent {
    /// An agent with these settings. Without a state folder nothing is kept (as a load generator wants).
    pub fn new(settings: Settings, identity: Identity, state: Option<StateFolder>) -> Result<Self, TlsError> {
        let tls = tls::client(settings.validate_certificate)?;
        let discovery =
            settings.local.then(|| Discovery::new(settings.server_id, settings.discovery_key.clone()));
        let uplink = Arc::new(Uplink::default());
        let (network, network_changes) = watch::channel(0);
        let (status, status_changes) = watch::channel(Status::default());
        let (orders, orders_taken) = mpsc::channel(1);
        let context = Arc::new(Context {
            desktops: Desktops::new(settings.display.clone()),
            settings,
            identity,
            tls,
            tunnels: Tunnels::new(uplink.clone()),
            uplink,
            scripts: Semaphore::new(MAX_SCRIPTS),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            console: Console::default(),
            state,
            trusted: Mutex::default(),
            terminal_launch: Mutex::default(),
            network: network_changes,
            orders,
            status,
            avoid_proxy: false.into(),
        });
        Ok(Self { context, discovery, network, status: status_changes, orders: orders_taken })
    }

    /// Looks for servers at other UDP ports than the protocol's (for tests, which share a machine).
    pub fn discover_on(mut self, server_port: u16, agent_port: u16) -> Self {
        self.discovery = self.discovery.map(|discovery| discovery.with_ports(server_port, agent_port));
        self
    }

    /// Follows how the agent is doing.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Runs until the server gives an order that ends the agent. To stop it otherwise, drop the future.
    pub async fn run(mut self) -> Order {
        let connect = Box::pin(stay_connected(&self.context, self.discovery.as_ref()));
        let network = Box::pin(watch_network(&self.network));
        tokio::select! {
            order = self.orders.recv() => order.unwrap_or(Order::Uninstall),
            () = connect => unreachable!("an agent tries for ever"),
            () = network => unreachable!("the network is watched for ever"),
        }
    }
}

async fn watch_network(changes: &watch::Sender<u64>) {
    match AddressWatch::open() {
        Ok(watch) => {
            while let Ok(()) = watch.changed().await {
                changes.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
        Err(error) => log::info!("changes of addresses will be noticed late: {error}"),
    }
    std::future::pending().await
}

async fn stay_connected(context: &Arc<Context>, discovery: Option<&Discovery>) {
    let mut backoff = Backoff::default();
    let mut next_server = first_server(context.settings.servers.len());
    let mut avoid_local_until: Option<Instant> = None;
    let mut announced: Option<Endpoint> = None;
    let mut said = String::new();
    loop {
        context.status.send_replace(Status::Connecting);
        let wan = context.settings.servers.get(next_server).cloned();
        let local_allowed = wan.is_none() || avoid_local_until.is_none_or(|until| Instant::now() >= until);
        let local = match (announced.take(), discovery) {
            (Some(endpoint), _) if local_allowed => Some(endpoint),
            (_, Some(discovery)) if local_allowed => discovery.search(SEARCH_LIMIT).await,
            _ => None,
        };
        let ways = local
            .map(|endpoint| Way { endpoint, server_id: context.settings.server_id, local: true })
            .into_iter()
            .chain(wan.map(|server| Way { endpoint: server.endpoint, server_id: server.id, local: false }));
        let mut reason = "no server answers on the local network".to_owned();
        let mut lasted = None;
        for way in ways {
            let ended = Box::pin(connection(context, discovery, &way, &mut avoid_local_until)).await;
            lasted = ended.authenticated;
            reason = ended.reason;
            if ended.hopeless {
                backoff.be_patient();
            }
            if lasted.is_some() {
                break;
            }
        }
        match lasted {
            Some(lasted) => backoff.connection_lasted(lasted),
            None => {
                if !context.settings.servers.is_empty() {
                    next_server = (next_server + 1) % context.settings.servers.len();
                }
                context.avoid_proxy.fetch_xor(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let delay = backoff.fail();
        // The same failure every few minutes for weeks is worth one line, not thousands.
        let level = if reason == said { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "not connected: {reason}; next attempt in {:.1} s", delay.as_secs_f64());
        said.clone_from(&reason);
        context.status.send_replace(Status::Waiting { reason });
        announced = pause(context, discovery, delay).await;
    }
}

/// Waits; less when the network changes or a server announces itself (which is returned).
async fn pause(context: &Context, discovery: Option<&Discovery>, delay: Duration) -> Option<Endpoint> {
    let announcements = discovery.and_then(|discovery| discovery.listen().ok());
    let announced = async {
        match &announcements {
            Some(announcements) => announcements.next().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(delay) => None,
        endpoint = announced => {
            tokio::time::sleep(between(RETRY_AFTER_ANNOUNCEMENT.0, RETRY_AFTER_ANNOUNCEMENT.1)).await;
            Some(endpoint)
        }
        () = addresses_changed(context) => {
            tokio::time::sleep(between(RETRY_AFTER_CHANGE.0, RETRY_AFTER_CHANGE.1)).await;
            None
        }
    }
}

/// Waits until the machine has other addresses, or the link of one of them (a cable, a radio) comes or
/// goes. On a host of containers links without addresses do so all the time, which is no reason to hurry.
async fn addresses_changed(context: &Context) {
    let before = live_addresses();
    let mut changes = context.network_changes();
    changes.mark_unchanged();
    while changes.changed().await.is_ok() {
        if live_addresses() != before {
            return;
        }
    }
    std::future::pending().await
}

struct Ended {
    /// How long both sides knew each other, if they came that far.
    authenticated: Option<Duration>,
    reason: String,
    /// The server answered, and will answer the same in a second.
    hopeless: bool,
}

async fn connection(
    context: &Arc<Context>,
    discovery: Option<&Discovery>,
    way: &Way,
    avoid_local_until: &mut Option<Instant>,
) -> Ended {
    let failed = |reason: String, hopeless| Ended {
        authenticated: None,
        reason: format!("{}: {reason}", way.endpoint),
        hopeless,
    };
    // A server on the local network is not behind the proxy.
    let proxy = context.proxy().filter(|_| !way.local);
    let established = match dial::dial(&way.endpoint, &context.tls, proxy, Purpose::Control).await {
        Ok(connection) => {
            Session::establish(context, &way.endpoint, way.server_id, connection).await.map_err(|error| {
                let hopeless = matches!(error, SessionEnd::Handshake(_) | SessionEnd::NotAccepted);
                failed(error.to_string(), hopeless)
            })
        }
        Err(error) => Err(failed(error.to_string(), false)),
    };
    let session = match established {
        Ok(session) => session,
        Err(ended) => {
            if way.local {
                *avoid_local_until = Some(Instant::now() + LAN_PENALTY);
            }
            return ended;
        }
    };
    let since = Instant::now();
    log::info!("connected to {}{}", way.endpoint, if way.local { " (local network)" } else { "" });
    context.status.send_replace(Status::Connected {
        server: way.endpoint.to_string(),
        local: way.local,
        fast_path: session.fast_path,
    });
    let reason = tokio::select! {
        end = Box::pin(session.serve(context)) => end.to_string(),
        () = Box::pin(better_way(context, discovery, way, *avoid_local_until)) => {
            "moving over to the server on the local network".to_owned()
        }
    };
    context.uplink.detach();
    Ended {
        authenticated: Some(since.elapsed()),
        reason: format!("{}: {reason}", way.endpoint),
        hopeless: false,
    }
}

/// Returns when the server was found on the local network while a WAN address is in use and no tunnel is
/// open that the move would cut.
async fn better_way(
    context: &Context,
    discovery: Option<&Discovery>,
    way: &Way,
    avoid_until: Option<Instant>,
) {
    let (Some(discovery), false) = (discovery, way.local) else { return std::future::pending().await };
    loop {
        tokio::select! {
            () = tokio::time::sleep(between(LAN_SEARCH.0, LAN_SEARCH.1)) => {}
            () = addresses_changed(context) => {
                tokio::time::sleep(between(RETRY_AFTER_CHANGE.0, RETRY_AFTER_CHANGE.1)).await;
            }
        }
        let allowed = avoid_until.is_none_or(|until| Instant::now() >= until);
        if allowed
            && context.tunnels.is_empty()
            && discovery.search(SEARCH_LIMIT).await.is_some()
            && context.tunnels.is_empty()
        {
            return;
        }
    }
}

/// A fleet with several servers spreads over them.
fn first_server(count: usize) -> usize {
    match u32::try_from(count) {
        Ok(count) if count > 1 => {
            let drawn = between(Duration::ZERO, Duration::from_secs(count.into())).as_secs();
            usize::try_from(drawn).map_or(0, |drawn| drawn % count as usize)
        }
        _ => 0,
    }
}
