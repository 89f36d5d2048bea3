//! The doors of the WebSockets: control, agents, relay.

use std::future::Future;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use futures_util::SinkExt;
use hyper_util::rt::TokioIo;
use outpost_wire::id::{DeviceId, UserId};
use tokio_websockets::{Config, Limits, Message, ServerBuilder};

use super::authentication::{by_login_cookie, by_password, by_session, mesh_auth};
use super::request::{Connection, header, host, same_origin, user_agent};
use crate::control::{self, Credentials, Opening, close_message};
use crate::model::{Rights, SiteRights};
use crate::relay::{self, Half, Relay, Side, Socket, TunnelUrl};
use crate::site::Site;
use crate::{agents, clock};

/// Messages to agents are never fragmented: MeshAgent loses fragmented ones beyond 64 KiB
/// (agent-protocol §1.3).
const NEVER_FRAGMENT: usize = 1 << 30;
/// How long a relay cookie of an agent is good, in minutes (control-protocol §2.5).
const RELAY_COOKIE_MINUTES: u32 = 240;

/// Turns a request into a WebSocket and hands it over; answers what cannot be one.
fn upgrade<F>(
    mut request: Request,
    longest: usize,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let headers = request.headers();
    let wants = |name: HeaderName, word: &str| {
        header(headers, name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !wants(UPGRADE, "websocket") || !wants(CONNECTION, "upgrade") {
        return (StatusCode::NOT_FOUND, "This address is for WebSockets.\n").into_response();
    }
    let key = header(headers, SEC_WEBSOCKET_KEY);
    if header(headers, SEC_WEBSOCKET_VERSION) != "13" || key.len() != 24 {
        return (StatusCode::BAD_REQUEST, "Not a WebSocket of version 13.\n").into_response();
    }
    let accept = outpost_wire::websocket::accept_key(key);
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => {
                let socket = ServerBuilder::new()
                    .config(Config::default().frame_size(NEVER_FRAGMENT))
                    .limits(Limits::default().max_payload_len(Some(longest)))
                    .serve(TokioIo::new(upgraded));
                Box::pin(serve(socket)).await;
            }
            Err(error) => log::debug!("a WebSocket did not come to be: {error}"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 is ASCII"));
    response
}

fn query_value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

/// `agent.ashx`.
pub(super) async fn agent(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    upgrade(request, agents::LONGEST_MESSAGE, move |socket| {
        agents::serve(site, connection.remote, connection.permit, socket)
    })
}

/// How a control socket is refused: with a message, after the upgrade (control-protocol §2.1).
struct Refused {
    cause: &'static str,
    msg: &'static str,
}

/// `control.ashx`.
pub(super) async fn control(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    upgrade(request, control::LONGEST_MESSAGE, move |mut socket| async move {
        let remote = connection.remote.ip().to_canonical();
        match Box::pin(authenticate(&site, &headers, &query, remote)).await {
            Ok(credentials) => {
                connection.permit.release();
                let host = host(&headers).unwrap_or("localhost").to_owned();
                control::serve(site, Opening { credentials, remote, host }, socket).await;
            }
            Err(refused) => {
                let closing = async {
                    let message = close_message(refused.cause, refused.msg);
                    if socket.send(Message::text(message)).await.is_ok() {
                        let _ = socket.close().await;
                    }
                };
                let _ = tokio::time::timeout(std::time::Duration::from_secs(5), closing).await;
            }
        }
    })
}

/// The ways to open a control socket, in MeshCentral's order (control-protocol §2.1).
async fn authenticate(
    site: &Site,
    headers: &HeaderMap,
    query: &str,
    remote: std::net::IpAddr,
) -> Result<Credentials, Refused> {
    let allowed = &site.config.domain("").allowed_origins;
    if !same_origin(headers, allowed, false) {
        return Err(Refused { cause: "invalidorigin", msg: "invalidorigin" });
    }
    let browser = user_agent(headers);
    let tool = |user: &crate::model::User| {
        if user.siteadmin.restricted_by(SiteRights::NO_TOOLS) {
            return Err(Refused { cause: "notools", msg: "notools" });
        }
        Ok(Credentials { user: user.id.clone(), web_session: None })
    };
    let password = |msg: &'static str, name: String, password: String| async move {
        match by_password(site, &name, &password, remote, browser).await {
            Ok(user) => Ok(user),
            Err(super::LoginError::TooManyAttempts(_)) => Err(Refused { cause: "banned", msg: "banned-1" }),
            Err(_) => Err(Refused { cause: "noauth", msg }),
        }
    };
    if let (Some(name), Some(pass)) = (query_value(query, "user"), query_value(query, "pass")) {
        return tool(&*password("noauth-2a", name, pass).await?);
    }
    if let Some(text) = query_value(query, "auth")
        && let Some(user) = by_login_cookie(site, &text, remote)
    {
        return Ok(Credentials { user: user.id.clone(), web_session: None });
    }
    let mesh_auth_header = header(headers, HeaderName::from_static("x-meshauth"));
    if !mesh_auth_header.is_empty() {
        let Some((name, pass)) = mesh_auth(mesh_auth_header) else {
            return Err(Refused { cause: "noauth", msg: "noauth-2c" });
        };
        return tool(&*password("noauth-2d", name, pass).await?);
    }
    // Only a page of ours may use the cookie that a browser sends by itself.
    if same_origin(headers, allowed, true)
        && let Some((user, session)) = by_session(site, headers, remote)
    {
        return Ok(Credentials { user: user.id.clone(), web_session: session.map(|session| session.id) });
    }
    Err(Refused { cause: "noauth", msg: "noauth" })
}

/// `meshrelay.ashx`.
pub(super) async fn relay(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let remote = connection.remote.ip().to_canonical();
    let half = match half(&site, &headers, &query, remote) {
        Ok(half) => half,
        Err(reason) => {
            log::info!(target: "relay", REMOTE:% = remote; "a tunnel's half from {remote} was refused: {reason}");
            return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
        }
    };
    upgrade(request, relay::LONGEST_MESSAGE, move |socket| async move {
        connection.permit.release();
        if let Err(error) = Relay::join(&site, half, socket).await {
            log::info!(target: "relay", "a tunnel from {remote} ended: {error}");
        }
    })
}

/// Whose half this is, and whether that user may have this tunnel to this device.
fn half(site: &Site, headers: &HeaderMap, query: &str, remote: std::net::IpAddr) -> Result<Half, String> {
    let url = TunnelUrl::from_query(query).map_err(|error| error.to_string())?;
    let rauth = query_value(query, "rauth");
    let agents_half = rauth.as_deref().and_then(|text| {
        outpost_wire::cookie::open(&site.keys.login, text, clock::now_seconds(), RELAY_COOKIE_MINUTES).ok()
    });
    let device = |asked: Option<&str>, domain: &str| {
        asked.map(|id| DeviceId::complete(domain, id).map_err(|error| format!("nodeid: {error}"))).transpose()
    };
    if let Some(claims) = agents_half {
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        let user = text("ruserid").and_then(|id| UserId::parse(id).ok()).ok_or("rauth: no user in it")?;
        // Cookies made here for one tunnel are good for that one only.
        if text("id").is_some_and(|id| id != url.id) {
            return Err("rauth: it is for another tunnel".into());
        }
        let device = device(text("nodeid").or(url.device.as_deref()), user.domain())?;
        return Ok(Half { side: Side::Agent(user), id: url.id, protocol: url.protocol, device, remote });
    }
    let user = query_value(query, "auth")
        .and_then(|text| by_login_cookie(site, &text, remote))
        .or_else(|| {
            let ours = same_origin(headers, &site.config.domain("").allowed_origins, true);
            by_session(site, headers, remote).filter(|_| ours).map(|(user, _)| user)
        })
        .ok_or("not logged in")?;
    let device = device(url.device.as_deref(), user.id.domain())?.ok_or("nodeid: expected a device")?;
    let access = site.access(&user.id).ok_or("not logged in")?;
    let (_, rights) = access.device(&device, Rights::NONE).map_err(|error| error.to_string())?;
    relay::check_protocol(rights, url.protocol)?;
    Ok(Half {
        side: Side::Viewer(user.id.clone()),
        id: url.id,
        protocol: url.protocol,
        device: Some(device),
        remote,
    })
}
