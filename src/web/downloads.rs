//! What is fetched to install an agent: settings, script, executables, and the root certificate.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Json, Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use outpost_wire::id::GroupId;
use outpost_wire::msh::{Attachment, MshError, embedding};
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::authentication::{Proven, by_session};
use super::imports;
use super::official::Asked;
use super::request::{Connection, host};
use super::router::not_found;
use super::sending::{Download, attachment, send, send_file};
use crate::agents::{self, AgentBinaries, Flavour};
use crate::clock;
use crate::model::{DeviceGroup, Rights};
use crate::site::Site;

/// How long an invitation made for one download is good when it does not say so itself, in minutes.
const SHORT_INVITATION: u32 = 2;

/// What a download is asked for with.
#[derive(Default, Deserialize)]
pub(super) struct Wanted {
    pub(super) id: Option<String>,
    pub(super) meshid: Option<String>,
    c: Option<String>,
    pub(super) zip: Option<String>,
    pub(super) ac: Option<String>,
    pub(super) auth: Option<String>,
    pub(super) nodeid: Option<String>,
    meshinstall: Option<String>,
    meshcmd: Option<String>,
    meshaction: Option<String>,
    script: Option<u32>,
    agent: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) installflags: Option<u8>,
}

impl Wanted {
    /// Whether it is our own agent that is asked for, not an official one.
    fn is_ours(&self) -> bool {
        self.agent.as_deref() == Some("outpost")
    }
}

/// What is answered when a group, or an invitation to one, is not known.
pub(super) fn unknown_group() -> Response<Body> {
    (StatusCode::UNAUTHORIZED, "This device group is not known, or the invitation has expired.\n")
        .into_response()
}

/// The group that a key or an invitation names; where downloads are locked, only invitations and members'
/// sessions open them.
pub(super) fn group_for(
    site: &Site,
    connection: &Connection,
    headers: &HeaderMap,
    key: &str,
) -> Option<Arc<DeviceGroup>> {
    let directory = site.store.directory();
    if let Ok(id) = GroupId::complete("", key)
        && let Some(group) = directory.group(&id).filter(|group| group.deleted.is_none())
    {
        let locked =
            site.config.settings.lock_agent_download || site.config.domain(&group.domain).lock_agent_download;
        let member = || {
            let remote = connection.remote.ip().to_canonical();
            by_session(site, headers, remote)
                .and_then(|proven| site.access(&proven.user.id))
                .is_some_and(|access| access.group(&group.id, Rights::MANAGE_DEVICES).is_ok())
        };
        return (!locked || member()).then(|| group.clone());
    }
    invited_group(site, key)
}

/// The group that an invitation names, while it is good.
pub(super) fn invited_group(site: &Site, cookie: &str) -> Option<Arc<DeviceGroup>> {
    let invitation =
        outpost_wire::cookie::open(&site.keys.invitation, cookie, clock::now_seconds(), SHORT_INVITATION)
            .ok()?;
    let text = |name: &str| invitation.get(name).and_then(Value::as_str);
    let is_invitation = invitation.get("a").and_then(Value::as_u64) == Some(4);
    let id = text("mid").filter(|_| is_invitation).or_else(|| text("m"))?;
    let id = GroupId::complete("", id).ok()?;
    site.store.directory().group(&id).filter(|group| group.deleted.is_none()).cloned()
}

/// `GET MeshServerRootCert.cer`.
pub(super) async fn root_certificate(State(site): State<Arc<Site>>) -> Response<Body> {
    attachment("OutpostRoot.cer", "application/x-x509-ca-cert", site.identity.root.to_vec())
}

