//! The box as the app sees and drives it: its state, updates, restart, reset, clock.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::api::{ApiError, administrator, check_origin};
use super::request::{Connection, header};
use crate::appliance::client::HelperError;
use crate::appliance::facts::{self, Facts};
use crate::appliance::protocol::{BundleName, Cause, Request as Ask, StickName};
use crate::appliance::{self, Turn, UpdateError, note};
use crate::clock;
use crate::config::Url;
use crate::model::User;
use crate::site::Site;

/// How long an upload may stand still.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest upload that is read to its end although it is refused, in bytes.
const LARGEST_IGNORED: u64 = 1 << 30;
/// What somebody else may not do, in words.
const ONLY: &str = "Only administrators of this server may manage the box";

impl From<HelperError> for ApiError {
    fn from(error: HelperError) -> ApiError {
        let (status, code) = match &error {
            HelperError::NoBox => (StatusCode::CONFLICT, "no-box"),
            HelperError::Broken(_) => (StatusCode::BAD_GATEWAY, "helper"),
            HelperError::Refused { code: Cause::Busy, .. } => (StatusCode::CONFLICT, "busy"),
            HelperError::Refused { code: Cause::Clock, .. } => (StatusCode::CONFLICT, "clock"),
            HelperError::Refused { code: Cause::Failed, .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "refused")
            }
            HelperError::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        };
        if status.is_server_error() {
            log::error!("the box's helper: {error}");
        }
        ApiError::new(status, code, error.to_string())
    }
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> ApiError {
        let code = error.code();
        let status = match code {
            "busy" | "no-box" | "stopped" => StatusCode::CONFLICT,
            "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
            "helper" | "not-fetched" => StatusCode::BAD_GATEWAY,
            "storage" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        ApiError::new(status, code, error.to_string())
    }
}

/// Who changes something: a site administrator, on a page of ours.
fn changer(site: &Site, connection: &Connection, headers: &HeaderMap) -> Result<Arc<User>, ApiError> {
    check_origin(site, headers)?;
    administrator(site, connection, headers, ONLY)
}

fn fresh(content: impl IntoResponse) -> Response<Body> {
    ([(CACHE_CONTROL, "no-store")], content).into_response()
}

/// What a long piece of work is answered with: it has begun, and `GET api/box` tells how it goes.
fn begun() -> Response<Body> {
    (StatusCode::ACCEPTED, [(CACHE_CONTROL, "no-store")], Json(json!({}))).into_response()
}

/// `GET api/box`: everything about the box at once. `box` is null where there is none.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    administrator(&site, &connection, &headers, ONLY)?;
    let folder = site.config.data_folder.clone();
    let facts = tokio::task::spawn_blocking(move || Facts::now(&folder));
    let (facts, state, ill) = tokio::join!(facts, site.appliance.state(), appliance::examine(&site));
    let facts = facts.map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The machine could not be looked at")
    })?;
    // What the helper cannot say must not hide what is known without it.
    let (state, problem) = match state {
        Ok(state) => (state, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(fresh(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "serverUptime": site.started.elapsed().as_secs(),
        "facts": facts,
        "illness": ill.err().map(|illness| illness.to_string()),
        "box": state,
        "problem": problem,
        "work": site.appliance.work(),
    }))))
}

/// `GET api/box/sticks`: the bundles on USB sticks.
pub(super) async fn sticks(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    administrator(&site, &connection, &headers, ONLY)?;
    let bundles = site.appliance.helper.sticks().await?;
    Ok(fresh(Json(json!({ "bundles": bundles }))))
}

/// The turn for an update; without a box there is none, and nothing is taken in for it.
async fn turn(site: &Arc<Site>, user: Arc<User>) -> Result<Turn, ApiError> {
    if site.appliance.state().await?.is_none() {
        return Err(HelperError::NoBox.into());
    }
    Ok(Turn::take(site, Some(user))?)
}

