//! The official agents as the app sees them: what is there, bringing a package in, taking it away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Json, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use outpost_wire::arch::{self, Platform};
use outpost_wire::id::GroupId;
use serde_json::{Value, json};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::api::{ApiError, administrator, check_origin};
use super::request::{Connection, header};
use crate::agents::bundle::{self, Bundle, ImportError, Part};
use crate::site::Site;

/// Largest package taken, in bytes. Version 1.1.55 has 131 MiB.
const LARGEST_PACKAGE: u64 = 320 << 20;
/// What somebody else may not do, in words. What is imported runs on every device.
const ONLY: &str = "Only administrators of this server may manage its agents";
/// How long an upload may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// The family of systems as the app sorts by it.
fn family(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => "windows",
        Platform::Linux => "linux",
        Platform::MacOs => "macos",
        Platform::Bsd => "bsd",
        Platform::OpenWrt => "openwrt",
        Platform::Android => "android",
        Platform::ChromeOs | Platform::Other => "other",
    }
}

/// Agents of a bundle in the order of their numbers: the row of the table and the file.
fn agents(bundle: &Bundle) -> impl Iterator<Item = (&'static arch::Architecture, &bundle::BundleFile)> {
    arch::all().iter().filter_map(|row| Some((row, bundle.manifest.agent(row.id)?)))
}

/// What the app shows of a bundle.
fn view(bundle: Option<&Bundle>) -> Value {
    let Some(bundle) = bundle else { return json!({ "bundle": null }) };
    let manifest = &bundle.manifest;
    let agents: Vec<Value> = agents(bundle)
        .map(|(row, file)| {
            json!({
                "id": row.id, "name": row.description, "family": family(row.platform), "size": file.size,
                "sha256": file.sha256, "built": file.built.map(|seconds| seconds * 1000),
            })
        })
        .collect();
    let count = |part: Part| manifest.files.iter().filter(|file| file.part == part).count();
    json!({ "bundle": {
        "version": manifest.version, "imported": manifest.imported, "size": manifest.size(),
        "files": manifest.files.len(), "modules": count(Part::Module), "agents": agents,
    }})
}

fn answer(site: &Site) -> Response<Body> {
    let bundle = site.official.bundle.get();
    ([(CACHE_CONTROL, "no-store")], Json(view(bundle.as_deref()))).into_response()
}

/// `GET api/agents`.
pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    administrator(&site, &connection, &headers, ONLY)?;
    Ok(answer(&site))
}

/// `DELETE api/agents`.
pub(super) async fn remove(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    check_origin(&site, &headers)?;
    administrator(&site, &connection, &headers, ONLY)?;
    let folder = site.config.data_folder.clone();
    let removed = tokio::task::spawn_blocking(move || bundle::remove(&folder)).await;
    removed.map_err(|_| failed(&"the removal was interrupted"))?.map_err(refused)?;
    Ok(answer(&site))
}

fn failed(error: &dyn std::fmt::Display) -> ApiError {
    log::error!("the official agents: {error}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", error.to_string())
}

fn refused(error: ImportError) -> ApiError {
    match error {
        ImportError::Busy => ApiError::new(StatusCode::CONFLICT, "busy", sentence(&error)),
        ImportError::Write { .. } => failed(&error),
        _ => {
            log::warn!("a package was not imported: {error}");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-package", sentence(&error))
        }
    }
}

/// An error as it begins a line.
fn sentence(error: &ImportError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match (letters.next(), text.contains('/')) {
        (Some(first), false) => first.to_uppercase().chain(letters).collect(),
        _ => text,
    }
}

/// `POST api/agents/import`: the body is the package, imported while it comes in.
pub(super) async fn import(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    check_origin(&site, request.headers())?;
    administrator(&site, &connection, request.headers(), ONLY)?;
    let length = header(request.headers(), CONTENT_LENGTH).parse::<u64>();
    if length.is_ok_and(|length| length > LARGEST_PACKAGE) {
        let message = format!("The file is larger than {} MiB", LARGEST_PACKAGE >> 20);
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
    }
    let folder = site.config.data_folder.clone();
    let reader = Box::pin(StreamReader::new(bounded(request.into_body().into_data_stream())));
    let mut reader = SyncIoBridge::new(reader);
    let imported = tokio::task::spawn_blocking(move || {
        let outcome = bundle::import_archive(&mut reader, &folder);
        // A browser hears the answer only when it has sent everything.
        if outcome.is_err() {
            let _ = io::copy(&mut reader, &mut io::sink());
        }
        outcome
    });
    let manifest = imported.await.map_err(|_| failed(&"the import was interrupted"))?.map_err(refused)?;
    log::info!("the agents of MeshCentral {} were imported in the app", manifest.version);
    Ok(answer(&site))
}

/// A body that ends with an error when it is too long or stands still.
fn bounded(
    body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((body, 0_u64), |(mut body, taken)| async move {
        let next = tokio::time::timeout(PATIENCE, body.next()).await;
        let next = next.map_err(|_| io::Error::other("the upload stood still for too long"))?;
        let Some(bytes) = next.transpose().map_err(io::Error::other)? else { return Ok(None) };
        let taken = taken + bytes.len() as u64;
        if taken > LARGEST_PACKAGE {
            return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST_PACKAGE >> 20)));
        }
        Ok(Some((bytes, (body, taken))))
    })
}

/// What an invitation offers people on Windows and macOS: name, bytes, and where it is fetched. `key` is the
/// invitation, ready to stand in an address.
pub(super) fn for_guests(bundle: &Bundle, key: &str) -> Vec<(&'static str, u64, String)> {
    agents(bundle)
        .filter_map(|(row, file)| {
            let url = match (row.platform, row.id) {
                (Platform::Windows, 0..10_000) if row.updates => {
                    format!("meshagents?id={}&meshid={key}", row.id)
                }
                (Platform::MacOs, 10_005) => format!("meshosxagent?id={}&meshid={key}", row.id),
                _ => return None,
            };
            Some((row.description, file.size, url))
        })
        .collect()
}

/// What Add device offers of a bundle for a group: each agent with where it is fetched and what it is saved
/// as, and the line for Linux. `host` is the server as the client reached it.
pub(super) fn offered(bundle: &Bundle, group: &GroupId, host: &str, trusted: bool) -> Value {
    let key: String = form_urlencoded::byte_serialize(group.key().as_bytes()).collect();
    let agents: Vec<Value> = agents(bundle)
        .filter(|(row, _)| row.updates && row.id < 10_000 || row.id == 10_005)
        .map(|(row, file)| {
            let id = row.id;
            // What one file holds everything for is one file.
            let url = match row.platform {
                Platform::Windows => format!("meshagents?id={id}&meshid={key}"),
                Platform::MacOs => format!("meshosxagent?id={id}&meshid={key}"),
                _ => format!("meshagents?meshinstall={id}&id={key}"),
            };
            json!({
                "id": id, "name": row.description, "family": family(row.platform), "size": file.size,
                "url": url,
            })
        })
        .collect();
    let (wget, curl) = if trusted { ("", "") } else { (" --no-check-certificate", " -k") };
    let fetch = format!(
        "(wget -q{wget} -O meshinstall.sh 'https://{host}/meshagents?script=1' || \
         curl -fsS{curl} -o meshinstall.sh 'https://{host}/meshagents?script=1')"
    );
    let line = format!(
        "{fetch} && chmod 755 meshinstall.sh && \
         $([ \"$(id -u)\" = 0 ] || echo sudo) ./meshinstall.sh https://{host} '{}'",
        group.key()
    );
    json!({ "version": bundle.manifest.version, "agents": agents, "command": line })
}
