//! The doors of conversations: the page for the device's browser, and the WebSocket of either side.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Json, RawQuery, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

use super::opening::query_value;
use super::request::Connection;
use super::sockets::{messages, upgrade_stream};
use super::{assets, tunnels};
use crate::chat::{self, ChatError, Conversation, Side};
use crate::site::Site;

/// Whether a relay's address is that of a conversation.
pub(super) fn is_one(query: &str) -> bool {
    query_value(query, "id").is_some_and(|id| id.starts_with(chat::PREFIX))
}

/// The conversation of a link, as long as its person may talk there.
fn of_link(site: &Site, query: &str) -> Result<Arc<Conversation>, ChatError> {
    let id = query_value(query, "id").unwrap_or_default();
    let conversation = chat::by_link(site, id.strip_prefix(chat::PREFIX).ok_or(ChatError::Over)?)?;
    chat::may_talk(site, &conversation.user, &conversation.device)?;
    Ok(conversation)
}

/// `GET messenger?id=`: the app, which asks [`about`] for the rest; 404 for a link that is no good.
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let page = assets::index(headers).await;
    match of_link(&site, &query.unwrap_or_default()) {
        Ok(_) => page,
        Err(_) => {
            let (mut parts, body) = page.into_parts();
            parts.status = StatusCode::NOT_FOUND;
            Response::from_parts(parts, body)
        }
    }
}

/// `GET api/chat?id=`: who wants to talk, for the page of a link.
pub(super) async fn about(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response<Body> {
    let no_store = [(CACHE_CONTROL, "no-store")];
    let conversation = match of_link(&site, &query.unwrap_or_default()) {
        Ok(conversation) => conversation,
        Err(error) => {
            let answer = json!({ "error": { "code": "over", "message": error.to_string() } });
            return (StatusCode::NOT_FOUND, no_store, Json(answer)).into_response();
        }
    };
    let directory = site.store.directory();
    let person =
        directory.user(&conversation.user).map(|user| user.realname.as_ref().unwrap_or(&user.name).clone());
    let device = directory.device(&conversation.device).map(|device| device.name.clone());
    let title = site.title(conversation.user.domain());
    let answer = json!({ "person": person, "device": device, "serverTitle": title });
    (no_store, Json(answer)).into_response()
}

/// `meshrelay.ashx?id=meshmessenger/…`: the person comes by their login and the id of the conversation, the
/// device's side by the cookie of its link, which stands where the id would.
pub(super) async fn join(
    site: Arc<Site>,
    connection: Connection,
    query: String,
    request: Request,
) -> Response<Body> {
    let remote = connection.remote.ip().to_canonical();
    let found = match of_link(&site, &query) {
        Ok(conversation) => Ok((conversation, Side::Device)),
        Err(_) => Box::pin(of_person(&site, &query, request.headers(), remote)).await,
    };
    let (conversation, side) = match found {
        Ok(found) => found,
        Err(reason) => {
            log::info!(target: "relay", REMOTE:% = remote; "a chat from {remote} was refused: {reason}");
            return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
        }
    };
    upgrade_stream(request, move |stream| async move {
        connection.permit.release();
        Box::pin(chat::serve(site, conversation, side, remote, messages(stream, chat::LONGEST_FRAME))).await;
    })
}

async fn of_person(
    site: &Site,
    query: &str,
    headers: &HeaderMap,
    remote: std::net::IpAddr,
) -> Result<(Arc<Conversation>, Side), String> {
    let user = tunnels::account(site, headers, query, remote).await?;
    let id = query_value(query, "id").unwrap_or_default();
    let conversation = site.chats.of_person(&id, &user).map_err(|error| error.to_string())?;
    chat::may_talk(site, &user, &conversation.device).map_err(|error| error.to_string())?;
    Ok((conversation, Side::Person))
}