/// `POST api/box/update`: the body is the bundle, which is installed once it is there.
pub(super) async fn upload(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, request.headers())?;
    connection.permit.release();
    let total = header(request.headers(), CONTENT_LENGTH).parse().ok();
    let body = Arc::new(Mutex::new(request.into_body().into_data_stream()));
    let installed = match turn(&site, user).await {
        Ok(turn) => {
            let pieces = body.clone();
            let next = move || {
                let pieces = pieces.clone();
                async move { next_bytes(&pieces).await }
            };
            // On its own: what has come whole is installed even if the browser does not wait for that.
            let installing = tokio::spawn(turn.of_pieces(total, None, next));
            match installing.await {
                Ok(installed) => installed.map_err(ApiError::from),
                Err(_) => Err(UpdateError::Upload("the server stopped".into()).into()),
            }
        }
        Err(error) => Err(error),
    };
    match installed {
        Ok(version) => Ok(fresh(Json(json!({ "version": version })))),
        Err(error) => {
            // A browser hears the answer only when it has sent everything; what does not fit anywhere is not waited for.
            let ends = total.is_some_and(|total: u64| total <= LARGEST_IGNORED);
            while ends && let Ok(Some(_)) = next_bytes(&body).await {}
            Err(error)
        }
    }
}

async fn next_bytes(body: &Mutex<axum::body::BodyDataStream>) -> Result<Option<Bytes>, UpdateError> {
    let next = tokio::time::timeout(PATIENCE, async { body.lock().await.next().await }).await;
    let next = next.map_err(|_| UpdateError::Upload("it stood still for too long".into()))?;
    next.transpose().map_err(|error| UpdateError::Upload(error.to_string()))
}

#[derive(Deserialize)]
pub(super) struct FromUrl {
    url: String,
}

/// `POST api/box/update/url`: fetches the bundle and installs it.
pub(super) async fn from_url(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<FromUrl>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    let Json(FromUrl { url }) = body?;
    let url = Url::parse(&url)
        .map_err(|_| ApiError::field("url", "Expected an address that begins with https:// or http://"))?;
    let turn = turn(&site, user.clone()).await?;
    note(&site, Some(&user), format!("Update fetched from {}", url.host())).await;
    tokio::spawn(async move {
        // How it ends is in the state of the work, and in the log.
        let _ = turn.of_url(&url, None).await;
    });
    Ok(begun())
}

#[derive(Deserialize)]
pub(super) struct FromStick {
    stick: StickName,
    file: BundleName,
}

/// `POST api/box/update/stick`: installs from a USB stick.
pub(super) async fn from_stick(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<FromStick>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    let Json(FromStick { stick, file }) = body?;
    let turn = turn(&site, user).await?;
    tokio::spawn(async move {
        let _ = turn.of_stick(stick, file).await;
    });
    Ok(begun())
}

/// `DELETE api/box/update`: stops what is still coming in.
pub(super) async fn stop(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    changer(&site, &connection, &headers)?;
    site.appliance.stop();
    Ok(begun())
}

/// `POST api/box/restart`.
pub(super) async fn restart(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    leave(&site, &user, Ask::Restart, "Box restarted").await
}

/// `POST api/box/off`.
pub(super) async fn power_off(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    leave(&site, &user, Ask::PowerOff, "Box switched off").await
}

/// The event comes first: afterwards there is no time left to write it.
async fn leave(site: &Site, user: &User, ask: Ask, text: &str) -> Result<Response<Body>, ApiError> {
    if site.appliance.state().await?.is_none() {
        return Err(HelperError::NoBox.into());
    }
    note(site, Some(user), text.to_owned()).await;
    site.appliance.helper.perform(&ask).await?;
    Ok(begun())
}

#[derive(Deserialize)]
pub(super) struct Reset {
    /// The name of the box, typed by whoever wants its data gone.
    name: String,
}

/// `POST api/box/reset`: restarts without any data.
pub(super) async fn reset(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<Reset>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    let Json(Reset { name }) = body?;
    let wanted = facts::host_name();
    if name.trim() != wanted || wanted.is_empty() {
        return Err(ApiError::field("name", format!("Type the name of this box, {wanted}")));
    }
    leave(&site, &user, Ask::FactoryReset, "Box reset to how it came").await
}

#[derive(Deserialize)]
pub(super) struct SetTime {
    /// Unix milliseconds.
    ms: i64,
}

/// `POST api/box/time`: the administrator's browser knows the time, the box does not.
pub(super) async fn set_time(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<SetTime>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let user = changer(&site, &connection, &headers)?;
    let Json(SetTime { ms }) = body?;
    site.appliance.helper.perform(&Ask::SetTime { ms }).await?;
    site.appliance.forget().await;
    // Sessions live on, whatever the clock was before.
    site.web_sessions.note_clock(clock::now_ms(), site.started.elapsed());
    note(&site, Some(&user), format!("Clock set to {}", clock::iso8601(ms))).await;
    Ok(fresh(Json(json!({ "now": clock::now_ms() }))))
}
