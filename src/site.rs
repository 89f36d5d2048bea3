//! The running server's shared parts, as the rooms that talk to the world need them.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use outpost_wire::cookie::CookieKey;
use outpost_wire::id::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::agents::Official;
use crate::appliance::Appliance;
use crate::auth::second_factor::UsedCodes;
use crate::auth::session::Revocations;
use crate::auth::{LoginTokens, Sessions, Shares, Throttle, UsedCookies};
use crate::backup::Tickets;
use crate::chat::Chats;
use crate::clock;
use crate::config::Config;
use crate::events::EventBus;
use crate::files::{Room, Shelf};
use crate::identity::Identity;
use crate::jobs::Jobs;
use crate::live::{AgentRegistry, OpenTunnels, SessionRegistry};
use crate::model::{Access, Event, SiteRights, User};
use crate::recordings::Recordings;
use crate::relay::Relay;
use crate::store::{Durability, Store, StoreError, Transaction};

/// Bytes that may wait at once for agents to fetch them.
const MOST_TRANSFERRED: u64 = 4 << 30;

/// The shared parts. One per process, or per test.
pub struct Site {
    /// What is configured.
    pub config: Config,
    /// Certificates and keys.
    pub identity: Identity,
    /// Records and history.
    pub store: Arc<Store>,
    /// Connected agents.
    pub agents: AgentRegistry,
    /// The official agents and their cores, where they were imported.
    pub official: Official,
    /// Open control sessions.
    pub sessions: Arc<SessionRegistry>,
    /// Who is logged in with a browser.
    pub web_sessions: Sessions,
    /// What tools log in with.
    pub tokens: LoginTokens,
    /// What guests come in with.
    pub shares: Shares,
    /// Back-off after bad logins.
    pub throttle: Throttle,
    /// Back-off after bad codes of a second factor.
    pub code_throttle: Throttle,
    /// Codes of second factors that were used.
    pub used_codes: UsedCodes,
    /// Cookies that are good once and were used.
    pub used_cookies: UsedCookies,
    /// Tunnels.
    pub relay: Relay,
    /// Who is connected to which device.
    pub tunnels: OpenTunnels,
    /// Tells people what happens.
    pub events: EventBus,
    /// People's files.
    pub files: Shelf,
    /// Commands for devices, those included that are away.
    pub jobs: Jobs,
    /// Conversations with whoever sits at devices.
    pub chats: Chats,
    /// Recorded sessions.
    pub recordings: Recordings,
    /// The box around it: what root does, an update on its way.
    pub appliance: Appliance,
    /// Tickets for copies of everything.
    pub copies: Tickets,
    /// How much waits for agents to fetch it.
    pub transfers: Arc<Room>,
    /// Keys of encrypted cookies.
    pub keys: CookieKeys,
    /// Ports in use, known once they are bound.
    pub ports: OnceLock<Ports>,
    /// What the LAN knows the server by, `outpost.local`: another machine may have had the name first.
    pub local_name: ArcSwap<String>,
    /// When the server started.
    pub started: Instant,
    /// Passwords hashed at the same time: hashing is slow on purpose and must not take every core.
    pub hashing: tokio::sync::Semaphore,
}

/// The ports that were bound.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTPS.
    pub https: SocketAddr,
    /// Redirection, if it runs.
    pub redirection: Option<SocketAddr>,
}

/// Keys of encrypted cookies (data-formats §5.3).
pub struct CookieKeys {
    /// Logins and relays.
    pub login: CookieKey,
    /// Invitations and shares.
    pub invitation: CookieKey,
}

/// Id of the record of the key of logins.
const LOGIN_KEY: &str = "LoginCookieEncryptionKey";

#[derive(Serialize, Deserialize)]
struct KeyRecord {
    key: String,
    time: i64,
}

