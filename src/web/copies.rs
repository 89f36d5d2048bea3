//! A copy of everything, for site administrators who type their password once more.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::api::{ApiError, administrator, check_origin};
use super::authentication::LoginError;
use super::request::Connection;
use super::router::not_found;
use crate::appliance::{facts, note};
use crate::backup::Source;
use crate::clock;
use crate::site::Site;

/// What somebody else may not do, in words.
const ONLY: &str = "Only administrators of this server may take a copy of everything";
/// Bytes that are written at a time, and how many of such pieces wait for the browser.
const PIECE: usize = 64 << 10;
const WAITING: usize = 4;

#[derive(Deserialize)]
pub(super) struct Wanted {
    password: String,
    #[serde(default)]
    recordings: bool,
}

/// `POST api/export`: a ticket for one download.
pub(super) async fn ticket(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    check_origin(&site, &headers)?;
    let user = administrator(&site, &connection, &headers, ONLY)?;
    let Json(wanted) = body?;
    // A page that somebody left open must not be a place to guess passwords at.
    let remote = connection.remote.ip().to_canonical();
    let limit = site.config.settings.max_invalid_login.as_ref();
    if let Some(limit) = limit
        && let Some(wait) = site.throttle.wait(&user.id, remote, limit, Instant::now())
    {
        return Err(LoginError::TooManyAttempts(wait).into());
    }
    if !site.check_password(Some(&user), wanted.password).await {
        if let Some(limit) = limit {
            site.throttle.bad(&user.id, remote, limit, Instant::now());
        }
        return Err(ApiError::field("password", "The password is wrong"));
    }
    site.throttle.good(&user.id);
    let ticket = site.copies.give(&user.id, wanted.recordings, Instant::now());
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({ "ticket": ticket }))).into_response())
}

#[derive(Deserialize)]
pub(super) struct Presented {
    ticket: String,
}

/// `GET api/export?ticket=…`: the copy, written while it is sent.
pub(super) async fn download(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(presented): Query<Presented>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let user = administrator(&site, &connection, &headers, ONLY)?;
    let Some(recordings) = site.copies.take(&presented.ticket, &user.id, Instant::now()) else {
        return Ok(not_found());
    };
    connection.permit.release();
    note(&site, Some(&user), "Copy of everything downloaded".to_owned()).await;
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let source = Source::new(&site.config, site.store.engine().clone(), recordings);
    tokio::task::spawn_blocking(move || {
        let to = io::BufWriter::with_capacity(PIECE, Sink(sender.clone()));
        if let Err(error) = source.write(to) {
            log::error!("a copy of everything: {error}");
            // The browser has to hear of it: half a copy must not look like a whole one.
            let _ = sender.blocking_send(Err(io::Error::other("the copy broke off")));
        }
    });
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| pieces.poll_recv(context)));
    let name = facts::host_name();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let day = &clock::iso8601(clock::now_ms())[..10];
    let disposition = format!("attachment; filename=\"outpost-copy-{name}-{day}.tar.gz\"");
    let headers = [
        (CONTENT_TYPE, "application/gzip".to_owned()),
        (CONTENT_DISPOSITION, disposition),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, body).into_response())
}

/// Pieces for a browser that may be slow: a writer waits for it.
struct Sink(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
