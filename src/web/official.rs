//! Downloads from the bundle of official agents (agent-protocol §2.4).

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use outpost_wire::arch::{self, Platform};
use outpost_wire::msh::{Attachment, Embedding, Msh, embedding};
use serde_json::json;

use super::authentication::{by_login_cookie, by_session};
use super::downloads::{Wanted, group_for, unknown_group};
use super::request::{Connection, host};
use super::router::not_found;
use super::sending::{self, Download, attachment};
use crate::agents::bundle::{Bundle, BundleFile};
use crate::agents::packages::{self, MacPackage};
use crate::agents::{self, Flavour};
use crate::model::{DeviceGroup, Rights};
use crate::site::Site;

/// The MeshCentral Assistant, which has settings of its own.
const ASSISTANT: u32 = 10_006;
/// MeshCmd as an executable of its own, by the agent it is asked for with.
const MESH_COMMANDS: [(u32, u32, &str); 3] =
    [(3, 11_000, "meshcmd.exe"), (4, 11_001, "meshcmd.exe"), (43, 11_002, "meshcmd-arm64.exe")];
/// Install scripts by number, with the names they are saved under.
const SCRIPTS: [(u32, &str, &str); 4] = [
    (1, "agents/meshinstall-linux.sh", "meshinstall.sh"),
    (2, "agents/meshinstall-initd.sh", "meshagent"),
    (5, "agents/meshinstall-bsd-rcd.sh", "meshagent"),
    (6, "agents/meshinstall-linux.js", "meshinstall.js"),
];
/// Programs for people's own computers, by the action that asks for them.
const TOOLS: [(&str, &str); 3] = [
    ("winrouter", "agents/MeshCentralRouter.exe"),
    ("winassistant", "agents/MeshCentralAssistant.exe"),
    ("macrouter", "agents/MeshCentralRouter.dmg"),
];
/// Characters that a group's name loses in the name of a file.
const UNFIT_FOR_FILES: [char; 11] = ['\\', '/', ':', '*', '?', '"', '<', '>', '|', ' ', '\''];

/// A request for something of the bundle.
pub(super) struct Asked<'a> {
    pub(super) site: &'a Arc<Site>,
    pub(super) connection: &'a Connection,
    pub(super) headers: &'a HeaderMap,
    pub(super) wanted: &'a Wanted,
}

fn broken(error: &io::Error) -> Response<Body> {
    log::error!("a download from the official agents failed: {error}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Does what reads files off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file of the bundle with something behind it, without a copy in memory.
async fn with_attachment(
    asked: &Asked<'_>,
    bundle: &Bundle,
    file: &BundleFile,
    name: &str,
    content: AttachedText,
) -> Response<Body> {
    let path = bundle.place(file);
    let planned = blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let attachment = match &content {
            AttachedText::Settings(text) => Attachment::Settings(text),
            AttachedText::Script(text) => Attachment::Script(text),
        };
        let plan = embedding(&mut file, attachment).map_err(io::Error::other)?;
        Ok((tokio::fs::File::from_std(file), plan))
    });
    let download = Download { name, modified: file.built, tag: None };
    let sent = match planned.await {
        Ok((file, plan)) => sending::send(asked.headers, file, plan, download).await,
        Err(error) => Err(error),
    };
    sent.unwrap_or_else(|error| broken(&error))
}

enum AttachedText {
    Settings(String),
    Script(String),
}

/// A file of the bundle as it is.
async fn plain(asked: &Asked<'_>, bundle: &Bundle, file: &BundleFile, name: &str) -> Response<Body> {
    let download = Download { name, modified: file.built, tag: Some(&file.sha256) };
    let sent = sending::send_file(asked.headers, &bundle.place(file), download).await;
    sent.unwrap_or_else(|error| broken(&error))
}