/// `GET meshsettings?id=<group key or invitation>`: the `.msh` of a group.
pub(super) async fn settings(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response<Body> {
    let key = wanted.id.as_deref().or(wanted.meshid.as_deref()).unwrap_or_default();
    let Some(group) = group_for(&site, &connection, &headers, key) else {
        return unknown_group();
    };
    let Some(host) = host(&headers) else { return StatusCode::BAD_REQUEST.into_response() };
    let flavour = if wanted.is_ours() { Flavour::Outpost } else { Flavour::MeshAgent };
    let msh = agents::settings(&site, &group, host, flavour, wanted.tag.as_deref(), wanted.installflags);
    let name = if flavour == Flavour::Outpost { "outpost-agent.msh" } else { "meshagent.msh" };
    attachment(name, "application/octet-stream", msh.to_string())
}

/// `GET meshagents`: agents, scripts and tools, by the first of these that is there: `meshinstall`, `id`,
/// `script`, `meshcmd`, `meshaction`. Where official agents are imported they are what is given, unless our
/// own is asked for by `agent=outpost`; where they are not, our own take their place.
pub(super) async fn agents(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Extension(binaries): Extension<Arc<AgentBinaries>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response<Body> {
    let asked = Asked { site: &site, connection: &connection, headers: &headers, wanted: &wanted };
    let bundle = site.official.bundle.get().filter(|_| !wanted.is_ours());
    let number = |text: &str| text.parse::<u32>().ok();
    if let (Some(architecture), Some(key)) = (&wanted.meshinstall, &wanted.id) {
        let (Some(bundle), Some(id)) = (&bundle, number(architecture)) else { return not_found() };
        return asked.installer(bundle, id, key).await;
    }
    if let Some(id) = &wanted.id {
        let Some(id) = number(id) else { return not_found() };
        if let Some(bundle) = &bundle
            && let Some(response) = asked.agent(bundle, id).await
        {
            return response;
        }
        return own_agent(&asked, binaries, id).await;
    }
    if let Some(script) = wanted.script {
        return match &bundle {
            Some(bundle) => asked.script(bundle, script).await,
            None if script == 1 => {
                attachment("meshinstall.sh", "application/octet-stream", agents::generic_script())
            }
            None => not_found(),
        };
    }
    if let Some(architecture) = &wanted.meshcmd {
        let (Some(bundle), Some(id)) = (&bundle, number(architecture)) else { return not_found() };
        return asked.mesh_command(bundle, id).await;
    }
    match &wanted.meshaction {
        Some(action) => asked.action(bundle.as_ref(), action).await,
        None => not_found(),
    }
}

/// Our own agent, with its settings inside when a group is named.
async fn own_agent(asked: &Asked<'_>, binaries: Arc<AgentBinaries>, id: u32) -> Response<Body> {
    let Ok(Some(binary)) = tokio::task::spawn_blocking(move || binaries.get(id)).await else {
        return not_found();
    };
    let broken = |error: &dyn std::fmt::Display| {
        log::error!("an agent cannot be sent: {error}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    };
    let Some(key) = &asked.wanted.meshid else {
        let download = Download { name: "outpost-agent", modified: None, tag: Some(&binary.sha256) };
        let sent = send_file(asked.headers, &binary.path, download).await;
        return sent.unwrap_or_else(|error| broken(&error));
    };
    let Some(group) = group_for(asked.site, asked.connection, asked.headers, key) else {
        return unknown_group();
    };
    let Some(host) = host(asked.headers) else { return StatusCode::BAD_REQUEST.into_response() };
    let Wanted { tag, installflags, .. } = asked.wanted;
    let tag = tag.as_deref();
    let msh = agents::settings(asked.site, &group, host, Flavour::Outpost, tag, *installflags);
    let path = binary.path.clone();
    let planned = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let plan = embedding(&mut file, Attachment::Settings(&msh.to_string()))?;
        Ok::<_, MshError>((tokio::fs::File::from_std(file), plan))
    });
    match planned.await {
        Ok(Ok((file, plan))) => {
            let name = format!("outpost-agent-{}", group.name);
            let download = Download { name: &name, modified: None, tag: None };
            let sent = send(asked.headers, file, plan, download).await;
            sent.unwrap_or_else(|error| broken(&error))
        }
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&error),
    }
}

/// `GET install.sh?meshid=<group>` or `?c=<invitation>`: the script of a group, with its settings and the
/// hashes of the agents inside.
pub(super) async fn install_script(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Extension(binaries): Extension<Arc<AgentBinaries>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response<Body> {
    let key = wanted.meshid.as_deref().or(wanted.c.as_deref()).unwrap_or_default();
    let (Some(group), Some(host)) = (group_for(&site, &connection, &headers, key), host(&headers)) else {
        return unknown_group();
    };
    let script = script(&site, &group, host, &binaries).await;
    attachment("outpost-install.sh", "text/x-shellscript", script)
}

async fn script(site: &Arc<Site>, group: &DeviceGroup, host: &str, binaries: &Arc<AgentBinaries>) -> String {
    let msh = agents::settings(site, group, host, Flavour::Outpost, None, None);
    let binaries = binaries.clone();
    let all = tokio::task::spawn_blocking(move || binaries.all()).await.unwrap_or_default();
    agents::script_for(&format!("https://{host}"), &msh.to_string(), &all)
}

/// The line to paste on a device: it fetches the script, checks its hash and runs it, so that nobody between
/// the box and the device can slip in another one although the certificate is the box's own.
pub(super) async fn install_line(
    site: &Arc<Site>,
    group: &DeviceGroup,
    host: &str,
    key: &str,
    binaries: &Arc<AgentBinaries>,
) -> (String, String) {
    let script = script(site, group, host, binaries).await;
    let hash: String = digest::digest(&digest::SHA256, script.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let url = format!("https://{host}/install.sh?{key}");
    let line = format!(
        "u='{url}'; (curl -fsSk \"$u\" || wget -qO- --no-check-certificate \"$u\") > outpost-install.sh && \
         echo '{hash}  outpost-install.sh' | sha256sum -c --quiet && \
         $([ \"$(id -u)\" = 0 ] || echo sudo) sh outpost-install.sh"
    );
    (line, hash)
}

/// `GET api/install?meshid=<group>`: everything that Add device offers, for somebody who may add devices.
pub(super) async fn install_choices(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Extension(binaries): Extension<Arc<AgentBinaries>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response<Body> {
    let remote = connection.remote.ip().to_canonical();
    let refused = |status: StatusCode, message: &str| {
        (status, Json(json!({ "error": { "code": "refused", "message": message } }))).into_response()
    };
    let Some(Proven { user, .. }) = by_session(&site, &headers, remote) else {
        return refused(StatusCode::UNAUTHORIZED, "Log in first");
    };
    let (Some(access), Some(host)) = (site.access(&user.id), host(&headers)) else {
        return refused(StatusCode::BAD_REQUEST, "The address of this page is not one that agents can use");
    };
    let id = GroupId::complete(user.id.domain(), wanted.meshid.as_deref().unwrap_or_default());
    let group = id.ok().and_then(|id| access.group(&id, Rights::MANAGE_DEVICES).ok());
    let Some((group, _)) = group else {
        return refused(StatusCode::FORBIDDEN, "You may not add devices to this group");
    };
    let all = binaries.clone();
    let all = tokio::task::spawn_blocking(move || all.all()).await.unwrap_or_default();
    let key: String = form_urlencoded::byte_serialize(group.id.key().as_bytes()).collect();
    let (line, hash) = install_line(&site, &group, host, &format!("meshid={key}"), &binaries).await;
    let agents: Vec<Value> = all
        .iter()
        .map(|agent| {
            json!({
                "id": agent.id, "name": agent.name, "file": "outpost-agent", "size": agent.size,
                "sha256": agent.sha256, "url": format!("meshagents?id={}&meshid={key}&agent=outpost", agent.id),
            })
        })
        .collect();
    let bundle = site.official.bundle.get();
    let trusted = !site.identity.web.self_made;
    let official = bundle.map(|bundle| imports::offered(&bundle, &group.id, host, trusted));
    let answer = json!({
        "groupName": group.name,
        "linux": { "command": line, "scriptUrl": format!("install.sh?meshid={key}"), "scriptSha256": hash },
        "agents": agents,
        "settingsUrl": format!("meshsettings?id={key}"),
        "official": official,
    });
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}
