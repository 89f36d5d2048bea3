//! `recordings.ashx`: recordings of sessions as downloads, whole or in parts, and in pieces over a WebSocket.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_websockets::Message;

use super::authentication::by_session;
use super::request::{Connection, same_origin};
use super::sending::{Download, send_file};
use super::sockets::{messages, upgrade_stream};
use crate::model::SiteRights;
use crate::recordings::Recording;
use crate::relay::Stream;
use crate::site::Site;

/// Largest piece of one answer over a WebSocket, in bytes; MeshCentral's player asks for 100 KiB.
const LARGEST_PIECE: u32 = 256 << 10;
/// Longest message of a player, in bytes.
const LONGEST_MESSAGE: usize = 4096;
/// How long a player may say nothing.
const SILENCE: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
pub(super) struct File {
    file: Option<String>,
}

/// `GET recordings.ashx?file=<name>`, for those who may see recordings.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(query): Query<File>,
    request: Request,
) -> Response<Body> {
    let Some((path, recording)) = find(&site, request.headers(), &connection, query.file.as_deref()).await
    else {
        // Nobody is told whether it is the right or the file that is missing.
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if !request.headers().contains_key(UPGRADE) {
        connection.permit.release();
        let modified = Some(i64::try_from(recording.changed / 1000).unwrap_or(0));
        let tag = recording.tag();
        let download = Download { name: &recording.name, modified, tag: Some(&tag) };
        let sent = send_file(request.headers(), &path, download).await;
        return sent.unwrap_or_else(|_| StatusCode::NOT_FOUND.into_response());
    }
    if !same_origin(request.headers(), &site.config.domain("").allowed_origins, true) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    upgrade_stream(request, move |stream| async move {
        connection.permit.release();
        if let Err(error) = stream_to(stream, &path, &recording).await {
            log::debug!("a player of {} ended: {error}", recording.name);
        }
    })
}

async fn find(
    site: &Site,
    headers: &HeaderMap,
    connection: &Connection,
    name: Option<&str>,
) -> Option<(PathBuf, Recording)> {
    let user = by_session(site, headers, connection.remote.ip().to_canonical())?.user;
    let policy = site.config.domain(&user.domain).session_recording.as_ref()?;
    if !user.siteadmin.contains(SiteRights::RECORDINGS) {
        return None;
    }
    site.recordings.find(policy, &user.domain, name?).await.ok()
}

/// What a player asks for.
#[derive(Deserialize)]
struct Get {
    action: String,
    ptr: u64,
    size: u32,
}

/// Answers `get` with four bytes of nothing, the place as 32 bits, and the bytes (tunnel-protocols §9.4).
async fn stream_to(
    stream: Stream,
    path: &Path,
    recording: &Recording,
) -> Result<(), tokio_websockets::Error> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut socket = messages(stream, LONGEST_MESSAGE);
    let info = json!({ "action": "info", "name": recording.name, "size": recording.size });
    socket.send(Message::text(info.to_string())).await?;
    while let Ok(Some(message)) = tokio::time::timeout(SILENCE, socket.next()).await {
        let message = message?;
        let Some(get) = message.as_text().and_then(|text| serde_json::from_str::<Get>(text).ok()) else {
            continue;
        };
        if get.action != "get" {
            continue;
        }
        let mut answer = vec![0; 4];
        let [.., a, b, c, d] = get.ptr.to_be_bytes();
        answer.extend([a, b, c, d]);
        file.seek(SeekFrom::Start(get.ptr)).await?;
        (&mut file).take(get.size.min(LARGEST_PIECE).into()).read_to_end(&mut answer).await?;
        socket.send(Message::binary(Bytes::from(answer))).await?;
    }
    Ok(())
}