impl Asked<'_> {
    fn group(&self, key: &str) -> Option<Arc<DeviceGroup>> {
        group_for(self.site, self.connection, self.headers, key)
    }

    fn settings(&self, group: &DeviceGroup, host: &str) -> Msh {
        let Wanted { tag, installflags, .. } = self.wanted;
        agents::settings(self.site, group, host, Flavour::MeshAgent, tag.as_deref(), *installflags)
    }

    /// `id=<architecture>[&meshid=<group>][&zip=1]`: an agent; for Windows with its settings inside when a
    /// group is named. None if the bundle does not have it.
    pub(super) async fn agent(&self, bundle: &Arc<Bundle>, id: u32) -> Option<Response<Body>> {
        let row = arch::by_id(id)?;
        let file = bundle.manifest.agent(id)?;
        if row.platform == Platform::Windows
            && let Some(key) = &self.wanted.meshid
        {
            return Some(self.windows(bundle, row, file, key).await);
        }
        if self.wanted.zip.as_deref() != Some("1") {
            return Some(plain(self, bundle, file, row.served_name).await);
        }
        let (source, agent) = (bundle.clone(), file.clone());
        let _turn = self.site.official.packing.lock().await;
        let zipped = blocking(move || packages::zipped(&source, &agent)).await;
        let name = format!("{}.zip", row.served_name);
        let download = Download { name: &name, modified: file.built, tag: None };
        Some(match zipped {
            Ok(path) => {
                sending::send_file(self.headers, &path, download).await.unwrap_or_else(|error| broken(&error))
            }
            Err(error) => broken(&error),
        })
    }

    async fn windows(
        &self,
        bundle: &Arc<Bundle>,
        row: &arch::Architecture,
        file: &BundleFile,
        key: &str,
    ) -> Response<Body> {
        let Some(group) = self.group(key) else { return unknown_group() };
        let Some(host) = host(self.headers) else { return StatusCode::BAD_REQUEST.into_response() };
        let plain_name: String = group.name.chars().filter(|c| !UNFIT_FOR_FILES.contains(c)).collect();
        let name = match row.served_name.strip_suffix(".exe") {
            Some(base) => format!("{base}-{plain_name}.exe"),
            None => format!("{}-{plain_name}", row.served_name),
        };
        let mut settings = self.settings(&group, host);
        if row.id != ASSISTANT {
            let source = bundle.clone();
            match blocking(move || packages::translations(&source)).await {
                Ok(translations) => settings.push("translation", &translations),
                Err(error) => return broken(&error),
            }
        } else {
            // Monitoring only: it is told nothing of the server.
            if self.wanted.ac.as_deref() == Some("4") {
                settings.entries.clear();
            }
            if let Some(ac) = self.wanted.ac.as_deref().and_then(|ac| ac.parse::<u8>().ok()) {
                settings.push("AutoConnect", &ac.to_string());
            }
        }
        let settings = AttachedText::Settings(settings.to_string());
        with_attachment(self, bundle, file, &name, settings).await
    }

    /// `meshinstall=<architecture>&id=<group>`: an agent that asks what to do when it is started, with the
    /// settings inside; not for Windows.
    pub(super) async fn installer(&self, bundle: &Arc<Bundle>, id: u32, key: &str) -> Response<Body> {
        let Some(group) = self.group(key) else { return unknown_group() };
        let Some(host) = host(self.headers) else { return StatusCode::BAD_REQUEST.into_response() };
        let file = bundle.manifest.agent(id);
        let unfit =
            arch::by_id(id).is_none_or(|row| matches!(row.platform, Platform::Windows | Platform::Other));
        let (Some(file), false) = (file, unfit) else { return not_found() };
        let source = bundle.clone();
        let parts = blocking(move || {
            let script = source.read("agents/meshinstall-linux.js")?;
            Ok((script, packages::translations(&source)?))
        });
        let (script, translations) = match parts.await {
            Ok((Some(script), translations)) => (String::from_utf8_lossy(&script).into_owned(), translations),
            Ok((None, _)) => return not_found(),
            Err(error) => return broken(&error),
        };
        let mut settings = self.settings(&group, host);
        settings.push("translation", &translations);
        let settings: serde_json::Map<String, serde_json::Value> =
            settings.entries.into_iter().map(|(key, value)| (key, value.into())).collect();
        let filled = format!("var msh = {};", serde_json::Value::Object(settings));
        let script = AttachedText::Script(script.replace("var msh = {};", &filled));
        with_attachment(self, bundle, file, "meshagent", script).await
    }

    /// `script=<number>`: an install script.
    pub(super) async fn script(&self, bundle: &Arc<Bundle>, number: u32) -> Response<Body> {
        let Some((_, path, name)) = SCRIPTS.iter().find(|(known, ..)| *known == number) else {
            return not_found();
        };
        let source = bundle.clone();
        let script = match blocking(move || source.read(path)).await {
            Ok(Some(script)) => String::from_utf8_lossy(&script).replace("\r\n", "\n"),
            Ok(None) => return not_found(),
            Err(error) => return broken(&error),
        };
        let unknown = self.site.identity.web.self_made;
        let no_proxy = self.site.config.domain("").agent_no_proxy;
        let options = |secure: bool, always: &str, unknown_option: &str, proxy_option: &str| {
            let mut options = always.to_owned();
            if secure && unknown {
                options += unknown_option;
            }
            if no_proxy {
                options += proxy_option;
            }
            options
        };
        let wget = |secure| options(secure, "", "--no-check-certificate ", "--no-proxy ");
        let curl = |secure| options(secure, "-L ", "-k ", "--noproxy '*' ");
        let script = script
            .replace("{{{wgetoptionshttp}}}", &wget(false))
            .replace("{{{wgetoptionshttps}}}", &wget(true))
            .replace("{{{curloptionshttp}}}", &curl(false))
            .replace("{{{curloptionshttps}}}", &curl(true));
        attachment(name, "application/octet-stream", script)
    }

    /// `meshcmd=<architecture>`: MeshCmd as an executable.
    pub(super) async fn mesh_command(&self, bundle: &Arc<Bundle>, id: u32) -> Response<Body> {
        let ready = MESH_COMMANDS.iter().find(|(agent, ..)| *agent == id);
        if let Some((_, number, name)) = ready
            && let Some(file) = bundle.manifest.agent(*number)
        {
            return plain(self, bundle, file, name).await;
        }
        // An agent without a name for downloads is none.
        let Some(file) = bundle.manifest.agent(id) else { return not_found() };
        let minified = self.site.config.settings.upkeep.minify_core;
        let source = bundle.clone();
        match blocking(move || agents::mesh_command(&source, minified)).await {
            Ok(Some(script)) => {
                with_attachment(self, bundle, file, "meshcmd", AttachedText::Script(script)).await
            }
            Ok(None) => not_found(),
            Err(error) => broken(&error),
        }
    }

    /// `meshaction=<what>`: programs for people's own computers, and what MeshCmd is started with. For
    /// somebody who is logged in.
    pub(super) async fn action(&self, bundle: Option<&Arc<Bundle>>, action: &str) -> Response<Body> {
        let remote = self.connection.remote.ip().to_canonical();
        let cookie = self.wanted.auth.as_deref();
        let proven = by_session(self.site, self.headers, remote)
            .or_else(|| by_login_cookie(self.site, cookie?, remote));
        let Some(access) = proven.and_then(|proven| self.site.access(&proven.user.id)) else {
            return not_found();
        };
        if let Some((_, path)) = TOOLS.iter().find(|(known, _)| *known == action) {
            let file = bundle.and_then(|bundle| Some((bundle, bundle.manifest.file(path)?)));
            let Some((bundle, file)) = file else { return not_found() };
            let name = path.rsplit('/').next().unwrap_or(path);
            return plain(self, bundle, file, name).await;
        }
        let site = self.site;
        let mut start = json!({
            "username": access.user().name, "password": "",
            "serverId": site.identity.agent.server_id.to_hex(),
            "serverHttpsHash": site.identity.web.full_hash.to_hex(), "debugLevel": 0,
        });
        if let Some(host) = host(self.headers) {
            let domain = access.user().id.domain();
            let path = if domain.is_empty() { String::new() } else { format!("{domain}/") };
            start["serverUrl"] = format!("wss://{host}/{path}meshrelay.ashx").into();
        }
        match action {
            "generic" => {}
            "route" => {
                let id = self.wanted.nodeid.as_deref().unwrap_or_default();
                let id = outpost_wire::id::DeviceId::complete(access.user().id.domain(), id);
                let device = id.ok().and_then(|id| access.device(&id, Rights::NONE).ok());
                let Some((device, _)) = device else { return StatusCode::UNAUTHORIZED.into_response() };
                start["action"] = "route".into();
                start["localPort"] = 1234.into();
                start["remoteName"] = device.name.clone().into();
                start["remoteNodeId"] = device.id.as_str().into();
                start["remoteTarget"] = serde_json::Value::Null;
                start["remotePort"] = 3389.into();
            }
            _ => return StatusCode::UNAUTHORIZED.into_response(),
        }
        let text = format!("{start:#}");
        attachment("meshaction.txt", "application/octet-stream", text)
    }
}

