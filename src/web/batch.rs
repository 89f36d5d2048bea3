//! Files for many devices at once: `uploadfilebatch.ashx` takes them and tells the agents, which fetch them from
//! `agentdownload.ashx` (control-protocol §1.2, agent-protocol §6.5 `wget`).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use outpost_wire::arch::{self, Platform};
use outpost_wire::id::{DeviceId, Hash384};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::authentication::{Proven, by_login_cookie};
use super::request::Connection;
use super::router::not_found;
use super::sending::{Download, send_file};
use super::upload::{MOST_FIELDS, Refused, sender, text};
use crate::clock;
use crate::files::{FileName, Share};
use crate::model::{Event, Rights};
use crate::site::Site;

/// Folder of what agents are about to fetch, in the data folder.
const FOLDER: &str = "transfers";
/// How long it waits for them; the cookie that names it lives as long, in minutes.
const KEPT: Duration = Duration::from_secs(120 * 60);
const COOKIE_MINUTES: u32 = 120;
/// Files and devices of one upload.
const MOST_FILES: usize = 64;
const MOST_DEVICES: usize = 1024;
/// Longest folder on a device, in bytes.
const LONGEST_PATH: usize = 1024;

/// Removes what an earlier run left; nobody can ask for it any more.
pub fn forget(site: &Site) {
    let _ = std::fs::remove_dir_all(site.config.data_folder.join(FOLDER));
}

/// What a form asks for.
#[derive(Default)]
struct Wanted {
    devices: Vec<String>,
    windows_folder: Option<String>,
    linux_folder: Option<String>,
    overwrite: bool,
    create_folder: bool,
    files: Vec<Waiting>,
}

/// A file that waits for agents; it is removed, and its room is free again, when this is dropped.
struct Waiting {
    name: FileName,
    /// What it is called here: 32 hexadecimal digits.
    key: String,
    path: PathBuf,
    share: Share,
}

impl Waiting {
    /// Lets it wait for its agents.
    fn keep(self) -> (FileName, String) {
        let named = (self.name.clone(), self.key.clone());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            drop(self);
        });
        named
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `POST uploadfilebatch.ashx`.
pub(super) async fn upload(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    form: Multipart,
) -> Response<Body> {
    match Box::pin(take(&site, &connection, &headers, form)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => refused.answer("Too much waits for devices already."),
    }
}

async fn take(
    site: &Arc<Site>,
    connection: &Connection,
    headers: &HeaderMap,
    mut form: Multipart,
) -> Result<(), Refused> {
    let remote = connection.remote.ip().to_canonical();
    let mut proven = sender(site, connection, headers);
    let mut wanted = Wanted::default();
    let mut fields = 0;
    while let Some(field) = form.next_field().await.map_err(|error| Refused::Bad(error.to_string()))? {
        fields += 1;
        if fields > MOST_FIELDS {
            return Err(Refused::too_many_fields());
        }
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "files" => {
                let user = &proven.as_ref().ok_or(Refused::Unauthorised)?.user.id;
                if wanted.files.len() >= MOST_FILES {
                    return Err(Refused::Bad(format!("at most {MOST_FILES} files at once")));
                }
                connection.permit.release();
                let file = store(site, field).await?.ok_or_else(|| Refused::Quota(user.clone()))?;
                wanted.files.push(file);
            }
            "auth" => proven = by_login_cookie(site, &text(field).await?, remote).or(proven),
            "nodeIds" => wanted.devices = text(field).await?.split(',').map(str::to_owned).collect(),
            "winpath" => wanted.windows_folder = Some(text(field).await?),
            "linuxpath" => wanted.linux_folder = Some(text(field).await?),
            "overwriteFiles" => wanted.overwrite = text(field).await? == "on",
            "createFolder" => wanted.create_folder = text(field).await? == "on",
            _ => {}
        }
    }
    let proven = proven.ok_or(Refused::Unauthorised)?;
    let folders = [&wanted.windows_folder, &wanted.linux_folder];
    let bad = |folder: &&String| folder.len() > LONGEST_PATH || folder.chars().any(char::is_control);
    if folders.into_iter().flatten().any(|folder| bad(&folder)) {
        return Err(Refused::Bad("winpath, linuxpath: expected a folder".into()));
    }
    if wanted.devices.is_empty() || wanted.devices.len() > MOST_DEVICES || wanted.files.is_empty() {
        return Err(Refused::NoPlace);
    }
    tell_agents(site, &proven, remote, wanted).await
}