impl CookieKeys {
    /// The keys of a store, made where there are none; that of logins may be fixed by the configuration.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(store: &Store, fixed_login: Option<&str>) -> Result<CookieKeys, StoreError> {
        let login = match fixed_login.and_then(|hex| CookieKey::from_hex(hex).ok()) {
            Some(key) => key,
            None => CookieKeys::stored(store, LOGIN_KEY).await?,
        };
        Ok(CookieKeys { login, invitation: CookieKeys::stored(store, "InvitationLinkEncryptionKey").await? })
    }

    /// Makes a new key for logins: every login cookie of the old one is void.
    ///
    /// # Errors
    /// [`StoreError`]; the old one stays.
    pub async fn renew_login(store: &Store) -> Result<CookieKey, StoreError> {
        CookieKeys::make(store, LOGIN_KEY).await
    }

    async fn stored(store: &Store, id: &'static str) -> Result<CookieKey, StoreError> {
        let stored: Option<KeyRecord> = store.get(id.to_owned()).await?;
        match stored.and_then(|record| CookieKey::from_hex(&record.key).ok()) {
            Some(key) => Ok(key),
            None => CookieKeys::make(store, id).await,
        }
    }

    async fn make(store: &Store, id: &'static str) -> Result<CookieKey, StoreError> {
        let key = CookieKey::generate();
        let record = KeyRecord { key: key.to_hex(), time: clock::now_ms() };
        store
            .write(Durability::Durable, |change| {
                change.put(id, "key", &record);
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(key)
    }
}

impl Site {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`StoreError`] when keys or revocations cannot be read or made.
    pub async fn new(config: Config, identity: Identity, store: Arc<Store>) -> Result<Arc<Site>, StoreError> {
        let settings = &config.settings;
        let keys = CookieKeys::load(&store, settings.login_cookie_encryption_key.as_deref()).await?;
        let revoked: Option<Revocations> = store.get(Revocations::ID.to_owned()).await?;
        let web_sessions = Sessions::new(
            settings.session_key.as_deref(),
            settings.session_time,
            settings.cookie_ip_check,
            revoked.unwrap_or_default(),
        );
        let sessions = Arc::new(SessionRegistry::default());
        let tokens = LoginTokens::load(&store).await?;
        let shares = Shares::load(&store).await?;
        let jobs = Jobs::load(&store).await?;
        Ok(Arc::new(Site {
            relay: Relay::new(settings.limits.tunnels),
            events: EventBus::new(store.clone(), sessions.clone()),
            hashing: tokio::sync::Semaphore::new(2),
            official: Official::new(&config.data_folder),
            files: Shelf::new(&config.files_folder),
            recordings: Recordings::new(&config),
            chats: Chats::default(),
            appliance: Appliance::new(&config.places),
            copies: Tickets::default(),
            config,
            identity,
            store,
            agents: AgentRegistry::default(),
            tunnels: OpenTunnels::default(),
            sessions,
            web_sessions,
            tokens,
            shares,
            jobs,
            throttle: Throttle::default(),
            code_throttle: Throttle::default(),
            used_codes: UsedCodes::default(),
            used_cookies: UsedCookies::default(),
            transfers: Room::new(MOST_TRANSFERRED),
            keys,
            ports: OnceLock::new(),
            local_name: ArcSwap::from_pointee("outpost.local".to_owned()),
            started: Instant::now(),
        }))
    }

    /// What a user may see and do now; `None` when the account is gone.
    pub fn access(&self, user: &UserId) -> Option<Access> {
        let directory = self.store.directory();
        let user = directory.user(user)?.clone();
        let manages_all = self.manages_all(&user);
        Some(Access::new(directory, user, manages_all))
    }

    /// Whether a user administers every group of the domain.
    pub fn manages_all(&self, user: &User) -> bool {
        user.siteadmin == SiteRights::FULL
            && (self.config.settings.manage_all_device_groups.contains(&user.id)
                || self.config.domain(&user.domain).manage_all_device_groups.contains(&user.id)
                || self.is_no_users_account(&user.id))
    }

    /// The implicit account of `noUsers`.
    pub fn is_no_users_account(&self, id: &UserId) -> bool {
        self.config.settings.no_users && id.key() == "~"
    }

    /// The port that browsers and agents are told.
    pub fn public_port(&self) -> u16 {
        let bound = self.ports.get().map_or(self.config.settings.port, |ports| ports.https.port());
        self.config.settings.alias_port.unwrap_or(bound)
    }

    /// The name of this server for people.
    pub fn title(&self, domain: &str) -> String {
        self.config.domain(domain).title.clone().unwrap_or_else(|| "Outpost".into())
    }

    /// Changes records and tells about it: what `change` returns is written with its events durably, then the
    /// events are shown.
    ///
    /// # Errors
    /// The error of `change`, or of the store; nothing was changed or shown then.
    pub async fn change<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<(T, Vec<Event>), E>,
    ) -> Result<T, E> {
        let now = clock::now_ms();
        let (value, events) = self
            .store
            .write(Durability::Durable, |transaction| {
                let (value, events) = change(transaction)?;
                for event in &events {
                    transaction.log(event, now);
                }
                Ok::<_, E>((value, events))
            })
            .await?;
        for event in &events {
            self.events.show(event, now);
        }
        Ok(value)
    }

    /// A device's connection state, merged into what clients see of it.
    pub fn add_presence(&self, id: &DeviceId, fields: &mut serde_json::Map<String, serde_json::Value>) {
        if let Some(agent) = self.agents.get(id) {
            fields.insert("conn".into(), crate::live::CONNECTED_BY_AGENT.into());
            fields.insert("pwr".into(), crate::live::POWER_ON.into());
            fields.insert("agct".into(), agent.since.into());
        }
        let sessions = self.running_sessions(id);
        if !sessions.is_empty() {
            fields.insert("sessions".into(), sessions.into());
        }
    }

    /// Who does what on a device now, by kind: tunnels as the relay counts them, the rest as the agent says.
    fn running_sessions(&self, id: &DeviceId) -> serde_json::Map<String, serde_json::Value> {
        let mut sessions = self.agents.get(id).map(|agent| agent.sessions()).unwrap_or_default();
        self.tunnels.correct(id, &mut sessions);
        sessions
    }

    /// Shows everybody who may see a device who does what on it now.
    pub fn show_sessions(&self, id: &DeviceId) {
        let directory = self.store.directory();
        let Some(device) = directory.device(id) else { return };
        let sessions = self.running_sessions(id);
        let event = Event::new("node", "devicesessions", &device.domain)
            .on_device(id)
            .with("sessions", if sessions.is_empty() { serde_json::Value::Null } else { sessions.into() })
            .to_device(device, &directory)
            .unlogged();
        self.events.show(&event, clock::now_ms());
    }

    /// Keeps the revocations of web sessions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store_revocations(&self) -> Result<(), StoreError> {
        let revocations = self.web_sessions.revocations();
        self.store
            .write(Durability::Durable, |change| {
                change.put(Revocations::ID, "revocations", &revocations);
                Ok::<_, StoreError>(())
            })
            .await
    }

    /// Hashes a password off the async threads, a few at a time.
    pub async fn hash_password(&self, password: String) -> crate::auth::PasswordHash {
        let _turn = self.hashing.acquire().await;
        tokio::task::spawn_blocking(move || crate::auth::PasswordHash::of(&password))
            .await
            .expect("hashing does not panic")
    }

    /// Whether a password is the user's, off the async threads.
    pub async fn check_password(&self, user: Option<&User>, password: String) -> bool {
        let stored = user.and_then(|user| {
            Some(crate::auth::PasswordHash { salt: user.salt.clone()?, hash: user.hash.clone()? })
        });
        self.check_hash(stored, password).await
    }

    /// Whether a password is that of a hash, off the async threads. None is checked against a made-up one, so
    /// that the answer takes as long.
    pub async fn check_hash(&self, stored: Option<crate::auth::PasswordHash>, password: String) -> bool {
        if password.len() > crate::auth::password::LONGEST {
            return false;
        }
        let _turn = self.hashing.acquire().await;
        tokio::task::spawn_blocking(move || match stored {
            Some(stored) => stored.matches(&password),
            None => {
                std::hint::black_box(crate::auth::PasswordHash::of(&password));
                false
            }
        })
        .await
        .expect("hashing does not panic")
    }
}
