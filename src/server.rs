//! The whole server: put together, started, stopped. Tests start it in their own process.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Mode};
use crate::discovery::{self, Mdns};
use crate::identity::{Identity, IdentityError, Names};
use crate::site::{Ports, Site};
use crate::store::{Durability, Store, StoreError};
use crate::web::{self, BindError};
use crate::{appliance, clock, jobs, model, relay};

/// How often old history is dropped.
const EXPIRY_PERIOD: Duration = Duration::from_secs(3600);

/// How often commands that wait are looked after.
const JOBS_PERIOD: Duration = Duration::from_secs(15);

/// How often the bundle of official agents is looked at.
const BUNDLE_PERIOD: Duration = Duration::from_secs(15);

/// Why the server does not start.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or written.
    #[error("the data folder {path} cannot be used: {reason}")]
    Folder { path: String, reason: std::io::Error },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates and keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Ports.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The port of a socket cannot be read.
    #[error("a socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    site: Arc<Site>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _mdns: Option<Mdns>,
}

impl Server {
    /// Starts a server. What is missing in the data folder is made.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let folder = config.data_folder.clone();
        make_private_folder(&folder)
            .map_err(|reason| StartError::Folder { path: folder.display().to_string(), reason })?;
        // The store's lock comes first: two servers must not both make certificates.
        let store = {
            let folder = folder.clone();
            tokio::task::spawn_blocking(move || Store::open(&folder))
                .await
                .map_err(|_| StoreError::Closed)??
        };
        let names = Names::of_this_machine(config.settings.cert.as_deref(), discovery::addresses());
        let keep = config.settings.keep_certs;
        let identity = tokio::task::spawn_blocking(move || Identity::load(&folder, &names, keep))
            .await
            .map_err(|_| StoreError::Closed)??;
        let acceptor = web::acceptor(&identity.web)?;
        let site = Site::new(config, identity, store).await?;
        make_no_users_account(&site).await?;
        web::forget_transfers(&site);
        let listeners = web::bind(&site.config.settings)?;
        let ports = Ports {
            https: listeners.https.local_addr()?,
            redirection: listeners.redirection.as_ref().map(|listener| listener.local_addr()).transpose()?,
        };
        site.ports.set(ports).expect("ports are set once");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(web::serve(site.clone(), listeners.https, acceptor, stop.clone()));
        if let Some(listener) = listeners.redirection {
            tasks.spawn(web::serve_redirection(site.clone(), listener, stop.clone()));
        }
        tasks.spawn(expire(site.clone(), stop.clone()));
        tasks.spawn(look_after_jobs(site.clone(), stop.clone()));
        tasks.spawn({
            let site = site.clone();
            async move { relay::recover(&site).await }
        });
        tasks.spawn(watch_bundle(site.clone(), stop.clone()));
        tasks.spawn(appliance::keep_up(site.clone(), stop.clone()));
        let mut mdns = None;
        if site.config.settings.mode.discovers() && site.config.settings.discovery.enabled {
            tasks.spawn(discovery::serve_scan(site.clone(), stop.clone()));
            let title = site.config.settings.discovery.name.clone().unwrap_or_else(|| site.title(""));
            let host = appliance::host_name();
            site.local_name.store(Arc::new(format!("{host}.local")));
            let renamed = {
                let site = site.clone();
                move |name: &str| site.local_name.store(Arc::new(name.to_owned()))
            };
            match Mdns::start(&title, &host, site.public_port(), renamed) {
                Ok(started) => mdns = Some(started),
                Err(error) => log::warn!("{host}.local is not announced: {error}"),
            }
        }
        // Last: it reports the server ready.
        tasks.spawn(appliance::watch(site.clone(), stop.clone()));
        Ok(Server { site, stop, tasks, _mdns: mdns })
    }

    /// The shared parts.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Stops accepting, ends connections, and writes what is still to be written.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.site.relay.stop();
        for session in self.site.sessions.all() {
            session.end_with_server();
        }
        let agents = self.site.agents.all();
        for agent in &agents {
            agent.cancel.cancel();
        }
        // Sessions note when they ended; give them a moment for it.
        let ended = async {
            let site = &self.site;
            let open = || site.relay.count() + site.tunnels.devices_count();
            while site.agents.count() + site.sessions.count() + open() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.site.recordings.finish_all().await;
            while self.tasks.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), ended).await;
        let store = self.site.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

/// Makes the data folder, readable to its owner only; one that is there stays as it is.
pub(crate) fn make_private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The implicit administrator of `noUsers`.
async fn make_no_users_account(site: &Site) -> Result<(), StoreError> {
    if !site.config.settings.no_users {
        return Ok(());
    }
    let id = outpost_wire::id::UserId::from_name("", "~").expect("a valid name");
    if site.store.directory().user(&id).is_some() {
        return Ok(());
    }
    let mut user = crate::control::new_user(id, "Administrator", None);
    user.siteadmin = model::SiteRights::FULL;
    site.store
        .write(Durability::Durable, |change| {
            change.put_user(user);
            Ok::<_, StoreError>(())
        })
        .await
}

async fn expire(site: Arc<Site>, stop: CancellationToken) {
    let expiry = site.config.settings.expiry;
    let ms = |period: Duration| i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPIRY_PERIOD) => {}
        }
        let now = clock::now_ms();
        relay::recover(&site).await;
        let expired = site
            .store
            .write(Durability::Lazy, |change| {
                change.expire(now - ms(expiry.events), now - ms(expiry.power));
                Ok::<_, StoreError>(())
            })
            .await;
        if let Err(error) = expired {
            log::warn!("old history could not be dropped: {error}");
        }
    }
}

/// Ends commands that nobody answers, and sends what waits behind others.
async fn look_after_jobs(site: Arc<Site>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(JOBS_PERIOD) => {}
        }
        jobs::sweep(&site).await;
    }
}

/// Looks whether official agents were imported or removed by the command line, so that connected agents get
/// their cores.
async fn watch_bundle(site: Arc<Site>, stop: CancellationToken) {
    loop {
        site.official.bundle.get();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BUNDLE_PERIOD) => {}
        }
    }
}

/// Where a browser reaches the server.
pub fn urls(site: &Site) -> Vec<String> {
    let port = match site.public_port() {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let mut urls = Vec::new();
    if let Some(name) = &site.config.settings.cert {
        urls.push(format!("https://{name}{port}/"));
    }
    let bound = site.config.settings.port_bind;
    for address in discovery::addresses() {
        if bound.is_some_and(|bound| bound != address && !bound.is_unspecified()) {
            continue;
        }
        match address {
            std::net::IpAddr::V4(v4) => urls.push(format!("https://{v4}{port}/")),
            std::net::IpAddr::V6(v6) => urls.push(format!("https://[{v6}]{port}/")),
        }
    }
    if site.config.settings.mode != Mode::Wan && site.config.settings.discovery.enabled {
        urls.push(format!("https://{}{port}/", site.local_name.load()));
    }
    if urls.is_empty() || bound.is_some_and(|bound| bound.is_loopback()) {
        urls.push(format!("https://localhost{port}/"));
    }
    urls
}