/// Writes a file as it comes; nothing when too much waits already.
async fn store(site: &Site, mut field: Field<'_>) -> Result<Option<Waiting>, Refused> {
    let failed = |error: std::io::Error| Refused::Failed(error.to_string());
    let name = field.file_name().unwrap_or_default();
    let name = FileName::parse(name).map_err(|error| Refused::Bad(error.to_string()))?;
    let folder = site.config.data_folder.join(FOLDER);
    fs::create_dir_all(&folder).await.map_err(failed)?;
    let key = Hash384::random().to_hex()[..32].to_owned();
    let path = folder.join(&key);
    let mut file = File::create_new(&path).await.map_err(failed)?;
    let mut kept = Waiting { name, key, path, share: site.transfers.share() };
    while let Some(part) = field.chunk().await.map_err(|error| Refused::Bad(error.to_string()))? {
        if !kept.share.take(part.len() as u64) {
            return Ok(None);
        }
        file.write_all(&part).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(Some(kept))
}

/// Tells the agents of the devices on which the user may use files.
async fn tell_agents(
    site: &Arc<Site>,
    proven: &Proven,
    remote: IpAddr,
    wanted: Wanted,
) -> Result<(), Refused> {
    let user = &proven.user;
    let access = site.access(&user.id).ok_or(Refused::Unauthorised)?;
    let devices: Vec<_> = wanted
        .devices
        .iter()
        .filter_map(|id| DeviceId::complete(user.id.domain(), id.trim()).ok())
        .filter_map(|id| access.device(&id, Rights::REMOTE_CONTROL).ok())
        .filter(|(_, rights)| !rights.restricted_by(Rights::NO_FILES))
        .collect();
    if devices.is_empty() {
        return Err(Refused::NoPlace);
    }
    let files: Vec<_> = wanted.files.into_iter().map(Waiting::keep).collect();
    for (device, rights) in devices {
        let Some(agent) = site.agents.get(&device.id) else { continue };
        let windows = arch::by_id(agent.architecture).is_some_and(|kind| kind.platform == Platform::Windows);
        let (folder, slash) =
            if windows { (&wanted.windows_folder, '\\') } else { (&wanted.linux_folder, '/') };
        let Some(folder) = folder.as_deref().filter(|folder| !folder.is_empty()) else { continue };
        for (name, key) in &files {
            let cookie = json!({ "a": "tmpdl", "d": device.domain, "nid": device.id, "f": key, "expire": COOKIE_MINUTES });
            let cookie = outpost_wire::cookie::seal(&site.keys.login, &cookie, clock::now_seconds());
            let path = format!("{}{slash}{}", folder.trim_end_matches(['/', '\\']), name.as_str());
            let message = json!({
                "action": "wget", "urlpath": format!("/agentdownload.ashx?c={cookie}"), "path": path,
                "folder": folder, "overwrite": wanted.overwrite, "createFolder": wanted.create_folder,
                "servertlshash": site.identity.web.full_hash.to_hex(), "userid": user.id,
                "username": user.name, "realname": user.realname, "remoteaddr": remote, "rights": rights,
                "consent": access.consent(&device, site.config.domain(&device.domain).consent),
            });
            let _ = agent.send(Bytes::from(message.to_string()));
        }
        let count = files.len().to_string();
        let event = Event::new("node", "batchupload", &device.domain)
            .by(user)
            .on_device(&device.id)
            .says(103, &[&count, folder], format!("Batch upload of {count} file(s) to folder {folder}"))
            .to_device(&device, access.directory())
            .to([user.id.as_str()]);
        site.events.announce(event).await;
    }
    Ok(())
}

#[derive(Deserialize)]
pub(super) struct Fetched {
    #[serde(default)]
    c: String,
}

/// `GET agentdownload.ashx?c=`: a file that an agent was told of.
pub(super) async fn download(
    State(site): State<Arc<Site>>,
    Query(query): Query<Fetched>,
    headers: HeaderMap,
) -> Response<Body> {
    let opened = outpost_wire::cookie::open(&site.keys.login, &query.c, clock::now_seconds(), COOKIE_MINUTES);
    let Ok(claims) = opened else { return not_found() };
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let key = text("f").filter(|key| key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let device = text("nid").and_then(|id| DeviceId::parse(id).ok());
    let there = device.is_some_and(|id| site.store.directory().device(&id).is_some());
    let (Some("tmpdl"), Some(key), true) = (text("a"), key, there) else { return not_found() };
    let path = site.config.data_folder.join(FOLDER).join(key);
    let download = Download { name: key, modified: None, tag: None };
    match send_file(&headers, &path, download).await {
        Ok(response) => response,
        Err(_) => not_found(),
    }
}