/// `GET meshosxagent?id=<architecture>&meshid=<group>`: the installer package for macOS.
pub(super) async fn mac_package(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response<Body> {
    let asked = Asked { site: &site, connection: &connection, headers: &headers, wanted: &wanted };
    let id = wanted.id.as_deref().and_then(|id| id.parse::<u32>().ok());
    let of_mac = |id: &u32| arch::by_id(*id).is_some_and(|row| row.platform == Platform::MacOs);
    let (Some(bundle), Some(id), Some(key)) = (site.official.bundle.get(), id.filter(of_mac), &wanted.meshid)
    else {
        return not_found();
    };
    let Some(agent) = bundle.manifest.agent(id).cloned() else { return not_found() };
    let Some(group) = asked.group(key) else { return unknown_group() };
    let Some(host) = host(&headers) else { return StatusCode::BAD_REQUEST.into_response() };
    let settings = asked.settings(&group, host).to_string();
    let title = site.title(&group.domain);
    let name = format!("MeshAgent-{}.zip", group.name);
    // One is packed at a time: it takes a processor for a second.
    let turn = site.official.packing.lock().await;
    let made = blocking(move || {
        let what = MacPackage { group: &group.name, title: &title, settings: &settings };
        packages::for_mac(&bundle, &agent, &what)
    });
    let file = match made.await {
        Ok(Some(file)) => tokio::fs::File::from_std(file),
        Ok(None) => return not_found(),
        Err(error) => return broken(&error),
    };
    drop(turn);
    let sent = async {
        let keep = file.metadata().await?.len();
        let whole = Embedding { keep, patches: Vec::new(), tail: Vec::new() };
        sending::send(&headers, file, whole, Download { name: &name, modified: None, tag: None }).await
    };
    sent.await.unwrap_or_else(|error| broken(&error))
}
